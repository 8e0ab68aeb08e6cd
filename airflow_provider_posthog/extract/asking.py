"""Queries of bulk reading: fresh answers only, parsed from their bytes, and which failures a smaller question mends."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from dataclasses import dataclass
from typing import Any, cast

import orjson  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError, PostHogJobFailed, PostHogTransportError
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.results.answer import read

#: What the queries are called in PostHog's query log.
NAME = "airflow-provider-posthog: extract"

_HEAVY_STATUSES = frozenset({504, 512, 513, 524})
#: ClickHouse's limits of time, memory and size, as PostHog words them in codes and sentences.
_HEAVY = re.compile(
    r"(?i)timeout|timed out|too[ _]slow|too[ _]long|memory[ _]limit|too[ _]large|too[ _]many[ _](?:rows|bytes)"
    r"|size[ _]exceeded|execution[ _]time"
)
#: Seconds after which one that waits looks whether it was told to stop.
_NAP = 0.25
#: orjson makes floats of longer integers.
_LONG = re.compile(r"Int(?:128|256)")


@dataclass(frozen=True)
class Result:
    """The answer to a query.

    :param columns: the names.
    :param types: pairs of a name and a ClickHouse type.
    :param rows: the rows.
    :param size: bytes of the answer.
    """

    columns: list[str]
    types: list[list[str]]
    rows: list[list[Any]]
    size: int


class Stopped(Exception):
    """The reading was closed: nothing failed."""


class Asker:
    """Asks PostHog from several threads, each with a client of its own. Close it.

    :param settings: where the project is, and with which key.
    :param in_flight: how many queries are on their way at once.
    """

    def __init__(self, settings: ClientSettings, in_flight: int) -> None:
        self._settings = settings
        self._places = threading.BoundedSemaphore(in_flight)
        self._local = threading.local()
        # Not a Lock, nor an Event: a task is told to stop by a signal, in whatever its main thread is just doing.
        self._lock = threading.RLock()
        self._clients: list[Client] = []
        self._stopped = False
        self.size = 0

    def ask(self, statement: Statement) -> Result:
        """Ask, and parse the whole answer.

        :param statement: the query.
        :raises PostHogError: if there is no good, fresh answer.
        """
        return parse(self.fetch(statement)[0])

    def fetch(self, statement: Statement) -> tuple[bytes, float]:
        """Ask, and return the answer's bytes, and how many seconds it took.

        :param statement: the query.
        :raises PostHogError: if there is no good answer.
        """
        call = queries.start(queries.hogql(statement.sql, statement.values), refresh="force_blocking", name=NAME)
        raw = cast("Call[bytes]", dataclasses.replace(call, read=_body))  # type: ignore[arg-type]
        with self._places:
            self.check()
            began = time.monotonic()
            body = self._client().send(raw)
            seconds = time.monotonic() - began
        with self._lock:
            self.size += len(body)
        return body, seconds

    def check(self) -> None:
        """Do nothing, unless the reading was closed.

        :raises Stopped: if it was.
        """
        if self._stopped:
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait, unless the reading is closed.

        :param seconds: how long.
        :raises Stopped: if it is closed.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(left, _NAP))
        self.check()

    def stop(self) -> None:
        """Let no more queries go; may be called at any time, by a handler of signals too."""
        self._stopped = True

    def close(self) -> None:
        """Let no more queries go, and close the connections."""
        self.stop()
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._local.client = Client(self._settings)
            with self._lock:
                self._clients.append(client)
        return client


def _body(answer: Answer) -> bytes:
    return answer.body


def parse(body: bytes) -> Result:
    """Read an answer of ``/query/``.

    :param body: its bytes.
    :raises PostHogJobFailed: if it holds an error, though its status is 200.
    :raises PostHogTransportError: if it is none, or comes from PostHog's cache.
    """
    answer = _json(body)
    found = read(answer, stale=PostHogTransportError)
    # The reader compares rows with what it asked for, and knows more to say; those would pass there for other rows.
    if not isinstance(found.rows, list) or not set(map(type, found.rows)).isdisjoint({dict, str}):
        raise PostHogTransportError("POST query/: the answer has no 'results' that are a list of rows")
    if found.columns is None or not isinstance(found.types, list):
        raise PostHogTransportError("POST query/: the answer does not say what its columns are")
    types = found.types
    if _LONG.search(str(types)):
        answer = json.loads(body)
    return Result(found.columns, types, answer["results"], len(body))


def _json(body: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(body)
    except ValueError:
        pass  # NaN and halves of surrogate pairs are nothing to orjson
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise PostHogTransportError(
            f"POST query/: the answer ({len(body)} bytes) is not JSON: check that the host is PostHog itself"
        ) from None


def is_too_heavy(error: PostHogError) -> bool:
    """Tell whether PostHog gave up on a query because of its size: a smaller window may do.

    :param error: what :meth:`Asker.ask` raised.
    """
    if isinstance(error, PostHogAPIError):
        if error.status in _HEAVY_STATUSES:
            return True
        return error.status in (400, 500) and bool(_HEAVY.search(f"{error.code} {error.detail}"))
    return isinstance(error, PostHogJobFailed) and bool(_HEAVY.search(str(error)))
