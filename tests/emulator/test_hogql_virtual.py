"""What PostHog works out where it is named: who visits (people, bots, scripts), money in other money, revenue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from functools import partial

import pytest

from airflow_provider_posthog.emulator.data.warehouse import HogQLError, Warehouse
from tests.support.every import failures

START = datetime(2026, 11, 1, tzinfo=timezone.utc)
PERSON = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/132.0"
COLUMNS = "$virt_is_bot, $virt_traffic_type, $virt_traffic_category, $virt_bot_name, $virt_bot_operator"
NOBODY = [True, "Automation", "no_user_agent", "", ""]
SOMEBODY = [False, "Regular", "regular", "", ""]
#: Properties of an event, and what PostHog makes of them.
VISITORS: Mapping[str, tuple[dict[str, object], list[object]]] = {
    "a person": ({"$raw_user_agent": PERSON}, SOMEBODY),
    "a person at home": ({"$raw_user_agent": PERSON, "$ip": "203.0.113.7"}, SOMEBODY),
    "no address": ({"$raw_user_agent": PERSON, "$ip": "somewhere"}, SOMEBODY),
    "a server": ({"$lib": "posthog-node"}, NOBODY),
    "an empty user agent": ({"$raw_user_agent": ""}, NOBODY),
    "another property": ({"$user_agent": PERSON}, NOBODY),
    "a crawler": (
        {"$raw_user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
        [True, "Bot", "search_crawler", "Googlebot", "Google"],
    ),
    "in other case": ({"$raw_user_agent": "googlebot"}, SOMEBODY),
    "a crawler of AI": (
        {"$raw_user_agent": "Mozilla/5.0 (compatible; ClaudeBot/1.0)"},
        [True, "AI Agent", "ai_crawler", "Claude", "Anthropic"],
    ),
    "an assistant": (
        {"$raw_user_agent": "Mozilla/5.0; ChatGPT-User/1.0"},
        [True, "AI Agent", "ai_assistant", "ChatGPT", "OpenAI"],
    ),
    "a link's preview": (
        {"$raw_user_agent": "Slackbot-LinkExpanding 1.0"},
        [True, "Bot", "social_crawler", "Slack", "Salesforce"],
    ),
    "a watchman": (
        {"$raw_user_agent": "Mozilla/5.0 (compatible; UptimeRobot/2.0)"},
        [True, "Bot", "monitoring", "UptimeRobot", "UptimeRobot"],
    ),
    "a script": (
        {"$raw_user_agent": "python-requests/2.32"},
        [True, "Automation", "http_client", "Python Requests", "Python"],
    ),
    "a browser without a screen": (
        {"$raw_user_agent": "Mozilla/5.0 HeadlessChrome/130.0"},
        [True, "Automation", "headless_browser", "Headless Chrome", "Google"],
    ),
    "a crawler that looks like a browser": (
        {"$raw_user_agent": PERSON, "$ip": "66.249.66.1"},
        [True, "Bot", "search_crawler", "Googlebot", "Google"],
    ),
}


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    house = Warehouse(seed=3, events=1500, start=START, days=5)
    who = {"distinct_id": "ada", "person_id": "00000000-0000-4000-8000-000000000001", "event": "visit"}
    at = {"timestamp": "2026-11-06T10:00:00Z", "created_at": "2026-11-06T10:00:00Z"}
    visits = [
        {**who, **at, "uuid": f"00000000-0000-4000-8000-{place:012}", "properties": {**properties, "visitor": name}}
        for place, (name, (properties, _)) in enumerate(VISITORS.items())
    ]
    house.insert_events(visits)
    yield house
    house.close()


def _one(warehouse: Warehouse, query: str) -> list[object]:
    (row,) = warehouse.query(query).rows
    return list(row)


# -- who visits -------------------------------------------------------------------------------------------------------


def _is_told(warehouse: Warehouse, name: str) -> None:
    properties, told = VISITORS[name]
    where = f"event = 'visit' AND properties.visitor = '{name.replace(chr(39), chr(92) + chr(39))}'"
    assert _one(warehouse, f"SELECT {COLUMNS} FROM events WHERE {where}") == told
    given = ", ".join(
        "NULL" if value is None else f"'{value}'" for value in map(properties.get, ("$raw_user_agent", "$ip"))
    )
    names = ("isLikelyBot", "getTrafficType", "getTrafficCategory", "getBotName", "getBotOperator")
    calls = ", ".join(f"{function}({given})" for function in names)
    assert _one(warehouse, f"SELECT {calls}") == told
    assert _one(warehouse, f"SELECT getBotType({given})") == ["" if told[2] == "regular" else told[2]]


def test_events_tell_who_visits_and_so_do_the_functions(warehouse: Warehouse) -> None:
    assert failures(VISITORS, partial(_is_told, warehouse)) == {}


def test_the_names_of_the_preview_mean_the_same(warehouse: Warehouse) -> None:
    names = ("getTrafficType", "getTrafficCategory", "getBotType", "getBotName", "getBotOperator")
    now = [f"{name}('curl/8.7')" for name in names]
    before = [f"__preview_{name}('curl/8.7')" for name in names]
    assert _one(warehouse, f"SELECT {', '.join(now)}") == _one(warehouse, f"SELECT {', '.join(before)}")
    assert _one(warehouse, "SELECT __preview_isBot('curl/8.7', NULL), __preview_isBot('x')") == [True, False]


def test_the_types_are_those_of_posthog(warehouse: Warehouse) -> None:
    result = warehouse.query(f"SELECT {COLUMNS} FROM events LIMIT 1")
    assert result.types == [("$virt_is_bot", "Bool"), *((name, "String") for name in COLUMNS.split(", ")[1:])]


@pytest.mark.parametrize(
    "written",
    [
        "properties.$virt_is_bot",
        "events.properties.$virt_is_bot",
        "properties['$virt_is_bot']",
        "coalesce(properties.$virt_is_bot, false)",
        "properties.$virt_traffic_type IN ('Bot', 'AI Agent', 'Automation')",
        "properties.$virt_traffic_type != 'Regular'",
        "NOT (properties.$virt_is_bot != true)",
        "isLikelyBot(properties.$raw_user_agent, properties.$ip)",
    ],
)
def test_a_virtual_column_may_be_written_as_a_property(warehouse: Warehouse, written: str) -> None:
    people = sum(told == SOMEBODY for _, told in VISITORS.values())
    counts = f"SELECT countIf({written}), countIf(NOT {written}) FROM events WHERE event = 'visit'"
    assert _one(warehouse, counts) == [len(VISITORS) - people, people]
    kept = f"SELECT count() FROM events WHERE event = 'visit' AND NOT {written}"
    assert _one(warehouse, kept) == [people]
    grouped = f"SELECT {written} AS bot, count() FROM events WHERE event = 'visit' GROUP BY bot ORDER BY bot"
    assert [count for _, count in warehouse.query(grouped).rows] == [people, len(VISITORS) - people]


def test_columns_have_the_names_that_people_wrote(warehouse: Warehouse) -> None:
    query = (
        "SELECT $virt_is_bot, e.properties.$virt_bot_name, any(properties['$virt_bot_name']) AS a, {} FROM events AS e"
    )
    result = warehouse.query(query.format("any(properties['$browser'])") + " GROUP BY 1, 2 LIMIT 1")
    assert result.columns == ["$virt_is_bot", "$virt_bot_name", "a", "any(properties.$browser)"]
    assert "multiMatch" not in result.hogql
    assert result.hogql.startswith("SELECT\n    $virt_is_bot,\n    e.properties.$virt_bot_name,")


def test_what_no_virtual_column_is_called_is_a_property_and_has_no_parts(warehouse: Warehouse) -> None:
    query = "SELECT any(properties.$virt_else), any(properties['$virt_else'].x), any(person.properties.$virt_is_bot)"
    assert _one(warehouse, f"{query} FROM events") == [None, None, None]
    for written in ("$virt_is_bot.x", "properties.$virt_is_bot.x"):
        with pytest.raises(HogQLError, match=r'Can not access property "x" on field "\$virt_is_bot"'):
            warehouse.query(f"SELECT {written} FROM events")


def test_an_event_that_a_join_does_not_find_has_no_user_agent(warehouse: Warehouse) -> None:
    query = "SELECT e.$virt_is_bot, e.$virt_traffic_category FROM (SELECT 'nobody' AS id) AS one"
    assert _one(warehouse, f"{query} LEFT JOIN events AS e ON e.distinct_id = one.id") == NOBODY[::2][:2]


def test_a_query_that_does_not_name_them_does_not_work_them_out(warehouse: Warehouse) -> None:
    plain = warehouse.query("SELECT * FROM events LIMIT 1")
    assert not any(name.startswith("$virt_") for name in plain.columns)
    assert "multiMatch" not in plain.clickhouse
    assert "multiMatch" in warehouse.query("SELECT $virt_is_bot FROM events LIMIT 1").clickhouse


def test_the_web_shop_has_people_servers_and_a_few_bots(warehouse: Warehouse) -> None:
    query = "SELECT $virt_traffic_type, count() FROM events WHERE event != 'visit' GROUP BY 1"
    counts = dict(map(tuple, warehouse.query(query).rows))
    assert counts["Regular"] > 500
    assert counts["Automation"] > 500
    browsers = "SELECT count() FROM events WHERE properties.$lib = 'web' AND $virt_traffic_category = 'no_user_agent'"
    assert _one(warehouse, browsers) == [0]
    bots = "WHERE $virt_bot_name != '' AND event != 'visit'"
    count, modes, mode = _one(warehouse, f"SELECT count(), uniq(person_mode), any(person_mode) FROM events {bots}")
    assert 0 < int(str(count)) < 100
    assert (modes, mode) == (1, "propertyless")


# -- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "worth"),
    [
        ("'EUR', 'USD', 9", "10"),
        ("'USD', 'EUR', 10", "9"),
        ("'EUR', 'JPY', 9, today()", "1500"),
        ("'EUR', 'USD', '4.5', toDateTime('2026-11-01 00:00:00')", "5"),
        ("'EUR', 'EUR', 7", "7"),
        ("'EUR', 'USD', 1", "1.1111111111"),
        ("'nothing', 'nothing', 7", "7"),
        ("'nothing', 'USD', 7", "0"),
        ("'USD', 'nothing', 7", "0"),
        ("'usd', 'EUR', 7", "0"),
        ("NULL, 'EUR', 7", "0"),
        ("'EUR', 'USD', NULL", None),
    ],
)
def test_money_is_converted_and_money_that_nobody_knows_is_worth_nothing(
    warehouse: Warehouse, call: str, worth: str | None
) -> None:
    assert _one(warehouse, f"SELECT convertCurrency({call})") == [worth]


def test_money_of_properties_is_converted(warehouse: Warehouse) -> None:
    converted = "convertCurrency(properties.currency, 'USD', properties.amount, toDate(timestamp))"
    result = warehouse.query(f"SELECT sum({converted}) AS usd, sum(properties.amount) AS eur FROM events")
    ((usd, eur),) = result.rows
    assert float(str(usd)) == pytest.approx(float(str(eur)) / 0.9)
    assert result.types[0][1].startswith("Nullable(Decimal(76, 10)")


# -- revenue ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "table"),
    [
        ("any($virt_revenue), any($virt_mrr)", "persons"),
        ("any(properties.$virt_revenue), sum(properties['$virt_mrr'])", "persons"),
        ("any($virt_revenue), max($virt_mrr)", "groups"),
        ("any(person.properties.$virt_revenue), any(person.$virt_mrr)", "events"),
        ("any(poe.$virt_revenue), round(avg(group_0.properties.$virt_mrr), 2)", "events"),
    ],
)
def test_there_is_no_revenue_without_a_source_of_it(warehouse: Warehouse, columns: str, table: str) -> None:
    assert _one(warehouse, f"SELECT {columns} FROM {table}") == [None, None]


def test_revenue_is_that_of_the_table_of_it(warehouse: Warehouse) -> None:
    known = "person_mode = 'full' AND $group_0 != ''"
    ((person, group),) = warehouse.query(f"SELECT person_id, $group_0 FROM events WHERE {known} LIMIT 1").rows
    warehouse.own.add_rows("persons_revenue_analytics", [{"person_id": person, "revenue": "12.5", "mrr": 2}])
    warehouse.own.add_rows("groups_revenue_analytics", [{"group_key": group, "revenue": 3, "mrr": 1}])
    try:
        paid = "SELECT id, $virt_revenue, properties.$virt_mrr, revenue_analytics.revenue FROM persons"
        assert _one(warehouse, f"{paid} WHERE $virt_revenue > 5") == [person, "12.5", "2", "12.5"]
        of_events = "SELECT DISTINCT person_id, person.$virt_revenue FROM events WHERE person.properties.$virt_mrr = 2"
        assert _one(warehouse, of_events) == [person, "12.5"]
        assert _one(warehouse, "SELECT max(group_0.$virt_revenue), max(goe_0.$virt_mrr) FROM events") == ["3", "1"]
        assert _one(warehouse, "SELECT sum(mrr), count() FROM persons_revenue_analytics") == ["2", 1]
    finally:
        warehouse.own.clear()


def test_revenue_may_be_compared_and_sorted_by(warehouse: Warehouse) -> None:
    everybody = _one(warehouse, "SELECT count() FROM persons")
    assert _one(warehouse, "SELECT count() FROM persons WHERE $virt_revenue IS NULL AND NOT $virt_mrr > 5") == everybody
    assert len(warehouse.query("SELECT id FROM persons ORDER BY $virt_revenue DESC LIMIT 3").rows) == 3


def test_where_persons_came_from_may_be_written_as_a_property(warehouse: Warehouse) -> None:
    written, meant = (
        f"SELECT person{place}.$virt_initial_channel_type AS c, count() FROM events GROUP BY c ORDER BY c"
        for place in (".properties", "")
    )
    assert warehouse.query(written).rows == warehouse.query(meant).rows


# -- servers of before ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", [*COLUMNS.split(", "), "person.$virt_revenue", "group_0.revenue_analytics.mrr"])
def test_older_servers_have_none_of_the_columns(old: Warehouse, column: str) -> None:
    with pytest.raises(HogQLError, match=r"Unable to resolve field|Field not found"):
        old.query(f"SELECT {column} FROM events")
    name = column.partition(".")[2] or column
    assert _one(old, f"SELECT any(properties.{name}), any(person.properties.{name}) FROM events") == [None, None]


@pytest.mark.parametrize("call", ["isLikelyBot('x')", "__preview_isBot('x')", "convertCurrency('EUR', 'USD', 1)"])
def test_older_servers_have_none_of_the_functions(old: Warehouse, call: str) -> None:
    with pytest.raises(HogQLError, match="Unsupported function call"):
        old.query(f"SELECT {call}")


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        ("isLikelyBot()", "Function 'isLikelyBot' expects at least 1 argument, found 0"),
        ("getBotName('a', 'b', 'c')", "Function 'getBotName' expects at most 2 arguments, found 3"),
        ("convertCurrency('EUR', 'USD')", "Function 'convertCurrency' expects at least 3 arguments, found 2"),
        ("convertCurrency(1, 2, 3, 4, 5)", "Function 'convertCurrency' expects at most 4 arguments, found 5"),
    ],
)
def test_arguments_are_counted(warehouse: Warehouse, call: str, detail: str) -> None:
    with pytest.raises(HogQLError) as caught:
        warehouse.query(f"SELECT {call}")
    assert str(caught.value) == detail
