"""PostHog through Airflow's own SQL operators, and PostHogSqlHook, the DbApiHook under them."""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from airflow.providers.common.sql.hooks.handlers import fetch_all_handler, fetch_one_handler
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.providers.common.sql.operators.sql import (
    AirflowException,  # by the name that it has in every version
    BranchSQLOperator,
    SQLCheckOperator,
    SQLColumnCheckOperator,
    SQLExecuteQueryOperator,
    SQLIntervalCheckOperator,
    SQLTableCheckOperator,
    SQLThresholdCheckOperator,
    SQLValueCheckOperator,
)
from airflow.providers.common.sql.sensors.sql import SqlSensor
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.hogql import statements
from airflow_provider_posthog.compat import BaseHook
from airflow_provider_posthog.connection import form as connection_form
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogSettingsError,
    PostHogValidationError,
)
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.hooks.sql import PostHogSqlHook
from tests.operators.support import connect, make_dag, task_states, when, xcoms
from tests.support.scripted import ScriptedServer, ok

DOCS = Path(__file__).parents[2] / "docs" / "sql.md"
CONN = "posthog_default"
SINCE = "timestamp >= toDateTime('2020-01-01T00:00:00Z')"
NOTHING = "SELECT event FROM events WHERE event = 'no such event'"


def _hook() -> Any:
    """The hook that Airflow's operators get."""
    return BaseHook.get_connection(CONN).get_hook()


def _statements(posthog: EmulatorProcess) -> list[str]:
    return [call["body"]["query"]["query"] for call in posthog.calls("/query/", "POST")]


# Airflow's operators, each with a check that holds and one that does not

WIDTHS = "(SELECT toFloat(properties.$screen_width) AS width, timestamp FROM events)"


def _check(**how: Any) -> Callable[[], Any]:
    return lambda: SQLCheckOperator(task_id="t", conn_id=CONN, **how)


def _value(**how: Any) -> Callable[[], Any]:
    return lambda: SQLValueCheckOperator(task_id="t", conn_id=CONN, **how)


def _threshold(**how: Any) -> Callable[[], Any]:
    return lambda: SQLThresholdCheckOperator(task_id="t", conn_id=CONN, **how)


def _column(columns: dict[str, Any], table: str = "events", **how: Any) -> Callable[[], Any]:
    return lambda: SQLColumnCheckOperator(task_id="t", conn_id=CONN, table=table, column_mapping=columns, **how)


def _table(check: str, **how: Any) -> Callable[[], Any]:
    checks = {"always": {"check_statement": "1 = 1"}, "it_holds": {"check_statement": check}}
    return lambda: SQLTableCheckOperator(task_id="t", conn_id=CONN, table="events", checks=checks, **how)


def _days_ago(days: int) -> str:
    return (datetime.now(timezone.utc) - timedelta(days=days)).date().isoformat()


def _interval(metric: str, threshold: float, column: str = "toDate(timestamp)") -> Callable[[], Any]:
    def make() -> Any:
        operator = SQLIntervalCheckOperator(
            task_id="t",
            conn_id=CONN,
            table="events",
            date_filter_column=column,
            days_back=1,
            metrics_thresholds={metric: threshold},  # type: ignore[dict-item]
        )
        ds_add = lambda ds, days: (date.fromisoformat(ds) + timedelta(days=days)).isoformat()  # noqa: E731
        operator.render_template_fields({"ds": _days_ago(3), "macros": SimpleNamespace(ds_add=ds_add)})
        return operator

    return make


