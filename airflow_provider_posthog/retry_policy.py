"""What Airflow does after a task has failed at PostHog (Airflow 3.3 and newer)."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import RetryDecision, RetryPolicy, has_retry_policies
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogQuotaError,
    PostHogSettingsError,
    PostHogValidationError,
)

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context

#: What no retry mends: the same request gets the same answer until somebody changes something.
_LASTING = (
    PostHogSettingsError,
    PostHogAuthenticationError,
    PostHogPermissionError,
    PostHogNotFoundError,
    PostHogQuotaError,
    PostHogValidationError,
)
#: A 400 that says how busy ClickHouse is, not what is wrong with the request.
_BUSY = re.compile(r"(?i)time[ _]?out|timed out|too[ _]slow|execution[ _]time|memory[ _]limit|simultaneous")
#: How PostHog words what is wrong with a query: a job fails of that after it was taken with 200.
_WRONG_QUERY = re.compile(
    r"(?i)unable to resolve|unknown (?:table|field)|unsupported function|no viable alternative|mismatched input"
    r"|extraneous input|unresolved placeholder|placeholder \{|type_mismatch|query size exceeded"
)
#: The longest wait that PostHog is believed: its longest bucket holds a day. A proxy may ask for years.
LONGEST = timedelta(days=1)


class PostHogRetryPolicy(RetryPolicy):
    """Fails at once if no retry can help, and otherwise waits for as long as PostHog asks.

    ::

        load = PostHogToSqlOperator(..., task_id="load", retries=5, retry_policy=PostHogRetryPolicy())

    Wrong settings, keys, scopes and queries (400, 401, 402, 403, 404; jobs that fail of them, too), rows that PostHog
    hides, and loads that would replace rows by far fewer fail without another try. A 429 or 503 with a time to wait is
    tried again after it. All other errors, also those of other packages, follow the task's own ``retries`` and
    ``retry_delay``. There are never more tries than ``retries`` allows.

    :raises PostHogSettingsError: before Airflow 3.3, which has no retry policies.
    """

    def __init__(self) -> None:
        if not has_retry_policies():
            raise PostHogSettingsError(
                "retry_policy", "needs Airflow 3.3 or newer.", "Leave it out: retries and retry_delay work without it."
            )

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide what happens after a failure.

        :param exception: what the task has failed with.
        :param try_number: the try, from 1.
        :param max_tries: how many there may be.
        """
        error = _of_posthog(exception)
        if error is None:
            return RetryDecision.default()
        name = type(error).__name__
        if _is_lasting(error):
            return RetryDecision.fail(f"{name}: a retry cannot help")
        retry_in = error.retry_after if isinstance(error, PostHogAPIError) else None
        if retry_in is None or not retry_in > 0:
            return RetryDecision.default()
        delay = min(timedelta(seconds=min(retry_in, LONGEST.total_seconds())), LONGEST)
        return RetryDecision.retry(delay, f"{name}: PostHog asked to wait {delay.total_seconds():,.0f} s")

    def serialize(self) -> dict[str, Any]:
        """Return what stands for it in a DAG that is written down."""
        return {"__type": f"{type(self).__module__}.{type(self).__qualname__}"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PostHogRetryPolicy:
        """Make it again.

        :param data: what :meth:`serialize` returned.
        """
        del data
        return cls()


def _of_posthog(exception: BaseException) -> PostHogError | None:
    """Return the error of this provider that a failure is, or that somebody has raised it from."""
    seen: set[int] = set()
    error: BaseException | None = exception
    while error is not None and id(error) not in seen:
        if isinstance(error, PostHogError):
            return error
        seen.add(id(error))
        error = error.__cause__
    return None


def _is_lasting(error: PostHogError) -> bool:
    if isinstance(error, PostHogIncompleteError):
        return error.lasting
    if isinstance(error, PostHogJobFailed):
        return error.lasting or bool(_WRONG_QUERY.search(str(error)))
    if isinstance(error, PostHogValidationError):
        text = f"{error.code} {error.detail}"
        return bool(_WRONG_QUERY.search(text)) or not _BUSY.search(text)
    return isinstance(error, _LASTING)
