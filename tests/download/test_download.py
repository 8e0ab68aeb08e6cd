"""Downloads over two hops that are cut, redirected, refused, changed and lied to."""

from __future__ import annotations

import gzip
import random
import socket
import threading
import time
import traceback
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.download.http import BLOCK, MAX_ATTEMPTS, PROGRESS, Received, download
from airflow_provider_posthog.exceptions import (
    PostHogAuthenticationError,
    PostHogError,
    PostHogIncompleteError,
    PostHogNotFoundError,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogTransportError,
)
from tests.download.conftest import KEY, Sink, redirect
from tests.download.storage import Storage, Turn
from tests.support.fixtures import Certificates
from tests.support.scripted import Reply, ScriptedServer, cut, error

FILE = random.Random(5).randbytes(300_000)
OTHER = random.Random(6).randbytes(280_000)
WHOLE = Turn(FILE)
Fetch = Callable[..., Received]
MakeStorage = Callable[..., Storage]


def no_secret(found: pytest.ExceptionInfo[PostHogError]) -> bool:
    """Airflow logs the whole traceback, with all that an error was raised from."""
    told = "".join(traceback.format_exception(found.value))
    return "5ec7e7" not in told and KEY not in told


def test_whole(stored: MakeStorage, server: ScriptedServer, fetch: Fetch, sink: Sink) -> None:
    storage = stored(replace(WHOLE, headers={"Content-Type": "Text/CSV; charset=utf-8"}))
    assert fetch() == Received(len(FILE), "text/csv")
    assert sink.data == FILE
    assert len(storage.requests) == 1
    assert server.requests[0].path == "/api/projects/1/exports/5/content/?download=true"


@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_blocks_are_bounded(stored: MakeStorage, fetch: Fetch, sink: Sink, framing: Any) -> None:
    stored(Turn(FILE * 30, framing=framing))
    fetch()
    assert sink.data == FILE * 30
    assert sink.largest < 2 * BLOCK
    assert sink.writes < 60


def test_what_comes_slowly_is_not_kept_back(server: ScriptedServer, fetch: Fetch) -> None:
    """A task that is told to stop must not wait for a whole block."""
    drip = Drip()
    server.script(redirect(f"http://127.0.0.1:{drip.port}/file"))
    with drip:
        fetch(sink=drip)
    assert drip.data == b"a" * 5000 + b"b" * 5000
    assert drip.first_size < 5000


class Drip:
    """A slow storage, which sends the rest of its file once the first bytes have reached the sink: that is it too."""

    def __init__(self) -> None:
        self.data = b""
        self.first_size = 0
        self._first = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def write(self, chunk: bytes) -> None:
        self.data += chunk
        self.first_size = self.first_size or len(chunk)
        self._first.set()

    def restart(self) -> None:
        raise AssertionError("nothing was cut")

    def __enter__(self) -> Drip:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
            left = 5000
            while left and not self._first.wait(0.1):
                connection.sendall(b"a" * 100)
                left -= 100
            connection.sendall(b"a" * left + b"b" * 5000)


def test_without_a_redirect(server: ScriptedServer, fetch: Fetch, sink: Sink) -> None:
    server.script(Reply(200, {"Content-Type": "text/csv"}, FILE))
    fetch()
    assert sink.data == FILE


