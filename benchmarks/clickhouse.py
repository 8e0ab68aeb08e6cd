"""ClickHouse with PostHog's own tables, behind an HTTP server that answers HogQL and tells what each query has read.

HogQL is written as PostHog's printer writes it, as far as the statements of this benchmark need it: by servers since
April 2026 (``new``), and as it was before (``old``), when ``timestamp`` was wrapped in a function and hid the index.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, cast

from chdb import session  # noqa: TID253

from benchmarks import clickhouse_lazy

Age = Literal["new", "old", "v3"]

EVENTS = """CREATE TABLE events (
    uuid UUID, event String, properties String, timestamp DateTime64(6, 'UTC'), team_id Int64, distinct_id String,
    elements_chain String, created_at DateTime64(6, 'UTC'), person_id UUID
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(timestamp)
ORDER BY (team_id, toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid))
SAMPLE BY cityHash64(distinct_id)"""
PERSONS = """CREATE TABLE person (
    id UUID, created_at DateTime64(3, 'UTC'), team_id Int64, properties String, is_identified Int8, is_deleted Int8,
    version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY (team_id, id)"""

_TABLES = (EVENTS, PERSONS, *clickhouse_lazy.TABLES)
#: What ten of eleven events are called; one in fifty is one of two hundred rare ones.
_NAMES = "['$pageview','$pageview','$pageview','$pageview','$autocapture','$autocapture','$autocapture','purchase']"
#: A clock that is wrong by a year.
_OUTLIER = timedelta(days=365)
#: What PostHog's own ClickHouse does; newer ones read less for ORDER BY with LIMIT.
_SETTINGS = (
    "output_format_json_quote_64bit_integers=0",
    "date_time_output_format='iso'",
    "max_threads=2",
    "compatibility='25.6'",
    "optimize_aggregation_in_order=1",
)


@dataclass
class Asked:
    """What a query has cost.

    :param read: bytes that ClickHouse read.
    :param scanned: rows that ClickHouse read.
    :param rows: rows of the answer.
    """

    read: int
    scanned: int
    rows: int


@dataclass
class Log:
    """What all queries have cost.

    :param asked: one for each.
    """

    asked: list[Asked] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Bytes that ClickHouse read."""
        return sum(each.read for each in self.asked)

    @property
    def scanned(self) -> int:
        """Rows that ClickHouse read."""
        return sum(each.scanned for each in self.asked)


class ClickHouse:
    """An embedded ClickHouse. One query at a time.

    :param age: of the PostHog in front of it.
    """

    def __init__(self, age: Age = "new") -> None:
        self.age = age
        self.log = Log()
        self._session: Any = cast("Any", session.Session)()
        self._lock = threading.Lock()
        for statement in ("CREATE DATABASE posthog", "USE posthog", f"SET {', '.join(_SETTINGS)}", *_TABLES):
            self._session.query(statement)

    def close(self) -> None:
        """Remove it."""
        self._session.close()

    def execute(self, sql: str) -> None:
        """Run a statement, which is not counted.

        :param sql: ClickHouse SQL.
        """
        with self._lock:
            self._session.query(sql)

    def number(self, sql: str) -> int:
        """Return the only value of a query, which is not counted.

        :param sql: ClickHouse SQL.
        """
        with self._lock:
            return int(str(self._session.query(sql, "TSV")).strip())

    def add_events(
        self, start: datetime, count: int, *, days: int = 1, late: float = 0.0, outliers: float = 0.0
    ) -> None:
        """Put events in, which have come at even distances.

        :param start: when the first one came.
        :param count: how many.
        :param days: in which time.
        :param late: the share of events that happened up to 30 days before they came.
        :param outliers: the share of events that happened up to a year before they came.
        """
        came = f"{_at(start)} + toIntervalMicrosecond(intDiv({days * 86_400_000_000}, {count}) * number)"
        back = (
            f"multiIf(rand(1) % 1000000 < {int(outliers * 1e6)}, rand(2) % {int(_OUTLIER.total_seconds())},"
            f" rand(1) % 1000000 < {int((late + outliers) * 1e6)}, rand(2) % {30 * 86_400}, 0)"
        )
        named = f"if(number % 50 = 0, 'rare' || toString(rand(3) % 200), {_NAMES}[number % 8 + 1])"
        text = 'concat(\'{"id":"\', hex(randomString(8)), \'","pad":"\', repeat(hex(rand(4) % 1000), 90), \'"}\')'
        person = f"rand(5) % {max(100, count // 20)}"
        self.execute(
            f"INSERT INTO events SELECT generateUUIDv4(), {named}, {text}, {came} - toIntervalSecond({back}), 1,"
            f" 'user-0000-1111-2222-' || toString({person}), '', {came}, generateUUIDv4() FROM numbers({count})"
        )

    def add_persons(self, count: int) -> None:
        """Put persons in; one in ten has a second version that is not merged yet, and one in a thousand is deleted.

        :param count: how many.
        """
        text = 'concat(\'{"id":"\', hex(randomString(8)), \'","pad":"\', repeat(hex(rand(4) % 1000), 120), \'"}\')'
        came = "toDateTime64('2026-01-01', 3, 'UTC') + toIntervalSecond(rand(2) % 7000000)"
        self.execute("SYSTEM START MERGES person")
        self.execute(
            f"INSERT INTO person SELECT generateUUIDv4(), {came}, 1, {text}, rand(3) % 2, 0, 1 FROM numbers({count})"
        )
        self.execute("OPTIMIZE TABLE person FINAL")
        self.execute("SYSTEM STOP MERGES person")
        self.execute(
            "INSERT INTO person SELECT id, created_at, 1, properties, 1, cityHash64(id) % 1000 = 0, 2 FROM person"
            " WHERE cityHash64(id) % 10 = 0"
        )

    def add(self, name: str, count: int, start: datetime, wrong: int = 0) -> None:
        """Put groups, distinct ids or sessions in.

        :param name: which.
        :param count: how many; of sessions: how many a day, for fifteen days.
        :param start: when the first session begins.
        :param wrong: how many sessions of a hundred thousand have the id of a clock that is wrong.
        """
        named = {"groups": "groups", "distinct_ids": "person_distinct_id2", "sessions": "raw_sessions"}
        table = named.get(name, "raw_sessions_v3")
        first, *more = clickhouse_lazy.FILLS[name]
        millis = int(start.timestamp() * 1000)
        self.execute(first.format(count=count, start=millis, wrong=wrong))
        self.execute(f"OPTIMIZE TABLE {table} FINAL")
        self.execute(f"SYSTEM STOP MERGES {table}")
        for each in more:
            self.execute(each.format(count=count, start=millis))

    def settle(self) -> None:
        """Merge what is there, as ClickHouse does after a while."""
        self.execute("OPTIMIZE TABLE events FINAL")

    def ask(self, sql: str, values: Mapping[str, Any] | None = None) -> bytes:
        """Answer HogQL as PostHog's API does, and count what it has cost.

        :param sql: HogQL.
        :param values: of its placeholders.
        """
        text = printed(sql, values or {}, self.age)
        with self._lock:
            result = self._session.query(text, "JSONCompactEachRowWithNamesAndTypes")
            names, types, *rows = bytes(result.bytes()).rstrip(b"\n").split(b"\n", 2)
            found = rows[0] if rows else b""
            count = found.count(b"\n") + 1 if found else 0
            self.log.asked.append(Asked(result.storage_bytes_read(), result.storage_rows_read(), count))
        pairs = json.dumps([list(pair) for pair in zip(json.loads(names), json.loads(types), strict=True)])
        head = b'{"columns":' + names + b',"types":' + pairs.encode() + b',"hasMore":null,"results":['
        return head + found.replace(b"\n", b",") + b"]}"  # a line break in a text is written as \n


def _at(moment: datetime) -> str:
    return f"toDateTime64('{moment.astimezone(timezone.utc):%F %T}', 6, 'UTC')"


_PLACE = r"toDateTime\(\{(\w+)\}\)"
_COMPARED = re.compile(rf"(?<![\w.])((?:events\.)?(?:timestamp|created_at)) (>=|<=|>|<) {_PLACE}")


def printed(sql: str, values: Mapping[str, Any], age: Age) -> str:
    """Write HogQL as ClickHouse SQL.

    :param sql: HogQL.
    :param values: of its placeholders.
    :param age: of the server.
    """

    def moment(name: str) -> str:
        return f"parseDateTime64BestEffortOrNull({_literal(values[name])}, 6, 'UTC')"

    def compared(found: re.Match[str]) -> str:
        column, operator, name = found.groups()
        if not column.endswith("timestamp"):
            return f"ifNull({_in_zone(column)} {operator} {moment(name)}, 0)"
        # The one column that PostHog knows to be never null: else the index would not be used.
        return f"{column if age == 'new' else _in_zone(column)} {operator} {moment(name)}"

    sql = _COMPARED.sub(compared, sql)
    sql = re.sub(_PLACE, lambda found: moment(found[1]), sql)
    if age == "old":
        sql = re.sub(r"(?<=[ (])(id (?:>=|<) \{\w+\})", r"ifNull(\1, 0)", sql)
    sql = re.sub(r"\{(\w+)\}", lambda found: _literal(values[found[1]]), sql)
    return clickhouse_lazy.printed(sql, age) or (_persons(sql, age) if " FROM persons" in sql else _events(sql))


def _in_zone(column: str) -> str:
    return f"toTimeZone({column}, 'UTC')"


def _literal(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_literal, value))})"
    if isinstance(value, int):
        return str(value)
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{text}'"


