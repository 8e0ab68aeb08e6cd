"""One query for all jobs of PostHog's that tasks wait for, and calls of the API where a server has no such tables."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll, watched
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.jobs import FILE_DOWNLOAD, WATCHED
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.watched import Watched
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger
from tests.support.scripted import Received, Reply, ScriptedServer, error, ok

EXPORT, BACKFILL = "01a200ca-b698-0000-24c1-84e2ab7ef77e", "01a20104-0ea3-0000-377d-bff1b95c70a4"
VIEW, SOURCE, SCHEMA = (f"01a20104-0ea3-0000-377d-bff1b95c70b{number}" for number in range(3))


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_poll, "_missing", {})


def backfill(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012}"


def trigger(text: str, **options: Any) -> PostHogJobTrigger:
    given = {"posthog_conn_id": "posthog_default", "deadline": time.time() + options.pop("seconds", 30.0)}
    return PostHogJobTrigger(kind="job", job_id=text, **{**given, "poll_interval": 0.5, "first_wait": 0.5, **options})


def of_backfill(number: int, since: float | None = None) -> str:
    return str(Watched("backfill", (EXPORT, backfill(number)), int(time.time() if since is None else since)))


def run_all(*triggers: PostHogJobTrigger) -> tuple[list[dict[str, Any]], float]:
    """Run triggers on one loop; returns their events, and the loop's longest lag in seconds."""

    async def one(each: PostHogJobTrigger) -> dict[str, Any]:
        (event,) = [event async for event in each.run()]
        return dict(event.payload)

    async def measure(lags: list[float]) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            lags.append(time.monotonic() - began - 0.01)

    async def everything() -> tuple[list[dict[str, Any]], float]:
        lags: list[float] = []
        meter = asyncio.ensure_future(measure(lags))
        try:
            events = await asyncio.gather(*(one(each) for each in triggers))
        finally:
            meter.cancel()
        return list(events), sorted(lags)[int(len(lags) * 0.99)]

    return asyncio.run(asyncio.wait_for(everything(), 60))


@pytest.fixture
def tables(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """A scripted server, and an Airflow connection to it."""
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_key", "extra": {"project_id": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


def tables_say(states: dict[str, str]) -> Reply:
    rows = [
        ["system.batch_export_backfills", name, EXPORT, status, int(time.time()), 5, None, "", "", None, EXPORT]
        for name, status in states.items()
    ]
    return ok({"results": rows})


def queries_of(tables: ScriptedServer) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in tables.requests if one.path.endswith("/query/")]


def _sql_of(call: Any) -> tuple[str, dict[str, Any]]:
    return call.json["query"]["query"], call.json["query"]["values"]


def test_500_backfills_cost_one_query_a_poll(tables: ScriptedServer) -> None:
    """Exactly one, from the first that asks for all of them on: they are still starting before that."""
    going_on = tables_say({backfill(number): "Running" for number in range(500)})
    ended = tables_say({backfill(number): "Completed" for number in range(500)})
    asked: list[int] = []

    def answer(received: Received) -> Reply:
        asked.append(len(received.json["query"]["values"]["backfills"]))
        return ended if asked.count(500) > 5 else going_on

    tables.script(Reply(by=answer))
    events, _ = run_all(*(trigger(of_backfill(number)) for number in range(500)))
    assert {event["outcome"] for event in events} == {"succeeded"}
    assert all(event["facts"]["rows"][0]["rows"] == 5 for event in events)
    assert len(tables.requests) == len(asked), "no call but the query"
    assert asked[asked.index(500) :] == [500] * 6, "five polls that find them running, and one that does not"
    assert {one["refresh"] for one in queries_of(tables)} == {"force_blocking"}


def test_one_query_tells_of_all_kinds_of_jobs(tables: ScriptedServer) -> None:
    now = int(time.time())
    rows = [
        ["system.batch_export_backfills", BACKFILL, EXPORT, "Completed", now, 5, None, "", "", None, ""],
        ["system.batch_export_runs", "r", f"{EXPORT}/0/3600", "Completed", now, 7, 9, "", "", None, ""],
        ["system.source_sync_jobs", "s", SCHEMA, "Failed", now, 0, None, "no such host", "", None, ""],
        ["system.data_modeling_jobs", "v", VIEW, "Completed", now, 3, None, None, "", None, ""],
        ["system.cohort_calculation_history", "c", "7", "Completed", now, 11, None, None, "", None, ""],
    ]
    tables.script(ok({"results": rows}))
    watched = [
        Watched("backfill", (EXPORT, BACKFILL), now),
        Watched("run", (EXPORT, "0", "3600")),
        Watched("sync", (SOURCE, SCHEMA), now),
        Watched("view", (VIEW,), now),
        Watched("cohort", ("7",), now),
        Watched("sync_slot", (SOURCE, SCHEMA, str(now)), now),
    ]
    events, _ = run_all(*(trigger(str(each)) for each in watched))
    assert [event["outcome"] for event in events] == [*["succeeded"] * 2, "failed", *["succeeded"] * 3]
    assert "no such host" in events[2]["reason"]
    assert {one.path.rsplit("/", 2)[-2] for one in tables.requests} == {"query"}, "nothing is asked for alone"
    (sql, _) = _sql_of(system_poll.question(watched))
    assert all(f"FROM {table} " in sql for table in set(system_poll.TABLES.values()))


