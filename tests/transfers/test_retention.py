"""Events that PostHog hides by now: nothing that was brought before is replaced by what is left of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.load.databases import DuckDB
from tests.operators.support import context, make_dag, when
from tests.transfers.choosing import source_in

MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
PROJECT = "/api/projects/1/"
COUNT_BY_DAY = "SELECT toString(min(uuid)) AS id, toStartOfDay(created_at) AS day FROM events GROUP BY day"


def day(ago: float) -> str:
    return (MIDNIGHT - timedelta(days=ago)).isoformat()


def hide(posthog: EmulatorProcess, *, ago: float = 4.5, **fields: Any) -> None:
    """Let PostHog hide what happened before a moment, by its own clock."""
    posthog.settings(**{"event_retention_months": 12, "events_retention_enforced": True, **fields})
    floor = MIDNIGHT - timedelta(days=ago)
    year_later = floor.replace(year=floor.year + 1)  # these days are no 29th of February
    posthog.advance((year_later - datetime.now(timezone.utc)).total_seconds())


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def into_sql(**options: Any) -> Any:
    given = {"sql_conn_id": "warehouse", "table": "events", "start": day(5), "end": day(3), "page_rows": 500}
    return PostHogToSqlOperator(task_id="task", **{**source_in(options), **given, "settle": timedelta(0), **options})


def into_files(folder: Path, **options: Any) -> Any:
    given = {"start": day(5), "end": day(3), "page_rows": 500, "settle": timedelta(0)}
    return PostHogQueryToObjectStorageOperator(
        task_id="task", path=str(folder), **{**source_in(options), **given, **options}
    )


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def looks(posthog: EmulatorProcess) -> int:
    return sum(call["path"] == PROJECT for call in posthog.calls(PROJECT, "GET"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What tasks say of hidden events; Airflow's own logs end elsewhere in each of its versions."""
    from airflow_provider_posthog.results.retention_guard import RetentionGuard
    from airflow_provider_posthog.tasks.retention import RetentionMixin

    texts: list[str] = []

    class Log:
        def note(self, text: str, *parts: object, **_: object) -> None:
            texts.append(text % parts)

        info = warning = note
        debug = lambda *_, **__: None  # noqa: E731

    def make(task: Any) -> RetentionGuard:
        return RetentionGuard(task.on_retention, task.hook.events_retention, Log())

    made = property(lambda task: task.__dict__.setdefault("_guard_of_the_test", make(task)))
    monkeypatch.setattr(RetentionMixin, "retention_guard", made)
    return texts


@pytest.mark.parametrize("by", ["created_at", "timestamp"])
@pytest.mark.parametrize("write", ["replace_interval", "merge", "append"])
def test_a_load_of_hidden_events_fails_and_leaves_the_table(
    connection: EmulatorProcess, lake: DuckDB, write: Any, by: str
) -> None:
    loaded = into_sql(time_column=by, write_disposition=write).execute(context())
    before = sorted(lake.rows("SELECT * FROM events"))
    assert loaded["rows"] == len(before) > 500
    hide(connection)
    for _ in range(2):  # a retry changes nothing either
        with pytest.raises(PostHogIncompleteError, match=r"PostHog hides events up to .* only a part of"):
            into_sql(time_column=by, write_disposition=write).execute(context())
    assert sorted(lake.rows("SELECT * FROM events")) == before
    hide(connection, ago=1)
    with pytest.raises(PostHogIncompleteError, match="none of"):
        into_sql(time_column=by, write_disposition=write).execute(context())
    assert sorted(lake.rows("SELECT * FROM events")) == before


def test_the_table_is_not_even_made(connection: EmulatorProcess, lake: DuckDB) -> None:
    hide(connection)
    connection.control("DELETE", "calls")
    with pytest.raises(PostHogIncompleteError):
        into_sql().execute(context())
    assert not lake.path.exists()
    assert connection.calls("/query/") == [], "nothing was read either"
    assert looks(connection) == 1


