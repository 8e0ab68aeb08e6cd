"""Queries read in bulk: no column, no row without a time, and no hour of a day of 25 is lost without an error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogServerError, PostHogSettingsError
from airflow_provider_posthog.extract import page_size, sources
from airflow_provider_posthog.extract.reader import Extraction
from tests.extract.reading import SECOND, UTC, Middleman, Told, column, envelope, event, full, read

DAY = timedelta(days=1)
START = datetime(2012, 1, 1, tzinfo=UTC)
NUMBERS = "SELECT number AS id, toString(number) AS text FROM numbers(7)"


def is_bare(sql: str) -> bool:
    return "AS source" not in sql


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT number AS id, number * 100 FROM numbers(3)", r"multiply\(number, 100\)"),
        ("SELECT number AS id, 1, 'x' FROM numbers(3)", "1, '...'"),
        ("SELECT number AS id, number = 2 FROM numbers(3)", r"equals\(number, 2\)"),
        ("SELECT 1", "1"),
        ("(SELECT number AS id, number + 1 FROM numbers(3)) UNION ALL (SELECT 7 AS id, 1 AS n)", "plus"),
        ("WITH few AS (SELECT number FROM numbers(3)) SELECT number AS id, number + 1 FROM few -- so", "plus"),
    ],
)
def test_a_column_without_a_name_is_refused_by_what_it_is(settings: ClientSettings, sql: str, names: str) -> None:
    with pytest.raises(PostHogSettingsError, match=rf"query: has columns without a name.* {names}.*Write AS"):
        read(settings, sources.hogql(sql, key="id"), START, START + DAY)


CALLS = [
    "SELECT number AS id, count() FROM numbers(3) GROUP BY number",
    "SELECT event AS id, count(), max(timestamp) FROM events GROUP BY event ORDER BY event LIMIT 9",
    "SELECT number AS id, count() FROM numbers(3) GROUP BY number UNION ALL SELECT 7 AS id, 1 AS n",
]


@pytest.mark.parametrize("sql", [*CALLS, "SELECT count() FROM numbers(3)"])
def test_calls_have_no_name_on_older_servers(rows: EmulatorProcess, settings: ClientSettings, sql: str) -> None:
    rows.settings(generation="A")
    with pytest.raises(PostHogSettingsError, match=r"query: has columns without a name.* count\(\).*Write AS"):
        read(settings, sources.hogql(sql, key="id"), START, START + DAY)


@pytest.mark.parametrize("sql", CALLS)
def test_calls_are_named_by_newer_servers_and_come(settings: ClientSettings, sql: str) -> None:
    found = read(settings, sources.hogql(sql, key="id"), START, START + DAY)
    assert {"id", "count()"} <= set(found[0].table.column_names)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT uuid AS id, properties.email, person.properties.email FROM events",
        "SELECT a.number, b.number FROM numbers(3) AS a JOIN numbers(3) AS b ON a.number = b.number",
        "SELECT uuid AS id, e.*, p.* FROM events AS e JOIN persons AS p ON e.person_id = p.id",
        "SELECT number, number FROM numbers(3)",
    ],
)
def test_columns_of_one_name_are_refused(settings: ClientSettings, sql: str) -> None:
    with pytest.raises(PostHogSettingsError, match=r"of one name.*: .*(email|number|created_at).*Write AS"):
        read(settings, sources.hogql(sql, key="id"), START, START + DAY)


@pytest.mark.parametrize("name", ["posthog_key", "posthog_time", "posthog_key_0"])
def test_a_column_named_as_the_readers_own_is_refused(settings: ClientSettings, man: Middleman, name: str) -> None:
    sql = f"SELECT number AS id, number AS {name}, now() AS at FROM numbers(3)"
    with pytest.raises(PostHogSettingsError, match=f"query: has a column {name}, a name that the reader uses"):
        read(settings, sources.hogql(sql, key="id", time_column="at"), START, START + DAY)
    with pytest.raises(PostHogSettingsError, match=f"{name}', which cannot be"):
        sources.events({"uuid": "uuid", name: "event"})


def test_a_text_in_a_column_without_a_name_is_not_shown(settings: ClientSettings) -> None:
    sql = "SELECT number AS id, concat('jane@example.com', 'Jane''s') = toString(number) FROM numbers(3)"
    with pytest.raises(PostHogSettingsError, match="query") as raised:
        read(settings, sources.hogql(sql, key="id"), START, START + DAY)
    assert "ane" not in str(raised.value)


def test_a_server_that_leaves_out_another_column_of_a_query_is_refused(
    settings: ClientSettings, man: Middleman
) -> None:
    """Whatever the reason is: the columns of the query itself are what must come."""

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        if not is_bare(sql):
            answer = {**answer, **{part: answer[part][1:] for part in ("columns", "types")}}
            answer["results"] = [row[1:] for row in answer["results"]]
        return status, answer

    man.rule = rule
    with pytest.raises(PostHogSettingsError, match=r"query: .*: id"):
        read(settings, sources.hogql(NUMBERS, key="id"), START, START + DAY)


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        (NUMBERS, 7),
        ("SELECT 'a' AS id, 'b' AS ID, 'c' AS `i d`", 1),
        (
            "SELECT number AS id, count() AS n FROM numbers(9) WHERE number != 3 OR 1 = 1 "
            "GROUP BY id ORDER BY id LIMIT 5",
            5,
        ),
        ("SELECT number AS id FROM numbers(3) UNION ALL SELECT number + 5 AS id FROM numbers(4)", 7),
        ("(SELECT number AS id FROM numbers(3)) UNION ALL (SELECT number + 5 AS id FROM numbers(4))", 7),
        ("WITH a AS (SELECT number FROM numbers(4)) SELECT number AS id FROM a /* ; WHERE */ -- LIMIT 1", 4),
        ("SELECT number AS id FROM numbers(4) WHERE toString(number) IN ('1', ' WHERE ', '2') -- )", 2),
        ("SELECT id, row_number() OVER (ORDER BY id) AS n FROM (SELECT number AS id FROM numbers(6))", 6),
        ("SELECT * FROM (SELECT number AS id, 5 AS limit FROM numbers(3)) WHERE limit = 5", 3),
    ],
)
def test_a_query_whose_columns_have_names_is_read_whole(settings: ClientSettings, sql: str, count: int) -> None:
    assert len(column(read(settings, sources.hogql(sql, key="id"), START, START + DAY), "id")) == count


def test_the_columns_of_a_query_cost_one_question_without_rows(settings: ClientSettings, man: Middleman) -> None:
    shown = []

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        if is_bare(sql):
            shown.append(answer["results"])
        return status, answer

    man.rule = rule
    read(settings, sources.hogql(NUMBERS, key="id"), START, START + DAY)
    assert shown == [[]]
    assert len(man.asked) == 4, "its columns, the first look, the count, the page"


def test_a_query_that_can_not_be_asked_without_rows_is_asked_as_it_is(settings: ClientSettings, man: Middleman) -> None:
    man.rule = lambda sql, values, ask: (
        (400, envelope("syntax", "no viable alternative")) if "1 = 2" in sql and is_bare(sql) else ask()
    )
    assert len(column(read(settings, sources.hogql(NUMBERS, key="id"), START, START + DAY), "id")) == 7
    assert NUMBERS in man.asked


def test_a_query_whose_columns_can_not_be_asked_for_is_not_read(settings: ClientSettings, man: Middleman) -> None:
    man.rule = lambda sql, values, ask: (505, envelope("error", "No.")) if is_bare(sql) else ask()
    with pytest.raises(PostHogServerError, match="505"):
        read(settings, sources.hogql(NUMBERS, key="id"), START, START + DAY)


TIMES = (
    "SELECT number AS id, if(number % 5 = 0, {odd}, toDateTime({start}) + toIntervalSecond(number)) AS at "
    "FROM numbers(20)"
)


@pytest.mark.parametrize(
    ("odd", "values"),
    [
        ("NULL", {}),
        ("toDateTime({value})", {"value": "1969-12-31T23:59:59.999999Z"}),
        ("toDateTime({value})", {"value": "1925-01-01T00:00:00Z"}),
        ("toDateTime({value})", {"value": "2106-01-01T00:00:00Z"}),
        ("toDateTime({value})", {"value": "2299-12-31T00:00:00Z"}),
    ],
)
def test_rows_that_no_interval_would_hold_are_an_error_before_any_is_read(
    settings: ClientSettings, man: Middleman, odd: str, values: dict[str, str]
) -> None:
    sql = TIMES.replace("{odd}", odd)
    source = sources.hogql(sql, key="id", time_column="at", values={**values, "start": "2012-01-01T00:00:00Z"})
    with pytest.raises(PostHogIncompleteError, match=r"^4 rows of query have no time .*: at is null"):
        read(settings, source, START, START + DAY)
    assert not [each for each in man.asked if "ORDER BY at" in each]


@pytest.mark.parametrize("odd", ["2000-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2105-12-31T23:59:59Z"])
def test_rows_of_other_intervals_are_no_error(settings: ClientSettings, odd: str) -> None:
    sql = TIMES.replace("{odd}", "toDateTime({odd})")
    source = sources.hogql(sql, key="id", time_column="at", values={"start": "2012-01-01T00:00:00Z", "odd": odd})
    assert len(column(read(settings, source, START, START + DAY), "id")) == 16


def test_counts_in_halves_find_rows_without_a_time_too(settings: ClientSettings, man: Middleman) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        long = (
            "AS bucket" in sql
            and values["window_start"][:13] + values["window_end"][:13] == "2012-01-01T002012-01-02T00"
        )
        return (504, envelope("error", "too long")) if long else ask()

    man.rule = rule
    sql = TIMES.replace("{odd}", "NULL")
    source = sources.hogql(sql, key="id", time_column="at", values={"start": "2012-01-01T00:00:00Z"})
    with pytest.raises(PostHogIncompleteError, match="4 rows of query have no time"):
        read(settings, source, START, START + DAY)


@pytest.mark.parametrize("time", ["at", None])
def test_rows_without_a_key_are_an_error_before_any_is_read(
    settings: ClientSettings, man: Middleman, time: str | None
) -> None:
    sql = f"SELECT if(number = 3, NULL, number) AS id, toDateTime('{START:%Y-%m-%d}T00:00:00Z') AS at FROM numbers(9)"
    with pytest.raises(PostHogIncompleteError, match="have no key"):
        read(settings, sources.hogql(sql, key="id", time_column=time), START, START + DAY)
    assert not [each for each in man.asked if "ORDER BY toString" in each or "ORDER BY at" in each]


HOURS = """
SELECT toStartOfHour(timestamp) AS hour, event AS name, count() AS n FROM events
WHERE event = 'hourly' GROUP BY hour, name
"""


@pytest.mark.parametrize("key", ["hour", "toStartOfHour(hour)", ["hour", "name"], ["name", "hour"], ["hour"]])
@pytest.mark.parametrize("time", ["hour", None])
@pytest.mark.parametrize(
    ("zone", "back"), [("America/New_York", datetime(2026, 11, 1)), ("Europe/Berlin", datetime(2026, 10, 25))]
)
def test_the_hour_that_comes_twice_when_clocks_go_back_is_two_keys(
    rows: EmulatorProcess,
    settings: ClientSettings,
    man: Middleman,
    zone: str,
    back: datetime,
    time: str | None,
    key: Any,
) -> None:
    first = back.replace(tzinfo=UTC) - timedelta(hours=3)
    where = f"'hourly-{zone}'"
    rows.add_events([event(first + number * timedelta(minutes=30), name=where[1:-1]) for number in range(60)])
    rows.settings(timezone=zone)
    source = sources.hogql(HOURS.replace("'hourly'", where), key=key, time_column=time)
    chunks = read(settings, source, first, first + 2 * DAY, page_rows=7)
    found = column(chunks, "hour")
    assert len(found) == len(set(found)) == 30
    assert not [sql for sql in man.asked if "uniqExact" in sql], "the count was of the same keys"
    assert {row for row in column(chunks, "n")} <= {2 * times for times in range(1, 40)}


def test_a_null_in_one_part_of_a_key_is_a_value_of_its_own(settings: ClientSettings) -> None:
    sql = "SELECT nullIf(number % 2, 0) AS x, intDiv(number, 2) AS y FROM numbers(8)"
    assert column(read(settings, sources.hogql(sql, key=["x", "y"]), START, START + DAY), "x").count(None) == 4


def test_parts_of_a_key_are_kept_apart(settings: ClientSettings) -> None:
    pairs = "SELECT 'a:' AS x, 'b' AS y UNION ALL SELECT 'a' AS x, ':b' AS y UNION ALL SELECT '' AS x, 'a::b' AS y"
    chunks = read(settings, sources.hogql(pairs, key=["x", "y"]), START, START + DAY)
    assert sorted(column(chunks, "x")) == ["", "a", "a:"]


def test_long_rows_are_looked_at_few_at_a_time(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_size, "TARGET_BYTES", 6 * 1024 * 1024)
    rows.add_events([event(day + number * SECOND, text="x" * 200_000) for number in range(40)])
    sizes: list[int] = []

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        sizes.append(len(answer["results"]) if "properties" in sql else 0)
        return status, answer

    man.rule = rule
    assert len(column(read(settings, sources.events(), day, day + DAY))) == 40
    assert max(sizes) <= 33, "as many as fit into six megabytes"
    assert next(size for size in sizes if size) <= 10


def test_short_rows_are_as_long_as_they_are_whatever_stands_around_them(
    settings: ClientSettings, man: Middleman, rows: EmulatorProcess, day: datetime
) -> None:
    """The answer to the first look holds more than its few rows: the query, its plan, its times."""
    rows.add_events([event(day + number * SECOND) for number in range(50)])

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        return status, {**answer, "clickhouse": "x" * 10_000_000} if sql.endswith("LIMIT 10") else answer

    man.rule = rule
    (chunk,) = full(read(settings, sources.events(["uuid"]), day, day + DAY))
    assert chunk.rows == 50


@pytest.mark.parametrize(
    ("sql", "warned"),
    [
        ("SELECT number AS id FROM numbers(5) LIMIT 9", True),
        ("SELECT number AS id FROM numbers(5) ORDER BY id LIMIT 9", False),
        ("SELECT * FROM (SELECT number AS id FROM numbers(5) LIMIT 9) ORDER BY id", True),
        ("SELECT number AS id FROM numbers(5) ORDER BY id LIMIT 9 UNION ALL SELECT 7 AS id LIMIT 1", True),
        ("SELECT number AS id, row_number() OVER (ORDER BY number) AS n FROM numbers(5) LIMIT 9", True),
        ("SELECT number AS id, ' LIMIT 5' AS text FROM numbers(5) -- LIMIT 5", False),
    ],
)
def test_a_limit_without_an_order_is_warned_of_once(
    settings: ClientSettings, caplog: pytest.LogCaptureFixture, sql: str, warned: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        read(settings, sources.hogql(sql, key="id"), START, START + DAY, page_rows=2)
    assert [each.levelname for each in caplog.records if "ORDER BY" in each.message] == ["WARNING"] * warned


@pytest.mark.parametrize(
    ("columns", "where"),
    [
        ({"uuid": "uuid", "event": "upper(event)"}, "event = 'purchase'"),
        ({"uuid": "uuid", "event": "upper(event)"}, "`event` = 'purchase'"),
        ({"uuid": "uuid", "event": "upper(event)"}, 'lower("event") IN {names}'),
        ({"uuid": "uuid", "properties": "properties.a"}, "properties.b = 1"),
        ({"uuid": "uuid", "elements_chain": "1"}, "1 = 1 AND (elements_chain > {edge})"),
        ({"uuid": "uuid", "browser": "properties.$browser"}, "browser = 'Chrome'"),
    ],
)
def test_a_condition_on_a_name_that_columns_gives_to_something_else_is_refused(columns: Any, where: str) -> None:
    with pytest.raises(PostHogSettingsError, match=r"where: uses '\w+', which columns gives"):
        sources.events(columns, where=where)
    with pytest.raises(PostHogSettingsError, match=r"where: uses '\w+', which columns gives"):
        sources.persons({"id": "id", **{name: each for name, each in columns.items() if name != "uuid"}}, where=where)


@pytest.mark.parametrize(
    "where",
    [
        "timestamp > toDateTime({event})",
        "properties.event = 'event' -- event",
        "distinct_id != 'event' /* event */",
        "arrayExists(event -> event = 'd', [distinct_id])",
        "arrayExists((event, x) -> event = x, [distinct_id], [distinct_id])",
        "events.event = 'e'",
        "event('x') = 1",
    ],
)
def test_a_condition_that_only_looks_like_using_such_a_name_is_taken(where: str) -> None:
    source = sources.events({"uuid": "uuid", "event": "upper(event)"}, where=where)
    assert source.where == where


def test_a_condition_that_names_the_table_is_not_changed_by_columns(
    settings: ClientSettings, rows: EmulatorProcess, day: datetime
) -> None:
    rows.add_events([event(day, name="purchase"), event(day, name="other")])
    source = sources.events({"uuid": "uuid", "event": "upper(event)"}, where="events.event = 'purchase'")
    assert column(read(settings, source, day, day + DAY), "event") == ["PURCHASE"]


def test_the_columns_of_a_table_are_those_that_were_asked_for(
    settings: ClientSettings, man: Middleman, day: datetime
) -> None:
    man.rule = lambda sql, values, ask: (
        (200, {**ask()[1], "columns": ["uuid", "name", "posthog_time"]}) if sql.endswith("LIMIT 10") else ask()
    )
    with (
        Extraction(settings, sources.events(["uuid", "event"]), day, day + DAY) as extraction,
        pytest.raises(Exception, match="other columns than requested"),
    ):
        extraction.schema  # noqa: B018
