"""Which connection the work file of a request is read with, and which one a path of the task's own."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.access import PostHogExportPersonDataOperator
from airflow_provider_posthog.operators.erasure import (
    PostHogDiscardErasureOperator,
    PostHogEraseFromFilesOperator,
    PostHogEraseFromSqlOperator,
    PostHogSealErasureOperator,
    PostHogSuppressPersonsOperator,
)
from airflow_provider_posthog.tasks.erasure_handover import Handover
from tests.erasure.support import Lab, lab, tidied

__all__ = ["lab", "tidied"]

OF_A_PATH: dict[Any, dict[str, Any]] = {
    PostHogExportPersonDataOperator: {"path": "s3://b/x", "persons": {}},
    PostHogEraseFromFilesOperator: {"path": "s3://b/x", "request": {}},
    PostHogSuppressPersonsOperator: {"suppress_path": "s3://b/x", "request": {}},
    PostHogSealErasureOperator: {"sealed_path": "s3://b/x", "request": {}, "proof": {}},
}
OF_THE_WORK_FILE: dict[Any, dict[str, Any]] = {
    PostHogEraseFromSqlOperator: {"sql_conn_id": "db", "table": "t", "request": {}},
    PostHogDiscardErasureOperator: {"request": {}},
}


@pytest.mark.parametrize("kind", [*OF_A_PATH, *OF_THE_WORK_FILE], ids=lambda kind: kind.__name__)
def test_a_task_reads_the_work_file_with_the_connection_it_was_written_with_unless_its_own_is_for_that(
    lab: Lab, kind: Any
) -> None:
    request = {**lab.resolve(), "object_storage_conn_id": "private"}
    options = {**OF_A_PATH, **OF_THE_WORK_FILE}[kind]
    for given, of_the_request, expected in (
        ("lake", "private", "private" if kind in OF_A_PATH else "lake"),
        (None, "private", "private"),
        ("lake", None, "lake"),
        (None, None, None),
    ):
        task = kind(task_id="task", object_storage_conn_id=given, **options)
        handover = task.handover_of({**request, "object_storage_conn_id": of_the_request}, "request")
        assert handover.conn_id == expected
        assert (handover.work_path, handover.request_id) == (request["work_path"], request["request_id"])
        assert (task.work_path, task.object_storage_conn_id, task.audit_path) == (None, given, None), "as it was told"


def test_what_was_handed_over_is_returned_as_it_came() -> None:
    earlier = {
        "request_id": "r",
        "work_path": "s3://b/w.jsonl",
        "object_storage_conn_id": "private",
        "audit_path": "s3://b/audit",
        "ticket": "DSR-1",
        "received_at": "2026-11-01",
        "due_at": "2026-12-01",
    }
    assert Handover().of(earlier).as_json() == earlier


def test_no_work_file_is_refused_with_what_to_write() -> None:
    for earlier in ({}, {"work_path": ""}, {"work_path": "s3://b/"}, {"work_path": "s3://bucket"}):
        with pytest.raises(PostHogSettingsError, match="names no file") as refused:
            Handover().of(earlier).file()
        assert refused.value.field == "work_path"
