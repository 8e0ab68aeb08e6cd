"""Retries, clears and mapped tasks on real Airflow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.tasks.identity import Marker
from tests.operators.support import (
    ALL_EVENTS,
    created,
    make_dag,
    posts,
    rows_of_database,
    task_states,
    xcoms,
)

RunDag = Callable[..., Any]
QUICK = {"query": ALL_EVENTS, "poll_interval": 0.2, "failure_grace": 0.2}
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])


def _markers(posthog: EmulatorProcess) -> list[Marker]:
    """The markers of the exports asked for."""
    found = [Marker.parse(post["body"]["export_context"]["airflow_marker"]) for post in posts(posthog)]
    return [marker for marker in found if marker is not None]


@MODES
def test_a_real_retry_takes_the_running_export_up(
    connected: EmulatorProcess, run_dag: RunDag, deferrable: bool
) -> None:
    """On Airflow 3.3 by its state store, on 2.11 by the marker."""
    connected.next_exports("succeed", export_seconds=4.0)
    connected.faults(method="GET", path="*/exports/1/", status=503)

    def fill() -> None:
        PostHogCreateExportOperator(
            task_id="t",
            deferrable=deferrable,
            max_poll_failures=1,
            retries=1,
            retry_delay=timedelta(seconds=0.1),
            **QUICK,
        )

    run = run_dag(make_dag(f"real_retry_{deferrable}", fill))
    assert task_states(run) == {"t": "success"}
    assert rows_of_database(
        "SELECT try_number FROM task_instance WHERE dag_id = ? AND run_id = ?", run.dag_id, run.run_id
    ) == [(2,)]
    assert created(connected) == 1
    assert xcoms(run)["t", -1, "return_value"]["id"] == 1
    lists = [call for call in connected.calls("/exports/", "GET") if call["path"].endswith("/exports/")]
    assert len(lists) == (0 if _has_state_store() else 1)


def _has_state_store() -> bool:
    try:
        from airflow.sdk.execution_time.context import TaskStateStoreAccessor
    except ImportError:
        return False
    return TaskStateStoreAccessor is not None


def test_what_airflow_does_to_a_cleared_task_is_what_the_marker_reads(
    connected: EmulatorProcess, run_dag: RunDag
) -> None:
    """``max_tries - retries`` changes at a user's clear, and not at a retry."""
    from airflow.models.taskinstance import TaskInstance, clear_task_instances
    from airflow.utils.session import create_session

    seen: list[tuple[int, int, int]] = []

    def fill() -> None:
        PostHogCreateExportOperator(task_id="t", deferrable=False, retries=3, **QUICK)

    dag = make_dag("cleared", fill)
    run = run_dag(dag)

    def read() -> tuple[int, int]:
        sql = "SELECT try_number, max_tries FROM task_instance WHERE dag_id = ? AND run_id = ?"
        (found,) = rows_of_database(sql, run.dag_id, run.run_id)
        return int(found[0]), int(found[1])

    assert read() == (1, 3)
    for clears in (1, 2):
        with create_session() as session:
            tis = session.query(TaskInstance).filter_by(dag_id=run.dag_id, run_id=run.run_id).all()
            for ti in tis:
                ti.task = dag.get_task("t")
            try:
                clear_task_instances(tis, session, dag=dag)
            except TypeError:  # 3.x: the DAG comes from the database
                clear_task_instances(tis, session)
        try_number, max_tries = read()
        seen.append((clears, try_number, max_tries - 3))
        with create_session() as session:  # the scheduler's part: the next try
            for ti in session.query(TaskInstance).filter_by(dag_id=run.dag_id, run_id=run.run_id):
                ti.try_number, ti.state = try_number + 1, "success"
    assert [max_tries for _, _, max_tries in seen] == [1, 2]
    assert _markers(connected)[0].clearing == 0


def test_mapped_tasks_have_an_export_each(connected: EmulatorProcess, run_dag: RunDag) -> None:
    queries = [f"SELECT uuid, event FROM events ORDER BY uuid LIMIT {n}" for n in (1, 2, 3)]

    def fill() -> None:
        PostHogCreateExportOperator.partial(
            task_id="t", deferrable=True, poll_interval=0.2, filename="part-{{ ti.map_index }}"
        ).expand(query=queries)

    run = run_dag(make_dag("mapped", fill))
    assert task_states(run) == {"t[0]": "success", "t[1]": "success", "t[2]": "success"}
    assert created(connected) == 3
    assert len({marker.owner for marker in _markers(connected)}) == 3
    sent = {post["body"]["export_context"]["source"]["query"] for post in posts(connected)}
    assert sent == set(queries)
    found = xcoms(run)
    names = {index: found["t", index, "return_value"]["filename"] for index in range(3)}
    assert all(names[index].startswith(f"part-{index}") for index in range(3))


def test_a_sensor_and_its_operator_by_their_outputs(connected: EmulatorProcess, run_dag: RunDag) -> None:
    from airflow_provider_posthog.sensors.exports import PostHogExportSensor

    connected.settings(export_seconds=1.0)

    def fill() -> None:
        made = PostHogCreateExportOperator(task_id="made", wait_for_completion=False, **QUICK)
        for mode in ("poke", "reschedule"):
            PostHogExportSensor(task_id=mode, export_id=made.output, mode=mode, poke_interval=0.5, timeout=60)
        PostHogExportSensor(task_id="deferrable", export_id=made.output, deferrable=True, poke_interval=0.5, timeout=60)
        pulled = "{{ ti.xcom_pull('made')['id'] }}"
        made >> PostHogExportSensor(task_id="templated", export_id=pulled, poke_interval=0.5, timeout=60)
        PostHogExportSensor(task_id="soft", export_id=99, soft_fail=True, deferrable=True, timeout=60)
        PostHogExportSensor(task_id="never", export_id=99, never_fail=True, deferrable=True, timeout=60)
        PostHogExportSensor(
            task_id="late", export_id=99, silent_fail=True, soft_fail=True, deferrable=True, timeout=0.5
        )

    run = run_dag(make_dag("sensors", fill))
    states = task_states(run)
    good = ("made", "poke", "reschedule", "deferrable", "templated")
    assert {name: states[name] for name in good} == dict.fromkeys(good, "success")
    assert (states["soft"], states["never"], states["late"]) == ("failed", "skipped", "skipped")
    found = xcoms(run)
    for name in good[1:]:
        assert found[name, -1, "return_value"]["has_content"] is True
    assert found["made", -1, "return_value"]["has_content"] is False