def _events(sql: str) -> str:
    return re.sub(
        r" FROM events( WHERE)?", lambda found: f" FROM events WHERE team_id = 1{' AND' * bool(found[1])}", sql
    )


_MERGED = (
    "SELECT argMax(toTimeZone(person.created_at, 'UTC'), person.version) AS created_at,{more} person.id AS id"
    " FROM person WHERE and(person.team_id = 1, {where}) GROUP BY person.id"
    " HAVING and(ifNull(argMax(person.is_deleted, person.version) = 0, 0),"
    " argMax(person.created_at, person.version) < now64(6, 'UTC') + toIntervalDay(1))"
)
_MORE = (
    " argMax(person.properties, person.version) AS properties,"
    " argMax(person.is_identified, person.version) AS is_identified,"
)
_LATEST = (
    "SELECT person.id AS id, toTimeZone(person.created_at, 'UTC') AS created_at, person.properties AS properties,"
    " person.is_identified AS is_identified FROM person WHERE and(person.team_id = 1, (person.id, person.version) IN"
    " (SELECT person.id AS id, max(person.version) AS version FROM person WHERE person.team_id = 1 GROUP BY person.id"
    " HAVING argMax(person.is_deleted, person.version) = 0))"
)


def _persons(sql: str, age: Age) -> str:
    """Write what stands for ``persons``: since November 2024 with the conditions inside; before, of all persons."""
    found = re.fullmatch(r"(?P<head>.*) FROM persons(?: WHERE (?P<where>.*?))?(?P<tail> (?:GROUP|ORDER|LIMIT).*)", sql)
    if found is None:
        raise ValueError("not a statement of this benchmark")
    head, where, tail = found["head"], found["where"] or "1", found["tail"]
    has_more = "properties" in head or "is_identified" in head
    more = _MORE if has_more else ""
    inner = _MERGED.format(more=more, where=_pushed(where))
    if age == "old":
        inner = _LATEST if has_more else _MERGED.format(more=more, where="1")
    return f"{head} FROM ({inner}) AS persons WHERE {where}{tail}"


def _pushed(where: str) -> str:
    conditions = where.replace("persons.", "")
    return (
        "person.id IN (SELECT where_optimization.id AS id FROM person AS where_optimization"
        f" WHERE and(where_optimization.team_id = 1, {conditions}))"
    )


class Server:
    """Answers ``/query/`` from a :class:`ClickHouse`; use it in a ``with``.

    :param clickhouse: what it asks.
    """

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(clickhouse.ask))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(ask: Callable[[str, Mapping[str, Any]], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits 40 ms for the acknowledgement of its head

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
            try:
                status, body = 200, ask(query["query"], query.get("values", {}))
            except RuntimeError as error:
                told = {"type": "validation_error", "code": "invalid_input", "detail": str(error)[:500], "attr": None}
                status, body = 400, json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    return Handler
