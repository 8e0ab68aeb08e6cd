"""The trigger that starts DAGs when events arrive."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.triggers.events import WATERMARK, PostHogNewEventsTrigger
from tests.support.waiting import wait_for

FAULTS = [{"status": 503, "count": 12}, {"status": 403, "count": 2}, {"cut": "after", "count": 12}]


class Store:
    """An asset's state store, as Airflow 3.3 gives it to a trigger."""

    def __init__(self, error: Exception | None = None) -> None:
        self.kept: dict[str, Any] = {}
        self._error = error

    async def aget(self, key: str) -> Any:
        if self._error:
            raise self._error
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        if self._error:
            raise self._error
        self.kept[key] = json.loads(json.dumps(value))


def ingest(posthog: EmulatorProcess, name: str, at: datetime, count: int = 1) -> None:
    posthog.add_events(
        [
            {
                "uuid": str(uuid.uuid4()),
                "event": name,
                "distinct_id": "someone",
                "person_id": str(uuid.uuid4()),
                "timestamp": (at - timedelta(days=2)).isoformat(),  # a late event: the client's clock does not matter
                "created_at": (at + timedelta(microseconds=number)).isoformat(),
                "properties": {},
            }
            for number in range(count)
        ]
    )


@asynccontextmanager
async def fired(store: Store | None, **options: Any) -> AsyncIterator[list[dict[str, Any]]]:
    """Run a trigger as a triggerer does, and collect what it fires."""
    trigger = PostHogNewEventsTrigger(poll_interval=0.1, **options)
    trigger.asset_state_store = store  # type: ignore[assignment]
    payloads: list[dict[str, Any]] = []

    async def run() -> None:
        async for event in trigger.run():
            payloads.append(event.payload)

    task = asyncio.create_task(run())
    try:
        yield payloads
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(what: str, condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, condition, what=what)


def polls(posthog: EmulatorProcess) -> int:
    return len(posthog.calls(path="/api/projects/1/query/"))


@pytest.fixture
def moment(connected: EmulatorProcess) -> datetime:
    """A time of ingestion that is later than those of all events, which stay from test to test."""
    row = PostHogHook().get_first("SELECT max(created_at) FROM events")
    assert row is not None
    connected.control("DELETE", "calls")
    return datetime.fromisoformat(row[0].replace("Z", "+00:00")) + timedelta(days=1)


def test_it_fires_for_new_events_only(connected: EmulatorProcess, moment: datetime) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with fired(Store()) as payloads:
            await until("a first look", lambda: polls(connected) >= 2)
            assert payloads == []  # what was there before is no news
            ingest(connected, "sign_up", moment, count=3)
            await until("the event", lambda: payloads)
            seen = polls(connected)
            await until("two more polls", lambda: polls(connected) >= seen + 2)
            return list(payloads)

    (payload,) = asyncio.run(scenario())
    assert (payload["version"], payload["event"], payload["count"]) == (1, None, 3)
    assert datetime.fromisoformat(payload["until"]) == moment + timedelta(microseconds=2)
    assert datetime.fromisoformat(payload["after"]) < moment
    assert json.loads(json.dumps(payload)) == payload


def test_only_events_of_the_name(connected: EmulatorProcess, moment: datetime) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with fired(Store(), event="it's \\ {since}") as payloads:
            await until("a first look", lambda: polls(connected) >= 2)
            ingest(connected, "another", moment)
            seen = polls(connected)
            await until("two more polls", lambda: polls(connected) >= seen + 2)
            assert payloads == []
            ingest(connected, "it's \\ {since}", moment + timedelta(seconds=1))
            await until("the event", lambda: payloads)
            return list(payloads)

    (payload,) = asyncio.run(scenario())
    assert payload["count"] == 1


