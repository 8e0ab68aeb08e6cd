"""An emulator with events of our own, and a server in front of it that misbehaves."""

from __future__ import annotations

import itertools
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.extract.cells import EPOCH, Cell
from airflow_provider_posthog.extract.reader import Chunk, Extraction
from airflow_provider_posthog.extract.sources import Source, events, hogql
from airflow_provider_posthog.extract.windows import PARTS, Part, Position, Window

UTC = timezone.utc
SECOND = timedelta(seconds=1)
#: What a rule gives: a status and JSON.
Told = tuple[int, dict[str, Any]]
#: Gets a query and its values, and a function that asks the emulator.
Rule = Callable[[str, Mapping[str, Any], Callable[[], Told]], Told]


def settings_of(url: str, posthog: EmulatorProcess, **changes: Any) -> ClientSettings:
    return ClientSettings(base_url=url, api_key=posthog.api_key, project_id=posthog.project_id, **changes)


def event(at: datetime, *, created: datetime | None = None, name: str = "e", **properties: Any) -> dict[str, Any]:
    return {
        "uuid": str(uuid.uuid4()),
        "event": name,
        "distinct_id": "d",
        "person_id": str(uuid.UUID(int=1)),
        "timestamp": at.isoformat(),
        "created_at": (created or at).isoformat(),
        "properties": properties,
    }


def sliced(time: str = "created_at", **options: Any) -> Source:
    """The events as a query: these are read by slices of time, and not by cells."""
    columns = "uuid, event, distinct_id, person_id, timestamp, created_at, properties"
    return hogql(
        f"SELECT {columns} FROM events", key="uuid", time_column=time, **{"name": "events", "copies": True, **options}
    )


#: How events can be read, by ``created_at``.
WAYS: dict[str, Callable[[], Source]] = {"cells": events, "slices": sliced}


def refusing(limit: int, refusal: Told) -> Rule:
    """Refuse windows with more rows than so many, as PostHog refuses what takes longer than ten seconds."""

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        asked = re.search(r"ORDER BY created_at.* LIMIT (\d+)$", sql)
        return refusal if asked and int(asked[1]) > limit + 1 else ask()

    return rule


def envelope(code: str, detail: str) -> dict[str, Any]:
    return {"type": "server_error", "code": code, "detail": detail, "attr": None}


REFUSALS = [
    (504, envelope("error", "Query has hit the max execution time before completing.")),
    (512, envelope("error", "Estimated query execution time (15 seconds) is too long.")),
    (513, envelope("error", "Query size exceeded.")),
    (400, envelope("timeout_exceeded", "Timeout exceeded: elapsed 10.0 seconds")),
    (400, envelope("memory_limit_exceeded", "Memory limit (for query) exceeded")),
    (200, {"results": [], "error": "Estimated query execution time is too long. Try reducing its scope."}),
]


