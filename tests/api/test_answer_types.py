"""What an answer has to be is checked once, by the type that its endpoint declares."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_posthog.api import batch_exports, dashboards, exports, file_downloads, persons, queries
from airflow_provider_posthog.api.answer_types import check_of
from airflow_provider_posthog.api.answers import needed, typed_rows
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.exceptions import PostHogTransportError

UUID = "0190e6a8-0000-7000-8000-000000000001"


def read(call: Call[Any], body: object) -> Any:
    return call.read(Answer(200, {"content-type": "application/json"}, json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("call", "body", "where"),
    [
        (exports.retrieve(1), {"has_content": "yes"}, "has_content"),
        (exports.retrieve(1), {"id": [1]}, "id"),
        (exports.retrieve(1), {"id": True}, "id"),
        (exports.retrieve(1), {"id": 10**30}, "id"),
        (exports.retrieve(1), {"filename": ["a"]}, "filename"),
        (exports.list(), {"results": [{"id": 1, "created_at": 5}]}, r"results\[\].created_at"),
        (exports.list(), {"results": [], "count": "3"}, "count"),
        (file_downloads.retrieve(UUID), {"status": "Completed", "files": {}}, "files"),
        (file_downloads.retrieve(UUID), {"status": "Completed", "files": [None]}, r"files\[\] is null"),
        (file_downloads.retrieve(UUID), {"status": "Completed", "records_completed": "7"}, "records_completed"),
        (persons.batch_by_uuids([UUID]), {"results": {"a@b.example": None}}, r"\.\*"),
        (dashboards.retrieve(1), {"tiles": [{"insight": ["x"]}]}, r"tiles\[\].insight"),
        (queries.start({"kind": "HogQLQuery"}), {"results": [], "columns": [["a", 1]]}, "columns"),
        (batch_exports.runs(UUID, after="-30d"), {"results": [{"status": 3}]}, "status"),
    ],
)
def test_a_field_of_another_kind_is_an_error_that_names_it(call: Call[Any], body: Any, where: str) -> None:
    with pytest.raises(PostHogTransportError, match=where) as caught:
        read(call, body)
    assert "malformed" in str(caught.value)
    assert "@" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "body"),
    [
        (exports.retrieve(1), {}),
        (exports.list(), {"results": [{"export_context": each} for each in (["a"], "path", 7, None, {})]}),
        (exports.retrieve(1), {"new": {"in": [2030]}, "exception": None, "has_content": None}),
        (file_downloads.retrieve(UUID), {"id": 7, "status": "ANewWord"}),
        (queries.start({"kind": "X"}), {"results": {"a": 1}, "types": ["String"], "columns": None}),
    ],
)
def test_what_is_missing_null_or_new_passes(call: Call[Any], body: Any) -> None:
    assert read(call, body) == body


def test_what_was_made_is_not_refused_for_one_of_its_fields() -> None:
    """A retry of the task would make it again."""
    made = {"id": 1, "filename": ["odd"]}
    assert read(exports.create(export_format="text/csv"), made) == made
    with pytest.raises(PostHogTransportError, match="not an object"):
        read(exports.create(export_format="text/csv"), [made])


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 2**64, -(2**70)])
def test_numbers_that_nothing_can_compute_with_are_refused(value: float) -> None:
    check = check_of(float)
    assert check is not None
    assert "impossible size" in str(check(value, "x"))


def test_a_field_without_which_an_answer_is_nothing_is_asked_for_by_name() -> None:
    assert needed({"id": 7}, "id", int, "a tile") == 7
    for found in ({}, {"id": None}, {"id": "7"}, {"id": True}):
        with pytest.raises(PostHogTransportError, match="a tile came without its 'id'"):
            needed(found, "id", int, "a tile")


@pytest.mark.parametrize("row", [["a"], ["a", 1, 2], ["a", "1"], [None, 1], {"a": 1}, "ab"])
def test_a_row_of_another_shape_is_no_row_and_its_values_stay_hidden(row: Any) -> None:
    assert typed_rows([["secret", 1]], (str, int)) == [["secret", 1]]
    with pytest.raises(PostHogTransportError) as caught:
        typed_rows([["secret", 1], row], (str, int))
    assert "secret" not in str(caught.value)
