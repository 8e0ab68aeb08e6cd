"""Things that an argument names and PostHog does not have: which argument it is, and no other try."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.compat import AirflowFailException
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogSettingsError

#: Operators by their module, what they need besides, and which argument names something.
UNKNOWN: dict[str, tuple[str, dict[str, Any], str]] = {
    "PostHogRefreshDashboardOperator": ("operators.dashboards", {"dashboard": 4711}, "dashboard"),
    "PostHogDashboardToSqlOperator": (
        "transfers.dashboard_to_sql",
        {"dashboard": 4711, "sql_conn_id": "lite", "table": "x"},
        "dashboard",
    ),
    "PostHogRefreshInsightOperator": ("operators.insights", {"insight": "AbCd9999"}, "insight"),
    "PostHogStaticCohortOperator": (
        "operators.cohorts",
        {"cohort_id": 4711, "query": "SELECT id AS person_id FROM persons LIMIT 1"},
        "cohort_id",
    ),
    "PostHogRunEndpointOperator": ("operators.endpoints", {"endpoint": "nope"}, "endpoint"),
    "PostHogFeatureFlagOperator": ("operators.flags", {"flag": 4711, "active": True}, "flag"),
    "PostHogExperimentResultsOperator": ("operators.experiments", {"experiment_id": 4711}, "experiment_id"),
}


def made(name: str, tmp_path: Path, **more: Any) -> Any:
    module, arguments, _ = UNKNOWN[name]
    if name == "PostHogExperimentResultsOperator":
        arguments = {**arguments, "path": f"file://{tmp_path}/results.jsonl"}
    kind = getattr(importlib.import_module(f"airflow_provider_posthog.{module}"), name)
    return kind(task_id="task", **arguments, **more)


@pytest.fixture(autouse=True)
def lite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LITE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "lite.db")}))


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_there_names_the_argument_and_makes_no_other_try(
    name: str, connected: EmulatorProcess, tmp_path: Path
) -> None:
    with pytest.raises(PostHogSettingsError, match=r"has no such [\w ]+ that this key may see\. Write ") as caught:
        made(name, tmp_path).execute({})
    assert caught.value.field == UNKNOWN[name][2]
    assert isinstance(caught.value, AirflowFailException)


def test_a_project_that_is_not_there_is_no_fault_of_the_argument(connected: EmulatorProcess, tmp_path: Path) -> None:
    with pytest.raises(PostHogNotFoundError, match="Check the connection's project_id"):
        made("PostHogRefreshDashboardOperator", tmp_path, project_id=999).execute({})


@pytest.mark.parametrize(
    "address", ["https://us.posthog.com/project/1/insights/AbCd1234", "/insights/AbCd1234/edit?x=1"]
)
def test_the_address_of_an_insight_says_which_it_is(address: str, tmp_path: Path) -> None:
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    with pytest.raises(PostHogSettingsError, match=r"^insight: is the address of a page\. Write 'AbCd1234'\.$"):
        PostHogRefreshInsightOperator(task_id="task", insight=address).execute({})
