"""The table of scopes in docs/connection.md: each task runs with a key that has exactly those, and with no fewer."""

from __future__ import annotations

import itertools
import json
import logging
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.operators.access import PostHogExportPersonDataOperator
from airflow_provider_posthog.operators.annotations import PostHogAnnotationOperator
from airflow_provider_posthog.operators.batch_exports import (
    PostHogBackfillBatchExportOperator,
    PostHogPauseBatchExportOperator,
    PostHogRetryBatchExportRunOperator,
    PostHogUnpauseBatchExportOperator,
)
from airflow_provider_posthog.operators.capture import PostHogCaptureOperator
from airflow_provider_posthog.operators.cohorts import PostHogStaticCohortOperator
from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.operators.endpoints import PostHogRunEndpointOperator
from airflow_provider_posthog.operators.experiments import PostHogExperimentResultsOperator
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.operators.flags import PostHogFeatureFlagOperator
from airflow_provider_posthog.operators.groups import PostHogClearGroupPropertiesOperator
from airflow_provider_posthog.operators.insights import (
    PostHogInsightCheckOperator,
    PostHogInsightShortCircuitOperator,
    PostHogRefreshInsightOperator,
)
from airflow_provider_posthog.operators.persons import (
    PostHogDeletePersonPropertyOperator,
    PostHogDeletePersonsOperator,
    PostHogResolvePersonsOperator,
    PostHogUpdatePersonPropertiesOperator,
)
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.operators.warehouse import (
    PostHogLinkTableOperator,
    PostHogRunDataQualityOperator,
    PostHogRunViewOperator,
    PostHogSyncSourceOperator,
)
from airflow_provider_posthog.sensors.batch_exports import PostHogBatchExportRunSensor
from airflow_provider_posthog.sensors.cohorts import PostHogCohortCalculatedSensor
from airflow_provider_posthog.sensors.experiments import PostHogExperimentResultSensor
from airflow_provider_posthog.sensors.exports import PostHogExportSensor
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor, PostHogInsightThresholdSensor
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor
from airflow_provider_posthog.sensors.retention import PostHogRetentionSensor
from airflow_provider_posthog.transfers.dashboard_to_sql import PostHogDashboardToSqlOperator
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator
from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator
from airflow_provider_posthog.transfers.person_overrides import PostHogPersonOverridesOperator
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from airflow_provider_posthog.transfers.sql_to_posthog import PostHogFromSqlOperator
from tests.emulator.client import Client
from tests.operators.support import context, finish
from tests.operators.test_experiments import experiment
from tests.support.registry import classes

PAGE = Path(__file__).parents[2] / "docs" / "connection.md"
TREND = 2
#: What a task that goes well may log: a start, an end, and some changes.
MOST_LINES = 8
FIRST = "Events to the lake"
WAIT: dict[str, Any] = {"poll_interval": 0.05, "timeout": 20, "deferrable": False}
LOOK: dict[str, Any] = {"poke_interval": 0.05, "timeout": 10, "mode": "poke"}
#: How what a task needs is made, wherever the task itself waits.
HERE: dict[str, Any] = {"timeout": 20, "deferrable": False}
POKE: dict[str, Any] = {"poke_interval": 0.05, "mode": "poke"}


def midnight(days: int) -> datetime:
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=days)


def between(first: int, last: int) -> dict[str, Any]:
    return {"start": midnight(first), "end": midnight(last)}


