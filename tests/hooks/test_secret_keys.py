"""Project secret keys (``phs_...``): keys without a person, for queries and endpoints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogAuthenticationError, PostHogPermissionError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.batch_exports import PostHogPauseBatchExportOperator
from airflow_provider_posthog.operators.endpoints import PostHogRunEndpointOperator
from airflow_provider_posthog.operators.queries import PostHogQueryOperator


def use(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, *scopes: str) -> PostHogHook:
    key = posthog.create_secret_key(scopes)
    assert key.startswith("phs_")
    connection = {**json.loads(posthog.airflow_connection_json()), "password": key}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return PostHogHook()


def test_the_connection_test_asks_for_what_such_a_key_may_do(
    posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = use(posthog, monkeypatch, "query:read", "endpoint:read")
    works, text = hook.test_connection()
    assert works
    assert "with a project secret key, which can serve PostHogQueryOperator" in text
    paths = {call["path"] for call in posthog.calls()}
    assert not any("users/@me" in path for path in paths)
    assert "/api/projects/1/" not in paths


def test_it_names_the_scope_that_is_missing(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    works, text = use(posthog, monkeypatch, "endpoint:read").test_connection()
    assert works
    assert "The key lacks: query:read." in text
    works, text = use(posthog, monkeypatch, "experiment:read").test_connection()
    assert not works
    assert "may do nothing" in text


def test_queries_and_endpoints_work(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    use(posthog, monkeypatch, "query:read", "endpoint:read")
    query = PostHogQueryOperator(task_id="a", query="SELECT 1 AS one LIMIT 1", poll_interval=0.1, deferrable=False)
    assert query.execute({})["rows"] == [[1]]
    endpoint: Any = PostHogRunEndpointOperator(task_id="b", endpoint="events-by-day")
    assert endpoint.execute({})["row_count"] > 0


def test_other_tasks_say_which_ones_such_a_key_can_serve(
    posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(posthog, monkeypatch, "query:read", "endpoint:read")
    pause: Any = PostHogPauseBatchExportOperator(task_id="a", batch_export="Events to the lake")
    with pytest.raises(
        PostHogAuthenticationError, match=r"project secret key .* and PostHogRunEndpointOperator"
    ) as error:
        pause.execute({})
    assert "phs_" not in str(error.value).replace("(phs_...)", "")


def test_a_missing_scope_says_so_too(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    use(posthog, monkeypatch, "endpoint:read")
    query = PostHogQueryOperator(task_id="a", query="SELECT 1 AS one LIMIT 1", poll_interval=0.1, deferrable=False)
    with pytest.raises(PostHogPermissionError, match=r"query:read.*project secret key"):
        query.execute({})
