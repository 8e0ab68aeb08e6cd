"""Conditions that PostHog misreads on persons and sessions are refused before anything is sent; others are not."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract import named_sources, sources


@pytest.mark.parametrize(
    ("where", "instead"),
    [
        ("properties.age % 2 = 0", "modulo(a, b)"),
        ("toInt(properties.age)+1 > 5", "plus(a, b)"),
        ("10 - properties.age < 5", "minus(a, b)"),
        ("properties.a*2 = 4", "multiply(a, b)"),
        ("properties['a'] / 2 = 4", "divide(a, b)"),
        ("-properties.balance > 5", "negate(a)"),
        ("created_at < now() - INTERVAL 30 DAY", "toIntervalDay(30)"),
        ("created_at < {moment} - toIntervalDay(1)", "minus(a, b)"),
        ("is_identified OR (properties.a = 1 AND `properties`.b % 3 != 1)", "modulo(a, b)"),
        ("intDiv((SELECT max(x) - 1 FROM t), 2) = 1", "minus(a, b)"),
        ("f'{properties.a + 1}' = '2'", "plus(a, b)"),
    ],
)
def test_operators_on_persons_are_refused_with_the_function_to_write(where: str, instead: str) -> None:
    with pytest.raises(PostHogSettingsError, match="where: has an operator") as refused:
        sources.persons(where=where, values={"moment": "2026-01-01"})
    assert instead in str(refused.value)
    sources.events(where=where)
    sources.groups(where=where)
    named_sources.person_distinct_ids(where=where)


@pytest.mark.parametrize(
    "where",
    [
        "modulo(properties.age, 2) = 0",
        "properties.balance > -5 AND properties.a IN (-1, +2) OR properties.b BETWEEN -1 AND -2",
        "properties.name LIKE '100 %' -- more - or less",
        "id IN (SELECT person_id FROM events WHERE properties.a % 2 = 0 AND (1 + 1 = 2))",
        "id = (SELECT max(id) FROM persons WHERE 1 - 1 = 0)",
        "created_at < minus(now(), toIntervalDay(30))",
        "properties.`a-b` = '-' AND NOT (properties.c = 1 AND is_identified)",
        "arrayExists(x -> x = 'a', splitByChar(',', properties.tags)) AND properties.a NOT IN ('b')",
        "properties.a = {a_b} AND properties.b IS NOT NULL",
    ],
)
def test_what_posthog_reads_well_on_persons_is_read(where: str) -> None:
    assert sources.persons(where=where).where == where


@pytest.mark.parametrize(
    "where",
    [
        "NOT (properties.a = 1 AND arrayExists(x -> x = 'a', splitByChar(',', properties.tags)))",
        "if(arrayExists(x -> x = 'a', properties.tags) AND properties.a = 1, 1, 0)",
        "arrayCount(x -> x = 'a', properties.tags) BETWEEN 1 AND 2",
    ],
)
def test_a_lambda_that_posthog_leaves_out_of_a_negation_is_refused(where: str) -> None:
    with pytest.raises(PostHogSettingsError, match="where: has a lambda"):
        sources.persons(where=where)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("NOT ($pageview_count = 1)", "has NOT"),
        ("not($pageview_count = 1)", "has NOT"),
        ("$pageview_count = 1 AND NOT $entry_current_url LIKE '%a%'", "has NOT"),
        ("$session_duration BETWEEN 1 AND 5", "has BETWEEN"),
        ("$session_duration NOT BETWEEN 1 AND 5", "has BETWEEN"),
    ],
)
def test_negations_and_ranges_of_sessions_are_refused(where: str, what: str) -> None:
    with pytest.raises(PostHogSettingsError, match=f"where: {what}"):
        sources.sessions(where=where)


@pytest.mark.parametrize(
    "where",
    [
        "$pageview_count % 2 = 0",
        "$entry_current_url NOT LIKE '%a%' AND $channel_type NOT IN ('Direct')",
        "$entry_utm_source IS NOT NULL AND NOT $is_bounce",
        "session_id IN (SELECT properties.$session_id FROM events WHERE NOT (event = 'a'))",
        "$entry_current_url = 'NOT (a)'",
    ],
)
def test_what_posthog_reads_well_on_sessions_is_read(where: str) -> None:
    assert sources.sessions(where=where).where == where


def test_events_are_checked_where_they_bring_persons_or_sessions_along() -> None:
    sources.events({"email": "properties.email"}, where="NOT (event = 'a') AND properties.price * 2 > 1")
    with pytest.raises(PostHogSettingsError, match="has an operator"):
        sources.events({"email": "person.properties.email"}, where="properties.price * 2 > 1")
    with pytest.raises(PostHogSettingsError, match="has an operator"):
        sources.events(where="person.properties.age % 2 = 0")
    with pytest.raises(PostHogSettingsError, match="has NOT"):
        sources.events({"channel": "session.$channel_type"}, where="NOT (event = 'a')")
    sources.events({"channel": "properties.session.a"}, where="NOT (event = 'a')")


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("SELECT id FROM persons WHERE properties.age % 2 = 0", "has an operator"),
        ("SELECT p.id FROM persons AS p WHERE p.properties.age + 1 > 5 ORDER BY p.id", "has an operator"),
        ("SELECT id FROM `persons` PREWHERE -properties.balance > 5", "has an operator"),
        ("SELECT e.uuid AS id FROM events e JOIN persons p ON p.id = e.person_id WHERE e.x / 2 = 1", "has an operator"),
        ("SELECT uuid AS id FROM events WHERE person.properties.age % 2 = 0", "has an operator"),
        ("SELECT e.person.id AS id FROM events AS e WHERE e.a * 2 > 1", "has an operator"),
        ("WITH p AS (SELECT id FROM persons WHERE id - 1 = 0) SELECT id FROM p", "has an operator"),
        ("SELECT id FROM t WHERE id IN (SELECT id FROM persons WHERE properties.a % 2 = 0)", "has an operator"),
        ("SELECT 1 AS id FROM t UNION ALL SELECT id FROM persons WHERE a % 2 = 0 LIMIT 5", "has an operator"),
        ("SELECT id FROM persons WHERE NOT (a = 1 AND arrayExists(x -> x = 'a', b))", "has a lambda"),
        ("SELECT session_id AS id FROM sessions WHERE NOT ($pageview_count = 1)", "has NOT"),
        ("select session_id as id from sessions where $session_duration between 1 and 5", "has BETWEEN"),
        ("SELECT uuid AS id FROM events WHERE NOT (event = 'a') AND session.$is_bounce", "has NOT"),
    ],
)
def test_a_query_is_refused_with_the_same_sentence(query: str, what: str) -> None:
    with pytest.raises(PostHogSettingsError, match=f"query: {what}"):
        sources.hogql(query, key="id")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT uuid AS id FROM events WHERE properties.price * 2 > 1 AND NOT (event = 'a')",
        "SELECT uuid AS id FROM events WHERE properties.person.age % 2 = 0 AND properties.session.a BETWEEN 1 AND 2",
        "SELECT id, 1 + 1 AS two FROM persons WHERE modulo(properties.age, 2) = 0 ORDER BY -id LIMIT 5",
        "SELECT id, count() AS n FROM persons GROUP BY id HAVING n % 2 = 0",
        "SELECT id FROM persons WHERE id IN (SELECT person_id FROM events WHERE properties.a % 2 = 0)",
        "SELECT id FROM (SELECT id FROM persons WHERE is_identified) AS persons_too WHERE id % 2 = 0",
        "SELECT uuid AS id FROM events WHERE a % 2 = 0 AND b IN (SELECT person.id FROM events)",
        "SELECT * EXCEPT (a) FROM t WHERE a % 2 = 0",
        "SELECT session_id AS id FROM sessions WHERE $pageview_count % 2 = 0 AND $channel_type NOT IN ('Direct')",
        "SELECT persons.a AS id FROM mine WHERE persons.a - 1 = 0 -- FROM persons",
        "SELECT 'FROM persons WHERE a % 2' AS id FROM t WHERE b % 2 = 0",
    ],
)
def test_a_query_that_posthog_reads_well_is_read(query: str) -> None:
    assert sources.hogql(query, key="id").query == query
