"""A trigger's deadline holds, also while PostHog keeps a request open or answers byte by byte; and a poll is small."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from typing import Any

import pytest

from airflow_provider_posthog.api import body
from airflow_provider_posthog.api.call import STATUS_BYTES
from airflow_provider_posthog.api.jobs import LAST_CHECK, LAST_POLL
from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger
from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger
from airflow_provider_posthog.triggers.refresh import PostHogRefreshTrigger
from tests.operators.support import context, export_operator, run_trigger, task_deferred
from tests.support.checks import scripted_check, use
from tests.support.scripted import Reply, ScriptedServer, ok

__all__ = ["scripted_check"]

PENDING = json.dumps({"id": 1, "has_content": False, "query_status": {"id": "1", "complete": False}}).encode()
HELD = {
    "held open": Reply(delay=60),
    "dripping": Reply(200, {}, PENDING * 9, drip=0.05),
    "dripping in its body": Reply(200, {}, PENDING * 9, drip=0.05, drip_from=60),
}
LIMIT = 10.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (PostHogJobTrigger, PostHogCheckTrigger):
        monkeypatch.setattr(kind, "last_poll", 0.5)


def _trigger(kind: str = "export", **options: Any) -> PostHogJobTrigger:
    given = {"posthog_conn_id": "posthog_default", "deadline": time.time() + 0.5, "poll_interval": 0.1}
    return PostHogJobTrigger(kind=kind, job_id="1", **{**given, **options})


@pytest.mark.parametrize("kind", ["export", "query"])
@pytest.mark.parametrize("answer", HELD)
def test_a_job_is_watched_until_its_deadline_and_no_longer(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, kind: str, answer: str
) -> None:
    use(monkeypatch, server, read_timeout=30)
    server.script(HELD[answer])
    began = time.monotonic()
    assert run_trigger(_trigger(kind))["outcome"] == "timeout"
    assert time.monotonic() - began < LIMIT


@pytest.mark.parametrize("answer", HELD)
def test_a_check_is_made_until_its_deadline_and_no_longer(scripted_check: ScriptedServer, answer: str) -> None:
    scripted_check.script(HELD[answer])
    trigger = PostHogCheckTrigger(
        check="scripted",
        arguments={"number": 5},
        posthog_conn_id="posthog_default",
        deadline=time.time() + 0.5,
        poll_interval=0.1,
    )
    began = time.monotonic()
    assert run_trigger(trigger)["outcome"] == "timeout"
    assert time.monotonic() - began < LIMIT


def test_a_place_among_the_connections_is_not_waited_for_behind_the_deadline(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server, read_timeout=30)
    server.script(Reply(delay=60))

    async def all_of_them() -> list[str]:
        async def one() -> str:
            (event,) = [event async for event in _trigger().run()]
            return str(event.payload["outcome"])

        return await asyncio.gather(*(one() for _ in range(64)))

    began = time.monotonic()
    assert set(asyncio.run(all_of_them())) == {"timeout"}
    assert time.monotonic() - began < 3 * LIMIT


@pytest.mark.parametrize("answer", HELD)
def test_the_task_behind_a_stalled_server_still_cancels_its_query(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    from airflow_provider_posthog.exceptions import PostHogJobTimeout
    from airflow_provider_posthog.operators.queries import PostHogQueryOperator

    use(monkeypatch, server, read_timeout=30)
    started = ok({"query_status": {"id": "q", "complete": False}})
    server.script(started, HELD[answer])
    operator = PostHogQueryOperator(
        task_id="task", query="SELECT 1 LIMIT 1", timeout=0.5, poll_interval=0.1, deferrable=True
    )
    with pytest.raises(task_deferred()) as caught:
        operator.execute(context())
    event = run_trigger(caught.value.trigger)  # type: ignore[attr-defined]
    server.script(Reply(204))
    with pytest.raises(PostHogJobTimeout, match="It was cancelled"):
        operator.execute_complete(context(), event)
    assert [request.method for request in server.requests] == ["DELETE"]


@pytest.mark.parametrize("seconds", [1.0, 3600.0])
def test_airflows_own_timeout_comes_behind_the_triggers_hard_end(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """Airflow's ends the task without calling it, and so without cancelling the query."""
    use(monkeypatch, server)
    server.script(ok({"id": 1, "has_content": False}, 201))
    with pytest.raises(task_deferred()) as caught:
        export_operator(deferrable=True, timeout=seconds, poll_interval=0.1).execute({})
    hard_end = caught.value.trigger.deadline + max(LAST_POLL, LAST_CHECK)  # type: ignore[attr-defined]
    backstop = time.time() + caught.value.timeout.total_seconds()  # type: ignore[attr-defined]
    assert backstop > hard_end + 10


def test_a_refresh_that_is_cut_tells_of_each_insight(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, server, read_timeout=30)
    server.script(Reply(delay=60))
    monkeypatch.setattr(PostHogRefreshTrigger, "last_poll", 0.0)
    trigger = PostHogRefreshTrigger(
        items=[{"insight_id": n, "query_id": f"q{n}"} for n in (1, 2)],
        in_flight=1,
        facts={},
        posthog_conn_id="posthog_default",
        deadline=time.time() + 0.3,
        poll_interval=0.1,
    )
    event = run_trigger(trigger)
    assert event["outcome"] == "timeout"
    assert [item["state"] for item in event["items"]] == ["timeout", "timeout"]


# What a poll may bring.


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes were unpacked in each piece."""
    sizes: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, wbits: int) -> None:
            self._real = real(wbits)

        def decompress(self, data: bytes, most: int) -> bytes:
            piece = self._real.decompress(data, most)
            sizes.append(len(piece))
            return piece

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(body.zlib, "decompressobj", Counting)
    return sizes


def test_a_bomb_is_unpacked_no_further_than_a_poll_may_be_large(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, unpacked: list[int]
) -> None:
    use(monkeypatch, server)
    bomb = gzip.compress(b'{"id": 1, "has_content": true, "x": "' + b" " * 300_000_000 + b'"}')
    assert len(bomb) < 400_000
    server.script(Reply(200, {"Content-Encoding": "gzip"}, bomb))
    event = run_trigger(_trigger(deadline=time.time() + 20, max_poll_failures=1))
    assert event["outcome"] == "unreachable"
    assert "larger than 8 MiB" in event["reason"]
    assert STATUS_BYTES <= sum(unpacked) < STATUS_BYTES + 2 * 1024**2
    assert max(unpacked) <= 1024**2, "other triggers have their turn between the pieces"


def test_a_query_whose_poll_brings_a_large_result_has_ended(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostHog's only way to ask for a query brings its result too; the task reads it, not the triggerer."""
    use(monkeypatch, server)
    rows = {"results": [["x" * 1000]] * 10_000, "columns": ["a"]}
    server.script(ok({"query_status": {"id": "1", "complete": True, "results": rows}}))
    assert run_trigger(_trigger("query", deadline=time.time() + 20))["outcome"] == "succeeded"
