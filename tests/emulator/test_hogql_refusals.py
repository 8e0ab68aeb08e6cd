"""A client never reaches ClickHouse itself: neither its tables, files and settings nor text of its own choosing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.emulator.data.warehouse import HogQLError, Warehouse
from airflow_provider_posthog.emulator.hogql.functions import functions
from airflow_provider_posthog.emulator.hogql.translate import Rules, translate
from tests.support.every import failures

RULES = Rules("UTC", "project_0", personal_api_key=False)
OLD_RULES = Rules("UTC", "project_0", newer=False, personal_api_key=False)
# functions of the real server that this ClickHouse was built without
ABSENT = {"JSONExtractKey", "generateSeries", "uniqTheta", "uniqThetaIf"}


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    house = Warehouse(events=100)
    yield house
    house.close()


@pytest.fixture(scope="module")
def old() -> Iterator[Warehouse]:
    house = Warehouse(events=100, newer_functions=False)
    yield house
    house.close()


@pytest.mark.parametrize(
    "source",
    [
        "system.tables",
        "system.one",
        "information_schema.tables",
        "default.events",
        "project_1.events",
        "`project_1.events`",
        "INFORMATION_SCHEMA.TABLES",
        "file('/etc/passwd', 'LineAsString')",
        "url('http://127.0.0.1/', 'LineAsString')",
        "s3('https://x/y')",
        "remote('127.0.0.1', system.one)",
        "executable('ls', 'TSV', 'x String')",
        "Python(x)",
        "generateRandom('x Int8')",
        "zeros(3)",
        "numbers_mt(3)",
        "merge('system', '.*')",
        "cluster('default', system.one)",
        "view(select 1)",
        "null('x Int8')",
        "input('x Int8')",
        "person",
        "sharded_events",
    ],
)
def test_sources(warehouse: Warehouse, source: str) -> None:
    with pytest.raises(HogQLError, match=r"^Unknown table|^no viable alternative"):
        warehouse.query(f"select * from {source}")
    with pytest.raises(HogQLError, match=r"^Unknown table|^no viable alternative"):
        warehouse.query(f"select event from events where event in (select x from {source})")
    with pytest.raises(HogQLError, match=r"^Unknown table|^no viable alternative"):
        warehouse.query(f"select 1 from events join {source} on 1 = 1")


@pytest.mark.parametrize(
    "call",
    [
        "file('/etc/passwd')",
        "hostName()",
        "version()",
        "currentUser()",
        "currentDatabase()",
        "getSetting('max_threads')",
        "sleep(3)",
        "sleepEachRow(1)",
        "dictGet('x', 'y', 1)",
        "joinGet('x', 'y', 1)",
        "catboostEvaluate('x')",
        "getMacro('x')",
        "initializeAggregation('sum', 1)",
        "throwIf(1)",
        "ignore(1)",
        "generateUUIDv4()",
    ],
)
def test_functions(warehouse: Warehouse, call: str) -> None:
    with pytest.raises(HogQLError, match=r"^(Unsupported function call|Unexpected unresolved HogQL function) '"):
        warehouse.query(f"select {call}")
    with pytest.raises(HogQLError, match=r"^(Unsupported function call|Unexpected unresolved HogQL function) '"):
        warehouse.query(f"select event from events where {call} = 1 order by {call}")


def _reaches(old: Warehouse, name: str) -> None:
    function = functions(newer=False)[name]
    # two constants would be compared before ClickHouse sees them
    argument = "number" if name in ("equals", "notEquals") else "1"
    args = ", ".join([argument] * function.least)
    sql = translate(f"select {name}({args}) from numbers(1)", {}, OLD_RULES).sql
    expected = "toDateTime" if name == "toDateTime" else function.clickhouse
    assert re.search(rf"(?<!\w){re.escape(expected)}\(", sql)
    if name in ABSENT or name.startswith("aggregate_funnel"):
        return
    codes = ["fine"]
    try:
        old.query(f"select {name}({args}) from numbers(1)")
    except HogQLError as error:
        codes.append(error.code)
    assert "unknown_function" not in codes


def test_every_listed_function_reaches_clickhouse_under_its_name(old: Warehouse) -> None:
    names = [name for name, item in functions(newer=False).items() if item.kind != "posthog"]
    assert len(names) > 600
    assert failures(names, partial(_reaches, old)) == {}


def test_the_list_is_the_measured_one() -> None:
    known = functions(newer=False)
    assert len(known) == 648
    assert (known["toDateTime"].clickhouse, known["toDateTime"].least, known["toDateTime"].most) == (
        "parseDateTime64BestEffortOrNull",
        1,
        2,
    )
    assert "toDateTime64" not in known
    assert "toDateTime64" in functions(newer=True)


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        ("lower()", "Function 'lower' expects 1 argument, found 0"),
        ("lower('a', 'b')", "Function 'lower' expects 1 argument, found 2"),
        ("substring('a')", "Function 'substring' expects 3 arguments, found 1"),
        ("JSONExtract('a')", "Function 'JSONExtract' expects at least 2 arguments, found 1"),
        ("now(1, 2)", "Function 'now' expects at most 1 argument, found 2"),
        ("sum(count())", "Aggregation 'count' cannot be nested inside another aggregation 'sum'."),
        ("countiff(1)", "Unsupported function call 'countiff(...)'. Perhaps you meant 'countIf(...)'?"),
        ("TOSTRING(1)", "Unsupported function call 'TOSTRING(...)'"),
        ("xyzzy(1)", "Unsupported function call 'xyzzy(...)'"),
    ],
)
def test_calls_that_do_not_fit(warehouse: Warehouse, call: str, detail: str) -> None:
    with pytest.raises(HogQLError) as caught:
        warehouse.query(f"select {call}")
    assert caught.value.detail.startswith(detail)


@pytest.mark.parametrize(
    ("call", "value"), [("COUNT(*)", 100), ("Sum(2)", 200), ("LOWER('A')", "a"), ("ifNull(null, 3)", 3)]
)
def test_some_names_have_no_case(warehouse: Warehouse, call: str, value: object) -> None:
    assert warehouse.query(f"select {call} as x from events limit 1").rows[0] == [value]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("select event, count() from events", "not_an_aggregate"),
        ("select 1 + 'a'", "illegal_type_of_argument"),
        ("select uuid from events where uuid = 'x'", "cannot_parse_uuid"),
        ("select number from numbers(3) where count() > 1", "illegal_aggregation"),
        ("select 1 union all select 1, 2", "union_all_result_structures_mismatch"),
        ("select intDiv(1, 0)", "illegal_division"),
    ],
)
def test_errors_of_clickhouse_are_shown_without_our_names(warehouse: Warehouse, query: str, code: str) -> None:
    with pytest.raises(HogQLError) as caught:
        warehouse.query(query)
    assert (caught.value.code, caught.value.status, caught.value.attr) == (code, 400, None)
    assert "project_" not in caught.value.detail
    assert "SETTINGS" not in caught.value.detail


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("select event.x from events", 'Can not access property "x" on field "event".'),
        ("select person from events", "Can't select a table when a column is expected: person"),
        ("select e.nope from events e", "Unable to resolve field: nope"),
        ("select * from events e, persons e", 'Already have joined a table called "e".'),
        ("select * from events e, persons p", "Cannot use '*' without table name"),
        ("select created_at from events e, persons p", "Ambiguous query. Found multiple sources for field: created_at"),
        ("select *", "Cannot use '*' when there are no tables in the query"),
        ("select 1 as a, 2 as a", "Cannot redefine an alias with the name: a"),
        ("select 1 as team_id", '"team_id" cannot be an alias or identifier'),
        ("select `a%b` from (select 1 as x)", "Unable to resolve field: a%b"),
        ("select 1 as `a%b`", 'The HogQL identifier "a%b" is not permitted as it contains the "%" character'),
        ("select event from events where person_id in cohort 1", "Could not find cohort with ID 1"),
        ("with x as (select uuid from x) select * from x", 'Unknown table "x".'),
        ("select * from events(3)", "Table 'events' does not accept arguments"),
    ],
)
def test_what_the_resolver_refuses(warehouse: Warehouse, query: str, detail: str) -> None:
    with pytest.raises(HogQLError) as caught:
        warehouse.query(query)
    assert caught.value.detail.startswith(detail)


@pytest.mark.parametrize(
    "query",
    [
        "select " + "(" * 3000 + "1" + ")" * 3000,
        "select " + "not " * 3000 + "1",
        "select " + "(select " * 900 + "1" + ")" * 900,
    ],
)
def test_depth(warehouse: Warehouse, query: str) -> None:
    with pytest.raises(HogQLError, match="too deeply nested"):
        warehouse.query(query)


def test_nested_comparisons_do_not_explode() -> None:
    query = "select " + "event = (" * 14 + "event" + ")" * 14 + " from events"
    assert translate(query, {}, RULES).sql.count("equals") < 2**16


def test_an_engine_fault_is_hidden(warehouse: Warehouse) -> None:
    with pytest.raises(HogQLError) as caught:
        warehouse.query("select format(1, 1)")
    assert (caught.value.status, caught.value.detail) == (500, "ClickHouse error while executing query.")


_HOSTILE = st.text(alphabet=st.sampled_from("'\"`\\;()-/*%{}$ \n\t\0\u2028éx1,"), max_size=12)


@settings(max_examples=300)
@given(_HOSTILE.filter(lambda text: text != "*"))  # that is all columns, quoted or not
@example("x` FROM system.tables --")
@example("\\")
@example("`")
def test_names_can_not_break_out(text: str) -> None:
    with pytest.raises(HogQLError):  # there is no such column, whatever the name says
        translate("select `" + text.replace("\\", "\\\\").replace("`", "``") + "` from events", {}, RULES)


@settings(max_examples=200)
@given(_HOSTILE.filter(lambda text: "%" not in text and text not in ("", "*")))
@example("x` FROM system.tables --")
@example("\\`")
@example("a\\")
def test_aliases_keep_their_text(text: str) -> None:
    house = _shared()
    quoted = "`" + text.replace("\\", "\\\\").replace("`", "``") + "`"
    if text.lower() in ("true", "false", "null", "team_id"):
        return
    result = house.query(f"select {quoted} from (select 7 as {quoted})")
    assert (result.columns, result.rows) == ([text], [[7]])


@settings(max_examples=300)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
@example("' OR 1=1 --")
def test_arbitrary_text_is_answered_or_refused(text: str) -> None:
    try:
        sql = translate(text, {}, RULES).sql
    except HogQLError:
        return
    assert sql.startswith("SELECT")


_ONLY: list[Warehouse] = []


def _shared() -> Warehouse:
    """A warehouse that lives as long as the process: hypothesis runs a test many times within one fixture."""
    if not _ONLY:
        _ONLY.append(Warehouse(events=0))
    return _ONLY[0]


def test_the_sources_name_no_function_of_clickhouses_own_files() -> None:
    names = {line.split("\t")[0] for line in _list().read_text().splitlines()}
    assert names.isdisjoint({"file", "url", "s3", "remote", "hostName", "sleep", "dictGet", "joinGet", "getSetting"})


def _list() -> Path:
    import airflow_provider_posthog.emulator.hogql.functions as module

    return Path(str(module.__file__)).parent / "hogql_functions.tsv"
