"""An answer's body as it arrives: unpacked piece by piece, limited in size, and refused if it arrives too slowly.

No sockets here: both clients feed it what they read.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: What is asked for as ``Accept-Encoding``: what can be unpacked here, bounded, with what Python has.
ENCODINGS = "gzip, deflate"
#: Bytes of an answer that must arrive within each ``read_timeout``, so that a dripping answer does not block for ever.
PROGRESS = 64 * 1024
#: Bytes that are unpacked at once, at the most.
_PIECE = 1024 * 1024
_PLAIN = frozenset({"", "identity"})


class TooLargeError(Exception):
    """The body is larger than the call allows."""


class UndecodableError(Exception):
    """The body does not match its ``Content-Encoding``, or is packed in a way that was not asked for."""


class TooSlowError(TimeoutError):
    """Too few bytes arrived within the connection's timeout."""


@dataclass(frozen=True)
class Arriving:
    """A good answer whose body is still to come.

    :param pieces: its bytes, unpacked, as they arrive. If they end too early, iterating raises the reader's error,
        which the caller has to let through.
    :param seconds: how long the server took until the answer began.
    :param read: bytes that ClickHouse read for it; ``None`` if the server does not say.
    """

    pieces: Iterator[bytes]
    seconds: float
    read: int | None = None


class Pace:
    """Ends an answer that drips in: each ``read_timeout`` of waiting has to bring :data:`PROGRESS`, or the end.

    Only waiting counts, from the first byte on: before that PostHog may calculate, and between two reads a storage
    may be slow to take what came.

    :param seconds: the connection's ``read_timeout``.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = False
        self._waited = 0.0
        self._came = 0

    def came(self, size: int, waited: float) -> None:
        """Record what a read returned.

        :param size: how many bytes; 0 at the end.
        :param waited: for how many seconds.
        :raises TooSlowError: if too few bytes have arrived.
        """
        if not self._begun:
            self._begun = bool(size)
            return
        self._waited += waited
        self._came += size
        if size and self._waited > self._seconds:
            if self._came < PROGRESS:
                raise TooSlowError(f"less than {PROGRESS // 1024} KiB came within {self._seconds:g} s")
            self._waited, self._came = 0.0, 0


class Body:
    """The body of one answer.

    :param encodings: its ``Content-Encoding``.
    :param most: how many bytes it may have, unpacked.
    :raises UndecodableError: if it is packed in a way that cannot be unpacked here.
    """

    def __init__(self, encodings: str, most: int | float | None) -> None:
        named = [word for word in (part.strip().lower() for part in encodings.split(",")) if word not in _PLAIN]
        if len(named) > 1 or any(word not in ("gzip", "x-gzip", "deflate") for word in named):
            raise UndecodableError
        self._kind = named[0] if named else ""
        self._unpacker: Any = None
        self._most = math.inf if most is None else most
        self._over = False
        self._pieces: list[bytes] = []
        self.size = 0

    def feed(self, data: bytes) -> Iterator[None]:
        """Take the next bytes as received; yield after each unpacked piece, so that others can run.

        :param data: the bytes.
        :raises TooLargeError: if it is more than allowed; no more than that was unpacked.
        :raises UndecodableError: if they cannot be unpacked.
        """
        if not self._kind:
            self._take(data)
            yield
            return
        while data and not self._over:
            if self._unpacker is None or self._unpacker.eof:
                # Bytes after the last member of a gzip stream are ignored.
                self._over = self._unpacker is not None and not (self._kind != "deflate" and data[:1] == b"\x1f")
                if self._over:
                    return
                self._unpacker = self._new_unpacker(data)
            try:
                self._take(self._unpacker.decompress(data, _PIECE))
            except zlib.error:
                raise UndecodableError from None
            data = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            yield

    def take(self) -> bytes:
        """Return what was unpacked since the last call, and drop it here."""
        taken = self._joined()
        self._pieces.clear()
        return taken

    def value(self) -> bytes:
        """Return the body, or what was not taken of it, once all of it has arrived.

        :raises UndecodableError: if the packed data is cut.
        """
        if self._unpacker is not None:
            while not self._unpacker.eof and (rest := self._unpacker.decompress(b"", _PIECE)):
                self._take(rest)
            if not self._unpacker.eof:
                raise UndecodableError
        return self._joined()

    def _joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def _take(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._most:
            self._pieces.clear()
            raise TooLargeError
        if piece:
            self._pieces.append(piece)

    def _new_unpacker(self, data: bytes) -> Any:  # noqa: ANN401 - zlib's class has no public name
        if self._kind != "deflate":
            return zlib.decompressobj(31)
        # RFC 9110 means zlib's format, and some servers send it bare.
        zlib_header = data[0] & 0x0F == 8 and (len(data) < 2 or int.from_bytes(data[:2], "big") % 31 == 0)
        return zlib.decompressobj(zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS)
