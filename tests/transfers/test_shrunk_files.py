"""Files of an interval are not replaced by none, or by far fewer rows, because PostHog shows less."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator
from tests.operators.support import context
from tests.transfers.test_query_to_object_storage import day, operator, table_of

#: What a server shows that hides rows: none, a tenth, nine tenths.
NONE, FEW, MOST = ({"where": f"cityHash64(toString(uuid)) % 10 {which}"} for which in ("> 9", "= 0", "> 0"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("partition_by", [None, "hour"])
@pytest.mark.parametrize("shown", [NONE, FEW], ids=["none", "few"])
def test_rows_are_not_replaced_by_none_or_far_fewer(
    connection: EmulatorProcess, tmp_path: Path, shown: dict[str, Any], partition_by: str | None
) -> None:
    options = {"partition_by": partition_by, "partition_time": "timestamp"}
    found = operator(tmp_path, **options).execute(context(run_id="first"))
    before = contents(tmp_path)
    for number in (1, 2, 3):
        with pytest.raises(PostHogIncompleteError) as refused:
            operator(tmp_path, **options, **shown).execute(context(run_id="again", try_number=number))
        assert contents(tmp_path) == before, "nothing half-written is left"
    said = str(refused.value)
    assert f"{found['rows']:,} rows" in said
    assert found["interval"]["start"] in said
    assert found["interval"]["end"] in said
    assert "allow_shrink" in said


def test_a_retry_reads_anew_when_posthog_shows_all_again(connection: EmulatorProcess, tmp_path: Path) -> None:
    found = operator(tmp_path).execute(context(run_id="first"))
    with pytest.raises(PostHogIncompleteError):
        operator(tmp_path, **NONE).execute(context(run_id="again"))
    assert operator(tmp_path).execute(context(run_id="again", try_number=2))["rows"] == found["rows"]


@pytest.mark.parametrize("allow", [True, "True", " true"])
def test_they_are_when_that_is_allowed_for_a_run(connection: EmulatorProcess, tmp_path: Path, allow: Any) -> None:
    operator(tmp_path).execute(context(run_id="first"))
    again = operator(tmp_path, allow_shrink=allow, **NONE).execute(context(run_id="again"))
    assert (again["rows"], again["files"]) == (0, 0)
    assert len(contents(tmp_path)) == 1


def test_some_fewer_and_the_share_that_was_asked_for_are_fine(connection: EmulatorProcess, tmp_path: Path) -> None:
    first = operator(tmp_path).execute(context(run_id="1"))
    second = operator(tmp_path, **MOST).execute(context(run_id="2"))
    assert 0.5 * first["rows"] < second["rows"] < first["rows"]
    third = operator(tmp_path, max_shrink="0.95", **FEW).execute(context(run_id="3"))
    assert 0 < third["rows"] < 0.2 * second["rows"]
    with pytest.raises(PostHogIncompleteError):
        operator(tmp_path, max_shrink=1, **NONE).execute(context(run_id="4"))


def test_a_first_load_of_an_empty_interval_is_fine(connection: EmulatorProcess, tmp_path: Path) -> None:
    for run_id in ("1", "2"):
        assert operator(tmp_path, **NONE).execute(context(run_id=run_id))["rows"] == 0


def test_intervals_that_look_back_reads_again_are_guarded_too(connection: EmulatorProcess, tmp_path: Path) -> None:
    operator(tmp_path, time_column="timestamp").execute(context(run_id="first"))
    before = contents(tmp_path)
    span = {"time_column": "timestamp", "start": day(2), "end": day(1), "look_back": timedelta(days=1)}
    with pytest.raises(PostHogIncompleteError, match=day(5)[:10]):
        operator(tmp_path, **span, **NONE).execute(context(run_id="next"))
    there = contents(tmp_path)
    assert {name: there.get(name) for name in before} == before
    assert not any(name.endswith(".part") for name in there)
    assert table_of(tmp_path).num_rows > 1000


@pytest.mark.parametrize("kind", ["query", "download"])
@pytest.mark.parametrize(
    "wrong", [{"max_shrink": 2}, {"max_shrink": "half"}, {"max_shrink": None}, {"allow_shrink": "perhaps"}]
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    connection: EmulatorProcess, tmp_path: Path, wrong: dict[str, Any], kind: str
) -> None:
    span = {"start": day(5), "end": day(2)}
    make = operator if kind == "query" else download
    with pytest.raises(PostHogSettingsError) as refused:
        make(tmp_path, **{**span, **wrong}).execute(context())
    assert refused.value.field in wrong
    assert connection.calls() == []


def download(path: Path, **options: Any) -> Any:
    return PostHogFileDownloadOperator(task_id="task", path=str(path), poll_interval=0.05, **options)


def test_posthog_s_own_files_are_guarded_too(connection: EmulatorProcess, tmp_path: Path) -> None:
    connection.settings(file_download_seconds=0, file_listing_seconds=0)
    span = {"start": day(5), "end": day(2)}
    found = download(tmp_path, **span).execute(context(run_id="first"))
    assert found["rows"] > 1000
    before = contents(tmp_path)
    with pytest.raises(PostHogIncompleteError, match=f"{found['rows']:,} rows"):
        download(tmp_path, include=["no such event"], **span).execute(context(run_id="again"))
    assert contents(tmp_path) == before
    again = download(tmp_path, include=["no such event"], allow_shrink=True, **span).execute(context(run_id="again"))
    assert again["rows"] == 0


def test_a_manifest_that_does_not_know_its_rows_hinders_nothing(connection: EmulatorProcess, tmp_path: Path) -> None:
    path = Path(operator(tmp_path).execute(context(run_id="first"))["manifest"])
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": None}))
    assert operator(tmp_path, **NONE).execute(context(run_id="again"))["rows"] == 0
