"""A static cohort is filled while the task waits in the triggerer, through kills, and nobody is left out."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import jobs
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogSettingsError,
)
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.cohorts import PostHogStaticCohortOperator
from airflow_provider_posthog.tasks.cohort_fill import Fill
from tests.operators.support import context, run_trigger, task_deferred


class Shop:
    """A database with ids, and PostHog with a person for each."""

    def __init__(self, posthog: EmulatorProcess, path: Path) -> None:
        self.posthog, self.path = posthog, path
        posthog.add_persons([{"distinct_ids": [f"p{number}"]} for number in range(30)])
        self.want(range(25))

    def want(self, numbers: Any) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DROP TABLE IF EXISTS scores")
            connection.execute("CREATE TABLE scores (user_id TEXT)")
            connection.executemany("INSERT INTO scores VALUES (?)", [(f"p{number}",) for number in numbers])

    def fills(self) -> int:
        """How often PostHog was asked to put persons into a cohort."""
        calls = self.posthog.calls("/cohorts/")
        return sum(call["method"] in ("POST", "PATCH") for call in calls)


@pytest.fixture
def shop(connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "shop.db")}))
    monkeypatch.setattr("airflow_provider_posthog.tasks.cohort_members.MOST_IDS", 10)
    connected.settings(cohort_seconds=0.4)
    return Shop(connected, tmp_path / "shop.db")


def audience(**options: Any) -> PostHogStaticCohortOperator:
    source = {"name": "Audience", "sql_conn_id": "shop", "sql": "SELECT user_id FROM scores"}
    given = {"task_id": "task", "poll_interval": 0.1, "deferrable": True, "timeout": 20}
    return PostHogStaticCohortOperator(**{**given, **source, **options})


def deferred(work: Any) -> Any:
    """Run what defers; return its trigger."""
    with pytest.raises(task_deferred()) as caught:
        work()
    return caught.value.trigger  # type: ignore[attr-defined]


def to_the_end(ctx: dict[str, Any], event: dict[str, Any] | None = None, **options: Any) -> tuple[dict[str, Any], int]:
    """Run the task through all deferrals, each time as another process would; returns its result and their number."""
    for count in range(20):
        task = audience(**options)
        try:
            return (task.execute(ctx) if event is None else task.execute_complete(ctx, event)), count
        except task_deferred() as found:
            event = run_trigger(found.trigger)  # type: ignore[attr-defined]
    raise AssertionError


def members(number: int) -> int:
    sql = "SELECT count(DISTINCT person_id) FROM static_cohort_people WHERE cohort_id = {id}"
    return int((PostHogHook().get_first(sql, {"id": number}) or [0])[0])


def test_each_part_is_waited_for_in_the_triggerer_and_put_in_once(shop: Shop) -> None:
    result, deferrals = to_the_end(context())
    assert (result["ids"], result["members"], result["created"]) == (25, 25, True)
    assert members(result["cohort_id"]) == 25
    assert (deferrals, shop.fills()) == (3, 3)


def test_a_triggerer_that_died_tells_the_same_when_it_comes_back(shop: Shop) -> None:
    trigger = deferred(lambda: audience().execute(context()))
    first, second = run_trigger(trigger), run_trigger(trigger)
    assert (first["outcome"], first["job_id"]) == (second["outcome"], second["job_id"])
    assert to_the_end(context(), second)[0]["members"] == 25
    assert shop.fills() == 3


def test_the_try_after_a_killed_one_makes_no_second_cohort(shop: Shop, connected: EmulatorProcess) -> None:
    trigger = deferred(lambda: audience().execute(context()))
    deferred(lambda: audience().execute_complete(context(), run_trigger(trigger)))
    result, _ = to_the_end(context(try_number=2))
    assert (result["members"], result["created"]) == (25, False)
    names = [one["name"] for one in PostHogHook().client.send(_listed())["results"]]
    assert names == ["Audience"]


def _listed() -> Any:
    from airflow_provider_posthog.api import cohorts

    return cohorts.list()


def test_an_event_for_a_try_that_was_killed_begins_anew(shop: Shop) -> None:
    event = run_trigger(deferred(lambda: audience().execute(context())))
    trigger = deferred(lambda: audience().execute_complete(context(try_number=2), event))
    assert Fill.parse(trigger.job_id).done == 1


def test_ids_that_have_changed_meanwhile_are_all_put_in(shop: Shop) -> None:
    event = run_trigger(deferred(lambda: audience().execute(context())))
    shop.want(range(30))
    result, _ = to_the_end(context(), event)
    assert (result["ids"], members(result["cohort_id"]), result["created"]) == (30, 30, True)


def test_what_is_not_filled_in_time_is_a_timeout(shop: Shop, connected: EmulatorProcess) -> None:
    connected.settings(cohort_seconds=600)
    event = run_trigger(deferred(lambda: audience(timeout=0.5).execute(context())))
    with pytest.raises(PostHogJobTimeout, match="has not filled cohort"):
        audience().execute_complete(context(), event)


def test_a_failed_calculation_and_a_lost_one_are_errors(shop: Shop) -> None:
    event = run_trigger(deferred(lambda: audience().execute(context())))
    with pytest.raises(PostHogJobFailed, match=r"could not calculate cohort \d+: why"):
        audience().execute_complete(context(), {**event, "outcome": "failed", "reason": "why"})
    with pytest.raises(PostHogJobError, match="Lost sight of cohort"):
        audience().execute_complete(context(), {**event, "outcome": "unreachable", "reason": "why"})


def test_a_count_of_before_is_not_taken_for_the_filling() -> None:
    row = {"id": "7", "created": 1_764_441_313.25, "status": "Completed", "rows": 3, "error": None}
    filling = Fill(7, "1764441313.25", 2, True, "abcdef123456")
    for status, before, state in (
        ("Completed", "1764441313.25", "pending"),
        ("Completed", "0", "succeeded"),
        ("Running", "0", "pending"),
        ("Failed", "0", "failed"),
    ):
        text = str(Fill(7, before, 2, True, "abcdef123456"))
        found = {"id": text, "rows": [{**row, "status": status}], "at": 0.0}
        assert jobs.WATCHED.judge(found).state == state
    assert Fill.parse(str(filling)) == filling
    with pytest.raises(PostHogSettingsError, match="Restart the triggerer"):
        Fill.parse("cohort/7/0")
