"""The events of the fake PostHog: rendered once, in the order of time, so that any page is a slice."""

from __future__ import annotations

import json
import random
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import orjson  # noqa: TID253 - a measurement, which no DAG file imports

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
#: As the provider asks for them; the other clients get the same with ``SELECT *``.
COLUMNS = ("uuid", "event", "distinct_id", "person_id", "timestamp", "created_at", "properties")
#: The share of events that have the same timestamp as the one before.
TIED = 0.02
#: One event every 21.6 seconds on average, 200,000 in 50 days.
STEP = 21_600_000
#: How long after it happened PostHog took an event in. As it is always the same, one order is the other, too.
DELAY = 1_250_000

_TIME = "DateTime64(6, 'UTC')"
_KINDS = {"uuid": "UUID", "person_id": "UUID", "timestamp": _TIME, "created_at": _TIME}
TYPES = [[name, _KINDS.get(name, "String")] for name in COLUMNS]

_NAMES = ["$pageview", "$autocapture", "$pageleave", "$identify", "purchase", "add to cart"]
_BROWSERS = ["Chrome", "Safari", "Firefox", "Microsoft Edge", "Mobile Safari"]
_SYSTEMS = ["Windows", "Mac OS X", "iOS", "Android", "Linux"]
_PATHS = ["/", "/pricing", "/docs/api/events", "/blog/ab-testing", "/product/42?ref=mail", "/checkout"]
_CITIES = ["São Paulo", "London", "Zürich", "New York", "Bengaluru", "Tokyo", "München"]
_COUNTRIES = ["BR", "GB", "CH", "US", "IN", "JP", "DE"]
#: Text and ``None``: what HogQL calls a column, and what this module does.
_CONDITION = re.compile(r"(?:events\.)?(timestamp|created_at) (>=|>|<=|<) toDateTime\(\{(\w+)\}\)")
_KEYSET = re.compile(r"\((timestamp|created_at), toString\(uuid\)\) > \(toDateTime\(\{(\w+)\}\), \{(\w+)\}\)")
_QUERY = re.compile(
    r"SELECT (?P<what>.+?) FROM events(?: WHERE (?P<where>.+?))?(?: GROUP BY (?P<group>\w+|day, name))?"
    r"(?: ORDER BY (?P<order>.+?))? LIMIT (?P<limit>\d+)"
)
_COUNTS = re.compile(
    r"(?:intDiv\(toUnixTimestamp\((?P<time>timestamp|created_at)\), (?P<step>\d+)\) AS bucket, )?count\(\) AS counted"
    r"(?P<keys>, uniqExact\(toString\(uuid\)\) AS different)?"
    r"(?P<extent>, min\(timestamp\) AS low, max\(timestamp\) AS high)?"
)

#: How this provider counts: by the day and the event of the sort key.
_GROUPS = (
    "toYYYYMMDD(toTimeZone(events.timestamp, 'UTC')) AS day, events.event AS name, count() AS counted, "
    "min(events.timestamp) AS low, max(events.timestamp) AS high, min(cityHash64(events.distinct_id)) AS first_hash, "
    "max(cityHash64(events.distinct_id)) AS last_hash"
)
_DAY = 86_400_000_000


class Refused(Exception):
    """A query that this server does not understand: it answers 400 rather than leave a condition out."""