@dataclass
class Place:
    """An emulator, and what a task needs to be there; made with a key that may do everything."""

    posthog: EmulatorProcess
    folder: Path
    numbers: Any = field(default_factory=itertools.count)

    @property
    def api(self) -> Client:
        return Client(self.posthog.url, self.posthog.api_key)

    def path(self, ending: str = "/") -> str:
        return f"file://{self.folder}/{next(self.numbers)}{ending}"

    def person(self) -> tuple[str, str]:
        """A person's uuid and distinct id."""
        name = f"somebody-{next(self.numbers)}"
        return self.posthog.add_persons([{"distinct_ids": [name], "properties": {"email": "x"}}])[0], name

    def export(self) -> int:
        body = {"export_format": "text/csv", "export_context": {"source": {"kind": "HogQLQuery", "query": "SELECT 1"}}}
        made = self.api.post("exports/", body)
        assert made.status_code == 201
        number = int(made.json()["id"])
        finish(PostHogExportSensor(task_id="task", export_id=number, posthog_conn_id="everything", **HERE, **POKE))
        return number

    def run(self) -> dict[str, Any]:
        """A run of a batch export that has failed; no further one comes, though a clock may jump over midnight."""
        self.posthog.settings(batch_outcome="Failed")
        export = self.api.get("batch_exports/").json()["results"][0]
        self.posthog.settings(batch_outcome="Completed")
        assert self.api.post(f"batch_exports/{export['id']}/pause/", {}).status_code == 200
        return {"batch_export": export["id"], "run_id": export["latest_runs"][0]["id"]}


def resolved(place: Place) -> dict[str, Any]:
    _, name = place.person()
    found: dict[str, Any] = PostHogResolvePersonsOperator(
        task_id="task", posthog_conn_id="everything", distinct_ids=[name], work_path=place.path(".jsonl")
    ).execute({})
    return found


