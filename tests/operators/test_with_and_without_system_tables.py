"""Every task of PostHog's own engines runs where HogQL shows the server's state in ``system.*``, and where it does not.

And deferred as well as in a worker: the look is another one in each case.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.operators.batch_exports import (
    PostHogBackfillBatchExportOperator,
    PostHogPauseBatchExportOperator,
    PostHogRetryBatchExportRunOperator,
    PostHogUnpauseBatchExportOperator,
)
from airflow_provider_posthog.operators.cohorts import PostHogStaticCohortOperator
from airflow_provider_posthog.operators.endpoints import PostHogRunEndpointOperator
from airflow_provider_posthog.operators.experiments import PostHogExperimentResultsOperator
from airflow_provider_posthog.operators.warehouse import (
    PostHogLinkTableOperator,
    PostHogRunDataQualityOperator,
    PostHogRunViewOperator,
    PostHogSyncSourceOperator,
)
from airflow_provider_posthog.sensors.batch_exports import PostHogBatchExportRunSensor
from airflow_provider_posthog.sensors.cohorts import PostHogCohortCalculatedSensor
from tests.emulator.client import Client
from tests.operators.support import finish
from tests.operators.test_experiments import experiment
from tests.support.registry import classes

EXPORT = "Events to the lake"


class Place:
    """The emulator, and where files may go."""

    def __init__(self, posthog: EmulatorProcess, folder: Path, deferrable: bool) -> None:
        self.posthog, self.folder = posthog, folder
        self.api = Client(posthog.url, posthog.api_key)
        self.waits: dict[str, Any] = {"task_id": "task", "deferrable": deferrable, "poll_interval": 0.1, "timeout": 30}
        self.pokes: dict[str, Any] = {"task_id": "task", "deferrable": deferrable, "poke_interval": 0.1, "timeout": 30}

    @property
    def day(self) -> dict[str, datetime]:
        today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        return {"start": today - timedelta(days=3), "end": today - timedelta(days=2)}

    def failed_run(self) -> str:
        self.posthog.settings(batch_outcome="Failed")
        run = self.api.get("batch_exports/").json()["results"][0]["latest_runs"][0]
        self.posthog.settings(batch_outcome="Completed")
        return str(run["id"])

    def people(self) -> dict[str, Any]:
        persons = self.posthog.add_persons([{"distinct_ids": [f"p{number}"]} for number in range(3)])
        return {
            "query": "SELECT person_id FROM person_distinct_ids WHERE person_id IN {ids}",
            "values": {"ids": persons},
        }

    def cohort(self) -> int:
        made = PostHogStaticCohortOperator(task_id="fill", name="Some", poll_interval=0.1, **self.people())
        return int(finish(made)["cohort_id"])

    def check(self) -> str:
        view = next(one for one in self.api.get("warehouse_saved_queries/").json()["results"] if one["is_materialized"])
        self.api.post(f"warehouse_saved_queries/{view['id']}/checks/", {"check_type": "row_count"})
        return str(view["name"])


Make = Callable[[Place], Any]
TASKS: dict[type, Make] = {
    PostHogBackfillBatchExportOperator: lambda p: PostHogBackfillBatchExportOperator(
        batch_export=EXPORT, **p.day, **p.waits
    ),
    PostHogRetryBatchExportRunOperator: lambda p: PostHogRetryBatchExportRunOperator(
        batch_export=EXPORT, run_id=p.failed_run(), **p.waits
    ),
    PostHogPauseBatchExportOperator: lambda p: PostHogPauseBatchExportOperator(task_id="task", batch_export=EXPORT),
    PostHogUnpauseBatchExportOperator: lambda p: PostHogUnpauseBatchExportOperator(task_id="task", batch_export=EXPORT),
    PostHogBatchExportRunSensor: lambda p: PostHogBatchExportRunSensor(batch_export=EXPORT, **p.day, **p.pokes),
    PostHogSyncSourceOperator: lambda p: PostHogSyncSourceOperator(source="Postgres", **p.waits),
    PostHogRunViewOperator: lambda p: PostHogRunViewOperator(view="daily_orders", **p.waits),
    PostHogRunDataQualityOperator: lambda p: PostHogRunDataQualityOperator(view=p.check(), **p.waits),
    PostHogLinkTableOperator: lambda p: PostHogLinkTableOperator(
        task_id="task", name="orders", url_pattern="https://lake.example.com/*.parquet", bucket_conn_id="bucket"
    ),
    PostHogRunEndpointOperator: lambda p: PostHogRunEndpointOperator(task_id="task", endpoint="events-by-day"),
    PostHogStaticCohortOperator: lambda p: PostHogStaticCohortOperator(name="All", **p.people(), **p.waits),
    PostHogCohortCalculatedSensor: lambda p: PostHogCohortCalculatedSensor(cohort_id=p.cohort(), **p.pokes),
    PostHogExperimentResultsOperator: lambda p: PostHogExperimentResultsOperator(
        experiment_id=experiment(p.posthog), path=str(p.folder / "rows.jsonl"), **p.waits
    ),
}
#: Those that a server of before 2026 has not at all: it is one without `system.*` that has them.
NEW = {PostHogRunDataQualityOperator, PostHogExperimentResultsOperator}


@pytest.fixture(params=[True, False], ids=["with system tables", "without"])
def system(request: pytest.FixtureRequest, connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(system_poll, "_missing", {})
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", '{"conn_type": "aws", "login": "AKIA", "password": "secret"}')
    connected.settings(
        **{"batch_run_seconds": 0.1, "backfill_hidden_seconds": 0.1, "batch_jitter_seconds": 0},
        **{"warehouse_job_seconds": 0.1, "checks_seconds": 0.1, "cohort_seconds": 0.1, "recalculation_seconds": 0.1},
    )
    return bool(request.param)


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
@pytest.mark.parametrize("kind", TASKS, ids=lambda kind: kind.__name__)
def test_a_task_runs_with_and_without_them(
    kind: type, system: bool, deferrable: bool, connected: EmulatorProcess, tmp_path: Path
) -> None:
    place = Place(connected, tmp_path, deferrable)
    if not system:
        connected.settings(**({"system_tables": False} if kind in NEW else {"generation": "A"}))
    assert finish(TASKS[kind](place))


def test_every_task_of_these_engines_is_here() -> None:
    known = {
        name.rpartition(".")[2]
        for room in ("operators", "sensors")
        for name, _ in classes(room)
        if name.split(".")[-2] in ("batch_exports", "warehouse", "endpoints")
    }
    assert known <= {kind.__name__ for kind in TASKS}
    assert {"PostHogRunDataQualityOperator", "PostHogBatchExportRunSensor"} <= known
