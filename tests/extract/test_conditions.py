"""Conditions of a task's own: one that would change the rest of the statement is refused."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.conditions import check_condition
from airflow_provider_posthog.tasks.source import source_of

WRONG = {
    "1 = 1) OR (1 = 1": "closes a bracket",
    "event = 'a')": "closes a bracket",
    "event IN ('a', 'b'": "opens a bracket",
    "event IN ['a', 'b')": "closes a bracket",
    "event = {name": "opens a bracket",
    "event = 'a';": "semicolon",
    "event = 'a'; SELECT 1": "semicolon",
    "event = 'a' LIMIT 10": "LIMIT",
    "event = 'a' limit {most}": "LIMIT",
    "event = {name}": "placeholder {name} without a value",
    "event = {name} AND properties.a = {name}": "placeholder {name} without a value",
    "event = 'a' ORDER BY timestamp": "ORDER",
    "event = 'a' GROUP BY event": "GROUP",
    "event = 'a' UNION ALL SELECT 1": "UNION",
    "WHERE event = 'a'": "begins with WHERE",
    "event = 'a": "nothing closes",
    "event = 'a\\'": "nothing closes",
    "`event = 'a'": "nothing closes",
    "event = 'a' /* not yet": "nothing closes",
    "   ": "holds no condition",
    "-- event = 'a'": "holds no condition",
}
RIGHT = [
    "event = 'a' OR event = 'b'",
    "event = 'a' -- only these",
    "event = 'a' // only these",
    "event = 'a' /* ; ) */",
    "event IN (SELECT event FROM events GROUP BY event ORDER BY count() DESC LIMIT 5)",
    "event = ';)' AND properties.`a)b` = 'it''s'",
    "properties.limit > 5 AND properties.order = 'by' AND limit > 5",
    "event = 'ends with \\\\'",
    "event LIKE 'a%' AND (timestamp > {since} OR NOT (event = 'b'))",
    "has(['a', 'b'], event)",
    "f'{event}' = 'a'",
    "",
    None,
]


@pytest.mark.parametrize("where", WRONG)
@pytest.mark.parametrize("table", ["events", "persons", "groups", "session_replays", "feature_flag_calls"])
def test_what_is_no_condition_is_refused_with_what_is_wrong(table: str, where: str) -> None:
    with pytest.raises(PostHogSettingsError, match=WRONG[where]) as caught:
        source_of(table, None, None, where=where)
    assert caught.value.field == "where"


@pytest.mark.parametrize("where", [5, True, ["event = 'a'"], {"event": "a"}])
def test_what_is_no_text_is_refused(where: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="is not text, but of type"):
        check_condition(where)


@pytest.mark.parametrize("where", RIGHT)
def test_conditions_of_any_form_are_taken(where: str | None) -> None:
    values = {"since": "2026-01-01"}
    check_condition(where, values)
    assert source_of("events", None, None, where=where, values=values).where == (where or None)