@pytest.mark.parametrize("by", ["created_at", "timestamp"])
def test_files_of_hidden_events_fail_and_leave_the_folder(connection: EmulatorProcess, tmp_path: Path, by: str) -> None:
    folder = tmp_path / "files"
    assert into_files(folder, time_column=by).execute(context())["rows"] > 500
    before = everything(folder)
    hide(connection)
    for _ in range(2):
        with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
            into_files(folder, time_column=by).execute(context())
    assert everything(folder) == before
    with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
        into_files(tmp_path / "new", time_column=by).execute(context())
    assert not (tmp_path / "new").exists()


def test_an_interval_that_is_read_again_is_checked_too(
    connection: EmulatorProcess, lake: DuckDB, tmp_path: Path
) -> None:
    back = {"time_column": "timestamp", "look_back": timedelta(days=2)}
    folder = tmp_path / "files"
    into_files(folder, time_column="timestamp").execute(context())
    before = everything(folder)
    into_sql(time_column="timestamp").execute(context())
    rows = sorted(lake.rows("SELECT * FROM events"))
    hide(connection)
    for operator in (into_files(folder, start=day(3), end=day(2), **back), into_sql(start=day(3), end=day(2), **back)):
        with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
            operator.execute(context())
    assert everything(folder) == before
    assert sorted(lake.rows("SELECT * FROM events")) == rows
    assert into_sql(start=day(3), end=day(2), time_column="timestamp").execute(context())["rows"] > 100


def test_with_a_warning_what_is_left_is_read(connection: EmulatorProcess, lake: DuckDB, said: list[str]) -> None:
    # Other tests leave copies of events here, and events at round times.
    shown = f"timestamp > toDateTime('{day(4.4321)}') AND timestamp < toDateTime('{day(3)}')"
    (there,) = PostHogHook().get_first(f"SELECT count(DISTINCT uuid) FROM events WHERE {shown}") or [0]
    hide(connection, ago=4.4321)
    found = into_sql(time_column="timestamp", on_retention="warn").execute(context())
    assert found["rows"] == lake.count() == there
    assert len(said) == 1
    assert "only a part" in said[0]
    assert looks(connection) == 1


def test_ignored_it_is_neither_asked_for_nor_said(connection: EmulatorProcess, lake: DuckDB, said: list[str]) -> None:
    hide(connection)
    found = into_sql(time_column="timestamp", on_retention="ignore").execute(context())
    assert found["rows"] == lake.count() > 0
    assert (looks(connection), said) == (0, [])


FIELDS: dict[str, dict[str, Any]] = {
    "no fields": {},
    "null": {"event_retention_months": None, "events_retention_enforced": None},
    "nonsense": {"event_retention_months": "some", "events_retention_enforced": "soon"},
    "a list": {"event_retention_months": [12], "events_retention_enforced": {"on": True}},
}


@pytest.mark.parametrize("fields", FIELDS)
def test_a_server_that_does_not_tell_is_said_once(
    connection: EmulatorProcess, lake: DuckDB, said: list[str], fields: str
) -> None:
    project = {"id": 1, "name": "x", "timezone": "UTC", **FIELDS[fields]}
    connection.faults(method="GET", path=PROJECT, status=200, body=project, count=-1)
    assert into_sql().execute(context())["rows"] == lake.count() > 500
    (text,) = said
    assert text.startswith("Whether PostHog hides old events is not known")
    assert looks(connection) == 1


