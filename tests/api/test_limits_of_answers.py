"""How long and how large an answer may be, and what is none: the same for both clients."""

from __future__ import annotations

import gzip
import json
import random
import time
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import exports, queries
from airflow_provider_posthog.api.body import PROGRESS, Body, Pace, TooLargeError, TooSlowError, UndecodableError
from airflow_provider_posthog.api.call import MAX_BYTES
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogPermissionError,
    PostHogSettingsError,
    PostHogTransportError,
)
from tests.api.cases import CREATE, EXPORT, GET, settings_for
from tests.support.scripted import Reply, ScriptedServer, ok
from tests.support.senders import QUICK, SENDERS, Sender

SMALL = replace(GET, max_bytes=1000)
ONE = RetryPolicy(max_attempts=1)
TEXT = json.dumps(EXPORT).encode()


def fails(sender: Sender, server: ScriptedServer, call: object = CREATE, **options: object) -> PostHogTransportError:
    with pytest.raises(PostHogError) as caught:
        sender.send(settings_for(server, **options), call, policy=QUICK)  # type: ignore[arg-type]
    assert isinstance(caught.value, PostHogTransportError), repr(caught.value)
    return caught.value


# How large.


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
@pytest.mark.parametrize("call", [SMALL, replace(CREATE, max_bytes=1000)], ids=["GET", "POST"])
def test_what_is_too_large_is_not_read_and_not_asked_for_again(
    sender: Sender, server: ScriptedServer, encoding: str, call: object
) -> None:
    body = b'{"x": "' + b"y" * 5000 + b'"}'
    packed = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](body)
    server.script(Reply(200, {"Content-Encoding": encoding} if encoding else {}, packed))
    found = fails(sender, server, call)
    assert found.too_large
    assert found.sent
    assert "larger than" in str(found)
    assert server.attempts == 1


def test_in_the_triggerer_no_answer_is_larger_than_all_triggers_can_bear(server: ScriptedServer) -> None:
    bomb = gzip.compress(b" " * (65 * 1024**2))
    server.script(Reply(200, {"Content-Encoding": "gzip"}, bomb))
    for call in (GET, replace(GET, max_bytes=None)):
        found = fails(SENDERS["async"], server, call)
        assert found.too_large
        assert "64 MiB" in str(found)


def test_a_body_without_end_is_left(sender: Sender, server: ScriptedServer) -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b" " * 1024 + b"\r\n"
    server.script(Reply(raw=endless + (b"400\r\n" + b" " * 1024 + b"\r\n") * 2000))
    assert fails(sender, server, replace(GET, max_bytes=100_000)).too_large


def test_what_is_as_large_as_allowed_is_read(sender: Sender, server: ScriptedServer) -> None:
    server.script(Reply(200, {"Content-Encoding": "gzip"}, gzip.compress(TEXT)))
    assert sender.send(settings_for(server), replace(GET, max_bytes=len(TEXT))) == EXPORT
    assert fails(sender, server, replace(GET, max_bytes=len(TEXT) - 1)).too_large


def test_every_call_has_a_largest_answer() -> None:
    for call in (GET, CREATE, exports.content(1), queries.status("q")):
        assert call.max_bytes == MAX_BYTES


PACKED = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "bare deflate": lambda data: zlib.compress(data)[2:-4],
    "identity": bytes,
    "": bytes,
}


@given(st.binary(max_size=5000), st.sampled_from(sorted(PACKED)), st.integers(1, 700), st.integers(1, 3))
def test_a_body_is_unpacked_whatever_the_pieces(data: bytes, kind: str, size: int, times: int) -> None:
    times = times if "gzip" in kind else 1  # several members
    packed = PACKED[kind](data) * times  # type: ignore[operator]
    body = Body(kind.removeprefix("bare "), None)
    for start in range(0, len(packed), size):
        for _ in body.feed(packed[start : start + size]):
            pass
    assert body.value() == data * times
    for cut in range(1, min(len(packed), 12)):
        if "gzip" in kind and len(data) > 20:
            cut_off = Body(kind, None)
            list(cut_off.feed(packed[:-cut]))
            with pytest.raises(UndecodableError):
                cut_off.value()


