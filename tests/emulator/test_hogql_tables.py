"""The tables of HogQL besides events and persons: what is in them, their links, and that a reset empties them."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.hogql.schema import tables
from airflow_provider_posthog.emulator.hogql.system import system_tables
from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from tests.emulator.client import Client

AT = "2026-11-20T10:00:00Z"


def rows(api: Client, sql: str) -> list[list[object]]:
    answer = api.query(sql)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def refusal(api: Client, sql: str) -> tuple[int, str]:
    answer = api.query(sql)
    return answer.status_code, answer.json()["detail"]


# -- sessions ---------------------------------------------------------------------------------------------------------


def visit(session: str, *events: tuple[str, int, dict[str, object]]) -> list[dict[str, object]]:
    return [
        {
            "event": event,
            "distinct_id": f"visitor-{session}",
            "timestamp": f"2026-11-20T10:00:{second:02}Z",
            "properties": {"$session_id": session, **properties},
        }
        for event, second, properties in events
    ]


def page(path: str, second: int = 0, **properties: object) -> tuple[str, int, dict[str, object]]:
    return "$pageview", second, {"$current_url": f"https://shop.example.invalid{path}", **properties}


def test_a_session_tells_of_its_first_and_its_last_event(api: Client, posthog: EmulatorProcess) -> None:
    campaign = {"utm_source": "spring", "utm_medium": "email", "gclid": "", "$referring_domain": "mail.example.invalid"}
    posthog.capture(visit("s-1", page("/", 0, **campaign), page("/cart?x=1", 30), ("$autocapture", 40, {})))
    columns = (
        "$entry_current_url, $entry_pathname, $entry_hostname, $exit_pathname, $end_pathname, $entry_utm_source, "
        "$entry_utm_campaign, $entry_gclid, $entry_referring_domain, $pageview_count, $autocapture_count, "
        "$session_duration, duration, $num_uniq_urls, $is_bounce, distinct_id"
    )
    found = rows(api, f"SELECT {columns} FROM sessions WHERE session_id = 's-1'")
    urls = "https://shop.example.invalid/", "/", "shop.example.invalid"
    # the last event has no address
    ends = None, None
    tail = "spring", None, None, "mail.example.invalid", 2, 1, 40, 40, 2, False, "visitor-s-1"
    assert found == [[*urls, *ends, *tail]]


def test_a_bounce_is_one_short_look(api: Client, posthog: EmulatorProcess) -> None:
    visits = {
        "one-page": ([page("/")], True),
        "two-pages": ([page("/"), page("/cart", 1)], False),
        "a-click": ([page("/"), ("$autocapture", 1, {})], False),
        "ten-seconds": ([page("/"), ("looked", 10, {})], False),
        "no-page": ([("looked", 0, {})], None),
    }
    posthog.capture([event for name, (events, _) in visits.items() for event in visit(name, *events)])
    found = rows(api, f"SELECT session_id, $is_bounce FROM sessions WHERE session_id IN {tuple(visits)}")
    assert {str(name): bounced for name, bounced in found} == {name: wish for name, (_, wish) in visits.items()}


def test_the_channel_follows_posthogs_rules(api: Client, posthog: EmulatorProcess) -> None:
    direct = {"$referring_domain": "$direct"}
    visits: list[tuple[dict[str, object], str]] = [
        ({**direct}, "Direct"),
        ({"$referring_domain": "www.google.com"}, "Organic Search"),
        ({"$referring_domain": "www.google.com", "gclid": "x"}, "Paid Search"),
        ({"$referring_domain": "l.facebook.com"}, "Organic Social"),
        ({"$referring_domain": "l.facebook.com", "utm_medium": "cpc"}, "Paid Social"),
        ({**direct, "utm_medium": "email"}, "Email"),
        ({"utm_medium": "affiliate"}, "Affiliate"),
        ({"utm_source": "youtube", "utm_medium": "paidvideo"}, "Paid Video"),
        ({"utm_campaign": "cross-network"}, "Cross Network"),
        ({"utm_campaign": "summer shopping"}, "Organic Shopping"),
        ({**direct, "fbclid": "x"}, "Organic Social"),
        ({"$referring_domain": "blog.example.invalid"}, "Referral"),
        ({"gad_source": "1"}, "Paid Search"),
        ({"utm_medium": "ppc"}, "Paid Unknown"),
        ({}, "Unknown"),
    ]
    sent = [event for n, (first, _) in enumerate(visits) for event in visit(f"visit-{n:02}", page("/", 0, **first))]
    posthog.capture(sent)
    sql = "SELECT $channel_type FROM sessions WHERE session_id LIKE 'visit-%' ORDER BY session_id"
    assert rows(api, sql) == [[channel] for _, channel in visits]


def test_a_star_leaves_out_the_second_names(api: Client, posthog: EmulatorProcess) -> None:
    columns = api.query("SELECT * FROM sessions LIMIT 1").json()["columns"]
    assert not {"id", "duration", "$exit_current_url", "$exit_pathname", "team_id"} & set(columns)
    assert {"session_id", "$entry_utm_term", "$entry__kx", "$channel_type", "$is_bounce"} <= set(columns)


DAYS = {"2026-11-16": "01a1e3cc-9d00-7", "2026-11-18": "01a1ee19-5500-7", "2026-11-20": "01a1f866-0d00-7"}


def version_7(posthog: EmulatorProcess) -> dict[str, str]:
    """Let sessions begin whose ids are of these days; return the ids."""
    ids = {day: f"{begin}000-a000-000000000000" for day, begin in DAYS.items()}
    posthog.capture([event for each in ids.values() for event in visit(each, ("$pageview", 0, {}))])
    return ids


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("1 = 1", ["2026-11-16", "2026-11-18", "2026-11-20"]),
        # three days around the bounds are looked at, and no more
        ("$start_timestamp >= toDateTime('2026-11-20T00:00:00Z')", ["2026-11-18", "2026-11-20"]),
        ("toDateTime('2026-11-20T00:00:00Z') <= $start_timestamp", ["2026-11-18", "2026-11-20"]),
        ("$start_timestamp >= toDateTime('2026-11-20T00:00:00Z') OR distinct_id = ''", list(DAYS)),
        # behind NOT, what cannot be looked through is false
        ("NOT (distinct_id = '')", []),
        ("NOT ($pageview_count = 7) AND $start_timestamp > toDateTime('2026-11-19T00:00:00Z')", []),
        ("$start_timestamp >= toDateTime('2026-11-23T00:00:00Z') OR NOT (session_id_v7 < 0)", ["2026-11-20"]),
    ],
)
def test_a_session_is_looked_up_by_the_time_in_its_id(
    api: Client, posthog: EmulatorProcess, where: str, found: list[str]
) -> None:
    ids = version_7(posthog)
    sql = f"SELECT session_id FROM sessions WHERE ({where}) AND session_id IN {tuple(ids.values())} ORDER BY session_id"
    assert [name for (name,) in rows(api, sql)] == [ids[day] for day in found]


def test_events_reach_their_session_and_their_group_by_its_name(api: Client, posthog: EmulatorProcess) -> None:
    sql = "SELECT count() FROM events WHERE session.$entry_pathname = '/' AND company.properties.employees > 0"
    plain = (
        "SELECT count() FROM events WHERE $session_id IN (SELECT session_id FROM sessions WHERE $entry_pathname = '/') "
        "AND $group_0 IN (SELECT key FROM groups WHERE properties.employees > 0)"
    )
    assert rows(api, sql) == rows(api, plain) != [[0]]


# -- recordings -------------------------------------------------------------------------------------------------------


def test_recordings_are_whole_and_have_links(api: Client, posthog: EmulatorProcess) -> None:
    (owner,) = posthog.capture(visit("s-2", page("/cart"))[:1])
    part = {"session_id": "s-2", "distinct_id": "visitor-s-2"}
    posthog.add_recordings([{**part, "timestamp": AT}, {**part, "timestamp": "2026-11-20T10:05:00Z"}])
    log = {"log_source_id": "s-2", "timestamp": AT, "level": "error", "message": "boom"}
    posthog.add_rows("log_entries", [{**log, "log_source": "session_replay"}, {**log, "log_source": "batch_export"}])
    assert rows(api, "SELECT count() FROM raw_session_replay_events WHERE session_id = 's-2'") == [[2]]
    whole = "FROM session_replay_events WHERE session_id = 's-2'"
    assert rows(api, f"SELECT dateDiff('second', start_time, end_time), person_id {whole}") == [[300, owner]]
    assert rows(api, f"SELECT session.$entry_pathname, console_logs.message {whole}") == [["/cart", "boom"]]
    assert rows(api, f"SELECT events.event, properties.$current_url {whole}") == [
        ["$pageview", "https://shop.example.invalid/cart"]
    ]
    assert rows(api, "SELECT person.id FROM raw_session_replay_events WHERE session_id = 's-2' LIMIT 1") == [[owner]]
    posthog.reset()
    assert rows(api, "SELECT count() FROM raw_session_replay_events") == [[0]]
    assert rows(api, "SELECT count() FROM log_entries") == [[0]]


# -- cohorts and actions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("is_static", "table"), [(True, "static_cohort_people"), (False, "cohort_people")])
def test_cohorts_are_found_by_number_and_by_name(
    api: Client, posthog: EmulatorProcess, is_static: bool, table: str
) -> None:
    some = "SELECT id FROM persons WHERE properties.plan = 'pro'"
    number = posthog.add_cohort("Payers", query=some, is_static=is_static)
    expected = rows(api, f"SELECT count() FROM ({some} LIMIT 50000)")
    for wish in (str(number), "'Payers'"):
        assert rows(api, f"SELECT count() FROM persons WHERE id IN COHORT {wish}") == expected != [[0]]
    assert rows(api, f"SELECT count(), countIf(person.properties.plan = 'pro') FROM {table}") == [expected[0] * 2]
    others = "SELECT count() FROM events WHERE person_id NOT IN COHORT 'Payers' AND person_id IN COHORT 'Payers'"
    assert rows(api, others) == [[0]]
    shown = "SELECT name, is_static, count, version FROM system.cohorts"
    assert rows(api, shown) == [["Payers", int(is_static), expected[0][0], 1]]
    assert rows(api, "SELECT cohort_id, count FROM system.cohort_calculation_history") == [[number, expected[0][0]]]


def test_a_cohort_grows_when_it_is_calculated_again(api: Client, posthog: EmulatorProcess) -> None:
    number = posthog.add_cohort("Friends", distinct_ids=["user-1"], is_static=True)
    posthog.add_cohort("Friends", id=number, distinct_ids=["user-2"], is_static=True)
    assert rows(api, "SELECT count() FROM persons WHERE id IN COHORT 'Friends'") == [[2]]
    assert rows(api, "SELECT count FROM system.cohort_calculation_history ORDER BY count") == [[1], [2]]


def test_cohorts_and_actions_that_are_not_there_are_refused(api: Client, posthog: EmulatorProcess) -> None:
    posthog.add_cohort("Twins")
    posthog.add_cohort("Twins")
    for sql, detail in (
        ("SELECT 1 FROM persons WHERE id IN COHORT 99", "Could not find cohort with ID 99"),
        ("SELECT 1 FROM persons WHERE id IN COHORT 'Nobody'", "Could not find a cohort with the name 'Nobody'"),
        ("SELECT 1 FROM persons WHERE id IN COHORT 'Twins'", "Found multiple cohorts with name 'Twins'"),
        ("SELECT matchesAction(5) FROM events", "Could not find action with ID 5"),
    ):
        assert refusal(api, sql) == (400, detail)


@pytest.mark.parametrize(
    ("steps", "condition"),
    [
        ([{"event": "purchase"}], "event = 'purchase'"),
        ([{"event": "purchase"}, {"event": "sign_up"}], "event IN ('purchase', 'sign_up')"),
        (
            [{"event": "$pageview", "url": "/pricing"}],
            "event = '$pageview' AND properties.$current_url LIKE '%/pricing%'",
        ),
        ([{"url": "(cart|checkout)$", "url_matching": "regex"}], "match(properties.$current_url, '(cart|checkout)$')"),
        (
            [{"event": "purchase", "properties": {"currency": "EUR"}}],
            "event = 'purchase' AND properties.currency = 'EUR'",
        ),
    ],
)
def test_an_action_is_the_events_of_its_steps(
    api: Client, posthog: EmulatorProcess, steps: list[dict[str, object]], condition: str
) -> None:
    number = posthog.add_action("Did it", steps)
    expected = rows(api, f"SELECT count() FROM events WHERE {condition}")
    assert rows(api, f"SELECT countIf(matchesAction({number})) FROM events") == expected != [[0]]
    assert rows(api, "SELECT count() FROM events AS e WHERE matchesAction('Did it')") == expected
    assert refusal(api, "SELECT matchesAction('Did it') FROM persons")[0] == 400
    assert rows(api, "SELECT name FROM system.actions") == [["Did it"]]
    (listed,) = api.get("actions/").json()["results"]
    assert (listed["id"], listed["name"], len(listed["steps"])) == (number, "Did it", len(steps))


# -- the warehouse ----------------------------------------------------------------------------------------------------


def test_warehouse_tables_and_views_are_defined_by_a_fixture(api: Client, posthog: EmulatorProcess) -> None:
    types = {"id": "Int64", "email": "Nullable(String)", "paid_at": "DateTime64(3)", "amount": "Decimal(10, 2)"}
    charges = [
        {"id": 1, "email": "user1@example.invalid", "paid_at": AT, "amount": 9.5},
        {"id": 2, "email": None, "paid_at": AT, "amount": 1},
    ]
    posthog.add_table("stripe.charges", types, charges)
    posthog.add_view("paying", "SELECT email, sum(amount) AS paid FROM stripe.charges GROUP BY email")
    assert rows(api, "SELECT * FROM stripe.charges ORDER BY id") == [
        [1, "user1@example.invalid", "2026-11-20T10:00:00Z", "9.5"],
        [2, None, "2026-11-20T10:00:00Z", "1"],
    ]
    joined = "SELECT p.properties.name, v.paid FROM paying AS v JOIN persons AS p ON p.properties.email = v.email"
    assert rows(api, joined) == [["User 1", "9.5"]]
    # a view knows nothing of the names around it
    assert rows(api, "WITH stripe AS (SELECT 1 AS email) SELECT count() FROM paying") == [[2]]
    assert rows(api, "SELECT name FROM system.data_warehouse_tables") == [["stripe.charges"]]
    assert rows(api, "SELECT name FROM system.data_modeling_views WHERE name LIKE 'p%'") == [["paying"]]
    posthog.reset()
    assert refusal(api, "SELECT * FROM stripe.charges") == (400, 'Unknown table "stripe.charges".')
    assert refusal(api, "SELECT * FROM paying") == (400, 'Unknown table "paying".')


@pytest.mark.parametrize(
    ("order", "body", "detail"),
    [
        ("tables", {"name": "events", "columns": {"a": "Int64"}}, "There is a table 'events' already."),
        ("tables", {"name": "a b", "columns": {"a": "Int64"}}, "'a b' is not a name of a table"),
        ("tables", {"name": "x", "columns": {"a": "Integral"}}, "Table 'x'"),
        ("tables", {"name": "x"}, "'columns' is missing."),
        ("tables", {"name": "x", "columns": {"a": "Int64"}, "rows": [{"a": "no"}]}, "Table 'x'"),
        ("views", {"name": "x", "query": "SELECT (("}, "View 'x'"),
        ("views", {"name": "x", "query": "SELECT 1", "more": 1}, "There is no 'more' here."),
        ("rows", {"table": "nope", "rows": []}, "Send 'table', one of heatmaps"),
        ("rows", {"table": "logs", "rows": [{"nope": 1}]}, "Table 'logs' has no column 'nope'."),
        ("cohorts", {"name": "x", "distinct_ids": ["nobody"]}, "Nobody has the distinct id 'nobody'."),
        ("cohorts", {"name": "x", "query": "SELECT nope"}, "'query': Unable to resolve field: nope"),
        ("cohorts", {"name": "x", "query": "SELECT 1", "persons": []}, "Send one of persons"),
        ("actions", {"name": "x", "steps": [{"selector": "a"}]}, "A step has no 'selector'."),
        ("actions", {"name": 3, "steps": []}, "'name' takes a text, not 3."),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    posthog: EmulatorProcess, order: str, body: dict[str, object], detail: str
) -> None:
    with pytest.raises(EmulatorError) as caught:
        posthog.control("POST", order, body)
    assert ": 400 " in str(caught.value)
    assert detail in str(caught.value)


# -- the server's own state -------------------------------------------------------------------------------------------


def test_every_table_can_be_read_and_a_reset_empties_those_that_tests_fill(
    api: Client, posthog: EmulatorProcess
) -> None:
    names = [name for name in tables(newer=True) if name != "numbers"]
    counts = " UNION ALL ".join(f"SELECT '{name}' AS name, count() AS n FROM {name}" for name in names)
    before = rows(api, f"SELECT * FROM ({counts}) ORDER BY name LIMIT 500")
    assert len(before) == len(names) > 60
    for name in names:
        if name in system_tables():
            posthog.add_rows(name, [{}])
    for name in ("heatmaps", "flag_evaluations"):
        posthog.add_rows(name, [{"timestamp": AT}])
    posthog.add_recordings([{"session_id": "s", "distinct_id": "d", "timestamp": AT}])
    posthog.add_cohort("a", distinct_ids=["user-1"], is_static=True)
    posthog.add_cohort("b", distinct_ids=["user-1"])
    posthog.add_action("c", [{"event": "x"}])
    posthog.add_persons(1)
    posthog.capture([{"event": "x", "distinct_id": "y", "properties": {"$session_id": "z"}}])
    assert rows(api, f"SELECT * FROM ({counts}) ORDER BY name LIMIT 500") != before
    posthog.reset()
    assert rows(api, f"SELECT * FROM ({counts}) ORDER BY name LIMIT 500") == before


def test_the_catalog_tells_of_every_table_its_columns_and_its_links(api: Client, posthog: EmulatorProcess) -> None:
    posthog.add_table("stripe.charges", {"id": "Int64", "email": "Nullable(String)"})
    posthog.add_view("known", "SELECT 1 AS a")
    schema = "system.information_schema"
    listed = rows(api, f"SELECT table_name, table_type, table_schema FROM {schema}.tables LIMIT 500")
    kinds = {name: (kind, place) for name, kind, place in listed}
    assert kinds["events"] == ("posthog", "public")
    assert kinds["system.cohorts"] == ("system", "system")
    assert kinds["stripe.charges"] == ("data_warehouse", "warehouse")
    assert kinds["known"] == ("view", "views")
    assert kinds[f"{schema}.tables"] == ("information_schema", "information_schema")
    columns = "column_name, ordinal_position, data_type, is_nullable"
    assert rows(api, f"SELECT {columns} FROM {schema}.columns WHERE table_name = 'stripe.charges'") == [
        ["id", 1, "Integer", False],
        ["email", 2, "String", True],
    ]
    with_ids = f"SELECT DISTINCT table_name FROM {schema}.columns WHERE column_name = 'distinct_id' LIMIT 500"
    assert {"events", "sessions", "heatmaps", "posthog.ai_events"} <= {name for (name,) in rows(api, with_ids)}
    link = f"SELECT source_column, target_table FROM {schema}.relationships WHERE source_table = 'cohort_people'"
    assert rows(api, link) == [["person_id", "persons"]]


def test_definitions_are_those_of_the_data(api: Client, posthog: EmulatorProcess) -> None:
    kinds = "SELECT property_type FROM system.property_definitions WHERE type = 1 AND name = '{}'"
    assert rows(api, kinds.format("$screen_width")) == [["Numeric"]]
    assert rows(api, kinds.format("$browser")) == [["String"]]
    assert rows(api, "SELECT group_key FROM system.groups ORDER BY group_key LIMIT 1") == [["acme:0"]]
    assert rows(api, "SELECT group_type FROM system.group_type_mappings") == [["company"]]
    assert rows(api, "SELECT id, timezone FROM system.teams") == [[1, "UTC"]]


def test_jobs_that_only_posthog_runs_are_ordered_by_tests(api: Client, posthog: EmulatorProcess) -> None:
    posthog.add_rows(
        "system.source_sync_jobs",
        [{"id": "job-1", "schema_id": "s", "status": "Running", "rows_synced": 3, "created_at": AT}],
    )
    posthog.add_rows(
        "posthog.ai_events", [{"uuid": "u", "distinct_id": "user-1", "total_tokens": 7, "properties": {"a": 1}}]
    )
    job = "SELECT status, rows_synced, created_at, finished_at FROM system.source_sync_jobs"
    assert rows(api, job) == [["Running", 3, "2026-11-20T10:00:00Z", None]]
    generation = "SELECT total_tokens, properties.a, person.properties.email FROM posthog.ai_events"
    assert rows(api, generation) == [[7, "1", "user1@example.invalid"]]


def test_the_log_of_queries_has_those_that_were_run(api: Client, posthog: EmulatorProcess) -> None:
    api.query("SELECT 4242")
    api.query("SELECT nope")
    shown = (
        "SELECT query, status, is_personal_api_key_request, read_bytes >= 0 FROM query_log ORDER BY query_start_time"
    )
    assert rows(api, shown) == [["SELECT 4242", "QueryFinish", 1, 1], ["SELECT nope", "ExceptionBeforeStart", 1, 1]]


def test_old_servers_have_none_of_the_new_tables(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(generation="A")
    for name in ("system.cohorts", "logs", "query_log", "posthog.ai_events"):
        assert refusal(api, f"SELECT 1 FROM {name}") == (400, f'Unknown table "{name.partition(".")[0]}".')


def test_persons_are_as_old_as_their_first_event(api: Client, posthog: EmulatorProcess) -> None:
    compared = (
        "SELECT countIf(abs(dateDiff('second', p.created_at, e.first)) > 1), count() FROM persons AS p JOIN "
        "(SELECT person_id, min(timestamp) AS first FROM events GROUP BY person_id) AS e ON e.person_id = p.id"
    )
    ((wrong, of),) = rows(api, compared)
    assert (wrong, of > 100) == (0, True)  # type: ignore[operator]


def test_a_query_that_fails_half_way_leaves_nothing_in_the_next_answer(api: Client, posthog: EmulatorProcess) -> None:
    # text that is compared with a number: ClickHouse has begun to write when it notices
    failed = api.query("SELECT event, timestamp FROM events WHERE company.properties.name > 0")
    assert failed.json()["code"] == "no_common_type"
    assert posthog.count_events("2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z") == 20_000
