"""The sockets of the workers' client (requests): know whether a request was sent, and when to stop waiting.

requests offers neither: it reports a lost answer behind a proxy as the proxy's fault, and its timeouts are per read, so
that an answer of a byte at a time blocks a worker for ever.
"""

from __future__ import annotations

import io
import math
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from http.client import HTTPResponse, parse_headers
from typing import TYPE_CHECKING, Any

import requests  # noqa: TID253 - this module is imported when a task runs
import urllib3
from requests.adapters import HTTPAdapter  # noqa: TID253

from airflow_provider_posthog.api.body import Pace
from airflow_provider_posthog.api.retry import NoAnswer

if TYPE_CHECKING:
    import socket

# TLS failures of the handshake; any other may come after the request was sent.
NO_HANDSHAKE = re.compile(r"(?i)certificate|hostname|unsupported_protocol|protocol_version|handshake_fail")
#: Errors of an address, a key or a proxy's address, raised before anything is sent.
_CANNOT_BE_SENT = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.URLRequired,
    requests.exceptions.UnrewindableBodyError,
    requests.exceptions.InvalidHeader,
)
#: What happens before a connection is there.
_NO_CONNECTION = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
#: How many interim answers (status 1xx) are skipped.
_MOST_PROMISES = 20
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


class Going:
    """The state of one request on its way.

    :param until: when to stop waiting for its answer, by :func:`time.monotonic`.
    """

    def __init__(self, until: float = math.inf) -> None:
        self.until = until
        self.sent = False


class NotAnsweredError(requests.RequestException):
    """A request that brought no answer.

    :param outcome: what happened.
    """

    def __init__(self, outcome: NoAnswer) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


_here = threading.local()


@contextmanager
def going(until: float) -> Iterator[Going]:
    """Track a request in this thread.

    :param until: when to stop waiting for its answer, by :func:`time.monotonic`.
    """
    before = getattr(_here, "going", None)
    _here.going = request = Going(until)
    try:
        yield request
    finally:
        _here.going = before


def _going() -> Going:
    return getattr(_here, "going", None) or Going()


class _PacedIO(io.RawIOBase):
    """Reads from a socket until the time is up, and only while enough bytes arrive."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self._raw = raw
        self._socket = sock
        self._each = self._set = sock.gettimeout() or math.inf
        self._until = _going().until
        self._pace = Pace(self._each)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - as RawIOBase's
        before = time.monotonic()
        seconds = min(self._each, self._until - before)
        if seconds <= 0:
            raise TimeoutError("the time is up")
        if seconds != self._set:
            self._set = seconds
            self._socket.settimeout(seconds)
        size: int | None = self._raw.readinto(buffer)
        self._pace.came(size or 0, time.monotonic() - before)
        return size

    def close(self) -> None:
        self._raw.close()
        super().close()


class _PacedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as HTTPResponse's
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_PacedIO(self.fp.detach(), sock))

    def _read_status(self) -> tuple[str, int, str]:
        """Read the first line of the answer, after interim ones (http.client skips only 100)."""
        status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        for _ in range(_MOST_PROMISES):
            if not 102 <= status[1] < 200:
                break
            parse_headers(self.fp)
            status = super()._read_status()  # type: ignore[misc]
        return status


class _Noting:
    """Mixed into a connection's class: records when the request itself is sent, after TLS and proxy handshakes."""

    response_class = _PacedResponse
    _greeting = False

    def connect(self) -> None:
        self._greeting = True
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self._greeting = False

    def send(self, data: Any) -> None:  # noqa: ANN401 - as http.client's
        if self.sock is None:  # type: ignore[attr-defined]
            self.connect()
        if not self._greeting:
            _going().sent = True
        super().send(data)  # type: ignore[misc]


