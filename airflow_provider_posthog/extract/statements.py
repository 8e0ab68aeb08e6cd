"""The HogQL of bulk reading, for servers of every age; values only as placeholders, times as ISO text with a Z.

What is put into the text is code that the DAG's author wrote, and numbers; never data (hence the S608).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.windows import GROUPS, PARTS, Piece, Window, iso

#: The rows that are looked at before the others, to learn their columns and how long they are.
SAMPLE = 100
#: PostHog answers no more rows than this, without a word.
MAX_ROWS = 50_000


@dataclass(frozen=True)
class Statement:
    """HogQL and its values.

    :param sql: the text.
    :param values: what its placeholders stand for.
    """

    sql: str
    values: dict[str, Any]


def sample(source: Source, window: Window, rows: int = SAMPLE) -> Statement:
    """Ask for some rows: what columns there are, of which types, and how long.

    :param source: what is read.
    :param window: where to look.
    :param rows: how many; 0 for none, which PostHog answers from the table's description alone.
    """
    where, values = _where(source, window)
    if not rows:
        where = [*where, "1 = 2"]
    return Statement(f"SELECT {source.selected()} FROM {source.table}{_text(where)} LIMIT {max(rows, 1)}", values)  # noqa: S608


def groups_by_time(source: Source, window: Window, step: int) -> Statement:
    """Count rows by steps of time: ``bucket`` (its number since 1970), ``counted``, and ``low`` and ``high`` of scan.

    :param source: what is read.
    :param window: where.
    :param step: seconds of a step.
    """
    where, values = _where(source, window)
    # toStartOfInterval is newer than many servers, and goes by the project's time zone.
    bucket = f"intDiv(toUnixTimestamp({source.time}), {step})"
    return _grouped(source, f"{bucket} AS bucket", "bucket", GROUPS + 2, where, values)


def groups_by_moment(source: Source, window: Window, after: datetime | None) -> Statement:
    """Count rows by microsecond: ``bucket`` (the moment), ``counted``, ``low``, ``high``; 50,000 moments at a time.

    :param source: what is read.
    :param window: where.
    :param after: the last moment that was counted before.
    """
    where, values = _where(source, window)
    if after is not None:
        where.append(f"{source.time} > toDateTime({{window_after}})")
        values["window_after"] = iso(after)
    return _grouped(source, f"{source.time} AS bucket", "bucket", MAX_ROWS, where, values)


def groups_by_hash(source: Source, window: Window) -> Statement:
    """Count rows by the parts of their keys' hashes: ``bucket`` (the part), ``counted``, ``low``, ``high``.

    :param source: what is read.
    :param window: where.
    """
    where, values = _where(source, window)
    return _grouped(source, f"{part_of(source)} AS bucket", "bucket", PARTS + 2, where, values)


def total(source: Source, window: Window) -> Statement:
    """Count a window's rows, and nothing else: ``counted``.

    :param source: what is read.
    :param window: the window.
    """
    where, values = _where(source, window)
    return Statement(f"SELECT count() AS counted FROM {source.table}{_text(where)} LIMIT 1", values)  # noqa: S608


def count(source: Source, window: Window) -> Statement:
    """Count a window's rows: ``counted``, ``keyed`` (with a key), ``different`` (keys), and ends of scan and time.

    The ends are ``low``, ``high``, ``earliest`` and ``latest``.

    :param source: what is read.
    :param window: the window.
    """
    where, values = _where(source, window)
    keys = f"count({source.key_text}) AS keyed, uniqExact({source.key_text}) AS different"
    columns = f"count() AS counted, {keys}{_extent(source)}"
    if source.time:
        columns += f", min({source.time}) AS earliest, max({source.time}) AS latest"
    return Statement(f"SELECT {columns} FROM {source.table}{_text(where)} LIMIT 1", values)  # noqa: S608


def count_each(source: Source, windows: Sequence[Window]) -> Statement:
    """Count the rows and the different keys of several windows at once: two columns for each, in one row.

    :param source: what is read; it has a time.
    :param windows: the windows; they may lie apart, or over each other.
    """
    whole = Window(min(window.start for window in windows), max(window.end for window in windows))
    where, values = _where(source, whole)
    columns = []
    for number, window in enumerate(windows):
        first, last = f"window_start_{number}", f"window_end_{number}"
        inside = f"{source.time} >= toDateTime({{{first}}}) AND {source.time} < toDateTime({{{last}}})"
        columns += [
            f"countIf({inside}) AS counted_{number}",
            f"uniqExactIf({source.key_text}, {inside}) AS different_{number}",
        ]
        values |= {first: iso(window.start), last: iso(window.end)}
    return Statement(f"SELECT {', '.join(columns)} FROM {source.table}{_text(where)} LIMIT 1", values)  # noqa: S608


def page(source: Source, piece: Piece, limit: int, after: tuple[datetime | None, str] | None) -> Statement:
    """Ask for a page of a window's rows, in the order of time and key.

    :param source: what is read.
    :param piece: the window and what was counted in it.
    :param limit: how many rows.
    :param after: time and key of the last row of the page before.
    """
    where, values = _where(source, piece.window)
    if source.scan and piece.low is not None and piece.high is not None:
        where.append(f"{source.scan} >= toDateTime({{window_low}}) AND {source.scan} <= toDateTime({{window_high}})")
        values |= {"window_low": iso(piece.low), "window_high": iso(piece.high)}
    if after is not None:
        moment, key = after
        values["window_key"] = key
        if source.time and moment is not None:
            values["window_time"] = iso(moment)
            where.append(f"({source.time}, {source.key_text}) > (toDateTime({{window_time}}), {{window_key}})")
        else:
            where.append(f"{source.key_text} > {{window_key}}")
    order = f"{source.time}, {source.key_text}" if source.time else source.key_text
    sql = f"SELECT {source.selected()} FROM {source.table}{_text(where)} ORDER BY {order} LIMIT {limit}"  # noqa: S608
    return Statement(sql, values)


def part_of(source: Source) -> str:
    """Return HogQL of the part that a row's hash belongs to.

    :param source: what is read.
    """
    return f"cityHash64({source.key_text}) % {PARTS}"


def _grouped(source: Source, bucket: str, name: str, limit: int, where: list[str], values: dict[str, Any]) -> Statement:
    columns = f"{bucket}, count() AS counted{_extent(source)}"
    tail = f"GROUP BY {name} ORDER BY {name} LIMIT {limit}"
    return Statement(f"SELECT {columns} FROM {source.table}{_text(where)} {tail}", values)  # noqa: S608


def _extent(source: Source) -> str:
    return f", min({source.scan}) AS low, max({source.scan}) AS high" if source.scan else ""


def _where(source: Source, window: Window) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions of a window, with their values."""
    values = dict(source.values)
    where = []
    if source.time:
        where.append(f"{source.time} >= toDateTime({{window_start}}) AND {source.time} < toDateTime({{window_end}})")
        values |= {"window_start": iso(window.start), "window_end": iso(window.end)}
    elif source.born:
        where.append(f"{source.born} < toDateTime({{window_end}})")
        values["window_end"] = iso(window.end)
    if source.scan and source.scan_from is not None:
        where.append(f"{source.scan} >= toDateTime({{window_scan}})")
        values["window_scan"] = iso(source.scan_from)
    if not window.is_whole:
        where.append(f"{part_of(source)} >= {int(window.first)} AND {part_of(source)} < {int(window.last)}")
    if source.where:
        where.append(f"({source.where}\n)")
    return where, values


def _text(where: list[str]) -> str:
    return f" WHERE {' AND '.join(where)}" if where else ""


def with_columns(source: Source, names: list[str]) -> Source:
    """Return a source that names its columns, instead of asking for all.

    :param source: what is read.
    :param names: its columns.
    """
    return replace(source, columns={name: name for name in names})
