"""What a query has made ClickHouse read: told, logged, and guarded."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogRateLimitError, PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.hooks.sql import PostHogSqlHook

SCAN = "select count() from events where properties like '%no such text%'"
READS = ("get_records", "get_first", "get_df")
NAMES = (*READS, "query")
METHODS = pytest.mark.parametrize("method", NAMES)
OF_HOOKS = pytest.mark.parametrize(
    ("hook", "method"),
    [*((PostHogHook, name) for name in NAMES), *((PostHogSqlHook, name) for name in (*READS, "run"))],
)


def queried(posthog: EmulatorProcess) -> list[str]:
    return [call["body"]["query"]["query"] for call in posthog.calls("/query/", "POST")]


@OF_HOOKS
def test_bytes_read_are_told_and_logged_once(
    connected: EmulatorProcess, hook: Callable[..., Any], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = hook()
    getattr(made, method)(SCAN)
    assert made.bytes_read > 1_000_000
    said = [record for record in caplog.records if "of the project's budget are left" in record.getMessage()]
    assert [record.levelname for record in said] == ["INFO"]
    assert "MB for the query" in said[0].getMessage()


@OF_HOOKS
def test_a_query_that_read_more_than_it_may_is_an_error(
    connected: EmulatorProcess, hook: Callable[..., Any], method: str
) -> None:
    with pytest.raises(PostHogSettingsError, match="read") as caught:
        getattr(hook(max_bytes_read=1_000_000), method)(SCAN)
    assert caught.value.field == "max_bytes_read"
    assert getattr(hook(max_bytes_read=10**9), method)(SCAN) is not None or method == "run"


@METHODS
def test_a_calls_own_guard_wins_over_the_hooks(connected: EmulatorProcess, method: str) -> None:
    hook = PostHogHook(max_bytes_read=10**9)
    with pytest.raises(PostHogSettingsError, match="max_bytes_read"):
        getattr(hook, method)(SCAN, max_bytes_read=1000)
    getattr(hook, method)(SCAN)


@pytest.mark.parametrize("hook", [PostHogHook, PostHogSqlHook])
def test_rows_that_are_read_in_parts_are_refused_where_they_could_not_be_guarded(
    connected: EmulatorProcess, hook: Callable[..., Any]
) -> None:
    with pytest.raises(PostHogSettingsError, match="by key") as caught:
        hook(max_bytes_read=1000).get_df("select uuid, properties from events", key="uuid")
    assert caught.value.field == "max_bytes_read"
    assert queried(connected) == []


@METHODS
def test_nothing_begins_that_the_rest_of_the_budget_does_not_cover(connected: EmulatorProcess, method: str) -> None:
    connected.query_budget(5000)
    with pytest.raises(PostHogRateLimitError) as caught:
        getattr(PostHogHook(), method)(SCAN, max_bytes_read=10**12)
    assert SCAN not in queried(connected)
    assert caught.value.code == "own_budget"
    assert (caught.value.retry_after or 0) > 0
    assert "1.00 TB" in str(caught.value)
    assert "docs/limits.md" in str(caught.value)
    assert "..." not in str(caught.value)


@pytest.mark.parametrize("most", [0, -1, True, 1.5, "", "1e9", "many", [1]])
def test_a_guard_that_is_no_number_of_bytes_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, most: Any
) -> None:
    with pytest.raises(PostHogSettingsError, match="max_bytes_read") as caught:
        PostHogHook(max_bytes_read=most).get_records("select 1")
    assert caught.value.field == "max_bytes_read"
    assert connected.calls() == []


def test_a_guard_may_be_text_as_a_template_makes_it(connected: EmulatorProcess) -> None:
    most: Any = " 1_000_000_000 "
    assert PostHogHook(max_bytes_read=most).get_records("select 1") == [[1]]


def test_servers_that_do_not_tell_are_not_guarded(connected: EmulatorProcess, caplog: pytest.LogCaptureFixture) -> None:
    connected.settings(query_budget_headers=False)
    hook = PostHogHook(max_bytes_read=1)
    assert hook.get_records(SCAN) == [[0]]
    assert hook.bytes_read is None
    assert "max_bytes_read guards nothing" in caplog.text


def test_an_empty_budget_stops_the_hook_before_posthogs_429(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected.settings(query_bytes_per_hour=1_000_000, query_budget_hours=1)
    given = json.loads(connected.airflow_connection_json(max_rate_limit_wait=0))
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(given))
    hook = PostHogHook()
    hook.get_records(SCAN)
    for _ in range(3):
        with pytest.raises(PostHogRateLimitError, match="budget of bytes"):
            hook.get_records(SCAN)
    assert queried(connected) == [SCAN]
