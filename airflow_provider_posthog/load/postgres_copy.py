"""COPY through psycopg 2 or 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class _Reader:
    """A file over pieces, for psycopg 2."""

    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return at most so many bytes; none at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


def copy_in(cursor: Any, statement: str, pieces: Iterator[memoryview]) -> None:  # noqa: ANN401 - psycopg's 2 or 3
    """Send pieces of a COPY.

    :param cursor: of psycopg 2 or 3.
    :param statement: the ``COPY ... FROM STDIN``.
    :param pieces: what is sent.
    """
    if hasattr(cursor, "copy_expert"):
        cursor.copy_expert(statement, _Reader(pieces), size=256 * 1024)
        return
    with cursor.copy(statement) as copy:
        for piece in pieces:
            for at in range(0, len(piece), 64 * 1024):
                copy.write(piece[at : at + 64 * 1024])
