"""Searches for events of persons, and how to split one that is too much for PostHog at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from itertools import zip_longest
from typing import Any

from airflow_provider_posthog.erasure.queries import MAX_TEXT, packed, utc

#: Up to so many ids are searched by their hashes, too.
MAX_HASHES = 100
#: A search that is too much at once is split down to months, from a time before PostHog existed.
_FIRST = datetime(2015, 1, 1, tzinfo=timezone.utc)
_MONTH = timedelta(days=31)

#: From when to when, each open if it is ``None``.
Span = tuple["datetime | None", "datetime | None"]


@dataclass(frozen=True)
class Search:
    """Events by the person's UUID or the distinct id that they carry, within spans of time.

    :param uuids: the UUIDs.
    :param ids: the distinct ids.
    :param spans: the spans of time.
    :param where: another condition in place of these, with ``{values}`` in it.
    :param values: what ``{values}`` stands for there.
    """

    uuids: Sequence[str] = ()
    ids: Sequence[str] = ()
    spans: tuple[Span, ...] = ((None, None),)
    where: str = ""
    values: Sequence[str] = ()

    def condition(self) -> str:
        """Write the condition, with placeholders for the values."""
        parts = [self.where] if self.where else []
        if self.uuids:
            parts.append("toString(person_id) IN {uuids}")
        if self.ids:
            parts.append("distinct_id IN {ids}" + self._by_hash())
        within = " OR ".join(
            " AND ".join(
                [f"timestamp >= toDateTime({{s{number}}})"] * (start is not None)
                + [f"timestamp < toDateTime({{e{number}}})"] * (end is not None)
            )
            for number, (start, end) in enumerate(self.spans)
        )
        condition = " OR ".join(parts)
        return f"({condition}) AND ({within})" if within else condition

    def _by_hash(self) -> str:
        """Write the condition along PostHog's key, which has ``cityHash64(distinct_id)`` in it.

        The hashes of many ids lie in every part of the key, and so do events by UUID: there it saves nothing.
        """
        if self.uuids or len(self.ids) > MAX_HASHES:
            return ""
        hashes = ", ".join(f"cityHash64({{v{number}}})" for number in range(len(self.ids)))
        return f" AND cityHash64(distinct_id) IN ({hashes})"

    def bound(self, sql: str, until: datetime) -> dict[str, Any]:
        """Return the values of a statement's placeholders.

        :param sql: the statement.
        :param until: the moment of the request.
        """
        named: dict[str, Any] = {name: [*values] for name, values in self._lists()}
        if self._by_hash():
            named |= {f"v{number}": name for number, name in enumerate(self.ids)}
        times = {f"s{number}": start for number, (start, _) in enumerate(self.spans)}
        times |= {f"e{number}": end for number, (_, end) in enumerate(self.spans)}
        named |= {name: utc(at) for name, at in {**times, "until": until}.items() if at is not None}
        return {name: value for name, value in named.items() if f"{{{name}}}" in sql}

    def shorter(self, until: datetime) -> list[Search]:
        """Split the search into shorter spans, for a server to which it is too much at once; empty if it is a month.

        :param until: the moment of the request.
        """
        if len(self.spans) > 1:
            middle = len(self.spans) // 2
            return [replace(self, spans=self.spans[:middle]), replace(self, spans=self.spans[middle:])]
        start, end = self.spans[0]
        now = until + timedelta(days=1)
        spans: list[Span] = []
        if start is None and end is None:
            spans = [(None, _FIRST), (_FIRST, now), (now, None)]
        elif start is not None and end is None and start < now:
            spans = [(start, now), (now, None)]
        elif start is not None and end is not None and end - start > _MONTH:
            half = start + (end - start) / 2
            spans = [(start, half), (half, end)]
        return [replace(self, spans=(span,)) for span in spans]

    def fewer(self) -> list[Search]:
        """Split the search into fewer persons each, if an answer does not hold all rows; empty for a single value."""
        if self.uuids and self.ids:
            return [replace(self, ids=()), replace(self, uuids=())]
        (values,) = [values for _, values in self._lists() if values]
        middle = len(values) // 2
        if not middle:
            return []
        halves = (slice(None, middle), slice(middle, None))  # of the one list that there is
        return [replace(self, uuids=self.uuids[at], ids=self.ids[at], values=self.values[at]) for at in halves]

    def _lists(self) -> list[tuple[str, Sequence[str]]]:
        return [("uuids", self.uuids), ("ids", self.ids), ("values", self.values)]


def whole_history(uuids: Sequence[str], ids: Sequence[str]) -> Iterator[Search]:
    """Yield searches that find all events of persons, in few queries.

    A few distinct ids are searched separately, as PostHog's key finds their events without a scan.

    :param uuids: of the persons.
    :param ids: all their distinct ids.
    """
    if len(ids) <= MAX_HASHES:
        yield from (Search(uuids=pack) for pack in _packed(uuids))
        yield from (Search(ids=pack) for pack in _packed(ids))
        return
    for people, names in zip_longest(_packed(uuids), _packed(ids)):
        yield Search(people or (), names or ())


def of_ids(ids: Sequence[str], spans: tuple[Span, ...]) -> Iterator[Search]:
    """Yield searches for the events that carry distinct ids, within spans of time.

    :param ids: the distinct ids.
    :param spans: the spans.
    """
    yield from (Search(ids=pack, spans=spans) for pack in _packed(ids))


def _packed(values: Sequence[str]) -> Iterator[list[str]]:
    return packed(values, text=MAX_TEXT // 2)  # beside as many UUIDs, or twice with their hashes


@dataclass(frozen=True)
class Statement:
    """A statement about events, run on each table that holds some.

    :param template: the statement for one table, with ``{table}`` and ``{where}`` in it.
    :param tables: the tables.
    :param settings: other parts of it.
    """

    template: str
    tables: tuple[str, ...] = ("events",)
    settings: Mapping[str, str] = field(default_factory=dict)

    def sql(self, search: Search) -> str:
        """Write the statement, in brackets if there are several tables: PostHog cuts no SELECT in brackets.

        :param search: which events.
        """
        parts = []
        for table in self.tables:
            sql = self.template
            for name, value in {**self.settings, "table": table, "where": search.condition()}.items():
                sql = sql.replace(f"{{{name}}}", value)
            parts.append(sql)
        return parts[0] if len(parts) == 1 else f"SELECT * FROM ({' UNION ALL '.join(parts)})"  # noqa: S608
