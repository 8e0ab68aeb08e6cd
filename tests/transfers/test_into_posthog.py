"""Rows of databases and files into PostHog as tasks: green means that PostHog has shown each of them."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogLoadError,
    PostHogQuotaError,
    PostHogSettingsError,
)
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.tasks import into_posthog
from airflow_provider_posthog.transfers.object_storage_to_posthog import PostHogFromObjectStorageOperator
from airflow_provider_posthog.transfers.sql_to_posthog import PostHogFromSqlOperator
from tests.load.databases import Postgres, postgres_database
from tests.operators.support import connect, context, run_trigger, task_deferred

AT = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
EVENTS: dict[str, Any] = {"event": "order", "distinct_id": "customer", "timestamp": "placed_at", "key": ["id"]}
AT_ONCE: dict[str, Any] = {"quiet_period": 0, "poll_interval": 0.1, "timeout": 0}


@pytest.fixture(autouse=True)
def ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of their own for what tries note."""
    monkeypatch.setattr(into_posthog, "tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path)))
    return tmp_path


@pytest.fixture
def connected(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    connect(monkeypatch, posthog, project_token=posthog.project_token)
    return posthog


class Shop:
    """An SQLite file with orders."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run("CREATE TABLE orders (id INTEGER, customer TEXT, placed_at TEXT, total REAL)")
        self.add(20)

    def run(self, sql: str, *rows: Any) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(sql, rows or [()])

    def add(self, count: int, first: int = 0) -> None:
        made = [(n, f"c{n}", (AT + timedelta(minutes=n)).isoformat(), n / 2) for n in range(first, first + count)]
        self.run("INSERT INTO orders VALUES (?, ?, ?, ?)", *made)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    made = Shop(tmp_path / "shop.db")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(made.path)}))
    return made


def task(**options: Any) -> PostHogFromSqlOperator:
    made = {"sql_conn_id": "shop", "sql": "SELECT * FROM orders ORDER BY id", **EVENTS, **AT_ONCE, **options}
    return PostHogFromSqlOperator(task_id="task", **made)


def there(where: str = "event = 'order'", what: str = "count(), count(DISTINCT uuid)") -> list[Any]:
    found = PostHogHook().get_records(f"SELECT {what} FROM events WHERE {where} LIMIT 1000")
    return found[0] if len(found) == 1 else found


def test_rows_of_a_database_are_in_posthog(connected: EmulatorProcess, shop: Shop, ledgers: Path) -> None:
    found = task().execute(context())
    expected = {"rows": 20, "sent": 20, "sent_before": 0, "duplicates": 0, "kept": 20, "warned": 0, "rejected": {}}
    assert {name: found[name] for name in expected} == expected
    assert (found["resent"], found["rejects_path"]) == (0, None)
    assert there() == [20, 20]
    assert there("distinct_id = 'c7'", "properties.total, properties.id") == ["3.5", "7"]
    assert not [*ledgers.rglob("*.ledger*")]


def test_the_token_is_asked_for_where_the_connection_has_none(
    posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    connect(monkeypatch, posthog)
    assert task().execute(context())["kept"] == 20


def test_parameters_choose_rows_and_persons_are_set(connected: EmulatorProcess, shop: Shop) -> None:
    options = {"event": None, "timestamp": None, "key": (), "properties": ["total"]}
    found = task(kind="persons", sql="SELECT * FROM orders WHERE id < ?", parameters=[3], **options).execute(
        context(began=AT)
    )
    assert found["kept"] == 3
    (person,) = PostHogHook().send(_persons("c2"))["results"]
    assert person["properties"] == {"total": 1.0}


def _persons(distinct_id: str) -> Any:
    from airflow_provider_posthog.api import persons

    return persons.list(distinct_id=distinct_id)


def test_groups_are_identified(connected: EmulatorProcess, shop: Shop) -> None:
    options = {"event": None, "timestamp": None, "key": (), "properties": ["total"], "group_type": "company"}
    assert task(kind="groups", **options).execute(context())["kept"] == 20
    found = PostHogHook().get_records("SELECT properties FROM groups WHERE key = 'c4' AND index = 0 LIMIT 2")
    assert json.loads(found[0][0]) == {"total": 2.0}


def test_a_server_that_takes_everything_and_keeps_nothing_is_an_error(
    connected: EmulatorProcess, shop: Shop, tmp_path: Path
) -> None:
    connected.settings(capture="lost")
    path = tmp_path / "rejects.jsonl"
    with pytest.raises(PostHogIncompleteError, match="20 rows are not in PostHog \\(20 not_there\\)"):
        task(rejects_path=f"file://{path}").execute(context())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["key"]["id"] for line in lines] == [*range(20)]
    assert {line["reason"] for line in lines} == {"not_there"}
    connected.settings(capture="stored")
    found = task(rejects_path=f"file://{path}").execute(context(try_number=2))
    assert (found["kept"], found["sent"], path.read_text()) == (20, 20, "")


def test_one_that_keeps_all_but_three_names_the_three(connected: EmulatorProcess, shop: Shop, tmp_path: Path) -> None:
    task().execute(context())
    uuids = [
        row[0]
        for row in PostHogHook().get_records(
            "SELECT toString(uuid) FROM events WHERE event = 'order' AND distinct_id IN ('c1', 'c5', 'c19') LIMIT 5"
        )
    ]
    connected.reset()
    connected.settings(lost_uuids=uuids)
    path = tmp_path / "rejects.jsonl"
    with pytest.raises(PostHogIncompleteError, match="3 rows are not in PostHog") as caught:
        task(rejects_path=str(path)).execute(context())
    assert all(uuid in str(caught.value) for uuid in uuids)
    assert {json.loads(line)["uuid"] for line in path.read_text().splitlines()} == set(uuids)
    assert there() == [17, 17]
    found = task(rejects_path=str(path), max_rejects=3).execute(context(run_id="other"))
    assert found["rejected"] == {"not_there": 3}


def test_rows_that_are_refused_are_counted_by_reason_and_the_rest_is_there(
    connected: EmulatorProcess, shop: Shop, tmp_path: Path
) -> None:
    shop.run(
        "INSERT INTO orders VALUES (?, ?, ?, 1)", (100, "guest", AT.isoformat()), (101, "x", "2026-11-01 12:00:00")
    )
    path = tmp_path / "rejects.jsonl"
    with pytest.raises(PostHogIncompleteError, match="1 invalid_distinct_id, 1 naive_timestamp") as caught:
        task(rejects_path=str(path)).execute(context())
    assert str(path) in str(caught.value)
    assert "guest" not in str(caught.value)
    assert there() == [20, 20]
    assert task(rejects_path=str(path), max_rejects="2").execute(context(try_number=2))["kept"] == 20


def test_what_posthog_would_hide_is_not_sent(connected: EmulatorProcess, shop: Shop) -> None:
    connected.settings(event_retention_months=12, events_retention_enforced=True)
    shop.run("INSERT INTO orders VALUES (100, 'old', '2019-01-01T00:00:00+00:00', 1)")
    found = task(max_rejects=1).execute(context())
    assert (found["kept"], found["rejected"]) == (20, {"hidden_by_retention": 1})


def test_a_retry_sends_only_what_was_not_sent(
    connected: EmulatorProcess, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_posthog.capture.load.MOST_EVENTS", 5)
    connected.faults(path="/i/v1/*", status=402, skip=2, count=1)
    with pytest.raises(PostHogQuotaError):
        task().execute(context())
    found = task().execute(context(try_number=2))
    assert (found["sent"], found["sent_before"], found["kept"]) == (10, 10, 20)


def test_a_clear_and_another_statement_begin_anew(connected: EmulatorProcess, shop: Shop) -> None:
    connected.settings(capture="lost")
    for options in ({}, {"max_tries": 5}, {}):
        with pytest.raises(PostHogIncompleteError):
            task().execute(context(**options))
    connected.settings(capture="stored")
    found = task(sql="SELECT * FROM orders WHERE id < 5").execute(context())
    assert (found["sent"], found["sent_before"]) == (5, 0)
    assert there() == [5, 5]


@pytest.mark.parametrize("other", ["project", "host", "kind of load"])
def test_what_one_project_took_is_not_taken_for_sent_to_another(
    connected: EmulatorProcess, shop: Shop, ledgers: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    """The connection may be another one at the next try of the same task."""
    connected.settings(capture="lost")
    with pytest.raises(PostHogIncompleteError):
        task().execute(context())
    (first,) = ledgers.rglob("*.ledger")
    if other == "project":
        connect(monkeypatch, connected, project_token=connected.project_token, project_id=2)
    elif other == "host":
        monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(elsewhere(connected)))
    with pytest.raises(PostHogError):
        task(historical_migration=other == "kind of load").execute(context(try_number=2))
    assert len({first, *ledgers.rglob("*.ledger")}) == 2


def elsewhere(posthog: EmulatorProcess) -> dict[str, Any]:
    """The same server under another name, where only the host tells that it may be another one."""
    found: dict[str, Any] = json.loads(posthog.airflow_connection_json())
    found["host"] = found["host"].replace("127.0.0.1", "localhost")
    return {**found, "extra": {**found["extra"], "project_token": posthog.project_token}}


def test_waiting_is_left_to_the_triggerer_and_goes_on_on_any_machine(
    connected: EmulatorProcess, shop: Shop, ledgers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(into_posthog, "WORTH", 0.0)
    waits = {"quiet_period": 0.2, "poll_interval": timedelta(seconds=0.2), "timeout": 600, "deferrable": True}
    connected.settings(ingestion_seconds=300)

    def go(event: Any = None) -> Any:
        made = task(**waits)
        return made.execute(context()) if event is None else made.execute_complete(context(), event)

    with pytest.raises(task_deferred()) as first:
        go()
    assert first.value.method_name == "execute_complete"
    with pytest.raises(task_deferred()) as second:
        go(run_trigger(first.value.trigger))
    for path in ledgers.rglob("*.ledger*"):
        path.unlink()
    connected.advance(301)
    found = go(run_trigger(second.value.trigger))
    assert (found["rows"], found["sent"], found["kept"]) == (20, 20, 20)
    assert len(connected.calls("/i/v1/")) == 1
    kept = json.dumps(second.value.trigger.serialize()[1])
    assert "c7" not in kept
    assert connected.project_token not in kept


def test_an_event_of_an_earlier_try_is_not_taken_for_this_one(connected: EmulatorProcess, shop: Shop) -> None:
    told = {"at": AT.isoformat(), "sent_at": 1.0, "resent": 0, "tally": None, "try_number": 1, "version": 1}
    assert task().execute_complete(context(try_number=2), told)["sent"] == 20


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"key": ["nope"]}, "key"),
        ({"distinct_id": "nope"}, "distinct_id"),
        ({"kind": "people"}, "kind"),
        ({"max_rejects": -1}, "max_rejects"),
        ({"quiet_period": -1}, "quiet_period"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"timeout": "soon"}, "timeout"),
        ({"events_per_second": 0}, "events_per_second"),
        ({"rejects_path": "s3://bucket"}, "rejects_path"),
        ({"sql": " "}, "sql"),
        ({"sql_conn_id": ""}, "sql_conn_id"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, shop: Shop, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        task(**options).execute(context())
    assert caught.value.field == field
    assert connected.calls("/i/v1/") == []


def test_a_statement_that_the_database_refuses_is_not_quoted(connected: EmulatorProcess, shop: Shop) -> None:
    with pytest.raises(PostHogLoadError) as caught:
        task(sql="SELECT * FROM orders WHERE customer = 'ann@example.com' AND nope = 1").execute(context())
    assert "ann@" not in str(caught.value)


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    with postgres_database() as database:
        monkeypatch.setenv("AIRFLOW_CONN_SHOP", database.airflow_connection())
        yield database


def test_postgresql_s_types_become_json_and_its_rows_come_by_a_cursor(
    connected: EmulatorProcess, postgres: Postgres
) -> None:
    postgres.run(
        "CREATE TABLE orders AS SELECT n AS id, 'c' || n AS customer, timestamptz '2026-11-01 12:00+00' AS placed_at,"
        " (n::numeric / 4)::numeric(10, 2) AS total, jsonb_build_object('a', n) AS more, date '2026-01-01' AS day,"
        " ARRAY[n, n] AS list, n % 2 = 0 AS even FROM generate_series(1, 12000) AS n"
    )
    assert task().execute(context())["kept"] == 12_000
    (found,) = [json.loads(there("distinct_id = 'c3'", "properties")[0])]
    assert found == {"id": 3, "total": 0.75, "more": {"a": 3}, "day": "2026-01-01", "list": [3, 3], "even": False}


def files(folder: Path, format: str) -> str:
    made = [
        {"id": f"00{n}", "customer": f"c{n}", "placed_at": (AT + timedelta(days=n)).isoformat(), "total": n / 2}
        for n in range(6)
    ]
    for number, some in enumerate((made[:4], made[4:])):
        path = folder / f"part-{number}.{format}"
        if format == "parquet":
            pq.write_table(pa.Table.from_pylist(some), path)
        elif format == "jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in some) + ("\n" if number else ""))
        else:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, made[0])
                writer.writeheader()
                writer.writerows(some)
    return f"file://{folder}/part-*.{format}"


def from_files(path: str, **options: Any) -> PostHogFromObjectStorageOperator:
    return PostHogFromObjectStorageOperator(task_id="task", path=path, **{**EVENTS, **AT_ONCE, **options})


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
def test_rows_of_files_are_in_posthog(connected: EmulatorProcess, tmp_path: Path, format: str) -> None:
    found = from_files(files(tmp_path, format), format=format).execute(context())
    assert (found["rows"], found["kept"], found["files"]) == (6, 6, 2)
    assert there("distinct_id = 'c3'", "properties.id, properties.total, toString(toDate(timestamp))") == [
        "003",
        "1.5",
        "2026-11-04",
    ]


def test_the_same_rows_are_the_same_events_in_every_format(connected: EmulatorProcess, tmp_path: Path) -> None:
    for format in ("parquet", "jsonl", "csv"):
        from_files(files(tmp_path, format), format=format).execute(context(run_id=format))
    assert there() == [6, 6]


def test_json_lines_may_have_other_columns_each_and_bad_ones_are_rejected(
    connected: EmulatorProcess, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"id": 1, "customer": "c1", "placed_at": AT.isoformat()}
    path.write_text(
        "\n".join([json.dumps(row), json.dumps({**row, "id": 2, "more": [1]}), "[1]", "{nope", '{"id": 3}'])
    )
    found = from_files(str(path), format="jsonl", max_rejects=3).execute(context())
    assert (found["kept"], found["rejected"]) == (2, {"missing_distinct_id": 1, "not_json": 2})


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"path": "file:///nowhere/*.parquet"}, "path"),
        ({"path": "file:///nowhere/x.parquet"}, "path"),
        ({"path": "file:///tmp/"}, "path"),
        ({"format": "xlsx"}, "format"),
        ({"key": ["nope"]}, "key"),
    ],
)
def test_files_that_cannot_work_are_refused(
    connected: EmulatorProcess, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    path = files(tmp_path, "parquet")
    with pytest.raises(PostHogSettingsError) as caught:
        from_files(**{"path": path, **options}).execute(context())
    assert caught.value.field == field
    assert connected.calls("/i/v1/") == []
