"""The HogQL for parts and ranges of keys: of their hashes, or of the keys themselves if the table is sorted by them.

PostHog merges the versions of a person, a group or a distinct id when it is asked. A range of what the table is sorted
by is looked up before that; a condition on a hash is one on each row of the table, with all of its columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.extract.windows import PARTS, Keys

if TYPE_CHECKING:
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.windows import Window

#: How many of the values of 16 bits are in a part.
_STEP = 65_536 // PARTS


def part_of(source: Source) -> str:
    """Return HogQL of the part that a row belongs to: of the hashes of the keys, or of the keys themselves.

    :param source: what is read.
    """
    if source.is_uuid:
        # ClickHouse sorts UUIDs by their second halves. Those of persons are random, and their first digits a number.
        digits = f"unhex(substring(toString({source.sort_key[0]}), 20, 4))"
        return f"intDiv(reinterpretAsUInt16(reverse({digits})), {_STEP})"
    # As a function: PostHog takes what stands beside an operator out of the conditions that it looks persons up by.
    return f"modulo(cityHash64({source.key_text}), {PARTS})"


def in_parts(source: Source, window: Window, values: dict[str, Any]) -> list[str]:
    """Return the conditions of a window's parts, and add their values.

    :param source: what is read.
    :param window: the window.
    :param values: receives the values of the placeholders.
    """
    if not source.is_uuid:
        part = part_of(source)
        is_part = window.first > 0 or window.last < PARTS
        return [f"{part} >= {int(window.first)} AND {part} < {int(window.last)}"] if is_part else []
    # As texts, which ClickHouse reads as UUIDs: around what toUUID may make null, PostHog puts what hides the index.
    where = []
    if window.first > 0:
        where.append(f"{source.sort_key[0]} >= {{window_first_key}}")
        values["window_first_key"] = _first_of(window.first)
    if window.last < PARTS:
        where.append(f"{source.sort_key[0]} < {{window_last_key}}")
        values["window_last_key"] = _first_of(window.last)
    return where


def _first_of(part: int) -> str:
    return f"00000000-0000-0000-{part * _STEP:04x}-000000000000"


def in_keys(source: Source, keys: Keys, values: dict[str, Any]) -> list[str]:
    """Return the conditions of a range of keys, and add their values.

    :param source: what is read.
    :param keys: the range.
    :param values: receives the values of the placeholders.
    """
    where = []
    if keys.low is not None:
        where.append(_beside(source.sort_key, keys.low, ">", ">=", "window_low_key", values))
    if keys.high is not None:
        where.append(_beside(source.sort_key, keys.high, "<", "<", "window_high_key", values))
    return where


def _beside(
    columns: tuple[str, ...], key: tuple[Any, ...], all_but_last: str, last: str, name: str, values: dict[str, Any]
) -> str:
    """Compare column by column: ClickHouse does not use an index for tuples."""
    made = ""
    for number in reversed(range(len(columns))):
        column, place = columns[number], f"{name}_{number}"
        values[place] = key[number]
        operator = all_but_last if made else last
        here = f"{column} {operator} {{{place}}}"
        made = f"({here} OR ({column} = {{{place}}} AND {made}))" if made else here
    return made


def bounds_of(source: Source, where: str, step: int) -> str:
    """Write the query for the keys that ranges of so many rows begin with, except the first.

    :param source: what is read.
    :param where: the conditions.
    :param step: how many rows a range has.
    """
    keys = source.sort_key[0] if len(source.sort_key) == 1 else f"tuple({', '.join(source.sort_key)})"
    inner = f"SELECT arraySort(groupArray({keys})) AS ordered, count() AS counted FROM {source.table}{where}"  # noqa: S608
    begins = f"(each, number) -> modulo(number, {step}) = {1 % step} AND number > 1"
    bounds = f"arrayFilter({begins}, ordered, arrayEnumerate(ordered))"
    return f"SELECT {bounds} AS bounds, length(ordered) AS keyed, counted FROM ({inner}) LIMIT 1"  # noqa: S608