def asked(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = PostHogDeletePersonsOperator(
        task_id="task", posthog_conn_id="everything", persons=resolved(place)
    ).execute({})
    place.posthog.sweep()
    return found


def calculated(place: Place) -> int:
    PostHogRefreshInsightOperator(task_id="task", posthog_conn_id="everything", insight=TREND, **HERE).execute(
        context()
    )
    return TREND


def paused(place: Place) -> str:
    PostHogPauseBatchExportOperator(task_id="task", posthog_conn_id="everything", batch_export=FIRST).execute({})
    return FIRST


def cohort(place: Place) -> int:
    made = PostHogStaticCohortOperator(
        task_id="task",
        posthog_conn_id="everything",
        name="Some",
        sql_conn_id="shop",
        sql=f"SELECT '{place.person()[1]}' AS id",
        poll_interval=0.05,
    ).execute(context())
    return int(made["cohort_id"])


def group(place: Place) -> str:
    body = {"group_type_index": 0, "group_key": "acme", "group_properties": {"name": "Acme"}}
    place.api.post("groups/", body)
    return "acme"


def flag(place: Place) -> str:
    groups = [{"properties": [], "rollout_percentage": 10}]
    place.posthog.add_records("feature_flags", [{"key": "checkout", "active": False, "filters": {"groups": groups}}])
    return "checkout"


def checked(place: Place) -> str:
    """A view with a check."""
    client = Client(place.posthog.url, place.posthog.api_key)
    found = next(one for one in client.get("warehouse_saved_queries/").json()["results"] if one["is_materialized"])
    client.post(f"warehouse_saved_queries/{found['id']}/checks/", {"check_type": "row_count", "name": "some"})
    return str(found["name"])


#: How each task of the table is made.
MADE: dict[type, Callable[[Place], Any]] = {
    PostHogQueryOperator: lambda p: PostHogQueryOperator(task_id="task", query="SELECT 1", **WAIT),
    PostHogQueryToObjectStorageOperator: lambda p: PostHogQueryToObjectStorageOperator(
        task_id="task", source="events", path=p.path(), settle=timedelta(0), **between(3, 2)
    ),
    PostHogToSqlOperator: lambda p: PostHogToSqlOperator(
        task_id="task", source="events", sql_conn_id="lake", table="loaded", settle=timedelta(0), **between(3, 2)
    ),
    PostHogPersonOverridesOperator: lambda p: PostHogPersonOverridesOperator(
        task_id="task", sql_conn_id="lake", table="mapping", remap=["events"], settle=timedelta(0)
    ),
    PostHogFileDownloadOperator: lambda p: PostHogFileDownloadOperator(
        task_id="task", path=p.path(), **between(3, 2), **WAIT
    ),
    PostHogCreateExportOperator: lambda p: PostHogCreateExportOperator(
        task_id="task", export_format="csv", query="SELECT event FROM events LIMIT 10", failure_grace=0, **WAIT
    ),
    PostHogExportSensor: lambda p: PostHogExportSensor(task_id="task", export_id=p.export(), **LOOK),
    PostHogExportToObjectStorageOperator: lambda p: PostHogExportToObjectStorageOperator(
        task_id="task", export_id=p.export(), path=p.path(".csv")
    ),
    PostHogRefreshInsightOperator: lambda p: PostHogRefreshInsightOperator(task_id="task", insight=TREND, **WAIT),
    PostHogRefreshDashboardOperator: lambda p: PostHogRefreshDashboardOperator(task_id="task", dashboard=1, **WAIT),
    PostHogDashboardToSqlOperator: lambda p: PostHogDashboardToSqlOperator(
        task_id="task", dashboard=1, sql_conn_id="lake", table="numbers", **WAIT
    ),
    PostHogInsightCheckOperator: lambda p: PostHogInsightCheckOperator(
        task_id="task", insight=TREND, condition=">= 0", poll_interval=0.05, timeout=600
    ),
    PostHogInsightShortCircuitOperator: lambda p: PostHogInsightShortCircuitOperator(
        task_id="task", insight=TREND, condition=">= 0", poll_interval=0.05, timeout=600
    ),
    PostHogInsightFreshSensor: lambda p: PostHogInsightFreshSensor(
        task_id="task", insight=calculated(p), fresher_than="2020-01-01T00:00:00Z", **LOOK
    ),
    PostHogInsightThresholdSensor: lambda p: PostHogInsightThresholdSensor(
        task_id="task", insight=TREND, condition=">= 0", **LOOK
    ),
    PostHogRetentionSensor: lambda p: PostHogRetentionSensor(
        task_id="task", before="2015-01-01T00:00:00Z", within=timedelta(days=60), **LOOK
    ),
    PostHogBackfillBatchExportOperator: lambda p: PostHogBackfillBatchExportOperator(
        task_id="task", batch_export=FIRST, **between(3, 2), **WAIT
    ),
    PostHogRetryBatchExportRunOperator: lambda p: PostHogRetryBatchExportRunOperator(task_id="task", **p.run(), **WAIT),
    PostHogPauseBatchExportOperator: lambda p: PostHogPauseBatchExportOperator(task_id="task", batch_export=FIRST),
    PostHogUnpauseBatchExportOperator: lambda p: PostHogUnpauseBatchExportOperator(
        task_id="task", batch_export=paused(p)
    ),
    PostHogBatchExportRunSensor: lambda p: PostHogBatchExportRunSensor(
        task_id="task", batch_export=FIRST, **between(3, 2), **LOOK
    ),
    PostHogSyncSourceOperator: lambda p: PostHogSyncSourceOperator(task_id="task", source="Postgres", **WAIT),
    PostHogRunViewOperator: lambda p: PostHogRunViewOperator(task_id="task", view="daily_orders", **WAIT),
    PostHogRunDataQualityOperator: lambda p: PostHogRunDataQualityOperator(task_id="task", view=checked(p), **WAIT),
    PostHogLinkTableOperator: lambda p: PostHogLinkTableOperator(
        task_id="task",
        name="orders_lake",
        url_pattern="https://lake.s3.eu-central-1.amazonaws.com/orders/*.parquet",
        bucket_conn_id="bucket",
    ),
    PostHogRunEndpointOperator: lambda p: PostHogRunEndpointOperator(task_id="task", endpoint="events-by-day"),
    PostHogResolvePersonsOperator: lambda p: PostHogResolvePersonsOperator(
        task_id="task", distinct_ids=[p.person()[1]], work_path=p.path(".jsonl")
    ),
    PostHogDeletePersonsOperator: lambda p: PostHogDeletePersonsOperator(task_id="task", persons=resolved(p)),
    PostHogPersonsErasedSensor: lambda p: PostHogPersonsErasedSensor(
        task_id="task", request=asked(p), quiet_period=0, **LOOK
    ),
    PostHogDeletePersonPropertyOperator: lambda p: PostHogDeletePersonPropertyOperator(
        task_id="task", persons=[p.person()[0]], properties=["email"]
    ),
    PostHogUpdatePersonPropertiesOperator: lambda p: PostHogUpdatePersonPropertiesOperator(
        task_id="task", persons=[p.person()[0]], properties={"plan": "none"}
    ),
    PostHogClearGroupPropertiesOperator: lambda p: PostHogClearGroupPropertiesOperator(
        task_id="task", group_type=0, group_keys=[group(p)]
    ),
    PostHogExportPersonDataOperator: lambda p: PostHogExportPersonDataOperator(
        task_id="task", persons=resolved(p), path=p.path()
    ),
    PostHogCaptureOperator: lambda p: PostHogCaptureOperator(task_id="task", event="loaded", distinct_id="dwh"),
    PostHogFromSqlOperator: lambda p: PostHogFromSqlOperator(
        task_id="task",
        sql_conn_id="shop",
        sql="SELECT 1 AS id, 'c' AS customer, '2026-11-01T00:00:00Z' AS placed_at",
        **{"event": "order", "distinct_id": "customer", "timestamp": "placed_at", "key": ["id"]},
        **{"quiet_period": 0, "poll_interval": 0.1, "timeout": 0},
    ),
    PostHogStaticCohortOperator: lambda p: PostHogStaticCohortOperator(
        task_id="task", name="Audience", sql_conn_id="shop", sql=f"SELECT '{p.person()[1]}' AS id", poll_interval=0.05
    ),
    PostHogCohortCalculatedSensor: lambda p: PostHogCohortCalculatedSensor(task_id="task", cohort_id=cohort(p), **LOOK),
    PostHogAnnotationOperator: lambda p: PostHogAnnotationOperator(task_id="task", content="Loaded"),
    PostHogFeatureFlagOperator: lambda p: PostHogFeatureFlagOperator(task_id="task", flag=flag(p), active=True),
    PostHogExperimentResultsOperator: lambda p: PostHogExperimentResultsOperator(
        task_id="task", experiment_id=experiment(p.posthog), path=p.path(".jsonl"), poll_interval=0.1
    ),
    PostHogExperimentResultSensor: lambda p: PostHogExperimentResultSensor(
        task_id="task", experiment_id=experiment(p.posthog), **LOOK
    ),
}


@pytest.fixture
def place(posthog: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    posthog.settings(
        **{"batch_run_seconds": 0.1, "backfill_hidden_seconds": 0.1, "batch_jitter_seconds": 0},
        **{"warehouse_job_seconds": 0.1, "file_download_seconds": 0, "file_listing_seconds": 0},
    )
    monkeypatch.setattr(system_poll, "_missing", {})
    monkeypatch.setenv("AIRFLOW_CONN_EVERYTHING", posthog.airflow_connection_json())
    shop, lake = tmp_path / "shop.db", tmp_path / "lake.db"
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(shop)}))
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "sqlite", "host": str(lake)}))
    with closing(sqlite3.connect(lake)) as connection, connection:
        connection.execute("CREATE TABLE events (distinct_id TEXT, person_id TEXT)")
    bucket = {"conn_type": "aws", "login": "AKIA", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", json.dumps(bucket))
    return Place(posthog, tmp_path)


def limit(place: Place, monkeypatch: pytest.MonkeyPatch, scopes: set[str], **extra: object) -> None:
    """Let the default connection have a key with these scopes."""
    connection = json.loads(place.posthog.airflow_connection_json(**extra))
    connection["password"] = place.posthog.create_key(sorted(scopes))
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))


