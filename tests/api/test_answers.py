"""Whatever a server answers, a call ends in a value or in a PostHogError: never in a bare KeyError or the like."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.exchange import Done, Exchange
from airflow_provider_posthog.api.insights import runnable_query
from airflow_provider_posthog.api.retry import NoAnswer, RetryPolicy, Wait
from airflow_provider_posthog.api.states import of_export, of_query
from airflow_provider_posthog.exceptions import PostHogError, PostHogRateLimitError
from tests.api.cases import CALLS, KEY, settings_for
from tests.api.test_states import JSON
from tests.support.scripted import Cut, Reply, ScriptedServer

Send = Callable[[Call[Any]], Any]
ONE_TRY = RetryPolicy(max_attempts=1, max_rate_limit_wait=0.0)
NAMES = st.sampled_from(
    [
        "results",
        "query_status",
        "id",
        "has_content",
        "exception",
        "error",
        "error_message",
        "complete",
        "query",
        "kind",
        "source",
        "detail",
        "code",
        "attr",
        "type",
        "next",
        "list",
        "extra",
        "filters",
    ]
)
SHAPES = st.recursive(
    JSON, lambda inner: st.dictionaries(NAMES, inner, max_size=5) | st.lists(inner, max_size=3), max_leaves=12
)
BODIES = st.one_of(
    SHAPES.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=60),
    st.sampled_from(
        [b"", b"<html>no</html>", b"[" * 100_000, b'{"detail": "\\ud800"}', b"\xef\xbb\xbf{}", b"1" * 5000]
    ),
)
STATUSES = st.one_of(st.integers(200, 599), st.sampled_from([200, 201, 202, 204, 302, 400, 401, 403, 404, 429, 500]))
HEADERS = st.dictionaries(
    st.sampled_from(
        ["Content-Type", "Location", "Retry-After", "X-Request-Id", "Content-Encoding", "Set-Cookie", "X-Any"]
    ),
    st.one_of(
        st.sampled_from(
            ["application/json", "gzip", "//[", "http://[::1", "nan", "\xff\xfe", f"/?{KEY}", "http://u@h:x/"]
        ),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f\x85"), max_size=30),
    ),
    max_size=4,
)
CALL = st.sampled_from(sorted(CALLS)).map(CALLS.__getitem__)


def use(call: Call[Any], value: Any) -> None:
    """Do with a value what the package does with it."""
    if call.name == "queries.status":
        of_query(value)
    elif call.name in ("exports.retrieve", "exports.create"):
        of_export(value)
    elif call.name == "insights.retrieve":
        runnable_query(value)


def told(error: PostHogError) -> None:
    """Check that an error can be logged."""
    assert KEY not in str(error)
    assert len(str(error)) < 5000
    str(error).encode()
    repr(error).encode()


@settings(max_examples=400)
@given(CALL, STATUSES, HEADERS, BODIES)
@example(CALLS["insights.retrieve"], 200, {}, b'{"query": {"kind": []}}')
@example(CALLS["queries.status"], 500, {}, b'{"query_status": {"error": [1]}}')
def test_any_answer(call: Call[Any], status: int, headers: dict[str, str], body: bytes) -> None:
    exchange = Exchange(call, settings_for_nobody(), ONE_TRY)
    try:
        step = exchange.receive(Answer(status, {name.lower(): value for name, value in headers.items()}, body))
    except PostHogError as error:
        told(error)
    else:
        assert isinstance(step, Done)
        assert status < 300 or call.name == "queries.status"
        use(call, step.value)


@given(
    CALL,
    st.lists(
        st.one_of(
            st.builds(Answer, STATUSES, st.just({"retry-after": "0"}), BODIES),
            st.builds(NoAnswer, reason=st.just("cut"), sent=st.booleans(), lasting=st.booleans()),
        ),
        min_size=1,
        max_size=40,
    ),
)
def test_any_sequence_of_answers_ends(call: Call[Any], script: list[Answer | NoAnswer]) -> None:
    policy = RetryPolicy(max_attempts=5, max_rate_limit_wait=20.0)
    exchange = Exchange(call, settings_for_nobody(), policy)
    for waits, outcome in enumerate(script * 40, 1):
        try:
            step = exchange.receive(outcome)
        except PostHogError as error:
            told(error)
            break
        if isinstance(step, Done):
            break
        assert isinstance(step, Wait)
        unknown = outcome.status != 429 if isinstance(outcome, Answer) else outcome.sent
        assert call.repeatable or not unknown
        assert waits <= 20 + policy.max_attempts
    else:
        pytest.fail("the call never ended")


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_rate_limit_without_end(call: Call[Any]) -> None:
    exchange = Exchange(call, settings_for_nobody(), RetryPolicy(max_rate_limit_wait=20.0))
    waits: list[float] = []

    def go_on() -> None:
        while len(waits) < 30:
            step = exchange.receive(Answer(429, {"retry-after": "1"}, b""))
            assert isinstance(step, Wait)
            waits.append(step.seconds)

    with pytest.raises(PostHogRateLimitError):
        go_on()
    assert 10 <= sum(waits) <= 20


def settings_for_nobody() -> Any:
    return settings_for(ScriptedServerAddress())  # type: ignore[arg-type]


class ScriptedServerAddress:
    """Where no server is asked."""

    url = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def odd_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(scope="module", params=["blocking", "async"])
def send(request: pytest.FixtureRequest, odd_server: ScriptedServer) -> Iterator[Send]:
    """Send with one client for all examples."""
    reach = settings_for(odd_server, read_timeout=3.0)
    if request.param == "blocking":
        with Client(reach) as client:
            yield lambda call: client.send(call, policy=ONE_TRY)
        return
    loop = asyncio.new_event_loop()
    asynchronous = AsyncClient(reach)
    yield lambda call: loop.run_until_complete(asynchronous.send(call, policy=ONE_TRY))
    loop.run_until_complete(asynchronous.aclose())
    loop.close()


CUTS: st.SearchStrategy[Cut] = st.sampled_from(["", "", "", "before", "after", "headers", "body", "chunk"])


@settings(max_examples=200)
@given(CALL, STATUSES, HEADERS, BODIES, CUTS)
@example(CALLS["exports.retrieve"], 302, {"Location": "//["}, b"", "")
@example(CALLS["exports.retrieve"], 302, {"Location": "\xff\xfe"}, b"", "")
@example(CALLS["exports.retrieve"], 200, {"Content-Encoding": "gzip"}, b"no gzip", "")
@example(CALLS["exports.retrieve"], 200, {"Content-Encoding": "deflate"}, b"no deflate", "")
def test_any_answer_over_the_wire(
    send: Send,
    odd_server: ScriptedServer,
    call: Call[Any],
    status: int,
    headers: dict[str, str],
    body: bytes,
    where: Cut,
) -> None:
    if status in (204, 304):  # they have no body
        body, where = b"", ""
    odd_server.script(Reply(status, headers, body, cut=where))
    try:
        value = send(call)
    except PostHogError as error:
        told(error)
    else:
        assert not where
        use(call, value)
    assert odd_server.attempts == 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nno JSON",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\x00\x01\xff: y\r\n\r\n",
    ],
    ids=range(13),
)
def test_no_http_at_all(garbage_server: Callable[[bytes], str], garbage: bytes) -> None:
    """A port on which something else listens."""
    reach = settings_for(ScriptedServerAddress(), base_url=garbage_server(garbage), read_timeout=2.0)  # type: ignore[arg-type]

    async def run() -> None:
        async with AsyncClient(reach) as client:
            await client.send(CALLS["exports.create"], policy=ONE_TRY)

    with pytest.raises(PostHogError) as caught, Client(reach) as client:
        client.send(CALLS["exports.create"], policy=ONE_TRY)
    told(caught.value)
    with pytest.raises(PostHogError) as caught:
        asyncio.run(run())
    told(caught.value)


@pytest.fixture
def garbage_server() -> Iterator[Callable[[bytes], str]]:
    """Serve raw bytes to whoever connects."""
    import socket
    import threading

    listening = socket.create_server(("127.0.0.1", 0))

    def serve(data: bytes) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(65536)
                    connection.sendall(data)

    def start(data: bytes) -> str:
        threading.Thread(target=serve, args=(data,), daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield start
    with contextlib.suppress(OSError):
        listening.shutdown(socket.SHUT_RDWR)
    listening.close()
