"""Detect queries that read events, and from when on: PostHog hides old events from them only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_posthog.api.hogql import significant
from airflow_provider_posthog.dataclass import dataclass

#: Where a list of tables ends, so that a comma after it lists no table.
_CLAUSES = frozenset(
    ("SELECT", "PREWHERE", "WHERE", "GROUP", "HAVING", "WINDOW", "ORDER", "LIMIT", "UNION", "INTERSECT", "EXCEPT")
)
#: Queries of insights, which read events within their ``dateRange``.
_INSIGHTS = frozenset(f"{name}Query" for name in ("Trends", "Funnels", "Retention", "Paths", "Stickiness", "Lifecycle"))


@dataclass(frozen=True)
class EventRead:
    """A read of events.

    :param after: from when on, as a query node says it (``2026-11-01``, ``-7d``, ``all``); ``None`` if it does not.
    :param before: until when.
    """

    after: str | None = None
    before: str | None = None


def reads_events(sql: str) -> bool:
    """Return whether a HogQL statement reads the table of events anywhere; what views read is not known.

    :param sql: the statement.
    """
    lists = [False]  # for each open bracket, whether a comma would list another table
    names_table, qualified = False, False
    for token in significant(sql):
        kind, text, word = token.kind, token.text, token.upper
        name = text[1:-1] if kind == "name" else text if kind == "word" else ""
        if names_table and name == "events":
            return True
        if names_table and name == "posthog":  # posthog.events
            qualified = True
            continue
        if qualified and text == ".":
            continue
        qualified = False
        names_table = word in ("FROM", "JOIN") or (text == "," and lists[-1]) or (text == "(" and names_table)
        if word == "FROM":
            lists[-1] = True
        elif word in _CLAUSES:
            lists[-1] = False
        elif text in "([{" and kind == "sign":
            lists.append(names_table and lists[-1])
        elif text in ")]}" and kind == "sign" and len(lists) > 1:
            lists.pop()
    return False


def event_read(node: Mapping[str, Any]) -> EventRead | None:
    """Return the read of events in a query node; ``None`` if it reads none.

    :param node: the node, without wrappers.
    """
    kind = node.get("kind")
    if kind == "HogQLQuery":
        return EventRead() if reads_events(str(node.get("query", ""))) else None
    if kind == "EventsQuery":
        # PostHog reads the last day of it where it does not say.
        return EventRead(_date(node.get("after"), "-24h"), _date(node.get("before")))
    if kind in _INSIGHTS:
        span = node.get("dateRange")
        span = span if isinstance(span, Mapping) else {}
        return EventRead(_date(span.get("date_from"), "-7d"), _date(span.get("date_to")))
    return None


def _date(value: object, default: str | None = None) -> str | None:
    return value if isinstance(value, str) and value else default
