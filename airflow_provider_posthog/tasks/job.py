"""The life cycle of a job on PostHog, the same for every operator that starts one.

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
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_posthog.api.jobs import (
    FAILURE_GRACE,
    LAST_POLL,
    LONGEST_OVERRUN,
    Ended,
    Watch,
)
from airflow_provider_posthog.api.retry import ONCE, poll_policy
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.api.wait_log import WaitLog, words_of
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobError, PostHogJobFailed
from airflow_provider_posthog.tasks.arguments import RemoteWorkArguments
from airflow_provider_posthog.tasks.deadline import Deadline, timeout_error
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.job_start import JobStartOperator
from airflow_provider_posthog.tasks.lengths import as_seconds, seconds_of
from airflow_provider_posthog.tasks.shared_polls import SharedWait, sharing

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.triggers.jobs import JobEvent
    from airflow_provider_posthog.triggers.watching import WatchEvent


class JobArguments(RemoteWorkArguments, total=False):
    """The arguments of :class:`PostHogJobOperator`, for an editor and a type checker."""

    wait_for_completion: bool
    durable: bool
    failure_grace: float | timedelta


class PostHogJobOperator(JobStartOperator):
    """Starts a job on PostHog and waits for its end. Subclasses say which.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param wait_for_completion: wait until the job has ended; otherwise return its id at once.
    :param deferrable: wait in the triggerer instead of in a worker.
    :param poll_interval: the longest wait between two polls: seconds, or a ``timedelta``; the first polls come sooner.
    :param timeout: how long the job may take, from its submission: seconds, or a ``timedelta``; ``None`` for as long as
        PostHog itself allows. A retry replaces a job that is still running after that: it cancels it where PostHog can,
        and starts another.
    :param durable: let a retry take up the job that an earlier try started.
    :param cancel_on_kill: cancel the job, where PostHog can, when the task is killed or runs out of time.
    :param max_poll_failures: how many polls may fail in a row.
    :param failure_grace: how long a failure must last that PostHog may still mend by itself: seconds, or a
        ``timedelta``.
    """

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        durable: bool = True,
        failure_grace: float | timedelta = FAILURE_GRACE,
        **kwargs: Unpack[RemoteWorkArguments],
    ) -> None:
        super().__init__(durable=durable, **kwargs)
        self.wait_for_completion = wait_for_completion
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
        """Return the task's result: JSON, small, without personal data.

        :param job: the job.
        """

    @abstractmethod
    def link(self, job: Job) -> str:
        """Return the path in PostHog's interface that shows the job, relative to the project.

        :param job: the job.
        """

    @property
    def uncancellable(self) -> str:
        """Why a job is not cancelled that cannot be."""
        return "PostHog cannot cancel it"

    # The life cycle.

    def run_to_completion(self, context: Context) -> dict[str, Any]:
        """Start the job, or take up the one of an earlier try, and see it through."""
        began = time.time()
        self._identity = identity = Identity.of(context)
        self.check_waiting()
        request = self.prepare()
        job = self._attach(context, identity, request) or self._submit(identity, request)
        self._job = job
        self._keep(context, job)
        self.push_link(context, self.link(job))
        if not self.wait_for_completion:
            return self.get_job_result(job)
        deadline = self._deadline(job, began)
        first = self.job_kind.judge(job.facts) if job.facts else Verdict("pending")
        if first.state == "succeeded":
            return self._conclude(Ended("succeeded"), job, deadline.limit, context)
        if first.state == "failed" and first.final:
            return self._conclude(Ended("failed", first.reason), job, deadline.limit, context)
        if self.deferrable:
            self._defer(job, deadline, identity.try_number)
        ended = self.poll_until_complete(job, deadline.at)
        return self._conclude(ended, replace(job, facts=self._last_seen), deadline.limit, context)

    def read_event(self, event: Mapping[str, Any] | None) -> JobEvent:
        """Read the trigger's event."""
        from airflow_provider_posthog.triggers.jobs import JobEvent

        return JobEvent.parse(event, self.job_kind.name)

    def resume(self, event: WatchEvent, context: Context) -> dict[str, Any]:
        """Prove how the job ended that the trigger has watched, and return its result."""
        fired = cast("JobEvent", event)
        self._identity = Identity.of(context)
        self._superseded = list(fired.superseded)
        self._job = job = Job(fired.job_id, "", 0.0, fired.facts)
        return self._conclude(fired.ended, job, fired.limit, context)

    def cancel(self) -> None:
        """Cancel the job, where PostHog can."""
        if self._job is not None:
            self._cancel(self._job)

    def out_of_execution_timeout(self) -> BaseException | None:
        """Cancel the job, where PostHog can, and return the error that names it."""
        return None if self._job is None else self._out_of_time(self._job, "execution_timeout", "")

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
            overrun=LONGEST_OVERRUN,
        )
        wait_log, began, seconds = WaitLog(), time.time(), 0.0
        with sharing(self.job_kind, job.id, self.poll_interval, self.hook.settings()) as wait:
            while True:
                observed = self._look_after(seconds, job, deadline, wait)
                step = watch.observe(observed, time.time())
                if isinstance(step, Ended):
                    return step
                waited = time.time() - began
                if wait_log.is_news(observed, waited):
                    self.log.info("%s: %s (%.0f s)", self.job_kind.named(job.id), words_of(observed), waited)
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
            observed = wait.look(seconds, deadline - time.time())
            self._last_seen = observed.facts
            return observed.verdict
        time.sleep(seconds)
        return self._look(job, deadline)

    def _look(self, job: Job, deadline: float) -> Verdict | PostHogError:
        """Look once, and not beyond the deadline, though PostHog holds the request open."""
        client, now = self.hook.client, time.time()
        self._last_seen = {}
        try:
            with client.until(max(deadline, now + LAST_POLL)):
                answer = run(self.job_kind.asked(job.id, poll_policy(ONCE, deadline - now)), client)
        except PostHogError as error:
            return self.job_kind.of_error(error)
        verdict = self.job_kind.judge(answer)
        self._last_seen = answer if verdict.state == "succeeded" else {}  # the result needs no other call
        return verdict

    def check_waiting(self) -> None:
        """Refuse lengths of time that are none."""
        super().check_waiting()
        seconds_of("failure_grace", self.failure_grace, 0)

    # Waiting, and ending.

    def _deadline(self, job: Job, began: float) -> Deadline:
        now, timeout = time.time(), self.timeout_seconds()
        at = job.submitted_at + timeout
        if at <= now:  # nobody knows when it was submitted, or PostHog's clock is far behind ours
            at = now + timeout
        return Deadline.of(began, at - began, self.execution_timeout if self.deferrable else None)

    def _defer(self, job: Job, deadline: Deadline, try_number: int) -> None:
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        trigger = PostHogJobTrigger(
            kind=self.job_kind.name,
            job_id=job.id,
            cancel_on_kill=self.cancel_on_kill,
            superseded=self._superseded,
            looked=bool(job.facts),
            **(self.waiting(deadline, try_number) | {"failure_grace": self.failure_grace}),
        )
        self.defer_to(trigger, deadline)

    def _conclude(self, ended: Ended, job: Job, limit: str, context: Context) -> dict[str, Any]:
        name = self.job_kind.named(job.id)
        if ended.outcome in ("failed", "gone", "timeout") and (superseded := self._ended_after_all()) is not None:
            if ended.outcome == "timeout":
                self._cancel(job)
            ended, job = Ended("succeeded"), superseded
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
            text = f"PostHog: {name} {ended.outcome}: {ended.reason}"
            if job.id.startswith("airflow-"):  # a long id of our own says less than PostHog's reason
                text = f"PostHog: the {self.job_kind.name} {ended.outcome}: {ended.reason} [{job.id}]"
            raise PostHogJobFailed(text, job_id=job.id)
        if ended.outcome == "timeout":
            raise self._out_of_time(job, limit, ended.reason)
        raise PostHogJobError(f"Lost sight of {name} ({ended.outcome}): {ended.reason}", job_id=job.id)

    def _out_of_time(self, job: Job, limit: str, reason: str) -> BaseException:
        cancelled = self._cancel(job)
        self._job = None  # Airflow calls on_kill() after its own timeout
        fate = "It was cancelled." if cancelled else "It was not cancelled."
        if not cancelled and not self.job_kind.cancelling(job.id):
            fate = f"It may still go on, as {self.uncancellable}. A retry of this task " + (
                "starts another one, and takes this one if it has ended well by then."
                if limit == "timeout"
                else "takes it up again."
            )
        hard = self.execution_timeout if limit == "execution_timeout" else None
        seconds = self.timeout_seconds() if hard is None else hard.total_seconds()
        text = f"{self.job_kind.named(job.id)} did not end within its {limit} of {seconds:,.10g} s. {fate} {reason}"
        return timeout_error(limit, text.rstrip(), job_id=job.id)
