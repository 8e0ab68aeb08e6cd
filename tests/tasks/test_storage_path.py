"""A path leads where it says, or is refused before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.api import PostHogApiOperator
from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator
from airflow_provider_posthog.operators.persons import PostHogResolvePersonsOperator
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.tasks.certificate import open_certificate
from airflow_provider_posthog.tasks.storage_path import is_bucket, storage_path
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator
from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

NOWHERE = [
    "", "   ", "/", "//", " / ", "\n", "file://", "file:", "file:/", "file:///", "file:////", "file://lake/x.csv",
    "file:x.csv", "local://", "local://x.csv", "FILE://", "s3://", "s3:", "s3:/", "s3:///", "s3:///x.csv",
    "s3:/lake/x.csv", "s3://conn@", "s3://conn@/", "s3://conn@/x.csv", "gs://", "abfs:///x.csv", "memory://",
]  # fmt: skip
SPAN = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}


def of(path: object, *, folder: bool = False) -> Any:
    return storage_path("path", path, example="s3://lake/", folder=folder)  # type: ignore[arg-type]


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("path", NOWHERE)
def test_a_path_that_names_no_place_is_refused(path: str, folder: bool) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        of(path, folder=folder)
    assert refused.value.field == "path"


@pytest.mark.parametrize("path", [12, None, ["/tmp"]])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(PostHogSettingsError, match="is not a path, but a"):
        of(path)


@pytest.mark.parametrize("path", ["file:///", "s3:///"])
def test_a_path_object_that_names_no_place_is_refused(path: str) -> None:
    with pytest.raises(PostHogSettingsError, match="names no place"):
        of(ObjectStoragePath(path))


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/lake/x.csv", "/lake/x.csv"),
        (" /lake/x.csv\n", "/lake/x.csv"),
        (Path("/lake/x.csv"), "/lake/x.csv"),
        ("file:///lake/x.csv", "/lake/x.csv"),
        ("s3://lake/a*b[c]?d#e%20.csv", "lake/a*b[c]?d#e%20.csv"),
        ("s3://conn@lake/x.csv", "lake/x.csv"),
        ("memory:///x", "/x"),
        ("/lake/a?b#c*[d]", "/lake/a?b#c*[d]"),
    ],
)
def test_every_sign_of_a_path_is_kept(path: object, kept: str) -> None:
    assert of(path).path == kept


def test_a_relative_path_stays_one_or_is_refused() -> None:
    """Airflow 2 would take it from the root of all files."""
    try:
        made = of("lake/x.csv")
    except PostHogSettingsError as error:
        assert "relative" in str(error)  # noqa: PT017 - what holds depends on Airflow's version
    else:
        assert made.path == "lake/x.csv"


def test_a_storage_that_nobody_knows_is_refused_when_it_is_used_at_the_latest() -> None:
    with pytest.raises(ValueError, match="nope"):
        print(of("nope://lake/x.csv").fs)


@given(st.text("ab?#%*[]{}\\. ", min_size=1, max_size=12), st.sampled_from(["/lake/", "file:///lake/", "s3://lake/"]))
def test_a_path_loses_no_sign_without_a_word(name: str, root: str) -> None:
    text = f"{root}x{name}"
    with suppress(PostHogSettingsError):
        assert of(text).path.rpartition("/")[2] == text.strip().rpartition("/")[2]


def test_a_bucket_is_a_folder_and_no_file() -> None:
    assert [is_bucket(each) for each in ("s3://lake", "s3://c@lake/ ", "gs://lake/x", "/lake", "file:///lake")] == [
        True, True, False, False, False,
    ]  # fmt: skip
    assert of("s3://lake/", folder=True).path.rstrip("/") == "lake"


TASKS: dict[str, Callable[[str], Any]] = {
    "path of rows": lambda path: PostHogQueryToObjectStorageOperator(task_id="t", source="events", path=path, **SPAN),
    "path of files": lambda path: PostHogFileDownloadOperator(task_id="t", path=path, **SPAN),
    "path of an export": lambda path: PostHogExportToObjectStorageOperator(task_id="t", export_id=5, path=path),
    "path of an answer": lambda path: PostHogApiOperator(task_id="t", call="insights.list", path=path),
    "path of a query": lambda path: PostHogQueryOperator(task_id="t", query="SELECT 1", path=path),
    "path of an insight": lambda path: PostHogRefreshInsightOperator(task_id="t", insight=1, path=path),
    "work_path": lambda path: PostHogResolvePersonsOperator(task_id="t", distinct_ids=["a"], work_path=path),
}


@pytest.mark.parametrize("path", ["file://", "s3://", "file:///", "   ", "/", "s3:///x.csv", "file://x.csv"])
@pytest.mark.parametrize("name", TASKS)
def test_every_task_refuses_a_path_that_leads_elsewhere_before_anything_is_sent(
    connected: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PostHogSettingsError) as refused:
        TASKS[name](path).execute({})
    assert refused.value.field == name.split()[0]
    assert connected.calls() == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_certificates_that_leads_elsewhere_is_refused(connected: EmulatorProcess) -> None:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    with pytest.raises(PostHogSettingsError) as refused:
        open_certificate(PostHogHook(), "file://", None, {}, "r", None)
    assert refused.value.field == "audit_path"
