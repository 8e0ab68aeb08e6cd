"""A fake PostHog that costs next to nothing: ``python -m benchmarks.server [--events 200000]``.

It answers projects, ``GET events/``, HogQL (see :mod:`benchmarks.fake_events`) and exports' content, on 127.0.0.1,
as PostHog Cloud does since 2026: at most 1,000 events a page from ``events/``, newest first, with ``next``; at most
50,000 rows of HogQL, and no OFFSET. Everything it sends lies ready in memory, so it is not what is measured: its own
CPU seconds are told by ``GET /__stats``. ``GET /__reset?latency_ms=300&events_cap=10000`` changes it while it runs.
``--mib-per-second 300`` sends no faster, as a network does.
``--tls FILE`` makes it speak TLS, with the key and the certificate in that file.
``--persons 1000000`` gives it persons in place of events (see :mod:`benchmarks.fake_persons`), and ``row_us=60`` in a
reset lets each row take so many microseconds.
Prints its address as a line of JSON when it is ready, and stops when its standard input is closed.
"""

from __future__ import annotations

import argparse
import json
import re
import ssl
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from benchmarks.fake_events import Events, Refused, iso, parse
from benchmarks.fake_persons import Persons

MIB = 1024 * 1024
_PROJECT = {"id": 1, "uuid": "0", "organization": "0", "api_token": "phc_x", "name": "bench", "timezone": "UTC"}
_CSV = b"2026-01-01T00:00:00Z,$pageview,user_1@example.com,https://www.example.com/pricing,Chrome,Zurich,12.50\n"

Answer = tuple[int, list[Any], int]


class FakePostHog:
    """What the server answers, and what it counted.

    :param events: the events.
    """

    def __init__(self, events: Events | Persons) -> None:
        self._events = events
        self._content = memoryview((_CSV * (1 + MIB // len(_CSV)))[:MIB])
        self._lock = threading.Lock()
        self._running = 0
        self.base = ""
        self.reset({})

    def reset(self, given: dict[str, str]) -> None:
        """Set the counts to 0.

        :param given: ``latency_ms`` added to each answer, ``row_us`` to each row of one, and ``events_cap``, the most
            events of a page.
        """
        self.requests = self.bytes = self.most = 0
        self.latency = int(given.get("latency_ms", 0)) / 1000
        self.row_us = float(given.get("row_us", 0)) / 1_000_000
        self.events_cap = int(given.get("events_cap", 1000))
        self._cpu = time.process_time()

    def stats(self) -> dict[str, float]:
        """Return what was counted since the last reset."""
        cpu = time.process_time() - self._cpu
        return {"requests": self.requests, "bytes": self.bytes, "in_flight": self.most, "cpu": cpu}

    def answer(self, method: str, target: str, body: bytes) -> Answer:
        """Answer a request of the API, after the latency.

        :param method: GET or POST.
        :param target: path and query.
        :param body: the body.
        :returns: the status, the body's pieces, and its size.
        """
        with self._lock:
            self.requests += 1
            self._running += 1
            self.most = max(self.most, self._running)
        try:
            time.sleep(self.latency)
            status, pieces = self._route(method, target, body)
        except (Refused, KeyError, ValueError) as error:
            status, pieces = 400, [json.dumps({"type": "validation_error", "detail": str(error)}).encode()]
        size = sum(map(len, pieces))
        with self._lock:
            self._running -= 1
            self.bytes += size
        return status, pieces, size

    def _route(self, method: str, target: str, body: bytes) -> tuple[int, list[Any]]:
        url = urlsplit(target)
        path, query = url.path.rstrip("/"), dict(parse_qsl(url.query))
        if path in ("/api/projects", "/api/organizations/@current/projects"):
            results = [] if int(query.get("offset", 0)) else [_PROJECT]
            return 200, [json.dumps({"count": 1, "next": None, "previous": None, "results": results}).encode()]
        if method == "POST" and path == "/api/projects/1/query":
            asked = json.loads(body)["query"]
            pieces, rows = self._events.query(asked["query"], asked.get("values", {}))
            time.sleep(self.row_us * rows)
            return 200, pieces
        if path == "/api/projects/1/events" and isinstance(self._events, Events):
            return 200, self._page(self._events, url.path, query)
        if found := re.fullmatch(r"/api/projects/1/exports/(\d+)/content", path):
            return 200, [self._content] * int(found[1])
        return 404, [b'{"detail":"Not found."}']

    def _page(self, events: Events, path: str, query: dict[str, str]) -> list[Any]:
        """Answer ``GET events/``: newest first; both edges are left out, so that tied events on one are lost."""
        count = len(events)
        before = bisect_left(events.times, parse(query["before"])) if query.get("before") else count
        after = bisect_right(events.times, parse(query["after"])) if query.get("after") else 0
        first, end = count - before + int(query.get("offset", 0)), count - after
        last = max(first, min(first + min(int(query.get("limit", 100)), self.events_cap), end))
        following = b"null"
        if first < last < end:
            kept = {name: value for name, value in query.items() if name != "offset"}
            more = urlencode({**kept, "before": iso(events.times[count - last])})
            following = json.dumps(f"{self.base}{path}?{more}").encode()
        return [b'{"next":', following, b',"results":[', events.objects.cut(first, last), b"]}"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    posthog: FakePostHog
    pace = 0.0  # seconds for each MiB at the least

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path == "/__stats":
            self._send(200, [json.dumps(self.posthog.stats()).encode()])
        elif url.path == "/__reset":
            self.posthog.reset(dict(parse_qsl(url.query)))
            self._send(200, [b"{}"])
        else:
            self._answer("GET", b"")

    def do_POST(self) -> None:
        self._answer("POST", self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, method: str, body: bytes) -> None:
        status, pieces, size = self.posthog.answer(method, self.path, body)
        self._send(status, pieces, size)

    def _send(self, status: int, pieces: list[Any], size: int | None = None) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", "text/csv" if "/exports/" in self.path else "application/json")
        self.send_header("Content-Length", str(sum(map(len, pieces)) if size is None else size))
        self.end_headers()
        began, sent = time.perf_counter(), 0
        try:
            for piece in pieces:
                self.connection.sendall(piece)
                sent += len(piece)
                time.sleep(max(0.0, began + sent / MIB * self.pace - time.perf_counter()) if self.pace else 0.0)
        except ConnectionError:
            self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as the base class has it
        """Say nothing of clients that hang up."""


def main() -> None:
    """Serve until standard input is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--persons", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls", metavar="FILE")
    parser.add_argument("--mib-per-second", type=float, default=0)
    arguments = parser.parse_args()
    posthog = FakePostHog(Persons(arguments.persons) if arguments.persons else Events(arguments.events))
    given = {"posthog": posthog, "pace": 1 / arguments.mib_per_second if arguments.mib_per_second else 0.0}
    server = _Server(("127.0.0.1", arguments.port), type("Handler", (_Handler,), given))
    if arguments.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    posthog.base = f"http{'s' if arguments.tls else ''}://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    events = posthog._events
    sizes = {"row": events.rows.size // max(len(events), 1), "object": events.objects.size // max(len(events), 1)}
    told = {"url": posthog.base, "events": len(events), "tied": events.tied, "bytes": sizes}
    print(json.dumps(told), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