def test_a_key_without_the_scope_is_said_once(
    connection: EmulatorProcess, lake: DuckDB, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    conn = json.loads(connection.airflow_connection_json())
    conn["password"] = connection.create_key(["query:read"])
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    assert into_sql().execute(context())["rows"] == lake.count() > 500
    assert said == ["Whether PostHog hides old events is not known: the key lacks the scope project:read."]


@pytest.mark.parametrize(
    ("months", "enforced", "expected"),
    [(12, False, "not enforced yet"), (12, True, "by then"), (84, True, "")],
)
def test_what_will_be_hidden_is_said_once(
    connection: EmulatorProcess, lake: DuckDB, said: list[str], months: int, enforced: bool, expected: str
) -> None:
    hide(connection, event_retention_months=months, events_retention_enforced=enforced, ago=5 + 10 * enforced)
    into_sql(start=day(6), end=day(4)).execute(context())
    assert lake.count() > 500
    assert len(said) == bool(expected)
    if expected == "not enforced yet":
        assert expected in said[0]
    elif expected:
        assert "will be hidden from" in said[0]


@pytest.mark.parametrize("source", ["persons", "sessions", "groups"])
def test_other_tables_are_not_asked_about(
    connection: EmulatorProcess, lake: DuckDB, said: list[str], source: str
) -> None:
    hide(connection)
    key = {"key": ["index", "key"]} if source == "groups" else {}
    into_sql(source=source, table="rows", write_disposition="merge", **key).execute(context())
    assert lake.count("rows") > 0
    assert (looks(connection), said) == (0, [])


def test_queries_of_events_by_a_time_are_checked(connection: EmulatorProcess, lake: DuckDB) -> None:
    options: dict[str, Any] = {"query": COUNT_BY_DAY, "table": "daily", "time_column": "day", "key": "id"}
    into_sql(**options).execute(context())
    before = lake.rows("SELECT * FROM daily ORDER BY 1")
    assert before
    hide(connection)
    with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
        into_sql(**options).execute(context())
    assert lake.rows("SELECT * FROM daily ORDER BY 1") == before


def test_queries_of_events_as_a_whole_are_warned_of(connection: EmulatorProcess, lake: DuckDB, said: list[str]) -> None:
    hide(connection, events_retention_enforced=False)
    options: dict[str, Any] = {"query": COUNT_BY_DAY, "table": "daily", "key": "id", "write_disposition": "merge"}
    into_sql(**options).execute(context())
    assert said == []
    connection.settings(events_retention_enforced=True)
    into_sql(**options).execute(context())
    (text,) = said
    assert "are not in the answer" in text
    into_sql(
        source="persons", table="people", write_disposition="merge", where="id IN (SELECT person_id FROM events)"
    ).execute(context())
    assert len(said) == 2


@pytest.mark.parametrize("make", [into_sql, lambda **options: into_files(Path("/nowhere"), **options)])
def test_a_choice_that_is_none_is_refused_before_anything_is_sent(
    connection: EmulatorProcess, make: Callable[..., Any]
) -> None:
    connection.control("DELETE", "calls")
    with pytest.raises(PostHogSettingsError, match="on_retention"):
        make(on_retention="sometimes").execute(context())
    assert connection.calls() == []


def test_a_project_that_cannot_be_read_now_fails_the_load(connection: EmulatorProcess, lake: DuckDB) -> None:
    connection.faults(method="GET", path=PROJECT, status=500, count=-1)
    with pytest.raises(PostHogError, match="500"):
        into_sql().execute(context())
    assert not lake.path.exists()


@pytest.mark.parametrize("way", ["sql", "files"])
def test_what_is_hidden_while_it_is_read_is_not_brought(
    connection: EmulatorProcess, lake: DuckDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The floor moves on: what was counted late is cut, and so are the rows that it is compared with."""
    from airflow_provider_posthog.results import retention_guard

    hide(connection, ago=5 + 1 / 24)
    clock = retention_guard.time.monotonic
    passed = threading.Event()
    monkeypatch.setattr(retention_guard, "time", _Clock(lambda: clock() + 7200 * passed.is_set()))
    operator = (
        into_sql(time_column="timestamp") if way == "sql" else into_files(tmp_path / "files", time_column="timestamp")
    )
    reading = type(operator).check_retention

    def checked(*arguments: Any) -> None:
        reading(*arguments)
        passed.set()

    monkeypatch.setattr(type(operator), "check_retention", checked)
    with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
        operator.execute(context())
    if way == "files":
        assert not list((tmp_path / "files").rglob("*.parquet"))
        assert not list((tmp_path / "files" / "_manifests").glob("*"))
    else:
        tables = lake.rows("SELECT count(*) FROM information_schema.tables WHERE table_name = 'events'")
        assert tables == [(0,)]


class _Clock:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.monotonic = monotonic


def test_the_choice_is_a_template(connection: EmulatorProcess, lake: DuckDB, run_dag: Callable[..., Any]) -> None:
    hide(connection)
    choice = "{{ params.choice }}"
    dag = make_dag(
        "retention", lambda: into_sql(time_column="timestamp", on_retention=choice), params={"choice": "warn"}
    )
    run = run_dag(dag, **when(MIDNIGHT))
    assert run.state == "success"
    assert lake.count() > 0
