"""Which HogQL reads events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.results.event_reads import reads_events

READS = [
    "SELECT * FROM events",
    "select event from events where 1",
    "SELECT count() FROM events AS e SAMPLE 0.1",
    "SELECT 1 FROM persons p JOIN events e ON e.person_id = p.id",
    "SELECT 1 FROM persons, events",
    "SELECT 1 FROM persons AS p, events AS e WHERE 1",
    "SELECT 1 FROM a JOIN b ON a.x = b.x, events",
    "SELECT 1 FROM (SELECT a, b FROM c) AS x, events",
    "SELECT * FROM (SELECT * FROM events)",
    "SELECT * FROM (events)",
    "WITH x AS (SELECT uuid FROM events) SELECT * FROM x",
    "SELECT * FROM persons WHERE id IN (SELECT person_id FROM events)",
    "SELECT 1 UNION ALL (SELECT 2 FROM events LIMIT 1)",
    "SELECT * FROM\n-- all of them\nevents",
    "SELECT * FROM /* x */ events",
    "SELECT * FROM // x\n events",
    "SELECT * FROM `events`",
    'SELECT * FROM "events"',
    "SELECT * FROM posthog.events",
    "SELECT * FROM events;",
]
OTHERS = [
    "SELECT 1",
    "SELECT count() AS events FROM sessions",
    "SELECT events FROM persons",
    "SELECT a, events FROM persons ORDER BY a, events",
    "SELECT f(a, events) FROM persons",
    "SELECT 'x FROM events' FROM persons",
    "SELECT 1 FROM persons -- not FROM events",
    "SELECT 1 FROM persons /* JOIN events */",
    "SELECT 1 FROM persons WHERE properties.events = 1",
    "SELECT 1 FROM my_events",
    "SELECT 1 FROM events_of_mine",
    "SELECT 1 FROM stripe.events",
    "SELECT 1 FROM raw_session_replay_events",
    "SELECT 1 FROM persons GROUP BY a, events",
    "",
    "FROM",
]


@pytest.mark.parametrize("sql", READS)
def test_a_statement_reads_events_wherever_it_names_the_table(sql: str) -> None:
    assert reads_events(sql)


@pytest.mark.parametrize("sql", OTHERS)
def test_what_only_looks_like_it_does_not(sql: str) -> None:
    assert not reads_events(sql)


@given(st.text(alphabet="FROMevents ,()[]{}'\"`-/*#.\n\\x", max_size=60))
def test_no_text_breaks_it(sql: str) -> None:
    assert reads_events(sql) in (True, False)
