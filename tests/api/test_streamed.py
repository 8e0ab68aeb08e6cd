"""Answers that are read while they come: with all the rules of those that are held as a whole."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_posthog.api.body import Arriving
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogPermissionError, PostHogTransportError
from tests.support.scripted import Reply, ScriptedServer, error

TEXT = b"".join(b"%07d\n" % number for number in range(200_000))
POLICY = RetryPolicy(base=0.0)


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[Client]:
    with Client(ClientSettings(base_url=server.url, api_key="phx_0123456789", project_id=1, read_timeout=5.0)) as made:
        yield made


def call(**options: Any) -> Call[Any]:
    return Call(name="queries.create", method="POST", path="query/", read=lambda answer: None, json={}, **options)


def whole(arriving: Arriving) -> bytes:
    return b"".join(arriving.pieces)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress], ids=["plain", "gzip", "deflate"])
def test_a_body_comes_in_pieces(server: ScriptedServer, client: Client, pack: Any) -> None:
    name = {gzip.compress: "gzip", zlib.compress: "deflate"}.get(pack)
    server.script(Reply(200, {"Content-Encoding": name} if name else {}, pack(TEXT)))
    pieces = client.stream(call(), lambda arriving: list(arriving.pieces))
    assert b"".join(pieces) == TEXT
    assert len(pieces) > 1
    assert max(map(len, pieces)) <= 1024 * 1024


@pytest.mark.parametrize("where", ["before", "after", "headers", "body", "chunk", "garbage"])
def test_what_was_cut_is_sent_again_and_taken_anew(server: ScriptedServer, client: Client, where: Any) -> None:
    server.script(Reply(200, {}, TEXT[:300_000], cut=where), Reply(200, {}, TEXT))
    taken: list[int] = []

    def take(arriving: Arriving) -> bytes:
        taken.append(0)
        return whole(arriving)

    assert client.stream(call(), take, policy=POLICY) == TEXT
    assert server.attempts == 2
    assert len(taken) == (2 if where in ("headers", "body", "chunk") else 1)


def test_what_is_not_repeatable_is_not_sent_again(server: ScriptedServer, client: Client) -> None:
    server.script(Reply(200, {}, TEXT[:300_000], cut="body"), Reply(200, {}, TEXT))
    with pytest.raises(PostHogTransportError, match="cut in the middle"):
        client.stream(call(repeatable=False), whole)


def test_a_body_that_nobody_wants_to_its_end_has_to_come_all_the_same(server: ScriptedServer, client: Client) -> None:
    server.script(Reply(200, {}, TEXT[:-5], cut="body"), Reply(200, {}, TEXT))
    assert client.stream(call(), lambda arriving: next(arriving.pieces)[:8], policy=POLICY) == TEXT[:8]
    assert server.attempts == 2


def test_errors_are_told_by_their_bodies_and_not_taken(server: ScriptedServer, client: Client) -> None:
    server.script(Reply(503), error(403, "Not yours."))
    with pytest.raises(PostHogPermissionError, match="Not yours"):
        client.stream(call(), lambda arriving: pytest.fail("it is an error"), policy=POLICY)
    assert server.attempts == 2


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_no_more_comes_than_is_allowed(server: ScriptedServer, client: Client, encoding: str) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    server.script(Reply(200, headers, gzip.compress(TEXT) if encoding else TEXT))
    came = 0

    def take(arriving: Arriving) -> None:
        nonlocal came
        for piece in arriving.pieces:
            came += len(piece)

    with pytest.raises(PostHogTransportError, match="larger than") as caught:
        client.stream(call(max_bytes=700_000), take)
    assert caught.value.too_large
    assert came <= 700_000
    assert server.attempts == 1


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Encoding": "br"}, TEXT),
        ({"Content-Encoding": "gzip"}, TEXT),
        ({"Content-Encoding": "gzip"}, gzip.compress(TEXT)[:-9]),
    ],
    ids=["foreign", "not packed", "without an end"],
)
def test_what_cannot_be_unpacked_is_no_answer(
    server: ScriptedServer, client: Client, headers: dict[str, str], body: bytes
) -> None:
    server.script(Reply(200, headers, body), Reply(200, {}, TEXT))
    assert client.stream(call(), whole, policy=POLICY) == TEXT
    assert server.attempts == 2


def test_what_drips_in_ends(server: ScriptedServer) -> None:
    settings = ClientSettings(base_url=server.url, api_key="phx_0123456789", project_id=1, read_timeout=0.2)
    server.script(Reply(200, {}, TEXT, drip=0.02, drip_from=1_000), Reply(200, {}, TEXT))
    with Client(settings) as client:
        assert client.stream(call(), whole, policy=POLICY) == TEXT
    assert server.attempts == 2


def test_a_deadline_holds_while_a_body_comes(server: ScriptedServer, client: Client) -> None:
    server.script(Reply(200, {}, TEXT, drip=0.02, drip_from=1_000))
    with client.until(time.time() + 0.5), pytest.raises(PostHogTransportError):
        client.stream(call(), whole)
    assert server.attempts == 1


def test_what_the_taking_raises_names_the_call_and_is_not_repeated(server: ScriptedServer, client: Client) -> None:
    def take(arriving: Arriving) -> None:
        raise PostHogTransportError("the answer is none")

    server.script(Reply(200, {}, TEXT))
    with pytest.raises(PostHogTransportError, match=r"POST .*query/: the answer is none, at 127"):
        client.stream(call(), take)
    assert server.attempts == 1


def test_the_time_that_the_answer_took_is_told(server: ScriptedServer, client: Client) -> None:
    server.script(Reply(200, {}, TEXT, delay=0.2))
    assert client.stream(call(), lambda arriving: arriving.seconds) >= 0.2


def test_a_place_is_free_when_the_answer_begins(server: ScriptedServer) -> None:
    settings = ClientSettings(base_url=server.url, api_key="phx_0123456789", project_id=7, max_in_flight=1)
    others: list[bytes] = []

    def ask() -> None:
        with Client(settings) as other:
            others.append(other.stream(call(bucket="query"), whole))

    def take(arriving: Arriving) -> bytes:
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(20)
        return whole(arriving)

    server.script(Reply(200, {}, TEXT))
    with Client(settings) as client:
        assert client.stream(call(bucket="query"), take) == TEXT
    assert others == [TEXT]
