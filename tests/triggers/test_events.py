"""The trigger that starts DAGs when events arrive."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.compat import asset_stores
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.triggers.event_looks import Seen
from airflow_provider_posthog.triggers.events import PostHogNewEventsTrigger
from tests.support.waiting import wait_for


class Store:
    """An asset's state store, as Airflow 3.3 gives it to a trigger.

    :param error: what reading and writing raises, while it is there.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.kept: dict[str, Any] = {}
        self.error = error

    async def aget(self, key: str) -> Any:
        if self.error:
            raise self.error
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        if self.error:
            raise self.error
        self.kept[key] = json.loads(json.dumps(value))


class Stores:
    """The stores of several assets: Airflow's accessors do not choose."""

    def __init__(self, *stores: Store) -> None:
        self._by_name = {str(number): store for number, store in enumerate(stores)}
        self._by_uri: dict[str, Store] = {}

    async def aget(self, key: str) -> Any:
        raise ValueError("2 concrete inlets")

    aset = aget


def ingest(
    posthog: EmulatorProcess,
    name: str,
    at: datetime,
    count: int = 1,
    happened: timedelta = timedelta(days=1),  # a late event: the client's clock does not matter
) -> None:
    posthog.add_events(
        [
            {
                "uuid": str(uuid.uuid4()),
                "event": name,
                "distinct_id": "someone",
                "person_id": str(uuid.uuid4()),
                "timestamp": (at - happened).isoformat(),
                "created_at": (at + timedelta(microseconds=number)).isoformat(),
                "properties": {},
            }
            for number in range(count)
        ]
    )


def watcher(store: object = None, **options: Any) -> PostHogNewEventsTrigger:
    trigger = PostHogNewEventsTrigger(**{"poll_interval": 0.1, **options})
    trigger.asset_state_store = store  # type: ignore[assignment]
    return trigger


@asynccontextmanager
async def fired(*triggers: PostHogNewEventsTrigger) -> AsyncIterator[list[list[dict[str, Any]]]]:
    """Run triggers as a triggerer does before 3.3, and collect what each fires."""
    payloads: list[list[dict[str, Any]]] = [[] for _ in triggers]

    async def run(trigger: PostHogNewEventsTrigger, into: list[dict[str, Any]]) -> None:
        async for event in trigger.run():
            into.append(event.payload)

    tasks = [asyncio.create_task(run(*pair)) for pair in zip(triggers, payloads, strict=True)]
    try:
        yield payloads
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(what: str, condition: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_for, condition, what=what)


def questions(posthog: EmulatorProcess, about: str = "") -> list[dict[str, Any]]:
    """Return the looks that PostHog was asked for: their statements and values."""
    bodies = [call["body"] for call in posthog.calls(path="/api/projects/1/query/")]
    asked = [(json.loads(body) if isinstance(body, str) else body)["query"] for body in bodies]
    return [query for query in asked if "uniqExact" in query["query"] and about in json.dumps(query)]


async def looked(posthog: EmulatorProcess, times: int = 2) -> None:
    """Wait until PostHog has answered one more look than it had begun (the last one may be on its way)."""
    before = len(questions(posthog))
    await until("looks", lambda: len(questions(posthog)) >= before + times)


@pytest.fixture
def moment(connected: EmulatorProcess) -> datetime:
    """A time of ingestion that is later than those of all events, which stay from test to test."""
    row = PostHogHook().get_first("SELECT max(created_at) FROM events")
    assert row is not None
    connected.control("DELETE", "calls")
    return datetime.fromisoformat(row[0].replace("Z", "+00:00")) + timedelta(days=1)


def server_now(posthog: EmulatorProcess) -> datetime:
    row = PostHogHook().get_first("SELECT now()")
    assert row is not None
    posthog.control("DELETE", "calls")
    return datetime.fromisoformat(row[0].replace("Z", "+00:00"))


