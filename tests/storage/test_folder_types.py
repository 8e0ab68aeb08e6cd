"""Columns keep their types from interval to interval of a folder."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.storage.folder_types import FolderTypes
from airflow_provider_posthog.storage.manifest import Interval
from tests.storage.crashing import memory

FIRST = datetime(2026, 11, 1, tzinfo=timezone.utc)


def interval(day: int, name: str = "x") -> Interval:
    return Interval(name, FIRST + timedelta(days=day), FIRST + timedelta(days=day + 1))


class Folder:
    """A folder of manifests."""

    def __init__(self) -> None:
        self.fs, self.root = memory()

    def types(self, day: int, policy: str = "fail") -> FolderTypes:
        return FolderTypes.of(self.fs, self.root, interval(day), policy)

    def write(self, day: int, policy: str = "fail", **columns: str) -> None:
        """What a task does with the types."""
        schema, types = [[name, kind] for name, kind in columns.items()], self.types(day, policy)
        types.check(schema)
        manifest = {"version": 1, "files": [], "schema": schema, "known_types": types.merged(schema)}
        manifests.write(self.fs, self.root, interval(day), manifest, part=f"{self.root}/part")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int64", "string"), ("string", "int64"), ("int32", "int64"), ("int64", "int32"), ("uint8", "bool"),
        ("float", "double"), ("int64", "double"), ("timestamp[us, tz=UTC]", "string"),
        ("decimal128(10, 2)", "decimal128(12, 2)"),
    ],
)  # fmt: skip
def test_a_column_that_changes_its_type_is_refused(old: str, new: str) -> None:
    folder = Folder()
    folder.write(1, uuid="string", price=old)
    with pytest.raises(PostHogSettingsError) as refused:
        folder.write(2, uuid="string", price=new)
    assert refused.value.field == "schema_change"
    for part in ("'price'", old, new, str(interval(1))):
        assert part in str(refused.value)
    assert "uuid" not in str(refused.value)
    folder.write(3, uuid="string", price=old)


def test_it_is_taken_where_that_is_allowed_and_then_stays(caplog: pytest.LogCaptureFixture) -> None:
    folder = Folder()
    folder.write(1, price="int64")
    with caplog.at_level(logging.WARNING):
        folder.write(2, policy="allow", price="string")
    assert "'price' was int64, and is string now" in caplog.text
    folder.write(3, price="string")
    with pytest.raises(PostHogSettingsError):
        folder.write(4, price="int64")


def test_new_columns_are_fine_and_missing_ones_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    folder = Folder()
    folder.write(1, a="int64", b="string")
    with caplog.at_level(logging.WARNING):
        folder.write(2, a="int64", c="bool")
    assert "gone: b" in caplog.text
    caplog.clear()
    folder.write(3, a="int64", c="bool")
    assert not caplog.text


def test_a_column_of_nothing_but_nulls_goes_with_every_type() -> None:
    folder = Folder()
    folder.write(1, a="null")
    folder.write(2, a="int64")
    folder.write(3, a="null")
    with pytest.raises(PostHogSettingsError, match="was int64, and is string now"):
        folder.write(4, a="string")


def test_a_column_that_was_away_has_to_come_back_as_it_was() -> None:
    folder = Folder()
    folder.write(1, a="int64", b="bool")
    folder.write(2, b="bool")
    folder.write(3, b="bool")
    with pytest.raises(PostHogSettingsError, match="'a' was int64"):
        folder.write(4, a="string", b="bool")


def test_an_earlier_interval_is_compared_too_and_an_interval_not_with_itself() -> None:
    folder = Folder()
    folder.write(5, a="int64")
    with pytest.raises(PostHogSettingsError):
        folder.write(1, a="string")
    folder.write(5, a="string")
    folder.write(1, a="string")


def test_other_names_and_manifests_without_a_schema_say_nothing() -> None:
    folder = Folder()
    for each in (interval(1, "other"), interval(2)):
        manifest: dict[str, Any] = {"version": 1, "files": []}
        if each.name == "other":
            manifest["schema"] = [["a", "int64"]]
        manifests.write(folder.fs, folder.root, each, manifest, part=f"{folder.root}/part")
    folder.write(3, a="string")


def test_readers_go_by_the_first_file_so_that_even_a_wider_integer_fails_them(tmp_path: Path) -> None:
    """Why only equal types go together."""
    for name, kind in (("1", pa.int32()), ("2", pa.int64())):
        pq.write_table(pa.table({"a": pa.array([2**40 if name == "2" else 1], kind)}), tmp_path / f"{name}.parquet")
    with pytest.raises(pa.ArrowException):
        ds.dataset(tmp_path).to_table()
    with pytest.raises(duckdb.Error):
        duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/*.parquet')").fetchall()
