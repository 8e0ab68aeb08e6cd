"""An export's file over the wire: in chunks, resumed or restarted where it was cut, proved whole by its size."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urljoin, urlsplit

import requests  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.clients import Client, no_answer
from airflow_provider_posthog.api.exchange import Exchange
from airflow_provider_posthog.api.retry import NoAnswer, RetryPolicy, Wait
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogNotFoundError,
    PostHogTransportError,
)

log = logging.getLogger(__name__)

CHUNK = 1024 * 1024
#: How often in a row a download may be cut without bringing a byte that never came before.
MAX_ATTEMPTS = 5
_MAX_HOPS = 5
#: Servers of some ages say so while the file is being stored; 416: it changed under us.
_PASSING = frozenset({409, 416, 425})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Sink(Protocol):
    """Takes a file's bytes in order."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes."""

    def restart(self) -> None:
        """Forget all bytes: the file comes again from its start."""


@dataclass(frozen=True)
class Received:
    """What was downloaded.

    :param size: how many bytes, as the server counted them where it did.
    :param content_type: the file's type, without parameters.
    """

    size: int
    content_type: str


@dataclass
class _Stream:
    """One response that brings (the rest of) the file."""

    response: requests.Response
    start: int
    total: int | None
    etag: str | None


def download(client: Client, call: Call[bytes], sink: Sink, *, base_wait: float = 0.5) -> Received:
    """Stream a file to a sink, in chunks of 1 MiB at the most.

    A redirect is followed without the key: presigned addresses refuse a second credential, and the storage has no
    business with it. A cut download goes on where it stopped if the storage can (``Range`` and the same ``ETag``),
    else from the start. The presigned address is asked for anew each time, as it expires.

    :param client: the client.
    :param call: the call that answers with the file or with a redirect to it.
    :param sink: where the bytes go.
    :param base_wait: seconds of the first wait after a cut; doubles each time.
    :raises PostHogError: if the file can not be had.
    :raises PostHogIncompleteError: if the server kept cutting it, or sent another size than it announced.
    """
    received = furthest = fruitless = 0
    etag: str | None = None
    while True:
        try:
            stream = _open(client, call, received, etag)
            with stream.response:
                if received and stream.start != received:
                    log.info("The download starts again: the storage does not resume it")
                    sink.restart()
                    received = 0
                etag = stream.etag
                for chunk in _chunks(stream.response):
                    sink.write(chunk)
                    received += len(chunk)
            if stream.total is not None and received != stream.total:
                raise PostHogTransportError(f"{received:,} of {stream.total:,} bytes arrived")
            kind = stream.response.headers.get("Content-Type", "application/octet-stream")
            return Received(received, kind.split(";")[0].strip())
        except PostHogTransportError as error:
            # Only bytes that never came before are progress: a storage that can not resume may cut at 90 % for ever.
            fruitless = 1 if received > furthest else fruitless + 1
            furthest = max(furthest, received)
            if fruitless >= MAX_ATTEMPTS:
                raise PostHogIncompleteError(f"The download of {call.path} was cut again and again: {error}") from error
            wait = base_wait * 2 ** (fruitless - 1)
            log.warning("The download was cut at %s bytes (%s); going on in %.1f s", f"{received:,}", error, wait)
            time.sleep(wait)


def _chunks(response: requests.Response) -> Iterator[bytes]:
    try:
        yield from response.iter_content(CHUNK)
    except requests.RequestException as error:
        raise PostHogTransportError(no_answer(error).reason) from error


def _open(client: Client, call: Call[bytes], offset: int, etag: str | None) -> _Stream:
    """Ask PostHog for the file, follow its redirects, and return the response that carries bytes."""
    exchange = Exchange(call, client.settings, RetryPolicy(max_rate_limit_wait=client.settings.max_rate_limit_wait))
    home = urlsplit(client.settings.base_url).netloc
    headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
    if offset and etag:
        headers |= {"Range": f"bytes={offset}-", "If-Range": etag}
    url = exchange.url
    for _ in range(_MAX_HOPS):
        at_home = urlsplit(url).netloc == home
        response = _ask(client, url, headers, exchange if at_home else None)
        if response.status_code not in _REDIRECTS or not response.headers.get("Location"):
            return _stream(response)
        url = urljoin(url, response.headers["Location"])
        response.close()
    raise PostHogTransportError(f"{call.path} is redirected in circles")


def _ask(client: Client, url: str, headers: Mapping[str, str], exchange: Exchange[bytes] | None) -> requests.Response:
    """Send one request, at PostHog again as its answers ask for; errors never name a presigned address."""
    while True:
        outcome: Answer | NoAnswer
        try:
            response = client.open("GET", url, authorized=exchange is not None, headers=headers)
        except requests.RequestException as error:
            outcome = no_answer(error)
        else:
            if response.status_code < 400:
                return response
            with response:
                found = {name.lower(): value for name, value in response.headers.items()}
                outcome = Answer(response.status_code, found, response.raw.read(65536, decode_content=True) or b"")
        if exchange is None:
            raise _storage_error(outcome)
        if isinstance(outcome, Answer) and outcome.status in _PASSING:
            raise PostHogTransportError(f"PostHog answered {outcome.status}: the file is not ready to be read")
        step = exchange.receive(outcome)
        if isinstance(step, Wait):
            log.info("PostHog %s: %s; next attempt in %.1f s", exchange.call.name, step.reason, step.seconds)
            time.sleep(step.seconds)


def _storage_error(outcome: Answer | NoAnswer) -> PostHogError:
    if isinstance(outcome, NoAnswer):
        return PostHogTransportError(f"the object storage: {outcome.reason}")
    if outcome.status == 404:
        return PostHogNotFoundError(status=404, method="GET", path="the presigned address of the object storage")
    # 401 and 403 too: the address has expired, and the next attempt asks PostHog for a new one.
    return PostHogTransportError(f"the object storage answered {outcome.status}")


def _stream(response: requests.Response) -> _Stream:
    etag = response.headers.get("ETag")
    length = _int(response.headers.get("Content-Length"))
    if response.status_code == 206:
        span, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        start = _int(span.split("-")[0])
        if start is not None:
            return _Stream(response, start, _int(total), etag)
    # A weak ETag does not promise the same bytes.
    strong = etag if etag and not etag.startswith("W/") else None
    return _Stream(response, 0, length if "Content-Encoding" not in response.headers else None, strong)


def _int(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None
