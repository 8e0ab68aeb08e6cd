"""One file download of PostHog's: started when a slot is free, its id kept, and taken up again."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import file_downloads, jobs, states
from airflow_provider_posthog.compat import is_of_earlier_try
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogNotFoundError,
    PostHogTransportError,
)
from airflow_provider_posthog.tasks.deadline import Deadline
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.job import PostHogJobOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.states import Verdict
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.exceptions import PostHogError
    from airflow_provider_posthog.storage.staging import Staging
    from airflow_provider_posthog.tasks.job import JobArguments

#: The check that waits for a slot.
SLOT = "file_download_slot"
#: The longest wait between two tries to get a slot, in poll intervals.
_LONGEST_FACTOR = 6.0


class FileDownloadJobOperator(PostHogJobOperator):
    """Starts file downloads one after another. One cannot carry an idempotency key, so its id is kept beside the files.

    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    """

    job_kind = jobs.FILE_DOWNLOAD

    def __init__(
        self,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self._who: Identity | None = None

    @property
    @abstractmethod
    def staging(self) -> Staging:
        """The interval's unfinished files, and the id of the file download."""

    @abstractmethod
    def begin_anew(self) -> None:
        """Forget files that come from an earlier file download in place of the next one."""

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Start the file download, and keep its id beside the files."""
        staging = self.staging
        if staging.note.get("asked") and "job" not in staging.note:
            self.log.warning(
                "An earlier try may have started a file download of this week whose id it never learned. It cannot be "
                "told from others, so another one is started; the first costs nothing but its rows on PostHog's bill"
            )
        self.begin_anew()
        staging.record(asked=time.time(), job=None)
        answer = self._start(request)
        if not answer.get("id"):
            raise PostHogTransportError("PostHog answered the start of a file download without its 'id'")
        job_id = str(answer["id"])
        staging.record(job=Job(job_id, marker, time.time()).to_json(), waiting=None)
        return job_id, {}

    def _start(self, request: Mapping[str, Any]) -> file_downloads.FileDownload:
        """Start it, when the project may have one more."""
        staging, wait = self.staging, self.poll_interval
        while True:
            try:
                return self.hook.client.send(file_downloads.start(**request))
            except PostHogAPIError as error:
                if error.status < 500:  # refused, so that nothing was started
                    staging.record(asked=None)
                # A project that does not exist, or is another's, gets the same status.
                if error.status == 404 and "project" not in (error.detail or "").lower():
                    raise _no_file_downloads() from error
                if error.code != file_downloads.NO_SLOT:
                    raise
                staging.record(waiting=staging.note.get("waiting") or time.time())
                until = staging.note["waiting"] + self.timeout_seconds()
                if time.time() + wait > until:
                    raise _no_slot(str(error)) from error
            if self.deferrable:
                self._defer_for_slot(until)
            self.log.info("The project has as many file downloads as it may; asking again in %.0f s", wait)
            time.sleep(wait)
            wait = min(wait * 1.5, self.poll_interval * _LONGEST_FACTOR)

    def _defer_for_slot(self, until: float) -> None:
        """Wait in the triggerer until a slot is free: if others are faster, nothing is lost, and it waits again."""
        from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger

        running = sum(
            states.is_live(listed) for listed in self.hook.client.send(file_downloads.list()).get("results", ())
        )
        self.log.info("The project has as many file downloads as it may: %d. Waiting for one to end", running)
        deadline = Deadline(until)
        waiting = self.waiting(deadline, self._who.try_number if self._who else 0)
        waiting |= {"poll_interval": self.poll_interval * _LONGEST_FACTOR, "first_wait": self.poll_interval}
        trigger = PostHogCheckTrigger(
            check=SLOT,
            arguments={"refused_at": max(running, 1)},
            looked=True,
            deferred_at=time.time(),
            **waiting,
        )
        self.defer_to(trigger, deadline)

    def after_slot(self, context: Context, event: Mapping[str, Any]) -> None:
        """Read what came of the wait for a slot.

        :raises PostHogJobError: if there was none in time, or nobody could look.
        """
        from airflow_provider_posthog.triggers.checks import check_event

        fired = check_event(event, SLOT)
        if fired.ended.outcome == "succeeded" or is_of_earlier_try(fired.try_number, context):
            return
        if fired.ended.outcome == "timeout":
            raise _no_slot(fired.ended.reason)
        raise PostHogJobError(f"Could not wait for a slot ({fired.ended.outcome}): {fired.ended.reason}")

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield the file download that an earlier try has started: PostHog's own list tells ids only."""
        job = Job.from_json(self.staging.note.get("job"))
        if job is not None:
            try:
                yield job, self.get_job_status(job.id)
            except PostHogNotFoundError:
                self.log.info("PostHog has forgotten file download %s of an earlier try", job.id)

    def _find_lost(self, request: Mapping[str, Any], marker: str, error: PostHogError) -> Job | None:
        """Say what is known of a file download whose start was not answered: nothing."""
        if getattr(error, "sent", True):
            self.log.warning("PostHog may have started a file download that cannot be told from others: %s", error)
            return None
        raise error

    def link(self, job: Job) -> str:
        """Return the page of PostHog's batch exports; a file download has none of its own."""
        return "pipeline/destinations"

    def default_timeout(self) -> float:
        """Return a day."""
        return 86_400.0


def _no_file_downloads() -> PostHogJobFailed:
    return PostHogJobFailed(
        "This PostHog has no file downloads (404): it is older than them. Use "
        "PostHogQueryToObjectStorageOperator, which reads the same rows by queries."
    )


def _no_slot(reason: str) -> PostHogJobTimeout:
    return PostHogJobTimeout(
        "Other file downloads of the project held all slots within the timeout. Use a pool, so that fewer tasks ask "
        f"at once. {reason}".rstrip()
    )
