"""Waiting for an export's file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_posthog.api import exports, jobs
from airflow_provider_posthog.api.jobs import FAILURE_GRACE, MAX_POLL_FAILURES, Ended
from airflow_provider_posthog.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
    PokeReturnValue,
    before_execution_timeout,
    default_deferrable,
    is_of_earlier_try,
)
from airflow_provider_posthog.connection_form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogTransportError,
)
from airflow_provider_posthog.links import PostHogLink

if TYPE_CHECKING:
    from airflow_provider_posthog.api.states import Verdict
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.hooks.posthog import PostHogHook


class PostHogExportSensor(BaseSensorOperator):
    """Waits until an export's file is there.

    Succeeds only if PostHog says ``has_content``. Fails if PostHog reports an exception that lasts, or does not know
    the export (unknown, expired, or made with another user's key: PostHog answers all three with 404). Servers before
    2025 never report a failure; there ``timeout`` ends the wait.

    :param export_id: the export's id, or what ``PostHogCreateExportOperator`` returned.
    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param deferrable: wait in the triggerer; default ``[operators] default_deferrable``.
    :param failure_grace: seconds for which an exception that PostHog may still mend by itself has to stand.
    :param max_poll_failures: how many polls in a row may go wrong.
    :param kwargs: as Airflow's ``BaseSensorOperator``: ``poke_interval``, ``timeout``, ``mode``, ``soft_fail``, ...
    :returns: the export's summary, as ``PostHogCreateExportOperator`` returns it.
    :raises PostHogJobFailed: if the export failed, or PostHog does not know it.
    """

    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "export_id")
    operator_extra_links = (PostHogLink(),)
    ui_color = "#f9e8d2"

    def __init__(
        self,
        *,
        export_id: int | str | Mapping[str, Any],
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        deferrable: bool | None = None,
        poke_interval: float | timedelta = 10.0,
        failure_grace: float = FAILURE_GRACE,
        max_poll_failures: int = MAX_POLL_FAILURES,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.export_id = export_id
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.failure_grace = failure_grace
        self.max_poll_failures = max_poll_failures
        self._bad_pokes = 0

    @cached_property
    def hook(self) -> PostHogHook:
        """The hook; made when a task runs, as it brings the HTTP libraries."""
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        return PostHogHook(self.posthog_conn_id, self.project_id)

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as BaseSensorOperator's
        """Wait, in the worker or in the triggerer.

        :param context: the task's context.
        """
        return self._wait(context)

    def _wait(self, context: Context) -> Any:  # noqa: ANN401 - as execute()
        settings = self.hook.settings()
        export_id = exports.id_of(self.export_id, settings)
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/exports")
        if not self.deferrable:
            return super().execute(context)
        first = self._look_once(export_id)
        if first is not None:
            return first
        self._defer(export_id, getattr(context.get("ti"), "try_number", None) or 0)

    def poke(self, context: Context) -> PokeReturnValue:
        """Ask once; a failure that PostHog may still mend is watched for ``failure_grace`` seconds.

        :param context: the task's context.
        """
        export_id = exports.id_of(self.export_id, self.hook.settings())
        try:
            export, verdict = self._ask_patiently(export_id)
        except (PostHogRateLimitError, PostHogServerError, PostHogTransportError) as error:
            return self._bad_poke(error)
        self._bad_pokes = 0
        if verdict.state == "failed":
            raise PostHogJobFailed(f"PostHog: export {export_id} failed: {verdict.reason}", job_id=str(export_id))
        if verdict.state == "pending":
            self.log.info("Export %s has no file yet", export_id)
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=exports.summary(export, self.hook.settings()))

    def _ask_patiently(self, export_id: int) -> tuple[exports.Export, Verdict]:
        export, verdict = self._ask(export_id)
        # In reschedule mode every poke is a new process, so what has to stand for a while is watched in one.
        until = time.monotonic() + min(self.failure_grace, self.timeout)
        while verdict.state == "failed" and not verdict.final and time.monotonic() < until:
            self.log.info("Export %s reports %s; PostHog may try again", export_id, verdict.reason)
            time.sleep(min(5.0, max(0.1, self.failure_grace / 10)))
            export, verdict = self._ask(export_id)
        return export, verdict

    def _bad_poke(self, error: PostHogError) -> PokeReturnValue:
        """Wait out a server in trouble, as deferrable mode does; being rate limited is no trouble."""
        self._bad_pokes += not isinstance(error, PostHogRateLimitError)
        if self._bad_pokes >= self.max_poll_failures:
            raise error
        self.log.warning("PostHog could not be asked: %s", error)
        return PokeReturnValue(is_done=False)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger fired.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        from airflow_provider_posthog.triggers.jobs import JobEvent

        try:
            job_id = str(exports.id_of(self.export_id, self.hook.settings()))
            told = JobEvent.parse(event, jobs.EXPORT.name, job_id)
            if is_of_earlier_try(told.try_number, context):
                return cast("dict[str, Any]", self._wait(context))
            return self._conclude(told.ended, job_id, told.limit)
        except PostHogError as error:
            if self.never_fail:  # as poke mode does for any error
                raise AirflowSkipException(f"Skipping due to never_fail is set to True: {error}") from error
            raise

    def _ask(self, export_id: int) -> tuple[exports.Export, Verdict]:
        try:
            export = self.hook.client.send(exports.retrieve(export_id))
        except PostHogNotFoundError as error:
            raise PostHogJobFailed(
                f"PostHog knows no export {export_id}: it never was, has expired, or was made with another user's key.",
                job_id=str(export_id),
            ) from error
        return export, jobs.EXPORT.judge(export)

    def _look_once(self, export_id: int) -> dict[str, Any] | None:
        """Spare a deferral if the file is there already; leave everything else to the trigger."""
        try:
            export, verdict = self._ask(export_id)
        except PostHogError as error:
            self.log.info("The first look failed: %s", error)
            return None
        return exports.summary(export, self.hook.settings()) if verdict.state == "succeeded" else None

    def _defer(self, export_id: int, try_number: int) -> None:
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        deadline, limit = self._deadline()
        longest = self.max_wait.total_seconds() if self.max_wait else float(self.timeout)
        trigger = PostHogJobTrigger(
            kind=jobs.EXPORT.name,
            job_id=str(export_id),
            posthog_conn_id=self.posthog_conn_id,
            project_id=self.project_id,
            deadline=deadline,
            poll_interval=longest if self.exponential_backoff else self.poke_interval,
            first_wait=self.poke_interval,
            growth=2.0 if self.exponential_backoff else 1.0,
            max_poll_failures=self.max_poll_failures,
            failure_grace=self.failure_grace,
            silent_fail=self.silent_fail,
            limit=limit,
            try_number=try_number,
        )
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            # Behind the trigger's own deadline, for a triggerer that is gone.
            timeout=timedelta(seconds=deadline - time.time() + 2 * self.poke_interval + 60),
        )

    def _deadline(self) -> tuple[float, str]:
        """Return when to give up, and by which limit: Airflow 3 does not end a deferred task at execution_timeout."""
        if self.execution_timeout is not None:
            hard = before_execution_timeout(self.execution_timeout)
            if hard < self.timeout:
                return time.time() + hard, "execution_timeout"
        return time.time() + self.timeout, "timeout"

    def _conclude(self, ended: Ended, job_id: str, limit: str) -> dict[str, Any]:
        if ended.outcome == "succeeded":
            return exports.summary(self._ask(int(job_id))[0], self.hook.settings())
        if ended.outcome == "timeout" and limit == "execution_timeout":
            raise AirflowTaskTimeout(
                f"Export {job_id} has no file within the execution_timeout. {ended.reason}".rstrip()
            )
        if ended.outcome == "timeout":
            text = f"Export {job_id} has no file after {self.timeout:.0f} seconds. {ended.reason}".rstrip()
            if self.soft_fail:  # not never_fail: Airflow's poke mode does not apply it to its own timeout
                raise AirflowSkipException(text)
            raise AirflowSensorTimeout(text)
        if ended.outcome in ("failed", "gone"):
            raise PostHogJobFailed(f"PostHog: export {job_id} {ended.outcome}: {ended.reason}", job_id=job_id)
        raise PostHogJobError(f"Lost sight of export {job_id} ({ended.outcome}): {ended.reason}", job_id=job_id)
