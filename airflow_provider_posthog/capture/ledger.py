"""Record what a load has sent, and its outcome, in a file on this machine, from which a later try continues.

It holds uuids, the names and days of events, and of rows that were refused their keys; nothing else of any row. Where
it is lost, all is sent again, which changes nothing in PostHog: the same uuids and times are the same events.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from airflow_provider_posthog.capture.events import Event
from airflow_provider_posthog.exceptions import PostHogSettingsError

log = logging.getLogger(__name__)

#: The states of an event: sent without an answer, accepted, accepted with a warning, found in PostHog, refused, or
#: lost.
SENT, OK, WARNED, FOUND, DROPPED, LOST = range(6)
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS events (
    uuid BLOB PRIMARY KEY, name INTEGER, day INTEGER, crc INTEGER, state INTEGER, warned INTEGER, try INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rejects (row INTEGER, uuid BLOB, key TEXT, reason TEXT);
CREATE TABLE IF NOT EXISTS keys (row INTEGER, uuid BLOB PRIMARY KEY, key TEXT) WITHOUT ROWID
"""
_MOST_PARAMETERS = 900
_OLD = 14 * 86_400.0


class Cell(NamedTuple):
    """Events of one name and day.

    :param name: the event.
    :param day: in days since 1970, UTC.
    :param uuids: their uuids, of 16 bytes each.
    """

    name: str
    day: int
    uuids: list[bytes]


class Reject(NamedTuple):
    """A row that is not in PostHog.

    :param row: its number, from 1; 0 if it is not known.
    :param uuid: of its event; ``None`` if it became none.
    :param key: its key, as JSON.
    :param reason: why, in a word.
    """

    row: int
    uuid: bytes | None
    key: str
    reason: str


