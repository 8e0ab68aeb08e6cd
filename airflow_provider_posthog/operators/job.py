"""The life of a job on PostHog's side, the same for every operator that starts one.

submit -> keep its id -> show its link -> wait (in the worker, or deferred, or not at all) -> prove the end -> result.
A retry takes the running job up again instead of starting a second one. The names of the methods follow Airflow's
own ``ResumableJobMixin``.
"""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api.jobs import (
    CANCEL_SECONDS,
    FAILURE_GRACE,
    LAST_LOOK,
    MAX_POLL_FAILURES,
    Ended,
    JobKind,
    Watch,
)
from airflow_provider_posthog.api.retry import ONCE
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.compat import (
    AirflowTaskTimeout,
    before_execution_timeout,
    default_deferrable,
    is_of_earlier_try,
    state_store,
)
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogNotFoundError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.operators.base import PostHogOperator
from airflow_provider_posthog.operators.identity import Identity, Job, Marker

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context

#: Where the job's id is kept between tries (Airflow 3.3); never renamed.
STORE_KEY = "posthog_job"
#: Seconds between looks for a job whose creation was not answered.
_LOST_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)


class PostHogJobOperator(PostHogOperator):
    """Starts a job on PostHog and sees it through. Subclasses say which.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param wait_for_completion: wait until the job ended; otherwise hand on its id at once.
    :param deferrable: wait in the triggerer instead of in a worker.
    :param poll_interval: the longest wait between two polls, in seconds; the first polls come sooner.
    :param timeout: seconds the job may take, from its submission; ``None`` for what PostHog itself allows.
    :param durable: let a retry take up the job that an earlier try started.
    :param cancel_on_kill: cancel the job, where PostHog can, when the task is killed or runs out of time.
    :param max_poll_failures: how many polls may fail in a row.
    :param failure_grace: seconds for which a failure that PostHog may still mend by itself has to stand.
    """

    job_kind: ClassVar[JobKind]
    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float = 10.0,
        timeout: float | timedelta | None = None,
        durable: bool = True,
        cancel_on_kill: bool = True,
        max_poll_failures: int = MAX_POLL_FAILURES,
        failure_grace: float = FAILURE_GRACE,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.wait_for_completion = wait_for_completion
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self.timeout = timeout
        self.durable = durable
        self.cancel_on_kill = cancel_on_kill
        self.max_poll_failures = max_poll_failures
        self.failure_grace = failure_grace
        self._job: Job | None = None
        self._identity = Identity.of({})

    # What a subclass says of its job.

    @abstractmethod
    def prepare(self) -> Mapping[str, Any]:
        """Check the arguments and return what will be asked for, as JSON; may read from PostHog, changes nothing.

        :raises PostHogSettingsError: if the job can not succeed as it is asked for.
        """

    @abstractmethod
    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Start the job, with the marker in it, and return its id and what PostHog said.

        :param request: what :meth:`prepare` returned.
        :param marker: the marker.
        """

    @abstractmethod
    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield the key's own jobs of this kind that carry a marker, newest first.

        :param request: what :meth:`prepare` returned.
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

    @abstractmethod
    def default_timeout(self) -> float:
        """Return how many seconds PostHog itself may take, with a margin."""

    # The life cycle.

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the job, or take up the one of an earlier try, and see it through.

        :param context: the task's context; may be empty outside the task runner.
        """
        return self._see_through(context)

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
        if job.facts and self.job_kind.judge(job.facts).state == "succeeded":
            return self._conclude(Ended("succeeded"), job, limit, context)
        if self.deferrable:
            self._defer(job, deadline, limit, identity.try_number)
        return self._conclude(self.poll_until_complete(job, deadline), job, limit, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after the trigger fired.

        All that is needed comes in the event: ``dag.test()`` of Airflow 3 drops what else was deferred.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        from airflow_provider_posthog.triggers.jobs import JobEvent

        told = JobEvent.parse(event, self.job_kind.name)
        if is_of_earlier_try(told.try_number, context):
            return self._see_through(context)
        self._identity = Identity.of(context)
        self._job = job = Job(told.job_id, "", 0.0)
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
        )
        shown, show_again = "", 30.0
        started = time.time()
        while True:
            seen = self._look(job, deadline)
            step = watch.observe(seen, time.time())
            if isinstance(step, Ended):
                return step
            text = str(seen) if isinstance(seen, PostHogError) else f"{seen.state} {seen.reason}".rstrip()
            waited = time.time() - started
            if text != shown or waited >= show_again:
                # On a change, else ever more rarely: a line per poll floods the log of a long job.
                self.log.info("%s %s: %s (%.0f s)", self.job_kind.name, job.id, text, waited)
                shown, show_again = text, max(show_again, waited) * 2
            time.sleep(step.seconds)

    def get_job_status(self, job_id: str) -> Verdict:
        """Ask PostHog once for a job.

        :param job_id: its id.
        :raises PostHogError: if there is no good answer.
        """
        return self.job_kind.judge(self.hook.client.send(self.job_kind.status(job_id)))

    def _look(self, job: Job, deadline: float) -> Verdict | PostHogError:
        """Look once, and not beyond the deadline, though PostHog holds the request open."""
        client = self.hook.client
        try:
            with client.until(max(deadline, time.time() + LAST_LOOK)):
                return self.job_kind.judge(client.send(self.job_kind.poll(job.id), policy=ONCE))
        except PostHogError as error:
            return self.job_kind.of_error(error)

    def _check_waiting(self) -> None:
        seconds = self._timeout_seconds()
        for name, value in (("poll_interval", self.poll_interval), ("timeout", seconds)):
            if not math.isfinite(value) or value <= 0:
                raise PostHogSettingsError(name, f"{value!r} is not a time to wait.", "Write seconds, more than 0.")

    def _timeout_seconds(self) -> float:
        if self.timeout is None:
            return self.default_timeout()
        return self.timeout.total_seconds() if isinstance(self.timeout, timedelta) else float(self.timeout)

    # Starting, and taking up again.

    def _attach(self, context: Context, identity: Identity, request: Mapping[str, Any]) -> Job | None:
        """Find the job of an earlier try that this one should go on with."""
        if not self.durable or identity.try_number == 1:
            return None
        mine = identity.marker(request)
        for job, verdict in self._earlier_jobs(context, request):
            marker = Marker.parse(job.marker)
            if marker is None or marker.owner != mine.owner:
                continue
            name = f"{self.job_kind.name} {job.id}"
            if marker.request != mine.request:  # the DAG was edited, or an argument changes from try to try
                self.log.info("Not going on with %s: it was asked for something else", name)
            elif verdict.state == "pending":
                self.log.info("Taking up %s, which an earlier try started", name)
                return job
            elif verdict.state == "succeeded" and identity.shares_life(job):
                self.log.info("%s of an earlier try has succeeded meanwhile", name)
                return job
            else:  # look further: a worker may have died after it started a later one, and before it was stored
                why = "was cleared since" if verdict.state == "succeeded" else verdict.reason
                self.log.info("Not going on with %s, which %s: %s", name, verdict.state, why)
        return None

    def _earlier_jobs(self, context: Context, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        store = state_store(context)
        stored = Job.from_json(store.get(STORE_KEY)) if store is not None else None
        if stored is not None:
            with suppress(PostHogNotFoundError):
                yield stored, self.get_job_status(stored.id)
        # Without a store (before 3.3), or when a worker died between the creation and the store: PostHog knows.
        yield from self.find_jobs(request)

    def _submit(self, identity: Identity, request: Mapping[str, Any]) -> Job:
        marker = str(identity.marker(request))
        for last in (False, True):
            try:
                job_id, facts = self.submit_job(request, marker)
            except (PostHogTransportError, PostHogServerError) as error:
                job = self._find_lost(request, marker, error)
                if job is not None:
                    return job
                # It is proved that no job exists. A 500 is PostHog's own failure: again would fail again.
                if last or (isinstance(error, PostHogAPIError) and error.status == 500):
                    raise
            else:
                self.log.info("Started %s %s", self.job_kind.name, job_id)
                return Job(job_id, marker, time.time(), facts)
        raise AssertionError("unreachable")

    def _find_lost(self, request: Mapping[str, Any], marker: str, error: PostHogError) -> Job | None:
        """Look for a job that PostHog may have started without our hearing of it."""
        if isinstance(error, PostHogTransportError) and not error.sent:
            raise error
        self.log.warning("Unknown whether PostHog started the %s: %s. Looking for it", self.job_kind.name, error)
        for seconds in _LOST_WAITS:
            time.sleep(seconds)
            for job, _ in self.find_jobs(request):
                if job.marker == marker:
                    self.log.info("Found %s %s by its marker: it was started", self.job_kind.name, job.id)
                    return job
        return None

    def _keep(self, context: Context, job: Job) -> None:
        store = state_store(context) if self.durable else None
        if store is not None:
            store.set(STORE_KEY, job.to_json())

    # Waiting, and ending.

    def _deadline(self, job: Job, began: float) -> tuple[float, str]:
        now = time.time()
        timeout = self._timeout_seconds()
        deadline = job.submitted_at + timeout
        if deadline <= now:  # an earlier try used it up: this one is there to have another go
            deadline = now + timeout
        if self.deferrable and self.execution_timeout is not None:
            hard = began + before_execution_timeout(self.execution_timeout)
            if hard < deadline:
                return hard, "execution_timeout"
        return deadline, "timeout"

    def _defer(self, job: Job, deadline: float, limit: str, try_number: int) -> None:
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
        )
        # The trigger ends itself at the deadline and says so; Airflow's own timeout would fail the task without
        # calling us, so it only stands behind it, for a triggerer that is gone.
        backstop = timedelta(seconds=max(1.0, deadline - time.time()) + 2 * self.poll_interval + 60)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop)

    def _conclude(self, ended: Ended, job: Job, limit: str, context: Context) -> dict[str, Any]:
        name = f"{self.job_kind.name} {job.id}"
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
        fate = "It was cancelled." if cancelled else "It was not cancelled."
        if self.job_kind.cancel is None:
            fate = "It may still go on: PostHog can not cancel it, and a retry of this task takes it up again."
        text = f"{self.job_kind.name} {job.id} did not end within its {limit}. {fate} {reason}".rstrip()
        return AirflowTaskTimeout(text) if limit == "execution_timeout" else PostHogJobTimeout(text, job_id=job.id)

    def _cancel(self, job: Job) -> bool:
        cancel = self.job_kind.cancel
        if cancel is None or not self.cancel_on_kill:
            return False
        try:
            with self.hook.client.until(time.time() + CANCEL_SECONDS):
                self.hook.client.send(cancel(job.id))
        except PostHogError as error:
            self.log.warning("Could not cancel %s %s: %s", self.job_kind.name, job.id, error)
            return False
        self.log.info("Cancelled %s %s", self.job_kind.name, job.id)
        return True

    def _forget(self, context: Context) -> None:
        """Drop the kept id, so that a user's clear of an ended task really runs it again."""
        store = state_store(context)
        if store is not None and store.get(STORE_KEY) is not None:
            store.delete(STORE_KEY)