class WireAdapter(HTTPAdapter):
    """The adapter whose connections behave as this module describes, also through proxies of all kinds."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as HTTPAdapter's
        """Create the pool manager."""
        super().init_poolmanager(*args, **kwargs)
        _note(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: ANN401 - as HTTPAdapter's
        """Return the pool manager of a proxy.

        :param proxy: its address.
        :param kwargs: as HTTPAdapter's.
        """
        manager = super().proxy_manager_for(proxy, **kwargs)
        _note(manager)
        return manager


def _note(manager: Any) -> None:  # noqa: ANN401 - urllib3's PoolManager
    pools = manager.pool_classes_by_scheme
    manager.pool_classes_by_scheme = {scheme: _noting(pool) for scheme, pool in pools.items()}


@cache
def _noting(pool: type) -> type:
    connection = pool.ConnectionCls  # type: ignore[attr-defined]
    if issubclass(connection, _Noting):
        return pool
    return type(pool.__name__, (pool,), {"ConnectionCls": type(connection.__name__, (_Noting, connection), {})})


class PlainSession(requests.Session):
    """A session that leaves redirects alone in a client's calls.

    requests reads their bodies even where it does not follow them, however large.
    """

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where an answer redirects to; ``None`` in a client's calls.

        :param resp: the answer.
        """
        return None if getattr(_here, "going", None) else super().get_redirect_target(resp)


@contextmanager
def errors_of_requests() -> Iterator[None]:
    """Raise urllib3's errors of reading as requests does.

    :raises requests.RequestException: in their place.
    """
    try:
        yield
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(error) from error
    except urllib3.exceptions.DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except urllib3.exceptions.SSLError as error:
        raise requests.exceptions.SSLError(error) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error


def read_some(response: requests.Response, most: int) -> bytes:
    """Read what has arrived of a body, unpacked; wait only if nothing has; empty at its end.

    ``iter_content`` waits until its chunk is full, and loses what has arrived if the connection breaks meanwhile.

    :param response: the response, whose body was not read otherwise.
    :param most: how many bytes at the most.
    :raises requests.RequestException: if the rest does not arrive.
    """
    with errors_of_requests():
        piece: bytes = response.raw.read1(most, decode_content=True)
    return piece


def size_of(response: requests.Response) -> str:
    """Return the ``Content-Length`` of a body; empty if there is none.

    :param response: the response.
    :raises requests.RequestException: if it is not a number, or there are two.
    """
    # urllib3 reads to the end of the connection if the length is not a number: a cut would look like the end.
    size, *others = (part.strip() for part in response.headers.get("Content-Length", "").split(","))
    if not (size or "0").isdecimal() or set(others) - {size}:
        raise requests.exceptions.InvalidHeader(urllib3.exceptions.InvalidHeader("Content-Length"))
    return size


def foreign_encodings(named: Iterable[str]) -> set[str]:
    """Return those ``Content-Encoding`` s that cannot be unpacked here: the bytes would come as they are.

    :param named: in small letters.
    """
    return set(named).difference(urllib3.response.HTTPResponse.CONTENT_DECODERS)


def no_answer(error: requests.RequestException, *, sent: bool | None = None) -> NoAnswer:
    """Return what an error of requests means, and whether the server may have received the request.

    Unless it is certain that the request was not sent, it counts as sent: a job is then searched for, not started
    again.

    :param error: the error.
    :param sent: whether the request went out, if known; otherwise it follows from the kind of error.
    """
    if isinstance(error, NotAnsweredError):
        return error.outcome
    cause = _of_kind(error)
    if sent is None or sent == cause.sent:
        return cause
    if sent:
        reason = "the answer cannot be read" if isinstance(error, _CANNOT_BE_SENT) else cause.reason
        return replace(cause, reason=reason, sent=True, lasting=False)
    return replace(cause, sent=False, reason=_BEFORE.get(cause.reason) or _unsendable(error))


def _unsendable(error: Exception) -> str:
    return f"the request cannot be sent ({type(error).__name__}): see the connection's host and proxy"


