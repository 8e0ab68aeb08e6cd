"""A tiny real proxy: CONNECT for https, whole addresses for http, and the ways in which proxies fail."""

from __future__ import annotations

import select
import socket
import threading
from typing import Literal
from urllib.parse import urlsplit

from tests.support.scripted import abort

#: What it does: hand on; refuse (407, 502); close or hold the connection at the greeting; hand on and lose the answer.
Way = Literal["works", "407", "502", "403", "closes", "resets", "hangs", "loses", "loses with a reset"]


class Proxy:
    """The proxy; use it in a ``with``.

    :param way: what it does.
    :param count: for how many connections; after that it works.
    """

    def __init__(self, way: Way = "works", count: int = 1_000_000) -> None:
        self.way = way
        self.count = count
        self.connections = 0
        self._closed = threading.Event()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Proxy:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)  # as in ScriptedServer.close
        self._socket.close()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(30)
        with connection:
            try:
                head = _head(connection)
                if head:
                    self._answer(connection, head)
            except OSError:
                pass

    def _answer(self, connection: socket.socket, head: bytes) -> None:
        self.connections += 1
        way = self.way if self.connections <= self.count else "works"
        method, target, _ = head.split(b" ", 2)
        if way in ("407", "502", "403"):
            connection.sendall(f"HTTP/1.1 {way} No\r\nContent-Length: 0\r\n\r\n".encode())
        elif way == "hangs":
            self._closed.wait(30)
        elif way == "resets":
            abort(connection)
        elif way != "closes":
            url = urlsplit(f"//{target.decode()}" if method == b"CONNECT" else target.decode())
            with socket.create_connection((url.hostname or "", url.port or 80), 10) as server:
                if method == b"CONNECT":
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    server.sendall(head)
                self._tunnel(connection, server, way)

    def _tunnel(self, client: socket.socket, server: socket.socket, way: Way) -> None:
        while True:
            for one in select.select([client, server], [], [], 30)[0]:
                data = one.recv(65536)
                if one is server and data and way.startswith("loses"):
                    if way == "loses with a reset":
                        abort(client)
                    return
                if not data:
                    return
                (server if one is client else client).sendall(data)


def _head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    return data
