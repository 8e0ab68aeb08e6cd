"""Starting a job on PostHog, or taking up the one that an earlier try of the task has started."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import jobs
from airflow_provider_posthog.api.jobs import JobKind
from airflow_provider_posthog.api.retry import NOT_BEGUN
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.compat import state_store
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogNotFoundError,
    PostHogServerError,
    PostHogTransportError,
)
from airflow_provider_posthog.tasks.earlier_jobs import choose
from airflow_provider_posthog.tasks.identity import Identity, Job, Marker
from airflow_provider_posthog.tasks.remote_work import RemoteWorkOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import RemoteWorkArguments

#: Where the job's id is kept between tries (Airflow 3.3); never renamed.
STORE_KEY = "posthog_job"


class JobStartOperator(RemoteWorkOperator):
    """Has a job on PostHog: its own, or an earlier try's.

    :param durable: let a retry take up the job that an earlier try started.
    """

    job_kind: ClassVar[JobKind]
    #: Whether a job more does no harm, so that one whose start was not answered is not looked for.
    twice_is_harmless: ClassVar[bool] = False

    def __init__(
        self,
        *,
        durable: bool = True,
        **kwargs: Unpack[RemoteWorkArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.durable = durable
        self._job: Job | None = None
        self._identity = Identity.of({})
        self._known: set[str] = set()  # the ids of jobs of earlier tries
        self._superseded: list[str] = []  # those that have used up their time, but may yet end well

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

    # Starting, and taking up again.

    def _attach(self, context: Context, identity: Identity, request: Mapping[str, Any]) -> Job | None:
        """Find the job of an earlier try that this one should continue with."""
        store = state_store(context) if self.durable else None
        stored = Job.from_json(store.get(STORE_KEY)) if store is not None else None
        if not self.durable or (identity.is_first and stored is None):
            return None
        mine = identity.marker(request)
        jobs = self._earlier_jobs(stored, mine.owner, request)
        earlier = choose(jobs, identity, mine, self.timeout_seconds(), self.job_kind.named, self.log.info)
        self._known = earlier.ids
        superseded = self._supersede(earlier.superseded, identity)
        return earlier.job or superseded

    def _earlier_jobs(
        self, stored: Job | None, owner: str, request: Mapping[str, Any]
    ) -> Iterator[tuple[Job, Verdict]]:
        marker = Marker.parse(stored.marker) if stored is not None else None
        if stored is not None and marker is not None and marker.owner == owner:  # iterations may share a store
            with suppress(PostHogNotFoundError):
                yield self._retrieve(stored)
        # Without a store (before 3.3), or when a worker died between the creation and the store: PostHog knows.
        yield from self.find_jobs(request)

    def _supersede(self, jobs: Sequence[Job], identity: Identity) -> Job | None:
        """Give up jobs that have used up their time; return one that has ended well in this very moment."""
        for job in jobs:
            cancelled, mine = self._cancel(job), identity.shares_life(job)
            self.log.warning(
                "%s of an earlier try still runs after its timeout of %.0f s: it is superseded%s",
                self.job_kind.named(job.id),
                self.timeout_seconds(),
                " and cancelled" if cancelled else "; if the one in its place fails, it may be taken after all",
            )
            if cancelled or not mine:
                continue
            self._superseded.append(job.id)
            with suppress(PostHogError):  # a job that has just ended cannot be cancelled
                again, verdict = self._retrieve(job) if self.job_kind.cancelling(job.id) else (job, None)
                if verdict is not None and verdict.state == "succeeded":
                    return again
        return None

    def _ended_after_all(self) -> Job | None:
        """Return a superseded job that has ended well, now that the one in its place did not."""
        for job_id in self._superseded:
            with suppress(PostHogError):
                job, verdict = self._retrieve(Job(job_id, "", 0.0))
                if verdict.state == "succeeded":
                    self.log.info("%s, which was superseded, has succeeded after all", self.job_kind.named(job_id))
                    return job
        return None

    def _submit(self, identity: Identity, request: Mapping[str, Any]) -> Job:
        marker = str(identity.marker(request))
        for last in (False, True):
            try:
                job_id, facts = self.submit_job(request, marker)
            except PostHogError as error:
                if not _may_have_begun(error):
                    raise
                job = self._find_lost(request, marker, error)
                if job is not None:
                    return job
                # It is proved that no job exists. A 500 is PostHog's own failure: again would fail again.
                if last or (isinstance(error, PostHogAPIError) and error.status == 500):
                    raise
            else:
                self.log.info("Started %s", self.job_kind.named(job_id))
                return Job(job_id, marker, time.time(), facts)
        raise AssertionError("unreachable")

    def _find_lost(self, request: Mapping[str, Any], marker: str, error: PostHogError) -> Job | None:
        """Look for a job that PostHog may have started without our hearing of it."""
        if isinstance(error, PostHogTransportError) and not error.sent:
            raise error
        if self.twice_is_harmless:
            return None
        self.log.warning("Unknown whether PostHog started the %s: %s. Looking for it", self.job_kind.name, error)
        for seconds in jobs.LOST_WAITS:
            time.sleep(seconds)
            for job, _ in self.find_jobs(request):
                if job.marker == marker:
                    self.log.info("Found %s by its marker: it was started", self.job_kind.named(job.id))
                    return job
        return None

    def _keep(self, context: Context, job: Job) -> None:
        store = state_store(context) if self.durable else None
        if store is not None:
            store.set(STORE_KEY, job.to_json())

    def _retrieve(self, job: Job) -> tuple[Job, Verdict]:
        """Ask PostHog once for a job, and keep what it says."""
        facts = self.hook.client.send(self.job_kind.status(job.id))
        return replace(job, facts=facts), self.job_kind.judge(facts)

    def _cancel(self, job: Job) -> bool:
        if not self.cancel_on_kill or not self.job_kind.cancelling(job.id):
            return False
        try:
            with self.hook.client.until(time.time() + self.job_kind.cancel_seconds(job.id)):
                run(self.job_kind.cancelled(job.id), self.hook.client)
        except PostHogError as error:
            self.log.warning("Could not cancel %s: %s", self.job_kind.named(job.id), error)
            return False
        self.log.info("Cancelled %s", self.job_kind.named(job.id))
        return True

    def _forget(self, context: Context) -> None:
        """Drop the kept id, so that a user's clear of an ended task really runs it again."""
        store = state_store(context)
        if store is not None and store.get(STORE_KEY) is not None:
            store.delete(STORE_KEY)


def _may_have_begun(error: PostHogError) -> bool:
    """Tell whether an error leaves open if the job was begun, or says that it may be begun now (408, 425)."""
    return isinstance(error, (PostHogTransportError, PostHogServerError)) or (
        isinstance(error, PostHogAPIError) and error.status in NOT_BEGUN and error.status != 429
    )