GREEN: dict[str, Callable[[], Any]] = {
    "check": _check(sql="SELECT count(), max(timestamp) FROM events;"),
    "check_parameters": _check(sql="SELECT count() FROM events WHERE event = {e}", parameters={"e": "$pageview"}),
    "check_first_of_many_rows": _check(sql="SELECT 1 FROM events"),
    "value": _value(sql="SELECT count() >= 20000, 1 FROM events", pass_value=1),
    "value_tolerance": _value(sql="SELECT count() FROM events", pass_value=21000, tolerance=0.1),
    "value_text": _value(sql="SELECT {e} FROM events", pass_value="$pageview", parameters={"e": "$pageview"}),
    "threshold": _threshold(sql="SELECT count() FROM events", min_threshold=19000, max_threshold=21000),
    "threshold_sql": _threshold(
        sql="SELECT count() FROM events;",
        min_threshold="SELECT count() - 1 FROM events;",
        max_threshold="SELECT count() * 2 FROM events;",
    ),
    "column": _column({"event": {"null_check": {"equal_to": 0}, "distinct_check": {"geq_to": 5}}}),
    "column_unique": _column({"uuid": {"unique_check": {"equal_to": 0}}}, partition_clause=SINCE),
    "column_of_property": _column(
        {"width": {"min": {"geq_to": 100}, "max": {"leq_to": 10000, "partition_clause": "width < 5000"}}}, WIDTHS
    ),
    "columns": _column({name: {"distinct_check": {"greater_than": 1}} for name in ("event", "distinct_id", "uuid")}),
    "table": _table("count() >= 20000"),
    "table_row_by_row": _table("event != ''", partition_clause=SINCE),
    "table_unique": _table("count(uuid) = count(DISTINCT uuid)"),
    "table_age": _table("dateDiff('hour', max(timestamp), now()) < 1000"),
    "interval": _interval("count()", 2),
    "interval_as_text": _interval("uniq(distinct_id)", 2, "toString(toDate(timestamp))"),
}

RED: dict[str, tuple[Callable[[], Any], str]] = {
    "check": (_check(sql="SELECT count(), countIf(event = 'no such event') FROM events"), "Test failed"),
    "check_null": (_check(sql="SELECT null"), "Test failed"),
    "check_no_rows": (_check(sql=NOTHING), "zero rows"),
    "value": (_value(sql="SELECT count() FROM events", pass_value=19999), "Test failed"),
    "value_tolerance": (_value(sql="SELECT count() FROM events", pass_value=30000, tolerance=0.1), "Test failed"),
    "value_text": (_value(sql="SELECT 'a'", pass_value="b"), "Test failed"),
    "threshold": (_threshold(sql="SELECT count() FROM events", min_threshold=1, max_threshold=19999), "failed"),
    "threshold_sql": (
        _threshold(sql="SELECT 5", min_threshold="SELECT count() FROM events", max_threshold=99999),
        "not within thresholds",
    ),
    "threshold_no_rows": (_threshold(sql=NOTHING, min_threshold=0, max_threshold=1), "zero rows"),
    "column": (_column({"event": {"distinct_check": {"less_than": 5}}}), "Check: distinct_check"),
    "column_unique": (_column({"event": {"unique_check": {"equal_to": 0}}}), "Check: unique_check"),
    "column_of_property": (_column({"width": {"max": {"less_than": 1000}}}, WIDTHS), "Check: max"),
    "column_null": (_column({"width": {"null_check": {"equal_to": 1}}}, WIDTHS), "Check: null_check"),
    "table": (_table("count() < 20000"), "it_holds"),
    "table_row_by_row": (_table("event != '$pageview'"), "it_holds"),
    "table_without_rows": (_table("event != ''", partition_clause="event = 'no such event'"), "it_holds"),
    "interval": (_interval("count()", 1), "following tests have failed"),
}


@pytest.mark.parametrize("case", GREEN)
def test_checks_that_hold(connected: EmulatorProcess, case: str) -> None:
    GREEN[case]().execute({})
    sent = _statements(connected)
    assert sent
    assert not [sql for sql in sent if ";" in sql]
    assert {call["body"]["refresh"] for call in connected.calls("/query/", "POST")} == {"force_blocking"}


@pytest.mark.parametrize("case", RED)
def test_checks_that_do_not_hold(connected: EmulatorProcess, case: str) -> None:
    make, word = RED[case]
    with pytest.raises(AirflowException, match=word):
        make().execute({})
    assert _statements(connected)


@pytest.mark.parametrize("case", ["check", "column", "table", "threshold", "value"])
def test_a_check_that_posthog_could_not_run_fails(connected: EmulatorProcess, case: str) -> None:
    connected.faults(path="*/query/", status=200, body={"results": [[1]], "columns": ["a"], "error": "Unknown table"})
    with pytest.raises(PostHogJobFailed, match="Unknown table"):
        GREEN[case]().execute({})


def test_more_checks_than_posthog_answers_fail(connected: EmulatorProcess) -> None:
    """Airflow's operator asks without a LIMIT: of 101 checks PostHog would answer 100, and one would not be made."""
    checks = {f"check_{number}": {"check_statement": "count() > 0"} for number in range(101)}
    operator = SQLTableCheckOperator(task_id="t", conn_id=CONN, table="numbers(5)", checks=checks)
    with pytest.raises(PostHogIncompleteError, match="cut the answer at 100 rows"):
        operator.execute({})