@pytest.mark.parametrize(("generation", "zone"), [("A", "Asia/Kathmandu"), ("C", "America/New_York")])
def test_it_fires_for_new_events_only(connected: EmulatorProcess, moment: datetime, generation: str, zone: str) -> None:
    connected.settings(timezone=zone, generation=generation)

    async def scenario() -> list[dict[str, Any]]:
        async with fired(watcher(Store())) as (payloads,):
            await looked(connected)
            assert payloads == []  # what was there before is no news
            ingest(connected, "sign_up", moment, count=3)
            await until("the event", lambda: payloads)
            await looked(connected)
            return list(payloads)

    (payload,) = asyncio.run(scenario())
    assert (payload["version"], payload["event"], payload["count"]) == (1, None, 3)
    assert datetime.fromisoformat(payload["until"]) == moment + timedelta(microseconds=2)
    assert datetime.fromisoformat(payload["after"]) < moment
    assert json.loads(json.dumps(payload)) == payload


def test_only_events_of_the_name(connected: EmulatorProcess, moment: datetime) -> None:
    async def scenario() -> list[dict[str, Any]]:
        async with fired(watcher(Store(), event="it's \\ {since}")) as (payloads,):
            await looked(connected)
            ingest(connected, "another", moment)
            await looked(connected)
            assert payloads == []
            ingest(connected, "it's \\ {since}", moment + timedelta(seconds=1))
            await until("the event", lambda: payloads)
            return list(payloads)

    (payload,) = asyncio.run(scenario())
    assert payload["count"] == 1


def test_the_watchers_of_a_project_share_one_question(connected: EmulatorProcess, moment: datetime) -> None:
    names = [None, "a", "b", "c", "d"]

    async def scenario() -> list[list[dict[str, Any]]]:
        async with fired(*(watcher(Store(), event=name) for name in names)) as payloads:
            await looked(connected, 3)
            ingest(connected, "a", moment)
            ingest(connected, "c", moment, count=2)
            await until("the events", lambda: payloads[0] and payloads[1] and payloads[3])
            await looked(connected)
            calls = connected.calls(path="/api/projects/1/query/")
            assert len(calls) == len(questions(connected)) + 1  # and once the clock
            # One question for all of them each time: none is about some.
            assert {tuple(query["values"]["names"]) for query in questions(connected)} == {("a", "b", "c", "d")}
            result = [list(each) for each in payloads]
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if left:
            await asyncio.wait(left, timeout=10)  # the last one ends the poll
        assert all(task.done() for task in left)
        return result

    counts = [sum(payload["count"] for payload in each) for each in asyncio.run(scenario())]
    assert counts == [3, 1, 0, 2, 0]


def test_watchers_of_other_terms_do_not_share(connected: EmulatorProcess, moment: datetime) -> None:
    keys = {
        watcher(**options).shared_stream_key()
        for options in (
            {},
            {"event": "a"},
            {"project_id": 2},
            {"project_id": "2"},
            {"posthog_conn_id": "other"},
            {"poll_interval": 5},
            {"scan_back": 5},
            {"overlap": 5},
        )
    }
    assert len(keys) == 6


def test_airflow_s_own_shared_stream_runs_the_poll(connected: EmulatorProcess, moment: datetime) -> None:
    streams = pytest.importorskip("airflow.triggers.shared_stream", reason="Airflow 3.3 brought it")

    async def scenario() -> list[list[int]]:
        manager = streams.SharedStreamManager()
        triggers = [watcher(Store(), event=name) for name in ("a", "b")]
        counts: list[list[int]] = [[], []]

        async def run(number: int) -> None:
            trigger = triggers[number]
            stream = manager.subscribe(trigger_id=number, trigger=trigger, key=trigger.shared_stream_key())
            async for event in trigger.filter_shared_stream(stream):
                counts[number].append(event.payload["count"])

        tasks = [asyncio.create_task(run(number)) for number in range(2)]
        await looked(connected, 3)
        ingest(connected, "b", moment, count=2)
        await until("the event", lambda: counts[1])
        assert {tuple(query["values"]["names"]) for query in questions(connected)} == {("a", "b")}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await manager.stop_all()
        return counts

    assert asyncio.run(scenario()) == [[], [2]]


