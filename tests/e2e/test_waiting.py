"""Many that wait at once under PostHog's own limits, by two connections to one project; the key of one is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment, wait_for

EXPORTS, INSIGHTS = 12, 4
#: Seconds for which an export takes: all wait for a while, however slowly tasks start.
TAKES = 60.0
SHARES = {"worker": 0.1, "triggerer": 0.5}


@dataclass
class Waited:
    """What came of it.

    :param tasks: the task instances of the run whose key stayed, and of the one whose key was replaced.
    :param calls: what PostHog was asked for exports and insights.
    :param keys: the key that stayed, the one that was revoked, and the new one.
    :param logs: the text of all logs.
    """

    tasks: dict[str, list[dict[str, Any]]]
    calls: list[dict[str, Any]]
    keys: list[str]
    logs: str


@pytest.fixture(scope="module")
def waited(airflow: Deployment, posthog_alone: EmulatorProcess) -> Iterator[Waited]:
    posthog = posthog_alone
    keys = [posthog.create_key() for _ in range(3)]
    posthog.settings(rate_limits=1.0)
    # With their content given, as PostHog fails an export that still runs when its key is revoked.
    posthog.next_exports("succeed", count=2 * EXPORTS, export_seconds=TAKES, content="uuid\n")
    before = len(posthog.calls())
    runs = {}
    for name, key in zip(("stays", "changes"), keys, strict=False):
        airflow.call("POST", "connections", connection(posthog, name, key))
        runs[name] = airflow.trigger("waiting", {"connection": name, "name": f"waiting-{name}"})
    wait_for("all to wait", lambda: all(deferred(airflow, run) == EXPORTS + INSIGHTS for run in runs.values()))
    airflow.call("PATCH", "connections/changes", connection(posthog, "changes", keys[2]))
    posthog.control("DELETE", "keys", {"api_key": keys[1]})
    wait_for("the exports' end", lambda: all(deferred(airflow, run) <= INSIGHTS for run in runs.values()))
    for insight in range(1, INSIGHTS + 1):
        refresh(posthog, insight, keys[0])
    for run in runs.values():
        airflow.wait_for_run("waiting", run)
    calls = [call for call in posthog.calls()[before:] if "/exports/" in call["path"] or "/insights/" in call["path"]]
    logs = "".join(path.read_text(errors="replace") for path in airflow.home.rglob("*.log"))
    yield Waited({name: airflow.tasks("waiting", run) for name, run in runs.items()}, calls, keys, logs)
    posthog.settings(rate_limits=None)


def connection(posthog: EmulatorProcess, name: str, key: str) -> dict[str, Any]:
    extra = json.dumps({"project_id": posthog.project_id, "rate_limit_share": SHARES})
    return {"connection_id": name, "conn_type": "posthog", "host": posthog.url, "password": key, "extra": extra}


def deferred(airflow: Deployment, run: str) -> int:
    return sum(task["state"] == "deferred" for task in airflow.tasks("waiting", run))


def refresh(posthog: EmulatorProcess, insight: int, key: str) -> None:
    address = f"{posthog.url}/api/projects/{posthog.project_id}/insights/{insight}/?refresh=force_blocking"
    requests.get(address, headers={"Authorization": f"Bearer {key}"}, timeout=30).raise_for_status()


def ended(tasks: list[dict[str, Any]]) -> set[tuple[str, int]]:
    assert len(tasks) == EXPORTS + INSIGHTS
    return {(task["state"], task["try_number"]) for task in tasks}


def test_all_that_wait_under_posthogs_limits_are_green_at_try_1_without_a_429(waited: Waited) -> None:
    assert ended(waited.tasks["stays"]) == {("success", 1)}
    assert not [call for call in waited.calls if call["status"] == 429]
    assert sum(call["method"] == "POST" and call["path"].endswith("/exports/") for call in waited.calls) == 2 * EXPORTS
    polls = [call for call in waited.calls if call["method"] == "GET" and "/exports/" in call["path"]]
    seconds = (moment(waited.calls[-1]) - moment(waited.calls[0])).total_seconds()
    each = 2 * EXPORTS * TAKES / 2.0
    assert len(polls) <= 2 * 24 * seconds / 60 + 2 * EXPORTS < each, "a list for all, and not a look at each"


def test_none_that_waits_loses_a_try_when_the_key_is_replaced(waited: Waited) -> None:
    assert ended(waited.tasks["changes"]) == {("success", 1)}
    assert [call for call in waited.calls if call["status"] == 401], "the old key was refused"
    assert "the connection has another one" in waited.logs
    assert not [key for key in waited.keys if key in waited.logs]


def moment(call: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(call["at"].replace("Z", "+00:00"))
