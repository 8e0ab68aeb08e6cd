"""An object storage that misbehaves on purpose: knows ranges and ETags, and cuts where it is told to."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass(frozen=True)
class Turn:
    """What the storage does with one request.

    :param content: the file's bytes.
    :param stop: cut the connection when the file's bytes up to here were sent.
    :param silence: seconds of silence before the cut.
    :param etag: the file's ETag.
    :param ranges: whether it answers ``Range``.
    :param minds_etag: whether it minds ``If-Range``.
    :param shift: begins a range so many bytes beside what was asked for, and says so.
    :param framing: how the body's end is told.
    :param lie: is added to the Content-Length.
    :param status: an error in place of the file.
    :param drop: close the connection without an answer.
    :param headers: more headers.
    """

    content: bytes = b""
    stop: int | None = None
    silence: float = 0.0
    etag: str | None = '"one"'
    ranges: bool = True
    minds_etag: bool = True
    shift: int = 0
    framing: Literal["length", "chunks", "nothing"] = "length"
    lie: int = 0
    status: int = 0
    drop: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


class Storage:
    """The storage; each request takes the next turn, and the last one answers whatever comes after it."""

    def __init__(self, *turns: Turn) -> None:
        self.turns = list(turns)
        self.requests: list[dict[str, str]] = []
        self._lock = threading.Lock()
        storage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else a body waits 40 ms for the acknowledgement of its head

            def do_GET(self) -> None:
                storage.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                """Stay silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/bucket/file?X-Amz-Signature=5ec7e7"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self.requests.append({name.lower(): value for name, value in handler.headers.items()})
            turn = self.turns.pop(0) if len(self.turns) > 1 else self.turns[0]
        if turn.drop:
            return _cut(handler)
        if turn.status:
            return _send_head(handler, turn.status, {"Content-Length": "0"})
        start, status = _range(turn, self.requests[-1])
        headers = dict(turn.headers)
        if turn.etag is not None:
            headers["ETag"] = turn.etag
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(turn.content) - 1}/{len(turn.content)}"
        if turn.framing == "length":
            headers["Content-Length"] = str(len(turn.content) - start + turn.lie)
        elif turn.framing == "chunks":
            headers["Transfer-Encoding"] = "chunked"
        _send_head(handler, status, headers)
        body = turn.content[start : turn.stop]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) if turn.framing == "chunks" and body else body)
        time.sleep(turn.silence)
        if turn.stop is not None or turn.lie or turn.framing == "nothing":
            return _cut(handler)
        if turn.framing == "chunks":
            handler.wfile.write(b"0\r\n\r\n")
        return None


def _range(turn: Turn, headers: Mapping[str, str]) -> tuple[int, int]:
    asked = headers.get("range")
    if not asked or not turn.ranges or (turn.minds_etag and headers.get("if-range") != turn.etag):
        return 0, 200
    return int(asked.removeprefix("bytes=").removesuffix("-")) + turn.shift, 206


def _send_head(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
    handler.send_response_only(status)
    for name, value in {"Content-Type": "text/csv", **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()


def _cut(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def storage_of(*turns: Turn) -> Iterator[Storage]:
    """Run a storage while the block runs."""
    storage = Storage(*turns)
    thread = threading.Thread(target=storage.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        storage.server.shutdown()
        storage.server.server_close()
        thread.join(5)