def test_an_empty_file(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    stored(Turn(b""))
    assert fetch().size == 0


# ---- the key


def test_the_storage_never_sees_the_key(stored: MakeStorage, server: ScriptedServer, fetch: Fetch) -> None:
    storage = stored(replace(WHOLE, stop=9000), WHOLE)
    fetch()
    assert [request.headers["authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 2
    assert len(storage.requests) == 2
    assert not any("authorization" in request or "cookie" in request for request in storage.requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_same_origin_sees_the_key(server: ScriptedServer, fetch: Fetch, sink: Sink, status: int) -> None:
    server.script(redirect("/elsewhere/", status), Reply(200, {}, FILE))
    fetch()
    assert sink.data == FILE
    assert server.requests[1].path == "/elsewhere/"
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"


def test_the_same_host_in_other_words_sees_the_key(server: ScriptedServer, fetch: Fetch, sink: Sink) -> None:
    server.script(redirect(f"http://127.0.0.1:{server.port}/elsewhere/"), Reply(200, {}, FILE))
    fetch(base_url=f"HTTP://127.0.0.1:{server.port}")
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"


def test_another_port_of_the_host_does_not(
    server: ScriptedServer, make_server: Callable[..., ScriptedServer], fetch: Fetch
) -> None:
    other = make_server(Reply(200, {}, FILE))
    server.script(redirect(f"{other.url}/x"))
    fetch()
    assert "authorization" not in other.requests[0].headers


def test_http_in_place_of_https_does_not(certificates: Certificates, sink: Sink) -> None:
    """The same host and port, but in clear: whoever listens on the way would have the key."""
    with TwoFaced(certificates) as server:
        settings = ClientSettings(f"https://127.0.0.1:{server.port}", KEY, 1, verify=certificates.ca_file)
        with Client(settings) as client:
            download(client, exports.content(5), sink, base_wait=0.01)
    assert sink.data == FILE
    assert KEY.encode() in server.heard["https"]
    assert server.heard["http"].startswith(b"GET /in-clear HTTP/1.1")
    assert b"uthorization" not in server.heard["http"]


class TwoFaced:
    """Speaks TLS and plain HTTP on one port: redirects from the one to the other, where the file is."""

    def __init__(self, certificates: Certificates) -> None:
        self.heard: dict[str, bytes] = {}
        self._context = certificates.context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> TwoFaced:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(5)
        self._socket.close()

    def _serve(self) -> None:
        for face in ("https", "http"):
            connection, _ = self._socket.accept()
            connection.settimeout(5)
            if face == "https":
                connection = self._context.wrap_socket(connection, server_side=True)
            self.heard[face] = connection.recv(65536)
            away = (
                b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/in-clear\r\nContent-Length: 0\r\n\r\n" % self.port
            )
            file = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(FILE), FILE)
            connection.sendall(away if face == "https" else file)
            connection.close()


# ---- cuts


@pytest.mark.parametrize("stops", [[0], [1], [150_000], [299_999], [100, 200_000, 290_000], [100_000] * 3 + [250_000]])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("ranges", [True, False])
def test_cuts_at_the_storage(
    stored: MakeStorage, fetch: Fetch, sink: Sink, stops: list[int], framing: str, ranges: bool
) -> None:
    turn = replace(WHOLE, framing=framing, ranges=ranges)
    storage = stored(*(replace(turn, stop=stop) for stop in stops), turn)
    assert fetch().size == len(FILE)
    assert sink.data == FILE
    assert len(storage.requests) == len(stops) + 1
    resumed = [request for request in storage.requests if "range" in request]
    assert len(resumed) == sum(1 for number, _ in enumerate(stops) if any(stops[: number + 1]))
    assert all(request["if-range"] == '"one"' for request in resumed)
    assert bool(sink.restarts) == (not ranges and any(stops))


def test_a_storage_that_falls_silent(
    stored: MakeStorage, fetch: Fetch, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    storage = stored(replace(WHOLE, stop=100_001, silence=1.5), WHOLE)
    fetch(read_timeout=0.3)
    assert sink.data == FILE
    assert storage.requests[1]["range"] == "bytes=100001-"
    assert "no answer in time" in caplog.text


def test_dropped_before_an_answer(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    stored(Turn(drop=True), replace(WHOLE, stop=5000), Turn(drop=True), Turn(drop=True), WHOLE)
    fetch()
    assert sink.data == FILE
    assert sink.restarts == 0


@pytest.mark.parametrize("where", ["before", "after", "headers"])
def test_cuts_at_posthog(stored: MakeStorage, server: ScriptedServer, fetch: Fetch, sink: Sink, where: str) -> None:
    storage = stored(replace(WHOLE, stop=131_077), WHOLE)
    away = Reply(302, {"Location": storage.url}, cut=where)  # type: ignore[arg-type]
    server.script(away, redirect(storage.url), away, redirect(storage.url))
    fetch()
    assert sink.data == FILE
    assert [request.get("range") for request in storage.requests][-1] == "bytes=131077-"


@pytest.mark.parametrize("where", ["headers", "body", "chunk"])
@pytest.mark.parametrize("status", [200, 302, 503])
def test_cuts_in_the_middle_of_posthogs_answer(
    stored: MakeStorage, server: ScriptedServer, fetch: Fetch, sink: Sink, where: str, status: int
) -> None:
    storage = stored(WHOLE)
    headers = {"Location": storage.url} if status == 302 else {}
    server.script(Reply(status, headers, b"<html>", cut=where), redirect(storage.url))  # type: ignore[arg-type]
    fetch()
    assert sink.data == FILE


@pytest.mark.parametrize("ranges", [True, False])
def test_cut_at_the_same_byte_for_ever(stored: MakeStorage, fetch: Fetch, sink: Sink, ranges: bool) -> None:
    storage = stored(replace(WHOLE, stop=200_000, ranges=ranges))
    with pytest.raises(PostHogIncompleteError) as found:
        fetch()
    assert len(storage.requests) == MAX_ATTEMPTS
    assert no_secret(found)


@pytest.mark.parametrize("step", [PROGRESS, PROGRESS // 4 + 1])
def test_progress_after_every_cut_is_not_counted_as_failure(
    stored: MakeStorage, fetch: Fetch, sink: Sink, step: int
) -> None:
    turn = Turn(FILE * 3)
    stops = range(step, len(turn.content), step)
    assert len(stops) > 2 * MAX_ATTEMPTS
    stored(*(replace(turn, stop=stop) for stop in stops), turn)
    fetch()
    assert sink.data == turn.content
    assert sink.restarts == 0


def test_byte_by_byte_is_no_progress(stored: MakeStorage, fetch: Fetch) -> None:
    storage = stored(*(replace(WHOLE, stop=stop) for stop in range(1, 100)))
    with pytest.raises(PostHogIncompleteError):
        fetch()
    assert len(storage.requests) == MAX_ATTEMPTS


def test_never_a_byte(stored: MakeStorage, fetch: Fetch) -> None:
    storage = stored(Turn(drop=True))
    with pytest.raises(PostHogTransportError) as found:
        fetch()
    assert len(storage.requests) == MAX_ATTEMPTS
    assert no_secret(found)


def test_a_storage_that_is_not_there(server: ScriptedServer, fetch: Fetch, make_server: Fetch) -> None:
    server.script(redirect(f"{make_server(listen=False).url}/x?X-Amz-Signature=5ec7e7"))  # type: ignore[attr-defined]
    with pytest.raises(PostHogTransportError, match="object storage: no connection") as found:
        fetch()
    assert no_secret(found)


# ---- what is not a file, or not the one


def test_more_is_announced_than_comes(stored: MakeStorage, fetch: Fetch) -> None:
    stored(replace(WHOLE, lie=1000, ranges=False))
    with pytest.raises(PostHogIncompleteError):
        fetch()


def test_more_is_announced_once(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    stored(replace(WHOLE, lie=1000, etag=None), WHOLE)
    assert fetch().size == len(FILE)
    assert sink.data == FILE


def test_chunks_without_end(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    stored(replace(WHOLE, framing="chunks", stop=len(FILE), ranges=False))
    with pytest.raises(PostHogIncompleteError):
        fetch()


def test_neither_length_nor_chunks(stored: MakeStorage, fetch: Fetch) -> None:
    """The end of the connection is all there is: a cut file would look whole."""
    stored(replace(WHOLE, framing="nothing", stop=100_000))
    with pytest.raises(PostHogIncompleteError, match="Content-Length"):
        fetch()


@pytest.mark.parametrize("status", [202, 204, 302, 304])
def test_a_status_without_a_file(server: ScriptedServer, fetch: Fetch, sink: Sink, status: int) -> None:
    """An empty answer is not an empty file."""
    server.script(Reply(status))
    with pytest.raises(PostHogTransportError, match=str(status)):
        fetch()
    assert server.attempts == MAX_ATTEMPTS


def test_the_file_changes_between_attempts(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    stored(replace(WHOLE, stop=150_000), Turn(OTHER, etag='"two"'))
    assert fetch().size == len(OTHER)
    assert sink.data == OTHER
    assert sink.restarts == 1


def test_it_changes_and_the_storage_does_not_mind(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    """Two files' bytes must not be put together, whatever the storage thinks of ``If-Range``."""
    stored(replace(WHOLE, stop=150_000), Turn(OTHER, etag='"two"', minds_etag=False))
    fetch()
    assert sink.data == OTHER


@pytest.mark.parametrize("shift", [-10, 10])
def test_another_part_than_was_asked_for(stored: MakeStorage, fetch: Fetch, sink: Sink, shift: int) -> None:
    stored(replace(WHOLE, stop=150_000), replace(WHOLE, shift=shift), WHOLE)
    fetch()
    assert sink.data == FILE


def test_a_part_that_does_not_say_which(stored: MakeStorage, server: ScriptedServer, fetch: Fetch, sink: Sink) -> None:
    storage = stored(replace(WHOLE, stop=150_000), WHOLE)
    server.script(redirect(storage.url), Reply(206, {}, FILE[150_000:]), redirect(storage.url))
    fetch()
    assert sink.data == FILE


def test_the_rest_comes_in_parts(server: ScriptedServer, fetch: Fetch, sink: Sink) -> None:
    """A cache may send less than was asked for, as a whole answer."""
    etag = {"ETag": '"one"'}
    server.script(
        Reply(200, etag, FILE[:100_000], cut="body"),  # its Content-Length says 101,000
        Reply(206, {**etag, "Content-Range": "bytes 100000-100499/101000"}, FILE[100_000:100_500]),
        Reply(206, {**etag, "Content-Range": "bytes 100500-100999/101000"}, FILE[100_500:101_000]),
    )
    fetch()
    assert sink.data == FILE[:101_000]


@pytest.mark.parametrize("total", [len(FILE), 50_000], ids=["more", "fewer"])
def test_a_file_of_another_size_than_was_announced_is_not_whole(
    server: ScriptedServer, fetch: Fetch, total: int
) -> None:
    part = Reply(206, {"Content-Range": f"bytes 0-99999/{total}"}, FILE[:100_000])
    server.script(*[part] * MAX_ATTEMPTS)
    with pytest.raises(PostHogIncompleteError, match=f"100,000 of {total:,} bytes"):
        fetch()


@pytest.mark.parametrize("start", [0, 100_000])
def test_a_part_that_may_not_be_the_last_is_not_taken_for_it(
    server: ScriptedServer, fetch: Fetch, sink: Sink, start: int
) -> None:
    etag = {"ETag": '"one"'}
    first = [Reply(200, etag, FILE[:100_000], cut="body")] if start else []
    part = Reply(206, {**etag, "Content-Range": f"bytes {start}-{start + 499}/*"}, FILE[start : start + 500])
    server.script(*first, part, Reply(200, etag, FILE))
    fetch()
    assert sink.data == FILE


def test_a_part_nobody_asked_for(server: ScriptedServer, fetch: Fetch, sink: Sink) -> None:
    part = Reply(206, {"Content-Range": f"bytes 9-{len(FILE) - 1}/{len(FILE)}"}, FILE[9:])
    server.script(part, Reply(200, {}, FILE))
    fetch()
    assert sink.data == FILE


@pytest.mark.parametrize("etag", ['W/"weak"', None])
def test_without_a_strong_etag_it_starts_again(stored: MakeStorage, fetch: Fetch, sink: Sink, etag: str) -> None:
    storage = stored(replace(WHOLE, stop=150_000, etag=etag), replace(WHOLE, etag=etag))
    fetch()
    assert sink.data == FILE
    assert "range" not in storage.requests[1]


def test_an_encoded_file_is_decoded_and_never_resumed(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    encoded = Turn(gzip.compress(FILE), headers={"Content-Encoding": "gzip"})
    storage = stored(replace(encoded, stop=150_000), encoded)
    assert fetch().size == len(FILE)
    assert sink.data == FILE
    assert all(request["accept-encoding"] == "identity" and "range" not in request for request in storage.requests)


@pytest.mark.parametrize("encoding", ["br2", "gzip, br2", "<b>"])
def test_an_encoding_that_nobody_can_unpack(stored: MakeStorage, fetch: Fetch, sink: Sink, encoding: str) -> None:
    """The bytes would be taken for the file's own."""
    storage = stored(replace(WHOLE, headers={"Content-Encoding": encoding}))
    with pytest.raises(PostHogIncompleteError, match="cannot unpack"):
        fetch()
    assert len(storage.requests) == 1
    assert sink.data == b""


@pytest.mark.parametrize("encoding", ["identity", "aws-chunked", ""])
def test_an_encoding_that_is_none(stored: MakeStorage, fetch: Fetch, sink: Sink, encoding: str) -> None:
    turn = replace(WHOLE, headers={"Content-Encoding": encoding})
    storage = stored(replace(turn, stop=150_000), turn)
    fetch()
    assert sink.data == FILE
    assert storage.requests[1]["range"] == "bytes=150000-"


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "gzip, gzip"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_encodings(stored: MakeStorage, fetch: Fetch, sink: Sink, encoding: str, framing: Any) -> None:
    packed = zlib.compress(FILE) if encoding == "deflate" else gzip.compress(FILE)
    packed = gzip.compress(packed) if "," in encoding else packed
    stored(Turn(packed, framing=framing, headers={"Content-Encoding": encoding}))
    assert fetch().size == len(FILE)
    assert sink.data == FILE


def test_what_is_packed_badly(stored: MakeStorage, fetch: Fetch) -> None:
    stored(replace(WHOLE, headers={"Content-Encoding": "gzip"}))
    with pytest.raises(PostHogTransportError, match="decoded"):
        fetch()


def test_the_rest_comes_packed(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    """A range of packed bytes does not fit to what was not packed, even if it can be unpacked."""
    packed = Turn(bytes(150_000) + gzip.compress(bytes(1000)), headers={"Content-Encoding": "gzip"})
    stored(replace(WHOLE, stop=150_000), packed, WHOLE)
    fetch()
    assert sink.data == FILE


# ---- redirects and refusals


def test_circles(server: ScriptedServer, fetch: Fetch) -> None:
    server.script(redirect("/api/projects/1/exports/5/content/?download=true"))
    with pytest.raises(PostHogTransportError, match="circles"):
        fetch()
    assert server.attempts == 5 * MAX_ATTEMPTS


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://x/", "//", "http://"])
def test_redirects_to_nowhere(server: ScriptedServer, fetch: Fetch, sink: Sink, target: str) -> None:
    server.script(redirect(target))
    with pytest.raises(PostHogTransportError):
        fetch()
    assert sink.data == b""


def test_an_expired_address_is_asked_for_anew(
    server: ScriptedServer, make_storage: MakeStorage, fetch: Fetch, sink: Sink
) -> None:
    first, second = make_storage(replace(WHOLE, stop=70_001), Turn(status=403)), make_storage(WHOLE)
    server.script(redirect(first.url), redirect(first.url), redirect(second.url))
    fetch()
    assert sink.data == FILE
    assert second.requests[0]["range"] == "bytes=70001-"


def test_no_signature_in_the_log(stored: MakeStorage, fetch: Fetch, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where somebody has set Airflow's log to DEBUG, at which urllib3 names each address."""
    turns = (Turn(drop=True), replace(WHOLE, stop=100), Turn(status=403), Turn(status=416), WHOLE)
    with caplog.at_level("DEBUG"):
        stored(*turns)
        fetch()
    assert "/bucket/file" in caplog.text, "urllib3 says nothing any more"
    assert "cut at 100 bytes" in caplog.text
    assert "5ec7e7" not in caplog.text
    assert KEY not in caplog.text


def test_gone_from_the_storage(stored: MakeStorage, fetch: Fetch) -> None:
    storage = stored(Turn(status=404))
    with pytest.raises(PostHogNotFoundError) as found:
        fetch()
    assert len(storage.requests) == 1
    assert no_secret(found)


def test_a_range_that_does_not_exist_any_more(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    storage = stored(replace(WHOLE, stop=150_000), Turn(status=416), Turn(OTHER[:9]))
    fetch()
    assert sink.data == OTHER[:9]
    assert ["range" in request for request in storage.requests] == [False, True, False]


def test_a_range_that_does_not_exist_at_posthog(server: ScriptedServer, fetch: Fetch, sink: Sink) -> None:
    half = Reply(200, {"ETag": '"one"'}, FILE, cut="body")
    server.script(half, Reply(416), Reply(200, {}, FILE))
    fetch()
    assert sink.data == FILE
    assert [request.headers.get("range") for request in server.requests] == [
        None,
        f"bytes={len(FILE)}-",
        None,
    ]


@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_a_storage_that_refuses_for_ever(stored: MakeStorage, fetch: Fetch, status: int) -> None:
    storage = stored(Turn(status=status))
    with pytest.raises(PostHogTransportError, match=str(status)) as found:
        fetch()
    assert len(storage.requests) == MAX_ATTEMPTS
    assert no_secret(found)


@pytest.mark.parametrize("status", [429, 503])
def test_posthog_asks_to_wait(
    stored: MakeStorage, server: ScriptedServer, fetch: Fetch, sink: Sink, status: int
) -> None:
    storage = stored(WHOLE)
    server.script(error(status, Retry_After="1"), redirect(storage.url))
    start = time.monotonic()
    fetch()
    assert time.monotonic() - start >= 1
    assert sink.data == FILE


def test_posthog_asks_to_wait_for_too_long(server: ScriptedServer, fetch: Fetch) -> None:
    server.script(error(429, Retry_After="120"))
    with pytest.raises(PostHogRateLimitError):
        fetch()
    assert server.attempts == 1


@pytest.mark.parametrize("status", [409, 425])
def test_not_ready_yet(stored: MakeStorage, server: ScriptedServer, fetch: Fetch, sink: Sink, status: int) -> None:
    storage = stored(WHOLE)
    server.script(error(status), error(status), redirect(storage.url))
    fetch()
    assert sink.data == FILE


@pytest.mark.parametrize(
    ("status", "kind"), [(401, PostHogAuthenticationError), (404, PostHogNotFoundError), (501, PostHogServerError)]
)
def test_posthog_refuses(server: ScriptedServer, fetch: Fetch, status: int, kind: type[PostHogError]) -> None:
    server.script(error(status))
    with pytest.raises(kind):
        fetch()
    assert server.attempts == 1


def test_a_lost_connection_at_posthog_is_bounded(server: ScriptedServer, fetch: Fetch) -> None:
    server.script(cut("body", FILE))
    with pytest.raises(PostHogIncompleteError):
        fetch()
    assert server.attempts == MAX_ATTEMPTS


# Who holds a download open.


@pytest.mark.parametrize("start", [0, 60], ids=["its headers", "its bytes"])
def test_a_file_that_drips_in_is_given_up(server: ScriptedServer, make_server: Fetch, fetch: Fetch, start: int) -> None:
    storage = make_server(Reply(200, {}, FILE, drip=0.02, drip_from=start))
    server.script(redirect(f"{storage.url}/x?X-Amz-Signature=5ec7e7"))  # type: ignore[attr-defined]
    began = time.monotonic()
    with pytest.raises((PostHogIncompleteError, PostHogTransportError), match="no answer in time") as found:
        fetch(read_timeout=0.3)
    assert time.monotonic() - began < 20
    assert no_secret(found)
    assert storage.attempts == MAX_ATTEMPTS  # type: ignore[attr-defined]


@pytest.mark.parametrize("where", ["PostHog", "the storage"])
def test_who_never_answers_is_asked_as_often_as_one_who_cuts(
    server: ScriptedServer, make_server: Fetch, fetch: Fetch, where: str
) -> None:
    silent = make_server(Reply(delay=60))
    if where == "PostHog":
        server.script(Reply(delay=60))
    else:
        server.script(redirect(f"{silent.url}/x"))  # type: ignore[attr-defined]
    with pytest.raises(PostHogTransportError, match="no answer in time"):
        fetch(read_timeout=0.2)
    assert server.attempts == MAX_ATTEMPTS


def test_a_slow_sink_is_no_slow_storage(stored: MakeStorage, fetch: Fetch, sink: Sink) -> None:
    class Slow(Sink):
        def write(self, chunk: bytes) -> None:
            time.sleep(0.15)
            super().write(chunk)

    slow = Slow()
    stored(Turn(FILE * 5))
    fetch(sink=slow, read_timeout=0.1)
    assert slow.data == FILE * 5


def test_errors_of_the_storage_name_its_host(server: ScriptedServer, fetch: Fetch, make_server: Fetch) -> None:
    dead = make_server(listen=False)
    server.script(redirect(f"{dead.url}/x?X-Amz-Signature=5ec7e7"))  # type: ignore[attr-defined]
    with pytest.raises(PostHogTransportError, match=f"at 127.0.0.1:{dead.port}") as found:  # type: ignore[attr-defined]
        fetch()
    assert no_secret(found)