def test_a_property_is_checked_through_a_sub_query_only(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogValidationError):
        _column({"properties.$browser": {"null_check": {"equal_to": 0}}})().execute({})


def test_the_operators_database_is_the_project(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, connected, project_id=4242)
    _check(sql="SELECT 1", database=str(connected.project_id))().execute({})
    _check(sql="SELECT 1", hook_params={"project_id": connected.project_id})().execute({})
    assert {call["path"] for call in connected.calls("/query/")} == {f"/api/projects/{connected.project_id}/query/"}
    with pytest.raises(PostHogSettingsError, match="project_id"):
        _check(sql="SELECT 1", database="analytics")().execute({})


def test_the_project_can_be_changed_later(connected: EmulatorProcess) -> None:
    hook = PostHogSqlHook()
    assert (hook.schema, hook.get_first("SELECT 1")) == (None, (1,))
    hook.schema = "4242"
    assert hook.settings().project_id == 4242
    with pytest.raises(PostHogNotFoundError):
        hook.get_first("SELECT 1")


def test_hook_params_win_over_the_connections_extra(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect(monkeypatch, connected, read_timeout=5, extra__posthog__connect_timeout="7")
    hook = SQLCheckOperator(task_id="t", sql="", conn_id=CONN, hook_params={"read_timeout": 600}).get_db_hook()
    settings = hook.settings()  # type: ignore[attr-defined]
    assert (settings.read_timeout, settings.connect_timeout) == (600.0, 7.0)
    with caplog.at_level(logging.WARNING):
        PostHogSqlHook(CONN, projekt_id=5).settings()
    assert "projekt_id" in caplog.text
    for unset in ("null", " "):
        assert PostHogSqlHook(project_id=unset).settings().project_id == connected.project_id


def test_branch_sensor_and_query_in_a_dag(connected: EmulatorProcess, run_dag: Callable[..., Any]) -> None:
    def fill() -> None:
        branch = BranchSQLOperator(
            task_id="branch",
            conn_id=CONN,
            sql="SELECT count() > {least} FROM events;",
            parameters={"least": 100},
            follow_task_ids_if_true=["many"],
            follow_task_ids_if_false=["few"],
        )
        back = BranchSQLOperator(
            task_id="back",
            conn_id=CONN,
            sql="SELECT count() > {least} FROM events",
            parameters={"least": 10**6},
            follow_task_ids_if_true=["more"],
            follow_task_ids_if_false=["all"],
        )
        many, few, more, everything = (
            SQLExecuteQueryOperator(task_id=name, conn_id=CONN, sql=sql)
            for name, sql in {
                "many": "SELECT 1 AS one, 'a' AS letter, toDate('2026-01-01')",
                "few": "SELECT 1",
                "more": "SELECT 1",
                "all": ["SELECT 1", "SELECT 2;"],
            }.items()
        )
        branch >> [many, few]
        many >> back >> [more, everything]

    run = run_dag(make_dag("sql_branches", fill))
    assert task_states(run) == {
        "branch": "success",
        "many": "success",
        "few": "skipped",
        "back": "success",
        "more": "skipped",
        "all": "success",
    }
    found = {task: value for (task, _, key), value in xcoms(run).items() if key == "return_value"}
    assert "2026-01-01" in json.dumps(found["many"])
    assert "letter" not in json.dumps(found["many"])


def test_the_sensor(connected: EmulatorProcess) -> None:
    how = {"sql": "SELECT count() FROM events WHERE event = {e};", "parameters": {"e": "payment taken"}}
    sensor = SqlSensor(task_id="t", conn_id=CONN, **how)  # type: ignore[arg-type]
    assert not sensor.poke({})
    connected.capture([{"event": "payment taken", "distinct_id": "ada"}])
    assert sensor.poke({})
    assert not SqlSensor(task_id="t", conn_id=CONN, success=lambda count: count > 1, **how).poke({})  # type: ignore[arg-type]
    with pytest.raises(AirflowException, match="Failure criteria met"):
        SqlSensor(task_id="t", conn_id=CONN, failure=lambda count: count == 1, **how).poke({})  # type: ignore[arg-type]
    assert not SqlSensor(task_id="t", conn_id=CONN, sql=NOTHING).poke({})


def test_values_are_not_logged(connected: EmulatorProcess, caplog: pytest.LogCaptureFixture) -> None:
    hook = PostHogSqlHook()
    quiet = PostHogSqlHook(log_sql=False)
    hook._log = quiet._log = logging.getLogger("whatever.airflow.logs.to")
    with caplog.at_level(logging.INFO):
        assert hook.get_first("SELECT {e} != '' AS given", {"e": "ada@example.com"}) == (1,)
        assert quiet.get_first("SELECT 'not said', {e}", {"e": "ada@example.com"})
    assert "Running statement: SELECT {e} != '' AS given" in caplog.text
    assert "With values for e" in caplog.text
    assert "ada@example.com" not in caplog.text
    assert "not said" not in caplog.text


# the hook


def test_airflow_gives_this_hook(connected: EmulatorProcess) -> None:
    hook = _hook()
    assert type(hook) is PostHogSqlHook
    assert isinstance(hook, PostHogHook)
    assert isinstance(hook, DbApiHook)
    assert f"{PostHogSqlHook.__module__}.{PostHogSqlHook.__name__}" == connection_form.HOOK_CLASS
    assert (hook.conn_type, hook.conn_name_attr, hook.get_conn_id()) == ("posthog", "posthog_conn_id", CONN)
    assert hook.get_ui_field_behaviour() == connection_form.python_ui_field_behaviour()
    good, text = hook.test_connection()
    assert good, text
    assert "all scopes" in text


def test_making_it_reads_and_sends_nothing(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", "no connection at all: {")
    PostHogSqlHook("nowhere", project_id="x", read_timeout=5).get_conn().cursor()
    assert connected.calls() == []


def test_both_ways_of_asking(connected: EmulatorProcess) -> None:
    hook = PostHogSqlHook()
    sql, values = "SELECT {x} AS x, 1 AS one", {"x": "it's \\ \" {y} ; \U0001f4a5"}
    row = (values["x"], 1)
    assert hook.get_records(sql, values) == [row]
    assert hook.get_records(sql=sql, parameters=values) == [row]
    assert hook.get_first(sql, values) == row
    assert hook.get_first(sql=sql, parameters=values) == row
    assert hook.get_first(NOTHING) is None
    assert hook.get_records(NOTHING) == []
    assert hook.get_records(["SELECT 1;", "SELECT 2"]) == [[(1,)], [(2,)]]


def test_both_hooks_are_asked_alike(connected: EmulatorProcess) -> None:
    sql, values = "SELECT {x} AS x LIMIT 1", {"x": "a"}
    for hook in (PostHogHook(), PostHogSqlHook()):
        assert [list(row) for row in hook.get_records(sql=sql, parameters=values)] == [["a"]]
        assert list(hook.get_first(sql=sql, parameters=values)) == ["a"]
        assert hook.get_df(sql=sql, parameters=values)["x"].tolist() == ["a"]
        assert hook.query(query=sql, values=values) == [{"x": "a"}]
    assert not hasattr(PostHogHook, "run"), "it is Airflow's, on the hook that is Airflow's"


def test_the_rest_of_posthog_is_there_too(connected: EmulatorProcess) -> None:
    from airflow_provider_posthog.api import projects

    hook = PostHogSqlHook()
    assert hook.send(projects.me())["uuid"]
    assert hook.client is hook.client
    assert hook.query("SELECT 1 AS one;") == [{"one": 1}]
    with pytest.raises(PostHogSettingsError, match="second argument"):
        hook.run("SELECT {x}", {"x": 1})  # type: ignore[arg-type]


def test_run_with_handlers(connected: EmulatorProcess) -> None:
    hook = PostHogSqlHook()
    two = "SELECT 1 AS a; -- the first; of two\nSELECT 'x;y' AS b, {v} AS c /* ; */;\n-- no more\n"
    assert hook.run("SELECT 1") is None
    assert hook.run("SELECT 1;", handler=fetch_all_handler) == [(1,)]
    assert hook.run(two, handler=fetch_all_handler, split_statements=True, parameters={"v": 2}) == [("x;y", 2)]
    assert hook.last_description is not None
    assert [column[:2] for column in hook.last_description] == [("b", "String"), ("c", "UInt8")]
    both = hook.run(two, handler=fetch_one_handler, split_statements=True, return_last=False, parameters={"v": 2})
    assert both == [(1,), ("x;y", 2)]
    assert len(hook.descriptions) == 2
    with pytest.raises(PostHogSettingsError, match="holds 2 statements"):
        hook.run(two, handler=fetch_all_handler)
    for nothing in ("", " ;\n-- nothing;"):
        with pytest.raises(ValueError, match=r"empty|holds 0 statements"):
            hook.run(nothing)


def test_a_backslash_at_the_end_of_a_text_is_text() -> None:
    """Airflow's own splitter takes the rest of the statements for text."""
    assert PostHogSqlHook.split_sql_string(r"SELECT 'a\\'; SELECT ';'") == [r"SELECT 'a\\'", "SELECT ';'"]


PIECES = [
    "SELECT",
    "'a;b'",
    r"'it\'s; x'",
    "'it''s;'",
    r"'\\'",
    '"a;"',
    "`;`",
    "-- c';\n",
    "/* ;' */",
    " \n",
    "{x}",
    "(1)",
]


@given(st.lists(st.lists(st.sampled_from(PIECES)).map(" ".join), max_size=5))
def test_statements_are_split_at_their_own_semicolons_only(written: list[str]) -> None:
    said = [one.strip() for one in written if re.sub(r"--.*\n|/\*.*?\*/|\s", "", one)]
    assert statements(";".join(written)) == said


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO events VALUES (1)",
        " -- harmless\n insert into events select 1",
        "/* x */ (DELETE FROM events)",
        "Drop table events;",
        "UPDATE events SET event = 'x'",
    ],
)
def test_what_writes_is_refused_before_anything_is_sent(connected: EmulatorProcess, sql: str) -> None:
    hook = PostHogSqlHook()
    for refused in (hook.run, hook.get_records, hook.get_first, hook.get_df):
        with pytest.raises(PostHogSettingsError, match="HogQL has SELECT"):
            refused(sql)
    assert connected.calls() == []


def test_other_ways_to_write_are_refused(connected: EmulatorProcess, tmp_path: Path) -> None:
    hook = _hook()
    for refused in (
        lambda: hook.insert_rows("events", [(1,)], ["a"], executemany=True),
        lambda: hook.bulk_load("events", str(tmp_path / "x")),
        lambda: hook.bulk_dump("events", str(tmp_path / "x")),
        lambda: hook.get_cursor().executemany("SELECT 1", [{}]),
        lambda: hook.get_sqlalchemy_engine(),
        lambda: hook.inspector,
    ):
        with pytest.raises(PostHogSettingsError):
            refused()
    assert connected.calls() == []


@pytest.mark.parametrize("columns", [None, ["event"]])
def test_inserting_rows_says_that_hogql_only_reads(connected: EmulatorProcess, columns: list[str] | None) -> None:
    """Also where Airflow asks for the table's columns first, by SQLAlchemy."""
    from airflow.providers.common.sql.operators.sql import SQLInsertRowsOperator

    task = SQLInsertRowsOperator(task_id="t", conn_id=CONN, table_name="events", rows=[("a",)], columns=columns)
    with pytest.raises(PostHogSettingsError, match=r"HogQL (only reads|has SELECT, and nothing that writes)"):
        task.execute({})


def test_names_that_look_like_writing_are_none(connected: EmulatorProcess) -> None:
    assert PostHogSqlHook().get_first("WITH 1 AS delete SELECT 'insert into' AS x, delete") == ("insert into", 1)


def test_rows_that_posthog_cut_can_not_be_taken_for_all(connected: EmulatorProcess) -> None:
    hook = PostHogSqlHook()
    many = "SELECT uuid FROM events"
    assert hook.get_first(many) is not None
    for read in (hook.get_records, hook.get_df, lambda sql: hook.run(sql, handler=list)):
        with pytest.raises(PostHogIncompleteError, match="cut the answer at 100"):
            read(many)
    cursor = hook.get_cursor()
    cursor.execute(many)
    assert cursor.rowcount == -1
    assert len(cursor.fetchmany(60) + cursor.fetchmany(40)) == 100
    with pytest.raises(PostHogIncompleteError):
        cursor.fetchone()
    assert len(hook.get_records(f"{many} LIMIT 150")) == 150
    with pytest.raises(PostHogIncompleteError, match="cut the answer at 50000"):
        hook.get_records("SELECT number FROM numbers(60000) LIMIT 60000")


@pytest.mark.parametrize("read", ["records", "first", "df", "run", "cursor"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 UNION ALL SELECT 2",
        "(SELECT 1) UNION ALL (SELECT 2) LIMIT 5;",
        "SELECT 1 LIMIT 9 EXCEPT SELECT 2",
    ],
)
def test_selects_that_posthog_could_cut_unseen_are_never_sent(connected: EmulatorProcess, read: str, sql: str) -> None:
    hook = PostHogSqlHook()
    reads: dict[str, Callable[[str], Any]] = {
        "records": hook.get_records,
        "first": hook.get_first,
        "df": hook.get_df,
        "run": lambda sql: hook.run(sql, handler=fetch_all_handler),
        "cursor": hook.get_conn().cursor().execute,
    }
    with pytest.raises(PostHogSettingsError, match="SELECT \\* FROM"):
        reads[read](sql)
    assert _statements(connected) == []


def test_a_cursor_takes_a_limit_of_each_select_for_what_was_asked_for(connected: EmulatorProcess) -> None:
    cursor = PostHogSqlHook().get_conn().cursor()
    cursor.execute("SELECT number FROM numbers(5) LIMIT 3 UNION ALL SELECT number FROM numbers(5) LIMIT 9")
    assert cursor.rowcount == len(cursor.fetchall()) == 8


def test_a_cached_answer_is_none(connected: EmulatorProcess) -> None:
    connected.faults(path="*/query/", status=200, body={"results": [[1]], "columns": ["n"], "is_cached": True})
    with pytest.raises(PostHogJobFailed, match="cache"):
        PostHogSqlHook().get_first("SELECT 1 AS n")


def test_the_cursor_is_one_of_pep_249(connected: EmulatorProcess) -> None:
    connection = PostHogSqlHook().get_conn()
    cursor = connection.cursor()
    assert (cursor.description, cursor.rowcount, cursor.arraysize) == (None, -1, 1)
    for early in (cursor.fetchone, cursor.fetchmany, cursor.fetchall):
        with pytest.raises(PostHogSettingsError, match="execute"):
            early()
    assert cursor.execute("SELECT number AS n, toDate('2026-01-01') AS d FROM numbers({c})", {"c": 5}) is cursor
    assert cursor.description is not None
    assert [len(column) for column in cursor.description] == [7, 7]
    assert [column[0] for column in cursor.description] == ["n", "d"]
    assert cursor.description[0][1] == "UInt64"
    assert "Date" in str(cursor.description[1][1])
    assert cursor.rowcount == 5
    assert cursor.fetchone() == (0, "2026-01-01")
    assert [row[0] for row in cursor.fetchmany(2)] == [1, 2]
    assert [row[0] for row in cursor] == [3, 4]
    assert (cursor.fetchone(), cursor.fetchmany(2), cursor.fetchall()) == (None, [], [])
    cursor.execute(NOTHING)
    assert (cursor.rowcount, cursor.fetchall()) == (0, [])
    assert [column[0] for column in cursor.description] == ["event"]
    connection.commit()
    connection.rollback()
    cursor.close()
    connection.close()
    assert cursor.description is None


def test_bound_values_are_used_once(connected: EmulatorProcess) -> None:
    cursor = PostHogSqlHook().get_cursor()
    cursor.bind({"x": 1})
    assert cursor.execute("SELECT {x}").fetchall() == [(1,)]
    with pytest.raises(PostHogValidationError):
        cursor.execute("SELECT {x}")


def test_values_of_python(connected: EmulatorProcess) -> None:
    moment = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=-5)))
    uuid = UUID("01a1671f-c770-72d4-a3e8-917aebd615d9")
    (row,) = PostHogSqlHook().get_records(
        "SELECT toDateTime({t}) = toDateTime('2026-01-01T17:00:00.000001Z'), toDate({d}), 'a' IN {l}, {u}, {n}",
        {"t": moment, "d": date(2026, 1, 2), "l": ("a", "b"), "u": uuid, "n": None},
    )
    assert row == (1, "2026-01-02", 1, str(uuid), None)


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        (("a",), "names for values"),
        ("a", "names for values"),
        ({"t": datetime(2026, 1, 1)}, "without an offset"),
        ({"t": [datetime(2026, 1, 1)]}, "without an offset"),
        ({"t": object()}, "JSON"),
        ({"t": Decimal("1.5")}, r"parameters\['t'\]: is a Decimal"),
        ({"t": [b"x"]}, r"parameters\['t'\]: .*JSON"),
        ({"t": timedelta(1)}, r"parameters\['t'\]: .*JSON"),
        ({"t": float("nan")}, r"parameters\['t'\]: .*JSON"),
    ],
)
def test_values_that_can_not_be_sent(connected: EmulatorProcess, parameters: Any, word: str) -> None:
    with pytest.raises(PostHogSettingsError, match=word):
        PostHogSqlHook().get_records("SELECT {t}", parameters)
    assert connected.calls() == []
    assert PostHogSqlHook().get_records("SELECT 1", ()) == [(1,)]


