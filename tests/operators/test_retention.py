"""Exports and queries of events that PostHog hides."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.api import insights
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.results.retention_guard import RetentionGuard
from tests.operators.support import context, created, finish

NOW = datetime.now(timezone.utc)
HOGQL = "SELECT uuid FROM events LIMIT 300"
OLD = {"kind": "EventsQuery", "select": ["uuid"], "after": f"{NOW - timedelta(days=150):%Y-%m-%d}", "limit": 10}
NEW = {**OLD, "after": "-2d"}
TREND = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}


@pytest.fixture
def enforced(connected: EmulatorProcess) -> EmulatorProcess:
    connected.settings(event_retention_months=3, events_retention_enforced=True)
    return connected


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the guards of tasks say."""
    handler, texts = logging.Handler(), []
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("tests.said")
    log.setLevel("INFO")
    monkeypatch.setattr(log, "handlers", [handler])
    made = RetentionGuard.__init__
    monkeypatch.setattr(RetentionGuard, "__init__", lambda self, choice, ask, _: made(self, choice, ask, log))
    return texts


def export(query: Any = None, **options: Any) -> Any:
    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 20, "deferrable": False}
    return PostHogCreateExportOperator(query=query, **{**given, **options})


def query(**options: Any) -> Any:
    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 20, "deferrable": False}
    return PostHogQueryOperator(**{**given, **options})


def saved(**span: str) -> int:
    node = {"kind": "InsightVizNode", "source": {**TREND, "dateRange": span}}
    found = PostHogHook().send(insights.create(query=node, name="aged"))
    return int(found["id"])


def asked(posthog: EmulatorProcess) -> int:
    return sum(call["path"] == "/api/projects/1/" for call in posthog.calls("/api/projects/1/", "GET"))


def test_an_export_that_begins_with_hidden_events_is_not_made(enforced: EmulatorProcess) -> None:
    for options in ({"query": OLD}, {"insight": saved(date_from=OLD["after"])}, {"export_context": {"source": OLD}}):
        with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
            export(**options).execute(context())
    assert created(enforced) == 0


def test_of_wrapped_queries_it_is_known_too(enforced: EmulatorProcess) -> None:
    with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
        export({"kind": "DataTableNode", "source": OLD}).execute(context())
    assert created(enforced) == 0


def test_with_a_warning_it_is_made(enforced: EmulatorProcess, said: list[str]) -> None:
    assert finish(export(OLD, on_retention="warn"))["has_content"]
    assert len(said) == 1
    assert "Going on with what is left" in said[0]
    assert asked(enforced) == 1


def test_an_export_of_hogql_is_made_with_a_warning(enforced: EmulatorProcess, said: list[str]) -> None:
    assert finish(export(HOGQL))["has_content"]
    assert len(said) == 1
    assert "are not in the answer" in said[0]


@pytest.mark.parametrize(
    ("what", "options"),
    [
        ("recent events", {"query": NEW}),
        ("no events", {"query": "SELECT id FROM persons LIMIT 10"}),
        ("ignored", {"query": OLD, "on_retention": "ignore"}),
        ("ignored in HogQL", {"query": HOGQL, "on_retention": "ignore"}),
        ("a picture", {"export_format": "image/png", "insight": 1}),
    ],
)
def test_of_other_exports_nothing_is_said(
    enforced: EmulatorProcess, said: list[str], what: str, options: dict[str, Any]
) -> None:
    assert finish(export(**options))["has_content"]
    assert said == []


def test_where_it_is_not_enforced_exports_are_made(connected: EmulatorProcess, said: list[str]) -> None:
    connected.settings(event_retention_months=3)
    assert finish(export(OLD))["has_content"]
    assert finish(export(HOGQL))["has_content"]
    assert [text.partition(" of events")[2][:30] for text in said] == [" (3 months) is not enforced ye"]


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("read", [{"query": HOGQL}, {"query": OLD}])
def test_a_query_is_answered_with_a_warning(
    enforced: EmulatorProcess, said: list[str], read: dict[str, Any], deferrable: bool
) -> None:
    assert finish(query(**read, max_rows=1000, deferrable=deferrable))["row_count"] > 0
    assert len(said) == 1
    assert asked(enforced) == 1


def test_a_query_may_be_told_to_fail(enforced: EmulatorProcess) -> None:
    with pytest.raises(PostHogIncompleteError, match="PostHog hides events"):
        query(query=OLD, on_retention="fail").execute(context())
    assert enforced.calls("/query/", "POST") == []


def test_a_query_that_reads_no_events_asks_for_nothing(enforced: EmulatorProcess, said: list[str]) -> None:
    assert finish(query(query="SELECT 1"))["rows"] == [[1]]
    assert (asked(enforced), said) == (0, [])


def test_a_project_that_cannot_be_read_now_does_not_stop_a_query(connected: EmulatorProcess) -> None:
    connected.faults(method="GET", path="/api/projects/1/", status=500, count=-1)
    assert finish(query(query="SELECT count() FROM events"))["row_count"] == 1


@pytest.mark.parametrize("make", [lambda **given: export(HOGQL, **given), lambda **given: query(query=HOGQL, **given)])
def test_a_choice_that_is_none_is_refused(connected: EmulatorProcess, make: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="on_retention"):
        make(on_retention="perhaps").execute(context())
    assert connected.calls() == []