def test_a_watcher_that_comes_later_joins_the_poll(connected: EmulatorProcess, moment: datetime) -> None:
    async def scenario() -> list[int]:
        async with fired(watcher(Store(), event="a")) as (first,):
            await looked(connected)
            async with fired(watcher(Store(), event="b")) as (second,):
                await until("both", lambda: len(questions(connected, '["a", "b"]')) >= 2)
                ingest(connected, "b", moment)
                await until("the event", lambda: second)
            ingest(connected, "a", moment)
            await until("the event", lambda: first)
            return [len(first), len(second)]

    assert asyncio.run(scenario()) == [1, 1]


def test_a_row_that_becomes_visible_late_is_told(connected: EmulatorProcess) -> None:
    now = server_now(connected)
    early = now - timedelta(minutes=40)

    async def scenario() -> list[dict[str, Any]]:
        async with fired(watcher(Store(), event="late")) as (payloads,):
            await looked(connected)
            ingest(connected, "late", now)
            await until("the event", lambda: payloads)
            ingest(connected, "late", early)  # PostHog took it in before, and shows it now
            await until("the other one", lambda: len(payloads) > 1)
            await looked(connected)
            return list(payloads)

    first, second = asyncio.run(scenario())
    assert (first["count"], second["count"]) == (1, 1)
    assert datetime.fromisoformat(second["after"]) < early <= datetime.fromisoformat(second["until"])


def test_copies_of_a_row_are_no_news(connected: EmulatorProcess, moment: datetime) -> None:
    event = {"uuid": str(uuid.uuid4()), "event": "twice", "distinct_id": "a", "person_id": str(uuid.uuid4())}
    event |= {"timestamp": moment.isoformat(), "created_at": moment.isoformat(), "properties": {}}  # type: ignore[dict-item]

    async def scenario() -> list[int]:
        async with fired(watcher(Store(), event="twice")) as (payloads,):
            await looked(connected)
            connected.add_events([event])
            await until("the event", lambda: payloads)
            connected.add_events([event])
            await looked(connected, 3)
            return [payload["count"] for payload in payloads]

    assert asyncio.run(scenario()) == [1]


@pytest.mark.parametrize("stores", [1, 2], ids=["one-asset", "several-assets"])
def test_a_restarted_triggerer_goes_on_where_it_was(connected: EmulatorProcess, moment: datetime, stores: int) -> None:
    assets = [Store() for _ in range(stores)]
    given = assets[0] if stores == 1 else Stores(*assets)

    async def first() -> None:
        async with fired(watcher(given)) as (payloads,):
            await looked(connected)
            ingest(connected, "a", moment)
            await until("the event", lambda: payloads)
            seen = datetime.fromisoformat(payloads[0]["until"]).isoformat()
            await until("what was seen", lambda: all(seen in json.dumps(store.kept) for store in assets))

    async def second() -> list[dict[str, Any]]:
        ingest(connected, "b", moment + timedelta(seconds=1))  # came while no triggerer ran
        async with fired(watcher(given)) as (payloads,):
            await until("the event", lambda: payloads)
            await looked(connected)
            return list(payloads)

    asyncio.run(first())
    (payload,) = asyncio.run(second())
    assert payload["count"] == 1  # b, and not a once more


def test_a_crash_after_the_event_fires_it_again_rather_than_never(connected: EmulatorProcess, moment: datetime) -> None:
    store = Store()

    async def crashed() -> int:
        running = watcher(store).run()
        fire = asyncio.create_task(anext(running))
        await looked(connected)
        ingest(connected, "a", moment)
        event = await fire  # and the triggerer is gone, before it asks for the next one
        await running.aclose()  # type: ignore[attr-defined]
        return int(event.payload["count"])

    async def again() -> int:
        async with fired(watcher(store)) as (payloads,):
            await until("the event", lambda: payloads)
            return int(payloads[0]["count"])

    assert asyncio.run(crashed()) == asyncio.run(again()) == 1


