"""A server between a client and the emulator, which bends the JSON of one of its answers."""

from __future__ import annotations

import copy
import http.client
import json
import random
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Path = tuple[str | int, ...]
_NUMBERED = re.compile(r"/(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27}|airflow-[0-9a-f]+)(?=/)")
#: What a value turns into; DROP takes its key away.
DROP = object()
BENT: tuple[Any, ...] = (
    DROP,
    None,
    [],
    {},
    "",
    "x",
    "7",
    -1,
    10**30,
    1.5,
    True,
    [None],
    [[]],
    [{}],
    {"a": None},
    ["x"],
)


def route_of(method: str, target: str) -> str:
    return f"{method} {_NUMBERED.sub('/{id}', urlsplit(target).path)}"


def positions(value: Any, path: Path = (), depth: int = 5) -> Iterator[Path]:
    """Every place in some JSON; of a list only its first and last item."""
    yield path
    if depth == 0:
        return
    if isinstance(value, dict):
        for name, one in list(value.items())[:40]:
            yield from positions(one, (*path, name), depth - 1)
    elif isinstance(value, list) and value:
        for index in sorted({0, len(value) - 1}):
            yield from positions(value[index], (*path, index), depth - 1)


def bend(value: Any, path: Path, bent: Any) -> Any:
    """Put something else at a place; what has no such place stays."""
    if not path:
        return None if bent is DROP else bent
    made = copy.deepcopy(value)
    at = made
    try:
        for step in path[:-1]:
            at = at[step]
        if bent is DROP:
            del at[path[-1]]
        else:
            _ = at[path[-1]]
            at[path[-1]] = copy.deepcopy(bent)
    except (KeyError, IndexError, TypeError):
        return value
    return made


class Bender:
    """Hands requests on to the emulator, and bends the answers of one route.

    :param upstream: the emulator's address.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.seen: dict[str, Any] = {}
        self.straight()
        bender = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else a body waits 40 ms for the acknowledgement of its head

            def handle_one(self) -> None:
                bender.answer(self)

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def straight(self) -> None:
        """Bend nothing."""
        self.target: tuple[str, Path, Any] | None = None

    def choose(self, some: random.Random) -> tuple[str, Path, Any]:
        """Choose what to bend, among what was seen."""
        route = some.choice(sorted(self.seen))
        path = some.choice(list(positions(self.seen[route])))
        self.target = (route, path, some.choice(BENT))
        return self.target

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.rfile.read(length) if length else None
        host = self.upstream.hostname or ""
        with_host = {name: value for name, value in request.headers.items() if name.lower() != "accept-encoding"}
        connection = http.client.HTTPConnection(host, self.upstream.port, timeout=30)
        try:
            connection.request(request.command, request.path, body, with_host)
            response = connection.getresponse()
            data = response.read()
        finally:
            connection.close()
        if "json" in (response.headers.get("Content-Type") or ""):
            data = self._bent(route_of(request.command, request.path), data)
        request.send_response(response.status)
        for name, value in response.headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                request.send_header(name, value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _bent(self, route: str, data: bytes) -> bytes:
        try:
            value = json.loads(data)
        except ValueError:
            return data
        if self.target is None:
            self.seen[route] = value
            return data
        wanted, path, bent = self.target
        return json.dumps(bend(value, path, bent)).encode() if wanted == route else data
