"""Ask PostHog to delete a chunk of persons, and check what it did.

PostHog answers 202 to nearly everything. What is sent, and in which order, follows from what can go wrong:

- Events and recordings are deleted first, while the profile is kept: if the second call fails, nothing is orphaned.
  Servers that do not know ``keep_person`` would delete the profile; they get one call.
- A status proves nothing: persons are read back if an answer was lost, failures are named one by one, and the list of
  deletions shows whether a deletion of events was queued.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.api import persons
from airflow_provider_posthog.api.server_time import Timed, moment, timed
from airflow_provider_posthog.erasure import generation
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.generation import Server
from airflow_provider_posthog.erasure.progress import Done
from airflow_provider_posthog.erasure.queries import batched
from airflow_provider_posthog.erasure.resolve import profiles
from airflow_provider_posthog.exceptions import (
    PostHogErasureError,
    PostHogError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
)

#: How often a failed deletion is tried, and the seconds between.
_ATTEMPTS = 3
_WAIT = 2.0
#: By how much the list of deletions and our view of the server's time may differ.
SKEW = timedelta(seconds=30)
#: Up to so many persons are looked up one by one in the list of deletions.
MAX_LOOKUPS = 50
_PAGE = 1000
_MAX_PAGES = 50
_TOO_MANY = re.compile(r"only pass (\d+) ")
ORPHANED = "orphaned"


@dataclass(frozen=True)
class DeleteOptions:
    """What to delete.

    :param events: the events.
    :param recordings: the session recordings.
    :param keep_person: keep the profile.
    """

    events: bool = True
    recordings: bool = True
    keep_person: bool = False

    @property
    def leaves_nothing(self) -> bool:
        """Whether all data of a person is deleted."""
        return self.events and self.recordings and not self.keep_person

    def check(self, server: Server, recordings: int) -> None:
        """Refuse options that this server does not honour.

        :param server: the server.
        :param recordings: how many recordings there are.
        :raises PostHogSettingsError: naming the argument.
        """
        if self.keep_person and not (self.events or self.recordings):
            raise PostHogSettingsError("keep_person", "leaves nothing to delete.", "Let events or recordings go.")
        if server.can_keep_persons:
            return
        if self.keep_person:
            raise PostHogSettingsError(
                "keep_person",
                "is ignored by this PostHog server, older than December 2025, which would delete the profile.",
                "Leave it out, or update PostHog.",
            )
        if self.recordings and recordings:
            raise PostHogSettingsError(
                "delete_recordings",
                f"is ignored by this PostHog server, older than December 2025; there are {recordings} recordings.",
                "Delete them in PostHog and write delete_recordings=False, or update PostHog.",
            )


class TooMany(PostHogError):
    """The server takes fewer persons at once.

    :param most: how many it takes.
    """

    def __init__(self, most: int) -> None:
        super().__init__(f"PostHog takes {most} persons at once")
        self.most = most


def delete(
    client: ErasureClient,
    uuids: Sequence[str],
    options: DeleteOptions,
    server: Server,
    asked_at: datetime,
    *,
    take_up: bool = False,
) -> Done:
    """Ask for the deletion of a chunk of persons.

    :param client: asks PostHog.
    :param uuids: of the persons.
    :param options: what to delete.
    :param server: the server.
    :param asked_at: the server's time now; or when an earlier try asked, if it never noted the answer.
    :param take_up: whether an earlier try asked.
    :raises TooMany: if the chunk has to be smaller.
    :raises PostHogErasureError: if PostHog says that it queued nothing.
    """
    chunk = _Chunk(client, tuple(uuids), options, server, asked_at)
    if take_up:
        chunk.take_up()
    if server.can_keep_persons:
        chunk.delete_in_two()
    else:
        chunk.delete_at_once()
    if server.has_batches and options.events:
        chunk.look_for_swallowed()
    return chunk.done


class _Chunk:
    """The deletion of one chunk."""

    def __init__(
        self, client: ErasureClient, uuids: tuple[str, ...], options: DeleteOptions, server: Server, asked_at: datetime
    ) -> None:
        self._client = client
        self._options = options
        self._server = server
        self._uuids = uuids
        self._since = asked_at - SKEW
        self._keepers = list(uuids)  # whose events and recordings are to be asked for
        self._left = list(uuids)  # whose profile is to be asked for
        at = asked_at.isoformat()
        self.done = Done(at, at, len(uuids), generation=server.generation)

    def take_up(self) -> None:
        """Look up the outcome of a request whose answer was not recorded."""
        there = profiles(self._client, self._uuids, self._server)
        self._left = [uuid for uuid in self._uuids if uuid in there]
        self._keepers = list(self._left)
        if self._server.has_batches and self._options.events:
            rows = newest_deletions(self._client, self._left, self._since)
            self._keepers = [uuid for uuid in self._left if uuid not in rows]

    def delete_in_two(self) -> None:
        """Delete events and recordings while the profile exists, and then the profile."""
        options = self._options
        if (options.events or options.recordings) and self._keepers:
            answer = self._send(self._keepers, keep_person=True, recordings=options.recordings)
            self._note_missing(answer, self._keepers)
        if options.keep_person:
            return
        gone = {*self.done.missing}
        self._left = [uuid for uuid in self._left if uuid not in gone]
        for attempt in range(_ATTEMPTS):
            if not self._left:
                return
            if attempt:
                time.sleep(_WAIT * attempt)
            try:
                answer = self._send(self._left, keep_person=False, recordings=False)
            except (PostHogTransportError, PostHogServerError) as error:
                self._read_back(error, last=attempt == _ATTEMPTS - 1)
                continue
            failed = {_uuid_of(failure): _reason(failure) for failure in answer.get("deletion_errors") or ()}
            self._left = [uuid for uuid in self._left if uuid in failed]
            self.done.failed = {uuid: failed[uuid] for uuid in self._left}

    def delete_at_once(self) -> None:
        """Delete everything in one call: this server deletes a profile that it is asked to keep."""
        for attempt in range(_ATTEMPTS):
            if not self._left:
                return
            if attempt:
                time.sleep(_WAIT * attempt)
            # After a failure one at a time: the whole call fails with one of its persons, some deleted, some not.
            for uuids in batched(self._left, 1 if attempt else len(self._left)):
                self._try_at_once(uuids, last=attempt == _ATTEMPTS - 1)
            self._left = [uuid for uuid, why in self.done.failed.items() if why != ORPHANED]

    def _try_at_once(self, some: Sequence[str], *, last: bool) -> None:
        failed = self.done.failed
        try:
            self._send(some, keep_person=False, recordings=False)
        except (PostHogServerError, PostHogTransportError) as error:
            there = profiles(self._client, some, self._server)
            own = isinstance(error, PostHogServerError) and error.status == 500  # others are a gateway's: it goes on
            if there and last and not own:
                raise
            if own and self._options.events:
                # The events of those who went before it failed were not queued, and cannot be any more.
                failed.update({uuid: ORPHANED for uuid in some if uuid not in there})
            failed.update(dict.fromkeys(there, "PostHog answered 500" if own else "the answer was lost"))
        else:
            for uuid in some:
                failed.pop(uuid, None)

    def _send(self, uuids: Sequence[str], *, keep_person: bool, recordings: bool) -> Mapping[str, Any]:
        call = persons.bulk_delete(
            ids=[*uuids], delete_events=self._options.events, delete_recordings=recordings, keep_person=keep_person
        )
        try:
            answer: Timed[persons.BulkDeletion] = self._client.send(timed(call))
        except PostHogValidationError as error:
            match = _TOO_MANY.search(error.detail or "")
            if match is None or int(match[1]) >= len(uuids) or int(match[1]) < 1:
                raise
            raise TooMany(int(match[1])) from error
        if answer.at is not None:
            self.done.accepted_at = answer.at.isoformat()
        summary = answer.value
        self.done.generation = generation.of_answer(summary, self._server.generation)
        for name, wanted in (("events", self._options.events), ("recordings", recordings)):
            if summary.get("persons_found") and wanted and summary.get(f"{name}_queued_for_deletion") is not True:
                raise PostHogErasureError(
                    f"PostHog found {summary['persons_found']} of {len(uuids)} persons, but says that it queued no "
                    f"deletion of their {name}."
                )
        return summary

    def _note_missing(self, answer: Mapping[str, Any], uuids: Sequence[str]) -> None:
        """Record the persons whom PostHog did not find: its answer only says how many it found."""
        if answer.get("persons_found") == len(set(uuids)):
            return
        there = profiles(self._client, uuids, self._server)
        self.done.missing = [uuid for uuid in uuids if uuid not in there]

    def _read_back(self, error: PostHogError, *, last: bool) -> None:
        """Look up who is left after a request whose outcome is unknown."""
        if last:
            raise error
        there = profiles(self._client, self._left, self._server)
        self._left = [uuid for uuid in self._left if uuid in there]

    def look_for_swallowed(self) -> None:
        """Record the persons for whom PostHog queued nothing: it keeps one deletion of events per person, for ever."""
        gone = set(self.done.missing)
        left = [uuid for uuid in self._uuids if uuid not in gone]
        rows = newest_deletions(self._client, left, self._since)
        self.done.swallowed = [uuid for uuid in left if uuid not in rows]


def newest_deletions(client: ErasureClient, uuids: Sequence[str], since: datetime) -> set[str]:
    """Return the persons for whom a deletion of events was queued since a moment.

    :param client: asks PostHog.
    :param uuids: of the persons.
    :param since: the moment.
    """
    if len(uuids) <= MAX_LOOKUPS:
        rows = deletions(client, uuids)
        return {uuid for uuid, row in rows.items() if _is_since(row, since)}
    wanted, seen_uuids = set(uuids), set()
    for page in range(_MAX_PAGES):
        answer = client.send(persons.deletion_status(limit=_PAGE, offset=page * _PAGE))
        rows_of_page = answer.get("results") or []
        for row in rows_of_page:
            if _is_since(row, since):
                seen_uuids.add(str(row.get("person_uuid")).lower())
        oldest = moment(rows_of_page[-1].get("created_at")) if rows_of_page else None
        # Newest first: new rows of others only move ours to a later page, where they are read.
        if wanted <= seen_uuids or not answer.get("next") or oldest is None or oldest < since:
            break
    return wanted & seen_uuids


def _is_since(row: persons.DeletionStatus, since: datetime) -> bool:
    at = moment(row.get("created_at"))
    return at is not None and at >= since


def deletions(client: ErasureClient, uuids: Iterable[str]) -> dict[str, persons.DeletionStatus]:
    """Return the newest queued deletion of events of each person; persons without one are missing.

    :param client: asks PostHog.
    :param uuids: of the persons; one call each.
    """
    by_uuid: dict[str, persons.DeletionStatus] = {}
    for uuid in uuids:
        answer = client.send(persons.deletion_status(person_uuid=uuid, limit=1))
        for row in answer.get("results") or ():
            if str(row.get("person_uuid")).lower() == uuid:
                by_uuid[uuid] = row
    return by_uuid


def _uuid_of(failure: Mapping[str, Any]) -> str:
    return str(failure.get("person_uuid", "")).lower()


def _reason(failure: Mapping[str, Any]) -> str:
    return f"PostHog could not delete the profile{_step(failure.get('step'))}"


def _step(step: object) -> str:
    return f" (step {step})" if isinstance(step, str) and re.fullmatch(r"[a-z_]{1,40}", step) else ""