#: Tasks of the table that do not run here, and what stands for them.
STAND_INS = {
    "PostHogLookAgainOperator": "the look of PostHogPersonsErasedSensor, which needs a sealed request of a month ago",
    "PostHogCloseErasureOperator": "the same look",
    "PostHogFromObjectStorageOperator": "PostHogFromSqlOperator: both are IntoPostHogOperator, with rows of their own",
    "PostHogNotifier": "PostHogAnnotationOperator: both send annotations.create, and look with annotations.list",
    "PostHogApiOperator": "the call's own scopes, which docs/api.md lists",
    "PostHogHook": "as PostHogApiOperator",
}
#: What each scope is replaced by where it is taken away: the weaker one, or one that has nothing to do with it.
UNRELATED = "survey:read"


def told() -> dict[str, set[str]]:
    """The page's table: the names in a row's first cell, and the scopes in its second."""
    section = PAGE.read_text(encoding="utf-8").partition("## Scopes")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return {
        name: set(re.findall(r"`(\w+:\w+)`", scopes))
        for names, scopes in rows
        for name in re.findall(r"PostHog\w+", names)
    }


def outcome(task: Any) -> str:
    """Run a task; return "done", or what its error says."""
    try:
        finish(task, context(began=datetime.now(timezone.utc) - timedelta(seconds=3)))
    except PostHogError as error:
        return str(error)
    return "done"


