"""Rows go into folders by several things at once, and into row groups as large as asked for."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract import writers
from airflow_provider_posthog.extract.layout import Layout, split
from airflow_provider_posthog.extract.writers import TableFiles
from airflow_provider_posthog.storage.manifest import Interval
from airflow_provider_posthog.storage.staging import Owner, Staging

SCHEMA = pa.schema([("n", pa.int64()), ("kind", pa.string()), ("at", pa.timestamp("us", "UTC")), ("b", pa.string())])
START = datetime(2026, 10, 24, 20, tzinfo=timezone.utc)
INTERVAL = Interval("rows", START, START + timedelta(days=3))


def table(rows: list[tuple[str | None, int | None, str | None]]) -> pa.Table:
    times = [None if minutes is None else START + timedelta(minutes=minutes) for _, minutes, _ in rows]
    columns = [range(len(rows)), [kind for kind, *_ in rows], times, [b for *_, b in rows]]
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def folder_of(row: dict[str, Any], parts: list[str], zone: str) -> tuple[str | None, ...]:
    """What the folders of a row are called, reckoned by itself."""
    made: list[str | None] = []
    local = row["at"].astimezone(ZoneInfo(zone)) if row["at"] is not None else None
    for part in parts:
        if part in ("day", "hour"):
            made.append(f"{local:%Y-%m-%d}" if local else None)
        if part == "hour":
            made.append(f"{local:%H}" if local else None)
        elif part != "day":
            made.append(row[part])
    return tuple(made)


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "a/b", "", None]), st.sampled_from([0, 30, 240, 299, 300, 301, 1440, 4000, None]),
        st.sampled_from(["x", None])
    ),
    min_size=1, max_size=40,
)  # fmt: skip


@given(
    ROWS,
    st.sampled_from([["day"], ["hour"], ["day", "kind"], ["kind", "day"], ["kind", "b"], ["b", "hour", "kind"]]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
)
def test_each_row_goes_into_its_folder_once_and_in_order(rows: Any, parts: list[str], zone: str) -> None:
    layout = Layout(partition_by=parts, partition_time="at", partition_zone=zone)
    whole = table(rows)
    expected: dict[tuple[str | None, ...], list[int]] = {}
    for row in whole.to_pylist():
        expected.setdefault(folder_of(row, parts, zone), []).append(row["n"])
    found = [(partition, each) for partition, each in split(whole, layout, layout.kept(SCHEMA))]
    assert {tuple(partition.values()): each.column("n").to_pylist() for partition, each in found} == expected
    assert len(found) == len(expected)
    for _, each in found:
        assert each.schema.names == [name for name in SCHEMA.names if name not in parts]


def test_an_hour_that_comes_twice_is_one_folder() -> None:
    """Berlin's clocks go back on 2026-10-25 at 01:00 UTC."""
    whole = table([("a", 240, None), ("a", 300, None)])
    layout = Layout(partition_by=["hour"], partition_time="at", partition_zone="Europe/Berlin")
    ((partition, rows),) = split(whole, layout, SCHEMA)
    assert (dict(partition), rows.num_rows) == ({"date": "2026-10-25", "hour": "02"}, 2)


def test_a_snapshot_has_a_folder_of_its_own() -> None:
    layout = Layout(partition_by=["snapshot", "kind"], snapshot="20261101T000000Z")
    found = [dict(partition) for partition, _ in split(table([("a", 0, None), ("b", 0, None)]), layout, SCHEMA)]
    assert found == [{"snapshot": "20261101T000000Z", "kind": kind} for kind in "ab"]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"partition_by": ["day", "kind", "day"]}, "names 'date' twice"),
        ({"partition_by": ["day", "hour"]}, "names 'date' twice"),
        ({"partition_by": ["kind", "kind"]}, "names 'kind' twice"),
        ({"partition_by": ["kind", "nope"]}, "'nope', which is not a column"),
        ({"partition_by": ["kind", "day"], "partition_time": "n"}, "needs a column of time, and 'n' is none"),
        ({"partition_by": ["snapshot"]}, "not for an interval"),
    ],
)
def test_folders_that_cannot_be_made_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(PostHogSettingsError, match=problem) as refused:
        Layout(**{"partition_time": "at", **options}).check(SCHEMA)
    assert refused.value.field == "partition_by"


def test_more_folders_than_can_be_meant_are_refused() -> None:
    rows = table([(str(number % 101), None, str(number % 103)) for number in range(10_500)])
    with pytest.raises(PostHogSettingsError, match=r"puts 10,500 rows into 10,\d\d\d folders, by 'kind', 'b'"):
        list(split(rows, Layout(partition_by=["kind", "b"]), SCHEMA))


def test_days_and_hours_do_not_count_among_the_folders_of_a_column() -> None:
    """An import of years has thousands of days, each with the same few events."""
    rows = table([(str(number % 7), number * 1440, None) for number in range(10_500)])
    found = list(split(rows, Layout(partition_by=["day", "kind"], partition_time="at"), SCHEMA))
    assert len(found) == 10_500
    assert found[-1][0] == {"date": str((START + timedelta(days=10_499)).date()), "kind": str(10_499 % 7)}


def groups(folder: Path, **layout: Any) -> dict[str, list[int]]:
    staging = Staging.open(fsspec.filesystem("file"), str(folder), INTERVAL, Owner("t", "r", 0.0), lambda: 1.0)
    with TableFiles(staging, SCHEMA, Layout(**layout)) as files:
        for number in range(30):
            files.add(table([("ab"[number % 3 == 0], minutes, None) for minutes in range(1_000)]))
        staging.record(files.finish())
    staging.publish({})
    found = {}
    for path in sorted(folder.rglob("*.parquet")):
        meta = pq.ParquetFile(path).metadata
        found[path.name] = [meta.row_group(number).num_rows for number in range(meta.num_row_groups)]
    return found


def test_row_groups_are_as_large_as_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "GROUP_ROWS", 1_000)
    assert list(groups(tmp_path / "default").values()) == [[1_000] * 30]
    assert list(groups(tmp_path / "large", row_group_rows=12_500).values()) == [[12_500, 12_500, 5_000]]
    assert list(groups(tmp_path / "whole", row_group_rows=1_000_000).values()) == [[30_000]]
    by_kind = groups(tmp_path / "kinds", row_group_rows=8_000, partition_by="kind")
    assert sorted(by_kind.values()) == [[8_000, 2_000], [8_000, 8_000, 4_000]]


def test_rows_that_wait_for_their_group_take_no_more_memory_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "GROUP_ROWS", 1_000)
    monkeypatch.setattr(writers, "MOST_WAITING", 200_000)
    ((sizes),) = groups(tmp_path, row_group_rows=1_000_000).values()
    assert sum(sizes) == 30_000
    assert max(Counter(sizes)) < 15_000
