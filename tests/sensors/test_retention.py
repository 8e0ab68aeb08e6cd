"""The sensor of events that are about to be hidden."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.sensors.retention import PostHogRetentionSensor
from tests.operators.support import context, finish
from tests.sensors.modes import MODES, ended, first_poke, see_through

#: What has no offset is UTC, and no local time.
pytestmark = pytest.mark.usefixtures("far_from_utc")

__all__ = ["first_poke"]

NOW = datetime.now(timezone.utc).replace(microsecond=0)
FACTS = {"event_retention_months", "events_retention_enforced", "floor", "before", "hidden_from", "days_left"}


def sensor(**options: Any) -> PostHogRetentionSensor:
    given: dict[str, Any] = {"task_id": "task", "poke_interval": 0.1, "timeout": 10, "failure_grace": 0.2}
    return PostHogRetentionSensor(**{**given, "deferrable": False, "before": NOW - timedelta(days=300), **options})


@pytest.fixture
def year(connected: EmulatorProcess) -> EmulatorProcess:
    connected.settings(event_retention_months=12, events_retention_enforced=True)
    return connected


@pytest.mark.parametrize("enforced", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_it_tells_what_expires_and_when(
    year: EmulatorProcess, mode: str, enforced: bool, first_poke: SimpleNamespace
) -> None:
    year.settings(events_retention_enforced=enforced)
    before = NOW - timedelta(days=300)
    found = see_through(lambda **how: sensor(within=timedelta(days=70), **how), mode, first_poke)
    assert set(found) == FACTS
    assert json.loads(json.dumps(found)) == found
    assert (found["event_retention_months"], found["events_retention_enforced"]) == (12, enforced)
    assert found["before"] == before.isoformat().replace("+00:00", "Z")
    hidden = datetime.fromisoformat(found["hidden_from"].replace("Z", "+00:00"))
    assert hidden.replace(year=hidden.year - 1) == before
    assert found["days_left"] == pytest.approx((hidden - NOW).total_seconds() / 86_400, abs=0.05)
    assert found["floor"] < found["before"]


@pytest.mark.parametrize("mode", MODES)
def test_it_waits_until_they_are_about_to_be_hidden(
    year: EmulatorProcess, mode: str, first_poke: SimpleNamespace
) -> None:
    wait = lambda **how: sensor(within=timedelta(days=60), timeout=0.5, **how)  # noqa: E731
    assert ended(wait, mode, first_poke) == "timed out"
    year.advance(10 * 86_400)
    assert ended(wait, mode, first_poke) == "succeeded"


@pytest.mark.parametrize("mode", MODES)
def test_what_is_hidden_already_is_told_too(year: EmulatorProcess, mode: str, first_poke: SimpleNamespace) -> None:
    found = see_through(lambda **how: sensor(before="2020-01-01", within=timedelta(0), **how), mode, first_poke)
    assert found["days_left"] < -1000


@pytest.mark.parametrize("mode", MODES)
def test_a_server_that_does_not_tell_fails_it(
    connected: EmulatorProcess, mode: str, first_poke: SimpleNamespace
) -> None:
    connected.settings(generation="B")
    with pytest.raises(PostHogJobFailed, match="does not say how long"):
        see_through(sensor, mode, first_poke)


@pytest.mark.parametrize("mode", MODES)
def test_a_key_without_the_scope_fails_it(
    connected: EmulatorProcess, mode: str, first_poke: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn = json.loads(connected.airflow_connection_json())
    conn["password"] = connected.create_key(["query:read"])
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    with pytest.raises(PostHogError, match="project:read"):
        see_through(sensor, mode, first_poke)


@pytest.mark.parametrize("mode", MODES)
def test_a_server_in_trouble_is_waited_out(year: EmulatorProcess, mode: str, first_poke: SimpleNamespace) -> None:
    year.faults(method="GET", path="/api/projects/1/", status=503, count=1)
    wait = lambda **how: sensor(within=timedelta(days=400), **how)  # noqa: E731
    assert ended(wait, mode, first_poke) == "succeeded"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z"),
        ("2026-11-01", "2026-11-01T00:00:00Z"),
        ("2026-11-01T02:00:00+02:00", "2026-11-01T00:00:00Z"),
        (datetime(2026, 11, 1), "2026-11-01T00:00:00Z"),
        (datetime(2026, 11, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo")), "2026-11-01T00:00:00Z"),
    ],
)
def test_the_moment_in_each_spelling(connected: EmulatorProcess, given: Any, expected: str) -> None:
    arguments = sensor(before=given).check_arguments(context())
    assert arguments == {"project_id": 1, "before": expected, "within": 60 * 86_400.0}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"before": "soon"}, "before"),
        ({"before": ""}, "before"),
        ({"before": None}, "before"),
        ({"before": 7}, "before"),
        ({"within": 60}, "within"),
        ({"within": timedelta(days=-1)}, "within"),
    ],
)
def test_what_is_none_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError, match=field):
        finish(sensor(**options), context())
    assert connected.calls() == []


def test_the_link_leads_to_the_projects_settings(year: EmulatorProcess) -> None:
    ctx = context()
    finish(sensor(before="2020-01-01"), ctx)
    assert ctx["ti"].pushed["_link_PostHogLink"] == f"{year.url}/project/1/settings"