@pytest.mark.parametrize("kind", MADE, ids=lambda kind: kind.__name__)
def test_a_task_runs_with_its_scopes_and_with_no_fewer_and_logs_a_start_an_end_and_nothing_twice(
    kind: type, place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scopes = told()[kind.__name__]
    token = {} if "project:read" in scopes else {"project_token": place.posthog.project_token}
    for scope in sorted(scopes):
        weaker = scope.replace(":write", ":read") if scope.endswith(":write") else UNRELATED
        task = MADE[kind](place)
        limit(place, monkeypatch, {*scopes - {scope}, weaker}, **token)
        assert re.search(rf"403.*{scope}", outcome(task)), f"{kind.__name__} does without {scope}"
    task = MADE[kind](place)
    limit(place, monkeypatch, scopes, **token)
    # Airflow 3 and 2 keep a task's logger under these names; theirs write elsewhere than where a test looks.
    task._cached_logger = task._log = logging.getLogger("airflow_provider_posthog.task")
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="airflow_provider_posthog"):
        assert outcome(task) == "done"
    check_log(kind, [record.getMessage() for record in caplog.records if is_ours(record)], place.posthog.url)


def is_ours(record: logging.LogRecord) -> bool:
    """Tell this provider's lines from Airflow's and urllib3's; Airflow's sensors log through the task's own logger."""
    text = record.getMessage()
    outside = ("outside of the Task Runner", "outside TaskInstance")  # of Airflow 3, and of 2
    of_airflow = any(each in text for each in outside) or text.startswith("Success criteria met")
    of_this_test = text.startswith("PostHog refused the key")  # the one of the run before
    return "airflow_provider_posthog" in record.name and not of_airflow and not of_this_test


def check_log(kind: type, lines: list[str], posthog: str) -> None:
    assert lines[0].startswith(kind.__name__)
    assert f". PostHog: {posthog}/project/" in lines[0]
    assert sum(bool(re.search(r" \(\d+\.\d s\)$", line)) for line in lines) == 1
    assert re.search(r" \(\d+\.\d s\)$", lines[-1])
    assert len(set(lines)) == len(lines), "nothing is said twice"
    assert len(lines) <= MOST_LINES


def test_events_need_no_scope_if_the_connection_has_the_project_s_token(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(place, monkeypatch, {UNRELATED}, project_token=place.posthog.project_token)
    assert outcome(MADE[PostHogCaptureOperator](place)) == "done"


def test_every_task_that_asks_posthog_is_in_the_table() -> None:
    names = set(told())
    assert names == {kind.__name__ for kind in MADE} | set(STAND_INS)
    known = {name.rpartition(".")[2] for room in ("operators", "sensors", "transfers") for name, _ in classes(room)}
    silent = known - names
    assert silent == {
        *("PostHogFinishAccessOperator", "PostHogRangeCheckOperator", "PostHogInsightSensor"),
        *("PostHogErasuresDueSensor", "PostHogSweepErasureFilesOperator", "PostHogErasureGateOperator"),
        *("PostHogFinishErasureOperator", "PostHogDiscardErasureOperator"),
        *("PostHogExtendErasureOperator", "PostHogSealErasureOperator", "PostHogSuppressPersonsOperator"),
        *("PostHogEraseFromFilesOperator", "PostHogEraseFromSqlOperator"),
    }
