"""The results of experiments: calculated, waited for through kills, and written; and the wait for a significant one."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogNotFoundError,
    PostHogSettingsError,
)
from airflow_provider_posthog.operators.experiments import PostHogExperimentResultsOperator
from airflow_provider_posthog.sensors.experiments import PostHogExperimentResultSensor
from tests.operators.support import Store, context, finish, outcome_errors, run_trigger, task_deferred

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def result(samples: int, *, significant: bool) -> dict[str, Any]:
    return {
        "baseline": {"key": "control", "number_of_samples": samples, "sum": 5, "sum_squares": 5},
        "variant_results": [
            {
                "key": "test",
                "number_of_samples": samples,
                "sum": 9,
                "sum_squares": 9,
                "significant": significant,
                "chance_to_win": 0.97,
                "credible_interval": [0.1, 0.4],
            }
        ],
    }


def experiment(posthog: EmulatorProcess, **changes: Any) -> int:
    """Add an experiment with daily results of one of its two metrics: the third day has none yet."""
    days = {"2026-11-01": result(10, significant=False), "2026-11-02": result(20, significant=True), "2026-11-03": None}
    metrics = [
        {"uuid": "m1", "name": "signup", "fingerprint": "f1"},
        {"uuid": "m2", "name": "revenue", "fingerprint": "f2"},
    ]
    begun = {"name": "Checkout", "start_date": "2026-11-01T00:00:00Z", "metrics": metrics}
    made = {**begun, "_results": {"m1": days}, **changes}
    return int(posthog.add_records("experiments", [made])[0]["id"])


def operator(number: object, path: Path | None, /, **options: Any) -> PostHogExperimentResultsOperator:
    given = {"task_id": "task", "experiment_id": number, "poll_interval": 0.1, "deferrable": False}
    return PostHogExperimentResultsOperator(**{**given, "path": str(path) if path else None, **options})


def results(number: int, path: Path, **options: Any) -> dict[str, Any]:
    return dict(finish(operator(number, path, **options), context()))


def test_an_experiment_becomes_a_row_for_each_metric_variant_and_day(
    connected: EmulatorProcess,
    tmp_path: Path,
) -> None:
    number = experiment(connected)
    found = results(number, tmp_path / "rows.jsonl")
    assert (found["rows"], found["metrics"], found["without"]) == (6, 1, ["revenue"])
    rows = lines_of(tmp_path / "rows.jsonl")
    assert [(row["day"], row["variant"], row["significant"]) for row in rows[:4]] == [
        ("2026-11-01", "control", None),
        ("2026-11-01", "test", False),
        ("2026-11-02", "control", None),
        ("2026-11-02", "test", True),
    ]
    assert (rows[3]["interval_low"], rows[3]["samples"], rows[3]["is_primary"]) == (0.1, 20, True)
    assert [row["as_of"] is None for row in rows] == [True] * 4 + [False] * 2, "the last is the calculation's own"
    assert rows[5]["day"] == rows[5]["as_of"][:10]
    assert len(connected.calls("/metrics_recalculation/", "POST")) == 1


def test_a_calculation_is_waited_for_and_its_failure_is_one(connected: EmulatorProcess, tmp_path: Path) -> None:
    number = experiment(connected)
    connected.settings(recalculation_outcome="failed")
    with pytest.raises(PostHogJobFailed, match="PostHog could not do it"):
        results(number, tmp_path / "rows.jsonl")
    connected.settings(recalculation_seconds=600)
    with pytest.raises(PostHogJobTimeout):
        results(number, tmp_path / "rows.jsonl", timeout=0.2)
    assert not (tmp_path / "rows.jsonl").exists()


def test_an_experiment_without_results_is_an_error(connected: EmulatorProcess, tmp_path: Path) -> None:
    number = experiment(connected, _results={})
    with pytest.raises(PostHogJobFailed, match="has a result"):
        results(number, tmp_path / "rows.jsonl", recalculate=False)


def decided(number: int, **options: Any) -> Any:
    made = {"poke_interval": 0.05, "timeout": 0.2, "mode": "poke", **options}
    return PostHogExperimentResultSensor(task_id="task", experiment_id=number, **made).execute(context())


def test_a_significant_result_is_waited_for(connected: EmulatorProcess) -> None:
    number = experiment(connected)
    assert [row["variant"] for row in decided(number)["results"]] == ["test"]
    with pytest.raises(outcome_errors().timeout):
        decided(number, metric="revenue")
    with pytest.raises(outcome_errors().timeout):
        decided(number, variant="other")
    with pytest.raises(PostHogJobFailed, match="no such metric"):
        decided(number, metric="nope")
    over = experiment(
        connected, end_date="2026-11-05T00:00:00Z", _results={"m1": {"2026-11-04": result(9, significant=False)}}
    )
    with pytest.raises(PostHogJobFailed, match="has ended"):
        decided(over)


def test_daily_results_that_fail_are_the_reason_of_a_wait(connected: EmulatorProcess) -> None:
    number = experiment(connected)
    body = {"metric_uuid": "m1", "status": "failed", "timeseries": {}, "errors": {"2026-11-01": "Not enough memory"}}
    connected.faults(path="*/timeseries_results/", status=200, body=body, count=-1)
    with pytest.raises(outcome_errors().timeout, match="could not calculate it so far: Not enough memory"):
        decided(number)


@pytest.mark.parametrize("overwrite", ["False", "True"])
def test_a_template_may_say_whether_a_file_is_replaced(
    connected: EmulatorProcess, tmp_path: Path, overwrite: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("something else\n")
    number = experiment(connected)
    if overwrite == "True":
        assert results(number, path, recalculate=False, overwrite=overwrite)["rows"] == 4
        return
    with pytest.raises(PostHogSettingsError, match="already exists"):
        results(number, path, recalculate=False, overwrite=overwrite)


def test_a_metric_that_failed_is_named_and_the_rest_is_written_only_on_request(
    connected: EmulatorProcess, tmp_path: Path
) -> None:
    number = experiment(connected, _errors={"m2": "Not enough memory"})
    with pytest.raises(PostHogJobFailed, match=r"could not calculate 1 of 2 metrics .*: revenue\. Not enough memory\."):
        results(number, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()
    found = results(number, tmp_path / "rows.jsonl", allow_failed=True)
    assert (found["failed"], found["metrics"]) == (["revenue"], 1)


def test_metrics_that_experiments_share_count_too(connected: EmulatorProcess, tmp_path: Path) -> None:
    query = {"uuid": "m9", "fingerprint": "f9"}
    saved = [{"name": "retention", "metadata": {"type": "secondary"}, "query": query}]
    days = {"2026-11-01": result(7, significant=False)}
    number = experiment(connected, metrics=[], saved_metrics=saved, _results={"m9": days})
    assert results(number, tmp_path / "rows.jsonl", recalculate=False)["rows"] == 2
    row = lines_of(tmp_path / "rows.jsonl")[0]
    assert (row["metric"], row["is_primary"], row["samples"]) == ("retention", False, 7)


def test_rows_go_into_a_table_in_place_of_those_of_the_run_before(
    connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "lake.db")}))
    number, other = experiment(connected), experiment(connected)
    for each in (number, other, number):
        found = finish(operator(each, None, table="results", sql_conn_id="lake"), context())
        assert (found["rows"], found["path"], found["table"]) == (6, None, "results")
    with closing(sqlite3.connect(tmp_path / "lake.db")) as database:
        counts = database.execute("SELECT experiment_id, count(*) FROM results GROUP BY 1").fetchall()
        assert dict(counts) == {number: 6, other: 6}
        (low,) = database.execute("SELECT interval_low FROM results WHERE variant = 'test' LIMIT 1").fetchone()
        assert low == 0.1


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"experiment_id": "x"}, "experiment_id"),
        ({"path": None}, "path"),
        ({"path": None, "table": "results"}, "table"),
        ({"sql_conn_id": "lake"}, "table"),
    ],
)
def test_what_cannot_end_well_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    number = experiment(connected)
    with pytest.raises(PostHogSettingsError) as caught:
        finish(operator(number, None, **{"path": str(tmp_path / "rows.jsonl"), **options}), context())
    assert caught.value.field == field
    assert not connected.calls("/metrics_recalculation/")


def test_an_experiment_that_has_not_begun_is_not_calculated(connected: EmulatorProcess, tmp_path: Path) -> None:
    number = experiment(connected, start_date=None)
    with pytest.raises(PostHogSettingsError, match="Launch it first"):
        results(number, tmp_path / "rows.jsonl")
    assert not connected.calls("/metrics_recalculation/")
    with pytest.raises(outcome_errors().timeout):
        decided(number)


def test_the_wait_is_deferred_and_outlives_a_triggerer(connected: EmulatorProcess, tmp_path: Path) -> None:
    connected.settings(recalculation_seconds=1.0)
    task, ctx = operator(experiment(connected), tmp_path / "rows.jsonl", deferrable=True), context()
    with pytest.raises(task_deferred()) as deferred:
        task.execute(ctx)
    assert not (tmp_path / "rows.jsonl").exists()
    events = [run_trigger(deferred.value.trigger) for _ in range(2)]  # type: ignore[attr-defined]  # the second is another triggerer's
    assert [event["outcome"] for event in events] == ["succeeded"] * 2
    # what it wakes up as is another process
    again = operator(task.experiment_id, tmp_path / "rows.jsonl", deferrable=True)
    assert again.execute_complete(ctx, events[1])["rows"] == 6
    assert len(connected.calls("/metrics_recalculation/", "POST")) == 1


@pytest.mark.parametrize("kept", [True, False], ids=["with Airflow's store", "without"])
@pytest.mark.parametrize("ended", [False, True], ids=["that runs", "that has ended"])
def test_the_try_after_a_killed_worker_goes_on_with_its_calculation(
    connected: EmulatorProcess, tmp_path: Path, kept: bool, ended: bool
) -> None:
    connected.settings(recalculation_seconds=600)
    store = Store() if kept else None
    number = experiment(connected)
    with pytest.raises(task_deferred()):
        operator(number, tmp_path / "rows.jsonl", deferrable=True).execute(context(store=store, began=BEGAN))
    connected.settings(recalculation_seconds=0 if ended else 0.5)
    found = operator(number, tmp_path / "rows.jsonl").execute(context(store=store, began=BEGAN, try_number=2))
    ids = {run["recalculation_id"] for run in (found,)}
    assert ids == {str(latest(connected, number)["id"])}
    assert len(connected.calls("/metrics_recalculation/", "POST")) == (1 if kept or ended else 2)
    assert runs_of(connected, number) == 1


def latest(posthog: EmulatorProcess, number: int) -> dict[str, Any]:
    from tests.emulator.client import Client

    return dict(Client(posthog.url, posthog.api_key).get(f"experiments/{number}/metrics_recalculation/latest/").json())


def runs_of(posthog: EmulatorProcess, number: int) -> int:
    """How many calculations were begun, by the answers to the calls that ask for one."""
    asked = [call for call in posthog.calls(f"/experiments/{number}/metrics_recalculation/", "POST")]
    return sum(call["status"] == 201 for call in asked)


def test_a_server_without_calculations_says_so_and_its_daily_results_can_be_had(
    connected: EmulatorProcess, tmp_path: Path
) -> None:
    connected.settings(generation="B")
    number = experiment(connected)
    with pytest.raises(PostHogNotFoundError):
        results(number, tmp_path / "rows.jsonl")
    assert results(number, tmp_path / "rows.jsonl", recalculate=False)["rows"] == 4
