"""The HogQL of bulk reading, for servers of every age; values only as placeholders, times as ISO text with a Z.

Only the DAG author's code and numbers are put into the text, never data (hence the S608).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api.queries import MAX_ROWS
from airflow_provider_posthog.extract.bare_query import without_rows
from airflow_provider_posthog.extract.cell_statements import DAY, HASH, KEY_HASH, among, within
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.dated_ids import Minutes, minutes_column
from airflow_provider_posthog.extract.dated_ids import within as begun_within
from airflow_provider_posthog.extract.key_statements import bounds_of, in_keys, in_parts, part_of
from airflow_provider_posthog.extract.sources import KEY_NAME, PART_NAME, Source
from airflow_provider_posthog.extract.windows import GROUPS, LATEST, PARTS, Piece, Window, iso

#: The rows of the first look, to learn the columns and their length: few, as each may be long.
SAMPLE = 10


@dataclass(frozen=True)
class Statement:
    """HogQL and its values.

    :param sql: the text.
    :param values: the values of its placeholders.
    """

    sql: str
    values: dict[str, Any]


def sample(source: Source, window: Window, rows: int = SAMPLE, begun: tuple[Minutes, ...] = ()) -> Statement:
    """Select some rows, for their columns, types and length; of a query, also the parts of its key.

    :param source: what is read.
    :param window: where to look.
    :param rows: how many; 0 for none, which PostHog answers from the table's description alone.
    :param begun: only rows whose ids begin in these minutes, where PostHog can look there alone.
    """
    where, values = _where(source, window)
    if rows and begun:
        where.append(_begun(source, begun, values))
    if not rows:
        where = [*where, "1 = 2"]
    parts = "".join(f", {part} AS {name}" for name, part in zip(part_names(source), source.key_parts, strict=False))
    selected = f"{source.selected()}{parts}"
    return Statement(f"SELECT {selected} FROM {source.table}{_text(where)} LIMIT {max(rows, 1)}", values)  # noqa: S608


def part_names(source: Source) -> list[str]:
    """Return the names of the columns that the first look has more than the pages: a query's key, as it is.

    :param source: what is read.
    """
    return [f"{PART_NAME}{number}" for number in range(len(source.key_parts))] if source.query is not None else []


def star(source: Source) -> Statement:
    """Ask a query for the columns that ``*`` over it brings, without rows; and for one more, as these may be none.

    :param source: a query.
    """
    return Statement(f"SELECT *, 1 AS {KEY_NAME} FROM {source.table} WHERE 1 = 2 LIMIT 1", dict(source.values))  # noqa: S608


def columns_of_query(source: Source) -> list[Statement]:
    """Ask a query for its columns, by itself: in a form without rows, where there is one, and as it was written.

    :param source: a query.
    """
    query = source.query or ""
    forms = [form for form in (without_rows(query), query) if form is not None]
    return [Statement(form, dict(source.values)) for form in forms]


def groups_by_time(source: Source, window: Window, step: int) -> Statement:
    """Count rows by steps of time: ``bucket`` (its number since 1970), ``counted``, and ``low`` and ``high`` of scan.

    :param source: what is read.
    :param window: where.
    :param step: seconds of a step.
    """
    where, values = _where(source, window)
    return _grouped(source, f"{_step(source, step)} AS bucket", "bucket", GROUPS + 2, where, values)


def groups_of_query(source: Source, window: Window, step: int) -> Statement:
    """Count a query's rows as :func:`groups_by_time`, and those that have a key (``keyed``), and those of no time.

    The rows whose time is null, or that no window can hold, are those of the bucket -1.

    :param source: a query with a time.
    :param window: where.
    :param step: seconds of a step.
    """
    (inside, *where), values = _where(source, window)
    values |= {"window_first": iso(EPOCH), "window_latest": iso(LATEST)}
    outside = f"{source.time} < toDateTime({{window_first}}) OR {source.time} >= toDateTime({{window_latest}})"
    where.insert(0, f"({inside} OR isNull({source.time}) OR {outside})")
    columns = f"if({inside}, {_step(source, step)}, -1) AS bucket, count({source.key_text}) AS keyed"
    return _grouped(source, columns, "bucket", GROUPS + 3, where, values)


def _step(source: Source, step: int) -> str:
    # toStartOfInterval is newer than many servers, and goes by the project's time zone.
    return f"intDiv(toUnixTimestamp({source.time}), {step})"


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
    """Count rows by the parts of their keys, or of the keys' hashes: ``bucket``, ``counted``, ``low``, ``high``.

    :param source: what is read.
    :param window: where.
    """
    where, values = _where(source, window)
    return _grouped(source, f"{part_of(source)} AS bucket", "bucket", PARTS + 2, where, values)


def ranges_of_keys(source: Source, window: Window, step: int) -> Statement:
    """Ask for the keys that ranges of rows begin with: ``bounds``, and how many rows there are, ``keyed`` with a key.

    :param source: what is read; it has a sort key.
    :param window: where.
    :param step: how many rows a range has.
    """
    where, values = _where(source, window)
    return Statement(bounds_of(source, _text(where), step), values)


def groups_by_event(source: Source, window: Window, after: tuple[int, str] | None = None) -> Statement:
    """Count rows by day and event: ``day`` (as 20261129), ``name``, ``counted``, ``low`` and ``high`` of timestamp.

    And ``first_hash`` and ``last_hash``, the extent of the hashes of distinct_id. 50,000 groups at the most, in the
    order of the sort key.

    :param source: what is read.
    :param window: where.
    :param after: day (as 20261129) and name of the last group that was counted before.
    """
    where, values = _where(source, window)
    if after is not None:
        where.append(f"({DAY}, events.event) > ({after[0]:d}, {{window_after_event}})")
        values["window_after_event"] = after[1]
    columns = (
        f"{DAY} AS day, events.event AS name, count() AS counted,"
        f" min(events.timestamp) AS low, max(events.timestamp) AS high,"
        f" min({HASH}) AS first_hash, max({HASH}) AS last_hash"
    )
    tail = f"GROUP BY day, name ORDER BY day, name LIMIT {MAX_ROWS}"
    return Statement(f"SELECT {columns} FROM {source.table}{_text(where)} {tail}", values)  # noqa: S608


def groups_of_event(source: Source, window: Window, step: int, *, by_key: bool) -> Statement:
    """Count the rows of a cell by steps of hashes: ``bucket`` (the step) and ``counted``.

    :param source: what is read.
    :param window: where.
    :param step: how many hashes a step has.
    :param by_key: by the hashes of ``uuid``, rather than by those of ``distinct_id``.
    """
    where, values = _where(source, window)
    columns = f"intDiv({KEY_HASH if by_key else HASH}, {step}) AS bucket, count() AS counted"
    tail = f"GROUP BY bucket ORDER BY bucket LIMIT {MAX_ROWS}"
    return Statement(f"SELECT {columns} FROM {source.table}{_text(where)} {tail}", values)  # noqa: S608


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


def page(source: Source, piece: Piece, limit: int, after: tuple[datetime | None, str] | None) -> Statement:
    """Ask for a page of a window's rows, in the order of time and key.

    :param source: what is read.
    :param piece: the window and what was counted in it.
    :param limit: how many rows.
    :param after: time and key of the last row of the page before.
    """
    where, values = _where(source, piece.window)
    if piece.is_outlier:
        where.append(among(piece.groups, values))
    elif source.scan and piece.low is not None and piece.high is not None and not _is_beyond(piece.window):
        where.append(f"{source.scan} >= toDateTime({{window_low}}) AND {source.scan} <= toDateTime({{window_high}})")
        values |= {"window_low": iso(piece.low), "window_high": iso(piece.high)}
    if piece.begun:
        where.append(_begun(source, piece.begun, values))
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


def _is_beyond(window: Window) -> bool:
    return window.cell is not None and window.cell.is_beyond


def _grouped(source: Source, bucket: str, name: str, limit: int, where: list[str], values: dict[str, Any]) -> Statement:
    columns = f"{bucket}, count() AS counted{_extent(source)}{minutes_column(source.dated_id)}"
    tail = f"GROUP BY {name} ORDER BY {name} LIMIT {limit}"
    return Statement(f"SELECT {columns} FROM {source.table}{_text(where)} {tail}", values)  # noqa: S608


def _begun(source: Source, begun: tuple[Minutes, ...], values: dict[str, Any]) -> str:
    condition, edges = begun_within(source.time, source.dated_id, begun)
    values |= {name: iso(moment) for name, moment in edges.items()}
    return condition


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
        if window.start > EPOCH:
            where.append(f"{source.born} >= toDateTime({{window_start}})")
            values["window_start"] = iso(window.start)
    if source.scan and source.scan_from is not None:
        where.append(f"{source.scan} >= toDateTime({{window_scan}})")
        values["window_scan"] = iso(source.scan_from)
    if source.complete_after is not None and source.complete_at is not None:
        where.append(f"{source.complete} < toDateTime({{window_complete}})")
        values["window_complete"] = iso(source.complete_at - source.complete_after)
    if window.cell is not None:
        where += within(window.cell, values)
    if window.keys is not None:
        where += in_keys(source, window.keys, values)
    where += in_parts(source, window, values)
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
