"""The emulator in a process of its own, for tests and for scripts."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlencode, urlsplit


class EmulatorError(RuntimeError):
    """The emulator did not start, or refused an order; the text says why."""


class EmulatorProcess:
    """An emulator that runs while the ``with`` block does.

    ::

        with EmulatorProcess(events=5_000) as posthog:
            os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"] = posthog.airflow_connection_json()
            posthog.settings(export_outcome="exception")

    :param events: how many events there are.
    :param seed: equal seeds make equal data and keys.
    :param start: first day of the events, ``YYYY-MM-DD``; by default they end yesterday.
    :param days: how many days the events span.
    :param timezone: of the project.
    :param export_seconds: how long an export takes, in seconds.
    :param generation: the age of the PostHog that it resembles: ``A`` (until 2025), ``B`` (until September 2026) or
        ``C`` (Cloud since then).
    :param port: of the API; 0 takes any free one.
    :param storage_port: of the object storage; 0 takes any free one.
    :param scenario: a YAML file of what is in it; see docs/emulator.md.
    :param start_timeout: how long to wait for it to be ready, in seconds.
    """

    url: str
    storage_url: str
    project_id: int
    api_key: str
    project_token: str
    #: those that a scenario has made: ``name``, if it has one, and ``api_key``
    keys: Sequence[Mapping[str, str]] = ()

    def __init__(
        self,
        *,
        events: int = 20_000,
        seed: int = 7,
        start: str | None = None,
        days: int = 30,
        timezone: str = "UTC",
        export_seconds: float = 1.0,
        generation: str = "C",
        port: int = 0,
        storage_port: int = 0,
        scenario: str | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        self._arguments = {
            "events": events,
            "seed": seed,
            "days": days,
            "timezone": timezone,
            "export-seconds": export_seconds,
            "generation": generation,
            "port": port,
            "storage-port": storage_port,
            **({} if start is None else {"start": start}),
            **({} if scenario is None else {"scenario": scenario}),
        }
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[bytes] | None = None
        self._room: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> EmulatorProcess:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the emulator and wait until it is ready.

        :raises EmulatorError: when it ends or stays silent instead; with what it has written to stderr.
        """
        command = [sys.executable, "-m", "airflow_provider_posthog.emulator"]
        command += [f"--{name}={value}" for name, value in self._arguments.items()]
        # so that no emulator is left behind when this process is killed
        command.append("--stop-with-stdin")
        # a file, not a pipe: nobody would read a pipe, and a full one would stop the emulator
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        # its embedded ClickHouse leaves its folder behind where it is killed
        self._room = tempfile.TemporaryDirectory(prefix="posthog_emulator_", ignore_cleanup_errors=True)
        environment = {**_environment(), "TMPDIR": self._room.name}
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, env=environment
        )
        line = self._first_line()
        if not line.startswith(b"{"):
            self.stop()
            raise EmulatorError(f"The emulator did not start within {self._start_timeout:g} s.\n{self.stderr()}")
        for name, value in json.loads(line).items():
            setattr(self, name, value)

    def _first_line(self) -> bytes:
        if self._process is None or self._process.stdout is None:
            return b""
        end, line = time.monotonic() + self._start_timeout, b""
        descriptor = self._process.stdout.fileno()
        while not line.endswith(b"\n") and (left := end - time.monotonic()) > 0:
            if not select.select([descriptor], [], [], left)[0]:
                break
            part = os.read(descriptor, 65536)
            if not part:
                break
            line += part
        return line

    def stop(self) -> None:
        """Stop the emulator; it does not matter if it has stopped already."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if self._room is not None:
            self._room.cleanup()

    @property
    def returncode(self) -> int | None:
        """The exit status, or None while it runs."""
        return self._process.poll() if self._process else None

    def stderr(self) -> str:
        """Return what the emulator has written to stderr."""
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        return self._stderr.read().decode("utf-8", "replace")

    def airflow_connection_json(self, **extra: object) -> str:
        """Return the text for ``AIRFLOW_CONN_POSTHOG_DEFAULT``.

        :param extra: further extras of the connection.
        """
        extras = {"project_id": self.project_id, **extra}
        connection = {"conn_type": "posthog", "host": self.url, "password": self.api_key, "extra": extras}
        return json.dumps(connection)

    def faults(self, **fault: object) -> list[dict[str, Any]]:
        """Order a fault for coming requests, and return all that wait; see docs/emulator.md for its parts.

        :param fault: such as ``method="POST", path="*/exports/", status=503``.
        """
        return list(self.control("POST", "faults", fault)["faults"])

    def clear_faults(self) -> None:
        """Take all faults away."""
        self.control("DELETE", "faults")

    def settings(self, **changes: object) -> dict[str, Any]:
        """Change settings and return all of them.

        :param changes: new values by name.
        """
        return self.control("POST", "settings", changes)

    def next_exports(self, outcome: str, *, count: int = 1, **plan: object) -> None:
        """Set the outcome of the next exports.

        :param outcome: ``succeed``, ``exception``, ``exception_then_success``, ``silent_failure`` or ``slow``.
        :param count: of how many.
        :param plan: ``export_seconds``, ``exception_text`` and ``content``.
        """
        self.control("POST", "exports", {"outcome": outcome, "count": count, **plan})

    def create_secret_key(self, scopes: Sequence[str] = ("query:read",)) -> str:
        """Make a secret key of the project (``phs_...``), which has no user, and return it.

        :param scopes: some of ``query:read``, ``endpoint:read`` and ``experiment:read``.
        """
        return str(self.control("POST", "keys", {"scopes": list(scopes), "secret": True})["api_key"])

    def create_key(self, scopes: list[str] | None = None, *, user: int = 1, projects: list[int] | None = None) -> str:
        """Make a personal API key and return it.

        :param scopes: what it allows; everything by default.
        :param user: whose it is; a new number makes a new user.
        :param projects: what it is limited to; nothing by default.
        """
        body: dict[str, object] = {"scopes": scopes or ["*"], "user": user}
        if projects is not None:
            body["projects"] = projects
        return str(self.control("POST", "keys", body)["api_key"])

    def calls(self, path: str = "", method: str | None = None) -> list[dict[str, Any]]:
        """Return the calls that were made.

        :param path: only those whose path contains it.
        :param method: only those with it.
        """
        query = {"path": path, **({"method": method} if method else {})}
        return list(self.control("GET", f"calls?{urlencode(query)}")["calls"])

    def stats(self) -> dict[str, Any]:
        """Return how often each route was called, how many exports there are, and what was calculated at once."""
        return self.control("GET", "stats")

    def advance(self, seconds: float) -> None:
        """Move the emulator's clock forward.

        :param seconds: how far.
        """
        self.control("POST", "clock", {"advance": seconds})

    def query_budget(self, remaining: int | None = None) -> int:
        """Return how many bytes the project's queries may still read; below zero if one took more than there was.

        :param remaining: set it to that first; ``settings(query_bytes_per_hour=...)`` refuses queries at zero.
        """
        if remaining is None:
            return int(self.control("GET", "query_budget")["remaining"])
        return int(self.control("POST", "query_budget", {"remaining": remaining})["remaining"])

    def add_events(self, events: Sequence[Mapping[str, object]]) -> None:
        """Add events.

        :param events: each with ``uuid``, ``event``, ``distinct_id``, ``person_id``, ``timestamp``, ``created_at``
            (ISO) and ``properties``.
        """
        self.control("POST", "events", {"events": events})

    def count_events(self, start: str, end: str, column: str = "timestamp") -> int:
        """Count events, not through HogQL.

        :param start: ISO, included.
        :param end: ISO, excluded.
        :param column: ``timestamp`` or ``created_at``.
        """
        query = urlencode({"start": start, "end": end, "column": column})
        return int(self.control("GET", f"events/count?{query}")["count"])

    def add_persons(self, persons: Sequence[Mapping[str, object]] | int) -> list[str]:
        """Make persons and return their uuids.

        :param persons: each with ``distinct_ids`` and perhaps ``properties``, ``uuid``, ``created_at`` (ISO) and
            ``is_identified``; or how many, of whatever kind.
        """
        body = {"count": persons} if isinstance(persons, int) else {"persons": persons}
        return list(self.control("POST", "persons", body)["uuids"])

    def capture(self, events: Sequence[Mapping[str, object]]) -> list[str]:
        """Capture events as PostHog does, which finds or makes their persons, and return the uuids of those.

        :param events: each with ``event`` and ``distinct_id``, and perhaps ``uuid``, ``timestamp``, ``created_at``,
            ``elements_chain``, ``properties``, ``$set`` and ``$unset``.
        """
        return list(self.control("POST", "capture", {"events": events})["persons"])

    def add_recordings(self, recordings: Sequence[Mapping[str, object]]) -> None:
        """Add session recordings.

        :param recordings: each with ``session_id``, ``distinct_id`` and ``timestamp`` (ISO).
        """
        self.control("POST", "recordings", {"recordings": recordings})

    def add_rows(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Add rows of a table that PostHog fills by itself.

        :param table: such as ``heatmaps``, ``flag_evaluations``, ``logs`` or ``system.source_sync_jobs``.
        :param rows: each with that table's columns, such as ``distinct_id`` and ``timestamp`` (ISO).
        """
        self.control("POST", "rows", {"table": table, "rows": rows})

    def add_records(self, kind: str, rows: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
        """Add records, and return them as they are then.

        :param kind: the path of their list, such as ``feature_flags``.
        :param rows: what each has.
        """
        return list(self.control("POST", "records", {"kind": kind, "rows": rows})["records"])

    def add_cohort(self, name: str, **members: object) -> int:
        """Make a cohort, whose members are found now, and return its id.

        :param name: of the cohort.
        :param members: ``persons`` (uuids), ``distinct_ids`` or ``query`` (HogQL, whose first column has uuids), and
            perhaps ``is_static`` and ``id`` (that of a cohort calculates it again).
        """
        return int(self.control("POST", "cohorts", {"name": name, **members})["id"])

    def add_action(self, name: str, steps: Sequence[Mapping[str, object]]) -> int:
        """Make an action for ``matchesAction``, and return its id.

        :param name: of the action.
        :param steps: each with some of ``event``, ``url``, ``url_matching`` and ``properties`` (values by name).
        """
        return int(self.control("POST", "actions", {"name": name, "steps": steps})["id"])

    def add_table(self, name: str, columns: Mapping[str, str], rows: Sequence[Mapping[str, object]] = ()) -> None:
        """Make a table of PostHog's warehouse.

        :param name: such as ``hubspot_contacts`` or ``stripe.charges``.
        :param columns: ClickHouse's types by name.
        :param rows: each with values by column.
        """
        self.control("POST", "tables", {"name": name, "columns": columns, "rows": list(rows)})

    def add_view(self, name: str, query: str) -> None:
        """Make a view.

        :param name: of the view.
        :param query: its HogQL.
        """
        self.control("POST", "views", {"name": name, "query": query})

    def fail_deletions(self, uuids: list[str], step: str = "delete_postgres") -> None:
        """Let the deletion of persons fail from now on.

        :param uuids: of the persons; none for no person any more.
        :param step: where it stops.
        """
        self.control("POST", "persons/failures", {"uuids": uuids, "step": step})

    def sweep(self) -> dict[str, Any]:
        """Run the weekly deletion of events now, and return how many requests and events it was.

        It runs by itself when the clock passes a Sunday, 05:00 UTC.
        """
        return self.control("POST", "sweep")

    def reset(self) -> None:
        """Go back to the start, data included."""
        self.control("POST", "reset")

    def control(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Call the control interface and return its JSON.

        :param method: in capitals.
        :param path: below ``/__emulator__/``.
        :param body: sent as JSON, or None.
        :raises EmulatorError: when it refuses, with its reason.
        """
        data = None if body is None else json.dumps(body).encode()
        # no proxy stands between a test and 127.0.0.1; urllib would ask the environment for one at each call
        with closing(HTTPConnection(urlsplit(self.url).netloc, timeout=60)) as connection:
            connection.request(method, f"/__emulator__/{path}", data, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 300:
            raise EmulatorError(f"{method} /__emulator__/{path}: {answer.status} {text.decode()}")
        read: dict[str, Any] = json.loads(text)
        return read


def _environment() -> dict[str, str]:
    # the child imports what this process imports, installed or not
    paths = [path for path in sys.path if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
