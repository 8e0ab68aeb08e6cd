"""Queries of bulk reading: fresh answers only, parsed as they arrive; and which failures a smaller query avoids."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import orjson  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.body import Arriving
from airflow_provider_posthog.api.byte_budget import ByteBudget
from airflow_provider_posthog.api.call import MAX_BYTES, Answer, Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogTransportError
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.results.answer import read
from airflow_provider_posthog.results.row_slices import RowSlices

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: The name of the queries in PostHog's query log.
NAME = "airflow-provider-posthog: extract"

#: Seconds after which a waiting thread checks whether it has to stop.
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


@dataclass(frozen=True)
class Parts(Generic[T]):
    """The answer to a query whose rows were converted as they arrived.

    :param columns: the names.
    :param types: pairs of a name and a ClickHouse type.
    :param rows: the converted rows.
    :param size: bytes of the answer.
    :param seconds: how long PostHog took until its answer began.
    :param coming: for how many seconds its text was waited for after that.
    :param read: bytes that ClickHouse read for it; ``None`` if PostHog does not say.
    """

    columns: list[str]
    types: list[list[str]]
    rows: T
    size: int
    seconds: float
    coming: float
    read: int | None = None


class Collector(Protocol[T_co]):
    """Collects the rows of one answer."""

    def add(self, rows: list[Any]) -> None:
        """Take some rows.

        :param rows: the rows.
        :raises PostHogTransportError: if they are none.
        """
        ...

    def value(self) -> T_co:
        """Return the converted rows."""
        ...


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
        # Not a Lock or an Event: a task is stopped by a signal, in the middle of whatever its main thread is doing.
        self._lock = threading.RLock()
        # Python lets one thread parse at a time anyway; threads that compete for the GIL cost a tenth.
        self._parsing = threading.Lock()
        self._clients: list[Client] = []
        self._stopped = False
        self.size = 0

    def ask(self, statement: Statement) -> Result:
        """Ask, and parse the whole answer.

        :param statement: the query.
        :raises PostHogError: if there is no good, fresh answer.
        """
        self._slow_down()
        with self._places:
            self.check()
            body = self._client().send(cast("Call[bytes]", dataclasses.replace(_call(statement), read=_body)))
        self._came(len(body))
        return parse(body)

    def ask_in_parts(
        self,
        statement: Statement,
        new: Callable[[], Collector[T]],
        check: Callable[[list[str], list[list[str]]], None],
        *,
        exact: bool = False,
        reads: float | None = None,
        most: int = MAX_BYTES,
    ) -> Parts[T]:
        """Ask, and convert the rows as they arrive, so that the text of all of them is never in memory.

        Nothing is returned before the whole answer has arrived and is proved to be good.

        :param statement: the query.
        :param new: makes the collector of the rows, anew for each attempt.
        :param check: raises if the columns, by names and types, are not those that the collector takes.
        :param exact: whether integers may be longer than 64 bits.
        :param reads: about how many bytes ClickHouse will read for it, where that is known.
        :param most: how many bytes the answer may have, unpacked; a larger one is left, and nothing is returned.
        :raises PostHogError: if there is no good, fresh answer.
        """
        self._slow_down(reads)
        with ExitStack() as place:
            place.enter_context(self._places)
            self.check()

            def take(arriving: Arriving) -> tuple[Parts[T], PostHogTransportError | None]:
                place.close()  # PostHog has calculated it: the next query may go
                return _Taking(arriving, new(), self.check, self._parsing, exact=exact).parts()

            answer, trouble = self._client().stream(dataclasses.replace(_call(statement), max_bytes=most), take)
        self._came(answer.size)
        check(answer.columns, answer.types)
        if trouble is not None:
            raise trouble
        if is_long(answer.types) and not exact:
            raise PostHogTransportError("integers have become longer than 64 bits while reading. Let the task retry.")
        return answer

    def _came(self, size: int) -> None:
        with self._lock:
            self.size += size

    def _slow_down(self, reads: float | None = None) -> None:
        """Wait before PostHog's byte budget is used up; where the wait is too long, the query itself fails at once."""
        if self._settings.rate_limit_share != 0:
            budget, now, most = ByteBudget.of(self._settings), time.monotonic(), self._settings.max_rate_limit_wait
            seconds = budget.pause(now, reads)
            if budget.held(now) <= most:
                self.wait(min(seconds, most))

    def check(self) -> None:
        """Raise if the reading was closed.

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
        """Send no more queries; may be called at any time, also by a signal handler."""
        self._stopped = True

    def close(self) -> None:
        """Send no more queries, and close the connections."""
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


def _call(statement: Statement) -> Call[Any]:
    return queries.start(queries.hogql(statement.sql, statement.values), refresh="force_blocking", name=NAME)


def _body(answer: Answer) -> bytes:
    return answer.body


class _Taking(Generic[T]):
    """Receives one answer."""

    def __init__(
        self,
        arriving: Arriving,
        collector: Collector[T],
        check: Callable[[], None],
        parse_lock: threading.Lock,
        *,
        exact: bool,
    ) -> None:
        self._arriving = arriving
        self._parse_lock = parse_lock
        self._collector = collector
        self._check = check
        self._slices = RowSlices(self._pieces(), exact=exact, parse_lock=parse_lock)
        self._coming = 0.0

    def parts(self) -> tuple[Parts[T], PostHogTransportError | None]:
        """Return the answer, and the error of its rows, if any."""
        collector = self._collector
        trouble: PostHogTransportError | None = None
        for rows in self._slices:
            try:
                if trouble is None:
                    with self._parse_lock:
                        collector.add(rows)
            except PostHogTransportError as error:
                # What follows the rows may hold a better reason, such as that the query failed.
                trouble = error
            del rows
        columns, types = _checked(self._slices.answer)
        value, arriving = collector.value(), self._arriving
        return Parts(columns, types, value, self._slices.bytes, arriving.seconds, self._coming, arriving.read), trouble

    def _pieces(self) -> Iterator[bytes]:
        while True:
            self._check()
            began = time.monotonic()
            piece = next(self._arriving.pieces, None)
            self._coming += time.monotonic() - began
            if piece is None:
                return
            yield piece


def parse(body: bytes) -> Result:
    """Read an answer of ``/query/``.

    :param body: its bytes.
    :raises PostHogJobFailed: if it holds an error, though its status is 200.
    :raises PostHogTransportError: if it is not an answer, or comes from PostHog's cache.
    """
    answer = _json(body)
    columns, types = _checked(answer)
    if is_long(types):
        answer = json.loads(body)
    return Result(columns, types, answer["results"], len(body))


def _checked(answer: Any) -> tuple[list[str], list[list[str]]]:  # noqa: ANN401 - JSON
    """Return the columns and types of a good answer.

    :raises PostHogJobFailed: if it holds an error, though its status is 200.
    :raises PostHogTransportError: if it is none, or comes from PostHog's cache.
    """
    proved = read(answer, stale=PostHogTransportError)
    # The reader compares other rows with what it asked for, and says more; these would pass there.
    if not isinstance(proved.rows, list) or not set(map(type, proved.rows)).isdisjoint({dict, str}):
        raise PostHogTransportError("the answer has no 'results' that are a list of rows")
    if proved.columns is None or not isinstance(proved.types, list):
        raise PostHogTransportError("the answer does not say what its columns are")
    return proved.columns, proved.types


def is_long(types: object) -> bool:
    """Return whether an answer may have integers of more than 64 bits.

    :param types: its ``types``.
    """
    return bool(_LONG.search(str(types)))


def _json(body: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return orjson.loads(body)
    except ValueError:
        pass  # orjson refuses NaN and lone surrogates
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise PostHogTransportError(
            f"the answer ({len(body)} bytes) is not JSON: check that the host is PostHog itself"
        ) from None
