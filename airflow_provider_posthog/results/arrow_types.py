"""Convert PostHog's rows to Arrow: the type of each column, and its values.

Types come from the answer's ``types``, never from the values: an empty or a null column has the type of a full one, and
no integer goes through a float. A value comes back equal, or is an error: nothing is rounded, cut or guessed.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa  # noqa: TID253 - Arrow is what this module is for; import it where a task runs
import pyarrow.compute as pc  # noqa: TID253
from pyarrow.lib import StringBuilder  # noqa: TID253

from airflow_provider_posthog.exceptions import PostHogTransportError, clean
from airflow_provider_posthog.results.clickhouse_values import bare, day_of, exact_moment_of, integer_of

#: All times: in UTC whatever the project's time zone is, as exact as PostHog keeps them.
TIMESTAMP = pa.timestamp("us", "UTC")

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
#: Numbers as ClickHouse writes them in text; Python's own readers take ``1_000`` and spaces, too.
_NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?(?:inf|nan)")
#: A float keeps so many digits of any decimal number; of one with more, some may be gone before it came.
_DIGITS_OF_FLOATS = 15
#: The first and the last day, and moment, that Python knows, counted from 1970.
_DAYS = date.min.toordinal() - date(1970, 1, 1).toordinal(), date.max.toordinal() - date(1970, 1, 1).toordinal()
_MOMENTS = _DAYS[0] * 86_400_000_000, (_DAYS[1] + 1) * 86_400_000_000 - 1
#: The end of a text that tells its offset from UTC.
_OFFSET = re.compile(r"(?:Z|[+-]\d\d:?\d\d(?::?\d\d)?)$")


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
    if not _are_names(columns) or not isinstance(types, (list, tuple)) or not all(map(_is_pair, types)):
        raise PostHogTransportError("PostHog's answer does not say what its columns are")
    if len(types) != len(columns):
        raise PostHogTransportError(f"PostHog answered {len(columns)} columns and {len(types)} types")
    if len(set(columns)) != len(columns):
        raise PostHogTransportError("two columns of the answer have one name: give each a name of its own with AS")
    return pa.schema([pa.field(name, type_of(pair[1])) for name, pair in zip(columns, types, strict=True)])


def _are_names(columns: object) -> bool:
    return isinstance(columns, (list, tuple)) and all(isinstance(name, str) for name in columns)


def _is_pair(pair: object) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[1], str)


def type_of(kind: str) -> pa.DataType:
    """Return the Arrow type for one of ClickHouse's.

    :param kind: as PostHog names it, such as ``Nullable(DateTime64(6, 'Europe/Berlin'))``.
    :raises PostHogTransportError: if it is a decimal as there can be none.
    """
    kind = bare(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind.startswith("DateTime"):
        return TIMESTAMP
    if match := _DECIMAL.fullmatch(kind):
        digits, scale = int(match[1][:9]), int(match[2][:9])
        if not 1 <= digits <= 76 or scale > digits:
            raise PostHogTransportError(f"PostHog answered a type that there is not: {clean(kind)[:60]}")
        return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)
    return pa.string()


def batch_of(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as an Arrow batch.

    :param rows: the answer's ``results``.
    :param schema: from :func:`schema_of`.
    :raises PostHogTransportError: if a row has another length than the schema, or a value is not of its column's type.
    """
    if not rows:
        return pa.RecordBatch.from_pylist([], schema=schema)
    try:  # a text is not a row, though it can be taken apart
        columns = list(zip(*rows, strict=True)) if set(map(type, rows)) <= {list, tuple} else []
    except ValueError:
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
    read = _reader(field.type)
    try:
        return pa.array([None if value is None else read(value) for value in values], field.type)
    except (pa.ArrowException, ArithmeticError, TypeError, ValueError):
        raise PostHogTransportError(
            f"the column {clean(field.name)[:60]!r} holds what is no {field.type}, as PostHog says it is"
        ) from None


def _fast(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Convert a column whose values need no check.

    :raises TypeError: or what Arrow raises, if one does.
    """
    if pa.types.is_string(kind):
        return _texts(values)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _known(_times(_texts(values), values, kind), kind)
    # Arrow would take a text's digits beyond the scale for an error, cut floats to integers, and make 1e300 infinite.
    types = set(map(type, values)) - {type(None)}
    whole = int if pa.types.is_integer(kind) else bool if pa.types.is_boolean(kind) else float
    if types - {whole} or pa.types.is_decimal(kind) or kind == pa.float32():
        raise TypeError
    return pa.array(values, kind)


def _times(texts: pa.Array, values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_date(kind):
        return texts.cast(kind)
    first = next((value for value in values if value is not None), "Z")
    # A DateTime comes without an offset and is UTC; a DateTime64 carries the project's.
    return texts.cast(kind) if _OFFSET.search(first) else texts.cast(pa.timestamp("us")).cast(kind)


def _known(times: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return times, unless one is of a year that Python does not know: Arrow has a year 0, and 10,000."""
    edges = pc.min_max(times.cast(pa.int32() if pa.types.is_date(kind) else pa.int64()))
    low, high = edges["min"].as_py(), edges["max"].as_py()
    first, last = _DAYS if pa.types.is_date(kind) else _MOMENTS
    if low is not None and (low < first or high > last):
        raise ValueError
    return times


def _texts(values: Sequence[str | None]) -> pa.Array:
    """Make a column of texts out of one long text: ``pa.array`` would import pandas, 50 MB of it, to look at a list.

    :raises TypeError: if a value is neither a text nor ``None``.
    :raises UnicodeEncodeError: if it holds half of a surrogate pair.
    """
    if "pandas" in sys.modules:
        return pa.array(values, pa.string())
    try:
        joined = "".join(values)  # type: ignore[arg-type]
    except TypeError:  # not only texts
        builder = StringBuilder()
        builder.append_values(values)
        return builder.finish()
    sizes = array("i", [0])
    if joined.isascii():  # which Python knows without a look
        data = joined.encode()
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
        return exact_moment_of
    if pa.types.is_date(kind):
        return day_of
    if pa.types.is_decimal(kind):
        return _decimal
    if pa.types.is_boolean(kind):
        return _truth
    if pa.types.is_integer(kind):
        return integer_of
    if pa.types.is_floating(kind):
        return _short_float if kind == pa.float32() else _float
    return _text


def _decimal(value: object) -> Decimal:
    if isinstance(value, float) and len(Decimal(repr(value)).as_tuple().digits) > _DIGITS_OF_FLOATS:
        raise ValueError
    text = str(value)
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        raise ValueError
    return Decimal(text)


def _truth(value: object) -> bool:
    known = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}
    if value not in known:
        raise ValueError
    return known[value]


def _float(value: object) -> float:
    if isinstance(value, str) and (_NUMBER.fullmatch(value) or _INFINITE.fullmatch(value)):
        return float(value)
    if not isinstance(value, (int, float)) or (isinstance(value, int) and int(float(value)) != value):
        raise ValueError
    return float(value)


def _short_float(value: object) -> float:
    """Read a Float32; PostHog writes the shortest number that is it."""
    number = _float(value)
    struct.pack("<f", number)  # OverflowError where it would become infinite
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value.encode("utf-8", "replace").decode()  # JSON can hold half of a surrogate pair, Arrow cannot
