"""An interval into files, without Airflow: what is kept, what is told, what is proved."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError
from airflow_provider_posthog.extract import progress, sources
from airflow_provider_posthog.extract.copy_interval import Copy, Reading
from airflow_provider_posthog.extract.layout import Layout
from airflow_provider_posthog.storage.manifest import Interval
from airflow_provider_posthog.storage.staging import Owner, Staging
from tests.storage.crashing import memory

MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
SPAN = Interval("x", MIDNIGHT - timedelta(days=5), MIDNIGHT - timedelta(days=2))
ME = Owner("me", "r")


@pytest.fixture
def reading(posthog: EmulatorProcess) -> Reading:
    settings = ClientSettings(posthog.url, posthog.api_key, int(posthog.project_id))
    return Reading(settings, sources.events(), max_in_flight=1, page_rows=300, settle=timedelta(0))


def open_(fs: Any, root: str) -> Staging:
    return Staging.open(fs, root, SPAN, ME, lambda: 0.0)


def test_small_files_are_recorded_after_a_time(posthog: EmulatorProcess, reading: Reading) -> None:
    fs, root = memory()
    posthog.faults(method="POST", path="*/query/", status=400, body={"detail": "no"}, skip=5, count=-1)
    with pytest.raises(Exception, match="400"):
        Copy(reading, open_(fs, root), Layout(), {}, checkpoint=0.0).run()
    posthog.clear_faults()
    taken_up = open_(fs, root)
    assert len(taken_up.files) >= 2
    assert taken_up.note["rows"] == sum(file["rows"] for file in taken_up.files) > 0
    found = Copy(reading, taken_up, Layout(), {"more": 1}).run()
    assert found["rows"] == posthog.count_events(str(SPAN.start), str(SPAN.end), "created_at")
    assert (found["more"], found["duplicates"], found["counted"]) == (1, 0, found["rows"])
    assert found["windows"] > 3


def test_what_has_no_time_begins_again(posthog: EmulatorProcess, reading: Reading) -> None:
    persons = replace(reading, source=sources.persons())
    fs, root = memory()
    posthog.faults(method="POST", path="*/query/", status=400, body={"detail": "no"}, skip=3, count=-1)
    with pytest.raises(Exception, match="400"):
        Copy(persons, open_(fs, root), Layout(max_rows=1), {}).run()
    posthog.clear_faults()
    staging = open_(fs, root)
    assert not staging.files
    found = Copy(persons, staging, Layout(), {}).run()
    assert found["rows"] == sum(file["rows"] for file in found["files"]) > 500
    assert len([path for path in fs.find(root)]) == 2


def test_a_read_interval_is_not_read_again(posthog: EmulatorProcess, reading: Reading) -> None:
    fs, root = memory()
    staging = open_(fs, root)
    copy = Copy(reading, staging, Layout(), {})
    copy._read()  # what a try has done that was killed just before it published
    asked = len(posthog.calls("/query/"))
    assert Copy(reading, open_(fs, root), Layout(), {}).run()["rows"] > 1000
    assert len(posthog.calls("/query/")) == asked


def test_files_that_have_other_rows_than_were_read(posthog: EmulatorProcess, reading: Reading) -> None:
    fs, root = memory()
    staging = open_(fs, root)
    Copy(reading, staging, Layout(), {})._read()
    staging.drop(lambda file: file is staging.files[0])
    with pytest.raises(PostHogIncompleteError, match="rows were read, but the files have 0"):
        Copy(reading, open_(fs, root), Layout(), {}).run()


def test_progress_is_told(
    posthog: EmulatorProcess, reading: Reading, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "FIRST", 0.0)
    fs, root = memory()
    with caplog.at_level(logging.INFO, "airflow_provider_posthog.extract.copy_interval"):
        found = Copy(reading, open_(fs, root), Layout(), {}).run()
    lines = [record.getMessage() for record in caplog.records if "rows/s" in record.getMessage()]
    assert f"of {found['rows']:,} rows" in lines[0]
    assert "done about" in lines[0]
