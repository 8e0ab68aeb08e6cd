"""Check values that a column's type may not hold before they are written, so that the error names the column."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_provider_posthog.exceptions import PostHogLoadError
from airflow_provider_posthog.load.columns import Dialect, sql_family

if TYPE_CHECKING:
    import pyarrow as pa

#: The largest number of BIGINT.
_LARGEST = 2**63 - 1
#: Integers of more than 63 bits.
_WIDE = re.compile(r"u(tiny|small|big|huge)?int\w*|hugeint|.*\bunsigned\b.*", re.IGNORECASE)


def numbered(table: pa.Table, name: str, first: int) -> pa.Table:
    """Return rows with one more column: the number of each.

    :param table: the rows.
    :param name: the column's name.
    :param first: the number of the first one.
    """
    import pyarrow as pa

    # Made of a buffer: pa.array would import pandas to look at the numbers.
    numbers = pa.py_buffer(array("q", range(first, first + table.num_rows)))
    column = pa.Array.from_buffers(pa.int64(), table.num_rows, [None, numbers])
    return pa.Table.from_arrays([*table.columns, column], [*table.column_names, name])


def kept_as(schema: pa.Schema, types: Mapping[str, str]) -> pa.Schema:
    """Return a schema as the table stores it: numbers for boolean columns are booleans.

    :param schema: of the rows to load.
    :param types: the SQL type of each column.
    """
    import pyarrow as pa

    fields = [column.with_type(pa.bool_()) if _is_truth(column, types) else column for column in schema]
    return pa.schema(fields)


def fitted(table: pa.Table, types: Mapping[str, str], dialect: Dialect) -> pa.Table:
    """Return rows as the table stores them.

    :param table: the rows to load.
    :param types: the SQL type of each column; empty where it is not known.
    :param dialect: the database's.
    :raises PostHogLoadError: if a number is none of 0 and 1 and its column is boolean, or is above 2^63-1 and its
        column holds no such.
    """
    import pyarrow as pa

    for at, column in enumerate(table.schema):
        if _is_truth(column, types):
            table = table.set_column(at, column.with_type(pa.bool_()), _truths(column.name, table.column(at)))
        elif pa.types.is_uint64(column.type):
            sql_type = types.get(column.name, "")
            if sql_family(sql_type) == "integer" and not _WIDE.fullmatch(sql_type.strip()):
                _check_size(column.name, table.column(at), sql_type, dialect)
    return table


def _is_truth(column: pa.Field, types: Mapping[str, str]) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(column.type) and sql_family(types.get(column.name, "")) == "boolean")


def _truths(name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    extent = pc.min_max(values).as_py()
    if extent["min"] is not None and not (extent["min"] >= 0 and extent["max"] <= 1):
        raise PostHogLoadError(
            f"{name!r} goes into a boolean column, but holds numbers other than 0 and 1. Nothing was changed. "
            "Write an integer type in column_types, or select a condition."
        )
    return values.cast(pa.bool_())


def _check_size(name: str, values: pa.ChunkedArray, sql_type: str, dialect: Dialect) -> None:
    import pyarrow.compute as pc

    largest = pc.max(values).as_py()
    if largest is not None and largest > _LARGEST:
        raise PostHogLoadError(
            f"{name!r} holds a number above {_LARGEST:,}, the largest of its column's type {sql_type}. Nothing was "
            f"changed. Write column_types={{{name!r}: {dialect.widest!r}}} before the table is made, or alter it."
        )