def test_a_server_without_a_table_is_asked_for_it_once(tables: ScriptedServer) -> None:
    unknown = error(400, detail='Unknown table "system.batch_export_backfills".')
    done = ok({"id": BACKFILL, "status": "Completed", "total_records_count": 4})
    tables.script(unknown, done, done)
    for _ in range(2):
        events, _lag = run_all(trigger(of_backfill(1)))
        assert events[0]["outcome"] == "succeeded"
    paths = [one.path.rsplit("/api/projects/", 1)[-1] for one in tables.requests]
    assert [path.split("/", 1)[1].split("/")[0] for path in paths] == ["query", "batch_exports", "batch_exports"]


def test_the_other_tables_go_on_being_asked_together(tables: ScriptedServer) -> None:
    now = int(time.time())
    unknown = error(400, detail='Unknown table "system.data_modeling_jobs".')
    row = ["system.batch_export_backfills", BACKFILL, EXPORT, "Completed", now, 5, None, "", "", None, ""]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 1))
    history = ok({"run_history": [{"status": "Completed", "timestamp": stamp}]})
    tables.script(unknown, ok({"results": [row]}), history)
    events, _ = run_all(trigger(str(Watched("backfill", (EXPORT, BACKFILL), now))), trigger(f"view/{VIEW}/{now}"))
    assert [event["outcome"] for event in events] == ["succeeded", "succeeded"]
    assert "data_modeling" not in queries_of(tables)[1]["query"]["query"]


def test_a_key_without_the_scope_of_queries_asks_one_by_one(tables: ScriptedServer) -> None:
    refused = error(403, detail="API key missing required scope 'query:read'")
    tables.script(refused, ok({"id": BACKFILL, "status": "Completed"}))
    events, _ = run_all(trigger(of_backfill(1)))
    assert events[0]["outcome"] == "succeeded"


def test_a_backfill_that_is_not_written_down_yet_is_no_404(tables: ScriptedServer) -> None:
    unknown = error(400, detail='Unknown table "system.batch_export_backfills".')
    tables.script(unknown, error(404, detail="Not found."), ok({"id": BACKFILL, "status": "Completed"}))
    events, _ = run_all(trigger(of_backfill(1)))
    assert events[0]["outcome"] == "succeeded"


def test_a_backfill_that_never_appears_has_failed(connected: EmulatorProcess) -> None:
    events, _ = run_all(trigger(of_backfill(1, since=time.time() - 3600)))
    assert (events[0]["outcome"], "does not know" in events[0]["reason"]) == ("failed", True)


def test_what_another_version_stored_is_refused_and_hurts_no_other(tables: ScriptedServer) -> None:
    tables.script(tables_say({backfill(1): "Completed"}))
    events, _ = run_all(trigger("comet/1/2"), trigger(of_backfill(1)))
    assert [event["outcome"] for event in events] == ["refused", "succeeded"]


def test_the_query_is_one_that_posthog_s_hogql_understands(connected: EmulatorProcess) -> None:
    now = int(time.time())
    watched = [
        Watched("backfill", (EXPORT, BACKFILL), now),
        Watched("run", (EXPORT, "0", "3600")),
        Watched("backfill_slot", (EXPORT, "1", str(now)), now),
        Watched("sync", (SOURCE, f"{SCHEMA},{VIEW}"), now),
        Watched("sync_slot", (SOURCE, SCHEMA, str(now)), now),
        Watched("view", (VIEW,), now),
        Watched("view_slot", (VIEW, str(now)), now),
        Watched("cohort", ("7",), now),
        Watched("runs", (EXPORT,), now),
        Watched("syncs", (SOURCE,), now),
        Watched("views", (VIEW,), now),
    ]
    settings = ClientSettings(base_url=connected.url, api_key=connected.api_key, project_id=connected.project_id)
    with Client(settings) as client:
        assert client.send(system_poll.question(watched)).value == []
        for each in watched:
            assert client.send(system_poll.question([each])).value == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("backfill/e1/b2/7", "backfill b2"),
        ("run/e1/10/20/0", "the run of batch export e1"),
        ("sync/s1/a,b/7", "the sync of source s1"),
        ("view/v1/7", "view v1"),
        ("suite/view/v1/r2/7", "the checks of view v1"),
        ("recalculation/3/r2/7", "the results of experiment 3"),
        ("something/of/another/version", "something/of/another/version"),
    ],
)
def test_logs_name_a_job_in_words_and_not_by_its_whole_text(text: str, name: str) -> None:
    assert WATCHED.named(text) == name
    assert trigger(text).title() == name


def test_every_kind_of_what_is_waited_for_has_a_name_in_words() -> None:
    for what, count in watched._NAMES.items():
        text = str(Watched(what, tuple(f"n{number}" for number in range(count)), 7))
        assert "/" not in WATCHED.named(text)
    assert FILE_DOWNLOAD.named("7") == "file download 7"


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        (("Completed", "Completed"), "succeeded"),
        (("Completed", "Failed"), "failed"),
        (("Failed", "Completed"), "failed"),
        (("Failed", "Running"), "failed"),
        (("Completed", "Running"), "pending"),
    ],
)
def test_each_schema_of_a_sync_counts(statuses: tuple[str, str], state: str) -> None:
    rows = [
        {"id": of, "of": of, "backfill": None, "status": status, "created": 100.0, "rows": 1, "error": None}
        for of, status in zip((SCHEMA, VIEW), statuses, strict=True)
    ]
    text = str(Watched("sync", (SOURCE, f"{SCHEMA},{VIEW}"), 50))
    assert watched.judge({"id": text, "rows": rows, "at": 200.0}).state == state
