"""What tasks change in PostHog: events, cohorts, annotations, flags."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogSettingsError,
    PostHogValidationError,
)
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.notifications import PostHogNotifier
from airflow_provider_posthog.operators.annotations import PostHogAnnotationOperator
from airflow_provider_posthog.operators.capture import PostHogCaptureOperator
from airflow_provider_posthog.operators.cohorts import PostHogStaticCohortOperator
from airflow_provider_posthog.operators.flags import PostHogFeatureFlagOperator
from airflow_provider_posthog.sensors.cohorts import PostHogCohortCalculatedSensor
from tests.operators.support import connect, connected, context, outcome_errors  # noqa: F401 - a fixture

AT = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


def records(sql: str) -> list[list[Any]]:
    return PostHogHook().get_records(sql)


# -- one event ---------------------------------------------------------------------------------------------------


def test_an_event_of_a_run_is_the_same_in_each_try(connected: EmulatorProcess) -> None:  # noqa: F811
    made = PostHogCaptureOperator(task_id="task", event="loaded", distinct_id="dwh", properties={"rows": 7})
    first = made.execute(context(began=AT))
    again = made.execute(context(began=AT, try_number=2))
    assert (first["sent"], first["verdicts"]) == (1, {"ok": 1})
    assert first["uuids"] == again["uuids"] != made.execute(context(began=AT, run_id="other"))["uuids"]
    found = records("SELECT toString(timestamp), properties.rows FROM events WHERE event = 'loaded' LIMIT 9")
    assert len(found) == 2
    assert found[0][1] == "7"


def test_the_log_ends_with_what_was_sent_or_made(
    connected: EmulatorProcess,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for kind in (PostHogCaptureOperator, PostHogAnnotationOperator):  # whatever Airflow's log is
        monkeypatch.setattr(kind, "log", logging.getLogger("tests.operators"), raising=False)
    caplog.set_level("INFO", "tests.operators")
    PostHogCaptureOperator(task_id="sent", event="loaded", distinct_id=["a", "b"]).execute(context(began=AT))
    mark = PostHogAnnotationOperator(task_id="marked", content="Loaded")
    number = mark.execute(context())["id"]
    mark.execute(context(try_number=2))
    said = [line.partition(" (")[0] for line in caplog.messages]
    assert "PostHog took 2 events" in said
    assert said.index(f"Annotation {number} is there") < said.index(f"Annotation {number} was there already")


def test_a_uuid_and_a_time_of_one_s_own_are_kept(connected: EmulatorProcess) -> None:  # noqa: F811
    wish = "0b9bd5c4-4b52-4c5a-8f0e-0f5a4c5b2d11"
    options: dict[str, Any] = {"event": "e", "distinct_id": "x", "uuid": wish, "timestamp": "2026-11-01T13:00:00+01:00"}
    found = PostHogCaptureOperator(task_id="task", **options).execute({})
    assert found["uuids"] == [wish]
    assert records("SELECT toHour(timestamp) FROM events WHERE event = 'e' LIMIT 9") == [[12]]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"event": ""}, "event"),
        ({"distinct_id": "guest"}, "distinct_id"),
        ({"distinct_id": []}, "distinct_id"),
        ({"timestamp": "2026-11-01T13:00:00"}, "timestamp"),
        ({"uuid": "seven"}, "uuid"),
        ({"uuid": "0b9bd5c4-4b52-4c5a-8f0e-0f5a4c5b2d11", "distinct_id": ["a", "b"]}, "uuid"),
        ({"properties": {"a": object()}}, "properties"),
    ],
)
def test_an_event_that_posthog_would_refuse_is_not_sent(
    connected: EmulatorProcess,  # noqa: F811
    options: dict[str, Any],
    field: str,
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        PostHogCaptureOperator(task_id="task", **{"event": "e", "distinct_id": "x", **options}).execute({})
    assert caught.value.field == field
    assert connected.calls("/i/v1/") == []


def test_an_event_that_posthog_drops_fails_the_task(connected: EmulatorProcess) -> None:  # noqa: F811
    connected.settings(capture_quota=0)
    with pytest.raises(PostHogIncompleteError, match="billing_limit_exceeded"):
        PostHogCaptureOperator(task_id="task", event="e", distinct_id="x").execute({})


# -- cohorts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def people(connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:  # noqa: F811
    """Thirty persons, and a database with their ids."""
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE scores (user_id TEXT)")
        connection.executemany("INSERT INTO scores VALUES (?)", [(f"p{n}",) for n in range(30)])
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    return connected.add_persons([{"distinct_ids": [f"p{n}", f"other {n}"]} for n in range(30)])


def audience(**options: Any) -> dict[str, Any]:
    source = {} if {"query", "path"} & set(options) else {"sql_conn_id": "shop", "sql": "SELECT user_id FROM scores"}
    named = {} if "cohort_id" in options else {"name": "Audience"}
    made = {"poll_interval": 0.05, **source, **named, **options}
    return PostHogStaticCohortOperator(task_id="task", **made).execute(context())


def members(cohort: int) -> set[str]:
    return {
        row[0]
        for row in records(f"SELECT toString(person_id) FROM static_cohort_people WHERE cohort_id = {cohort} LIMIT 99")
    }


def test_a_database_s_ids_become_a_cohort_with_everybody_in_it(people: list[str]) -> None:
    found = audience()
    assert (found["ids"], found["persons"], found["members"], found["rejected"]) == (30, 30, 30, 0)
    assert found["created"] is True
    assert members(found["cohort_id"]) == set(people)
    again = audience()
    assert (again["cohort_id"], again["created"], again["members"]) == (found["cohort_id"], False, 30)


def test_many_ids_come_in_parts(people: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_posthog.tasks.cohort_members.MOST_IDS", 7)
    monkeypatch.setattr("airflow_provider_posthog.tasks.cohort_members._PAGE", 8)
    assert audience()["members"] == 30


def test_ids_without_a_person_are_listed_and_never_left_out_unsaid(people: list[str], tmp_path: Path) -> None:
    path, rejects = tmp_path / "ids.csv", tmp_path / "rejects.jsonl"
    path.write_text("name,distinct_id\nA,p1\nB,nobody\nC,other 1\nD,p2\n")
    with pytest.raises(PostHogIncompleteError, match="1 ids have no person") as caught:
        audience(path=str(path), rejects_path=str(rejects))
    assert "nobody" not in str(caught.value)
    assert json.loads(rejects.read_text())["distinct_id"] == "nobody"
    found = audience(path=str(path), rejects_path=str(rejects), max_rejects=1)
    assert (found["ids"], found["persons"], found["members"], found["rejected"]) == (4, 2, 2, 1)


def test_whom_posthog_leaves_out_is_named(connected: EmulatorProcess, people: list[str], tmp_path: Path) -> None:  # noqa: F811
    connected.settings(cohort_lost=3)
    rejects = tmp_path / "rejects.jsonl"
    with pytest.raises(PostHogIncompleteError, match="left 3 persons out"):
        audience(rejects_path=str(rejects), max_rejects=99)
    lines = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert {line["reason"] for line in lines} == {"not_in_cohort"}
    assert {line["person_id"] for line in lines} < set(people)


def test_a_query_fills_a_cohort_and_replace_takes_the_others_out(people: list[str]) -> None:
    first = audience()
    query = "SELECT person_id FROM person_distinct_ids WHERE distinct_id IN {ids}"
    found = audience(cohort_id=first["cohort_id"], query=query, values={"ids": ["p1", "p2"]}, replace=True)
    assert (found["ids"], found["persons"], found["members"], found["removed"]) == (None, 2, 2, 28)
    assert members(first["cohort_id"]) == {people[1], people[2]}


def test_what_posthog_calculates_for_long_is_waited_for(connected: EmulatorProcess, people: list[str]) -> None:  # noqa: F811
    connected.settings(cohort_seconds=600)
    with pytest.raises(PostHogJobTimeout):
        audience(timeout=0.1)
    connected.settings(cohort_seconds=0)
    with pytest.raises(PostHogValidationError):
        audience(name="Broken", query="SELECT toString(1) AS nothing, person_id FROM persons_of_nobody")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"query": "SELECT 1", "path": "x"}, "query"),
        ({"name": None}, "name"),
        ({"cohort_id": 3, "name": "x"}, "name"),
        ({"sql_conn_id": None, "sql": "SELECT 1"}, "sql_conn_id"),
        ({"max_rejects": -1}, "max_rejects"),
        ({"column": "nope"}, "column"),
        ({"path": "/nowhere/x.csv"}, "path"),
    ],
)
def test_a_cohort_that_cannot_work_is_refused(people: list[str], options: dict[str, Any], field: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        audience(**options)
    assert caught.value.field == field


def test_a_cohort_is_calculated_when_its_count_is_new(connected: EmulatorProcess, people: list[str]) -> None:  # noqa: F811
    number = audience()["cohort_id"]

    def sensor(**options: Any) -> Any:
        made = {"poke_interval": 0.05, "timeout": 0.2, "mode": "poke", **options}
        return PostHogCohortCalculatedSensor(task_id="task", cohort_id=number, **made).execute(context())

    assert sensor()["count"] == 30
    with pytest.raises(outcome_errors().timeout):
        sensor(newer_than=datetime.now(timezone.utc) + timedelta(hours=1))
    connected.settings(cohort_seconds=600)
    PostHogHook().send(_add_nobody(number))
    with pytest.raises(outcome_errors().timeout):
        sensor()
    with pytest.raises(PostHogSettingsError, match="newer_than"):
        sensor(newer_than="soon")


def _add_nobody(number: int) -> Any:
    from airflow_provider_posthog.api import cohorts, queries

    return cohorts.add_by_query(number, query=queries.hogql("SELECT person_id FROM person_distinct_ids WHERE 1 = 2"))


# -- annotations and notifiers -----------------------------------------------------------------------------------


def annotations() -> list[dict[str, Any]]:
    from airflow_provider_posthog.api import annotations as api

    return list(PostHogHook().pages(api.list()))


def test_a_run_has_one_annotation_however_often_it_is_tried(connected: EmulatorProcess) -> None:  # noqa: F811
    made = PostHogAnnotationOperator(task_id="task", content="Loaded", date_marker="2026-11-01T12:00:00Z", emoji="x")
    first, again = made.execute(context()), made.execute(context(try_number=2))
    assert (first["created"], again["created"], first["id"]) == (True, False, again["id"])
    made.content = "Loaded again"
    made.execute(context(try_number=3))
    (found,) = annotations()
    assert found["content"].startswith("Loaded again [airflow ")
    assert (found["scope"], found["emoji"]) == ("project", "x")
    made.execute(context(run_id="other"))
    assert len(annotations()) == 2


def test_an_annotation_whose_answer_was_lost_is_not_made_twice(connected: EmulatorProcess) -> None:  # noqa: F811
    connected.faults(method="POST", path="*/annotations/", cut="after")
    found = PostHogAnnotationOperator(task_id="task", content="Loaded").execute(context())
    assert found["created"] is True
    assert len(annotations()) == 1


@pytest.mark.parametrize(
    ("options", "field"),
    [({"content": " "}, "content"), ({"scope": "recording"}, "scope"), ({"date_marker": "2026-11-01"}, "date_marker")],
)
def test_an_annotation_that_cannot_work_is_refused(
    connected: EmulatorProcess,  # noqa: F811
    options: dict[str, Any],
    field: str,
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        PostHogAnnotationOperator(task_id="task", **{"content": "x", **options}).execute(context())
    assert caught.value.field == field


def test_a_notifier_tells_of_a_run_once_as_an_annotation(connected: EmulatorProcess) -> None:  # noqa: F811
    told = PostHogNotifier(content="dag failed")
    for _ in range(2):
        told.notify(context(began=AT))
    asyncio.run(told.async_notify(context(began=AT)))
    (found,) = annotations()
    assert found["content"].startswith("dag failed [airflow ")
    PostHogNotifier(content="dag succeeded").notify(context(began=AT))
    assert len(annotations()) == 2


def test_a_notifier_tells_of_a_run_once_as_an_event(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, posthog, project_token=posthog.project_token)
    told = PostHogNotifier(kind="event", content="failed", properties={"team": "dwh"})
    told.notify(context(began=AT))
    # a deadline alert's context is of plain dictionaries
    run = {"dag_id": "dag", "run_id": "manual__1", "state": SimpleNamespace(value="running")}
    for _ in range(2):
        asyncio.run(told.async_notify({"dag_run": run}))
    sql = "SELECT properties.dag_id, properties.team, properties.state FROM events WHERE event = 'airflow notification'"
    assert sorted(records(f"{sql} LIMIT 9"), key=str) == [["dag", "dwh", "running"], ["dag", "dwh", None]]


def test_a_notifier_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(PostHogSettingsError, match="kind"):
        PostHogNotifier(kind="mail")


# -- feature flags -----------------------------------------------------------------------------------------------


@pytest.fixture
def flag(connected: EmulatorProcess) -> int:  # noqa: F811
    groups = [{"properties": [{"key": "plan", "value": "pro"}], "rollout_percentage": 10}]
    (made,) = connected.add_records(
        "feature_flags", [{"key": "checkout", "active": False, "filters": {"groups": groups}}]
    )
    return int(made["id"])


def set_flag(**options: Any) -> dict[str, Any]:
    return PostHogFeatureFlagOperator(task_id="task", **{"flag": "checkout", **options}).execute(context())


def test_a_flag_is_rolled_out_and_read_back_and_nothing_else_of_it_changes(
    connected: EmulatorProcess,  # noqa: F811
    flag: int,
) -> None:
    found = set_flag(rollout_percentage="50", active=True)
    before = {"active": False, "rollout_percentage": 10}
    assert found == {
        "id": flag,
        "key": "checkout",
        "active": True,
        "rollout_percentage": 50,
        "before": before,
        "changed": True,
    }
    assert set_flag(rollout_percentage=50)["changed"] is False
    assert len(connected.calls("/feature_flags/", "PATCH")) == 1
    assert set_flag(flag=flag, active=False)["active"] is False
    assert set_flag(**found["before"])["rollout_percentage"] == 10
    from airflow_provider_posthog.api import feature_flags

    shown: Any = PostHogHook().send(feature_flags.retrieve(flag))
    assert shown["filters"]["groups"][0]["properties"] == [{"key": "plan", "value": "pro"}]


def test_a_flag_that_posthog_does_not_change_fails_the_task(connected: EmulatorProcess, flag: int) -> None:  # noqa: F811
    connected.settings(flags_frozen=True)
    with pytest.raises(PostHogJobFailed, match="PostHog shows"):
        set_flag(rollout_percentage=50)


def test_of_several_conditions_one_is_named(connected: EmulatorProcess) -> None:  # noqa: F811
    connected.add_records("feature_flags", [{"key": "two", "filters": {"groups": [{}, {"rollout_percentage": 5}]}}])
    with pytest.raises(PostHogSettingsError, match="condition"):
        set_flag(flag="two", rollout_percentage=50)
    assert set_flag(flag="two", rollout_percentage=50, condition=1)["before"]["rollout_percentage"] == 5


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "flag"),
        ({"flag": "nope", "active": True}, "flag"),
        ({"flag": " ", "active": True}, "flag"),
        ({"rollout_percentage": 101}, "rollout_percentage"),
        ({"rollout_percentage": "many"}, "rollout_percentage"),
        ({"active": "yes"}, "active"),
    ],
)
def test_a_flag_that_cannot_be_set_is_refused(flag: int, options: dict[str, Any], field: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        set_flag(**options)
    assert caught.value.field == field