def test_two_watchers_of_one_asset_keep_apart_what_they_saw(connected: EmulatorProcess, moment: datetime) -> None:
    store = Store()

    async def scenario() -> None:
        async with fired(watcher(store, event="a"), watcher(store, event="b")):
            await until("both", lambda: len(store.kept) == 2)

    asyncio.run(scenario())


def test_airflow_s_accessors_of_several_assets_are_found() -> None:
    context = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(context, "AssetStateStoreAccessors"):
        pytest.skip("Airflow 3.3 brought it")
    from airflow.sdk import Asset

    accessors = context.AssetStateStoreAccessors(inlets=[Asset("one"), Asset("two")])
    trigger = watcher(accessors)
    assert asset_stores(trigger) == [accessors[Asset("one")], accessors[Asset("two")]]
    assert asset_stores(watcher(None)) == []


def test_before_3_3_it_starts_from_now(connected: EmulatorProcess, moment: datetime) -> None:
    ingest(connected, "before", moment)

    async def scenario() -> list[dict[str, Any]]:
        async with fired(watcher(None)) as (payloads,):
            await looked(connected)
            ingest(connected, "after", moment + timedelta(seconds=1))
            await until("the event", lambda: payloads)
            return list(payloads)

    (payload,) = asyncio.run(scenario())
    assert payload["count"] == 1


def test_a_store_that_fails_does_not_end_it(connected: EmulatorProcess, moment: datetime) -> None:
    store = Store(RuntimeError("the API server is starting"))

    async def scenario() -> list[dict[str, Any]]:
        async with fired(watcher(store)) as (payloads,):
            await looked(connected)
            for number in range(2):  # from memory
                ingest(connected, "a", moment + timedelta(seconds=number))
                await until("the event", lambda number=number: len(payloads) > number)
            store.error = None
            await until("what was seen is kept", lambda: store.kept)
            return list(payloads)

    assert [payload["count"] for payload in asyncio.run(scenario())] == [1, 1]


def test_a_store_that_cannot_be_read_at_first_is_read_later(connected: EmulatorProcess, moment: datetime) -> None:
    store = Store()

    async def before() -> None:
        async with fired(watcher(store)):
            await until("what was seen is kept", lambda: store.kept)

    async def after() -> list[dict[str, Any]]:
        store.error = RuntimeError("the API server is starting")
        ingest(connected, "a", moment)  # while no triggerer ran
        async with fired(watcher(store)) as (payloads,):
            await looked(connected)
            assert payloads == []
            store.error = None
            await until("the event", lambda: payloads)
            return list(payloads)

    asyncio.run(before())
    assert [payload["count"] for payload in asyncio.run(after())] == [1]


