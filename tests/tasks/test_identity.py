"""Whose a job is: markers, clearings and lives of a run."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_posthog.tasks.identity import Identity, Job, Marker
from tests.operators.support import context


def test_a_marker_is_read_back() -> None:
    marker = Identity.of(context()).marker({"export_format": "text/csv"})
    assert Marker.parse(str(marker)) == marker


@pytest.mark.parametrize("text", [None, 7, "", "a.b.c", "a.b.c.d", "a.1.c", "a.\u00b2.c.d", "a.1.b.c.d", {"a": 1}])
def test_other_texts_are_no_markers(text: object) -> None:
    assert Marker.parse(text) is None


def test_each_submission_has_a_marker_of_its_own() -> None:
    identity = Identity.of(context())
    first, second = identity.marker({"q": 1}), identity.marker({"q": 1})
    assert str(first) != str(second)
    assert (first.owner, first.clearing, first.request) == (second.owner, second.clearing, second.request)


@pytest.mark.parametrize("other", [context(run_id="manual__2"), context(map_index=3)])
def test_runs_and_mapped_tasks_have_owners_of_their_own(other: dict[str, object]) -> None:
    assert Identity.of(context()).owner != Identity.of(other).owner


def test_two_deployments_of_one_dag_are_two_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging and production with the same DAG, run and task must not cancel each other's jobs."""
    here = Identity.of(context()).owner
    monkeypatch.setenv("AIRFLOW__POSTHOG__DEPLOYMENT", "staging")
    staging = Identity.of(context()).owner
    monkeypatch.setenv("AIRFLOW__POSTHOG__DEPLOYMENT", "production")
    assert len({here, staging, Identity.of(context()).owner}) == 3
    monkeypatch.delenv("AIRFLOW__POSTHOG__DEPLOYMENT")
    assert Identity.of(context()).owner == here
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example.org/")
    told = Identity.of(context()).owner
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://staging.example.org")
    assert len({here, told, Identity.of(context()).owner}) == 3


def test_tries_share_an_owner_and_no_personal_text_is_in_it() -> None:
    first, second = Identity.of(context()), Identity.of(context(try_number=2))
    assert (first.owner, first.clearing) == (second.owner, second.clearing)
    assert "manual" not in first.owner


@pytest.mark.parametrize(
    ("try_number", "retries", "max_tries", "clearing"),
    [(1, 0, 0, 0), (1, 2, 2, 0), (3, 2, 2, 0), (2, 2, 3, 1), (4, 2, 3, 1), (5, 2, 6, 4), (2, 5, 2, 0)],
)
def test_clearing_is_what_airflow_added_to_max_tries(
    try_number: int, retries: int, max_tries: int, clearing: int
) -> None:
    identity = Identity.of(context(try_number=try_number, retries=retries, max_tries=max_tries))
    assert (identity.clearing, identity.try_number) == (clearing, try_number)


def test_outside_the_task_runner_nobody_shares_an_identity() -> None:
    first, second = Identity.of({}), Identity.of({})
    assert first.owner != second.owner
    assert first.try_number == 1


def test_a_job_of_the_run_before_it_was_made_again_is_another_life() -> None:
    began = datetime.now(timezone.utc)
    identity = Identity.of(context(try_number=2, began=began))
    marker = str(identity.marker({}))
    day = timedelta(days=1).total_seconds()
    assert identity.shares_life(Job("1", marker, began.timestamp() + 5))
    assert not identity.shares_life(Job("1", marker, began.timestamp() - day))
    assert Identity.of(context(try_number=2)).shares_life(Job("1", marker, began.timestamp() - day))
    cleared = Identity.of(context(try_number=2, max_tries=3, began=began))
    assert not cleared.shares_life(Job("1", marker, began.timestamp() + 5))
    assert not identity.shares_life(Job("1", "no marker", began.timestamp() + 5))


def test_a_job_is_kept_as_json_without_what_posthog_said() -> None:
    job = Job("7", "m", 12.5, {"id": 7, "created_by": "a@b.example"})
    kept = json.loads(json.dumps(job.to_json()))
    assert kept == {"id": "7", "marker": "m", "submitted_at": 12.5}
    assert Job.from_json(kept) == job


@pytest.mark.parametrize("kept", [None, "7", [], {}, {"id": ""}, {"id": None}])
def test_other_values_are_no_jobs(kept: object) -> None:
    assert Job.from_json(kept) is None
