"""What a load into a table may delete: what it reads again, and nothing else."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from tests.load.databases import Database, DuckDB, Postgres, postgres_database
from tests.operators.support import context, make_dag, task_states, when
from tests.transfers.choosing import source_in

MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
#: A time that no other test knows: the emulator is shared.
PAST = datetime(2011, 3, 1, tzinfo=timezone.utc)
_NUMBERS = itertools.count()
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    with postgres_database() as database:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
        yield database


@pytest.fixture
def hours(connection: EmulatorProcess) -> datetime:
    """The first of some hours that only this test knows."""
    return PAST + next(_NUMBERS) * 10 * DAY


def operator(**options: Any) -> PostHogToSqlOperator:
    given = {"sql_conn_id": "warehouse", "table": "events", "settle": timedelta(0)}
    return PostHogToSqlOperator(task_id="task", **{**source_in(options), **given, **options})


def load(**options: Any) -> dict[str, Any]:
    return operator(**options).execute(context())


def interval(start: datetime, length: timedelta = HOUR) -> dict[str, str]:
    return {"start": start.isoformat(), "end": (start + length).isoformat()}


def event(moment: datetime, name: str = "click", **parts: Any) -> dict[str, Any]:
    made = {"uuid": str(uuid4()), "event": name, "distinct_id": "a", "person_id": str(uuid4())}
    return {**made, "timestamp": moment.isoformat(), "created_at": moment.isoformat(), "properties": {}, **parts}


def held(database: Database, table: str = "events") -> dict[str, int]:
    return dict(database.rows(f"SELECT event, count(*) FROM {table} GROUP BY event"))


# The shrink guard.


def test_an_interval_that_posthog_shows_no_more_is_kept(
    connection: EmulatorProcess, lake: DuckDB, hours: datetime
) -> None:
    connection.add_events([event(hours + timedelta(minutes=at)) for at in range(5)])
    load(**interval(hours))
    before = sorted(lake.rows("SELECT * FROM events"))
    empty = hours + 5 * DAY * 365
    lake.run(f"UPDATE events SET created_at = created_at + INTERVAL {5 * 365} DAY")
    with pytest.raises(PostHogIncompleteError) as refused:
        load(**interval(empty))
    assert f"{empty:%F %T} to {empty + HOUR:%F %T} (UTC): 5 rows are there, and PostHog shows 0" in str(refused.value)
    assert lake.count() == len(before) == 5
    assert load(**interval(empty), allow_shrink="True")["deleted"] == 5
    assert lake.count() == 0
    assert load(**interval(empty))["rows"] == 0, "a first load of an empty interval"


def test_max_shrink_and_allow_shrink_are_templates(connection: EmulatorProcess, lake: DuckDB, run_dag: Any) -> None:
    load(**interval(MIDNIGHT - 4 * DAY, DAY))
    there = lake.count()
    assert there > 200
    lake.run("INSERT INTO events SELECT events.* REPLACE (uuid || 'x' AS uuid) FROM events, range(9)")

    def fill() -> None:
        span = interval(MIDNIGHT - 4 * DAY, DAY)
        operator(**span, max_shrink="{{ params.share }}", allow_shrink="{{ params.allow }}")

    for number, (share, allow, state) in enumerate([(0.5, False, "failed"), (0.95, False, "success")]):
        dag = make_dag(f"shrinking_{number}", fill, params={"share": share, "allow": allow})
        assert run_dag(dag, **when(MIDNIGHT)).state == state
        assert lake.count() == (there if state == "success" else there * 10)
    lake.run("INSERT INTO events SELECT events.* REPLACE (uuid || 'x' AS uuid) FROM events, range(9)")
    dag = make_dag("shrinking_2", fill, params={"share": 0, "allow": True})
    assert run_dag(dag, **when(MIDNIGHT)).state == "success"


# A filter.


def test_mapped_tasks_of_several_events_end_with_all_of_them(
    connection: EmulatorProcess, lake: DuckDB, run_dag: Any
) -> None:
    names = ["$pageview", "purchase", "$autocapture"]
    days = interval(MIDNIGHT - 5 * DAY, 2 * DAY)

    def fill() -> None:
        given: dict[str, Any] = {
            "source": "events",
            "sql_conn_id": "warehouse",
            "table": "events",
            "settle": timedelta(0),
            **days,
        }
        PostHogToSqlOperator.partial(task_id="load", **given).expand(events=names)

    dag = make_dag("mapped_events", fill)
    for _ in range(2):
        assert set(task_states(run_dag(dag, **when(MIDNIGHT))).values()) == {"success"}
        load(table="alone", events=names, **days)
        assert held(lake) == held(lake, "alone")
        assert set(held(lake)) == set(names)
        assert lake.count() == len(set(lake.uuids()))


def test_an_event_s_load_leaves_those_of_others(connection: EmulatorProcess, lake: DuckDB, hours: datetime) -> None:
    connection.add_events([event(hours, "a"), event(hours, "b"), event(hours, "b"), event(hours, "c")])
    load(**interval(hours))
    assert load(**interval(hours), events=["b", "c"])["deleted"] == 3
    assert load(**interval(hours), events="b")["deleted"] == 2
    assert held(lake) == {"a": 1, "b": 2, "c": 1}
    assert load(**interval(hours), events="b", replaces="all")["deleted"] == 4
    assert held(lake) == {"b": 2}


def test_the_event_is_found_in_whatever_column_it_is_loaded(
    connection: EmulatorProcess, lake: DuckDB, hours: datetime
) -> None:
    connection.add_events([event(hours, "a"), event(hours, "b")])
    columns = {"uuid": "uuid", "created_at": "created_at", "what": "event"}
    for name in ("a", "b", "a"):
        load(**interval(hours), events=name, columns=columns)
    assert lake.count() == 2


UNTOLD = [
    ({"events": "a", "columns": ["uuid", "created_at"]}, "columns"),
    ({"events": "a", "columns": {"uuid": "uuid", "created_at": "created_at", "name": "lower(event)"}}, "columns"),
    ({"where": "event = 'a'"}, "where"),
    ({"events": "a", "where": "distinct_id = 'a'"}, "where"),
    ({"source": "sessions", "where": "$pageview_count > 1"}, "where"),
    ({"source": "persons", "where": "is_identified"}, "where"),
    ({"source": "persons", "time_column": "created_at", "where": "is_identified"}, "where"),
    ({"source": "groups", "where": "index = 0"}, "where"),
    ({"source": "groups", "where": "index = 0", "deleted": None}, "where"),
]


@pytest.mark.parametrize(("options", "field"), UNTOLD)
def test_rows_that_the_table_does_not_tell_apart_are_not_deleted(
    connection: EmulatorProcess, lake: DuckDB, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError, match="write_disposition='merge', or replaces='all'") as refused:
        load(**interval(PAST), **options)
    assert refused.value.field == field
    assert connection.calls("/query/") == []
    assert not lake.path.exists()


def test_a_table_that_holds_only_what_is_read_is_replaced_all_the_same(
    connection: EmulatorProcess, lake: DuckDB, hours: datetime
) -> None:
    connection.add_events([event(hours, "a"), event(hours, "b")])
    for _ in range(2):
        assert load(**interval(hours), where="event = 'a'", replaces="all")["rows"] == 1
    assert held(lake) == {"a": 1}
    assert load(**interval(hours), where="event = 'b'", write_disposition="merge")["rows"] == 1
    assert held(lake) == {"a": 1, "b": 1}


SPANS = [interval(PAST), interval(PAST + HOUR)]


@pytest.mark.parametrize(
    ("mapped", "options", "over"),
    [
        ({"posthog_conn_id": ["a", "b"]}, {}, "posthog_conn_id"),
        ({"project_id": [1, 2], "start": [1, 2]}, {}, "project_id"),
        ({"events": ["a", "b"]}, {"replaces": "all"}, "events"),
        ({"events": ["a", "b"], "project_id": [1, 2]}, {"events": "a"}, "project_id"),
        (
            {"values": [{"n": 1}, {"n": 2}]},
            {"query": "SELECT {n} AS n, now() AS t", "key": "n", "time_column": "t"},
            "values",
        ),
        ([{"query": "SELECT 1 AS n"}, {"query": "SELECT 2 AS n"}], {"query": "SELECT 1 AS n", "key": "n"}, "query"),
        ([{"table": "t", "project_id": 1}, {"table": "t", "project_id": 2}], {}, "project_id"),
        ([{"table": "t", "project_id": 1}, {"table": "u", "project_id": 2}], {}, None),
        ([{**span, "project_id": 1} for span in SPANS], {}, None),
        (SPANS, {}, None),
        ({"events": ["a", "b"]}, {"events": "a"}, None),
        ({"table": ["a", "b"]}, {}, None),
        ({"project_id": [1, 2]}, {"write_disposition": "merge"}, None),
        (object(), {}, None),
    ],
)
def test_mapped_tasks_do_not_replace_one_another_s_rows(
    connection: EmulatorProcess, lake: DuckDB, mapped: Any, options: dict[str, Any], over: str | None
) -> None:
    task = operator(
        **{
            **interval(PAST),
            "events": "a" if "events" in (mapped if isinstance(mapped, dict) else ()) else None,
            **options,
        }
    )
    dag = SimpleNamespace(task_dict={"task": SimpleNamespace(expand_input=SimpleNamespace(value=mapped))})
    told = {**context(map_index=1), "dag": dag}
    if over is None:
        task.execute(told)
        return
    with pytest.raises(PostHogSettingsError, match=f"mapped over {over} replaces the rows of one another") as refused:
        task.execute(told)
    assert refused.value.field == "write_disposition"
    assert connection.calls("/query/") == []
    task = operator(**{**interval(PAST), **options})


def test_nor_in_a_dag(connection: EmulatorProcess, lake: DuckDB, run_dag: Any) -> None:
    queries = [
        f"SELECT uuid, event, created_at FROM events WHERE event = '{name}'" for name in ("$pageview", "purchase")
    ]

    def fill() -> None:
        given = {"sql_conn_id": "warehouse", "table": "events", "settle": timedelta(0), "key": "uuid"}
        span = interval(MIDNIGHT - 5 * DAY, DAY)
        PostHogToSqlOperator.partial(task_id="load", time_column="created_at", **given, **span).expand(query=queries)

    run = run_dag(make_dag("mapped_queries", fill), **when(MIDNIGHT))
    assert set(task_states(run).values()) == {"failed"}
    assert not lake.path.exists()


# The whole table.


def test_persons_are_a_whole_snapshot_by_default(connection: EmulatorProcess, lake: DuckDB) -> None:
    """Also those that say that they were made before anything was loaded, or will be tomorrow."""
    first = load(source="persons", table="persons")
    assert (first["start"], first["end"]) == (None, None)
    now = datetime.now(timezone.utc)
    times = [now - 900 * DAY, now - HOUR, now + timedelta(minutes=20), now + 20 * HOUR]
    made = connection.add_persons([{"distinct_ids": [str(uuid4())], "created_at": at.isoformat()} for at in times])
    found = load(source="persons", table="persons")
    assert found["rows"] == lake.count("persons") == first["rows"] + 4
    assert {str(row[0]) for row in lake.rows("SELECT id FROM persons")} >= set(made)
    assert (found["deleted"], found["inserted"]) == (first["rows"], found["rows"])


def test_what_is_gone_from_posthog_goes(connection: EmulatorProcess, postgres: Postgres) -> None:
    query = {"query": "SELECT event, count() AS n FROM events WHERE event LIKE 'gone %' GROUP BY event", "key": "event"}
    connection.add_events([event(PAST, "gone 1"), event(PAST, "gone 2"), event(PAST, "gone 2")])
    load(**query, table="totals")
    postgres.run("INSERT INTO totals VALUES ('gone 3', 9)")
    found = load(**query, table="totals")
    assert (found["rows"], found["deleted"]) == (2, 3)
    assert sorted(postgres.rows("SELECT event, n FROM totals")) == [("gone 1", 1), ("gone 2", 2)]


def test_groups_are_replaced_as_a_whole(connection: EmulatorProcess, lake: DuckDB) -> None:
    there = load(source="groups", table="groups")["rows"]
    lake.run("INSERT INTO groups SELECT * REPLACE ('old' AS key) FROM groups LIMIT 1")
    assert load(source="groups", table="groups")["deleted"] == there + 1
    assert lake.count("groups") == there > 10


def test_a_cohort_s_members_leave_those_of_others(connection: EmulatorProcess, lake: DuckDB) -> None:
    lake.run(
        "CREATE TABLE members (person_id VARCHAR, cohort_id BIGINT)",
        "INSERT INTO members VALUES ('a', 7), ('b', 7), ('a', 8)",
    )
    cohort = {"source": "cohort_members", "cohort_id": 7}
    with pytest.raises(PostHogIncompleteError, match="2 rows are there, and PostHog shows 0"):
        load(**cohort, table="members")
    assert load(**cohort, table="members", allow_shrink=True)["deleted"] == 2
    assert lake.rows("SELECT person_id, cohort_id FROM members") == [("a", 8)]


# Sessions.


def session_events(begin: datetime, *after: timedelta, session: str) -> list[dict[str, Any]]:
    return [event(begin + each, "$pageview", properties={"$session_id": session}) for each in (timedelta(0), *after)]


def test_a_session_that_is_open_at_the_edge_is_completed_by_the_next_run(
    connection: EmulatorProcess, lake: DuckDB
) -> None:
    begin = MIDNIGHT - 3 * DAY - timedelta(minutes=10)
    name = _session_id(begin)
    first, *rest = session_events(begin, timedelta(minutes=5), timedelta(minutes=40), session=name)
    connection.add_events([first, rest[0]])
    options = {"source": "sessions", "table": "sessions"}
    load(**options, **interval(MIDNIGHT - 4 * DAY, DAY))
    pages = f"SELECT \"$pageview_count\" FROM sessions WHERE session_id = '{name}'"
    assert lake.rows(pages) == [(2,)]
    connection.add_events(rest[1:])
    found = load(**options, **interval(MIDNIGHT - 3 * DAY, DAY))
    assert found["start"] == f"{MIDNIGHT - 4 * DAY:%FT%TZ}"
    assert lake.rows(pages) == [(3,)]
    none = load(**options, **interval(MIDNIGHT - 3 * DAY, DAY), look_back=timedelta(0))
    assert none["start"] == f"{MIDNIGHT - 3 * DAY:%FT%TZ}"


def _session_id(moment: datetime) -> str:
    """Return a UUID of version 7, which PostHog finds sessions by."""
    millis = f"{int(moment.timestamp() * 1000):012x}"
    rest = uuid4().hex
    return f"{millis[:8]}-{millis[8:]}-7{rest[:3]}-a{rest[3:6]}-{rest[6:18]}"


# Earlier intervals, counted again.


def test_a_row_that_became_visible_late_is_loaded_by_verify_back(
    connection: EmulatorProcess, postgres: Postgres, hours: datetime
) -> None:
    connection.add_events([event(hours + at * HOUR) for at in range(5) for _ in range(2)])
    for at in range(4):
        load(**interval(hours + at * HOUR))
    late = event(hours + HOUR + timedelta(minutes=59, seconds=59, microseconds=999_999))
    connection.add_events([late])
    load(**interval(hours + 3 * HOUR))
    assert late["uuid"] not in postgres.uuids()
    before = len(connection.calls("/query/"))
    found = load(**interval(hours + 4 * HOUR), verify_back=3 * HOUR)
    assert late["uuid"] in postgres.uuids()
    assert (found["rows"], found["verified"]) == (2, 3)
    assert found["reloaded"] == [
        {"start": f"{hours + HOUR:%FT%TZ}", "end": f"{hours + 2 * HOUR:%FT%TZ}", "rows": 3, "deleted": 2}
    ]
    counts = [call for call in connection.calls("/query/")[before:] if "keys_0" in str(call)]
    assert len(counts) == 1, "one question for all intervals"
    again = load(**interval(hours + 4 * HOUR), verify_back=3 * HOUR)
    assert (again["verified"], again["reloaded"]) == (3, [])
    assert postgres.count() == len(set(postgres.uuids())) == 11


def test_rows_that_were_lost_or_doubled_in_the_table_are_mended(
    connection: EmulatorProcess, lake: DuckDB, hours: datetime
) -> None:
    connection.add_events([event(hours + at * HOUR) for at in range(6)])
    load(**interval(hours, 6 * HOUR))
    lake.run(f"DELETE FROM events WHERE created_at = '{hours.isoformat()}'")
    lake.run(f"INSERT INTO events SELECT * FROM events WHERE created_at = '{(hours + HOUR).isoformat()}'")
    lake.run(
        "INSERT INTO events SELECT * REPLACE ('strange' AS uuid) FROM events "
        f"WHERE created_at = '{(hours + 2 * HOUR).isoformat()}'"
    )
    found = load(**interval(hours + 5 * HOUR), verify_back=DAY)
    assert [one["start"] for one in found["reloaded"]] == [f"{hours + at * HOUR:%FT%TZ}" for at in (0, 2)]
    assert held(lake) == {"click": 7}, "a copy of an event may be there twice: its keys are compared"


def test_copies_of_an_event_are_no_difference(connection: EmulatorProcess, lake: DuckDB, hours: datetime) -> None:
    """PostHog keeps them until ClickHouse merges them, and a load may keep one of each window."""
    first = event(hours)
    copies = [{**first, "created_at": (hours + at * timedelta(minutes=20)).isoformat()} for at in range(3)]
    connection.add_events([*copies, event(hours + HOUR)])
    for columns in (None, ["event", "created_at"]):
        table = "keyed" if columns is None else "keyless"
        assert load(table=table, columns=columns, page_rows=1, **interval(hours))["rows"] >= 1
        found = load(table=table, columns=columns, verify_back=HOUR, **interval(hours + HOUR))
        assert (found["verified"], found["reloaded"]) == (1, [])


@pytest.mark.parametrize(
    "read",
    [
        {"source": "events", "time_column": "created_at"},
        {"query": "SELECT uuid, event, created_at FROM events", "time_column": "created_at"},
        {"source": "events", "time_column": "timestamp"},
    ],
)
def test_whatever_has_a_time_is_verified(
    connection: EmulatorProcess, lake: DuckDB, hours: datetime, read: dict[str, str]
) -> None:
    options = {"key": "uuid", **read}
    connection.add_events([event(hours), event(hours + HOUR)])
    load(**interval(hours), **options)
    connection.add_events([event(hours)])
    found = load(**interval(hours + HOUR), **options, verify_back=2 * HOUR)
    assert (found["verified"], [one["rows"] for one in found["reloaded"]]) == (2, [2])
    assert lake.count() == 3


def test_only_the_filter_s_rows_are_verified(connection: EmulatorProcess, lake: DuckDB, hours: datetime) -> None:
    connection.add_events([event(hours, "a"), event(hours, "b"), event(hours + HOUR, "a")])
    load(events="a", **interval(hours))
    found = load(events="a", verify_back=HOUR, **interval(hours + HOUR))
    assert found["reloaded"] == []
    connection.add_events([event(hours, "a"), event(hours, "b")])
    found = load(events="a", verify_back=HOUR, **interval(hours + HOUR))
    assert [one["rows"] for one in found["reloaded"]] == [2]
    assert held(lake) == {"a": 3}


def test_an_interval_that_posthog_shows_no_more_is_not_reloaded(
    connection: EmulatorProcess, lake: DuckDB, hours: datetime
) -> None:
    connection.add_events([event(hours + HOUR)])
    load(**interval(hours + HOUR))
    lake.run(
        f"INSERT INTO events SELECT * REPLACE (uuid || 'x' AS uuid, TIMESTAMPTZ '{hours.isoformat()}' AS created_at) "
        "FROM events"
    )
    with pytest.raises(PostHogIncompleteError, match="1 rows are there, and PostHog shows 0"):
        load(verify_back=HOUR, **interval(hours + HOUR))
    assert lake.count() == 2
    assert load(verify_back=HOUR, allow_shrink=True, **interval(hours + HOUR))["reloaded"][0]["deleted"] == 1


def test_verify_back_begins_where_look_back_ends(connection: EmulatorProcess, lake: DuckDB, hours: datetime) -> None:
    connection.add_events([event(hours + at * HOUR) for at in range(4)])
    back = {"look_back": timedelta(minutes=90), "verify_back": timedelta(hours=3)}
    found = load(time_column="timestamp", **back, **interval(hours + 3 * HOUR))
    assert found["start"] == f"{hours + timedelta(minutes=90):%FT%TZ}"
    assert found["verified"] == 2
    assert [(one["start"], one["end"]) for one in found["reloaded"]] == [
        (f"{hours:%FT%TZ}", f"{hours + timedelta(minutes=30):%FT%TZ}"),
        (f"{hours + timedelta(minutes=30):%FT%TZ}", f"{hours + timedelta(minutes=90):%FT%TZ}"),
    ]
    assert lake.count() == 4


# Waiting.


def test_no_transaction_is_open_while_rows_settle(connection: EmulatorProcess, postgres: Postgres) -> None:
    load(**interval(PAST))  # whatever is slow the first time
    # Not those between two statements of what comes before the wait.
    open_ones = """SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state LIKE 'idle in %'
        AND state_change < clock_timestamp() - interval '0.5 s'"""
    end = datetime.now(timezone.utc)
    settle = timedelta(seconds=2)
    seen: list[int] = []

    def look() -> None:
        while not seen or datetime.now(timezone.utc) < end + settle:
            time.sleep(0.05)
            count = postgres.rows(open_ones)[0][0]
            if datetime.now(timezone.utc) < end + settle:
                seen.append(count)
            elif not seen:
                return

    looking = threading.Thread(target=look)
    looking.start()
    load(start=(end - HOUR).isoformat(), end=end.isoformat(), settle=settle)
    looking.join()
    assert datetime.now(timezone.utc) > end + settle
    assert set(seen) <= {0}
