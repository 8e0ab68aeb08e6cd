"""PostHog's good answers, bent at any place: a task ends well or with an error of ours, never with one of Python's.

A small sample, the same each time. ``POSTHOG_FUZZ=200`` takes so many others of each task.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.compat import AirflowSensorTimeout, AirflowSkipException, AirflowTaskTimeout
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.fuzz.bending import Bender
from tests.operators.support import context, finish
from tests.support.waiting import wait_for
from tests.transfers.test_query_to_object_storage import day

pytestmark = pytest.mark.reliability

#: What a task may end with.
GOOD_ENDS = (PostHogError, AirflowTaskTimeout, AirflowSensorTimeout, AirflowSkipException)
QUICK = {"task_id": "task", "poll_interval": 0.02, "timeout": 1.0, "max_poll_failures": 2, "deferrable": False}
HOGQL = "SELECT event, count() AS n FROM events GROUP BY event ORDER BY event LIMIT 50"
TREND = 2  # a saved insight of the emulator
SOURCE = {"kind": "HogQLQuery", "query": HOGQL}
Task = Callable[[Path], Any]


def export(folder: Path, **options: Any) -> Any:
    from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator

    return finish(PostHogCreateExportOperator(**{**QUICK, "failure_grace": 0.0, "query": HOGQL, **options}), context())


def export_of_a_retry(folder: Path) -> Any:
    from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator

    return finish(PostHogCreateExportOperator(**{**QUICK, "query": HOGQL}), context(try_number=2))


def fetch(folder: Path) -> Any:
    from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator

    operator = PostHogExportToObjectStorageOperator(
        task_id="task", export_id=1, path=f"{folder}/a.csv", overwrite=True, on_truncation="ignore"
    )
    return operator.execute(context())


def export_sensor(folder: Path) -> Any:
    from airflow_provider_posthog.sensors.exports import PostHogExportSensor

    return PostHogExportSensor(task_id="task", export_id=1, poke_interval=0.02, timeout=0.5).execute(context())


def query(folder: Path, **options: Any) -> Any:
    from airflow_provider_posthog.operators.queries import PostHogQueryOperator

    return finish(PostHogQueryOperator(**{**QUICK, "query": HOGQL, **options}), context(try_number=2))


def insight(folder: Path, **options: Any) -> Any:
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    given = {**QUICK, "insight": 1, "path": f"{folder}/{{short_id}}.jsonl", "overwrite": True, **options}
    return finish(PostHogRefreshInsightOperator(**given), context())


def dashboard(folder: Path) -> Any:
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator

    return finish(PostHogRefreshDashboardOperator(**{**QUICK, "dashboard": 1}), context())


def api(folder: Path, call: str, **arguments: Any) -> Any:
    from airflow_provider_posthog.operators.api import PostHogApiOperator

    operator = PostHogApiOperator(
        task_id="task", call=call, arguments=arguments, path=f"{folder}/a.jsonl", overwrite=True
    )
    return operator.execute(context())


def file_download(folder: Path) -> Any:
    from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator

    span = {"start": day(3), "end": day(2)}
    return finish(PostHogFileDownloadOperator(**QUICK, path=str(folder / "files"), **span), context())


def rows_to_files(folder: Path) -> Any:
    from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

    span = {"start": day(3), "end": day(2), "settle": timedelta(0)}
    task = PostHogQueryToObjectStorageOperator(task_id="task", source="events", path=str(folder / "rows"), **span)
    return task.execute(context())


def resolve(folder: Path) -> dict[str, Any]:
    from airflow_provider_posthog.operators.persons import PostHogResolvePersonsOperator

    operator = PostHogResolvePersonsOperator(
        task_id="task",
        work_path=f"{folder}/work-{os.urandom(4).hex()}.jsonl",
        distinct_ids=["fuzzed"],
        emails=["fuzzed@example.com"],
        must_find_all=False,
    )
    found: dict[str, Any] = operator.execute(context())
    return found


def erase(folder: Path) -> Any:
    from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator
    from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor

    asked = PostHogDeletePersonsOperator(task_id="task", persons=resolve(folder)).execute(context())
    return PostHogPersonsErasedSensor(task_id="task", request=asked, quiet_period=0.0).poke(context())


def person_properties(folder: Path) -> Any:
    from airflow_provider_posthog.operators import persons

    found = resolve(folder)
    persons.PostHogUpdatePersonPropertiesOperator(
        task_id="task", persons=found, properties={"plan": "x"}, timeout=0.1
    ).execute(context())
    return persons.PostHogDeletePersonPropertyOperator(
        task_id="task", persons=found, properties=["plan"], timeout=0.1
    ).execute(context())


def group(folder: Path) -> Any:
    from airflow_provider_posthog.operators.groups import PostHogClearGroupPropertiesOperator

    operator = PostHogClearGroupPropertiesOperator(task_id="task", group_type=0, group_keys=["acme:3"], timeout=0.1)
    return operator.execute(context())


def insight_sensors(folder: Path) -> Any:
    from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor, PostHogInsightThresholdSensor

    given = {"task_id": "task", "insight": TREND, "poke_interval": 0.02, "timeout": 0.3}
    PostHogInsightFreshSensor(**given, fresher_than=day(4000)).poke(context())
    return PostHogInsightThresholdSensor(**given, operator=">=", value=0).poke(context())


def hook(folder: Path) -> Any:
    with closing(PostHogHook()) as made:
        assert made.test_connection()[0] in (True, False)
        made.get_records(HOGQL)
        made.get_first(HOGQL)
        made.get_df(HOGQL)
        made.find_insight(1)
        made.find_insight(str(made.find_insight(1)["short_id"]))
        return made.query(HOGQL) if hasattr(made, "query") else None


def sql(folder: Path) -> Any:
    from airflow_provider_posthog.hooks.sql import PostHogSqlHook

    made = PostHogSqlHook("posthog_default")
    return made.get_records(HOGQL), made.get_first(HOGQL)


def load(folder: Path) -> Any:
    from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator

    operator = PostHogToSqlOperator(
        task_id="task",
        sql_conn_id="fuzzed_lake",
        table="events",
        source="events",
        start=day(3),
        end=day(2),
        settle=timedelta(0),
    )
    return operator.execute(context())


TASKS: dict[str, Task] = {
    "export": export,
    "export, deferred": lambda folder: export(folder, deferrable=True),
    "export of an insight": lambda folder: export(folder, query=None, insight=1),
    "export of a retry": export_of_a_retry,
    "fetch": fetch,
    "export sensor": export_sensor,
    "query": query,
    "query, deferred": lambda folder: query(folder, deferrable=True),
    "query into Parquet": lambda folder: query(folder, path=f"{folder}/q.parquet", overwrite=True),
    "insight": insight,
    "insight, deferred": lambda folder: insight(folder, deferrable=True, timeout=5.0),
    "dashboard": dashboard,
    "lists": lambda folder: [api(folder, name) for name in ("insights.list", "persons.list", "batch_exports.list")],
    "one thing": lambda folder: api(folder, "dashboards.retrieve", dashboard_id=1),
    "file download": file_download,
    "rows to files": rows_to_files,
    "resolve": resolve,
    "erase": erase,
    "properties of persons": person_properties,
    "group": group,
    "sensors of insights": insight_sensors,
    "hook": hook,
    "hook for SQL": sql,
    "load": load,
}


@pytest.fixture
def bender(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bender]:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", posthog.airflow_connection_json())
    made = Bender(posthog.url)
    connection = json.loads(posthog.airflow_connection_json())
    connection |= {"host": made.url, "port": None, "schema": None}
    connection["extra"] = {**connection["extra"], "rate_limit_share": 0}
    monkeypatch.setattr("airflow_provider_posthog.api.jobs.LOST_WAITS", (0.01,))  # only the patience, not the code
    posthog.settings(export_seconds=0.02, file_download_seconds=0.0)
    with closing(PostHogHook()) as direct:
        made_export = direct.client.send(exports.create(export_format=exports.CSV, export_context={"source": SOURCE}))
        wait_for(lambda: direct.client.send(exports.retrieve(made_export["id"])).get("has_content") is True)
    posthog.add_persons([{"distinct_ids": ["fuzzed"], "properties": {"email": "fuzzed@example.com"}}])
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    lake = {"conn_type": "sqlite", "host": f"{tmp_path}/lake.db"}
    monkeypatch.setenv("AIRFLOW_CONN_FUZZED_LAKE", json.dumps(lake))
    yield made
    made.close()


def ends_well(task: Task, folder: Path) -> None:
    with suppress(*GOOD_ENDS):
        task(folder)


@pytest.mark.parametrize("name", TASKS)
def test_a_bent_answer_ends_in_an_error_of_ours(bender: Bender, tmp_path: Path, name: str) -> None:
    explore = bool(os.environ.get("POSTHOG_FUZZ"))
    some = random.Random(None if explore else name)
    TASKS[name](tmp_path)  # unbent it works, or the rest would prove nothing
    assert bender.seen
    for _ in range(int(os.environ.get("POSTHOG_FUZZ") or 4)):
        bent = bender.choose(some)
        try:
            ends_well(TASKS[name], tmp_path)
        except Exception as error:
            raise AssertionError(f"{type(error).__name__} for {bent}") from error
        bender.straight()
