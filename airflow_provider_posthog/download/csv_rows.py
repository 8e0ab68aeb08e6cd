"""Count the rows of a CSV file as it streams by, and recognize PostHog's form of "no rows"."""

from __future__ import annotations

#: What PostHog writes in place of an empty result.
_EMPTY_HEADER = b"error"
_EMPTY_TEXT = b"No data available or unable to format for export."
_HEAD = 64 * 1024
_OTHERS = bytes(set(range(256)) - set(b'"\n'))


class CsvRows:
    """Counts records of RFC 4180: line ends inside quotes are not row ends.

    Only the parity of quotes matters: a doubled quote inside a quoted cell leaves and enters it again.
    """

    def __init__(self) -> None:
        self._quoted = False
        self._records = 0
        self._open = False  # bytes came after the last row end
        self._head = bytearray()
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        :param chunk: any number of bytes; rows and characters may be cut anywhere.
        """
        if not chunk:
            return
        self._size += len(chunk)
        if len(self._head) < _HEAD:
            self._head += chunk[: _HEAD - len(self._head)]
        # All but quotes and line ends is dropped, and then quotes side by side, which change nothing between them:
        # a column of JSON is full of quotes, and looking at each one would cost more than the download.
        parts = chunk.translate(None, _OTHERS).replace(b'""', b"").split(b'"')
        self._records += sum(part.count(b"\n") for part in parts[int(self._quoted) :: 2])
        self._quoted ^= len(parts) % 2 == 0
        self._open = self._quoted or not chunk.endswith(b"\n")

    @property
    def header(self) -> bytes:
        """The first line as it came, without its line end."""
        return bytes(self._head).split(b"\n", 1)[0].rstrip(b"\r")

    @property
    def is_empty_marker(self) -> bool:
        """Whether the file is PostHog's substitute for an empty result: the header ``error`` and one sentence."""
        lines = bytes(self._head).split(b"\r\n")
        return self._records == 2 and lines[0] == _EMPTY_HEADER and lines[1].strip(b'"') == _EMPTY_TEXT

    @property
    def is_blank_row(self) -> bool:
        """Whether the file is a header and one row of nothing but commas: an empty result with ``columns``."""
        lines = bytes(self._head).replace(b"\r\n", b"\n").split(b"\n")
        return self._records == 2 and self._size <= _HEAD and not lines[1].strip(b',"')

    @property
    def rows(self) -> int:
        """How many rows there are under the header.

        :raises ValueError: if the file ends inside a quoted cell, which a whole file cannot.
        """
        if self._quoted:
            raise ValueError("the file ends inside a quoted cell")
        return max(0, self._records + int(self._open) - 1)
