"""An error ends a sensor of insights in one and the same class, whether it waits in the worker or in the triggerer."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor, PostHogInsightThresholdSensor
from tests.operators.support import context
from tests.sensors.modes import MODES, first_poke, see_through
from tests.support.scripted import Reply, ScriptedServer, error, html, ok

__all__ = ["first_poke"]

ERRORS: dict[str, Reply] = {
    "401": error(401, "Authentication credentials were not provided.", code="not_authenticated"),
    "402": error(402, "Quota.", code="quota_exceeded"),
    "403": error(403, "API key missing required scope 'insight:read'", code="permission_denied"),
    "404": error(404, "Not found.", code="not_found"),
    "418": error(418, "I am a teapot."),
    "500": error(500),
    "502": html(502),
    "503": error(503),
    "HTML": html(200),
    "no JSON": Reply(200, {"Content-Type": "application/json"}, b"{"),
    "a list": ok([1]),
    "cut": Reply(cut="after"),
}


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


def _ended(kind: str, mode: str, began: SimpleNamespace) -> type[BaseException]:
    options: dict[str, Any] = {"task_id": "t", "insight": 7, "poke_interval": 0.05}
    options |= {"timeout": 20, "max_poll_failures": 1, "failure_grace": 0.1}

    def make(**how: Any) -> Any:
        if kind == "fresh":
            return PostHogInsightFreshSensor(fresher_than="2026-01-01", **options, **how)
        refresh: Any = "force_cache" if kind == "gate" else "blocking"
        return PostHogInsightThresholdSensor(condition="> 0", refresh=refresh, **options, **how)

    with pytest.raises(PostHogError) as raised:
        see_through(make, mode, began, context())
    return type(raised.value)


#: What is tried again for some seconds; one sensor shows it.
SLOW = ("502", "cut")
KINDS = ("fresh", "gate", "gate that calculates")
CASES = [(case, kind) for case in ERRORS for kind in KINDS if case not in ("500", "503", *SLOW)]


@pytest.mark.parametrize(("case", "kind"), [*CASES, *((case, "gate") for case in SLOW)])
def test_all_modes_end_in_the_same_error(
    scripted: ScriptedServer, first_poke: SimpleNamespace, case: str, kind: str
) -> None:
    scripted.script(ERRORS[case])
    assert len({_ended(kind, mode, first_poke) for mode in MODES}) == 1
