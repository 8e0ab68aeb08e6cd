"""Refreshes bring the numbers that were asked for: of the right dashboard, all of them, and into the right place."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor
from tests.operators.support import context, finish
from tests.support.scripted import Reply, ScriptedServer, ok

MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
TREND = 2


def refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 20, "deferrable": False}
    return PostHogRefreshInsightOperator(**{**given, **options})


def dashboard_refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 30, "deferrable": False}
    return PostHogRefreshDashboardOperator(**{**given, **options})


def api(posthog: EmulatorProcess) -> Any:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    return PostHogHook()


def saved(posthog: EmulatorProcess, query: Any, **fields: Any) -> dict[str, Any]:
    from airflow_provider_posthog.api import insights

    made: dict[str, Any] = api(posthog).send(insights.create(query=query, **fields))
    return made


def board(posthog: EmulatorProcess, **fields: Any) -> int:
    from airflow_provider_posthog.api.call import Call, json_object

    return int(
        api(posthog).send(Call("create", "POST", "dashboards/", json_object, json={"name": "B", **fields}))["id"]
    )


def asked(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    """The requests that had something calculated."""
    return [call for call in posthog.calls("/insights/", "GET") if "force_" in json.dumps(call["query"])]


def _stamp() -> str:
    return datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _insight(**fields: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat()
    fresh = {"id": 7, "short_id": "abcdefgh", "name": "Signups", "result": [[1]], "is_cached": False}
    return {**fresh, "last_refresh": now, "query_status": None, **fields}


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


# The right dashboard.

ELSEWHERE: dict[str, dict[str, Any]] = {
    "no tiles": {"dashboard_tiles": []},
    "tiles of another": {"dashboard_tiles": [{"id": 1, "dashboard_id": 8, "deleted": None}]},
    "a deleted tile": {"dashboard_tiles": [{"id": 1, "dashboard_id": 9, "deleted": True}]},
    "null beside tiles": {"dashboards": None, "dashboard_tiles": []},
    "both, and neither": {"dashboards": [8], "dashboard_tiles": [{"dashboard_id": 8}]},
    "numbers of another": {"dashboards": [8]},
}


@pytest.mark.parametrize("shape", ELSEWHERE)
def test_a_dashboard_that_does_not_show_it_is_refused_whatever_way_the_server_says_so(
    scripted: ScriptedServer, shape: str
) -> None:
    scripted.script(ok(_insight(is_cached=True, **ELSEWHERE[shape]), Date=_stamp()))
    with pytest.raises(PostHogSettingsError, match="dashboard 9 does not show insight 7") as refused:
        refresh(insight=7, from_dashboard=9).execute({})
    assert refused.value.field == "from_dashboard"
    assert not any("force" in request.path for request in scripted.requests)


@pytest.mark.parametrize("shown", [{}, {"dashboards": [9]}, {"dashboard_tiles": [{"dashboard_id": 9}]}], ids=str)
def test_one_that_does_or_where_the_server_does_not_tell_is_asked_for(
    scripted: ScriptedServer, shown: dict[str, Any]
) -> None:
    before = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z", **shown), Date=_stamp())
    scripted.script(before, before, ok(_insight(**shown), Date=_stamp()))
    assert refresh(insight=7, from_dashboard=9).execute({})["dashboard_id"] == 9


@MODES
def test_what_a_refresh_returned_keeps_its_dashboard(connected: EmulatorProcess, deferrable: bool) -> None:
    first = refresh(insight=TREND, from_dashboard=1).execute(context())
    again = finish(refresh(insight=first, deferrable=deferrable), context(run_id="manual__2"))
    assert again["dashboard_id"] == 1
    assert [call["query"]["from_dashboard"] for call in asked(connected)] == ["1", "1"]
    several = finish(refresh(insight=[first, 1], deferrable=deferrable), context(run_id="manual__3"))
    assert [each["dashboard_id"] for each in several] == [1, None]
    fresh = PostHogInsightFreshSensor(
        task_id="fresh", insight=again, fresher_than=first["last_refresh"], deferrable=False, timeout=5
    )
    assert fresh.execute(context())["id"] == TREND


def test_the_bare_insight_and_that_of_a_dashboard_are_two(connected: EmulatorProcess) -> None:
    done = refresh(insight=[{"id": TREND, "dashboard_id": 1}, TREND]).execute(context())
    assert [each["dashboard_id"] for each in done] == [1, None]
    with pytest.raises(PostHogSettingsError, match="twice"):
        refresh(insight=[{"id": TREND, "dashboard_id": 1}, {"id": TREND, "dashboard_id": "1"}]).execute({})


@pytest.mark.parametrize("dashboard", ["main", True, 0, -1, 1.5, [1], "1 "])
def test_a_dashboard_that_is_no_number_is_refused_wherever_it_comes_from(
    connected: EmulatorProcess, dashboard: Any
) -> None:
    for given in ({"insight": {"id": 2, "dashboard_id": dashboard}}, {"insight": 2, "from_dashboard": dashboard}):
        if dashboard == "1 ":
            refresh(**given).check()
            continue
        with pytest.raises(PostHogSettingsError) as refused:
            refresh(**given).check()
        assert refused.value.field == "from_dashboard"


# A dashboard's answer.


@pytest.mark.parametrize(
    "answer",
    [{}, {"tiles": None}, {"tiles": {}}, {"items": []}, {"tiles": ["x"]}, {"tiles": [None]}, {"results": []}],
    ids=str,
)
def test_an_answer_that_is_no_dashboards_is_no_empty_dashboard(
    scripted: ScriptedServer, answer: dict[str, Any]
) -> None:
    scripted.script(ok({"id": 5, "name": "Board", **answer}, Date=_stamp()), Reply(500))
    with pytest.raises(PostHogTransportError, match=r"tiles"):
        dashboard_refresh(dashboard=5).execute({})
