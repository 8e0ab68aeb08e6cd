"""An interval as one commit of Delta or Iceberg: read back by the libraries themselves, again, and killed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.table_formats import _kept_as
from airflow_provider_posthog.storage import manifest as manifests
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.operators.support import context

DAY = timedelta(days=1)
START = datetime(2017, 3, 4, tzinfo=timezone.utc)


class Lake:
    """A table of one of the formats.

    :param format: which.
    :param folder: where everything is.
    """

    def __init__(self, format: str, folder: Path) -> None:
        self.format = format
        self.path = folder / "lake"
        self.catalog = {
            "name": "lake",
            "type": "sql",
            "uri": f"sqlite:///{folder}/catalog.db",
            "warehouse": f"file://{folder}/iceberg",
        }
        self.options = {"iceberg": {"catalog": self.catalog, "table": "analytics.events"}}.get(format)

    def load(self, start: datetime, **options: Any) -> dict[str, Any]:
        given = {"source": "events", "table_options": self.options, "settle": timedelta(0), "table_format": self.format}
        operator = PostHogQueryToObjectStorageOperator(
            task_id="task", path=str(self.path), start=start.isoformat(), end=(start + DAY).isoformat(),
            **{**given, **options},
        )  # fmt: skip
        found = operator.execute(context())
        assert json.loads(json.dumps(found)) == found
        return found

    def rows(self) -> list[tuple[str, datetime]]:
        if self.format == "delta":
            from deltalake import DeltaTable

            table = DeltaTable(str(self.path)).to_pyarrow_table()
        else:
            from pyiceberg.catalog import load_catalog

            table = load_catalog(**self.catalog).load_table("analytics.events").scan().to_arrow()
        return sorted((row["event"], row["created_at"]) for row in table.to_pylist())


@pytest.fixture(params=["delta", "iceberg"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    pytest.importorskip("deltalake" if request.param == "delta" else "pyiceberg.catalog.sql", exc_type=ImportError)
    return Lake(request.param, tmp_path)


def happened(name: str, *times: datetime) -> list[dict[str, Any]]:
    made = {"distinct_id": "a", "properties": {"price": 1}, "event": name}
    moments = [at.isoformat() for at in times]
    return [
        {"uuid": str(uuid4()), "person_id": str(uuid4()), **made, "timestamp": at, "created_at": at} for at in moments
    ]


def test_an_interval_is_one_commit_that_replaces_its_rows_and_no_others(
    connection: EmulatorProcess, lake: Lake
) -> None:
    first, second = START, START + DAY
    edges = [first, first + DAY - timedelta(microseconds=1), second, second + DAY]
    connection.add_events(happened("e", *edges))
    for start in (first, second, first):
        found = lake.load(start)
        assert (found["files"], found["table"]["format"]) == (0, lake.format)
    assert lake.rows() == [("e", at) for at in edges[:3]], "once each, by exact edges"
    connection.add_events(happened("late", first + timedelta(hours=3)))
    again = lake.load(first)
    assert (again["rows"], len(lake.rows())) == (3, 4)
    assert sorted(path.name for path in lake.path.rglob("*.part")) == []


def test_a_try_that_is_killed_around_its_commit_leaves_each_row_once(
    connection: EmulatorProcess, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = START + 10 * DAY
    connection.add_events(happened("e", start))
    before = lake.load(start)
    connection.add_events(happened("e", start + timedelta(hours=1)))

    def killed(*args: Any, **more: Any) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(manifests, "write", killed)
        with pytest.raises(SystemExit):
            lake.load(start)
    assert len(lake.rows()) == 2, "the commit was made, the manifest was not written"
    after = lake.load(start)
    assert (after["rows"], len(lake.rows())) == (2, 2)
    assert after["table"]["version"] != before["table"]["version"]
    manifest = json.loads(Path(after["manifest"]).read_text())
    assert (manifest["rows"], manifest["files"], manifest["table"]) == (2, [], after["table"])


def test_events_of_some_names_leave_those_of_others(connection: EmulatorProcess, lake: Lake) -> None:
    start = START + 20 * DAY
    connection.add_events(happened("a", start) + happened("it's b", start))
    for name in ("a", "it's b", "a"):
        lake.load(start, events=name, name="of_one")
    assert [event for event, _ in lake.rows()] == ["a", "it's b"]


def test_a_snapshot_replaces_the_whole_table_and_new_columns_are_added(connection: EmulatorProcess, lake: Lake) -> None:
    query = "SELECT event, max(created_at) AS created_at{more} FROM events WHERE event LIKE 'snap%' GROUP BY event"
    connection.add_events(happened("snap 1", START + 30 * DAY))
    options: dict[str, Any] = {"source": None, "key": "event"}
    lake.load(START, query=query.format(more=""), **options)
    connection.add_events(happened("snap 2", START + 30 * DAY))
    lake.load(START, query=query.format(more=", count() AS n"), **options)
    assert [event for event, _ in lake.rows()] == ["snap 1", "snap 2"]


def test_a_column_of_another_type_changes_no_value(connection: EmulatorProcess, lake: Lake) -> None:
    start = START + 40 * DAY
    connection.add_events(happened("typed", start))
    columns = {name: name for name in ("event", "created_at", "uuid")}
    columns |= {"n": "1", "day": "toDate(created_at)", "text": "'x'"}
    lake.load(start, columns=columns)
    rows = lake.rows()
    for name, other in (("n", "1.5"), ("day", "created_at"), ("text", "1")):
        with pytest.raises(PostHogSettingsError, match=f"have '{name}' as .*, but the table") as refused:
            lake.load(start, columns={**columns, name: other})
        assert refused.value.field == "columns"
    assert lake.rows() == rows
    lake.load(start, columns={**columns, "n": "NULL", "day": "NULL"})
    assert lake.rows() == rows, "null is of every type"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"table_format": "hudi"}, "table_format"),
        ({"table_format": None, "table_options": {}}, "table_options"),
        ({"table_options": {"catalog": "x", "nope": 1}}, "table_options"),
        ({"table_format": "iceberg", "table_options": {"table": "events"}}, "table_options"),
        ({"table_format": "delta", "table_options": {"table": "a.b"}}, "table_options"),
        ({"format": "jsonl"}, "format"),
        ({"partition_by": "day"}, "partition_by"),
        ({"where": "event = 'x'"}, "table_format"),
        ({"columns": ["uuid", "event"]}, "columns"),
        ({"columns": ["uuid", "created_at"], "events": "x"}, "columns"),
    ],
)
def test_what_no_table_can_be_written_by_is_refused(
    connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any], field: str
) -> None:
    pytest.importorskip("deltalake")
    pytest.importorskip("pyiceberg")
    with pytest.raises(PostHogSettingsError) as refused:
        Lake("delta", tmp_path).load(START, **options)
    assert refused.value.field == field


D = pa.decimal128


@pytest.mark.parametrize(
    ("there", "coming", "delta", "iceberg"),
    [
        (pa.int32(), pa.int64(), pa.int32(), pa.int64()),
        (pa.int64(), pa.float64(), None, None),
        (pa.float64(), pa.int64(), None, None),
        (pa.float32(), pa.float64(), None, pa.float64()),
        (pa.float64(), pa.float32(), pa.float64(), pa.float64()),
        (D(20, 2), D(18, 2), D(20, 2), D(20, 2)),
        (D(18, 2), D(20, 2), None, D(20, 2)),
        (D(20, 3), D(18, 2), None, None),
        (pa.date32(), pa.timestamp("us", "UTC"), None, None),
        (pa.timestamp("us"), pa.timestamp("us", "UTC"), None, None),
        (pa.bool_(), pa.int64(), None, None),
        (pa.large_string(), pa.string(), pa.string(), pa.string()),
        (pa.string(), pa.int64(), None, None),
    ],
    ids=str,
)
def test_values_are_written_in_a_type_that_holds_them_as_they_are(
    there: pa.DataType, coming: pa.DataType, delta: pa.DataType | None, iceberg: pa.DataType | None
) -> None:
    assert (_kept_as(there, coming, grows=False), _kept_as(there, coming, grows=True)) == (delta, iceberg)
