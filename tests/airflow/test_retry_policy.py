"""What Airflow 3.3 does after a task has failed at PostHog."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.compat import has_retry_policies
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogLoadError,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogQuotaError,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
)
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.results.retention import Retention, decide
from airflow_provider_posthog.retry_policy import PostHogRetryPolicy
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from tests.operators.support import connect, make_dag, rows_of_database, task_states

RunDag = Callable[..., Any]


def api(kind: type[PostHogAPIError], status: int, **parts: Any) -> PostHogAPIError:
    return kind(status=status, method="POST", path="/api/projects/1/query/", **parts)


def shrunk() -> PostHogError:
    with pytest.raises(PostHogIncompleteError) as error:
        ShrinkGuard().check("events", 5000, 10)
    return error.value


def hidden() -> PostHogError:
    now = datetime.now(timezone.utc)
    found = decide(now - timedelta(days=900), now, now - timedelta(days=90), Retention(3, True, now), "fail")
    assert isinstance(found, PostHogError)
    return found


def lasting(error: PostHogJobFailed) -> PostHogError:
    error.lasting = True
    return error


def caused(error: BaseException) -> BaseException:
    made = RuntimeError("the author's own")
    made.__cause__ = error
    return made


def circular() -> BaseException:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    return first


LASTING = [
    PostHogSettingsError("query", "is empty.", "Write one."),
    api(PostHogAuthenticationError, 401),
    api(PostHogPermissionError, 403),
    api(PostHogNotFoundError, 404, retry_after=5.0),
    api(PostHogQuotaError, 402),
    api(PostHogValidationError, 400, detail="Unable to resolve field: nowhere"),
    api(PostHogValidationError, 400, detail="Unable to resolve field: timeout"),
    PostHogJobFailed("PostHog: the query failed: Unable to resolve field: nope [airflow-1]"),
    PostHogJobFailed("PostHog: the query failed: no viable alternative at input 'SELEC' [airflow-1]"),
    PostHogJobFailed('PostHog: the query failed: Unknown table "nope". [airflow-1]'),
    PostHogJobFailed("PostHog: export 1 failed: Unsupported function call 'foo(...)'"),
    lasting(PostHogJobFailed("no such export")),
    shrunk(),
    hidden(),
    caused(api(PostHogPermissionError, 403)),
]
PASSING: list[tuple[BaseException, float | None]] = [
    (api(PostHogRateLimitError, 429, retry_after=1800.0), 1800),
    (api(PostHogServerError, 503, retry_after=7.5), 7.5),
    (api(PostHogRateLimitError, 429, retry_after=1e12), 86_400),
    (caused(api(PostHogRateLimitError, 429, retry_after=60.0)), 60),
    (api(PostHogRateLimitError, 429), None),
    (api(PostHogServerError, 500, retry_after=0.0), None),
    (api(PostHogValidationError, 400, detail="Query has hit the max execution time before completing."), None),
    (api(PostHogAPIError, 409), None),
    (PostHogTransportError("cut"), None),
    (PostHogIncompleteError("Rows may still be arriving: let the task retry."), None),
    (PostHogJobFailed("gone"), None),
    (PostHogJobFailed("PostHog: the query failed: Timeout exceeded: elapsed 600 seconds [airflow-1]"), None),
    (PostHogLoadError("deadlock"), None),
    (ValueError("the author's own"), None),
    (circular(), None),
]


if has_retry_policies():

    @pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
    def test_what_no_retry_can_mend_fails_at_once(error: BaseException) -> None:
        decision = PostHogRetryPolicy().evaluate(error, 1, 5)
        assert decision.action.value == "fail"
        assert decision.reason

    @pytest.mark.parametrize(("error", "seconds"), PASSING, ids=lambda each: str(each)[:40])
    def test_the_rest_waits_as_long_as_posthog_asks_else_as_the_task_says(
        error: BaseException, seconds: float | None
    ) -> None:
        decision = PostHogRetryPolicy().evaluate(error, 1, 5)
        assert decision.action.value == ("default" if seconds is None else "retry")
        assert decision.retry_delay == (None if seconds is None else timedelta(seconds=seconds))

    def test_it_is_written_down_and_made_again() -> None:
        data = PostHogRetryPolicy().serialize()
        assert isinstance(PostHogRetryPolicy.deserialize(data), PostHogRetryPolicy)

    @pytest.mark.parametrize(("status", "tries"), [(403, 1), (429, 2)])
    def test_airflow_asks_it_after_a_failure(
        connected: EmulatorProcess, run_dag: RunDag, monkeypatch: pytest.MonkeyPatch, status: int, tries: int
    ) -> None:
        connect(monkeypatch, connected, max_rate_limit_wait=0)
        connected.faults(method="POST", path="*/query/", status=status, headers={"Retry-After": "0.1"}, count=-1)

        def fill() -> None:
            PostHogQueryOperator(
                task_id="t",
                query="SELECT 1",
                deferrable=False,
                retries=1,
                retry_delay=timedelta(seconds=0.1),
                retry_policy=PostHogRetryPolicy(),
            )

        run = run_dag(make_dag(f"policy_{status}", fill))
        connected.clear_faults()
        assert task_states(run) == {"t": "failed"}
        sql = "SELECT try_number FROM task_instance WHERE dag_id = ? AND run_id = ?"
        assert rows_of_database(sql, run.dag_id, run.run_id) == [(tries,)]

else:

    def test_before_airflow_3_3_it_says_what_it_needs() -> None:
        with pytest.raises(PostHogSettingsError, match=r"retry_policy: needs Airflow 3\.3"):
            PostHogRetryPolicy()
