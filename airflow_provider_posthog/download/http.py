"""Download a file over HTTP: in chunks, resumed or restarted after a cut, and proved whole by its size."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import urljoin, urlsplit

from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.exchange import Exchange, host_of
from airflow_provider_posthog.api.keys import REFUSED
from airflow_provider_posthog.api.retry import NoAnswer, RetryPolicy, Wait
from airflow_provider_posthog.api.wire import foreign_encodings, no_answer, read_some
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogNotFoundError,
    PostHogTransportError,
    clean,
)

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

Sleep = Callable[[float], object]

#: The most and the least bytes to read at once (TLS returns no more).
BLOCK = 1024 * 1024
_RECORD = 16 * 1024
#: How many go to the sink at once, at the least, where they come fast enough: handing them over has its price.
_ENOUGH = 256 * 1024
#: Seconds after which what has come goes to the sink, be it ever so little.
_SOON = 0.5
#: How often in a row a download may be cut before it has brought so many bytes that never came before.
MAX_ATTEMPTS = 5
PROGRESS = 64 * 1024
_MAX_HOPS = 5
#: Servers of some ages say so while the file is being stored.
_PASSING = frozenset({409, 425})
#: How S3 calls the way of an upload; some storages hand it on with the file.
_NO_ENCODINGS = frozenset({"", "identity", "aws-chunked"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Sink(Protocol):
    """Takes a file's bytes in order."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""

    def restart(self) -> None:
        """Discard all bytes: the file comes again from its start."""


@dataclass(frozen=True)
class Received:
    """A downloaded file.

    :param size: how many bytes, as the server counted them where it did.
    :param content_type: the file's type, without parameters.
    """

    size: int
    content_type: str


class StoredFileGoneError(PostHogNotFoundError):
    """PostHog redirects to a file that the object storage does not have any more."""

    def __init__(self) -> None:
        super().__init__(status=404, method="GET", path="the presigned address of the object storage")


class _NotResumedError(PostHogTransportError):
    """The storage cannot continue the same file: it has to be downloaded from its start."""


@dataclass
class _Stream:
    """One response that brings (the rest of) the file."""

    response: requests.Response
    start: int
    total: int | None
    etag: str | None

    def whole(self, received: int) -> Received:
        """Return the downloaded file, if all of it has arrived."""
        if self.total is not None and received != self.total:
            raise PostHogTransportError(f"{received:,} of {self.total:,} bytes arrived")
        kind = self.response.headers.get("Content-Type", "application/octet-stream")
        return Received(received, kind.split(";")[0].strip().lower())


def download(
    client: Client, call: Call[bytes], sink: Sink, *, base_wait: float = 0.5, sleep: Sleep = time.sleep
) -> Received:
    """Stream a file to a sink, in blocks of less than 2 MiB.

    A redirect is followed without the key: presigned addresses refuse a second credential, and the storage has no
    business with it. A cut download goes on at the very byte if the storage can (``Range`` and the same ``ETag``),
    else from the start. The presigned address is asked for anew each time, as it expires.

    :param client: the client.
    :param call: the call that answers with the file or with a redirect to it.
    :param sink: where the bytes go.
    :param base_wait: seconds of the first wait after a cut; doubles each time.
    :param sleep: waits so many seconds after a cut, or raises if the work was stopped meanwhile.
    :raises PostHogError: if the file cannot be had.
    :raises PostHogIncompleteError: if the server kept cutting it, sent another size than it announced, or gives no way
        to tell where the file ends.
    :raises PostHogTransportError: if no byte of it ever came.
    """
    received = 0
    etag: str | None = None
    patience = _Patience(base_wait, sleep)
    while True:
        try:
            stream = _opened(client, call, received, etag)
            with stream.response:
                if received and stream.start != received:
                    log.info("The download starts again: the storage does not resume it")
                    sink.restart()
                    received = 0
                etag = stream.etag
                for block in _blocks(stream.response):
                    sink.write(block)
                    received += len(block)
            return stream.whole(received)
        except PostHogTransportError as error:
            if isinstance(error, _NotResumedError):
                etag = None
            patience.wait(call, received, error)


