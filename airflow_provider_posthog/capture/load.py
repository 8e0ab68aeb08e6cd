"""One load into PostHog: send rows, record their outcomes, and check that PostHog has each event."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

from airflow_provider_posthog.capture.events import Event, Reader, shown
from airflow_provider_posthog.capture.ledger import DROPPED, FOUND, OK, SENT, WARNED, Ledger, Reject
from airflow_provider_posthog.capture.sender import Sender
from airflow_provider_posthog.capture.values import RefusedError
from airflow_provider_posthog.capture.wire import Verdict
from airflow_provider_posthog.exceptions import PostHogIncompleteError

log = logging.getLogger(__name__)

#: Events that are looked up, sent and noted together, and the bytes of them, at the most.
MOST_EVENTS = 2_000
MOST_BYTES = 8_000_000
#: Uuids that an error names.
_NAMED = 5
_STATES = {"ok": OK, "warning": WARNED, "drop": DROPPED, "sent": SENT}
#: The warning of an event that is kept, but changes neither persons nor groups.
_PERSONLESS = "person_processing_disabled"
#: The reason of an event that PostHog accepted and does not have.
NOT_THERE = "not_there"


class Made(NamedTuple):
    """A row and its event.

    :param number: of the row, from 1.
    :param row: its values.
    :param event: the event; ``None`` if PostHog would not take it.
    :param reason: why not.
    """

    number: int
    row: Sequence[Any]
    event: Event | None
    reason: str


#: Sends events, and enters PostHog's verdicts by their uuids, also if it fails afterwards.
Deliver = Callable[[list[Event], dict[bytes, Verdict]], object]


@dataclass
class Tally:
    """The counts of this try of a load.

    :param rows: rows that were read.
    :param sent: events that were sent.
    :param before: events that an earlier try has sent.
    :param duplicates: rows that are the same as one before.
    :param backwards: rows of an earlier day than one before.
    :param changed: rows that are others than an earlier try has sent under the same key.
    """

    rows: int = 0
    sent: int = 0
    before: int = 0
    duplicates: int = 0
    backwards: int = 0
    changed: int = 0


class Load:
    """A load.

    :param ledger: what earlier tries have done.
    :param now: returns the time, in UTC.
    :param floor: PostHog hides events up to this moment (retention); ``None`` if it hides none.
    """

    def __init__(
        self,
        ledger: Ledger,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        *,
        floor: datetime | None = None,
    ) -> None:
        self._ledger = ledger
        self._now = now
        self._floor = -math.inf if floor is None else floor.timestamp()
        self.tally = Tally()

    def send(self, reader: Reader, rows: Iterable[Sequence[Any]], sender: Sender) -> None:
        """Send the rows that no earlier try has sent.

        :param reader: makes events of them.
        :param rows: all of them, in an order that stays.
        :param sender: sends them.
        :raises PostHogError: if PostHog does not take them; what it took is noted.
        """
        self._ledger.begin_reading()
        self.tally = Tally()
        self._pass(reader, rows, sender.send)

    def check_order(self, reader: Reader, rows: Iterable[Sequence[Any]]) -> int:
        """Return the number of the first row that is of an earlier day than one before; 0 if there is none.

        :param reader: makes events of them; rows that PostHog would not take have no place in the order.
        :param rows: all of them.
        """
        newest = -math.inf
        for made in self._each(reader, rows):
            if made.event is not None:
                if made.event.day < newest:
                    return made.number
                newest = made.event.day
        return 0

    def remember(self, reader: Reader, rows: Iterable[Sequence[Any]]) -> None:
        """Record the rows as sent without sending them: they were sent, but the ledger is on another machine.

        :param reader: makes events of them.
        :param rows: all of them.
        """
        self._ledger.begin_reading()
        self.tally = Tally()
        self._pass(reader, rows, lambda events, said: said.update((event.uuid, Verdict("sent")) for event in events))

    def send_missing(self, reader: Reader, rows: Iterable[Sequence[Any]], sender: Sender) -> int:
        """Send again the events that PostHog accepted and does not show.

        :param reader: makes events of the rows.
        :param rows: all of them.
        :param sender: sends them.
        :returns: how many were sent.
        """
        count = 0
        for again in self._missing(reader, rows):
            self._deliver(again, sender.send, [], reader)
            self._ledger.remember_keys(_reject(made, reader, NOT_THERE) for made in again)
            count += len(again)
        return count

    def name_missing(self, reader: Reader, rows: Iterable[Sequence[Any]]) -> None:
        """Record the keys of events that PostHog does not show, and that were sent once more by another machine.

        :param reader: makes events of the rows.
        :param rows: all of them.
        """
        for again in self._missing(reader, rows):
            self._ledger.remember_keys(_reject(made, reader, NOT_THERE) for made in again)

    def _missing(self, reader: Reader, rows: Iterable[Sequence[Any]]) -> Iterator[list[Made]]:
        """Yield the rows whose events are not shown, and whose keys are not recorded, some at a time."""
        for some in _batches(self._each(reader, rows)):
            checks = self._ledger.unproved_checks(made.event.uuid for made in some if made.event is not None)
            again = []
            for made in some:  # the row that was sent, not one that was rejected for having the same key
                if made.event is not None and checks.get(made.event.uuid) == made.event.check:
                    del checks[made.event.uuid]
                    again.append(made)
            if again:
                yield again

    def _pass(self, reader: Reader, rows: Iterable[Sequence[Any]], deliver: Deliver) -> None:
        newest = -math.inf
        for some in _batches(self._each(reader, rows)):
            for made in some:
                if made.event is not None:
                    self.tally.backwards += made.event.day < newest
                    newest = max(newest, made.event.day)
            self._batch(some, reader, deliver)

    def _each(self, reader: Reader, rows: Iterable[Sequence[Any]]) -> Iterator[Made]:
        now = self._now()
        for number, row in enumerate(rows, 1):
            if number % MOST_EVENTS == 0:
                now = self._now()
            try:
                event = reader.read(row, now)
                hidden = event.at <= self._floor
                yield Made(number, row, None if hidden else event, "hidden_by_retention" if hidden else "")
            except RefusedError as refused:
                yield Made(number, row, None, refused.reason)

    def _batch(self, some: list[Made], reader: Reader, deliver: Deliver) -> None:
        rejects = [_reject(made, reader, made.reason) for made in some if made.event is None]
        here, before, changed = self._ledger.known(made.event for made in some if made.event is not None)
        new: list[Made] = []
        for made in some:
            if made.event is None:
                continue
            uuid, known = made.event.uuid, here.get(made.event.uuid)
            if known is None:
                here[uuid] = made.event.check
                if uuid not in before:
                    new.append(made)
            elif known == made.event.check:
                self.tally.duplicates += 1
            else:  # one of the two would win, and nobody knows which
                rejects.append(_reject(made, reader, "repeated_key"))
        self._ledger.seen_again(before)
        self._deliver(new, deliver, rejects, reader)
        self.tally.rows += len(some)
        self.tally.sent += len(new)
        self.tally.before += len(before)
        self.tally.changed += len(changed)

    def _deliver(self, new: list[Made], deliver: Deliver, rejects: list[Reject], reader: Reader) -> None:
        """Send events, and record what PostHog has said of them, though sending the others fails."""
        verdicts: dict[bytes, Verdict] = {}
        try:
            if new:
                deliver([made.event for made in new if made.event is not None], verdicts)
        finally:
            states = []
            for made in new:
                verdict = None if made.event is None else verdicts.get(made.event.uuid)
                if made.event is None or verdict is None or verdict.result not in _STATES:
                    continue
                if reader.needs_persons and verdict.details == _PERSONLESS:  # it is kept, but changed no person
                    verdict = Verdict("drop", _PERSONLESS)
                states.append((made.event, _STATES[verdict.result]))
                if verdict.result == "drop":
                    rejects.append(_reject(made, reader, verdict.details or "dropped"))
            self._ledger.keep(states, rejects)

    def give_up(self) -> int:
        """Record the events that PostHog accepted and does not have as lost; return how many."""
        return self._ledger.give_up(NOT_THERE)

    def summary(self) -> dict[str, Any]:
        """Return the outcome of the rows.

        :returns: ``rows``, ``sent`` (by this try), ``sent_before``, ``duplicates``, ``kept`` (that PostHog has shown),
            ``warned``, ``rejected`` (by reason).
        """
        states, tally = self._ledger.states(), self.tally
        return {
            "rows": tally.rows,
            "sent": tally.sent,
            "sent_before": tally.before,
            "duplicates": tally.duplicates,
            "kept": states.get(FOUND, 0),
            "warned": self._ledger.warned(),
            "rejected": self._ledger.rejected(),
        }

    def check(self, max_rejects: int, where: str | None) -> None:
        """Check that not too many rows are missing in PostHog.

        :param max_rejects: how many may be.
        :param where: the file or table that names them.
        :raises PostHogIncompleteError: if there are more.
        """
        rejected = self._ledger.rejected()
        total = sum(rejected.values())
        if total <= max_rejects:
            return
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(rejected.items()))
        named = [shown(reject.uuid) for reject in self._ledger.rejects() if reject.uuid is not None][:_NAMED]
        raise PostHogIncompleteError(
            f"{total:,} rows are not in PostHog ({reasons}), and max_rejects is {max_rejects:,}. All others are there. "
            + (f"Events: {', '.join(named)}{', ...' if total > len(named) else ''}. " if named else "")
            + (f"{where} names each." if where else "rejects_path or rejects_table names each.")
        )


def _batches(made: Iterable[Made]) -> Iterator[list[Made]]:
    some: list[Made] = []
    size = 0
    for row in made:
        some.append(row)
        size += len(row.event.body) if row.event is not None else 0
        if len(some) >= MOST_EVENTS or size >= MOST_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _reject(made: Made, reader: Reader, reason: str) -> Reject:
    key = json.dumps(reader.key_of(made.row), default=str)
    return Reject(made.number, made.event.uuid if made.event is not None else None, key, reason)


def report_of(reject: Reject, names: Sequence[str]) -> tuple[int | None, str | None, str | None, str]:
    """Return the report of a row that is not in PostHog: its number, its uuid, its key as JSON, and the reason.

    :param reject: the row.
    :param names: of the key's columns.
    """
    values = json.loads(reject.key) if reject.key else []
    key = dict(zip(names, values, strict=False))
    uuid = None if reject.uuid is None else shown(reject.uuid)
    return reject.row or None, uuid, json.dumps(key, ensure_ascii=False) if key else None, reject.reason


def lines_of(rejects: Iterable[Reject], names: Sequence[str]) -> Iterable[bytes]:
    """Yield the lines of the file of what is not in PostHog (JSON lines).

    :param rejects: the rows.
    :param names: of the key's columns.
    """
    for reject in rejects:
        row, uuid, key, reason = report_of(reject, names)
        line = {"row": row, "uuid": uuid, "key": json.loads(key) if key else None, "reason": reason}
        try:
            yield json.dumps(line, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:  # half a surrogate pair
            yield json.dumps(line).encode() + b"\n"
