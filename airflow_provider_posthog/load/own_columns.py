"""Columns that a loader adds to the loaded ones: the same value in all rows of a load."""

from __future__ import annotations

from array import array
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_provider_posthog.load.target import Target

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: The load columns that a task can request.
LOADED_AT, RUN = "_posthog_loaded_at", "_posthog_run"
INTERVAL_START, INTERVAL_END = "_posthog_interval_start", "_posthog_interval_end"
LOAD_COLUMNS = (LOADED_AT, INTERVAL_START, INTERVAL_END, RUN)


def added_to(schema: pa.Schema, target: Target) -> pa.Schema:
    """Return a schema with the loader's own columns behind the others.

    :param schema: what is loaded.
    :param target: where it goes.
    :raises PostHogSettingsError: if a column that is loaded has the name of one of them.
    """
    import pyarrow as pa

    for name, value in target.own.items():
        if name in schema.names:
            argument = (
                "load_columns"
                if name in target.stamps
                else "write_disposition"
                if target.write_disposition == "scd2"
                else "deleted"
            )
            raise PostHogSettingsError(
                argument, f"adds a column {name!r}, which is loaded already.", "Select that under another name."
            )
        kind = pa.string() if isinstance(value, str) else pa.timestamp("us", "UTC")
        schema = schema.append(pa.field(name, kind))
    return schema


def filled(table: pa.Table, target: Target) -> pa.Table:
    """Return rows with the loader's own columns.

    :param table: the rows.
    :param target: where they go.
    """
    for name, value in target.own.items():
        table = table.append_column(name, repeated(value, table.num_rows))
    return table


def repeated(value: datetime | str | None, count: int) -> pa.Array:
    """Return a column of one value.

    :param value: a moment, a text, or ``None`` for no moment.
    :param count: how many rows.
    """
    import pyarrow as pa

    moments = pa.timestamp("us", "UTC")
    if value is None:
        return pa.nulls(count, moments)
    # Made of buffers: pa.array would import pandas to look at the values.
    if isinstance(value, str):
        text = value.encode()
        ends = pa.py_buffer(array("i", [0, len(text)]))
        return pa.repeat(pa.StringArray.from_buffers(1, ends, pa.py_buffer(text))[0], count)
    number = pa.py_buffer(array("q", [(value - _EPOCH) // timedelta(microseconds=1)]))
    return pa.repeat(pa.Array.from_buffers(moments, 1, [None, number])[0], count)


def chosen(load_columns: object) -> tuple[str, ...]:
    """Return the names of the load columns that a task requests.

    :param load_columns: ``True`` for all, ``False`` for none, or their names.
    :raises PostHogSettingsError: if there is no such column.
    """
    if isinstance(load_columns, bool):
        return LOAD_COLUMNS if load_columns else ()
    known = ", ".join(map(repr, LOAD_COLUMNS))
    if isinstance(load_columns, str) or not isinstance(load_columns, list | tuple):
        raise PostHogSettingsError(
            "load_columns", "is neither a boolean nor a list of names.", f"Write True, or {known}."
        )
    for name in load_columns:
        if name not in LOAD_COLUMNS:
            raise PostHogSettingsError(
                "load_columns", f"have {name!r:.60}, which is none of them.", f"Write True, or {known}."
            )
    return tuple(dict.fromkeys(load_columns))