class _Patience:
    """Waits between attempts, and gives up after :data:`MAX_ATTEMPTS` in a row that brought (next to) nothing new.

    Only bytes that never came before are progress: a storage that cannot resume may cut at 90 % for ever. Nor may it
    bring a file byte by byte.

    :param base_wait: seconds of the first wait; doubles until there is progress.
    :param sleep: waits so many seconds.
    """

    def __init__(self, base_wait: float, sleep: Sleep) -> None:
        self._base_wait = base_wait
        self._sleep = sleep
        self._furthest = 0
        self._counted = 0
        self._fruitless = 0

    def wait(self, call: Call[bytes], received: int, error: PostHogTransportError) -> None:
        """Wait after a cut.

        :param call: the call.
        :param received: how many bytes are there.
        :param error: what happened.
        """
        self._furthest = max(self._furthest, received)
        self._fruitless += 1
        if self._furthest >= self._counted + PROGRESS:
            self._counted, self._fruitless = self._furthest, 1
        if self._fruitless >= MAX_ATTEMPTS:
            kind = PostHogIncompleteError if self._furthest else PostHogTransportError
            raise kind(f"The download of {call.path} was given up after repeated cuts: {error}") from error
        seconds = self._base_wait * 2 ** (self._fruitless - 1)
        log.warning("The download was cut at %s bytes (%s); going on in %.1f s", f"{received:,}", error, seconds)
        self._sleep(seconds)


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Yield the file's bytes as they come, small pieces joined; a cut loses none of them."""
    pieces: list[bytes] = []
    size, ask, since = 0, _RECORD, time.monotonic()
    piece, broken = b"?", None
    while piece:
        try:
            piece = read_some(response, ask)
        except OSError as error:
            piece, broken = b"", error
        pieces.append(piece)
        size += len(piece)
        ask = min(max(2 * len(piece), _RECORD), BLOCK)  # room for all of it is made each time
        if size and (not piece or size >= _ENOUGH or time.monotonic() - since > _SOON):
            yield b"".join(pieces)
            pieces, size, since = [], 0, time.monotonic()
    if broken is not None:
        raise PostHogTransportError(_no_answer(broken).reason) from broken


def _no_answer(error: OSError) -> NoAnswer:
    return no_answer(cast("requests.RequestException", error))  # these are OSErrors, and nothing else arises here


def _opened(client: Client, call: Call[bytes], offset: int, etag: str | None) -> _Stream:
    """Open the file as :func:`_open` does; once more if the key was refused, and the connection has another one now."""
    refused = client.settings
    try:
        return _open(client, call, offset, etag)
    except REFUSED as error:
        if not client.has_new_key(refused, error):
            raise
    return _open(client, call, offset, etag)


def _open(client: Client, call: Call[bytes], offset: int, etag: str | None) -> _Stream:
    """Ask PostHog for the file, follow its redirects, and return the response that carries bytes."""
    policy = RetryPolicy(max_rate_limit_wait=client.settings.max_rate_limit_wait)
    home = _origin(client.settings.base_url)
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if offset and etag:
        headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
    with closing(Exchange(call, client.settings, policy)) as exchange:
        url = exchange.url
        for _ in range(_MAX_HOPS):
            response = _ask(client, url, headers, exchange if _origin(url) == home else None)
            status, location = response.status_code, response.headers.get("Location")
            if status in (200, 206):
                return _stream(response, offset, etag)
            response.close()
            if status not in _REDIRECTS or not location:
                raise PostHogTransportError(f"{call.path} was answered {status}, without a file")
            url = urljoin(url, location)
    raise PostHogTransportError(f"{call.path} is redirected in circles")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Return what the key may be sent to: the scheme (never http in place of https), the host and the port."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        raise PostHogTransportError("the redirect leads to no address that can be read") from None