def test_a_restarted_triggerer_goes_on_where_it_was(connected: EmulatorProcess, moment: datetime) -> None:
    store = Store()

    async def first() -> None:
        async with fired(store) as payloads:
            await until("a first look", lambda: polls(connected) >= 2)
            ingest(connected, "a", moment)
            await until("the event", lambda: payloads)
            await until("the watermark", lambda: payloads[0]["until"] in store.kept.values())

    async def second() -> list[dict[str, Any]]:
        ingest(connected, "b", moment + timedelta(seconds=1))  # came while no triggerer ran
        async with fired(store) as payloads:
            await until("the event", lambda: payloads)
            seen = polls(connected)
            await until("two more polls", lambda: polls(connected) >= seen + 2)
            return list(payloads)

    asyncio.run(first())
    (payload,) = asyncio.run(second())
    assert payload["count"] == 1  # b, and not a once more


@pytest.mark.parametrize("store", [None, Store(ValueError("2 concrete inlets"))], ids=["before-3.3", "several-assets"])
def test_without_a_store_it_starts_from_now(connected: EmulatorProcess, moment: datetime, store: Store | None) -> None:
    ingest(connected, "before", moment)

    async def scenario() -> list[dict[str, Any]]:
        async with fired(store) as payloads:
            await until("a first look", lambda: polls(connected) >= 2)
            ingest(connected, "after", moment + timedelta(seconds=1))
            await until("the event", lambda: payloads)
            return list(payloads)

    (payload,) = asyncio.run(scenario())
    assert payload["count"] == 1


@pytest.mark.parametrize(
    "fault", [{"status": 503, "count": 12}, {"status": 403, "count": 2}, {"cut": "after", "count": 12}]
)
def test_a_bad_minute_does_not_end_it(connected: EmulatorProcess, moment: datetime, fault: dict[str, Any]) -> None:
    async def scenario() -> int:
        async with fired(Store()) as payloads:
            await until("a first look", lambda: polls(connected) >= 2)
            connected.faults(method="POST", path="/api/projects/1/query/", **fault)
            ingest(connected, "in the bad minute", moment)
            await until("the event", lambda: payloads)
            return int(payloads[0]["count"])

    assert asyncio.run(scenario()) == 1


def test_it_survives_being_written_down() -> None:
    path, kwargs = PostHogNewEventsTrigger(event="a", project_id=7, poll_interval=5).serialize()
    assert path == "airflow_provider_posthog.triggers.events.PostHogNewEventsTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert PostHogNewEventsTrigger(**kwargs).serialize() == (path, kwargs)


OLD = datetime.now(timezone.utc) - timedelta(days=200)


class Log:
    """What a trigger says."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def warning(self, text: str, *parts: object) -> None:
        self.texts.append(text % parts)

    info = warning


@pytest.mark.parametrize(
    ("settings", "fault", "said"),
    [
        (
            {"event_retention_months": 3, "events_retention_enforced": True},
            None,
            "Events since the last time may be missed",
        ),
        ({"event_retention_months": 3}, None, "not enforced yet"),
        ({"event_retention_months": 12, "events_retention_enforced": True}, None, ""),
        ({"events_retention_enforced": True}, 403, ""),
        ({"events_retention_enforced": True}, 500, "is not known"),
    ],
)
def test_an_old_watermark_is_said_once_and_the_watch_goes_on(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], fault: int | None, said: str
) -> None:
    log = Log()
    monkeypatch.setattr(PostHogNewEventsTrigger, "log", log, raising=False)
    connected.settings(**settings)
    if fault is not None:
        connected.faults(method="GET", path="/api/projects/1/", status=fault, count=-1)
    store = Store()
    asyncio.run(store.aset(WATERMARK, OLD.isoformat()))

    async def scenario() -> int:
        async with fired(store) as payloads:
            await until("the events since", lambda: payloads)
            await until("two more polls", lambda: polls(connected) >= 3)
            return int(payloads[0]["count"])

    assert asyncio.run(scenario()) > 0
    assert [said in text for text in log.texts] == [True] * bool(said)


def test_a_recent_watermark_costs_no_look(connected: EmulatorProcess, moment: datetime) -> None:
    async def scenario() -> None:
        async with fired(Store()):
            await until("a few polls", lambda: polls(connected) >= 3)

    asyncio.run(scenario())
    assert [call for call in connected.calls("/api/projects/1/", "GET") if call["path"] == "/api/projects/1/"] == []
