"""What the statuses of file downloads mean, and how their kinds of job are asked for."""

from __future__ import annotations

import json

import pytest

from airflow_provider_posthog.api import jobs
from airflow_provider_posthog.api.call import Answer
from airflow_provider_posthog.api.file_download_checks import slot_free
from airflow_provider_posthog.api.states import is_live, of_file_download
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
def test_a_slot_is_free_once_fewer_run_than_at_the_refusal(live: int, verdict: str) -> None:
    steps = slot_free(refused_at=3)
    call = next(steps)
    results = [{"id": ID, "status": status} for status in (*["Running", "Starting", "Running"][:live], "Completed")]
    page = call.read(Answer(200, {}, json.dumps({"results": results}).encode()))
    with pytest.raises(StopIteration) as finding:
        steps.send(page)
    assert finding.value.value.verdict.state == verdict
    assert finding.value.value.facts == {"running": live}
