"""What the statuses of file downloads mean, and how their kinds of job are asked for."""

from __future__ import annotations

import json

import pytest

from airflow_provider_posthog.api import jobs
from airflow_provider_posthog.api.call import Answer
from airflow_provider_posthog.api.states import Verdict, is_live, of_file_download
from tests.api.cases import KEY

ID = "01a20000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("Starting", "pending"),
        ("Running", "pending"),
        ("Completed", "succeeded"),
        ("Failed", "failed"),
        ("FailedRetryable", "failed"),
        ("FailedBilling", "failed"),
        ("Cancelled", "failed"),
        ("Terminated", "failed"),
        ("TimedOut", "failed"),
        ("SomethingNew", "pending"),
        (None, "pending"),
    ],
)
def test_statuses(status: str | None, state: str) -> None:
    found = of_file_download({"status": status, "files": []})
    assert found.state == state
    assert is_live({"status": status}) == (status in ("Starting", "Running"))
    if status in (None, "SomethingNew"):
        assert "does not know" in found.reason


def test_reasons() -> None:
    billing = of_file_download({"status": "FailedBilling", "error": f"no more, {KEY}"})
    assert "billing limit" in billing.reason
    assert "no more" in billing.reason
    assert KEY not in billing.reason


def test_kinds_keep_their_names() -> None:
    kind = jobs.KINDS["file_download"]
    assert kind.status(ID).path == f"file_download_batch_exports/{ID}/"
    assert kind.cancel is not None
    assert (kind.cancel(ID).method, kind.cancel(ID).path) == ("POST", f"file_download_batch_exports/{ID}/cancel/")


@pytest.mark.parametrize(("live", "verdict"), [(3, "pending"), (2, "succeeded"), (0, "succeeded")])
def test_places(live: int, verdict: str) -> None:
    kind = jobs.KINDS["file_download_place"]
    results = [{"id": ID, "status": status} for status in (*["Running", "Starting", "Running"][:live], "Completed")]
    found = kind.status("3").read(Answer(200, {}, json.dumps({"results": results}).encode()))
    assert kind.judge(found).state == verdict
    assert kind.cancel is None
    assert isinstance(kind.judge(found), Verdict)
