"""What the statuses of PostHog mean."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.states import Verdict, of_export, of_file_download, of_query, of_run
from tests.api.cases import KEY

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("export", "state"),
    [
        ({}, "pending"),
        ({"has_content": False}, "pending"),
        ({"has_content": False, "exception": None}, "pending"),
        ({"has_content": False, "exception": ""}, "pending"),
        ({"has_content": True}, "succeeded"),
        ({"has_content": True, "exception": "an old text"}, "succeeded"),
        ({"has_content": "True"}, "pending"),
        ({"has_content": False, "exception": "Timeout"}, "failed"),
        ({"exception": "Timeout"}, "failed"),
    ],
)
def test_exports(export: dict[str, Any], state: str) -> None:
    assert of_export(export).state == state


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("'path'", True),
        ("Export to format application/pdf is not supported for insights", True),
        ("Unable to resolve field: nope", True),
        ('Unknown table "x".', True),
        ("Unsupported function call 'x(...)'. Perhaps you meant 'y(...)'?", True),
        ("no viable alternative at input 'select 1;'", True),
        ("Query size exceeded.", True),
        ("the file exceeds the maximum of 10 MB", True),
        ("the 'path' of the browser was not found", False),
        ("Failed to fetch", False),
        ("503 Service Unavailable", False),
    ],
)
def test_failures_that_posthog_may_still_mend(text: str, final: bool) -> None:
    assert of_export({"has_content": False, "exception": text}) == Verdict("failed", text, final=final)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "pending"),
        ({"complete": False, "error": False}, "pending"),
        ({"complete": True, "error": False}, "succeeded"),
        ({"complete": "yes"}, "pending"),
        ({"complete": True, "error": True, "error_message": "Unknown table"}, "failed"),
        ({"complete": False, "error": True}, "failed"),
    ],
)
def test_queries(status: dict[str, Any], state: str) -> None:
    assert of_query(status).state == state


@pytest.mark.parametrize(
    ("status", "state", "final"),
    [
        ("Completed", "succeeded", True),
        *((status, "pending", True) for status in ("Starting", "Running", "ContinuedAsNew", "Paused", "completed", "")),
        *((status, "failed", True) for status in ("Failed", "FailedBilling", "Cancelled", "TimedOut", "Terminated")),
        ("FailedRetryable", "failed", False),
        (None, "pending", True),
    ],
)
def test_runs(status: object, state: str, final: bool) -> None:
    for judge in (of_run, of_file_download):
        verdict = judge({"status": status})
        assert verdict.state == state
        assert (verdict.state == "failed") <= bool(verdict.reason)
    assert of_run({"status": status}).final is final


@pytest.mark.parametrize(
    ("failed", "state"), [(1, "failed"), (0, "succeeded"), (None, "succeeded"), ("1", "succeeded")]
)
def test_a_run_whose_records_failed_has_failed(failed: object, state: str) -> None:
    assert of_run({"status": "Completed", "failed": failed}).state == state


def test_reasons() -> None:
    assert of_query({"error": True, "error_message": "Unknown table"}).reason == "Unknown table"
    assert "no reason" in of_query({"error": True, "error_message": None}).reason
    assert KEY not in of_export({"exception": f"bad key {KEY}"}).reason
    assert KEY not in of_query({"error": True, "error_message": f"bad key {KEY}"}).reason


STATUSES = st.dictionaries(
    st.sampled_from(["has_content", "exception", "error", "complete", "error_message"]) | st.text(), JSON
)


@given(STATUSES)
def test_any_json_has_a_verdict(status: dict[str, Any]) -> None:
    for verdict in (of_export(status), of_query(status)):
        assert verdict.state in ("pending", "succeeded", "failed")
        assert (verdict.state == "failed") == bool(verdict.reason)
    assert (of_export(status).state == "succeeded") == (status.get("has_content") is True)
