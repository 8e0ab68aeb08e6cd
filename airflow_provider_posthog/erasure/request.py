"""A whole deletion request: all its chunks, each requested once, even if the worker is killed in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.api import persons
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.delete import MAX_LOOKUPS, ORPHANED, DeleteOptions, TooMany, delete, deletions
from airflow_provider_posthog.erasure.generation import Server
from airflow_provider_posthog.erasure.progress import Done, Progress, key_of
from airflow_provider_posthog.erasure.work_file import WorkFile

Report = Callable[[str, list[str], Done], None]
_MAX_EXAMPLES = 50


class ServerClock:
    """The server's time, without asking it again.

    :param now: its time when this is made.
    """

    def __init__(self, now: datetime) -> None:
        self._start = now
        self._began = time.monotonic()

    def now(self) -> datetime:
        """Return the server's time."""
        return self._start + timedelta(seconds=time.monotonic() - self._began)


@dataclass
class Outcome:
    """The outcomes of the chunks of a request, added up; person UUIDs and numbers only."""

    persons: int = 0
    failed: int = 0
    missing: int = 0
    swallowed: int = 0
    generation: str = ""
    requested_at: str | None = None
    accepted_at: str | None = None
    failures: dict[str, str] = field(default_factory=dict)
    swallowed_uuids: list[str] = field(default_factory=list)
    missing_uuids: list[str] = field(default_factory=list)

    def add(self, done: Done) -> None:
        """Add a chunk.

        :param done: its outcome.
        """
        self.persons += done.persons
        self.failed += len(done.failed)
        self.missing += len(done.missing)
        self.swallowed += len(done.swallowed)
        self.generation = max(self.generation, done.generation)
        self.requested_at = min(filter(None, (self.requested_at, done.asked_at)))
        self.accepted_at = max(filter(None, (self.accepted_at, done.accepted_at)))
        for uuid, why in done.failed.items():
            if len(self.failures) < _MAX_EXAMPLES:
                self.failures[uuid] = why
        self.swallowed_uuids = [*self.swallowed_uuids, *done.swallowed][:_MAX_EXAMPLES]
        self.missing_uuids = [*self.missing_uuids, *done.missing][:_MAX_EXAMPLES]


def chunks(work: WorkFile, size: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the persons who have a profile, in chunks with their keys.

    :param work: the file that names them.
    :param size: how many at the most.
    """
    number, chunk = 0, list[str]()
    for person in work.persons():
        if person.profile:
            chunk.append(person.uuid)
        if len(chunk) == size:
            yield key_of(number, chunk), chunk
            number, chunk = number + size, []
    if chunk:
        yield key_of(number, chunk), chunk


def delete_all(
    client: ErasureClient,
    work: WorkFile,
    progress: Progress,
    options: DeleteOptions,
    server: Server,
    *,
    chunk_size: int = persons.MAX_BULK_DELETE,
    report: Report = lambda key, uuids, done: None,
) -> Outcome:
    """Request the deletion of everybody in a work file, except those of finished chunks.

    :param client: asks PostHog.
    :param work: the file.
    :param progress: what earlier tries did.
    :param options: what to delete.
    :param server: the server.
    :param chunk_size: how many persons at once; fewer, where the server takes no more.
    :param report: is called for each finished chunk, also for those of an earlier try.
    :raises PostHogError: if PostHog cannot be asked; finished work is noted, and the next try continues after it.
    """
    job = _Job(client, progress, options, server, report)
    size = min(chunk_size, progress.size or chunk_size)
    while True:
        outcome = Outcome()
        try:
            for key, uuids in chunks(work, size):
                outcome.add(job.chunk(key, uuids))
            return outcome
        except TooMany as error:  # nothing was done: PostHog refuses the whole call
            progress.size = size = error.most


class _Job:
    """Requests chunks, one after the other."""

    def __init__(
        self, client: ErasureClient, progress: Progress, options: DeleteOptions, server: Server, report: Report
    ) -> None:
        self._client = client
        self._progress = progress
        self._options = options
        self._server = server
        self._report = report
        self._clock = ServerClock(server.now)

    def chunk(self, key: str, uuids: list[str]) -> Done:
        """Request a chunk, unless it is done; of a done one, those who failed."""
        done = self._progress.done(key)
        if done is not None:
            again = [uuid for uuid, why in done.failed.items() if why != ORPHANED]
            return self._again(key, uuids, done, again) if again else self._reported(key, uuids, done)
        before = self._progress.asked(key)
        asked_at = moment(before) or self._clock.now()
        if before is None:
            self._progress.ask(key, asked_at.isoformat())
        done = delete(self._client, uuids, self._options, self._server, asked_at, take_up=before is not None)
        return self._finish(key, uuids, done)

    def _again(self, key: str, uuids: list[str], done: Done, again: list[str]) -> Done:
        asked_at = moment(done.asked_at) or self._clock.now()
        new = delete(self._client, again, self._options, self._server, asked_at, take_up=True)
        orphaned = {uuid: why for uuid, why in done.failed.items() if why == ORPHANED}
        done.failed = {**orphaned, **new.failed}
        done.accepted_at = new.accepted_at
        return self._finish(key, uuids, done)

    def _finish(self, key: str, uuids: list[str], done: Done) -> Done:
        self._progress.finish(key, done)
        return self._reported(key, uuids, done)

    def _reported(self, key: str, uuids: list[str], done: Done) -> Done:
        self._report(key, uuids, done)
        return done


def asked_earlier(client: ErasureClient, work: WorkFile, server: Server) -> dict[str, Mapping[str, Any]] | None:
    """Return earlier deletions of events, by person UUID: PostHog would ignore another request for these persons.

    :param client: asks PostHog.
    :param work: the file that names the persons.
    :param server: the server.
    :returns: the deletions; ``None`` if they were not looked up, because there are too many persons or the server
        lists none.
    """
    if not server.has_batches:
        return None
    uuids: list[str] = []
    for person in work.persons():
        uuids.append(person.uuid)
        if len(uuids) > MAX_LOOKUPS:
            return None
    return {**deletions(client, uuids)}
