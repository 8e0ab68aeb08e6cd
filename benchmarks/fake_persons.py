"""The persons of the fake PostHog: rendered once, in the order of the second halves of their UUIDs, as ClickHouse's."""

from __future__ import annotations

import random
import re
from array import array
from bisect import bisect_left
from typing import Any

import orjson  # noqa: TID253 - a measurement, which no DAG file imports

from benchmarks.fake_events import Pages, Refused, answer_of

COLUMNS = ("id", "created_at", "properties", "is_identified")
_TYPES = [["id", "UUID"], ["created_at", "DateTime64(3, 'UTC')"], ["properties", "String"], ["is_identified", "UInt8"]]
#: The reader counts by so many parts of 65,536.
_PARTS = 2
_BORN = "created_at < toDateTime({window_end})"
_LATER = f"{_BORN} AND created_at >= toDateTime({{window_start}})"
_QUERY = re.compile(
    r"SELECT (?P<what>.+?) FROM persons WHERE (?P<where>.+?)(?: GROUP BY bucket ORDER BY bucket)?"
    r"(?: ORDER BY toString\(id\))? LIMIT (?P<limit>\d+)"
)
_KEY = re.compile(r" AND id (>=|<) \{(\w+)\}")


class Persons:
    """All persons, none of whom says that it is born later than now.

    :param count: how many.
    """

    def __init__(self, count: int) -> None:
        chance = random.Random(11)
        halves = sorted(chance.getrandbits(62) | 0x8000_0000_0000_0000 for _ in range(count))
        self._parts = array("l", [half >> 48 for half in halves])
        self.rows = Pages([_rendered(number, half, chance) for number, half in enumerate(halves)])
        self.objects = Pages([])
        self.tied = 0

    def __len__(self) -> int:
        return len(self._parts)

    def query(self, sql: str, values: dict[str, str]) -> tuple[list[Any], int]:
        """Answer HogQL: those forms in which all persons are read.

        :param sql: the query.
        :param values: what its placeholders stand for.
        :returns: the answer's bytes in pieces, and its number of rows.
        :raises Refused: for any other query.
        """
        found = _QUERY.fullmatch(" ".join(sql.split()))
        if found is None:
            raise Refused(f"not understood: {sql[:200]}")
        first, last = self._span(found["where"], values)
        if found["what"] == ", ".join(COLUMNS):
            last = min(last, first + int(found["limit"]), first + 50_000)
            return [answer_of(COLUMNS, _TYPES, [])[:-2], self.rows.cut(first, last), b"]}"], last - first
        if found["what"] == "count() AS counted":
            return [answer_of(["counted"], [["counted", "UInt64"]], [[last - first]])], 1
        if not found["what"].endswith(" AS bucket, count() AS counted"):
            raise Refused(f"not understood: SELECT {found['what']}")
        buckets = self._buckets(first, last)
        return [answer_of(["bucket", "counted"], [["bucket", "Int64"], ["counted", "UInt64"]], buckets)], len(buckets)

    def _span(self, where: str, values: dict[str, str]) -> tuple[int, int]:
        first, last = 0, len(self)
        if where.startswith(_LATER):
            where, last = where[len(_LATER) :], 0
        elif where.startswith(_BORN):
            where = where[len(_BORN) :]
        for operator, name in _KEY.findall(where):
            edge = bisect_left(self._parts, int(values[name][19:23], 16))
            first, last = (max(first, edge), last) if operator == ">=" else (first, min(last, edge))
        if _KEY.sub("", where):
            raise Refused(f"not understood: {where}")
        return first, max(first, last)

    def _buckets(self, first: int, last: int) -> list[list[int]]:
        found: list[list[int]] = []
        for part in self._parts[first:last]:
            if found and found[-1][0] == part // _PARTS:
                found[-1][1] += 1
            else:
                found.append([part // _PARTS, 1])
        return found


def _rendered(number: int, half: int, chance: random.Random) -> bytes:
    digits = f"{chance.getrandbits(32):08x}{number & 0xFFFF:04x}5{chance.getrandbits(12):03x}{half:016x}"
    uuid = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    properties = {
        "email": f"user_{number}@example.com",
        "name": f"User Number {number}",
        "plan": ("free", "pro", "enterprise")[number % 3],
        "$initial_referrer": "https://www.google.com/",
        "$initial_current_url": f"https://www.example.com/landing/{number % 97}?utm_source=mail&utm_campaign=autumn",
        "$browser": ("Chrome", "Safari", "Firefox")[number % 3],
        "$os": ("Windows", "Mac OS X", "Linux", "Android")[number % 4],
        "$geoip_city_name": ("London", "Zürich", "São Paulo", "Tokyo")[number % 4],
        "$geoip_country_code": ("GB", "CH", "BR", "JP")[number % 4],
        "$creator_event_uuid": uuid,
        "company": f"Company {number % 4999} Ltd.",
        "seats": number % 50,
        "note": "x" * 60,
    }
    return orjson.dumps([uuid, "2026-01-05T10:11:12.345000Z", orjson.dumps(properties).decode(), number % 2])
