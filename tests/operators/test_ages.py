"""Exports and insights on each age of PostHog, one table for all: what a task says holds whatever server it meets."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobFailed, PostHogJobTimeout
from tests.operators.support import export_operator, finish
from tests.operators.test_refresh import BROKEN, GOOD, board, cached, dashboard_refresh, refresh, saved, when
from tests.support.ages import SERVERS

Case = Callable[[EmulatorProcess], None]


def _a_file_of_hogql(posthog: EmulatorProcess) -> None:
    result = finish(export_operator())
    assert (result["has_content"], result["export_format"]) == (True, "text/csv")
    assert posthog.stats()["exports"]["created"] == 1


def _a_file_of_an_insight_in_the_triggerer(posthog: EmulatorProcess) -> None:
    assert finish(export_operator(insight=1, deferrable=True))["has_content"] is True


def _an_answer_to_the_creation_that_is_lost(posthog: EmulatorProcess) -> None:
    posthog.faults(method="POST", path="*/exports/", cut="after")
    assert finish(export_operator())["has_content"] is True
    assert posthog.stats()["exports"]["created"] == 1


def _a_file_that_never_comes(posthog: EmulatorProcess) -> None:
    posthog.next_exports("exception", exception_text="Something odd.")
    # old servers say nothing of it
    with pytest.raises((PostHogJobFailed, PostHogJobTimeout)):
        finish(export_operator(timeout=1.0))


def _an_insight_is_calculated_anew(posthog: EmulatorProcess) -> None:
    insight = saved(posthog)["id"]
    before = finish(refresh(insight=insight))["last_refresh"]
    posthog.capture([{"event": "brand_new", "distinct_id": "someone"}])
    done = finish(refresh(insight=insight, deferrable=True))
    assert when(done["last_refresh"]) > when(before)
    assert "brand_new" in json.dumps(cached(posthog, insight)["result"])


def _a_broken_insight_is_no_success(posthog: EmulatorProcess) -> None:
    insight = saved(posthog, BROKEN)["id"]
    with pytest.raises(PostHogError, match="nope"):
        finish(refresh(insight=insight))


def _every_tile_of_a_dashboard_is_new(posthog: EmulatorProcess) -> None:
    dashboard, tiles = board(posthog, 2)
    assert finish(dashboard_refresh(dashboard=dashboard))["refreshed"] == len(tiles)


def _a_query_answers(posthog: EmulatorProcess) -> None:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    rows = PostHogHook().get_records(f"{GOOD['query']} LIMIT 1000")
    assert sum(int(row[1]) for row in rows) == posthog.count_events("2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z")


CASES: Mapping[str, Case] = {
    case.__name__.strip("_"): case
    for case in (
        _a_file_of_hogql,
        _a_file_of_an_insight_in_the_triggerer,
        _an_answer_to_the_creation_that_is_lost,
        _a_file_that_never_comes,
        _an_insight_is_calculated_anew,
        _a_broken_insight_is_no_success,
        _every_tile_of_a_dashboard_is_new,
        _a_query_answers,
    )
}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("case", CASES)
def test_what_a_task_says_holds(connected: EmulatorProcess, case: str, server: str) -> None:
    connected.settings(**SERVERS[server])
    CASES[case](connected)
