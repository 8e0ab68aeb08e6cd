"""Jobs that PostHog runs for the whole project: one query watches all of them, and each waits for a slot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_posthog.api import jobs, system_poll
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.retry import ONCE
from airflow_provider_posthog.api.server_time import timed
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.api.watched import SLOTS, Watched, since
from airflow_provider_posthog.compat import state_store
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogJobError,
    PostHogJobTimeout,
    PostHogNotFoundError,
    PostHogTransportError,
)
from airflow_provider_posthog.tasks import known_before
from airflow_provider_posthog.tasks.deadline import Deadline
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.job import PostHogJobOperator
from airflow_provider_posthog.tasks.known_before import KnownBefore
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.outlets import tell_outlets

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.jobs import Ended
    from airflow_provider_posthog.compat import Context, StateStore
    from airflow_provider_posthog.tasks.job import JobArguments
    from airflow_provider_posthog.triggers.jobs import JobEvent
    from airflow_provider_posthog.triggers.watching import WatchEvent

#: What the events of the task's assets say of its result.
_COUNTS = ("rows", "start", "end")
#: Seconds within which PostHog begins what a killed worker may have asked for, and between two looks for it.
UNANSWERED_SECONDS = 60.0
_LOOK_AGAIN = 2.0
#: Seconds between two polls of a worker for a slot.
_LONGEST_WAIT = 60.0


class WatchedJobOperator(PostHogJobOperator):
    """Starts a job that cannot carry an idempotency key: an earlier try's is found by its subject and its start.

    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    """

    job_kind = jobs.WATCHED

    def __init__(
        self,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        #: When the task began to wait for what has to end first, in seconds since 1970; 0 if it has not.
        self._waiting_since = 0.0
        self._marker = ""
        self._task_context: Any = {}
        self._before: KnownBefore | None = None
        #: What is just being asked for: the request, and the job, if its name is known beforehand.
        self._request: Mapping[str, Any] | None = None
        self._unanswered: Job | None = None

    def run_to_completion(self, context: Context) -> dict[str, Any]:
        """Start the job, or take up the one of an earlier try, and see it through."""
        self._task_context = context
        # What is left of another run of the same object, as in a test, is not this one's.
        self._before = self._request = self._unanswered = self._job = None
        self._marker = ""
        return super().run_to_completion(context)

    def keep_before(self, text: str, marker: str) -> None:
        """Keep what will be waited for before it is asked for: its text follows from the server's time.

        :param text: what will be waited for.
        :param marker: the marker.
        """
        self._unanswered, self._request = Job(text, marker, time.time(), answered=False), {}
        self._keep(self._task_context, self._unanswered)

    def forget_refused(self, error: PostHogError) -> None:
        """Forget it again, if PostHog has surely not begun it.

        :param error: what came of asking for it.
        """
        if _has_begun_nothing(error):
            self._unanswered = self._request = None
            self._forget(self._task_context)

    def cancel(self) -> None:
        """Cancel the job, where PostHog can; also one that is just being asked for, whose id is not known yet."""
        if self._job is None and self._request is not None and self.cancel_on_kill:
            self._job = self._asked_for(self._request)
        super().cancel()

    def _asked_for(self, request: Mapping[str, Any]) -> Job | None:
        """Look for a job that PostHog may be beginning at this moment."""
        for seconds in (0.0, *jobs.HIDDEN_WAITS):
            time.sleep(seconds)
            with suppress(PostHogError), self.hook.client.until(time.time() + jobs.CANCEL_SECONDS):
                for job, verdict in self.find_jobs(request):
                    if verdict.state == "pending":
                        return job
        return self._unanswered

    def default_timeout(self) -> float:
        """Return a day."""
        return 86_400.0

    def resume(self, event: WatchEvent, context: Context) -> dict[str, Any]:
        """Go on with the job, or, if the trigger waited for a slot, start it."""
        slot = Watched.parse(cast("JobEvent", event).job_id)
        if slot.what not in SLOTS:
            return super().resume(event, context)
        self._waiting_since = float(slot.names[-1])
        if event.ended.outcome == "timeout":
            raise self._no_slot(event.ended.reason)
        if event.ended.outcome != "succeeded":
            raise PostHogJobError(
                f"Could not wait for a {slot.what.replace('_', ' ')} ({event.ended.outcome}): {event.ended.reason}"
            )
        return self.run_to_completion(context)

    def _conclude(self, ended: Ended, job: Job, limit: str, context: Context) -> dict[str, Any]:
        self._task_context = context
        result = super()._conclude(ended, job, limit, context)
        if self._store is not None:
            known_before.forget(self._store)
        known = {name: result[name] for name in _COUNTS if result.get(name) is not None}
        tell_outlets(context, self.outlets, known)
        return result

    # What subclasses start with.

    def server_time(self, call: Call[Any]) -> tuple[Any, float]:
        """Send a call; return its value, and the server's time in whole seconds, before anything that follows.

        :param call: reads something.
        """
        answer = self.hook.client.send(timed(call))
        at = answer.at.timestamp() if answer.at is not None else time.time() - 60.0
        return answer.value, at

    def wait_for_slot(self, slot: Watched, why: str) -> None:
        """Wait until something has ended: in the triggerer if the task is deferrable, which raises Airflow's deferral.

        :param slot: the slot; its last name is since when the task waits.
        :param why: for the log.
        :raises PostHogJobTimeout: if it does not end within the task's timeout.
        """
        self._waiting_since = float(slot.names[-1])
        until = self._waiting_since + self.timeout_seconds()
        self.log.info("%s: waiting", why)
        if self.deferrable:
            self._defer_for_slot(slot, until)
        wait = min(self.poll_interval, _LONGEST_WAIT)
        while True:
            if time.time() + wait > until:
                raise self._no_slot(why)
            time.sleep(wait)
            if self.ask(slot).state == "succeeded":
                return

    def ask(self, watched: Watched) -> Verdict:
        """Ask once how something stands.

        :param watched: what.
        """
        return self.job_kind.judge(self.look(watched))

    def look(self, watched: Watched) -> dict[str, Any]:
        """Ask once for something.

        :param watched: for what.
        """
        client = self.hook.client
        return run(system_poll.ask(str(watched), ONCE, client.settings.base_url), client)

    def waiting_since(self) -> str:
        """Return since when the task waits for a slot, as the last name of a slot."""
        return str(int(self._waiting_since or time.time()))

    def _defer_for_slot(self, slot: Watched, until: float) -> None:
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        deadline = Deadline(until)
        waiting = self.waiting(deadline, self._identity.try_number) | {"first_wait": self.poll_interval}
        self.defer_to(PostHogJobTrigger(kind=self.job_kind.name, job_id=str(slot), **waiting), deadline)

    def _no_slot(self, reason: str) -> PostHogJobTimeout:
        text = f"What was to end first did not end within the timeout of {self.timeout_seconds():,.0f} s. {reason}"
        return PostHogJobTimeout(text.rstrip())

    # An earlier try's job.

    @property
    def _store(self) -> StateStore | None:
        return state_store(self._task_context) if self.durable else None

    @property
    def keeps_known(self) -> bool:
        """Whether Airflow keeps for later tries what there was."""
        return self._store is not None

    def keep_known(
        self, at: float, there: Iterable[tuple[str, float]], request: Mapping[str, Any] | None = None
    ) -> None:
        """Keep what there is before a job is asked for, so that a later try does not take any of it for this one's.

        :param at: the server's time of the look.
        :param there: ids of the jobs of the same subject, each with when it was created; at least the newest.
        :param request: what :meth:`prepare` returned, if PostHog can cancel what is asked for.
        """
        self._request = request
        self._before = KnownBefore.seen(at, there)
        if self._store is not None:
            self._before.keep(self._store, self._identity)

    def forget_known(self, error: PostHogError) -> None:
        """Forget it again, if PostHog has surely begun nothing.

        :param error: what came of asking for it.
        """
        if _has_begun_nothing(error):
            self._request = None
            if self._store is not None:
                known_before.forget(self._store)

    def known(self, call: Call[Any]) -> KnownBefore:
        """Return what there was before this task asked for a job: none of that is an earlier try's.

        :param call: reads something, where only the server's time tells.
        """
        if self._before is None and self._store is not None:
            self._before = KnownBefore.stored(self._store, self._identity)
        if self._before is None:
            self._before = KnownBefore.of_run(self._identity, self.server_time(call)[1])
        return self._before

    def found(self, text: str, created: float, request: Mapping[str, Any]) -> Job:
        """Return a job of an earlier try that was found by what it is about.

        :param text: what is waited for.
        :param created: when it was created, in seconds since 1970 by PostHog's clock, which may be behind ours.
        :param request: what :meth:`prepare` returned.
        """
        return Job(text, self.marker_of(request), max(created, self._identity.since))

    def _submit(self, identity: Identity, request: Mapping[str, Any]) -> Job:
        self._job = job = super()._submit(identity, request)
        self._request = self._unanswered = None
        return job

    def marker_of(self, request: Mapping[str, Any]) -> str:
        """Return the marker of a job that was found by what it is about.

        :param request: what :meth:`prepare` returned.
        """
        return self._marker or str(self._identity.marker(request))

    def _earlier_jobs(
        self, stored: Job | None, owner: str, request: Mapping[str, Any]
    ) -> Iterator[tuple[Job, Verdict]]:
        try:
            for job, verdict in super()._earlier_jobs(stored, owner, request):
                if job.answered:
                    yield job, verdict
                else:
                    yield from self._begun(job, verdict)
        except PostHogNotFoundError:  # what it is about is gone: starting says so
            return

    def _begun(self, job: Job, verdict: Verdict) -> Iterator[tuple[Job, Verdict]]:
        """Yield a job that a worker was killed with as it asked for it, if PostHog has got the request."""
        watched = Watched.parse(job.id)
        while verdict.state == "pending" and not since(watched, job.facts["rows"]):
            left = job.submitted_at + UNANSWERED_SECONDS - time.time()
            if left <= 0:
                self.log.info("Not going on with %s: PostHog was not asked for it", self.job_kind.named(job.id))
                return
            time.sleep(min(left, _LOOK_AGAIN))
            job, verdict = self._retrieve(job)
        yield job, verdict


def _has_begun_nothing(error: PostHogError) -> bool:
    if isinstance(error, PostHogTransportError):
        return not error.sent
    return isinstance(error, PostHogAPIError) and error.status < 500


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of counts; ``None`` if PostHog does not tell one of them, which is not 0.

    :param counts: the counts.
    """
    known = list(counts)
    return None if None in known else sum(filter(None, known))


def rows_in_words(rows: int | None) -> str:
    """Return a number of rows for a log.

    :param rows: how many; ``None`` if PostHog does not tell.
    """
    return "rows that PostHog does not count" if rows is None else counted(rows, "row")
