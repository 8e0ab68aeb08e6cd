"""Intervals that mapped tasks have written hold a range together, or the check says what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.storage.manifest import Interval
from airflow_provider_posthog.storage.tiling import check_tiling
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from airflow_provider_posthog.transfers.range_check import PostHogRangeCheckOperator
from tests.operators.support import context, make_dag, task_states, xcoms
from tests.transfers.test_query_to_object_storage import day, operator, table_of

RunDag = Callable[..., Any]
FIRST = datetime(2026, 5, 1, tzinfo=timezone.utc)


def check(folder: Path, **options: Any) -> Any:
    given = {"start": day(5), "end": day(2), **options}
    return PostHogRangeCheckOperator(task_id="check", path=str(folder), **given).execute(context())


def write(folder: Path, first: float, last: float, **options: Any) -> int:
    found: dict[str, Any] = operator(folder, start=day(first), end=day(last), **options).execute(context())
    return int(found["rows"])


def test_days_of_a_range_are_summed_up(connection: EmulatorProcess, tmp_path: Path) -> None:
    rows = [write(tmp_path, first, first - 1) for first in (3, 5, 4)]
    write(tmp_path, 2, 1)  # behind the range, which it does not touch
    before = len(connection.calls())
    found = check(tmp_path)
    assert len(connection.calls()) == before
    assert (found["intervals"], found["files"], found["rows"], found["left_out"]) == (3, 3, sum(rows), None)
    assert found["rows"] == connection.count_events(day(5), day(2), "created_at")
    assert found["bytes"] > 0


def ranges(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "_manifests" / "ranges").glob("*"))]


def test_one_manifest_lists_the_files_of_the_whole_range(connection: EmulatorProcess, tmp_path: Path) -> None:
    rows = [write(tmp_path, first, first - 1, max_file_rows=300) for first in (5, 4, 3)]
    found = check(tmp_path)
    (whole,) = ranges(tmp_path)
    assert found["manifest"] == f"{tmp_path}/_manifests/ranges/{Path(found['manifest']).name}"
    assert (whole["rows"], whole["interval"]) == (sum(rows), found["interval"])
    assert [each["rows"] for each in whole["intervals"]] == rows
    files = [tmp_path / file["path"] for file in whole["files"]]
    assert len(files) == found["files"] > 3
    assert [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] == [
        file["sha256"] for file in whole["files"]
    ]
    assert check(tmp_path)["manifest"] == found["manifest"]
    assert len(ranges(tmp_path)) == 1


def test_a_range_s_manifest_goes_when_an_interval_of_it_is_written_again(
    connection: EmulatorProcess, tmp_path: Path
) -> None:
    for first in (5, 4, 3):
        write(tmp_path, first, first - 1)
    check(tmp_path)
    check(tmp_path, end=day(4))
    write(tmp_path, 2, 1)
    assert len(ranges(tmp_path)) == 2
    operator(tmp_path, start=day(3), end=day(2)).execute(context(run_id="again"))
    assert [whole["interval"]["end"][:10] for whole in ranges(tmp_path)] == [day(4)[:10]]
    with pytest.raises(PostHogIncompleteError):
        check(tmp_path, end=day(0))
    assert len(ranges(tmp_path)) == 1, "what is not proved has no manifest"


def test_a_gap_fails_and_is_named(connection: EmulatorProcess, tmp_path: Path) -> None:
    write(tmp_path, 5, 4)
    write(tmp_path, 3, 2)
    with pytest.raises(PostHogIncompleteError, match=f"nothing holds {day(4)[:10]}T00:00:00Z to {day(3)[:10]}"):
        check(tmp_path)
    with pytest.raises(PostHogIncompleteError, match="nothing holds"):
        check(tmp_path / "empty")


def test_time_that_is_held_twice_fails(connection: EmulatorProcess, tmp_path: Path) -> None:
    write(tmp_path, 5, 2)
    write(tmp_path, 4, 3)
    with pytest.raises(PostHogIncompleteError, match="twice"):
        check(tmp_path)


def test_intervals_of_other_rows_do_not_belong_together(connection: EmulatorProcess, tmp_path: Path) -> None:
    write(tmp_path, 5, 4)
    write(tmp_path, 4, 2, time_column="timestamp")
    with pytest.raises(PostHogSettingsError, match="path"):
        check(tmp_path)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=6))
def test_a_range_passes_only_if_each_of_its_hours_is_in_one_interval(spans: list[tuple[int, int]]) -> None:
    def interval(first: int, last: int) -> Interval:
        return Interval("events", FIRST + timedelta(hours=first), FIRST + timedelta(hours=last))

    whole = interval(4, 10)
    edges = sorted({(first, first + length) for first, length in spans})
    inside = [each for each in edges if each[0] < 10 and each[1] > 4]
    held = sorted(hour for first, last in inside for hour in range(first, last))
    try:
        check_tiling([interval(*each) for each in inside], whole)
        passed = True
    except PostHogIncompleteError:
        passed = False
    assert passed is (held == list(range(4, 10)))


def test_mapped_tasks_write_side_by_side_and_one_proves_the_whole(
    connection: EmulatorProcess, tmp_path: Path, run_dag: RunDag
) -> None:
    days = [{"start": day(first), "end": day(first - 1)} for first in (5, 4, 3)]

    def fill() -> None:
        write = PostHogQueryToObjectStorageOperator.partial(
            task_id="write", path=str(tmp_path), source="events", settle=timedelta(0), max_active_tis_per_dag=2
        ).expand_kwargs(days)
        write >> PostHogRangeCheckOperator(task_id="check", path=str(tmp_path), start=day(5), end=day(2))

    run = run_dag(make_dag("side_by_side", fill))
    assert set(task_states(run).values()) == {"success"}
    assert xcoms(run)["check", -1, "return_value"]["rows"] == table_of(tmp_path).num_rows > 1000
