"""The DAGs that README and docs/index.md begin with run as they are, against the emulator."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.airflow.test_code_blocks_run import for_this_airflow
from tests.operators.support import task_states, when, xcoms

ROOT = Path(__file__).parents[2]


def first_dag(page: str, folder: Path) -> Any:
    """Make the DAG of a page's first block with one; its files go into a folder of the test."""
    text = (ROOT / page).read_text(encoding="utf-8")
    code = next(code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "with DAG(" in code)
    code, paths = re.subn(r'path="[a-z0-9]+://[^"]+"', f'path="file://{folder}"', code)
    assert paths == 1
    names: dict[str, Any] = {"__file__": str(ROOT / page)}
    exec(compile(for_this_airflow(code).replace("):\n", ") as dag:\n", 1), page, "exec"), names)
    return names["dag"]


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_first_dag_of_a_page_writes_every_event_of_the_day_that_ends_at_its_date(
    page: str, connected: EmulatorProcess, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    # not today's date: within five minutes after midnight, the task would wait for events to settle
    date = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    folder = tmp_path / "events"
    run = run_dag(first_dag(page, folder), **when(date))
    assert task_states(run) == {"events": "success"}
    told = xcoms(run)["events", -1, "return_value"]
    assert told["interval"]["start"] == f"{date - timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    assert told["interval"]["end"] == f"{date:%Y-%m-%dT%H:%M:%SZ}"
    there = connected.count_events(told["interval"]["start"], told["interval"]["end"], "created_at")
    assert told["rows"] == there > 0
    assert list(folder.rglob("*.parquet"))


@pytest.fixture
def connection_in_the_database(posthog: EmulatorProcess, airflow_db: None) -> Iterator[None]:
    """As `airflow connections add` leaves it."""
    from airflow.models import Connection
    from airflow.utils.session import create_session

    found = json.loads(posthog.airflow_connection_json())
    extra = json.dumps(found.pop("extra"))
    with create_session() as session:
        session.add(Connection(conn_id="posthog_default", extra=extra, **found))
    yield
    with create_session() as session:
        session.query(Connection).filter_by(conn_id="posthog_default").delete()


def test_a_deferred_task_of_a_test_run_finds_a_connection_of_the_database(
    posthog: EmulatorProcess, connection_in_the_database: None, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    """The trigger of `airflow dags test` finds it by Airflow's blocking look-up only."""
    assert "AIRFLOW_CONN_POSTHOG_DEFAULT" not in os.environ
    dag = first_dag("README.md", tmp_path)
    dag.get_task("events").deferrable = True
    date = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    run = run_dag(dag, **when(date))
    assert task_states(run) == {"events": "success"}
    assert xcoms(run)["events", -1, "return_value"]["rows"] > 0
