"""Calls about insights, and the query inside one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import insights
from airflow_provider_posthog.api.queries import hogql
from tests.api.test_states import JSON

SQL = hogql("SELECT 1")
TRENDS = {"kind": "TrendsQuery", "series": []}
WRAPPERS = ["InsightVizNode", "DataVisualizationNode", "DataTableNode"]


@pytest.mark.parametrize("node", [SQL, TRENDS], ids=["HogQL", "trends"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrapped(wrapper: str, node: dict[str, Any]) -> None:
    assert insights.runnable_query({"query": {"kind": wrapper, "source": node, "display": "BoldNumber"}}) == node
    nested = {"kind": "DataTableNode", "source": {"kind": wrapper, "source": node}}
    assert insights.runnable_query({"query": nested}) == node


def test_bare() -> None:
    assert insights.runnable_query({"query": SQL}) == SQL


@pytest.mark.parametrize(
    "insight",
    [
        {},
        {"query": None},
        {"query": {}},
        {"filters": {"events": []}},
        {"query": {"kind": ""}},
        {"query": {"kind": None}},
        {"query": {"kind": ["InsightVizNode"]}},
        {"query": {"kind": {"a": 1}}},
        {"query": {"kind": "InsightVizNode"}},
        {"query": {"kind": "InsightVizNode", "source": None}},
        {"query": {"kind": "InsightVizNode", "source": []}},
        {"query": {"kind": "InsightVizNode", "source": {}}},
        {"query": "SELECT 1"},
        {"query": [SQL]},
    ],
)
def test_no_query(insight: Any) -> None:
    assert insights.runnable_query(insight) is None


@given(st.recursive(JSON, lambda n: st.fixed_dictionaries({"kind": st.sampled_from(WRAPPERS) | JSON, "source": n})))
def test_any_query(node: Any) -> None:
    found = insights.runnable_query({"query": node})
    assert found is None or (isinstance(found["kind"], str) and found["kind"] not in WRAPPERS)


def test_calls() -> None:
    call = insights.list(short_id="Ab3", basic=True, limit=1, offset=0)
    assert call.query_string() == "short_id=Ab3&basic=true&limit=1&offset=0"
    assert insights.list().query_string() == ""
    assert insights.retrieve(5).path == "insights/5/"