class Ledger:
    """The file. Close it, or use it in a ``with``.

    :param path: where it is; ``None`` for one in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        if path is not None:
            _own_folder(path.parent)
            _remove_old(path.parent)
        try:
            self._db = _opened(path)
        except sqlite3.DatabaseError as error:
            if path is None or isinstance(error, sqlite3.OperationalError):  # such as a full disk
                raise
            log.warning("What an earlier try noted cannot be read (%s): all is sent again", path.name)
            _remove(path)
            self._db = _opened(path)
        self._names: dict[str, int] = {name: number for number, name in self._db.execute("SELECT id, name FROM names")}
        self._try = int(self.get("try") or 0)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def remove(self) -> None:
        """Close the file and remove it: the load has succeeded."""
        self.close()
        if self._path is not None:
            _remove(self._path)

    def get(self, name: str) -> str | None:
        """Return the value stored under a name.

        :param name: the name.
        """
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, **values: object) -> None:
        """Store values under names.

        :param values: as text, by name.
        """
        rows = [(name, str(value)) for name, value in values.items()]
        self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def begin_reading(self) -> None:
        """Start reading from the first row: refused rows are judged again, accepted events are kept."""
        self._try += 1
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM rejects")
        self._db.execute("DELETE FROM keys")
        self._db.execute("DELETE FROM events WHERE state IN (?, ?)", (DROPPED, LOST))
        self.put(**{"try": self._try})
        self._db.execute("COMMIT")

    def known(self, events: Iterable[Event]) -> tuple[dict[bytes, int], set[bytes], set[bytes]]:
        """Return which events were sent already.

        :param events: some.
        :returns: of those that were met in this reading their check, by uuid; those of an earlier one that have not
            changed since; and those that have.
        """
        checks = {event.uuid: event.check for event in events}
        here: dict[bytes, int] = {}
        before: set[bytes] = set()
        changed: set[bytes] = set()
        for batch in _slices([*checks]):
            rows = self._db.execute(
                f"SELECT uuid, crc, try FROM events WHERE uuid IN ({','.join('?' * len(batch))})",  # noqa: S608
                batch,
            )
            for uuid, check, number in rows:
                if number == self._try:
                    here[uuid] = check
                else:
                    (before if check == checks[uuid] else changed).add(uuid)
        return here, before, changed

    def keep(self, events: Sequence[tuple[Event, int]], rejects: Sequence[Reject] = ()) -> None:
        """Record the outcomes of events and the refused rows, in one transaction.

        :param events: each with its state.
        :param rejects: the rows.
        """
        number = self._try
        rows = [
            (event.uuid, self._name_id(event.name), event.day, event.check, state, state == WARNED, number)
            for event, state in events
        ]
        self._db.execute("BEGIN")
        self._db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        self._db.executemany("INSERT INTO rejects VALUES (?, ?, ?, ?)", rejects)
        self._db.execute("COMMIT")

    def seen_again(self, uuids: Iterable[bytes]) -> None:
        """Record that events of an earlier reading occur in this one.

        :param uuids: of the events.
        """
        self._db.execute("BEGIN")
        self._db.executemany("UPDATE events SET try = ? WHERE uuid = ?", [(self._try, uuid) for uuid in uuids])
        self._db.execute("COMMIT")

    def _name_id(self, name: str) -> int:
        if name not in self._names:
            self._db.execute("INSERT OR IGNORE INTO names (name) VALUES (?)", (name,))
            (self._names[name],) = self._db.execute("SELECT id FROM names WHERE name = ?", (name,)).fetchone()
        return self._names[name]

    def mark(self, uuids: Iterable[bytes], state: int) -> None:
        """Record the state of events.

        :param uuids: of the events.
        :param state: what.
        """
        self._db.execute("BEGIN")
        self._db.executemany("UPDATE events SET state = ? WHERE uuid = ?", [(state, uuid) for uuid in uuids])
        self._db.execute("COMMIT")

    def remember_keys(self, rows: Iterable[Reject]) -> None:
        """Record the keys of rows that were sent again, in case their events are missing after that too.

        :param rows: the rows.
        """
        self._db.execute("BEGIN")
        self._db.executemany(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", [(row.row, row.uuid, row.key) for row in rows]
        )
        self._db.execute("COMMIT")

    def give_up(self, reason: str) -> int:
        """Record the events that PostHog has not shown as lost; return how many.

        :param reason: a word for it.
        """
        self._db.execute("BEGIN")
        count = self._db.execute(
            "INSERT INTO rejects SELECT coalesce(keys.row, 0), events.uuid, coalesce(keys.key, ''), ? FROM events"
            " LEFT JOIN keys ON keys.uuid = events.uuid WHERE state < ? AND try = ? ORDER BY keys.row",
            (reason, FOUND, self._try),
        ).rowcount
        self._db.execute("UPDATE events SET state = ? WHERE state < ? AND try = ?", (LOST, FOUND, self._try))
        self._db.execute("COMMIT")
        return count

    def warned(self) -> int:
        """Return how many events of this reading PostHog took with a warning."""
        return self._count("warned AND try = ?")

    def without_row(self) -> int:
        """Return how many events an earlier reading has sent whose rows this one has not met."""
        return self._count("try < ?")

    def unnamed(self) -> int:
        """Return how many events PostHog does not show whose rows' keys are not recorded."""
        return self._count(f"state < {FOUND} AND uuid NOT IN (SELECT uuid FROM keys) AND try = ?")  # noqa: S608

    def _count(self, condition: str) -> int:
        sql = f"SELECT count(*) FROM events WHERE {condition}"  # noqa: S608 - a text of this class
        return int(self._db.execute(sql, (self._try,)).fetchone()[0])

    def unproved(self, most: int) -> Iterator[Cell]:
        """Yield the events that PostHog has not shown yet, by day and name.

        :param most: how many a cell has at the most.
        """
        cursor = self._db.execute(
            "SELECT day, names.name, uuid FROM events JOIN names ON names.id = events.name"
            " WHERE state IN (?, ?, ?) AND try = ? ORDER BY day, events.name",
            (SENT, OK, WARNED, self._try),
        )
        for (day, name), rows in groupby(cursor, key=lambda row: (row[0], row[1])):
            batch: list[bytes] = []
            for _, _, uuid in rows:
                batch.append(uuid)
                if len(batch) == most:
                    yield Cell(name, day, batch)
                    batch = []
            if batch:
                yield Cell(name, day, batch)

    def unproved_checks(self, uuids: Iterable[bytes]) -> dict[bytes, int]:
        """Return the checks of events that were sent once, and are not yet shown by PostHog.

        :param uuids: of the events.
        """
        unproved: dict[bytes, int] = {}
        for batch in _slices([*uuids]):
            rows = self._db.execute(
                "SELECT uuid, crc FROM events WHERE state < ? AND uuid NOT IN (SELECT uuid FROM keys)"  # noqa: S608
                f" AND uuid IN ({','.join('?' * len(batch))})",
                [FOUND, *batch],
            )
            unproved.update(rows)
        return unproved

    def states(self) -> Mapping[int, int]:
        """Return how many events of this reading are in each state."""
        return dict(self._db.execute("SELECT state, count(*) FROM events WHERE try = ? GROUP BY state", (self._try,)))

    def rejected(self) -> dict[str, int]:
        """Return how many rows are not in PostHog, by reason."""
        return dict(self._db.execute("SELECT reason, count(*) FROM rejects GROUP BY reason ORDER BY reason"))

    def rejects(self) -> Iterator[Reject]:
        """Yield the rows that are not in PostHog, in their order."""
        for row in self._db.execute("SELECT row, uuid, key, reason FROM rejects ORDER BY rowid"):
            yield Reject(*row)


def _opened(path: Path | None) -> sqlite3.Connection:
    """Open the database, new or as an earlier try has left it.

    :raises sqlite3.DatabaseError: if it is none, or broken.
    """
    if path is not None:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    database = sqlite3.connect(str(path) if path else ":memory:", isolation_level=None, check_same_thread=False)
    try:
        # A kill loses nothing that was committed; only a machine that goes down may, and then it is sent again.
        database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-65536")
        if (said := database.execute("PRAGMA quick_check(1)").fetchone()) != ("ok",):
            raise sqlite3.DatabaseError(str(said))
        database.executescript(_TABLES)
    except BaseException:
        database.close()
        raise
    return database


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)


def _slices(uuids: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(uuids), _MOST_PARAMETERS):
        yield uuids[start : start + _MOST_PARAMETERS]


def _own_folder(folder: Path) -> None:
    """Make a folder that only this user owns: temporary folders are shared."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = os.lstat(folder)
    if hasattr(os, "getuid") and (stat.S_ISLNK(status.st_mode) or status.st_uid != os.getuid()):
        raise PostHogSettingsError("TMPDIR", f"has {folder}, which is somebody else's.", "Remove that folder.")


def _remove_old(folder: Path) -> None:
    """Remove the files of loads that were never resumed."""
    for path in folder.glob("*.ledger*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()