_SLOW = "no answer in time"
_CUT = "the connection was cut before the whole answer arrived"
_NO_HTTP = "what answered does not speak HTTP"
#: The wording for the same errors when they come before the request was sent.
_BEFORE = {
    _SLOW: "no connection in time",
    _CUT: "the connection was closed before the request could be sent",
    "the TLS connection broke": "no TLS connection (the greeting was cut)",
    _NO_HTTP: "the proxy does not speak HTTP: see the connection's proxy",
}


def _of_kind(error: requests.RequestException) -> NoAnswer:
    cause = error.args[0] if error.args else None
    reason = getattr(cause, "reason", None)
    if isinstance(error, requests.exceptions.ProxyError):
        return _of_proxy(getattr(reason or cause, "original_error", None))
    if isinstance(error, requests.exceptions.SSLError):
        if "WRONG_VERSION_NUMBER" in str(reason or error):
            return NoAnswer(
                "what answered does not speak TLS (begin the host with http:// if it has none)",
                sent=False,
                lasting=True,
            )
        if not NO_HANDSHAKE.search(str(reason or error)):
            return NoAnswer("the TLS connection broke", sent=True)
        why = f"no trusted TLS connection ({type(error).__name__}): see the connection's verify"
        return NoAnswer(why, sent=False, lasting=True)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return NoAnswer("no connection in time", sent=False)
    if isinstance(error, requests.exceptions.Timeout):
        return NoAnswer(_SLOW, sent=True)
    if isinstance(error, requests.exceptions.ConnectionError):
        if isinstance(reason or cause, urllib3.exceptions.NameResolutionError):
            return NoAnswer("no connection (DNS knows no such host)", sent=False)
        if isinstance(reason or cause, urllib3.exceptions.NewConnectionError):
            return NoAnswer("no connection (refused)", sent=False)
        return NoAnswer(_no_http(cause) or _CUT, sent=True)
    return _of_answer(error, cause)


def _of_answer(error: requests.RequestException, cause: object) -> NoAnswer:
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return NoAnswer("the connection was cut in the middle of the answer", sent=True)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return NoAnswer("the answer cannot be decoded", sent=True)
    if isinstance(error, requests.exceptions.InvalidHeader) and isinstance(cause, urllib3.exceptions.HTTPError):
        return NoAnswer("the answer's headers contradict each other", sent=True)  # two lengths
    if isinstance(error, _CANNOT_BE_SENT):
        return NoAnswer(_unsendable(error), sent=False, lasting=True)
    return NoAnswer(f"the answer cannot be read ({type(error).__name__})", sent=True)


def _of_proxy(original: object) -> NoAnswer:
    """Return what a proxy's error means: urllib3 reports every fault behind a proxy as one."""
    refused = _TUNNEL.search(str(original))
    if refused:
        return NoAnswer(
            f"the proxy refuses to connect (status {refused[1]}): see the connection's proxy",
            sent=False,
            lasting=refused[1] in ("401", "403", "407"),
        )
    if isinstance(original, _NO_CONNECTION):
        return NoAnswer("the proxy cannot be reached: see the connection's proxy", sent=False)
    if isinstance(original, urllib3.exceptions.SSLError) and NO_HANDSHAKE.search(str(original)):
        return NoAnswer(
            "no trusted TLS connection with the proxy: see the connection's proxy", sent=False, lasting=True
        )
    if isinstance(original, (urllib3.exceptions.TimeoutError, TimeoutError)):
        return NoAnswer(_SLOW, sent=True)
    return NoAnswer(_CUT, sent=True)


def _no_http(cause: object) -> str:
    """Return whether something answered that speaks no HTTP."""
    broken = cause.args[1] if isinstance(cause, urllib3.exceptions.ProtocolError) and len(cause.args) > 1 else None
    odd = type(broken).__name__ in ("BadStatusLine", "UnknownProtocol", "LineTooLong", "HTTPException")
    return _NO_HTTP if odd else ""
