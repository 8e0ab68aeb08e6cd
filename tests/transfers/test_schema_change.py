"""A column that changes its type is found before any file of it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from tests.operators.support import context
from tests.transfers.test_query_to_object_storage import day, everything, operator

COLUMNS = {"uuid": "uuid", "created_at": "created_at"}
NUMBER = {"columns": {**COLUMNS, "size": "length(event)"}}
TEXT = {"columns": {**COLUMNS, "size": "toString(length(event))"}}


@pytest.mark.parametrize("format", ["parquet", "jsonl", "csv"])
def test_a_column_that_changes_its_type_fails_the_task_and_leaves_the_folder_as_it_was(
    connection: EmulatorProcess, tmp_path: Path, format: Any
) -> None:
    operator(tmp_path, format=format, start=day(5), end=day(4), **NUMBER).execute(context(run_id="1"))
    before = everything(tmp_path)
    for number in (1, 2):
        with pytest.raises(PostHogSettingsError, match=r"'size' was uint64, and is string now") as refused:
            operator(tmp_path, format=format, start=day(4), end=day(3), **TEXT).execute(
                context(run_id="2", try_number=number)
            )
        assert refused.value.field == "schema_change"
        assert everything(tmp_path) == before
    span = {"start": day(4), "end": day(3), "schema_change": "allow"}
    found = operator(tmp_path, format=format, **span, **TEXT).execute(context(run_id="2", try_number=3))
    assert found["rows"] > 100
    operator(tmp_path, format=format, start=day(3), end=day(2), **TEXT).execute(context(run_id="3"))


def test_a_policy_that_is_not_known_is_refused(connection: EmulatorProcess, tmp_path: Path) -> None:
    for wrong in ("evolve", "", None, ["fail"]):
        with pytest.raises(PostHogSettingsError) as refused:
            operator(tmp_path, schema_change=wrong).execute(context())
        assert refused.value.field == "schema_change"
    assert connection.calls() == []


def test_a_retry_does_not_go_on_with_other_types_than_the_try_before(
    connection: EmulatorProcess, tmp_path: Path
) -> None:
    """PostHog was updated between two tries."""
    options = {"max_file_rows": 300, "max_in_flight": 1, "page_rows": 100, **TEXT}
    connection.faults(method="POST", path="*/query/", status=400, body={"detail": "no"}, skip=18, count=-1)
    with pytest.raises(Exception, match="400"):
        operator(tmp_path, **options).execute(context())
    connection.clear_faults()
    (progress,) = tmp_path.glob(".posthog/*/progress.json")
    state = json.loads(progress.read_text())
    assert len(state["files"]) > 1
    state["note"]["schema"] = [[name, "int64" if name == "size" else kind] for name, kind in state["note"]["schema"]]
    progress.write_text(json.dumps(state))
    found = operator(tmp_path, **options).execute(context(try_number=2))
    assert found["rows"] == connection.count_events(day(5), day(2), "created_at")
    manifest = json.loads(Path(found["manifest"]).read_text())
    assert sum(file["rows"] for file in manifest["files"]) == manifest["rows"] == manifest["counted"]
    assert len(everything(tmp_path)) == found["files"] + 1
