"""A task's time holds, also while PostHog keeps a request open, or answers a byte at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogError, PostHogJobTimeout
from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.sensors.exports import PostHogExportSensor
from tests.operators.support import export_operator, outcome_errors, task_deferred
from tests.support.checks import use
from tests.support.scripted import Reply, ScriptedServer, ok

EXPORT = {"id": 1, "export_format": "text/csv", "has_content": False, "created_at": "2026-01-01T00:00:00Z"}
HELD = {
    "held open": Reply(delay=60),
    "dripping": Reply(200, {"Content-Type": "application/json"}, json.dumps(EXPORT).encode() * 9, drip=0.05),
    "dripping in its body": Reply(200, {}, json.dumps(EXPORT).encode() * 9, drip=0.05, drip_from=60),
}
#: Far less than any of these answers takes, and more than a busy machine does.
LIMIT = 12.0

pytestmark = pytest.mark.parametrize("answer", HELD)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last look is as short as a test can wait for."""
    for where in ("api.jobs", "tasks.job", "tasks.base", "sensors.exports.jobs"):
        monkeypatch.setattr(f"airflow_provider_posthog.{where}.LAST_POLL", 0.5)
    monkeypatch.setattr("airflow_provider_posthog.api.jobs.CANCEL_SECONDS", 0.5)
    monkeypatch.setattr(PostHogExportSensor, "last_poll", 0.5)


@pytest.fixture
def held(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ScriptedServer]:
    def script(answer: str, *before: Reply) -> ScriptedServer:
        server.script(*before, HELD[answer])
        return server

    use(monkeypatch, server, read_timeout=30)
    return script


def _within_the_limit(work: Callable[[], Any]) -> BaseException:
    began = time.monotonic()
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one is the test's business
        work()
    assert time.monotonic() - began < LIMIT
    return caught.value


def test_an_export_that_is_polled_in_the_worker(held: Callable[..., ScriptedServer], answer: str) -> None:
    held(answer, ok(EXPORT, 201))
    operator = export_operator(timeout=0.5, poll_interval=0.1)
    assert isinstance(_within_the_limit(lambda: operator.execute({})), PostHogJobTimeout)


def test_a_query_that_is_polled_in_the_worker_and_its_cancelling(
    held: Callable[..., ScriptedServer], answer: str
) -> None:
    server = held(answer, ok({"query_status": {"id": "q", "complete": False}}))
    operator = PostHogQueryOperator(task_id="task", query="SELECT 1 LIMIT 1", timeout=0.5, poll_interval=0.1)
    found = _within_the_limit(lambda: operator.execute({}))
    assert isinstance(found, PostHogJobTimeout)
    assert "It was not cancelled" in str(found)
    assert server.requests[-1].method == "DELETE", "it was tried"


def test_a_sensor_that_pokes(held: Callable[..., ScriptedServer], answer: str) -> None:
    held(answer)
    sensor = PostHogExportSensor(task_id="task", export_id=1, timeout=0.5, poke_interval=0.1, max_poll_failures=1)
    assert isinstance(_within_the_limit(lambda: sensor.execute({})), outcome_errors().timeout)


def test_the_first_look_of_a_sensor_that_defers(held: Callable[..., ScriptedServer], answer: str) -> None:
    held(answer)
    sensor = PostHogExportSensor(task_id="task", export_id=1, timeout=0.5, poke_interval=0.1, deferrable=True)
    assert isinstance(_within_the_limit(lambda: sensor.execute({})), task_deferred())


@pytest.mark.parametrize("deferrable", [False, True])
def test_the_first_read_of_a_refresh(held: Callable[..., ScriptedServer], answer: str, deferrable: bool) -> None:
    held(answer)
    operator = PostHogRefreshInsightOperator(task_id="task", insight=5, timeout=0.5, deferrable=deferrable)
    found = _within_the_limit(lambda: operator.execute({}))
    assert isinstance(found, PostHogJobTimeout)
    assert isinstance(found, PostHogError)
