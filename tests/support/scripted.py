"""A tiny real HTTP server that answers from a script, and misbehaves on purpose.

Every request (or every connection that is cut before its request was read) takes the next :class:`Reply`; the last one
answers whatever comes after it. What arrived is in ``requests``.
"""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Cut = Literal["", "before", "after", "headers", "body", "chunk", "garbage"]


@dataclass(frozen=True)
class Received:
    """A request as it arrived; ``headers`` have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    :param cut: where the connection ends: ``before`` the request is read, ``after`` it is read and nothing is
        answered, after the ``headers``, in the middle of a ``body`` with Content-Length, or of a ``chunk``-ed one;
        ``garbage`` answers bytes that are neither TLS nor HTTP.
    :param delay: seconds to wait before the answer (ends early when the server closes).
    :param gate: waits for it to be set before the answer.
    :param hang_up: close the connection after a whole answer, without having said so.
    :param drip: seconds before each byte of the answer, from the byte ``drip_from`` of it on.
    :param raw: what to answer in place of all this, to the letter; the connection ends then.
    :param by: what makes the reply of the request, in place of all this.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: Cut = ""
    delay: float = 0.0
    gate: threading.Event | None = None
    hang_up: bool = False
    drip: float = 0.0
    drip_from: int = 0
    raw: bytes | None = None
    by: Callable[[Received], Reply] | None = None

    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} Scripted"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.cut == "chunk":
            lines.append("Transfer-Encoding: chunked")
        elif self.status >= 200 and self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body) + (1000 if self.cut else 0)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def ok(value: object, status: int = 200, **headers: str) -> Reply:
    """Answer JSON; underscores in the names of headers stand for hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, {"Content-Type": "application/json", **named}, json.dumps(value).encode())


def error(status: int, detail: str = "It went wrong.", *, code: str = "error", **headers: str) -> Reply:
    """Answer PostHog's envelope."""
    return ok({"type": "server_error", "code": code, "detail": detail, "attr": None}, status, **headers)


def html(status: int, text: str = "<html><body>Bad gateway</body></html>") -> Reply:
    return Reply(status, {"Content-Type": "text/html; charset=utf-8"}, text.encode())


def cut(where: Cut, body: bytes = b'{"half": ') -> Reply:
    return Reply(200, {"Content-Type": "application/json"}, body, cut=where)


class ScriptedServer:
    """The server; use it in a ``with``, or call :meth:`start` and :meth:`close`.

    :param replies: the script.
    :param tls: serves HTTPS with this context.
    """

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # refuses connections until start()
        self._tls = tls
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._open: set[socket.socket] = set()
        self._listening = False
        self.port: int = self._socket.getsockname()[1]
        self.script(*replies)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    def script(self, *replies: Reply) -> None:
        """Start over with another script and an empty record."""
        with self._lock:
            self._replies = list(replies) or [ok({})]
            self.attempts = 0
            self.connections = 0
            self.busy = 0
            self.busiest = 0
            self.requests: list[Received] = []

    def start(self) -> ScriptedServer:
        if not self._listening:
            self._listening = True
            self._socket.listen(64)
            self._accepting.start()
        return self

    def close(self) -> None:
        self._closed.set()
        if self._listening:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._accepting.join(10)  # it might else accept what comes to the next server, which has the same number
        self._socket.close()
        with self._lock:
            for connection in self._open:
                abort(connection)

    def __enter__(self) -> ScriptedServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with self._lock:
                self._open.add(connection)
                self.connections += 1
            while self._one_request(connection):
                pass
        except (OSError, ValueError):
            pass  # the client went away, or did not speak HTTP
        finally:
            connection.close()
            with self._lock:
                self._open.discard(connection)

    def _one_request(self, connection: socket.socket) -> bool:
        if not self._tls and not (select.select([connection], [], [], 30)[0] and connection.recv(1, socket.MSG_PEEK)):
            return False
        reply = None if self._tls else self._next_reply()
        if reply is not None and reply.cut == "before":
            abort(connection)
            return False
        received = _read_request(connection)
        if received is None:
            return False
        reply = reply or self._next_reply()
        reply = reply.by(received) if reply.by is not None else reply
        with self._lock:
            self.requests.append(received)
            self.busy += 1
            self.busiest = max(self.busiest, self.busy)
        try:
            if reply.gate is not None:
                reply.gate.wait(30)
            self._closed.wait(reply.delay)
        finally:
            with self._lock:
                self.busy -= 1
        return self._answer(connection, reply)

    def _next_reply(self) -> Reply:
        with self._lock:
            self.attempts += 1
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def _answer(self, connection: socket.socket, reply: Reply) -> bool:
        if reply.cut == "after":
            return False
        if reply.cut == "garbage":
            os.write(connection.fileno(), b"neither TLS nor HTTP\r\n\r\n")  # past the TLS layer
            return False
        if reply.raw is not None:
            connection.sendall(reply.raw)
            return False
        body = reply.body
        if reply.cut == "headers":
            body = b""
        elif reply.cut == "chunk":
            body = b"%x\r\n%s\r\n" % (len(body) + 1000, body)
        whole = reply.head() + body
        at_once = reply.drip_from if reply.drip else len(whole)
        connection.sendall(whole[:at_once])
        for byte in whole[at_once:]:
            if self._closed.wait(reply.drip):
                return False
            connection.sendall(bytes([byte]))
        return not reply.cut and not reply.hang_up


def abort(connection: socket.socket) -> None:
    """Close a connection with a reset."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    except OSError:
        pass


def _read_request(connection: socket.socket) -> Received | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
        if data.startswith(b"\x16"):  # a TLS greeting
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
            return None
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(_pairs(lines))
    while len(body) < int(headers.get("content-length", "0")):
        more = connection.recv(65536)
        if not more:
            return None
        body += more
    return Received(method, path, headers, body)


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        yield name.strip().lower(), value.strip()
