"""Parse the rows of a query's answer slice by slice as it arrives, so that its whole text is never in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import orjson  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.exceptions import PostHogTransportError

#: Bytes of text that are parsed at once: their rows stay in the processor's cache, which halves the time. Fewer would
#: make many small batches, of which each costs as much as a hundred rows.
SLICE = 320 * 1024
#: What stands between rows, as JSON is written.
_MARKS = (b"],[", b"], [")
#: How many possible row ends are tried before the text is scanned for them.
_TRIES = 4
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|[^\s"\[\]{}:,]+')
_BETWEEN_ROWS = re.compile(rb"\]\s?,\s?\[")
#: A text, also one whose end has not come yet, or a bracket.
_NESTING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


class RowSlices:
    """Takes the text of an answer, and yields its rows.

    Iterate over it; when it has ended, :attr:`answer` holds the rest of the answer.

    :param text: the answer's bytes, as they come.
    :param exact: whether integers are longer than 64 bits, which orjson makes floats of.
    :param size: bytes that are parsed at once.
    :param parse_lock: is held while rows are parsed, by one of several threads.
    """

    def __init__(
        self,
        text: Iterable[bytes],
        *,
        exact: bool = False,
        size: int = SLICE,
        parse_lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._text = iter(text)
        self._exact = exact
        self._parse_lock = nullcontext() if parse_lock is None else parse_lock
        self._size = self._wanted = size
        self._buffer = bytearray()
        #: Bytes of the answer, as far as it has come.
        self.bytes = 0
        #: The answer without its rows; ``results`` is an empty list, or what stands there in place of a list.
        self.answer: Any = None

    def __iter__(self) -> Iterator[list[Any]]:
        """Yield rows, many at a time.

        :raises PostHogTransportError: if the answer is not JSON.
        """
        head = self._head()
        if head is None:
            self.answer = self._parse(bytes(self._buffer))
            results = self.answer.get("results") if isinstance(self.answer, dict) else None
            if isinstance(results, list):
                self.answer["results"] = []
                if results:
                    yield results
            return
        while self._more():
            while len(self._buffer) >= self._wanted:
                with self._parse_lock:
                    rows = self._cut()
                # An incomplete row is not parsed again for each piece that arrives.
                self._wanted = self._size if rows else 2 * len(self._buffer)
                if rows:
                    yield rows
        rest = self._parse(b'{"results":[' + bytes(self._buffer))
        self._buffer.clear()
        rows = rest["results"]
        if not isinstance(rows, list):
            raise PostHogTransportError("the answer has several 'results'")
        self.answer = {**self._parse(head + b"]}"), **rest, "results": []}
        if rows:
            yield rows

    def _more(self) -> bool:
        chunk = next(self._text, None)
        if chunk is None:
            return False
        self.bytes += len(chunk)
        self._buffer += chunk
        return True

    def _head(self) -> bytes | None:
        """Take the text up to the beginning of the rows, or return ``None`` if all of it has come and there is none."""
        tried = 0
        while self._more():
            if len(self._buffer) >= 2 * tried and (at := _begin(self._buffer)):  # not at every chunk of a long head
                head = bytes(self._buffer[:at])
                del self._buffer[:at]
                return head
            tried = len(self._buffer)
        at = _begin(self._buffer)
        if not at:
            return None
        head = bytes(self._buffer[:at])
        del self._buffer[:at]
        return head

    def _cut(self) -> list[Any] | None:
        """Take as many rows as have come, if one has come as a whole."""
        behind = len(self._buffer)
        for mark in _MARKS:
            end = behind
            for _ in range(_TRIES):
                end = self._buffer.rfind(mark, behind - behind // 4, end) + 1
                if not end:
                    break
                if rows := self._parsed(end):
                    return self._take(end, rows)
        text = bytes(self._buffer)  # none of the ends was one
        end = _last_end(text)
        return self._take(end, self._parse(b"[" + text[:end] + b"]")) if end else None

    def _parsed(self, end: int) -> list[Any] | None:
        """Return the rows up to there; ``None`` if there is no end: inside of a text or of a list this is not JSON."""
        text = b"".join((b"[", memoryview(self._buffer)[:end], b"]"))
        try:
            rows: list[Any] = orjson.loads(text)
        except ValueError:
            return None
        return self._parse(text) if self._exact else rows

    def _take(self, end: int, rows: list[Any]) -> list[Any]:
        del self._buffer[: self._buffer.index(b",", end) + 1]
        return rows

    def _loads(self, text: bytes) -> Any:  # noqa: ANN401 - JSON
        if self._exact:
            return json.loads(text)
        try:
            return orjson.loads(text)
        except ValueError:
            return json.loads(text)  # NaN and halves of surrogate pairs are nothing to orjson

    def _parse(self, text: bytes) -> Any:  # noqa: ANN401 - JSON
        try:
            return self._loads(text)
        except (ValueError, RecursionError):
            raise PostHogTransportError(
                f"the answer ({self.bytes} bytes) is not JSON: check that the host is PostHog itself"
            ) from None


def _begin(text: bytearray) -> int:
    """Return where the rows begin, just behind the bracket of ``results``; 0 if that is not to be seen."""
    depth, before = 0, [b"", b""]
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == b"[" and depth == 1 and before == [b'"results"', b":"]:
            return match.end()
        if token in (b"{", b"["):
            depth += 1
            if depth == 1 and token == b"[":
                return 0
        elif token in (b"}", b"]"):
            depth -= 1
        before = [before[1], token]
    return 0


def _last_end(text: bytes) -> int:
    """Return where the last row ends that another one follows, however rows are nested; 0 if there is none."""
    depth, end = 0, 0
    for match in _NESTING.finditer(text):
        token = match.group()
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
            if depth == 0 and _BETWEEN_ROWS.match(text, match.start()):
                end = match.end()
            elif depth < 0:
                break
    return end
