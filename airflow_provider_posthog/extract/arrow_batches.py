"""The rows of an answer as an Arrow table, converted as they arrive, in memory that is reused."""

from __future__ import annotations

import mmap
import threading
from typing import Any

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.results.arrow_types import batch_of

#: Bytes of memory that are allocated at once. Small, as the rest of the last block of each answer lies idle.
ROOM = 4 * 1024 * 1024
#: Bytes that the stream's header and footer need in a block, beside its batches.
_SPARE = 64 * 1024


class Rooms:
    """Memory for rows. Safe to use from threads.

    Memory of Python or Arrow that lies among short-lived texts often cannot be returned to the system: with large
    answers on several threads that would be more than all the rows. And allocating it anew for each answer costs as
    much time as parsing. So it is kept, and reused when it holds no rows any more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[tuple[mmap.mmap, memoryview]] = []

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return sum(len(memory) for memory, _ in self._kept)

    def take(self, size: int) -> memoryview:
        """Return memory that is free: it is in use as long as anything holds its buffer.

        :param size: how many bytes are needed.
        """
        if size > ROOM:  # one oversized row is no reason to keep so much memory for good
            return memoryview(_memory(size))
        with self._lock:
            number = next((number for number, (_, view) in enumerate(self._kept) if _is_free(view)), None)
            memory = _memory(ROOM) if number is None else self._kept.pop(number)[0]
            view = memoryview(memory)
            self._kept.append((memory, view))
            return view


def _memory(size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, access=mmap.ACCESS_COPY)  # of this process alone, also after a fork


def _is_free(view: memoryview) -> bool:
    try:
        view.release()
    except BufferError:  # Arrow holds it
        return False
    return True


class Batches:
    """Collects the rows of one answer, many at a time.

    :param schema: of the rows.
    :param rooms: memory for them.
    """

    def __init__(self, schema: pa.Schema, rooms: Rooms) -> None:
        self._schema = schema
        self._rooms = rooms
        self._tables: list[pa.Table] = []
        self._room: _Room | None = None

    def add(self, rows: list[Any]) -> None:
        """Convert and add rows.

        :param rows: the rows.
        :raises PostHogTransportError: if they are not of the schema.
        """
        batch = batch_of(rows, self._schema)
        size = pa.ipc.get_record_batch_size(batch)
        if self._room is None or not self._room.has(size):
            self._close()
            self._room = _Room(self._schema, self._rooms.take(size + self._schema.serialize().size + 2 * _SPARE))
        self._room.add(batch)

    def value(self) -> pa.Table:
        """Return all of them."""
        self._close()
        pa.default_memory_pool().release_unused()  # otherwise each thread keeps what conversions needed
        return pa.concat_tables(self._tables) if self._tables else self._schema.empty_table()

    def _close(self) -> None:
        if self._room is not None:
            self._tables.append(self._room.table())
        self._room = None


class _Room:
    """A block of memory that batches are written into, and read from without a copy."""

    def __init__(self, schema: pa.Schema, memory: memoryview) -> None:
        self._buffer = pa.py_buffer(memory)
        self._sink = pa.FixedSizeBufferWriter(self._buffer)
        self._writer = pa.ipc.new_stream(self._sink, schema)
        self._size = len(memory)

    def has(self, size: int) -> bool:
        """Return whether so many more bytes fit in."""
        return bool(self._sink.tell() + size + _SPARE <= self._size)

    def add(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def table(self) -> pa.Table:
        self._writer.close()
        return pa.ipc.open_stream(self._buffer).read_all()
