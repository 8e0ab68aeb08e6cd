"""A check whose finding a scripted server makes up, for the tests of what makes checks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.checks import CHECKS, Finding
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Steps
from tests.support.scripted import Reply, ScriptedServer, ok

NAME = "scripted"


def look(*, number: int) -> Steps[Finding]:
    """Read a finding out of an answer that :func:`says` made."""
    answer: Any = yield exports.retrieve(number)
    return Finding(Verdict(answer["state"], answer["reason"], answer["final"]), answer["facts"])


def look_twice(*, number: int) -> Steps[Finding]:
    """Make a call, and then :func:`look`."""
    yield exports.retrieve(1)
    return (yield from look(number=number))


def says(state: str, reason: str = "", *, final: bool = True, **facts: Any) -> Reply:
    """An answer for :func:`look`."""
    return ok({"state": state, "reason": reason, "final": final, "facts": facts})


@pytest.fixture
def scripted_check(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """The checks ``scripted`` and ``scripted_twice``, and the server that they ask, behind ``posthog_default``."""
    monkeypatch.setitem(CHECKS, NAME, f"{__name__}:look")
    monkeypatch.setitem(CHECKS, f"{NAME}_twice", f"{__name__}:look_twice")
    use(monkeypatch, server)
    return server


def use(monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, **extra: Any) -> None:
    """Let the connection ``posthog_default`` lead to a scripted server."""
    extras = {"project_id": 1, **extra}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_key", "extra": extras}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
