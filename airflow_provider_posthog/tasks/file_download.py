"""One file download on PostHog's side: started when there is a place, kept, found again."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from datetime import timedelta
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
from airflow_provider_posthog.tasks.identity import Identity, Job
from airflow_provider_posthog.tasks.job import PostHogJobOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.states import Verdict
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.exceptions import PostHogError
    from airflow_provider_posthog.storage.staging import Staging
    from airflow_provider_posthog.tasks.job import JobArguments

#: PostHog answers 429 with this code while the project has as many file downloads as it may.
_TOO_MANY = "too_many_concurrent_file_downloads"
#: The longest wait between two tries to get a place, in poll intervals.
_LONGEST_TURN = 6.0


class FileDownloadJobOperator(PostHogJobOperator):
    """Starts file downloads one after another. Nothing of ours fits into one, so its id is kept beside the files.

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
                # A project that does not exist, or is another's, is told of by the same status.
                if error.status == 404 and "project" not in (error.detail or "").lower():
                    raise _no_file_downloads() from error
                if error.status != 429 or error.code != _TOO_MANY:
                    raise
                staging.record(waiting=staging.note.get("waiting") or time.time())
                until = staging.note["waiting"] + self._timeout_seconds()
                if time.time() + wait > until:
                    raise _no_place(str(error)) from error
            if self.deferrable:
                self._defer_for_place(until)
            self.log.info("The project has as many file downloads as it may; asking again in %.0f s", wait)
            time.sleep(wait)
            wait = min(wait * 1.5, self.poll_interval * _LONGEST_TURN)

    def _defer_for_place(self, until: float) -> None:
        """Wait in the triggerer until there is a place: nothing is lost if others are faster, it waits again then."""
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        live = sum(states.is_live(found) for found in self.hook.client.send(file_downloads.list()).get("results", ()))
        self.log.info("The project has as many file downloads as it may: %d. Waiting for one to end", live)
        trigger = PostHogJobTrigger(
            kind=jobs.FILE_DOWNLOAD_PLACE.name,
            job_id=str(max(live, 1)),
            posthog_conn_id=self.posthog_conn_id,
            project_id=self.project_id,
            deadline=until,
            poll_interval=self.poll_interval * _LONGEST_TURN,
            first_wait=self.poll_interval,
            max_poll_failures=self.max_poll_failures,
            try_number=self._who.try_number if self._who else 0,
        )
        backstop = timedelta(seconds=max(1.0, until - time.time()) + 60)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop)

    def after_place(self, context: Context, event: Mapping[str, Any]) -> None:
        """Read what came of the wait for a place."""
        from airflow_provider_posthog.triggers.jobs import JobEvent

        told = JobEvent.parse(event, jobs.FILE_DOWNLOAD_PLACE.name)
        if told.ended.outcome == "succeeded" or is_of_earlier_try(told.try_number, context):
            return
        if told.ended.outcome == "timeout":
            raise _no_place(told.ended.reason)
        raise PostHogJobError(f"Could not wait for a place ({told.ended.outcome}): {told.ended.reason}")

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


def _no_place(reason: str) -> PostHogJobTimeout:
    return PostHogJobTimeout(
        "Other file downloads of the project took all places within the timeout. Use a pool, so that fewer tasks ask "
        f"at once. {reason}".rstrip()
    )
