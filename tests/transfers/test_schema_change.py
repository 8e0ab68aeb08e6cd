"""A column that changes its type is found before any file of it is written."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from tests.operators.support import context
from tests.transfers.test_query_to_object_storage import day, everything, operator

DAY = timedelta(days=1)
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


def kept_aside(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("_rejected/*.jsonl")) for line in path.open()]


def three(*more: str) -> dict[str, Any]:
    """A query of three rows, with columns of the values that are told."""
    values = [f"{value} AS {column}" for column, value in zip("ab", more, strict=False)]
    query = f"SELECT number AS id, {', '.join(values)} FROM numbers(3)"
    return {"source": None, "query": query, "key": "id"}


@pytest.mark.parametrize("format", ["parquet", "jsonl"])
def test_rows_that_do_not_fit_into_the_folder_are_kept_aside_with_the_reason(
    connection: EmulatorProcess, tmp_path: Path, format: Any
) -> None:
    def bring(ago: int, *more: str, **options: Any) -> dict[str, Any]:
        given = {"format": format, "start": day(ago), "end": day(ago - 1), **three(*more), **options}
        found: dict[str, Any] = operator(tmp_path, **given).execute(context(run_id=str(ago)))
        return found

    assert bring(9, "_toInt32(number)")["rejected"] == 0
    found = bring(8, "number * 2000000000", "if(number = 1, 'x', null)", schema_policy="quarantine")
    assert (found["rows"], found["rejected"]) == (1, 2)
    assert [(row["id"], row["_posthog_reason"]) for row in kept_aside(tmp_path)] == [
        (1, "b is not a column of the folder"),
        (2, "a does not fit int32"),
    ]
    again = bring(8, "number * 2", schema_policy="quarantine")
    assert (again["rows"], again["rejected"], kept_aside(tmp_path)) == (3, 0, []), "the new load replaces them"
    rejected = [bring(8, more, schema_policy="quarantine")["rejected"] for more in ("number + 3000000000", "number")]
    assert rejected == [3, 0], "rows that are set aside are not rows that PostHog does not show"
    before = everything(tmp_path)
    with pytest.raises(PostHogIncompleteError, match="2 rows or more do not fit"):
        bring(7, "number * 2000000000 + 1000000000", schema_policy="quarantine", max_rejects=1)
    for more, policy in ((("number * 2000000000",), "evolve"), (("_toInt32(number)", "1"), "freeze")):
        with pytest.raises(PostHogSettingsError) as refused:
            bring(7, *more, schema_policy=policy)
        assert refused.value.field == "schema_policy"
    assert kept_aside(tmp_path) == []
    assert set(before) <= set(everything(tmp_path))
    assert bring(7, "number * 3", "toString(number)", schema_policy="evolve")["rows"] == 3
    if format == "parquet":
        types = {pq.read_schema(path).field("a").type for path in tmp_path.glob("*.parquet")}
        assert types == {pa.int32()}, "numbers are written as the folder has them"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"schema_policy": "fail"}, "schema_policy"),
        ({"max_rejects": 1}, "max_rejects"),
        ({"schema_policy": "quarantine", "max_rejects": -1}, "max_rejects"),
        ({"schema_policy": "quarantine", "verify_back": DAY}, "schema_policy"),
    ],
)
def test_policies_that_cannot_be_kept_are_refused(
    connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        operator(tmp_path, **options).execute(context())
    assert refused.value.field == field
