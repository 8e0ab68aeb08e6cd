"""PostHog's rows as Arrow: which column gets which type, and how its values get into it.

Types come from the answer's ``types``, never from the values: an empty or a null column has the type of a full one, and
no integer goes through a float.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa  # noqa: TID253 - Arrow is what this module is for; import it where a task runs
import pyarrow.compute as pc  # noqa: TID253
from pyarrow.lib import StringBuilder  # noqa: TID253

from airflow_provider_posthog.exceptions import PostHogTransportError, clean

#: All times: in UTC whatever the project's time zone is, as exact as PostHog keeps them.
TIMESTAMP = pa.timestamp("us", "UTC")

_WRAPPED = re.compile(r"(?:Nullable|LowCardinality)\((.*)\)", re.DOTALL)
_DECIMAL = re.compile(r"Decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)")
_PLAIN: dict[str, pa.DataType] = {
    "Bool": pa.bool_(),
    "Int8": pa.int8(),
    "Int16": pa.int16(),
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "UInt8": pa.uint8(),
    "UInt16": pa.uint16(),
    "UInt32": pa.uint32(),
    "UInt64": pa.uint64(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
    "Date": pa.date32(),
    "Date32": pa.date32(),
}
#: The end of a text that tells its offset from UTC.
_OFFSET = re.compile(r"(?:Z|[+-]\d\d:?\d\d(?::?\d\d)?)$")
#: ClickHouse's times have any number of digits after the second; Python before 3.11 reads three or six.
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:\d{2}(?::\d{2})?)?")


def schema_of(columns: Sequence[str], types: Sequence[Sequence[str]]) -> pa.Schema:
    """Return the Arrow schema of an answer of ``/query/``; every column may be null.

    ========================================= =================================================
    PostHog's type                            Arrow's
    ========================================= =================================================
    ``Int8`` to ``Int64``, ``UInt8`` ...      the same; what PostHog computes as true is UInt8
    ``Bool``                                  ``bool``
    ``Float32``, ``Float64``                  ``float``, ``double``
    ``Decimal(p, s)``                         ``decimal128``, above 38 digits ``decimal256``
    ``DateTime``, ``DateTime64``              ``timestamp[us, UTC]``
    ``Date``, ``Date32``                      ``date32``
    ``String``, ``UUID``, enumerations        ``string``
    arrays, maps, tuples                      ``string``: JSON text
    longer integers, and anything unknown     ``string``
    ========================================= =================================================

    :param columns: the answer's ``columns``.
    :param types: its ``types``, pairs of a name and a ClickHouse type.
    :raises PostHogTransportError: if there is not one type for each column, or two columns have one name.
    """
    if len(types) != len(columns) or not all(len(pair) == 2 for pair in types):
        raise PostHogTransportError(f"PostHog answered {len(columns)} columns and {len(types)} types")
    if len(set(columns)) != len(columns):
        raise PostHogTransportError("two columns of the answer have one name: give each a name of its own with AS")
    return pa.schema([pa.field(name, type_of(pair[1])) for name, pair in zip(columns, types, strict=True)])


def type_of(kind: str) -> pa.DataType:
    """Return the Arrow type for one of ClickHouse's.

    :param kind: as PostHog names it, such as ``Nullable(DateTime64(6, 'Europe/Berlin'))``.
    """
    kind = bare(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind.startswith("DateTime"):
        return TIMESTAMP
    if found := _DECIMAL.fullmatch(kind):
        digits, scale = int(found[1]), int(found[2])
        return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)
    return pa.string()


def bare(kind: str) -> str:
    """Return a ClickHouse type without ``Nullable`` and ``LowCardinality`` around it.

    :param kind: the type.
    """
    kind = kind.strip()
    while wrapped := _WRAPPED.fullmatch(kind):
        kind = wrapped[1].strip()
    return kind


def batch_of(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as an Arrow batch.

    :param rows: the answer's ``results``.
    :param schema: from :func:`schema_of`.
    :raises PostHogTransportError: if a row has another length than the schema, or a value is not of its column's type.
    """
    if not rows:
        return pa.RecordBatch.from_pylist([], schema=schema)
    try:
        columns = list(zip(*rows, strict=True))
    except (TypeError, ValueError):
        columns = []
    if len(columns) != len(schema):
        raise PostHogTransportError(f"PostHog answered rows of other lengths than its {len(schema)} columns")
    arrays = [_array(field, values) for field, values in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    """Convert a column, fast if all values are what PostHog usually answers, else one by one."""
    try:
        return _fast(values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        pass  # pa.ArrowInvalid is a ValueError; the values are looked at one by one
    one = _reader(field.type)
    try:
        return pa.array([None if value is None else one(value) for value in values], field.type)
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
        raise PostHogTransportError(
            f"the column {clean(field.name)[:60]!r} holds what is no {field.type}, as PostHog says it is"
        ) from None


def _fast(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        raise TypeError  # Arrow would take a text's digits beyond the scale for an error
    if not (pa.types.is_string(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return pa.array(values, kind)
    texts = _texts(values)
    if pa.types.is_string(kind) or pa.types.is_date(kind):
        return texts.cast(kind)
    first = next((value for value in values if value is not None), "Z")
    # A DateTime comes without an offset and is UTC; a DateTime64 carries the project's.
    return texts.cast(kind) if _OFFSET.search(first) else texts.cast(pa.timestamp("us")).cast(kind)


def _texts(values: Sequence[str | None]) -> pa.Array:
    """Make a column of texts out of one long text: ``pa.array`` would import pandas, 50 MB of it, to look at a list.

    :raises TypeError: if a value is neither a text nor ``None``.
    :raises UnicodeEncodeError: if it holds half of a surrogate pair.
    """
    if "pandas" in sys.modules:
        return pa.array(values, pa.string())
    try:
        is_ascii = all(map(str.isascii, values))  # type: ignore[arg-type]
    except TypeError:  # not only texts
        builder = StringBuilder()
        builder.append_values(values)
        return builder.finish()
    sizes = array("i", [0])
    if is_ascii:
        data = "".join(values).encode()  # type: ignore[arg-type]
        sizes.extend(map(len, values))  # type: ignore[arg-type]
    else:
        encoded = list(map(str.encode, values))  # type: ignore[arg-type]
        data = b"".join(encoded)
        sizes.extend(map(len, encoded))
    lengths = pa.Array.from_buffers(pa.int32(), len(sizes), [None, pa.py_buffer(sizes)])
    ends = pc.cumulative_sum_checked(lengths)  # ArrowInvalid above 2 GiB
    return pa.StringArray.from_buffers(len(values), ends.buffers()[1], pa.py_buffer(data))


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_timestamp(kind):
        return moment_of
    if pa.types.is_date(kind):
        return _day
    if pa.types.is_decimal(kind):
        return _decimal
    if pa.types.is_boolean(kind):
        return _truth
    if pa.types.is_integer(kind):
        return _integer
    return float if pa.types.is_floating(kind) else _text


def moment_of(value: str) -> datetime:
    """Read a time of ClickHouse's, to the microsecond; one without an offset is UTC.

    :param value: such as ``2026-11-21T08:09:33.339419-05:00``.
    :raises ValueError: if it is none.
    """
    parts = _TIME.fullmatch(value)
    if parts is None:
        raise ValueError
    day, time, fraction, offset = parts.groups()
    text = f"{day}T{time or '00:00:00'}.{(fraction or '').ljust(6, '0')[:6]}"
    read = datetime.fromisoformat(text + ("+00:00" if offset in (None, "Z") else offset))
    return read.astimezone(timezone.utc)


def _day(value: str) -> date:
    return date.fromisoformat(value[:10])


def _decimal(value: object) -> Decimal:
    return Decimal(str(value))


def _truth(value: object) -> bool:
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    if value not in known:
        raise ValueError
    return known[value]


def _integer(value: object) -> int:
    if isinstance(value, (int, str)):  # a float is no integer that came whole
        return int(value)
    raise TypeError


def _text(value: object) -> str:
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value.encode("utf-8", "replace").decode()  # JSON can hold half of a surrogate pair, Arrow can not
