"""The HogQL of cells: conditions that ClickHouse can answer from the sort key of PostHog's events.

The table's columns are named with the table, as a column of the answer may have the same name. ``timestamp`` is
compared by itself, and never inside of a function: PostHog's servers since April 2026 print such a comparison so that
partitions and days are left out of the scan; older ones wrap the column, and still leave out months, events and hashes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.extract.cells import EPOCH, HASHES, LAST_DAY, Cell, Edge, Group, is_exact
from airflow_provider_posthog.extract.windows import MICROSECOND, iso

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What the sort key is made of; the day is that of UTC, whatever the project's time zone.
DAY = "toYYYYMMDD(toTimeZone(events.timestamp, 'UTC'))"
HASH = "cityHash64(events.distinct_id)"
KEY_HASH = "cityHash64(events.uuid)"


def within(cell: Cell, values: dict[str, Any]) -> list[str]:
    """Return the conditions of a cell, and add their values.

    :param cell: the cell.
    :param values: receives the values of the placeholders.
    """
    where = _days(cell, values)
    if cell.event is not None:
        where.append("events.event = {window_event}")
        values["window_event"] = cell.event
    else:
        where += _events(cell.low, cell.high, values)
    for expression, name, (first, last) in (
        (HASH, "window_hash", cell.hashes),
        (KEY_HASH, "window_key_hash", cell.keys),
    ):
        if first:
            where.append(f"{expression} >= {{{name}_low}}")
            values[f"{name}_low"] = first
        if last < HASHES:
            where.append(f"{expression} < {{{name}_high}}")
            values[f"{name}_high"] = last
    return where


def _days(cell: Cell, values: dict[str, Any]) -> list[str]:
    first, last = cell.first_day, cell.last_day
    # ClickHouse's key holds days in 16 bits: with the index, others would be looked for in the wrong place.
    if cell.is_beyond:
        return [f"{DAY} < 19700101" if first is None else f"{DAY} >= {EPOCH + timedelta(days=LAST_DAY):%Y%m%d}"]
    where = []
    if first is not None:
        where.append("events.timestamp >= toDateTime({window_first_day})")
        values["window_first_day"] = iso(EPOCH + timedelta(days=first))
    if last is not None:
        # Not "before midnight": with the index, which knows only days, the following day would be read as well.
        where.append("events.timestamp <= toDateTime({window_last_moment})")
        values["window_last_moment"] = iso(EPOCH + timedelta(days=last) - MICROSECOND)
    return where


def _events(low: Edge | None, high: Edge | None, values: dict[str, Any]) -> list[str]:
    where = []
    if low is not None:
        where.append(f"events.event {'>' if low[1] else '>='} {{window_low_event}}")
        values["window_low_event"] = low[0]
    if high is not None:
        where.append(f"events.event {'<=' if high[1] else '<'} {{window_high_event}}")
        values["window_high_event"] = high[0]
    return where


def among(groups: Sequence[Group], values: dict[str, Any]) -> str:
    """Return the condition that a row belongs to one of some counted groups, and add its values.

    :param groups: at least one.
    :param values: receives the values of the placeholders.
    """
    parts = []
    for number, group in enumerate(groups):
        name = f"window_group_{number}"
        named = ""
        if is_exact(group.name):
            named, values[f"{name}_event"] = f" AND events.event = {{{name}_event}}", group.name
        parts.append(
            f"(events.timestamp >= toDateTime({{{name}_low}}) AND events.timestamp <= toDateTime({{{name}_high}})"
            f"{named} AND {HASH} >= {{{name}_first}} AND {HASH} <= {{{name}_last}})"
        )
        values[f"{name}_low"], values[f"{name}_high"] = iso(group.low), iso(group.high)
        values[f"{name}_first"], values[f"{name}_last"] = group.hashes
    return f"({' OR '.join(parts)})"
