"""Answers of bulk reading: whole, fresh and proved before a row is handed on, and never held as a whole."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_posthog.api.byte_budget import ByteBudget
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobFailed,
    PostHogRateLimitError,
    PostHogTransportError,
)
from airflow_provider_posthog.extract.query_client import Asker, Parts, Stopped, parse
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.results.heaviness import is_too_heavy
from tests.support.scripted import Reply, ScriptedServer

SETTINGS = {"api_key": "phx_0123456789", "project_id": 1, "read_timeout": 5.0}
QUERY = Statement("SELECT 1", {})
TEXT = "é" * 4_000_000
ANSWER = json.dumps({"results": [[TEXT]], "columns": ["a"], "types": [["a", "String"]]}, ensure_ascii=False).encode()
#: Several slices of rows.
ROWS = [[number, "x" * 500] for number in range(4_000)]
REST = {"columns": ["n", "text"], "types": [["n", "UInt64"], ["text", "String"]]}


def body(rows: object = ROWS, **rest: object) -> bytes:
    """Write an answer whose rows come first: what it says of them stands at its end."""
    return json.dumps({"results": rows, **REST, **rest}).encode()


class Rows:
    """Collects rows as they are."""

    def __init__(self) -> None:
        self.rows: list[Any] = []

    def add(self, rows: list[Any]) -> None:
        self.rows += rows

    def value(self) -> list[Any]:
        return self.rows


def any_columns(columns: list[str], types: list[list[str]]) -> None:
    pass


@pytest.fixture
def asker(server: ScriptedServer) -> Iterator[Asker]:
    asker = Asker(ClientSettings(base_url=server.url, **SETTINGS), 1)  # type: ignore[arg-type]
    yield asker
    asker.close()


def ask(asker: Asker, **options: Any) -> Parts[list[Any]]:
    return asker.ask_in_parts(QUERY, Rows, any_columns, **options)


@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_answers_are_whole(server: ScriptedServer, asker: Asker, encoding: str) -> None:
    text = gzip.compress(ANSWER, 1) if encoding else ANSWER
    headers = {"Content-Encoding": encoding} if encoding else {}
    server.script(Reply(200, {}, ANSWER, cut="body"), Reply(200, {}, b"1", cut="chunk"), Reply(200, headers, text))
    result = asker.ask(QUERY)
    assert result.rows == [[TEXT]]
    assert (result.size, asker.size) == (len(ANSWER), len(ANSWER))


@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_an_answer_that_was_cut_is_asked_for_again_and_its_rows_are_forgotten(
    server: ScriptedServer, asker: Asker, encoding: str
) -> None:
    whole = body()
    packed = gzip.compress(whole, 1) if encoding else whole
    headers = {"Content-Encoding": encoding} if encoding else {}
    half = packed[: len(packed) * 2 // 3]
    server.script(
        Reply(200, headers, half, cut="body"),
        Reply(200, headers, half, cut="chunk"),
        Reply(200, headers, packed),
    )
    found = ask(asker)
    assert found.rows == ROWS
    assert (found.columns, found.types) == (REST["columns"], REST["types"])
    assert (found.size, asker.size) == (len(whole), len(whole))
    assert len(server.requests) == 3


def test_a_packed_answer_without_an_end_is_not_whole(server: ScriptedServer, asker: Asker) -> None:
    """Its length is as it says, and all rows are there."""
    packed = gzip.compress(body(), 1)
    server.script(Reply(200, {"Content-Encoding": "gzip"}, packed[:-9]), Reply(200, {}, body()))
    assert ask(asker).rows == ROWS
    assert len(server.requests) == 2


def test_what_is_cut_each_time_is_an_error(server: ScriptedServer, asker: Asker) -> None:
    server.script(Reply(200, {}, body()[:-10], cut="body"))
    with pytest.raises(PostHogTransportError, match="cut"):
        ask(asker)
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    ("rest", "error", "says"),
    [
        ({"error": "Timeout exceeded: elapsed 10.0 seconds"}, PostHogJobFailed, "Timeout exceeded"),
        ({"is_cached": True}, PostHogTransportError, "cache"),
        ({"columns": None}, PostHogTransportError, "columns"),
        ({"columns": [1, 2]}, PostHogTransportError, "columns"),
        ({"types": "String"}, PostHogTransportError, "columns"),
        ({"types": [["n", "UInt64"], ["text", "Int256"]]}, PostHogTransportError, "64 bits"),
    ],
)
def test_rows_are_not_handed_on_before_the_end_of_their_answer_was_read(
    server: ScriptedServer, asker: Asker, rest: dict[str, object], error: type[PostHogError], says: str
) -> None:
    server.script(Reply(200, {}, body(**rest)))
    with pytest.raises(error, match=says):
        ask(asker)
    assert len(server.requests) == 1


def test_two_lists_of_rows_are_none(server: ScriptedServer, asker: Asker) -> None:
    server.script(Reply(200, {}, body()[:-1] + b', "results": null}'))
    with pytest.raises(PostHogTransportError, match="results"):
        ask(asker)


def test_columns_are_checked_before_rows_are_handed_on(server: ScriptedServer, asker: Asker) -> None:
    def others(columns: list[str], types: list[list[str]]) -> None:
        assert (columns, types) == (REST["columns"], REST["types"])
        raise PostHogTransportError("other columns")

    server.script(Reply(200, {}, body()))
    with pytest.raises(PostHogTransportError, match="other columns"):
        asker.ask_in_parts(QUERY, Rows, others)


class Refusing(Rows):
    def add(self, rows: list[Any]) -> None:
        raise PostHogTransportError("these are no rows")


def test_a_failure_says_more_than_the_rows_that_it_has_spoiled(server: ScriptedServer, asker: Asker) -> None:
    server.script(Reply(200, {}, body(error="Memory limit (for query) exceeded")))
    with pytest.raises(PostHogJobFailed, match="Memory limit") as caught:
        asker.ask_in_parts(QUERY, Refusing, any_columns)
    assert is_too_heavy(caught.value)
    server.script(Reply(200, {}, body()))
    with pytest.raises(PostHogTransportError, match="these are no rows"):
        asker.ask_in_parts(QUERY, Refusing, any_columns)


def test_errors_are_those_of_other_calls(server: ScriptedServer, asker: Asker) -> None:
    heavy = json.dumps({"type": "server_error", "code": "error", "detail": "Query size exceeded."}).encode()
    server.script(Reply(503), Reply(513, {}, heavy))
    with pytest.raises(PostHogError, match="Query size exceeded") as caught:
        ask(asker)
    assert is_too_heavy(caught.value)
    assert len(server.requests) == 2


def test_the_next_query_goes_as_soon_as_an_answer_has_begun(server: ScriptedServer, asker: Asker) -> None:
    """PostHog has calculated it: to parse it is no reason to let PostHog wait."""
    found: list[Any] = []

    class Asking(Rows):
        def add(self, rows: list[Any]) -> None:
            if not found:
                other = threading.Thread(target=lambda: found.append(asker.ask(QUERY).rows), daemon=True)
                other.start()
                other.join(20)
            super().add(rows)

    server.script(Reply(200, {}, body()), Reply(200, {}, body([[1, "a"]])))
    assert asker.ask_in_parts(QUERY, Asking, any_columns).rows == ROWS
    assert found == [[[1, "a"]]]


def test_it_slows_down_before_the_budget_of_bytes_is_used_up(server: ScriptedServer) -> None:
    """What is left has to cover three queries like the last one."""
    metered = {"X-PostHog-Query-Bytes-Read": "100", "X-PostHog-Query-Budget-Remaining-Bytes": "250"}
    server.script(Reply(200, metered, body()))
    settings = ClientSettings(base_url=server.url, max_rate_limit_wait=0.3, **SETTINGS)  # type: ignore[arg-type]
    asker = Asker(settings, 1)
    try:
        ask(asker)
        assert ByteBudget.of(settings).pause(time.monotonic()) > 0.3
        asked = time.monotonic()
        ask(asker)
        assert time.monotonic() - asked >= 0.3
    finally:
        asker.close()


def test_it_does_not_slow_down_for_a_wait_that_is_too_long_anyway(server: ScriptedServer) -> None:
    """Whoever defers it would hold a worker for a minute first."""
    metered = {"X-PostHog-Query-Bytes-Read": "100", "X-PostHog-Query-Budget-Remaining-Bytes": "-1"}
    server.script(Reply(200, metered, body()))
    settings = ClientSettings(base_url=server.url, max_rate_limit_wait=30, **SETTINGS)  # type: ignore[arg-type]
    asker = Asker(settings, 1)
    try:
        ask(asker)
        asked = time.monotonic()
        with pytest.raises(PostHogRateLimitError) as caught:
            ask(asker)
        assert time.monotonic() - asked < 20
        assert (caught.value.retry_after or 0) > 50
    finally:
        asker.close()


def test_a_stop_ends_an_answer_that_is_coming(server: ScriptedServer, asker: Asker) -> None:
    class Stopping(Rows):
        def add(self, rows: list[Any]) -> None:
            asker.stop()

    server.script(Reply(200, {}, body()))
    with pytest.raises(Stopped):
        asker.ask_in_parts(QUERY, Stopping, any_columns)


class Answering(BaseHTTPRequestHandler):
    """Sends the answer as it is, without another copy in this process."""

    answer = body([[number, "x" * 1000] for number in range(32_000)])

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)


class Counting(Rows):
    """Forgets rows."""

    count = 0

    def add(self, rows: list[Any]) -> None:
        self.count += len(rows)

    def value(self) -> list[Any]:
        return [self.count]


def test_nobody_holds_the_whole_of_an_answer() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    asker = Asker(ClientSettings(base_url=f"http://127.0.0.1:{server.server_port}", **SETTINGS), 1)  # type: ignore[arg-type]
    try:
        asker.ask_in_parts(QUERY, Counting, any_columns)  # what is made once
        tracemalloc.start()
        found = asker.ask_in_parts(QUERY, Counting, any_columns)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        asker.close()
        server.shutdown()
        server.server_close()
    assert found.rows == [32_000]
    assert found.size == len(Answering.answer)
    assert peak < len(Answering.answer) / 4, "the parser alone takes some megabytes, whatever the text"


def test_waiting_ends_when_told_to_stop(asker: Asker) -> None:
    began = time.monotonic()
    asker.wait(0.01)
    assert time.monotonic() - began >= 0.01
    asker.stop()
    with pytest.raises(Stopped):
        asker.wait(600)
    with pytest.raises(Stopped):
        asker.ask(QUERY)
    with pytest.raises(Stopped):
        ask(asker)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"<html>", b"\xff", b"null", b'"results"'])
def test_what_is_no_answer(server: ScriptedServer, asker: Asker, text: bytes) -> None:
    with pytest.raises(PostHogError):
        parse(text)
    server.script(Reply(200, {}, text))
    with pytest.raises(PostHogError):
        ask(asker)


@pytest.mark.parametrize("kind", ["UInt128", "Nullable(Int256)", "Array(UInt256)"])
def test_long_integers_are_exact(server: ScriptedServer, asker: Asker, kind: str) -> None:
    """The fast parser would make floats of them."""
    text = json.dumps({"results": [[2**100 + 1]] * 50_000, "columns": ["a"], "types": [["a", kind]]}).encode()
    assert parse(text).rows == [[2**100 + 1]] * 50_000
    server.script(Reply(200, {}, text))
    assert ask(asker, exact=True).rows == [[2**100 + 1]] * 50_000


@pytest.mark.parametrize(
    "change",
    [{"results": {"a": 1}}, {"results": [{"a": 1}]}, {"results": [[1], "b"]}, {"columns": [1]}, {"types": "String"}],
)
def test_answers_of_another_shape(change: dict[str, object]) -> None:
    with pytest.raises(PostHogTransportError):
        parse(json.dumps({"results": [[1]], "columns": ["a"], "types": [["a", "UInt8"]], **change}).encode())
