"""What all sensors share: poke, reschedule and deferrable mode with the same outcomes."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import checks
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.jobs import FAILURE_GRACE, LAST_CHECK, MAX_POLL_FAILURES
from airflow_provider_posthog.api.retry import RETRYABLE_STATUSES
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    default_deferrable,
    is_of_earlier_try,
    state_store,
)
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogTransportError,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.arguments import SensorTaskArguments
from airflow_provider_posthog.tasks.deadline import Deadline
from airflow_provider_posthog.tasks.lengths import as_seconds, seconds_of
from airflow_provider_posthog.tasks.sensor_words import SayingSensor
from airflow_provider_posthog.tasks.timeouts import naming, task_timeout

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.triggers.base import BaseTrigger
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from airflow_provider_posthog.triggers.watching import Waiting, WatchEvent

#: Where a rescheduled sensor counts the pokes in a row that went wrong (Airflow 3.3); never renamed.
BAD_POKES_KEY = "posthog_bad_pokes"


class PostHogWaitingSensor(SayingSensor, BaseSensorOperator):
    """Waits for something on PostHog, in the worker or in the triggerer. Subclasses say for what.

    Being rate limited is not a failure: it is waited out. A server in trouble is, once ``max_poll_failures`` looks in a
    row went wrong (in ``reschedule`` mode before Airflow 3.3, which keeps no count between two pokes, ``timeout``
    ends it).

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param deferrable: wait in the triggerer; default ``[operators] default_deferrable``.
    :param failure_grace: how long a failure must last that PostHog may still mend by itself: seconds, or a
        ``timedelta``.
    :param max_poll_failures: how many polls in a row may fail.
    :param kwargs: as Airflow's ``BaseSensorOperator``: ``poke_interval``, ``timeout``, ``mode``, ``soft_fail``, ...
    """

    template_fields: Sequence[str] = ("posthog_conn_id", "project_id")
    operator_extra_links = (PostHogLink(),)
    ui_color = "#f9e8d2"
    #: How many seconds a look has at the least, be it begun at the deadline; it may take several calls.
    last_poll: ClassVar[float] = LAST_CHECK

    def __init__(
        self,
        *,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        deferrable: bool | None = None,
        failure_grace: float | timedelta = FAILURE_GRACE,
        max_poll_failures: int = MAX_POLL_FAILURES,
        **kwargs: Unpack[SensorTaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.failure_grace: float = as_seconds(failure_grace)
        self.max_poll_failures = max_poll_failures
        self._bad_pokes = 0
        self._ends = 0.0

    @cached_property
    def hook(self) -> PostHogHook:
        """The hook; made when a task runs, as it brings the HTTP libraries."""
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        return PostHogHook(self.posthog_conn_id, self.project_id)

    # What a subclass says.

    @abstractmethod
    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the address of what is waited for in PostHog.

        :param settings: where PostHog is.
        :param facts: what the last look saw; empty before the first.
        """

    @abstractmethod
    def prepare(self, context: Context) -> None:
        """Check the arguments, before anything is sent.

        :raises PostHogSettingsError: if one cannot be used.
        """

    @abstractmethod
    def look(self, context: Context) -> Finding:
        """Look once.

        :raises PostHogError: if PostHog could not be asked.
        """

    @abstractmethod
    def new_trigger(self, context: Context, waiting: Waiting, *, looked: bool) -> BaseTrigger:
        """Make the trigger that goes on looking.

        :param waiting: its arguments that say how to wait.
        :param looked: whether a look has just said "not yet".
        """

    @abstractmethod
    def read_event(self, event: Mapping[str, Any] | None) -> WatchEvent:
        """Read the trigger's event.

        :param event: its payload.
        :raises PostHogJobError: if it cannot be trusted.
        """

    @abstractmethod
    def result(self, event: WatchEvent, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Return what the task returns after a trigger saw that it is so.

        :param event: the trigger's event.
        """

    # Waiting.

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as BaseSensorOperator's
        """Wait, in the worker or in the triggerer."""
        return self._wait(context)

    def _wait(self, context: Context) -> Any:  # noqa: ANN401 - as execute()
        self._ends = time.time() + self.timeout
        seconds_of("failure_grace", self.failure_grace, 0)
        self.prepare(context)
        PostHogLink.push(context, self.link(self.hook.settings(), {}))
        if not self.deferrable:
            with naming(lambda: task_timeout(self._unmet(), self.execution_timeout, job_id=self.job_id)):
                return self._poke_on(context)
        try:
            first = self._look_first(context)
        except PostHogJobFailed as error:
            if self.never_fail:  # as poke mode does for any error
                raise AirflowSkipException(f"Skipping due to never_fail is set to True: {error}") from error
            raise
        if first is not None and first.verdict.state == "succeeded":
            self.concludes("%s", self._is_met(first.facts))
            return dict(first.facts)
        self._defer(context, looked=first is not None and first.verdict.state == "pending")

    def _poke_on(self, context: Context) -> Any:  # noqa: ANN401 - as execute()
        try:
            return super().execute(context)
        except AirflowSensorTimeout as error:  # Airflow says neither what was waited for, nor what was seen
            raise AirflowSensorTimeout(f"{self._too_long()} {error}") from error

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; a failure that PostHog may still mend is watched for ``failure_grace`` seconds."""
        try:
            finding = self._look_patiently(context)
        except PostHogAPIError as error:
            if isinstance(error, (PostHogRateLimitError, PostHogServerError)) or error.status in RETRYABLE_STATUSES:
                return self._bad_poke(context, error)
            raise
        except PostHogTransportError as error:
            return self._bad_poke(context, error)
        self._count_bad_pokes(context, 0)
        if finding.verdict.state == "failed":
            raise self._failed("failed", finding.verdict.reason, lasting=finding.verdict.final)
        if finding.verdict.state == "pending":
            self._say(context, finding.verdict.reason)
            return PokeReturnValue(is_done=False)
        self.concludes("%s", self._is_met(finding.facts))
        return PokeReturnValue(is_done=True, xcom_value=dict(finding.facts))

    def _look_patiently(self, context: Context) -> Finding:
        finding = self._look(context)
        # In reschedule mode every poke is a new process, so what has to stand for a while is watched in one.
        until = time.monotonic() + min(self.failure_grace, self.timeout)
        while finding.verdict.state == "failed" and not finding.verdict.final and time.monotonic() < until:
            if self._said != finding.verdict.reason:
                self.log.info("%s: PostHog reports %s and may mend it", self.subject(), finding.verdict.reason)
            self._said = finding.verdict.reason
            time.sleep(min(5.0, max(0.1, self.failure_grace / 10)))
            finding = self._look(context)
        return finding

    def _look(self, context: Context) -> Finding:
        ends = (self._ends or time.time() + self.timeout) + 1.0  # Airflow is to see that it has passed
        with self.hook.client.until(max(ends, time.time() + self.last_poll)):
            finding = self.look(context)
        settings = self.hook.settings()
        address = self.link(settings, finding.facts)
        if address != self.link(settings, {}):  # known by the look only, such as an insight's short id
            PostHogLink.push(context, address)
        return finding

    def _bad_poke(self, context: Context, error: PostHogError) -> PokeReturnValue:
        """Wait out a server in trouble, as deferrable mode does; being rate limited is no trouble."""
        # Behind the timeout it is Airflow that says so, with its own error.
        if not 0.0 < self._ends < time.time() and not isinstance(error, PostHogRateLimitError):
            count = self._recall_bad_pokes(context) + 1
            self._count_bad_pokes(context, 0 if count >= self.max_poll_failures else count)
            if count >= self.max_poll_failures:
                raise error
        self.log.warning("PostHog could not be asked: %s", error)
        return PokeReturnValue(is_done=False)

    def _recall_bad_pokes(self, context: Context) -> int:
        store = state_store(context) if self.reschedule else None
        stored = store.get(BAD_POKES_KEY) if store is not None else None
        return stored if isinstance(stored, int) else self._bad_pokes

    def _count_bad_pokes(self, context: Context, count: int) -> None:
        store = state_store(context) if self.reschedule else None
        if store is not None and self._recall_bad_pokes(context) != count:
            store.set(BAD_POKES_KEY, count)
        self._bad_pokes = count

    # Waiting in the triggerer.

    def _look_first(self, context: Context) -> Finding | None:
        """Spare a deferral if it is so already, or never will be (an error); leave all else to the trigger."""
        try:
            finding = self._look(context)
            if finding.verdict.state == "failed" and finding.verdict.final:
                raise self._failed("failed", finding.verdict.reason, lasting=True)
            return finding
        except PostHogError as error:
            if isinstance(error, PostHogJobFailed) and not self.silent_fail:
                raise
            self.log.info("The first poll failed: %s", error)
            return None

    def _defer(self, context: Context, *, looked: bool) -> None:
        deadline = self._deadline()
        longest = self.max_wait.total_seconds() if self.max_wait else float(self.timeout)
        waiting: Waiting = {
            "posthog_conn_id": self.posthog_conn_id,
            "project_id": self.project_id,
            "deadline": deadline.at,
            "poll_interval": longest if self.exponential_backoff else self.poke_interval,
            "first_wait": self.poke_interval,
            "growth": 2.0 if self.exponential_backoff else 1.0,
            "max_poll_failures": self.max_poll_failures,
            "failure_grace": self.failure_grace,
            "silent_fail": self.silent_fail,
            "limit": deadline.limit,
            "try_number": getattr(context.get("ti"), "try_number", None) or 0,
        }
        self.defer(
            trigger=self.new_trigger(context, waiting, looked=looked),
            method_name="execute_complete",
            timeout=deadline.backstop(self.poke_interval),
        )

    def _deadline(self) -> Deadline:
        """Return when to give up a deferred wait, and by which limit."""
        return Deadline.of(time.time(), self.timeout, self.execution_timeout)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Go on after the trigger fired.

        :param event: the trigger's event.
        """
        try:
            ended = self.read_event(event)
            if is_of_earlier_try(ended.try_number, context):
                return self._wait(context)
            return self._conclude(ended, context)
        except PostHogError as error:
            if self.never_fail:  # as poke mode does for any error
                raise AirflowSkipException(f"Skipping due to never_fail is set to True: {error}") from error
            raise

    def _conclude(self, event: WatchEvent, context: Context) -> Any:  # noqa: ANN401 - JSON
        ended, name = event.ended, self.subject()
        if ended.outcome == "succeeded":
            result = self.result(event, context)
            self.concludes("%s", self._is_met(result if isinstance(result, Mapping) else {}))
            return result
        if ended.outcome == "timeout":
            raise self._timed_out(self._unmet(), event)
        if ended.outcome in ("failed", "gone"):
            raise self._failed(ended.outcome, ended.reason)
        raise PostHogJobError(f"Lost sight of {name} ({ended.outcome}): {ended.reason}", job_id=self.job_id)

    def _timed_out(self, what: str, event: WatchEvent) -> BaseException:
        if event.limit == "execution_timeout":
            return task_timeout(what, self.execution_timeout, event.ended.reason, job_id=self.job_id)
        text = f"{what} after {self.timeout:.0f} seconds. {event.ended.reason}".rstrip()
        # not never_fail: Airflow's poke mode does not apply it to its own timeout
        return AirflowSkipException(text) if self.soft_fail else AirflowSensorTimeout(text)


class PostHogSensor(PostHogWaitingSensor):
    """Waits until a check says yes. Subclasses say which, and with what arguments.

    The check (:mod:`airflow_provider_posthog.api.checks`) runs in the worker or the triggerer; the task returns its
    facts.
    """

    #: The check's name, a key of :data:`airflow_provider_posthog.api.checks.CHECKS`.
    check: ClassVar[str]

    @abstractmethod
    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the check's arguments: JSON without secrets and personal data, as Airflow stores and shows them.

        :raises PostHogSettingsError: if an argument of the task cannot be used. Nothing may have been sent.
        """

    def prepare(self, context: Context) -> None:
        """Check the arguments, before anything is sent."""
        self.check_arguments(context)

    def look(self, context: Context) -> Finding:
        """Make the check once."""
        return self.run_check(self.check_arguments(context))

    def run_check(self, arguments: Mapping[str, Any]) -> Finding:
        """Make the check once, with its ``arguments``."""
        try:
            return run(checks.start(self.check, arguments), self.hook.client)
        except PostHogNotFoundError as error:
            raise self._failed("gone", str(error), lasting=True) from error

    def new_trigger(self, context: Context, waiting: Waiting, *, looked: bool) -> BaseTrigger:
        """Make the trigger that goes on with the check.

        :param waiting: its arguments that say how to wait.
        :param looked: whether a look has just said "not yet".
        """
        from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger

        arguments = self.check_arguments(context)
        return PostHogCheckTrigger(
            check=self.check, arguments=arguments, looked=looked, deferred_at=time.time(), **waiting
        )

    def read_event(self, event: Mapping[str, Any] | None) -> WatchEvent:
        """Read the payload of the trigger's ``event``."""
        from airflow_provider_posthog.triggers.checks import check_event

        return check_event(event, self.check)

    def result(self, event: WatchEvent, context: Context) -> dict[str, Any]:
        """Return the facts of the trigger's last look."""
        return dict(event.facts)