def test_data_frames(connected: EmulatorProcess) -> None:
    hook = PostHogSqlHook()
    sql, values = "SELECT number AS n, now() AS t FROM numbers(5) WHERE number >= {from};", {"from": 1}
    for frame in (
        hook.get_df(sql, values),
        hook.get_df(sql=sql, parameters=values),
        hook.get_pandas_df(sql, values),
    ):
        assert frame["n"].tolist() == [1, 2, 3, 4]
        assert {name: str(kind) for name, kind in frame.dtypes.items()} == {"n": "Int64", "t": "datetime64[us, UTC]"}
    for chunks in (
        hook.get_df_by_chunks(sql, values, chunksize=3),
        hook.get_pandas_df_by_chunks(sql, values, chunksize=3),
    ):
        assert [chunk["n"].tolist() for chunk in chunks] == [[1, 2, 3], [4]]
    with pytest.raises(PostHogSettingsError, match="df_type"):
        hook.get_df(sql, values, df_type="arrow")
    for size in (0, -1, 1.5, True):
        with pytest.raises(PostHogSettingsError, match="chunksize"):
            hook.get_df_by_chunks(sql, values, chunksize=size)  # type: ignore[arg-type]


BROKEN: dict[str, dict[str, Any]] = {
    "no_results": {"columns": ["a"]},
    "rows_of_dicts": {"results": [{"a": 1}], "columns": ["a"]},
    "no_columns": {"results": [[1]]},
    "columns_of_numbers": {"results": [[1]], "columns": [1]},
    "short_row": {"results": [[1, 2], [1]], "columns": ["a", "b"]},
    "error_inside": {"results": [[1]], "columns": ["a"], "error": "Unknown table"},
    "status_error": {"results": [[1]], "columns": ["a"], "query_status": {"error": True, "error_message": "x"}},
}