def iso(microseconds: int) -> str:
    """Write a time as PostHog does.

    :param microseconds: since :data:`START`.
    """
    return (START + timedelta(microseconds=microseconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse(text: str) -> int:
    """Read a time that has an offset.

    :param text: ISO text.
    :returns: microseconds since :data:`START`.
    """
    moment = datetime.fromisoformat(text.replace(" ", "T").replace("Z", "+00:00"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - START) // timedelta(microseconds=1)


class Events:
    """All events, each as a row of HogQL and as an object of ``GET events/``.

    :param count: how many.
    :param seed: equal seeds make equal events.
    """

    def __init__(self, count: int, seed: int = 7) -> None:
        chance = random.Random(seed)
        self.times, self.uuids = _keys(count, chance)
        rows, objects = [], []
        for number, (at, uuid) in enumerate(zip(self.times, self.uuids, strict=True)):
            row, rest = _rendered(number, at, uuid, chance)
            rows.append(row)
            objects.append(rest)
        self.rows = Pages(rows)
        objects.reverse()  # GET events/ begins with the newest
        self.objects = Pages(objects)

    def __len__(self) -> int:
        return len(self.uuids)

    @property
    def tied(self) -> int:
        """How many events have the same timestamp as the one before."""
        return sum(one == other for one, other in zip(self.times, self.times[1:], strict=False))

    def query(self, sql: str, values: dict[str, str]) -> tuple[list[Any], int]:
        """Answer HogQL: those forms that are asked here, each condition of which is applied.

        :param sql: the query.
        :param values: what its placeholders stand for.
        :returns: the answer's bytes in pieces, and its number of rows.
        :raises Refused: for any other query.
        """
        found = _QUERY.fullmatch(" ".join(sql.split()))
        if found is None:
            raise Refused(f"not understood: {sql[:200]}")
        first, last = self._span(found["where"], values)
        limit = min(int(found["limit"]), 50_000)
        if found["what"] in ("*", ", ".join(COLUMNS)):
            if found["order"] not in (None, "timestamp, toString(uuid)", "created_at, toString(uuid)", "timestamp"):
                raise Refused(f"not understood: ORDER BY {found['order']}")
            last = min(last, first + limit)
            head = answer_of(COLUMNS, TYPES, [])[:-2]  # up to the opening bracket of the results
            return [head, self.rows.cut(first, last), b"]}"], last - first
        if found["what"] == _GROUPS and found["group"] == found["order"] == "day, name":
            columns, types, rows = self._grouped(first, last)
        else:
            columns, types, rows = self._counted(found["what"], found["group"], first, last)
        return [answer_of(columns, types, rows[:limit])], min(len(rows), limit)

    def _span(self, where: str | None, values: dict[str, str]) -> tuple[int, int]:
        """Return the rows that conditions on time leave: from the first one, up to but without the last one."""
        first, last = 0, len(self)
        for condition in where.split(" AND ") if where else []:
            if condition == "1 = 2":
                last = first
            elif keyset := _KEYSET.fullmatch(condition):
                at = _as_timestamp(keyset[1], values[keyset[2]])
                after = bisect_left(self.times, at)
                while after < len(self) and self.times[after] == at and self.uuids[after] <= values[keyset[3]]:
                    after += 1
                first = max(first, after)
            elif plain := _CONDITION.fullmatch(condition):
                side = bisect_left if plain[2] in (">=", "<") else bisect_right
                edge = side(self.times, _as_timestamp(plain[1], values[plain[3]]))
                first, last = (max(first, edge), last) if plain[2] in (">=", ">") else (first, min(last, edge))
            else:
                raise Refused(f"not understood: {condition}")
        return first, max(first, last)

    def _grouped(self, first: int, last: int) -> tuple[list[str], list[Any], list[Any]]:
        """Count by day and event; hashes are not known here, so that each group has all of them."""
        rows: list[list[Any]] = []
        while first < last:
            day = self.times[first] // _DAY
            end = min(last, bisect_left(self.times, (day + 1) * _DAY, first))
            number = int((START + timedelta(days=day)).strftime("%Y%m%d"))
            for name in sorted(_NAMES):
                at = first + (_NAMES.index(name) - first) % len(_NAMES)
                if at < end:
                    count = len(range(at, end, len(_NAMES)))
                    ends = iso(self.times[at]), iso(self.times[at + (count - 1) * len(_NAMES)])
                    rows.append([number, name, count, *ends, 0, (1 << 64) - 1])
            first = end
        names = ["day", "name", "counted", "low", "high", "first_hash", "last_hash"]
        types = ["UInt32", "String", "UInt64", _TIME, _TIME, "UInt64", "UInt64"]
        return names, [[name, kind] for name, kind in zip(names, types, strict=True)], rows

    def _counted(self, what: str, group: str | None, first: int, last: int) -> tuple[list[str], list[Any], list[Any]]:
        found = _COUNTS.fullmatch(what)
        if found is None or (group == "bucket") != bool(found["step"]):
            raise Refused(f"not understood: SELECT {what}")
        spans = _steps(self.times, first, last, found["time"], int(found["step"])) if group else [(None, first, last)]
        cells: list[tuple[str, str, Callable[[Any, int, int], Any]]] = []
        if group:
            cells.append(("bucket", "Int64", lambda bucket, low, high: bucket))
        cells.append(("counted", "UInt64", lambda bucket, low, high: high - low))
        if found["keys"]:
            cells.append(("different", "UInt64", lambda bucket, low, high: len(set(self.uuids[low:high]))))
        if found["extent"]:
            cells.append(("low", _TIME, lambda bucket, low, high: iso(self.times[low]) if low < high else None))
            cells.append(("high", _TIME, lambda bucket, low, high: iso(self.times[high - 1]) if low < high else None))
        rows = [[cell(*span) for _, _, cell in cells] for span in spans]
        return [name for name, _, _ in cells], [[name, kind] for name, kind, _ in cells], rows


class Pages:
    """Rendered rows in one piece of memory.

    :param rows: the rows.
    """

    def __init__(self, rows: list[bytes]) -> None:
        self._edges = array("q", [0])
        for row in rows:
            self._edges.append(self._edges[-1] + len(row) + 1)
        self._all = memoryview(b",".join(rows))

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return len(self._all)

    def cut(self, first: int, last: int) -> memoryview:
        """Return some rows, with commas between.

        :param first: the first one.
        :param last: the one after the last.
        """
        return self._all[self._edges[first] : max(self._edges[first], self._edges[last] - 1)]


def _keys(count: int, chance: random.Random) -> tuple[array[int], list[str]]:
    at, keys = 1_000_000, []
    for number in range(count):
        if number and chance.random() >= TIED:
            at += 1 + chance.randrange(2 * STEP - 1)
        # Of events at one moment, any may have the lowest uuid.
        keys.append((at, f"01929{chance.getrandbits(12):03x}-{number & 0xFFFF:04x}-7{number >> 16:03x}-8000"))
    keys = [(at, f"{uuid}-{chance.getrandbits(48):012x}") for at, uuid in keys]
    keys.sort()
    return array("q", [at for at, _ in keys]), [uuid for _, uuid in keys]


def _as_timestamp(column: str, text: str) -> int:
    """Return the timestamp of an event that has this time in a column."""
    return parse(text) - (DELAY if column == "created_at" else 0)


def _steps(times: array[int], first: int, last: int, column: str, step: int) -> Iterable[tuple[int, int, int]]:
    """Yield groups: the number of the step since 1970, and its rows."""
    shift = int(START.timestamp()) * 1_000_000 + (DELAY if column == "created_at" else 0)
    while first < last:
        bucket = (times[first] + shift) // 1_000_000 // step
        end = min(last, bisect_left(times, (bucket + 1) * step * 1_000_000 - shift, first))
        yield bucket, first, end
        first = end


def answer_of(columns: Iterable[str], types: list[Any], rows: list[Any]) -> bytes:
    """Write an answer of HogQL.

    :param columns: names of its columns.
    :param types: their names and types.
    :param rows: its rows.
    """
    head = {"columns": list(columns), "types": types, "hasMore": False, "is_cached": False, "error": None}
    return json.dumps({**head, "timezone": "UTC", "results": rows}, separators=(",", ":")).encode()


def _rendered(number: int, at: int, uuid: str, chance: random.Random) -> tuple[bytes, bytes]:
    person = f"0191{number % 9973:04x}-0000-7000-8000-{number % 9973:012x}"
    distinct_id = f"user_{number % 9973}@example.com" if number % 3 else person
    happened, arrived, name = iso(at), iso(at + DELAY), _NAMES[number % 6]
    properties = orjson.dumps(_properties(number, at, distinct_id, chance))
    row = orjson.dumps([uuid, name, distinct_id, person, happened, arrived, properties.decode()])
    rest = {"id": uuid, "distinct_id": distinct_id, "properties": orjson.Fragment(properties), "event": name}
    return row, orjson.dumps({**rest, "timestamp": happened, "person": None, "elements": [], "elements_chain": ""})


def _properties(number: int, at: int, distinct_id: str, chance: random.Random) -> dict[str, object]:
    return {
        "$os": _SYSTEMS[number % 5],
        "$os_version": f"10.{number % 15}.{number % 7}",
        "$browser": _BROWSERS[number % 5],
        "$browser_version": 100 + number % 30,
        "$device_type": "Desktop" if number % 4 else "Mobile",
        "$current_url": f"https://www.example.com{_PATHS[number % 6]}",
        "$host": "www.example.com",
        "$pathname": _PATHS[number % 6],
        "$screen_height": 1080,
        "$screen_width": 1920,
        "$viewport_height": 900 + number % 100,
        "$viewport_width": 1700 + number % 200,
        "$lib": "web",
        "$lib_version": f"1.{number % 200}.0",
        "$insert_id": f"{chance.getrandbits(64):016x}",
        "$time": 1.76e9 + at / 1e6,
        "$session_id": f"0192{number // 20:08x}-s",
        "$window_id": f"0192{number // 40:08x}-w",
        "$referrer": "$direct" if number % 2 else "https://www.google.com/",
        "$ip": f"10.{number % 250}.{number % 199}.{number % 97}",
        "$geoip_city_name": _CITIES[number % 7],
        "$geoip_country_code": _COUNTRIES[number % 7],
        "$geoip_latitude": round(chance.uniform(-60, 60), 4),
        "$geoip_longitude": round(chance.uniform(-180, 180), 4),
        "token": "phc_" + "a" * 43,
        "distinct_id": distinct_id,
        "$active_feature_flags": ["new-checkout", "beta-nav"],
        "$feature/new-checkout": bool(number % 2),
        "plan": ["free", "pro", "enterprise"][number % 3],
        "amount": round(chance.random() * 500, 2) if number % 6 == 4 else None,
        "$sent_at": iso(at + 350_000),
    }
