"""What was measured on a PostHog server of October 2024, line by line, against the emulator's HogQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_posthog.emulator.data.warehouse import HogQLError, QueryResult, Warehouse

START = datetime(2026, 11, 1, tzinfo=timezone.utc)
NEW_YORK = "America/New_York"


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    house = Warehouse(seed=3, events=3000, start=START, days=10)
    yield house
    house.close()


@pytest.fixture
def new_york(warehouse: Warehouse) -> Iterator[Warehouse]:
    warehouse.timezone = NEW_YORK
    yield warehouse
    warehouse.timezone = "UTC"


def cell(result: QueryResult) -> object:
    return result.rows[0][0]


def refused(warehouse: Warehouse, hogql: str, **values: object) -> HogQLError:
    with pytest.raises(HogQLError) as caught:
        warehouse.query(hogql, values)
    assert caught.value.status == 400
    return caught.value


# -- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", NEW_YORK, "Asia/Kolkata"])
def test_to_date_time_reads_iso_text_exactly_in_every_zone(warehouse: Warehouse, zone: str) -> None:
    warehouse.timezone = zone
    try:
        result = warehouse.query("select toDateTime('2026-11-21T23:09:32.667117Z') as t")
    finally:
        warehouse.timezone = "UTC"
    assert result.types == [("t", f"Nullable(DateTime64(6, '{zone}'))")]
    assert datetime.fromisoformat(str(cell(result)).replace("Z", "+00:00")) == datetime(
        2026, 11, 21, 23, 9, 32, 667117, timezone.utc
    )


def test_a_literal_without_zone_is_read_in_the_projects_zone(new_york: Warehouse) -> None:
    assert cell(new_york.query("select toDateTime('2026-11-21 23:09:32.667117')")) == "2026-11-21T23:09:32.667117-05:00"


@pytest.mark.parametrize(
    "call",
    [
        "toDateTime64('2026-01-01', 6, 'UTC')",
        "parseDateTime64BestEffort('2026-01-01')",
        "fromUnixTimestamp64Micro(1)",
        "toUnixTimestamp64Micro(now())",
        "now64()",
    ],
)
def test_functions_the_old_server_does_not_have(old: Warehouse, call: str) -> None:
    error = refused(old, f"select {call}")
    assert error.detail.startswith(f"Unsupported function call '{call.partition('(')[0]}(...)'. Perhaps you meant '")


def test_the_hint_for_to_date_time64_and_newer_servers(warehouse: Warehouse, old: Warehouse) -> None:
    query = "select toDateTime64('2026-01-01 00:00:00', 6, 'UTC')"
    assert refused(old, query).detail == (
        "Unsupported function call 'toDateTime64(...)'. Perhaps you meant 'toDateTime(...)'?"
    )
    warehouse.newer_functions = True
    assert cell(warehouse.query(query)) == "2026-01-01T00:00:00Z"
    assert cell(warehouse.query("select toDateTimeUS('01/02/2026')")) == "2026-01-02T00:00:00Z"


@pytest.mark.parametrize("column", ["created_at", "timestamp"])
def test_a_time_compared_with_iso_text(warehouse: Warehouse, column: str) -> None:
    error = refused(warehouse, f"select count() from events where {column} > '2026-11-21T23:09:32.667117Z'")
    assert error.code == "type_mismatch"
    keyset = f"select count() from events where ({column}, toString(uuid)) > ({{t}}, {{u}})"
    assert refused(warehouse, keyset, t="2026-11-21T23:09:32.667117Z", u="x").code == "type_mismatch"


def test_times_carry_the_projects_offset(new_york: Warehouse) -> None:
    result = new_york.query("select created_at, timestamp from events order by timestamp limit 1")
    assert result.types == [(name, f"DateTime64(6, '{NEW_YORK}')") for name in ("created_at", "timestamp")]
    assert all(str(value).endswith("-04:00") for value in result.rows[0])
    # three days on, summer time has ended
    later = new_york.query("select max(timestamp) from events")
    assert str(cell(later)).endswith("-05:00")


def test_start_of_day_is_utc_without_saying_so(new_york: Warehouse) -> None:
    result = new_york.query(
        "select toStartOfDay(toDateTime('2026-11-21T13:00:00Z')), toStartOfDay(timestamp) from events"
    )
    assert result.rows[0][0] == "2026-11-21T05:00:00"
    assert result.types[1][1] == "DateTime"


def test_to_date(warehouse: Warehouse) -> None:
    result = warehouse.query("select toDate('2026-01-01') as d")
    assert (cell(result), result.types) == ("2026-01-01", [("d", "Nullable(Date)")])


@pytest.mark.parametrize("week", ["toIntervalDay(7)", "INTERVAL 7 DAY"])
def test_a_week_back(warehouse: Warehouse, week: str) -> None:
    moment = START + timedelta(days=9)
    result = warehouse.query(
        f"select count() from events where timestamp >= toDateTime({{t}}) - {week}", {"t": moment.isoformat()}
    )
    assert cell(result) == warehouse.count_events(moment - timedelta(days=7), START + timedelta(days=99)) > 0


# -- pages ---------------------------------------------------------------------------------------------------------


def test_keyset_pages_exclude_the_edge(warehouse: Warehouse) -> None:
    ordered = "select toString(uuid) as u, created_at from events order by created_at, toString(uuid) limit 10"
    rows = warehouse.query(ordered).rows
    page = warehouse.query(
        "select toString(uuid) from events where (created_at, toString(uuid)) > (toDateTime({t}), {u}) "
        "order by created_at, toString(uuid) limit 3",
        {"t": rows[4][1], "u": rows[4][0]},
    )
    assert [row[0] for row in page.rows] == [row[0] for row in rows[5:8]]


def test_uuid_and_its_text_have_different_orders(warehouse: Warehouse) -> None:
    by_uuid = warehouse.query("select toString(uuid) from events order by uuid limit 50").rows
    by_text = warehouse.query("select toString(uuid) from events order by toString(uuid) limit 50").rows
    assert by_text == sorted(by_text)
    assert by_uuid != by_text


def test_without_limit(warehouse: Warehouse) -> None:
    result = warehouse.query("select uuid from events")
    assert (len(result.rows), result.has_more, result.limit, result.offset) == (100, True, 100, 0)
    few = warehouse.query("select number from numbers(100)")
    assert (len(few.rows), few.has_more, few.limit, few.offset) == (100, False, 100, 0)


@pytest.mark.parametrize(("limit", "rows"), [(60_000, 50_000), (50_000, 50_000), (7, 7), (0, 0)])
def test_a_limit_is_cut_without_a_hint(warehouse: Warehouse, limit: int, rows: int) -> None:
    result = warehouse.query(f"select number from numbers(70000) limit {limit}")
    assert (len(result.rows), result.has_more, result.limit, result.offset) == (rows, None, None, None)


@pytest.mark.parametrize(
    ("tail", "rows", "has_more"), [("", 50_000, True), (" limit 60000", 60_000, None), (" limit 400000", 300_000, None)]
)
def test_limits_of_exports(warehouse: Warehouse, tail: str, rows: int, has_more: bool | None) -> None:
    result = warehouse.query(f"select number from numbers(310000){tail}", limit_context="export")
    assert (len(result.rows), result.has_more) == (rows, has_more)


@pytest.mark.parametrize(
    "query",
    [
        "select uuid from events limit 2 offset 3",
        "select uuid from events limit 3, 2",
        "select * from (select uuid from events limit 2 offset 3) as q",
        "select 1 union all select number from numbers(5) limit 1 offset 1",
        "select uuid from events limit 1 offset 1 by event",
        "with x as (select uuid from events offset 1) select count() from x",
    ],
)
def test_offset_is_refused_for_personal_keys(warehouse: Warehouse, query: str) -> None:
    assert refused(warehouse, query).detail.startswith(
        "OFFSET is not supported on queries made with a personal API key."
    )
    warehouse.query(query, personal_api_key=False)


def test_offset_of_the_old_server(old: Warehouse) -> None:
    result = old.query("select number from numbers(9) limit 2 offset 3")
    assert result.rows == [[3], [4]]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 as inf",
        "SELECT 1 as nan",
        "SELECT",
        "",
        "SELECT 1 FROM",
        "SELECT (1",
        "SELECT 'open",
        "INSERT INTO events SELECT 1",
        "DROP TABLE events",
        "SHOW TABLES",
        "SELECT 1 SETTINGS max_threads=1",
        "SELECT 1 FORMAT JSON",
        "SELECT 1 INTO OUTFILE '/tmp/x'",
    ],
)
def test_texts_that_are_no_hogql(warehouse: Warehouse, query: str) -> None:
    assert refused(warehouse, query).code == "invalid_input"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1;",
        "SELECT uuid FROM events LIMIT 1 BY event LIMIT 5",
        "SELECT count() c FROM events",
        "SELECT 1 UNION SELECT 2",
        "SELECT 1 INTERSECT SELECT 2",
        "(SELECT 1) UNION ALL (SELECT 2) LIMIT 3",
        "SELECT CAST(1 AS String)",
        "SELECT 1::int",
        "SELECT number FROM numbers(3) WHERE number BETWEEN 1 AND 2",
        "SELECT * EXCLUDE (uuid) FROM events",
        "SELECT 1 IS DISTINCT FROM 2",
        "WITH a AS (SELECT 1) (SELECT * FROM a)",
        "SELECT 1 # comment",
        "SELECT <a>b</a>",
    ],
)
def test_what_only_newer_servers_read(old: Warehouse, query: str) -> None:
    assert refused(old, query).code == "invalid_input"
    old.newer_functions = True
    old.query(query)


def test_the_error_about_a_semicolon(old: Warehouse) -> None:
    assert refused(old, "select 1;").detail == "no viable alternative at input 'select 1;'"


@pytest.mark.parametrize("query", ["select 1 -- comment", "select /* here; */ 1", "select 1 // so"])
def test_comments(warehouse: Warehouse, query: str) -> None:
    assert warehouse.query(query).rows == [[1]]


def test_with(warehouse: Warehouse) -> None:
    assert warehouse.query("WITH x AS (SELECT uuid FROM events) SELECT count() FROM x").rows == [[3000]]
    assert warehouse.query("WITH 5 AS five SELECT five + 1 FROM events LIMIT 1").rows == [[6]]
    two = "WITH a AS (SELECT event FROM events), b AS (SELECT * FROM a) SELECT count() FROM b AS c"
    assert warehouse.query(two).rows == [[3000]]


def test_splitting_a_crowded_moment(warehouse: Warehouse) -> None:
    result = warehouse.query("select cityHash64(toString(uuid)) % 4 as part, count() from events group by part")
    assert sorted(int(str(row[0])) for row in result.rows) == [0, 1, 2, 3]
    assert sum(int(str(row[1])) for row in result.rows) == 3000


# -- values and types ----------------------------------------------------------------------------------------------


def test_any_text_comes_back(warehouse: Warehouse) -> None:
    text = "it's \\ \" {y} 💥"
    assert warehouse.query("select {x}", {"x": text}).rows == [[text]]


def test_lists_as_values(warehouse: Warehouse) -> None:
    many = warehouse.query("select count() from events where event in {l}", {"l": ["$pageview", "x"]})
    assert cell(many) == cell(warehouse.query("select countIf(event = '$pageview') from events"))
    assert warehouse.query("select {l} as l", {"l": [1, 2]}).rows == [[[1, 2]]]


def test_unknown_placeholders(warehouse: Warehouse) -> None:
    assert refused(warehouse, "select {y}").detail == "Unresolved placeholder: {y}"
    assert "{y}" in refused(warehouse, "select {y}", x=1).detail
    assert cell(warehouse.query("select count() from events where {filters}")) == 3000


@pytest.mark.parametrize("number", [9007199254740993, 18446744073709551615, -9223372036854775808])
def test_big_integers_are_bare(warehouse: Warehouse, number: int) -> None:
    assert warehouse.query(f"select {number}").rows == [[number]]
    assert warehouse.query("select {n}", {"n": number}).rows == [[number]]


def test_true_is_one(warehouse: Warehouse) -> None:
    result = warehouse.query("select true as t, false as f")
    assert (result.rows, result.types) == ([[1, 0]], [("t", "UInt8"), ("f", "UInt8")])


def test_an_absent_property(warehouse: Warehouse) -> None:
    result = warehouse.query("select properties.$nope from events limit 1")
    assert (result.columns, result.rows) == (["$nope"], [[None]])
    assert result.types == [("$nope", "Nullable(String)")]


def test_properties_are_json_text(warehouse: Warehouse) -> None:
    text = cell(warehouse.query("select properties from events limit 1"))
    assert isinstance(text, str)
    assert text.startswith('{"$lib":')


def test_the_columns_of_star(warehouse: Warehouse) -> None:
    events = warehouse.query("select * from events limit 1").columns
    assert events[:5] == ["uuid", "event", "properties", "timestamp", "distinct_id"]
    assert {"team_id", "person_id", "inserted_at", "_timestamp", "person"}.isdisjoint(events)
    assert warehouse.query("select * from persons").columns == ["id", "created_at", "properties", "is_identified"]
    assert warehouse.query("select * from person_distinct_ids").columns == ["distinct_id", "person_id"]
    assert warehouse.query("select created_at from persons").types == [("created_at", "DateTime64(3, 'UTC')")]


@pytest.mark.parametrize(
    "table",
    ["groups", "cohort_people", "raw_session_replay_events", "sessions", "persons", "person_distinct_ids", "events"],
)
def test_every_table_answers(warehouse: Warehouse, table: str) -> None:
    result = warehouse.query(f"select * from {table}")
    assert len(result.columns) == len(result.types) > 1
    assert all(len(row) == len(result.columns) for row in result.rows)


@pytest.mark.parametrize("name", ["nope", "inserted_at", "_timestamp", "`a b`", "team"])
def test_unknown_fields(warehouse: Warehouse, name: str) -> None:
    assert refused(warehouse, f"select {name} from events").detail == f"Unable to resolve field: {name.strip('`')}"


def test_unknown_tables_of_the_old_server(old: Warehouse) -> None:
    assert refused(old, "select * from system.tables").detail == 'Unknown table "system".'


@pytest.mark.parametrize("table", ["nope", "url('http://x')", "file('/etc/passwd')", "numbers"])
def test_unknown_tables(warehouse: Warehouse, table: str) -> None:
    detail = refused(warehouse, f"select * from {table}").detail
    assert "numbers" in table or detail == f'Unknown table "{table.partition(".")[0].partition("(")[0]}".'


# -- the SQL of Airflow's check operators --------------------------------------------------------------------------


def test_sql_of_the_column_check_operator(warehouse: Warehouse) -> None:
    query = """
        SELECT 'event' AS col_name, 'null_check' AS check_type, event_null_check AS check_result
        FROM (SELECT SUM(CASE WHEN event IS NULL THEN 1 ELSE 0 END) AS event_null_check FROM events WHERE 1=1) AS sq
        UNION ALL
        SELECT 'event' AS col_name, 'distinct_check' AS check_type, event_distinct_check AS check_result
        FROM (SELECT COUNT(DISTINCT(event)) AS event_distinct_check FROM events WHERE 1=1) AS sq
        UNION ALL
        SELECT 'event' AS col_name, 'unique_check' AS check_type, event_unique_check AS check_result
        FROM (SELECT COUNT(event) - COUNT(DISTINCT(event)) AS event_unique_check FROM events) AS sq
    """
    result = warehouse.query(query)
    assert result.columns == ["col_name", "check_type", "check_result"]
    assert sorted(result.rows, key=str) == [
        ["event", "distinct_check", 10],
        ["event", "null_check", 0],
        ["event", "unique_check", 2990],
    ]


def test_sql_of_the_table_check_operator(warehouse: Warehouse) -> None:
    query = """
        SELECT 'row_count' AS check_name, MIN(row_count) AS check_result
        FROM (SELECT CASE WHEN COUNT(*) = 3000 THEN 1 ELSE 0 END AS row_count FROM events) AS sq
        UNION ALL
        SELECT 'late' AS check_name, MIN(late) AS check_result
        FROM (SELECT CASE WHEN timestamp <= created_at THEN 1 ELSE 0 END AS late FROM events WHERE 1=1) AS sq
    """
    assert sorted(warehouse.query(query).rows, key=str) == [["late", 1], ["row_count", 1]]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT MIN(1), MAX(2)", [[1, 2]]),
        ("SELECT count(*) FROM (SELECT 1 AS x UNION ALL SELECT 2 AS x) AS sq WHERE 1=1", [[2]]),
        ("SELECT CASE WHEN 1=2 THEN 'a' WHEN 2=2 THEN 'b' END", [["b"]]),
        ("SELECT CASE number WHEN 0 THEN 'zero' ELSE 'more' END FROM numbers(2)", [["zero"], ["more"]]),
        ("SELECT uniq(number), argMax(number, number), countIf(number > 3) FROM numbers(6)", [[6, 5, 2]]),
        ("""SELECT JSONExtractString('{"a":{"b":"c"}}', 'a', 'b'), JSONExtractInt('{"n":3}', 'n')""", [["c", 3]]),
        ("SELECT arrayJoin([3, 1, 2]) AS x ORDER BY x", [[1], [2], [3]]),
        ("SELECT arrayMap((a, b) -> a + b, [1, 2], [3, 4]), arrayFilter(x -> x > 1, [1, 2])", [[[4, 6], [2]]]),
        (
            "SELECT number, row_number() OVER (ORDER BY number DESC) AS r FROM numbers(2) ORDER BY number",
            [[0, 2], [1, 1]],
        ),
        (
            "SELECT sum(number) OVER w AS s FROM numbers(3) WINDOW w AS (ORDER BY number ROWS UNBOUNDED PRECEDING)",
            [[0], [1], [3]],
        ),
        ("SELECT number FROM numbers(9) LIMIT 1 BY number % 3", [[0], [1], [2]]),
        ("SELECT a.number FROM numbers(3) AS a JOIN numbers(2) AS b ON a.number = b.number ORDER BY 1", [[0], [1]]),
        ("SELECT 5 BETWEEN 1 AND 9, 5 NOT BETWEEN 1 AND 9, NOT 1 = 2, -3 % 2", [[1, 0, 1, -1]]),
        ("SELECT 'a' || 'b', concat('x', NULL, 1), NULL ?? 3, 1 ? 'y' : 'n'", [["ab", "x1", 3, "y"]]),
        ("SELECT 'abc' LIKE 'a%', 'abc' ILIKE 'A%', 'abc' =~ '^a', 'abc' !~ '^a', 'ABC' =~* 'b'", [[1, 1, 1, 0, 1]]),
        ("SELECT (1, 'a').2, [5, 6][2], tuple(1, (2, 3)).2.1", [["a", 6, 2]]),
        ("SELECT toFloat('1.50'), toInt('7'), toInt('x'), 24 / 2, round(2.5)", [[1.5, 7, None, 12.0, 2.0]]),
        ("SELECT x, y FROM (SELECT [1, 2] AS list, 'k' AS y) ARRAY JOIN list AS x", [[1, "k"], [2, "k"]]),
        ("SELECT 0x1F, 1e3, .5, 'it''s', 'tab\\tend'", [[31, 1000.0, 0.5, "it's", "tab\tend"]]),
        ("SELECT dateDiff('day', toDate('2026-01-01'), toDate('2026-02-01'))", [[31]]),
    ],
)
def test_expressions(warehouse: Warehouse, query: str, rows: list[list[object]]) -> None:
    result = warehouse.query(query)
    assert result.rows == rows
    assert [type(value) for row in result.rows for value in row] == [type(value) for row in rows for value in row]


def test_null_is_neither_lost_nor_found_by_accident(warehouse: Warehouse) -> None:
    counts = warehouse.query(
        "select count(), countIf(properties.plan != 'pro'), countIf(properties.plan = 'pro'), "
        "countIf(properties.plan is null), countIf(not (properties.plan = 'pro')) from events"
    ).rows[0]
    every, other, pro, absent, negated = (int(str(value)) for value in counts)
    assert 0 < pro < every
    assert absent > 0
    assert other == negated == every - pro


def test_joined_fields(warehouse: Warehouse) -> None:
    result = warehouse.query(
        "select person.properties.email, person_id, person.id, pdi.person_id, group_0.properties.name, "
        "session.$pageview_count from events where person.properties.email is not null and $group_0 != '' limit 1"
    )
    email, person, joined, through, group, views = result.rows[0]
    assert str(email).endswith("@example.invalid")
    assert person == joined == through
    assert str(group).startswith("Acme ")
    assert isinstance(views, int)


def test_counts_agree_with_the_truth_in_every_zone(warehouse: Warehouse) -> None:
    first, after = START + timedelta(days=2, hours=3), START + timedelta(days=5)
    truth = {column: warehouse.count_events(first, after, column) for column in ("timestamp", "created_at")}
    for zone in ("UTC", NEW_YORK, "Asia/Kathmandu", "Pacific/Auckland"):
        warehouse.timezone = zone
        for column, count in truth.items():
            query = f"select count() from events where {column} >= toDateTime({{a}}) and {column} < toDateTime({{b}})"
            values = {"a": first.isoformat().replace("+00:00", "Z"), "b": after.isoformat()}
            assert cell(warehouse.query(query, values)) == count > 0
    warehouse.timezone = "UTC"
