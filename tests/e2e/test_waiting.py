"""Many that wait at once under PostHog's own limits, by two connections to one project; the key of one is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment, wait_for

EXPORTS, INSIGHTS = 5, 2
#: Seconds of PostHog's clock for which an export takes: it is moved when all wait, however slowly tasks start.
TAKES = 900.0
SHARES = {"worker": 0.1, "triggerer": 0.5}


@dataclass
class Waited:
    """What came of it.

    :param tries: the try in which each task has ended: of the run whose key stayed, and of the other one.
    :param calls: what PostHog was asked for exports and insights.
    :param polls: what it was asked for exports while all waited.
    :param keys: the key that stayed, the one that was revoked, and the new one.
    :param logs: the text of all logs.
    """

    tries: dict[str, list[int]]
    calls: list[dict[str, Any]]
    polls: list[dict[str, Any]]
    keys: list[str]
    logs: str


@pytest.fixture(scope="module")
def waited(airflow: Deployment, posthog_alone: EmulatorProcess) -> Iterator[Waited]:
    posthog = posthog_alone
    keys = [posthog.create_key() for _ in range(3)]
    posthog.settings(rate_limits=1.0, stuck_seconds=10 * TAKES)
    # With their content given, as PostHog fails an export that still runs when its key is revoked.
    posthog.next_exports("succeed", count=2 * EXPORTS, export_seconds=TAKES, content="uuid\n")
    before = len(posthog.calls())
    pool = {"name": "waiting", "slots": 4, "include_deferred": False}
    airflow.call("POST", "pools", pool)
    runs = {}
    for name, key in zip(("stays", "changes"), keys, strict=False):
        airflow.call("POST", "connections", connection(posthog, name, key))
        runs[name] = airflow.trigger("waiting", {"connection": name, "name": f"waiting-{name}"})
    wait_for("all to wait", lambda: all(deferred(airflow, run) == EXPORTS + INSIGHTS for run in runs.values()), 240)
    rounds(posthog)  # until the last trigger runs
    waiting = rounds(posthog)
    airflow.call("PATCH", "connections/changes", connection(posthog, "changes", keys[2]))
    posthog.control("DELETE", "keys", {"api_key": keys[1]})
    wait_for("the old key to be refused", lambda: any(call["status"] == 401 for call in posthog.calls()[before:]))
    posthog.advance(TAKES)
    wait_for("the exports' end", lambda: all(deferred(airflow, run) <= INSIGHTS for run in runs.values()))
    for insight in range(1, INSIGHTS + 1):
        refresh(posthog, insight, keys[0])
    for run in runs.values():
        assert airflow.wait_for_run("waiting", run) == "success"
    calls = [call for call in posthog.calls()[before:] if "/exports/" in call["path"] or "/insights/" in call["path"]]
    logs = "".join(path.read_text(errors="replace") for path in airflow.home.rglob("*.log"))
    tries = {name: tries_of(airflow, run) for name, run in runs.items()}
    yield Waited(tries, calls, [call for call in waiting if "/exports/" in call["path"]], keys, logs)
    posthog.settings(rate_limits=None, stuck_seconds=600.0)


def connection(posthog: EmulatorProcess, name: str, key: str) -> dict[str, Any]:
    extra = json.dumps({"project_id": posthog.project_id, "rate_limit_share": SHARES})
    return {"connection_id": name, "conn_type": "posthog", "host": posthog.url, "password": key, "extra": extra}


def deferred(airflow: Deployment, run: str) -> int:
    tasks = airflow.tasks("waiting", run)
    failed = [task for task in tasks if task["state"] in ("failed", "up_for_retry")]
    told = [airflow.log("waiting", run, task["task_id"], task["try_number"], task["map_index"]) for task in failed[:1]]
    assert not failed, told
    return sum(task["state"] == "deferred" for task in tasks)


def rounds(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    """What PostHog is asked while it lists exports eight times."""
    before = len(posthog.calls())
    wait_for("a few rounds", lambda: sum(is_list(call) for call in posthog.calls()[before:]) >= 8)
    return posthog.calls()[before:]


def is_list(call: dict[str, Any]) -> bool:
    return bool(call["method"] == "GET" and call["path"].endswith("/exports/"))


def refresh(posthog: EmulatorProcess, insight: int, key: str) -> None:
    address = f"{posthog.url}/api/projects/{posthog.project_id}/insights/{insight}/?refresh=force_blocking"
    requests.get(address, headers={"Authorization": f"Bearer {key}"}, timeout=30).raise_for_status()


def tries_of(airflow: Deployment, run: str) -> list[int]:
    return [task["try_number"] for task in airflow.tasks("waiting", run)]


def test_all_that_wait_under_posthogs_limits_are_green_at_their_first_try_and_without_a_429(waited: Waited) -> None:
    assert waited.tries["stays"] == [1] * (EXPORTS + INSIGHTS)
    assert not [call for call in waited.calls if call["status"] == 429]
    assert sum(call["method"] == "POST" and call["path"].endswith("/exports/") for call in waited.calls) == 2 * EXPORTS
    assert all(is_list(call) for call in waited.polls), "a list for all, and not a look at each"


def test_none_that_waits_loses_a_try_when_the_key_is_replaced(waited: Waited) -> None:
    assert waited.tries["changes"] == [1] * (EXPORTS + INSIGHTS)
    assert [call for call in waited.calls if call["status"] == 401], "the old key was refused"
    assert "the connection has another one" in waited.logs
    assert not [key for key in waited.keys if key in waited.logs]
