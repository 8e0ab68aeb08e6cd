"""The life of a job on PostHog's side, the same for every operator that starts one.

submit -> keep its id -> show its link -> wait (in the worker, or deferred, or not at all) -> prove the end -> result.
A retry takes the running job up again instead of starting a second one, unless the job has used up its time: then it
is superseded. The names of the methods follow Airflow's own ``ResumableJobMixin``.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.jobs import (
    FAILURE_GRACE,
    LAST_LOOK,
    LAST_TURN,
    MAX_POLL_FAILURES,
    Ended,
    Watch,
)
from airflow_provider_posthog.api.retry import ONCE, poll_policy
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.wait_log import Telling, words_of
from airflow_provider_posthog.compat import (
    before_execution_timeout,
    default_deferrable,
    is_of_earlier_try,
)
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.arguments import PostHogArguments
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.job_start import JobStartOperator
from airflow_provider_posthog.tasks.lengths import as_seconds, seconds_of
from airflow_provider_posthog.tasks.shared_polls import SharedWait, sharing
from airflow_provider_posthog.tasks.timeouts import PostHogTaskTimeout, naming

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context


class JobArguments(PostHogArguments, total=False):
    """The arguments of :class:`PostHogJobOperator`, for an editor and a type checker."""

    wait_for_completion: bool
    deferrable: bool | None
    poll_interval: float | timedelta
    timeout: float | timedelta | None
    durable: bool
    cancel_on_kill: bool
    max_poll_failures: int
    failure_grace: float | timedelta


class PostHogJobOperator(JobStartOperator):
    """Starts a job on PostHog and sees it through. Subclasses say which.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param wait_for_completion: wait until the job ended; otherwise hand on its id at once.
    :param deferrable: wait in the triggerer instead of in a worker.
    :param poll_interval: the longest wait between two polls: seconds, or a ``timedelta``; the first polls come sooner.
    :param timeout: how long the job may take, from its submission: seconds, or a ``timedelta``; ``None`` for what
        PostHog itself allows. A retry supersedes a job that still runs then: it cancels it where PostHog can, and
        starts another.
    :param durable: let a retry take up the job that an earlier try started.
    :param cancel_on_kill: cancel the job, where PostHog can, when the task is killed or runs out of time.
    :param max_poll_failures: how many polls may fail in a row.
    :param failure_grace: how long a failure that PostHog may still mend by itself has to stand:
        seconds, or a ``timedelta``.
    """

    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = 10.0,
        timeout: float | timedelta | None = None,
        durable: bool = True,
        cancel_on_kill: bool = True,
        max_poll_failures: int = MAX_POLL_FAILURES,
        failure_grace: float | timedelta = FAILURE_GRACE,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(timeout=timeout, durable=durable, cancel_on_kill=cancel_on_kill, **kwargs)
        self.wait_for_completion = wait_for_completion
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval: float = as_seconds(poll_interval)
        self.max_poll_failures = max_poll_failures
        self.failure_grace: float = as_seconds(failure_grace)
        self._last_seen: Mapping[str, Any] = {}

    # What a subclass says of its job.

    @abstractmethod
    def prepare(self) -> Mapping[str, Any]:
        """Check the arguments and return what will be asked for, as JSON; may read from PostHog, changes nothing.

        :raises PostHogSettingsError: if the job cannot succeed as it is asked for.
        """

    @abstractmethod
    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Return what the task hands on: JSON, small, without personal data.

        :param job: the job.
        """

    @abstractmethod
    def link(self, job: Job) -> str:
        """Return the path in PostHog's interface that shows the job, relative to the project.

        :param job: the job.
        """

    # The life cycle.

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the job, or take up the one of an earlier try, and see it through.

        :param context: the task's context; may be empty outside the task runner.
        """
        with naming(self._out_of_execution_timeout):
            return self._see_through(context)

    def _out_of_execution_timeout(self) -> BaseException | None:
        """Cancel the job, where PostHog can, and say which it was, when Airflow's own timer ends the task."""
        return None if self._job is None else self._out_of_time(self._job, "execution_timeout", "")

    def _see_through(self, context: Context) -> dict[str, Any]:
        began = time.time()
        self._identity = identity = Identity.of(context)
        self._check_waiting()
        request = self.prepare()
        job = self._attach(context, identity, request) or self._submit(identity, request)
        self._job = job
        self._keep(context, job)
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/{self.link(job)}")
        if not self.wait_for_completion:
            return self.get_job_result(job)
        deadline, limit = self._deadline(job, began)
        first = self.job_kind.judge(job.facts) if job.facts else Verdict("pending")
        if first.state == "succeeded":
            return self._conclude(Ended("succeeded"), job, limit, context)
        if first.state == "failed" and first.final:
            return self._conclude(Ended("failed", first.reason), job, limit, context)
        if self.deferrable:
            self._defer(job, deadline, limit, identity.try_number, looked=bool(job.facts))
        ended = self.poll_until_complete(job, deadline)
        return self._conclude(ended, replace(job, facts=self._last_seen), limit, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger fired.

        All that is needed comes in the event: ``dag.test()`` of Airflow 3 drops what else was deferred.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        from airflow_provider_posthog.triggers.jobs import JobEvent

        told = JobEvent.parse(event, self.job_kind.name)
        with naming(self._out_of_execution_timeout):
            if is_of_earlier_try(told.try_number, context):
                return self._see_through(context)
            self._identity = Identity.of(context)
            self._superseded = list(told.superseded)
            self._job = job = Job(told.job_id, "", 0.0, told.facts)
            return self._conclude(told.ended, job, told.limit, context)

    def on_kill(self) -> None:
        """Cancel the job when the task is killed, where PostHog can cancel it."""
        if self._job is not None:
            self._cancel(self._job)

    def poll_until_complete(self, job: Job, deadline: float) -> Ended:
        """Ask PostHog for the job until it ended or the deadline passed.

        :param job: the job.
        :param deadline: in seconds since 1970.
        """
        watch = Watch(
            deadline=deadline,
            interval=self.poll_interval,
            max_failures=self.max_poll_failures,
            grace=self.failure_grace,
            last_turn=LAST_TURN,
        )
        telling, began, seconds = Telling(), time.time(), 0.0
        with sharing(self.job_kind, job.id, self.poll_interval, self.hook.settings()) as wait:
            while True:
                seen = self._look_after(seconds, job, deadline, wait)
                step = watch.observe(seen, time.time())
                if isinstance(step, Ended):
                    return step
                waited = time.time() - began
                if telling.is_news(seen, waited):
                    self.log.info("%s %s: %s (%.0f s)", self.job_kind.name, job.id, words_of(seen), waited)
                seconds = step.seconds

    def get_job_status(self, job_id: str) -> Verdict:
        """Ask PostHog once for a job.

        :param job_id: its id.
        :raises PostHogError: if there is no good answer.
        """
        return self.job_kind.judge(self.hook.client.send(self.job_kind.status(job_id)))

    def _look_after(self, seconds: float, job: Job, deadline: float, wait: SharedWait) -> Verdict | PostHogError:
        """Look after a while: by one poll with all others that wait in this process, if there are a few."""
        if wait.is_shared:
            seen = wait.look(seconds, deadline - time.time())
            self._last_seen = seen.facts
            return seen.verdict
        time.sleep(seconds)
        return self._look(job, deadline)

    def _look(self, job: Job, deadline: float) -> Verdict | PostHogError:
        """Look once, and not beyond the deadline, though PostHog holds the request open."""
        client, now = self.hook.client, time.time()
        self._last_seen = {}
        try:
            with client.until(max(deadline, now + LAST_LOOK)):
                found = client.send(self.job_kind.poll(job.id), policy=poll_policy(ONCE, deadline - now))
        except PostHogError as error:
            return self.job_kind.of_error(error)
        verdict = self.job_kind.judge(found)
        self._last_seen = found if verdict.state == "succeeded" else {}  # the result needs no other call
        return verdict

    def _check_waiting(self) -> None:
        seconds_of("poll_interval", self.poll_interval)
        seconds_of("failure_grace", self.failure_grace, 0)
        if self.timeout is not None:
            seconds_of("timeout", self.timeout)

    # Waiting, and ending.

    def _deadline(self, job: Job, began: float) -> tuple[float, str]:
        now = time.time()
        timeout = self._timeout_seconds()
        deadline = job.submitted_at + timeout
        if deadline <= now:  # nobody knows when it was submitted, or PostHog's clock is far behind ours
            deadline = now + timeout
        if self.deferrable and self.execution_timeout is not None:
            hard = began + before_execution_timeout(self.execution_timeout)
            if hard < deadline:
                return hard, "execution_timeout"
        return deadline, "timeout"

    def _defer(self, job: Job, deadline: float, limit: str, try_number: int, *, looked: bool) -> None:
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        trigger = PostHogJobTrigger(
            kind=self.job_kind.name,
            job_id=job.id,
            posthog_conn_id=self.posthog_conn_id,
            project_id=self.project_id,
            deadline=deadline,
            poll_interval=self.poll_interval,
            max_poll_failures=self.max_poll_failures,
            failure_grace=self.failure_grace,
            cancel_on_kill=self.cancel_on_kill,
            limit=limit,
            try_number=try_number,
            superseded=self._superseded,
            looked=looked,
        )
        # The trigger ends itself at the deadline and says so; Airflow's own timeout would fail the task without
        # calling us, so it only stands behind it, for a triggerer that is gone.
        backstop = timedelta(seconds=max(1.0, deadline - time.time()) + 2 * self.poll_interval + 60 + LAST_TURN)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop)

    def _conclude(self, ended: Ended, job: Job, limit: str, context: Context) -> dict[str, Any]:
        name = f"{self.job_kind.name} {job.id}"
        if ended.outcome in ("failed", "gone", "timeout") and (late := self._ended_after_all()) is not None:
            if ended.outcome == "timeout":
                self._cancel(job)
            ended, job = Ended("succeeded"), late
        if ended.outcome == "succeeded":
            try:
                result = self.get_job_result(job)
            except PostHogJobFailed:  # it was no success after all, and a retry has to start anew
                self._forget(context)
                raise
            self._forget(context)
            return result
        if ended.outcome in ("failed", "gone"):
            self._forget(context)
            raise PostHogJobFailed(f"PostHog: {name} {ended.outcome}: {ended.reason}", job_id=job.id)
        if ended.outcome == "timeout":
            raise self._out_of_time(job, limit, ended.reason)
        raise PostHogJobError(f"Lost sight of {name} ({ended.outcome}): {ended.reason}", job_id=job.id)

    def _out_of_time(self, job: Job, limit: str, reason: str) -> BaseException:
        cancelled = self._cancel(job)
        self._job = None  # Airflow calls on_kill() after its own timeout
        fate = "It was cancelled." if cancelled else "It was not cancelled."
        if not self.job_kind.cancelling(job.id):
            fate = "It may still go on, as PostHog cannot cancel it. A retry of this task " + (
                "starts another one, and takes this one if it has ended well by then."
                if limit == "timeout"
                else "takes it up again."
            )
        hard = self.execution_timeout if limit == "execution_timeout" else None
        seconds = self._timeout_seconds() if hard is None else hard.total_seconds()
        text = f"{self.job_kind.name} {job.id} did not end within its {limit} of {seconds:,.10g} s. {fate} {reason}"
        text = text.rstrip()
        kind = PostHogTaskTimeout if limit == "execution_timeout" else PostHogJobTimeout
        return kind(text, job_id=job.id)