def _ask(client: Client, url: str, headers: Mapping[str, str], exchange: Exchange[bytes] | None) -> requests.Response:
    """Send one request, at PostHog again as its answers ask for; errors never name a presigned address."""
    while True:
        while exchange is not None and (pause := exchange.pause()):
            time.sleep(pause)
        outcome = _asked(client, url, headers, authorized=exchange is not None)
        if not isinstance(outcome, (Answer, NoAnswer)):
            return outcome
        if exchange is None:
            raise _storage_error(outcome, host_of(url))
        if isinstance(outcome, NoAnswer) and outcome.sent:  # begun anew by the download, which counts its attempts
            raise PostHogTransportError(f"PostHog: {outcome.reason}, at {host_of(url)}")
        if isinstance(outcome, Answer) and outcome.status == 416:
            raise _NotResumedError("PostHog answered 416")
        if isinstance(outcome, Answer) and outcome.status in _PASSING:
            raise PostHogTransportError(f"PostHog answered {outcome.status}: the file is not ready to be read")
        step = exchange.receive(outcome)
        if isinstance(step, Wait):
            log.info("PostHog %s: %s; next attempt in %.1f s", exchange.call.name, step.reason, step.seconds)
            time.sleep(step.seconds)


def _asked(
    client: Client, url: str, headers: Mapping[str, str], *, authorized: bool
) -> requests.Response | Answer | NoAnswer:
    """Send one request; return its response, whose body is unread, or what there is in its place."""
    try:
        response = client.open("GET", url, authorized=authorized, headers=headers)
    except OSError as error:
        return _no_answer(error)
    if response.status_code < 400:
        return response
    with response:
        lowered = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, lowered, _beginning(response))


def _beginning(response: requests.Response) -> bytes:
    """Read the body of an error; if it is cut, the status is enough."""
    try:
        return next(response.iter_content(65536), b"")
    except OSError:
        return b""


def _storage_error(outcome: Answer | NoAnswer, host: str) -> PostHogError:
    if isinstance(outcome, NoAnswer):
        return PostHogTransportError(f"the object storage: {outcome.reason}, at {host}")
    if outcome.status == 404:
        return StoredFileGoneError()
    if outcome.status == 416:
        return _NotResumedError("the object storage answered 416: the file is shorter than it was")
    # 401 and 403 too: the address has expired, and the next attempt asks PostHog for a new one.
    return PostHogTransportError(f"the object storage answered {outcome.status}")


def _stream(response: requests.Response, offset: int, expected_etag: str | None) -> _Stream:
    """Return where the bytes of a response belong, and refuse any others.

    :param offset: the first byte that was asked for, if ``expected_etag`` is given.
    :param expected_etag: the ETag that the file has to have for its rest to fit to what is there.
    """
    etag = response.headers.get("ETag")
    length = _int(response.headers.get("Content-Length"))
    encoded = _encoded(response)
    if response.status_code == 206:
        span = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        # A storage that minds the range but not the condition would put two files together.
        if (
            span is None
            or encoded
            or int(span[1]) != (offset if expected_etag else 0)
            or (expected_etag and etag != expected_etag)
        ):
            response.close()
            raise _NotResumedError("the storage sent another part than was asked for")
        start, total, resumable = int(span[1]), _int(span[2]), bool(expected_etag)
        if total is None:  # nobody could tell whether this part is the last one
            response.close()
            raise _NotResumedError("the storage sent a part and does not say of how many bytes")
    else:
        # A weak ETag does not promise the same bytes, and a range of an encoded file counts encoded bytes.
        start, total, resumable = 0, None if encoded else length, not encoded and not (etag or "W/").startswith("W/")
    if total is None and length is None and "chunked" not in response.headers.get("Transfer-Encoding", "").lower():
        response.close()
        raise PostHogIncompleteError(
            "The file comes without Content-Length and not in chunks, so it cannot be proved that all of it arrived. "
            "Something between here and the storage (a proxy?) takes the length away."
        )
    return _Stream(response, start, total, etag if resumable else None)


def _encoded(response: requests.Response) -> bool:
    """Return whether the body has to be unpacked; refuse encodings that cannot be unpacked here."""
    named = {word.strip().lower() for word in response.headers.get("Content-Encoding", "").split(",")} - _NO_ENCODINGS
    if foreign := foreign_encodings(named):
        response.close()
        raise PostHogIncompleteError(
            f"The file comes packed as {clean(', '.join(sorted(foreign)))}, though it was asked for as it is, and what "
            "is installed here cannot unpack that. Install urllib3[brotli,zstd], or let the proxy leave it alone."
        )
    return bool(named)


def _int(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None
