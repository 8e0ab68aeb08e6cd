"""HogQL of today's servers: what it answers, next to plain ClickHouse where both can say it, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import partial

import pytest

from airflow_provider_posthog.emulator.data.warehouse import HogQLError, Warehouse
from airflow_provider_posthog.emulator.hogql.catalog import Cohort
from airflow_provider_posthog.emulator.hogql.functions import functions
from airflow_provider_posthog.emulator.hogql.placeholders import _DRAWN, Dates
from airflow_provider_posthog.emulator.hogql.surveys import SURVEYS
from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql
from tests.support.every import failures

START = datetime(2026, 11, 1, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    house = Warehouse(seed=3, events=1500, start=START, days=5)
    known = house.execute("SELECT toString(id) AS id FROM {db}.persons WHERE is_identified = 1")
    house.own.add_cohort(Cohort(7, "Known people"), [str(each["id"]) for each in known])
    yield house
    house.close()


# -- the same answers as ClickHouse -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hogql", "clickhouse"),
    [
        ("SELECT 1 UNION SELECT 1 UNION ALL SELECT 2 ORDER BY 1", "SELECT arrayJoin([1, 2])"),
        ("SELECT number FROM numbers(5) EXCEPT SELECT 3", "SELECT arrayJoin([0, 1, 2, 4])"),
        ("SELECT number FROM numbers(5) INTERSECT SELECT number FROM numbers(2)", "SELECT arrayJoin([0, 1])"),
        (
            "(SELECT number FROM numbers(9)) UNION ALL (SELECT number FROM numbers(9)) LIMIT 3",
            "SELECT number FROM numbers(3)",
        ),
        ("WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION ALL SELECT x + 1 FROM a", "SELECT arrayJoin([1, 2])"),
        ("WITH a AS (SELECT 1 AS x) (SELECT x FROM a) UNION ALL (SELECT 2)", "SELECT arrayJoin([1, 2])"),
        (
            "WITH (SELECT count() FROM events) AS total SELECT count() = total FROM events",
            "SELECT 1",
        ),
        (
            "SELECT event, count() c FROM events GROUP BY ALL ORDER BY c DESC, event LIMIT 3",
            "SELECT event, count() FROM {db}.events GROUP BY event ORDER BY count() DESC, event LIMIT 3",
        ),
        (
            "SELECT properties['$browser'] AS b, count() FROM events GROUP BY b ORDER BY b",
            "SELECT JSONExtractString(properties, '$browser') AS b, count() FROM {db}.events GROUP BY b ORDER BY b",
        ),
        (
            "SELECT count() FROM events WHERE timestamp BETWEEN toDateTime('2026-11-02T00:00:00Z') "
            "AND toDateTime('2026-11-03T00:00:00Z')",
            "SELECT count() FROM {db}.events WHERE timestamp >= '2026-11-02 00:00:00' "
            "AND timestamp <= '2026-11-03 00:00:00'",
        ),
        ("SELECT interval + 1 FROM (SELECT 1 AS interval)", "SELECT 2"),
        (
            "SELECT count() FROM events WHERE properties['cart'].total = 3 OR properties?.cart?.total = 3 "
            "OR person.properties['$os'].x.1 = 'y'",
            "SELECT 0",
        ),
        ("SELECT f'{event}-{1 + 1}' FROM events LIMIT 1", "SELECT concat(event, '-2') FROM {db}.events LIMIT 1"),
        ("SELECT '12'::int + CAST('3' AS Int), 5::string", "SELECT 15, '5'"),
        ("SELECT [1, 2, 3][2:3], [1, 2, 3][:2], [1, 2, 3][2:]", "SELECT [2, 3], [1, 2], [2, 3]"),
        ("SELECT NULL <=> NULL, NULL <=> 1, 2 <=> 2", "SELECT 1, 0, 1"),
        ("SELECT NULL IS DISTINCT FROM 1, NULL IS NOT DISTINCT FROM NULL", "SELECT 1, 1"),
        ("SELECT EXISTS (SELECT 1), NOT EXISTS (SELECT 1 FROM numbers(3) WHERE number > 5)", "SELECT 1, 1"),
        (
            "SELECT number % 2 AS a, number FROM numbers(6) ORDER BY number LIMIT 1 BY a LIMIT 5",
            "SELECT number % 2, number FROM numbers(2)",
        ),
        (
            "SELECT count() FILTER (WHERE number > 2), sum(number) FILTER (WHERE number < 3) FROM numbers(5)",
            "SELECT 2, 3",
        ),
        ("SELECT CASE number WHEN 0 THEN 'a' ELSE 'b' END FROM numbers(2)", "SELECT arrayJoin(['a', 'b'])"),
        (
            "SELECT number AS n, count() FROM numbers(2) GROUP BY GROUPING SETS ((n), ()) ORDER BY n, 2",
            "SELECT number AS n, count() FROM numbers(2) GROUP BY GROUPING SETS ((n), ()) ORDER BY n, 2",
        ),
        (
            "SELECT number AS n, count() FROM numbers(2) GROUP BY ROLLUP(n) ORDER BY n, 2",
            "SELECT number AS n, count() FROM numbers(2) GROUP BY ROLLUP(n) ORDER BY n, 2",
        ),
        (
            "SELECT number * 2 AS n FROM numbers(3) ORDER BY n WITH FILL FROM 0 TO 5 STEP 1",
            "SELECT number FROM numbers(5)",
        ),
        ("SELECT number FROM numbers(10) ORDER BY number LIMIT 30%", "SELECT number FROM numbers(3)"),
        ("SELECT TRIM(LEADING 'x' FROM 'xxaxx'), trim(both 'x' from 'xxaxx')", "SELECT 'axx', 'a'"),
        ("SELECT a FROM (SELECT 1, 2) AS t(a, b)", "SELECT 1"),
        ("SELECT n FROM numbers(2) AS t(n)", "SELECT number FROM numbers(2)"),
        ("SELECT COLUMNS('^a') FROM (SELECT 1 AS a, 2 AS ab, 3 AS b)", "SELECT 1, 2"),
        ("SELECT * EXCLUDE (b) FROM (SELECT 1 AS a, 2 AS b, 3 AS c)", "SELECT 1, 3"),
        ("SELECT COLUMNS(* REPLACE (a + 1 AS a)) FROM (SELECT 1 AS a, 2 AS b)", "SELECT 2, 2"),
        (
            "SELECT sum(number) OVER (ORDER BY number RANGE BETWEEN 1 PRECEDING AND CURRENT ROW) FROM numbers(3)",
            "SELECT arrayJoin([0, 1, 3])",
        ),
        ("SELECT 1 ? 2 : 3, NULL ?? 4", "SELECT 2, 4"),
        ("SELECT count(); # a comment", "SELECT 1"),
        (
            "SELECT windowFunnel(10)(toDateTime(number), number = 1, number = 2) FROM numbers(5)",
            "SELECT 2",
        ),
        ("SELECT split_part('a,b', ',', 2), lpad('1', 3, '0'), date_part('month', toDateTime('2026-03-04'))",
         "SELECT 'b', '001', 3"),
        ("SELECT languageCodeToName('de'), languageCodeToName('??')", "SELECT 'German', 'Unknown'"),
        ("SELECT sortableSemVer('v1.20.3-beta'), sortableSemVer('1.9.0') < sortableSemVer('1.10.0')",
         "SELECT [1, 20, 3], 1"),
        ("SELECT uniqMerge(u) FROM (SELECT uniqState(number) AS u FROM numbers(9))", "SELECT 9"),
        (
            "SELECT number AS n, lag(n) OVER (ORDER BY n), lead(n, 1, 9) OVER (ORDER BY n), lag(n, 1) OVER w "
            "FROM numbers(3) WINDOW w AS (ORDER BY n DESC)",
            "SELECT t.1, t.2, t.3, t.4 FROM (SELECT arrayJoin([(0, NULL, 1, 1), (1, 0, 2, 2), (2, 1, 9, NULL)]) AS t)",
        ),
        (
            "SELECT number % 2 AS g, sum(count()) OVER (), avg(sum(number)) OVER (ORDER BY g ROWS 6 PRECEDING) "
            "FROM numbers(4) GROUP BY g",
            "SELECT t.1, t.2, t.3 FROM (SELECT arrayJoin([(0, 4, 2), (1, 4, 3)]) AS t)",
        ),
        (
            "SELECT percent_rank() OVER (ORDER BY number), cume_dist() OVER (ORDER BY number) FROM numbers(2)",
            "SELECT t.1, t.2 FROM (SELECT arrayJoin([(0, 0.5), (1, 1)]) AS t)",
        ),
        (
            "SELECT count() FROM events WHERE person_id IN COHORT 7",
            "SELECT count() FROM {db}.events WHERE person_id IN (SELECT id FROM {db}.persons WHERE is_identified = 1)",
        ),
        (
            "SELECT count() FROM persons WHERE id NOT IN COHORT 7",
            "SELECT count() FROM {db}.persons WHERE is_identified = 0",
        ),
    ],
)  # fmt: skip
def test_answers_are_clickhouses(warehouse: Warehouse, hogql: str, clickhouse: str) -> None:
    answer = warehouse.query(hogql).rows
    lines = warehouse.execute(f"SELECT toJSONString(tuple(*)) AS line FROM ({clickhouse})")
    expected = [json.loads(line["line"]) for line in lines]
    assert sorted(map(_plain, answer), key=str) == sorted(map(_plain, expected), key=str)


def _plain(row: object) -> list[object]:
    items = list(row.values()) if isinstance(row, dict) else list(row)  # type: ignore[call-overload]
    return [None if item == "" else item for item in items]


# -- meanings of PostHog's own ----------------------------------------------------------------------------------------


def test_a_limit_with_a_comma_is_followed_by_the_offset(warehouse: Warehouse) -> None:
    query = "SELECT number FROM numbers(20) ORDER BY number LIMIT 3, 5"
    assert warehouse.query(query, personal_api_key=False).rows == [[5], [6], [7]]


def test_null_is_in_no_list_without_it_and_not_in_counts_it(warehouse: Warehouse) -> None:
    query = "SELECT countIf(properties.nope NOT IN ('a')), countIf(properties.nope != 'a') FROM events"
    assert warehouse.query(query).rows == [[1500, 1500]]


def test_older_servers_count_no_null_that_is_not_in_a_list(old: Warehouse) -> None:
    assert old.query("SELECT countIf(properties.nope NOT IN ('a')) FROM events").rows == [[0]]


def test_a_star_of_a_query_has_its_calls_and_loses_its_operators(warehouse: Warehouse) -> None:
    result = warehouse.query("SELECT * FROM (SELECT event, count(), count() * 100, 1 FROM events GROUP BY event)")
    assert result.columns == ["event", "count()"]
    assert sum(int(str(row[1])) for row in result.rows) == 1500


def test_the_last_of_equal_names_counts(warehouse: Warehouse) -> None:
    query = "SELECT * FROM (SELECT properties.plan, person.properties.plan FROM events) LIMIT 3"
    only = "SELECT person.properties.plan FROM events LIMIT 3"
    assert warehouse.query(query).rows == warehouse.query(only).rows


def test_limit_by_alone_is_no_limit(warehouse: Warehouse) -> None:
    result = warehouse.query("SELECT number FROM numbers(500) LIMIT 1 BY number")
    assert (len(result.rows), result.has_more, result.limit) == (100, True, 100)


def test_limit_by_alone_is_a_limit_of_older_servers(old: Warehouse) -> None:
    result = old.query("SELECT number FROM numbers(500) LIMIT 1 BY number")
    assert (len(result.rows), result.has_more, result.limit) == (500, None, None)


def test_each_select_of_a_set_is_cut_at_a_page_whatever_the_limit_of_the_whole(warehouse: Warehouse) -> None:
    query = "(SELECT number FROM numbers(500)) UNION ALL (SELECT number FROM numbers(500)) LIMIT 400"
    result = warehouse.query(query)
    assert (len(result.rows), result.has_more) == (200, None)


def test_placeholders_are_read_in_the_tree(warehouse: Warehouse) -> None:
    assert warehouse.query("SELECT 1 -- {variables.x}").rows == [[1]]
    assert warehouse.query("SELECT '{x}' /* {y} */").rows == [["{x}"]]
    assert warehouse.query("SELECT {x + 1}", {"x": 2}).rows == [[3]]
    with pytest.raises(HogQLError, match="Variable x is missing from query"):
        warehouse.query("SELECT {variables.x}")


def test_the_dates_of_filters(warehouse: Warehouse) -> None:
    query = "SELECT count() FROM events WHERE timestamp >= {filters.dateRange.from}"
    assert warehouse.query(query).rows == [[1500]]
    dates = {"filters": Dates("2026-11-03T00:00:00+00:00")}
    expected = warehouse.count_events(START + timedelta(days=2), START + timedelta(days=99))
    assert warehouse.query(query, dates).rows == [[expected]]
    assert warehouse.query("SELECT count() FROM events WHERE {filters}", dates).rows == [[expected]]
    with pytest.raises(HogQLError, match=r"Unsupported filters placeholder `\{filters.nope\}`"):
        warehouse.query("SELECT {filters.nope} FROM events")
    with pytest.raises(HogQLError, match="Cannot use 'filters' placeholder in a SELECT clause"):
        warehouse.query("SELECT 1 WHERE {filters}")


def test_what_the_app_draws_is_a_tuple(warehouse: Warehouse) -> None:
    result = warehouse.query("SELECT sparkline([1, 2]), <a href='x'>y</a>, {'a': 1}")
    assert result.rows == [
        [
            ["__hx_tag", "Sparkline", "data", [1, 2]],
            ["__hx_tag", "a", "href", "x", "children", ["y"]],
            ["__hx_tag", "__hx_obj", "a", 1],
        ]
    ]


def test_what_the_app_draws_of_events(warehouse: Warehouse) -> None:
    drawn = "recordingButton($session_id), explainCSPReport(event)"
    ((button, report),) = warehouse.query(f"SELECT {drawn} FROM events WHERE $session_id != '' LIMIT 1").rows
    old = "recording_button($session_id), explain_csp_report(event)"
    assert warehouse.query(f"SELECT {old} FROM events WHERE $session_id != '' LIMIT 1").rows == [[button, report]]
    assert isinstance(button, list)
    assert (button[:3], button[4:]) == (["__hx_tag", "RecordingButton", "sessionId"], ["recordingStatus", None])
    assert isinstance(report, list)
    assert report[:3] == ["__hx_tag", "ExplainCSPReport", "properties"]


def test_answers_to_surveys(warehouse: Warehouse) -> None:
    def sent(uuid: int, second: int, **properties: object) -> dict[str, object]:
        at = f"2026-11-06T10:00:{second:02}Z"
        who = {"distinct_id": "ada", "person_id": "00000000-0000-4000-8000-000000000001"}
        given = {"$survey_id": "s", **properties}
        event = {"uuid": f"00000000-0000-4000-8000-{uuid:012}", "event": "survey sent", **who}
        return {**event, "timestamp": at, "created_at": at, "properties": given}

    asked = {"$survey_questions": [{"id": "q-0"}, {"id": "q-1"}]}
    warehouse.insert_events(
        [
            sent(1, 1, **{"$survey_response": "one", "$survey_response_1": ["a", "b"]}),
            sent(2, 2, **asked, **{"$survey_response_q-0": "two", "$survey_submission_id": "x"}),
            sent(3, 3, **asked, **{"$survey_response_q-0": "three", "$survey_submission_id": "x"}),
        ]
    )
    answers = "getSurveyResponse(0), getSurveyResponse(0, 'q-0'), getSurveyResponse(1, 'nope', true)"
    rows = "FROM events WHERE uniqueSurveySubmissionsFilter('s'{}) ORDER BY timestamp"
    try:
        found = warehouse.query(f"SELECT {answers} {rows.format('')}").rows
        assert found == [["one", "one", ['"a"', '"b"']], ["three", "three", []]]
        early = rows.format(", '2026-11-06 10:00:01', '2026-11-06 10:00:02'")
        assert warehouse.query(f"SELECT getSurveyResponse({{n}}) {early}", {"n": 0}).rows == [["one"], ["two"]]
        assert warehouse.query("SELECT 1 FROM events WHERE uniqueSurveySubmissionsFilter('other')").rows == []
    finally:
        warehouse.restore_events()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("SELECT poe.properties.plan, poe.id", "SELECT person.properties.plan, person.id"),
        ("SELECT goe_0.properties.name, goe_0.key", "SELECT group_0.properties.name, group_0.key"),
        ("SELECT e.poe.properties.plan FROM posthog.events AS e", "SELECT person.properties.plan"),
        ("SELECT count() FROM posthog.sessions WHERE session_id != ''", "SELECT uniq($session_id)"),
        ("SELECT count(), sum(is_deleted), max(version) FROM raw_persons", "SELECT count(), 0, 0 FROM persons"),
        ("SELECT uniq(distinct_id) FROM raw_person_distinct_ids", "SELECT count() FROM person_distinct_ids"),
        ("SELECT max(properties.name), count() FROM raw_groups", "SELECT max(properties.name), count() FROM groups"),
        ("SELECT sum(sign), min(cohort_id), uniq(person.id) FROM raw_cohort_people",
         "SELECT count(), 7, count() FROM persons WHERE is_identified = 1"),
        ("SELECT count() FROM person_distinct_id_overrides", "SELECT 0 FROM numbers(1)"),
        ("SELECT any($virt_initial_channel_type), count() FROM persons", "SELECT 'Referral', count() FROM persons"),
        ("SELECT uniq(person.$virt_initial_channel_type)", "SELECT 1 FROM numbers(1)"),
        ("SELECT $virt_initial_referring_domain_type FROM raw_persons LIMIT 1", "SELECT NULL FROM numbers(1)"),
    ],
)  # fmt: skip
def test_posthogs_own_tables_have_their_other_names(warehouse: Warehouse, written: str, meant: str) -> None:
    one, other = (text if " FROM " in text else f"{text} FROM events" for text in (written, meant))
    assert warehouse.query(one).rows == warehouse.query(other).rows


def test_a_star_of_persons_has_no_sources(warehouse: Warehouse) -> None:
    columns = "id", "created_at", "properties", "is_identified"
    assert warehouse.query("SELECT * FROM persons LIMIT 1").columns == [*columns]
    assert warehouse.query("SELECT * FROM raw_persons LIMIT 1").columns == [*columns, "is_deleted", "version"]


def test_a_column_that_becomes_several_names_their_types(warehouse: Warehouse) -> None:
    result = warehouse.query("SELECT untuple(tuple(1, 'a')), 3 AS c")
    assert result.rows == [[1, "a", 3]]
    assert [kind for _, kind in result.types] == ["UInt8", "String", "UInt8"]


def test_older_servers_have_no_second_place_for_tables(old: Warehouse) -> None:
    with pytest.raises(HogQLError, match=r'Unknown table "posthog"'):
        old.query("SELECT event FROM posthog.events")


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("SELECT count() FROM events FINAL", "The FINAL keyword is not supported in HogQL as it causes slow queries"),
        ("SELECT 1 AS a QUALIFY a = 1", "QUALIFY is not supported in the 'clickhouse' dialect"),
        ("SELECT * FROM (VALUES (1)) AS t(a)", "VALUES clause is not supported in ClickHouse dialect"),
        ("SELECT TRY_CAST('1' AS Int)", "TRY_CAST is not allowed in clickhouse dialect"),
        ("SELECT CAST(1 AS Int64)", "Unsupported type cast to 'int64'"),
        ("SELECT 1 FROM events PIVOT (count() FOR event IN ('a'))", "PIVOT is not allowed in clickhouse dialect"),
        (
            "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY number) FROM numbers(3)",
            "Aggregation 'percentile_cont' with WITHIN GROUP is not supported in ClickHouse dialect",
        ),
        ("SELECT event.x(1) FROM events", "You can only call simple functions in HogQL, not expressions"),
        ("SELECT 1 FROM events WHERE person_id IN COHORT 99", "Could not find cohort with ID 99"),
        ("SELECT 1 FROM events WHERE person_id IN COHORT 'x'", "Could not find a cohort with the name 'x'"),
        ("SELECT matchesAction('x') FROM events", "Could not find an action with the name 'x'"),
        ("SELECT * EXCLUDE (nope) FROM events", 'Column "nope" in EXCLUDE list was not found in events'),
        ("SELECT COLUMNS('^zz') FROM events", "No columns matched the COLUMNS('^zz') expression"),
        ("SELECT match('a1', '\\d')", "no viable alternative at input 'SELECT match('a1', ''"),
        ("SELECT a & b", "Unexpected character '&' (U+0026)"),
        ("SELECT 1 LIMIT (1 + 1)%", "LIMIT percent with expressions is not supported in clickhouse dialect"),
        ("SELECT properties.items[0] FROM events", "SQL indexes start from one, not from zero. E.g: array[1]"),
        ("SELECT properties.items.0.name FROM events", "SQL indexes start from one, not from zero. E.g: array.1"),
        ("SELECT [1, 2][0]", "SQL indexes start from one, not from zero. E.g: array[1]"),
        ("SELECT getSurveyResponse(event) FROM events", "getSurveyResponse first argument must be a constant"),
        ("SELECT getSurveyResponse('x') FROM events", "getSurveyResponse first argument must be a valid integer"),
        ("SELECT getSurveyResponse()", "Function 'getSurveyResponse' expects at least 1 argument, found 0"),
        (
            "SELECT 1 FROM events WHERE uniqueSurveySubmissionsFilter('s', event)",
            "uniqueSurveySubmissionsFilter second argument must be a constant",
        ),
        ("SELECT * FROM posthog.nope", 'Unknown table "posthog.nope".'),
        ("SELECT * FROM generate_series(1, 3)", "generate_series() is not supported in ClickHouse dialect"),
        (
            "SELECT max(sum(count()) OVER ()) FROM events",
            "Aggregation 'count' cannot be nested inside another aggregation 'max'.",
        ),
        ("SELECT * FROM system.nope", 'Unknown table "system.nope".'),
    ],
)
def test_refusals_have_posthogs_words(warehouse: Warehouse, query: str, detail: str) -> None:
    with pytest.raises(HogQLError) as caught:
        warehouse.query(query)
    assert (caught.value.detail, caught.value.status, caught.value.code) == (detail, 400, "invalid_input")


@pytest.mark.parametrize(
    "query",
    [
        "WITH RECURSIVE a AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM a) SELECT x FROM a",
        "WITH a(x) AS (SELECT 1) SELECT x FROM a",
        "WITH a AS MATERIALIZED (SELECT 1 AS x) SELECT x FROM a",
        "SELECT 1 EXCEPT ALL SELECT 2",
    ],
)
def test_what_fails_inside_of_posthog_is_a_500(warehouse: Warehouse, query: str) -> None:
    with pytest.raises(HogQLError) as caught:
        warehouse.query(query)
    assert caught.value.status == 500


# -- the ages ---------------------------------------------------------------------------------------------------------


def test_the_age_of_a_server_is_that_of_its_hogql(api: Client, posthog: EmulatorProcess) -> None:
    newer = "select toDateTime64('2026-01-01 00:00:00', 6, 'UTC')", "select 1 where 1 between 0 and 2", "select 1;"
    offset = "select number from numbers(9) limit 2 offset 3"
    assert [api.query(text).status_code for text in newer] == [200, 200, 200]
    assert api.query(offset).status_code == 400
    posthog.settings(generation="A")
    assert [api.query(text).status_code for text in newer] == [400, 400, 400]
    assert api.query(offset).json()["results"] == [[3], [4]]
    posthog.reset()
    assert api.query(newer[0]).status_code == 200


def test_filters_of_a_node_reach_the_statement(api: Client) -> None:
    node = hogql("select count() from events where timestamp < {filters.dateRange.to} /* {variables.x} */")
    count = api.post("query/", {"query": {**node, "filters": {"dateRange": {"date_to": "2001-01-01"}}}}).json()
    assert count["results"] == [[0]]


# built into PostHog's ClickHouse, or missing from the one in the process
_ABSENT = ("aggregate_funnel", "generateSeries", "JSONExtractKey", "uniqTheta", "percentile_")


def _is_clickhouses(warehouse: Warehouse, name: str) -> None:
    function = functions(newer=True)[name]
    codes = ["fine"]
    # of no rows: some of them make nonsense of nonsense
    try:
        warehouse.query(f"select {name}({', '.join(['number'] * function.least)}) from numbers(0)")
    except HogQLError as error:
        codes.append(error.code)
    assert not {"unknown_function", "unknown_aggregate_function"} & set(codes)


def test_functions_of_today_are_clickhouses(warehouse: Warehouse) -> None:
    ours = ("matchesAction", *_DRAWN, *SURVEYS)
    newer = set(functions(newer=True)) - set(functions(newer=False)) - set(ours)
    names = [name for name in sorted(newer) if not name.startswith(_ABSENT)]
    assert len(names) > 400
    assert failures(names, partial(_is_clickhouses, warehouse)) == {}


# -- the server's own state -------------------------------------------------------------------------------------------


def test_system_tables_show_what_the_api_shows(api: Client, posthog: EmulatorProcess) -> None:
    made = api.export(hogql("select 1 as a"))
    answer = api.query("select id, export_format, team_id from system.exports").json()
    assert answer["results"] == [[made["id"], "text/csv", 1]]
    insights = api.query("select id, name from system.insights order by id").json()["results"]
    assert insights == sorted([each["id"], each["name"]] for each in api.get("insights/").json()["results"])
    dashboards = api.query("select d.id from system.dashboards as d where d.deleted = 0").json()["results"]
    assert dashboards == [[1]]


def test_runs_of_batch_exports_in_one_query(api: Client, posthog: EmulatorProcess) -> None:
    posthog.advance(3 * 86_400)
    query = (
        "select e.name, count(), countIf(r.status = 'Completed') from system.batch_export_runs r "
        "join system.batch_exports e on e.id = r.batch_export_id group by e.name"
    )
    name, runs, completed = api.query(query).json()["results"][0]
    export = api.get("batch_exports/").json()["results"][0]
    listed = api.get(f"batch_exports/{export['id']}/runs/").json()["results"]
    assert (name, runs) == (export["name"], len(listed))
    assert completed == sum(run["status"] == "Completed" for run in listed) > 0


@pytest.mark.parametrize("table", ["system.cohorts", "system.feature_flags", "query_log", "logs"])
def test_tables_that_hold_nothing_here_have_their_columns(warehouse: Warehouse, old: Warehouse, table: str) -> None:
    with pytest.raises(HogQLError, match="Unknown table"):
        old.query(f"select * from {table}")
    warehouse.newer_functions = True
    result = warehouse.query(f"select * from {table}")
    assert result.rows == []
    assert len(result.columns) > 5
