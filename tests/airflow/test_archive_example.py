"""The example that archives events before PostHog hides them, on real Airflow."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as parquet
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.operators.support import task_states, when, xcoms

TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSTHOG_EXAMPLE_FILES", f"file://{tmp_path}")
    return tmp_path / "archive"


def event(moment: datetime) -> dict[str, Any]:
    made = {"uuid": str(uuid4()), "event": "aged", "distinct_id": "a", "person_id": str(uuid4()), "properties": {}}
    return {**made, "timestamp": moment.isoformat(), "created_at": moment.isoformat()}


def example() -> Any:
    made = importlib.reload(importlib.import_module("dags_examples.archive_events"))
    for task in made.dag.tasks:
        task.retries = 0
    return made.dag


def test_the_months_that_expire_first_are_archived_and_counted(
    connected: EmulatorProcess, archive: Path, run_dag: Callable[..., Any]
) -> None:
    connected.settings(event_retention_months=3, events_retention_enforced=True)
    connected.add_events([event(TODAY - timedelta(days=number)) for number in range(25, 120, 3)])
    run = run_dag(example(), **when(TODAY), run_conf={"months": 12})
    assert set(task_states(run).values()) == {"success"}
    told = xcoms(run)
    months = told["expiring", -1, "return_value"]
    assert [month["start"] for month in months] == sorted(month["start"] for month in months)
    assert all(first["end"] == second["start"] for first, second in pairwise(months))
    first = datetime.fromisoformat(months[0]["start"])
    assert first.day == 1
    assert TODAY - timedelta(days=93) < first
    assert datetime.fromisoformat(months[-1]["end"]) == TODAY.replace(day=1)
    there = connected.count_events(months[0]["start"], months[-1]["end"])
    manifests = [json.loads(path.read_text()) for path in (archive / "_manifests").glob("*.json")]
    files = [archive / file["path"] for manifest in manifests for file in manifest["files"]]
    assert sum(parquet.ParquetFile(path).metadata.num_rows for path in files) == there > 5
    # The runs of later months bring the same whole months again, and each replaces its own files.
    assert set(task_states(run_dag(example(), **when(TODAY + timedelta(days=1)))).values()) == {"success"}
    assert len([*(archive / "_manifests").glob("*.json")]) == len(manifests)


def test_only_whole_months_and_as_many_as_are_asked_for(connected: EmulatorProcess, archive: Path) -> None:
    months = example().get_task("expiring").python_callable({"months": 3})
    starts = [datetime.fromisoformat(month["start"]) for month in months]
    assert len(months) == 3
    assert [(start.day, start.hour, start.minute) for start in starts] == [(1, 0, 0)] * 3
    assert 83 <= (TODAY.year - starts[0].year) * 12 + TODAY.month - starts[0].month <= 84


def test_without_a_retention_it_says_what_is_missing(connected: EmulatorProcess, archive: Path) -> None:
    connected.settings(generation="B")
    with pytest.raises(ValueError, match="project:read"):
        example().get_task("expiring").python_callable({"months": 3})