def test_a_connection_that_cannot_be_read_does_not_end_it(
    connected: EmulatorProcess, moment: datetime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    value = os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"]
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", "{")

    async def scenario() -> None:
        async with fired(watcher(None)) as (payloads,):
            await until("a warning", lambda: "trying again" in caplog.text)
            monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", value)
            await looked(connected)
            ingest(connected, "a", moment)
            await until("the event", lambda: payloads)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "fault", [{"status": 503, "count": 12}, {"status": 403, "count": 2}, {"cut": "after", "count": 12}]
)
def test_a_bad_minute_does_not_end_it(connected: EmulatorProcess, moment: datetime, fault: dict[str, Any]) -> None:
    async def scenario() -> int:
        async with fired(watcher(Store())) as (payloads,):
            await looked(connected)
            connected.faults(method="POST", path="/api/projects/1/query/", **fault)
            ingest(connected, "in the bad minute", moment)
            await until("the event", lambda: payloads)
            return int(payloads[0]["count"])

    assert asyncio.run(scenario()) == 1


def test_events_that_happened_long_before_are_looked_for_once_a_day(connected: EmulatorProcess) -> None:
    now = server_now(connected)
    store = Store()
    trigger = watcher(store, event="very late", overlap=1)
    seen = Seen(now - timedelta(hours=2), 0, now - timedelta(hours=2), now - timedelta(days=1, minutes=1))
    asyncio.run(store.aset(trigger.state_key, seen.to_json()))
    ingest(connected, "very late", now - timedelta(hours=1), happened=timedelta(days=300))
    ingest(connected, "very late", now - timedelta(days=2), happened=timedelta(days=300))  # told the day before

    async def scenario() -> list[dict[str, Any]]:
        async with fired(trigger) as (payloads,):
            await until("the event", lambda: payloads)
            await looked(connected, 3)
            return list(payloads)

    (payload,) = asyncio.run(scenario())
    assert payload["count"] == 1
    assert payload["after"] == seen.late.isoformat()
    assert len(questions(connected, "scan_until")) == 1
    kept = Seen.from_json(store.kept[trigger.state_key])
    assert kept is not None
    assert kept.late > now - timedelta(minutes=5)


def test_with_no_scan_back_all_are_looked_for_each_time(connected: EmulatorProcess, moment: datetime) -> None:
    async def scenario() -> list[int]:
        async with fired(watcher(Store(), scan_back=None)) as (payloads,):
            await looked(connected)
            ingest(connected, "a", moment, happened=timedelta(days=1000))
            await until("the event", lambda: payloads)
            return [payload["count"] for payload in payloads]

    assert asyncio.run(scenario()) == [1]
    assert not questions(connected, "timestamp")


def test_it_survives_being_written_down() -> None:
    path, kwargs = PostHogNewEventsTrigger(
        event="a", project_id=7, poll_interval=timedelta(seconds=5), scan_back=timedelta(days=1), overlap=7
    ).serialize()
    assert path == "airflow_provider_posthog.triggers.events.PostHogNewEventsTrigger"
    assert json.loads(json.dumps(kwargs)) == kwargs
    assert (kwargs["poll_interval"], kwargs["scan_back"], kwargs["overlap"]) == (5.0, 86_400.0, 7.0)
    assert PostHogNewEventsTrigger(**kwargs).serialize() == (path, kwargs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": ""},
        {"event": ["a"]},
        {"poll_interval": 0},
        {"poll_interval": None},
        {"poll_interval": float("nan")},
        {"scan_back": 0},
        {"scan_back": True},
        {"scan_back": timedelta(days=10_000)},
        {"scan_back": "2 days"},
        {"overlap": -1},
        {"overlap": float("inf")},
    ],
)
def test_a_wrong_argument_is_refused_where_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError) as error:
        PostHogNewEventsTrigger(**wrong)
    assert error.value.field == next(iter(wrong))


def test_dag_files_with_a_watcher_load_nothing_heavy() -> None:
    code = "import sys, airflow_provider_posthog.triggers.events; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    assert "airflow_provider_posthog.triggers.events" in done.stdout.split()
    assert not {"airflow_provider_posthog.api.async_clients", "airflow_provider_posthog.extract.query_client"} & set(
        done.stdout.split()
    )


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
    trigger = watcher(store)
    asyncio.run(store.aset(trigger.state_key, Seen(OLD, 0, OLD, datetime.now(timezone.utc)).to_json()))

    async def scenario() -> int:
        async with fired(trigger) as (payloads,):
            await until("the events since", lambda: payloads)
            await looked(connected)
            return int(payloads[0]["count"])

    assert asyncio.run(scenario()) > 0
    assert [said in text for text in log.texts] == [True] * bool(said)


def test_a_recent_watermark_costs_no_look(connected: EmulatorProcess, moment: datetime) -> None:
    async def scenario() -> None:
        async with fired(watcher(Store())):
            await looked(connected, 3)

    asyncio.run(scenario())
    assert [call for call in connected.calls("/api/projects/1/", "GET") if call["path"] == "/api/projects/1/"] == []
