"""What was to be made or read is proved by its id: a 200 that holds something else is no success."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import pytest

from airflow_provider_posthog.api import annotations, batch_exports, cohorts, exports, feature_flags, persons, warehouse
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.exceptions import PostHogTransportError

UUID = "018f2b4e-0000-7000-8000-000000000001"
SOURCE = {"kind": "HogQLQuery", "query": "SELECT 1"}
MADE: dict[str, Call[Any]] = {
    "annotation": annotations.create(content="x", date_marker=datetime(2026, 11, 1, tzinfo=timezone.utc)),
    "annotation's text": annotations.update(1, content="x"),
    "static cohort": cohorts.create_static(name="x", query=SOURCE),
    "export": exports.create(export_format=exports.CSV, export_context={"source": SOURCE}),
    "flag": feature_flags.update(1, active=True),
    "table": warehouse.create_table(name="x", format="Parquet", url_pattern="https://x", credential={}),
    "batch export": batch_exports.retrieve(UUID),
    "source": warehouse.source(UUID),
    "view": warehouse.view(UUID),
}
NOT_IT: list[Any] = [{}, {"error": "It went wrong."}, {"id": None}, {"id": ""}, {"id": 0}, {"id": True}]


def answer(value: Any) -> Answer:
    return Answer(200, {"content-type": "application/json"}, json.dumps(value).encode())


@pytest.mark.parametrize("name", MADE)
def test_a_thing_without_an_id_is_not_there(name: str) -> None:
    for value in NOT_IT:
        with pytest.raises(PostHogTransportError, match="no 'id'") as caught:
            MADE[name].read(answer(value))
        assert caught.value.sent, "it may be there, and is to be looked for"
    of_number = name in ("annotation", "annotation's text", "static cohort", "export", "flag")
    good = 7 if of_number else UUID
    assert MADE[name].read(answer({"id": good}))["id"] == good


@pytest.mark.parametrize("value", [{}, {"error": "x"}, {"results": None}, {"results": []}])
def test_nobody_is_gone_because_an_answer_has_no_results(value: Any) -> None:
    for call in (persons.batch_by_uuids([UUID]), persons.batch_by_distinct_ids(["a"])):
        with pytest.raises(PostHogTransportError, match="no dict 'results'"):
            call.read(answer(value))
        assert call.read(answer({"results": {}})) == {"results": {}}


@pytest.mark.parametrize("value", [{}, {"run_history": None}, {"run_history": {}}])
def test_no_run_is_gone_because_an_answer_has_no_history(value: Any) -> None:
    with pytest.raises(PostHogTransportError, match="no list 'run_history'"):
        warehouse.view_runs(UUID).read(answer(value))