@given(st.integers(0, 3000), st.integers(0, 3000), st.sampled_from(["gzip", ""]))
def test_the_limit_is_exact(size: int, most: int, kind: str) -> None:
    body = Body(kind, most)
    packed = PACKED[kind](b"x" * size)  # type: ignore[operator]
    if size <= most:
        assert list(body.feed(packed)) is not None
        assert len(body.value()) == size
        return
    with pytest.raises(TooLargeError):  # noqa: PT012 - at the one or at the other
        list(body.feed(packed))
        body.value()


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "x"])
def test_what_was_not_asked_for_is_not_unpacked(sender: Sender, server: ScriptedServer, encoding: str) -> None:
    with pytest.raises(UndecodableError):
        Body(encoding, None)
    server.script(Reply(200, {"Content-Encoding": encoding}, TEXT))
    found = fails(sender, server)
    assert found.sent
    assert "cannot be decoded" in str(found)
    assert "gzip, deflate" in server.requests[0].headers["accept-encoding"]


@pytest.mark.parametrize(
    "body", [b"no gzip", gzip.compress(TEXT)[:-9], gzip.compress(TEXT)[:5]], ids=["none", "cut", "head"]
)
def test_a_body_that_is_not_what_it_says_is_told_so(sender: Sender, server: ScriptedServer, body: bytes) -> None:
    server.script(Reply(200, {"Content-Encoding": "gzip"}, body))
    found = fails(sender, server)
    assert found.sent
    assert "cannot be decoded" in str(found)
    assert server.attempts == 1


def test_a_redirects_body_is_not_unpacked_without_a_limit(sender: Sender, server: ScriptedServer) -> None:
    bomb = gzip.compress(b" " * 5_000_000)
    server.script(Reply(302, {"Content-Encoding": "gzip", "Location": "/elsewhere"}, bomb))
    assert fails(sender, server, SMALL).too_large


# How long.


@pytest.mark.parametrize("start", [0, 60, 200], ids=["its first line", "its headers", "its body"])
def test_an_answer_that_drips_in_ends(sender: Sender, server: ScriptedServer, start: int) -> None:
    server.script(Reply(200, {"X-Long": "x" * 100}, b'"' + b"x" * 5000 + b'"', drip=0.03, drip_from=start))
    began = time.monotonic()
    found = fails(sender, server, read_timeout=0.5)
    assert found.sent
    assert time.monotonic() - began < 10
    assert server.attempts == 1


def test_what_comes_in_time_may_take_longer_than_the_read_timeout(sender: Sender, server: ScriptedServer) -> None:
    text = b" " * 40 + TEXT
    server.script(Reply(200, {}, text, drip=0.01))
    assert sender.send(settings_for(server, read_timeout=10.0), GET) == EXPORT


@given(st.lists(st.tuples(st.integers(PROGRESS, 9 * PROGRESS), st.floats(0, 300)), max_size=60), st.floats(0.1, 200))
def test_who_brings_enough_with_each_read_is_never_cut(reads: list[tuple[int, float]], seconds: float) -> None:
    pace = Pace(seconds)
    for size, took in reads:
        pace.came(size, took)
    pace.came(0, 1000.0)


@given(st.integers(1, 100), st.integers(1, 100), st.floats(0.1, 200))
def test_who_drips_is_cut_within_twice_the_time(size: int, parts: int, seconds: float) -> None:
    pace, took = Pace(seconds), seconds / parts
    reads = (pace.came(size, took) for _ in range(2 * parts + 2))
    with pytest.raises(TooSlowError):
        list(reads)


def test_waiting_for_the_first_byte_is_not_counted() -> None:
    pace = Pace(1.0)
    pace.came(1, 100.0)
    pace.came(10, 0.9)
    with pytest.raises(TooSlowError):
        pace.came(10, 0.9)


