"""Answers of bulk reading as bytes: however they come, whole and without copies of them."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogError, PostHogTransportError
from airflow_provider_posthog.extract.asking import Asker, Stopped, parse
from airflow_provider_posthog.extract.statements import Statement
from tests.support.scripted import Reply, ScriptedServer

SETTINGS = {"api_key": "phx_0123456789", "project_id": 1, "read_timeout": 5.0}
QUERY = Statement("SELECT 1", {})
TEXT = "é" * 4_000_000
ANSWER = json.dumps({"results": [[TEXT]], "columns": ["a"], "types": [["a", "String"]]}, ensure_ascii=False).encode()


@pytest.fixture
def asker(server: ScriptedServer) -> Asker:
    return Asker(ClientSettings(base_url=server.url, **SETTINGS), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("encoding", ["gzip", ""])
def test_answers_are_whole(server: ScriptedServer, asker: Asker, encoding: str) -> None:
    body = gzip.compress(ANSWER, 1) if encoding else ANSWER
    headers = {"Content-Encoding": encoding} if encoding else {}
    server.script(Reply(200, {}, ANSWER, cut="body"), Reply(200, {}, b"1", cut="chunk"), Reply(200, headers, body))
    result = asker.ask(QUERY)
    assert result.rows == [[TEXT]]
    assert (result.size, asker.size) == (len(ANSWER), len(ANSWER))
    asker.close()


class Answering(BaseHTTPRequestHandler):
    """Sends the answer as it is, without another copy in this process."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response_only(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)


def test_an_answer_is_held_once() -> None:
    """Pieces would be there beside what they are joined to."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    asker = Asker(ClientSettings(base_url=f"http://127.0.0.1:{server.server_port}", **SETTINGS), 1)  # type: ignore[arg-type]
    try:
        asker.fetch(QUERY)  # what is made once
        tracemalloc.start()
        body, _ = asker.fetch(QUERY)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        asker.close()
        server.shutdown()
        server.server_close()
    assert body == ANSWER
    assert peak < 1.25 * len(ANSWER)


def test_waiting_ends_when_told_to_stop(asker: Asker) -> None:
    began = time.monotonic()
    asker.wait(0.01)
    assert time.monotonic() - began >= 0.01
    asker.stop()
    with pytest.raises(Stopped):
        asker.wait(600)
    with pytest.raises(Stopped):
        asker.fetch(QUERY)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"<html>", b"\xff", b"null", b'"results"'])
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(PostHogError):
        parse(body)


@pytest.mark.parametrize("kind", ["UInt128", "Nullable(Int256)", "Array(UInt256)"])
def test_long_integers_are_exact(kind: str) -> None:
    """The fast parser would make floats of them."""
    body = json.dumps({"results": [[2**100 + 1]], "columns": ["a"], "types": [["a", kind]]}).encode()
    assert parse(body).rows == [[2**100 + 1]]


@pytest.mark.parametrize(
    "change",
    [{"results": {"a": 1}}, {"results": [{"a": 1}]}, {"results": [[1], "b"]}, {"columns": [1]}, {"types": "String"}],
)
def test_answers_of_another_shape(change: dict[str, object]) -> None:
    with pytest.raises(PostHogTransportError):
        parse(json.dumps({"results": [[1]], "columns": ["a"], "types": [["a", "UInt8"]], **change}).encode())