@pytest.fixture
def scripted(
    connected: EmulatorProcess, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    conn = json.loads(connected.airflow_connection_json()) | {"host": server.url}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    return lambda **answer: server.script(ok(answer))


@pytest.mark.parametrize("case", BROKEN)
def test_broken_answers_are_our_errors(scripted: Callable[..., None], case: str) -> None:
    scripted(**BROKEN[case])
    for method in ("get_records", "get_first"):
        with pytest.raises(PostHogError):
            getattr(PostHogSqlHook(), method)("SELECT 1")


@pytest.mark.parametrize("types", [None, [], "x", [["a", "Int64"]], [1, 2], [["a"], ["b"]]])
def test_answers_without_types_have_columns_all_the_same(scripted: Callable[..., None], types: Any) -> None:
    scripted(results=[[1, "x"]], columns=["a", "b"], types=types)
    cursor = PostHogSqlHook().get_cursor().execute("SELECT 1")
    assert [column[:2] for column in cursor.description] == [("a", None), ("b", None)]
    assert cursor.fetchall() == [(1, "x")]


# the page


def _blocks() -> list[str]:
    """The page's examples; tasks outside a DAG are called in tests/airflow/test_code_blocks_run.py."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return [code for code in blocks if "@task" not in code or "with DAG" in code]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("number", range(len(_blocks())))
def test_the_examples_of_the_page_run(connected: EmulatorProcess, run_dag: Callable[..., Any], number: int) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    code = _blocks()[number]
    if importlib.util.find_spec("airflow.sdk") is None:  # Airflow 2, as the page says
        code = code.replace("from airflow.sdk import DAG", "from airflow import DAG")
    exec(compile(code, f"{DOCS.name}, block {number + 1}", "exec"), names)
    if "dag" in names:
        yesterday = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
        states = task_states(run_dag(names["dag"], **when(yesterday)))
        assert len(states) > 3
        assert set(states.values()) == {"success"}
    assert connected.calls("/query/")
