"""Verified rows of a load, kept beside the table until all are read: neither long waits nor kills lose them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import NotSettled, PostHogLoadError, PostHogRateLimitError
from airflow_provider_posthog.tasks.identity import CLOCKS_DIFFER

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_provider_posthog.extract.reader import Chunk, Extraction
    from airflow_provider_posthog.extract.windows import Position
    from airflow_provider_posthog.load.parts import Parts
    from airflow_provider_posthog.storage.staging import Owner

log = logging.getLogger(__name__)

#: Compressed bytes that are held in memory, and seconds after which they are kept: what a kill costs at the most.
PART_BYTES = 8 * 1024 * 1024
PART_SECONDS = 60.0
#: Seconds after which what a load has kept is nobody's: no wait for PostHog's limits is as long.
KEPT_FOR = 7 * 86_400.0
_COUNTS = ("rows", "windows", "duplicates")


@dataclass(frozen=True)
class _Held:
    """A chunk, as bytes."""

    data: bytes
    counts: tuple[int, ...]
    resume_after: Position | None


class Spool:
    """The rows of one load, as they are read: those that are kept, and those that are not yet.

    A load of few rows keeps nothing: what fits into memory goes into the table from there.

    :param parts: where they are kept.
    :param owner: whose load it is; only its own tries take up what is kept.
    """

    def __init__(self, parts: Parts, owner: Owner) -> None:
        self._parts = parts
        self._owner = {"task": owner.task, "request": owner.request}
        self._since = owner.since
        self._held: list[_Held] = []
        self._rest: Iterator[Chunk] = iter(())
        self._kept_at = time.monotonic()
        self._notes: list[dict[str, Any]] = []
        self._is_kept = False
        #: Whether anything can be kept: not every role may make a table.
        self.keeps = True

    def fill(self, open_at: Callable[[Position | None], Extraction], check: Callable[[pa.Schema], None]) -> pa.Schema:
        """Read what is not kept yet.

        :param open_at: begins the reading, at the beginning or where an earlier one has stopped.
        :param check: fails if the table cannot hold such rows.
        :returns: the schema of the rows.
        :raises PostHogRateLimitError: if PostHog asks to wait; what was read is kept.
        """
        self._take_up()
        if self._notes and self._notes[-1]["read"]:
            return next(self._tables_of(0)).schema
        extraction = open_at(self._place)
        try:
            if self._notes and self._notes[-1]["schema"] != _types_of(extraction.schema):
                log.info("Columns are others than before: what an earlier try has read is read again")
                extraction.close()
                self._begin_anew()
                extraction = open_at(None)
            check(extraction.schema)
            self._rest = iter(extraction)
            self._read(_types_of(extraction.schema))
        except BaseException:
            extraction.close()
            raise
        return extraction.schema

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows: those that are kept, those that are held, and those that are still to be read."""
        # A reader beside an open transaction would wait for it.
        ahead = [self._parts.data(number) for number in range(len(self._notes)) if self._parts.is_one_at_a_time]
        for number in range(len(self._notes)):
            yield from self._tables_of(number, ahead.pop(0) if ahead else None)
        for held in self._held:
            yield _table(held.data)
        yield from tables_of(self._rest)

    @property
    def counts(self) -> dict[str, int]:
        """How many ``rows``, ``windows`` and ``duplicates`` were read before what is still to be read."""
        before = [*self._done, *(chunk.counts for chunk in self._held)]
        return dict(zip(_COUNTS, (sum(numbers) for numbers in zip((0, 0, 0), *before, strict=True)), strict=True))

    @property
    def _done(self) -> list[Sequence[int]]:
        return [note["counts"] for note in self._notes]

    def drop(self) -> None:
        """Remove what is kept."""
        if self._is_kept:
            self._parts.drop()
            self._is_kept = False

    def _take_up(self) -> None:
        notes = self._parts.notes()
        if not notes:
            return
        first = notes[0]
        ours = all(
            note.get("owner") == self._owner and note.get("load") == first.get("load") and note.get("version") == 1
            for note in notes
        )
        self._notes, self._is_kept = notes, True
        if not ours or float(first.get("began", 0)) < self._since - CLOCKS_DIFFER:
            self._begin_anew()
            return
        log.info("Going on where the load stopped: %s rows are kept", f"{self.counts['rows']:,}")

    def _begin_anew(self) -> None:
        self.drop()
        self._notes = []

    @property
    def _place(self) -> Position | None:
        from airflow_provider_posthog.extract.windows import Position

        return Position.from_json(self._notes[-1]["resume_after"]) if self._notes else None

    def _read(self, schema: list[list[str]]) -> None:
        try:
            for chunk in self._rest:
                counts = (chunk.rows, 1, chunk.duplicates)
                self._held.append(_Held(_bytes(chunk.table), counts, chunk.resume_after))
                del chunk  # the next one comes into its place
                if self._is_due and not self._keep(schema):
                    return
        except (NotSettled, PostHogRateLimitError):
            self._keep(schema)
            raise
        if self._notes:
            self._keep(schema, read=True)

    @property
    def _is_due(self) -> bool:
        held = sum(len(chunk.data) for chunk in self._held)
        return held >= PART_BYTES or time.monotonic() - self._kept_at > PART_SECONDS

    def _keep(self, schema: list[list[str]], *, read: bool = False) -> bool:
        """Keep what is held, as far as a reading can go on behind it; ``False`` if nothing can be kept here."""
        safe = [number for number, held in enumerate(self._held, 1) if held.resume_after is not None]
        count = len(self._held) if read else max(safe, default=0)
        if not count and not read:
            return True
        part, place = self._held[:count], self._held[count - 1].resume_after if count else None
        note = {
            "version": 1,
            "owner": self._owner,
            "load": self._notes[0]["load"] if self._notes else f"{time.time_ns():x}",
            "began": time.time(),
            "schema": schema,
            "resume_after": place.as_json() if place is not None else None,
            "read": read,
            "counts": [sum(numbers) for numbers in zip((0, 0, 0), *(chunk.counts for chunk in part), strict=True)],
            "sizes": [len(chunk.data) for chunk in part],
        }
        try:
            self._parts.add(len(self._notes), note, b"".join(chunk.data for chunk in part))
        except PostHogLoadError as error:
            if self._notes:
                raise
            self._parts.drop()
            log.warning("Nothing can be kept beside the table, so that a long wait would begin anew. %s", error)
            self.keeps = False
            return False
        self._notes.append(note)
        self._is_kept = True
        self._held = self._held[count:]
        self._kept_at = time.monotonic()
        return True

    def _tables_of(self, number: int, data: bytes | None = None) -> Iterator[pa.Table]:
        data, at = self._parts.data(number) if data is None else data, 0
        for size in self._notes[number]["sizes"]:
            yield _table(data[at : at + size])
            at += size
        if at != len(data):
            raise PostHogLoadError("What was kept of the load is not what was written. Let the task retry.")


def sweep(parts: Parts) -> None:
    """Remove what other loads of a table have left, and nobody has gone on with for long.

    :param parts: of a load of the same table.
    """
    for name in parts.sweep(time.time() - KEPT_FOR):
        log.info("The table %s was removed: a load has left it behind more than a week ago", name)


def tables_of(chunks: Iterable[Chunk]) -> Iterator[pa.Table]:
    """Yield the rows of chunks, without holding more than one.

    :param chunks: the chunks.
    """
    for chunk in chunks:
        yield chunk.table
        del chunk  # the next one comes into its place


def _types_of(schema: pa.Schema) -> list[list[str]]:
    return [[field.name, str(field.type)] for field in schema]


def _bytes(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _table(data: bytes) -> pa.Table:
    import pyarrow as pa

    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()
