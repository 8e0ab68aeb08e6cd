"""The body of an answer to the workers' client (requests): read as a whole, or as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from airflow_provider_posthog.api.body import Arriving, Body
from airflow_provider_posthog.api.byte_budget import BudgetHeaders
from airflow_provider_posthog.api.call import Answer
from airflow_provider_posthog.api.wire import errors_of_requests, size_of
from airflow_provider_posthog.exceptions import PostHogError

if TYPE_CHECKING:
    import requests

T = TypeVar("T")
#: Reads a body, of at most so many bytes; calls its last argument when a good answer has begun.
BodyOf = Callable[["requests.Response", "int | None", Callable[[], None]], bytes]

#: Bytes of a body that are read at once, if its size is not known; and the most, whatever its size.
_PIECE, _MOST_AT_ONCE = 1024 * 1024, 64 * 1024 * 1024
#: Bytes of a body that are read at once where it is not held as a whole.
_STREAMED = 128 * 1024


class Taking(Generic[T]):
    """Reads the bodies of good answers as they arrive; those of errors are read as a whole.

    :param take: reads a good one.
    """

    def __init__(self, take: Callable[[Arriving], T]) -> None:
        self._take = take
        self._taken: list[T] = []
        self._error: PostHogError | None = None

    def body(self, response: requests.Response, most: int | None, began: Callable[[], None]) -> bytes:
        """Read a body as it arrives, unless it is that of an error.

        :param response: the response.
        :param most: how many bytes it may have, unpacked.
        :param began: is called for a good answer, before it is read.
        """
        self._taken.clear()
        if not 200 <= response.status_code < 300:
            return held(response, most, began)
        began()
        pieces = _pieces(response, most, _STREAMED)
        try:
            read = BudgetHeaders.of(response.headers).read
            self._taken.append(self._take(Arriving(pieces, response.elapsed.total_seconds(), read)))
        except PostHogError as error:
            self._error = error
            return b""
        for _ in pieces:  # the rest may be cut, too
            pass
        return b""

    def value(self, answer: Answer) -> T:
        """Return the value that was read.

        :param answer: the answer, without its body.
        :raises PostHogError: what was raised while it was read.
        """
        if self._error is not None:
            raise self._error
        return self._taken.pop()


def held(response: requests.Response, most: int | None, began: Callable[[], None]) -> bytes:
    """Read a whole body.

    Joining pieces costs as much as parsing them, so a body of known size is read at once.

    :param response: the response.
    :param most: how many bytes it may have, unpacked.
    :param began: is not called: the query counts until its whole answer is there.
    """
    size = size_of(response)
    piece = max(_PIECE, min(int(size), _MOST_AT_ONCE)) if size.isdecimal() and len(size) < 12 else _PIECE
    body = Body(response.headers.get("Content-Encoding", ""), most)
    with errors_of_requests():
        for raw in response.raw.stream(piece, decode_content=False):
            for _ in body.feed(raw):
                pass
    return body.value()


def _pieces(response: requests.Response, most: int | None, piece: int) -> Iterator[bytes]:
    """Yield a body as it arrives, unpacked."""
    size_of(response)
    body = Body(response.headers.get("Content-Encoding", ""), most)
    with errors_of_requests():
        for raw in response.raw.stream(piece, decode_content=False):
            for _ in body.feed(raw):
                if taken := body.take():
                    yield taken
    if rest := body.value():
        yield rest