def uuids(events: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({str(each["uuid"]) for each in events})


def read(settings: ClientSettings, source: Source, start: datetime, end: datetime, **options: Any) -> list[Chunk]:
    with Extraction(settings, source, start, end, **options) as extraction:
        chunks = list(extraction)
    assert tiles(chunks, extraction, options.get("resume_after"))
    for chunk in chunks:
        assert chunk.rows == chunk.table.num_rows == chunk.counted - chunk.duplicates
        assert chunk.table.schema == extraction.schema
    assert extraction.progress.windows == len(chunks)
    assert extraction.progress.rows == sum(chunk.counted for chunk in chunks)
    return chunks


def tiles(chunks: Sequence[Chunk], extraction: Extraction, resume: Position | None = None) -> bool:
    """Whether the windows cover the range, or what an earlier reading has left of it, without a gap or an overlap."""
    windows = [chunk.window for chunk in chunks]
    whole, root = extraction.window, _root(extraction)
    begun = resume is not None and resume.until is not None
    left = _left(root, resume) if resume is not None and begun else []
    if begun and not left:
        return all(not chunk.rows for chunk in chunks)
    begins = windows[0].start == whole.start and windows[0].first == 0
    part = (resume.part or (root.first_day, root.last_day)) if resume is not None and begun else None
    begins = begins and _begins(windows[0], left[0] if left else root, part)
    after = windows[-1].after()
    ends = windows[-1].end == whole.end and windows[-1].last == PARTS and after is not None
    ends = ends and (after is None or after.until is None or not _left(root, after))
    return begins and ends and all(_follows(one, two, root) for one, two in itertools.pairwise(windows))


def _root(extraction: Extraction) -> Cell:
    """The cell that holds all of a range."""
    whole, source = extraction.window, extraction.source
    if not source.cells or source.time != "timestamp" or whole.start == whole.end:
        return Cell()
    first, last = ((edge - EPOCH) // timedelta(days=1) for edge in (whole.start, whole.end - timedelta(microseconds=1)))
    return Cell(first, last + 1)


def _begins(window: Window, cell: Cell, part: Part | None) -> bool:
    """Whether a window is where a cell begins to be read; one that was too much for a count, by its newest days."""
    newest = window.part not in (None, part) and window.part is not None and window.part[1] == cell.last_day
    first = window.part[0] if newest and window.part is not None else cell.first_day
    return _begin(window.cell) == _begin(replace(cell, first_day=first))


def _left(root: Cell, position: Position | None) -> list[Cell]:
    """What is left behind a position, in the order in which it is read."""
    assert position is not None
    first, last = position.part or (root.first_day, root.last_day)
    left = replace(root, first_day=first, last_day=last).after(position.place)
    older = first is not None and (root.first_day is None or root.first_day < first)
    return [*left, *([replace(root, last_day=first)] if older else [])]


def _begin(cell: Cell | None) -> tuple[Any, ...]:
    cell = cell or Cell()
    return cell.first_day, cell.low, cell.hashes[0], cell.keys[0]


def _follows(one: Window, two: Window, root: Cell) -> bool:
    if one.keys is not None and two.keys is not None and one.keys != two.keys:
        return (two.start, two.end, two.keys.low) == (one.start, one.end, one.keys.high) and one.keys.high is not None
    after = one.after()
    if after is None:
        return (two.start, two.end, two.first) == (one.start, one.end, one.last)
    left = _left(root, after)
    if left:
        return (two.start, two.end) == (one.start, one.end) and _begins(two, left[0], one.part)
    return two.start == one.end and two.first == 0 and _begin(two.cell)[1:] == (None, 0, 0)


def full(chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those that have rows: cells tile the whole order, where nothing was counted, too."""
    return [chunk for chunk in chunks if chunk.rows]


def lie_in_their_cells(chunks: Sequence[Chunk]) -> bool:
    """Whether each event is of the days and the events of its chunk's cell."""
    return all(
        _lies_in(chunk.window.cell or Cell(), (at - EPOCH).days, name.encode())
        for chunk in chunks
        for at, name in zip(
            chunk.table.column("timestamp").to_pylist(), chunk.table.column("event").to_pylist(), strict=True
        )
    )


def _lies_in(cell: Cell, day: int, name: bytes) -> bool:
    after = cell.low is None or (cell.low[0].encode(), cell.low[1]) <= (name, False)
    before = cell.high is None or (name, False) < (cell.high[0].encode(), cell.high[1])
    days = (cell.first_day is None or cell.first_day <= day) and (cell.last_day is None or day < cell.last_day)
    return days and after and before


def column(chunks: Sequence[Chunk], name: str = "uuid") -> list[Any]:
    return [value for chunk in chunks for value in chunk.table.column(name).to_pylist()]


class Middleman:
    """Stands between a client and the emulator; ``rule`` may change what either of them gets to see."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.rule: Rule = lambda sql, values, ask: ask()
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        self.url = ""
        self.lock = threading.Lock()

    def answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Told:
        query = json.loads(body)["query"]
        with self.lock:
            self.asked.append(query["query"])
        return self.rule(query["query"], query.get("values", {}), lambda: self._ask(path, headers, body))

    def _ask(self, path: str, headers: Mapping[str, str], body: bytes) -> Told:
        kept = {name: headers[name] for name in ("Authorization", "Content-Type")}
        with closing(HTTPConnection(urlsplit(self.target).netloc, timeout=30)) as connection:
            connection.request("POST", path, body, kept)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())


@contextmanager
def middleman_to(target: str) -> Iterator[Middleman]:
    man = Middleman(target)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits 40 ms for the acknowledgement of its head

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = man.answer(self.path, self.headers, body)  # type: ignore[arg-type]
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in man.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that goes away in the middle is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    man.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield man
    finally:
        server.shutdown()
        server.server_close()