@pytest.mark.parametrize(
    "answer", [Reply(delay=60), Reply(200, {}, TEXT * 9, drip=0.05), Reply(503), Reply(429, {"Retry-After": "20"})]
)
def test_nothing_of_a_client_outlasts_the_time_it_is_given(server: ScriptedServer, answer: Reply) -> None:
    server.script(answer)
    began = time.monotonic()
    with Client(settings_for(server, read_timeout=30.0)) as client:
        with client.until(time.time() + 60), client.until(time.time() + 0.4), pytest.raises(PostHogError):
            client.send(GET, policy=RetryPolicy(base=30.0, max_rate_limit_wait=60.0))
        assert time.monotonic() - began < 5
        with client.until(time.time() - 1), pytest.raises(PostHogTransportError, match="no time is left") as caught:
            client.send(GET)
        assert not caught.value.sent
        server.script(ok(EXPORT))
        assert client.send(GET) == EXPORT, "the time is the block's"


def test_a_place_among_the_queries_is_not_waited_for_beyond_it(server: ScriptedServer) -> None:
    from airflow_provider_posthog.api.in_flight import in_flight_to
    from tests.api.cases import QUERY

    settings = settings_for(server, max_in_flight=1)
    with Client(settings) as client, in_flight_to(settings).slot(1):
        with client.until(time.time() + 0.2), pytest.raises(PostHogTransportError, match="as many queries") as caught:
            client.send(QUERY)
        assert not caught.value.sent
    assert server.attempts == 0
    with Client(settings) as client:
        client.send(QUERY)


# What is no answer.

TWO_LENGTHS = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\n{}   "
FORBIDDEN = b'HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\n\r\n{"detail": "no"}'


@pytest.mark.parametrize(
    "raw",
    [
        TWO_LENGTHS,
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/9.9 nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n",
    ],
)
def test_an_answer_that_can_not_be_read_may_be_of_work_that_was_done(
    sender: Sender, server: ScriptedServer, raw: bytes
) -> None:
    server.script(Reply(raw=raw))
    found = fails(sender, server)
    assert found.sent
    assert "cannot be sent" not in str(found)
    assert server.attempts == 1


@pytest.mark.parametrize("status", [100, 102, 103, 150])
def test_what_only_announces_an_answer_is_skipped(sender: Sender, server: ScriptedServer, status: int) -> None:
    announced = f"HTTP/1.1 {status} Wait\r\nLink: <x>\r\n\r\n".encode()
    server.script(Reply(raw=announced * 3 + FORBIDDEN))
    with pytest.raises(PostHogPermissionError):
        sender.send(settings_for(server), queries.cancel("q"), policy=ONE)
    assert server.attempts == 1


def test_a_status_below_200_is_no_success(sender: Sender, server: ScriptedServer) -> None:
    server.script(Reply(raw=b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"))
    for call in (CREATE, queries.cancel("q")):
        assert fails(sender, server, call).sent


def test_a_redirect_to_what_is_no_address_is_told_so(sender: Sender, server: ScriptedServer) -> None:
    server.script(Reply(302, {"Location": "http://[::1"}))
    with pytest.raises(PostHogError, match="redirect") as caught:
        sender.send(settings_for(server), GET, policy=ONE)
    assert isinstance(caught.value, (PostHogSettingsError, PostHogTransportError))


def test_errors_of_the_way_name_the_host_and_nothing_secret(sender: Sender, server: ScriptedServer) -> None:
    server.script(Reply(cut="after"))
    assert str(fails(sender, server)).endswith(f", at 127.0.0.1:{server.port}")


def test_random_bytes_are_never_an_answer(sender: Sender, server: ScriptedServer) -> None:
    dice = random.Random(7)
    for size in (1, 10, 200):
        server.script(Reply(raw=dice.randbytes(size)))
        assert fails(sender, server).sent
