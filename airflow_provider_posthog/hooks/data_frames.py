"""Rows of HogQL as a data frame of pandas or polars, each column of the type that PostHog gives it.

Types come from the answer's ``types``, never from the values: an empty or a null column has the type of a full one, and
no integer goes through a float.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogTransportError, clean
from airflow_provider_posthog.results.clickhouse_values import bare, day_of, exact_moment_of, integer_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    from airflow_provider_posthog.api.settings import ClientSettings

_INTEGER = re.compile(r"U?Int(?:8|16|32|64|128|256)|Bool")
_TEXT = re.compile(r"String|UUID|IPv[46]|(?:FixedString|Enum8|Enum16)\(.*\)", re.DOTALL)


def data_frame(rows: Sequence[Sequence[Any]], columns: Sequence[str], types: object) -> pd.DataFrame:
    """Make a data frame.

    ========================================= ==========================================================
    PostHog's type                            the column's
    ========================================= ==========================================================
    ``Int8`` to ``UInt256``, ``Bool``         ``Int64``; ``UInt64`` or objects if a number does not fit
    ``Float32``, ``Float64``                  ``float64``
    ``DateTime``, ``DateTime64``              ``datetime64[us, UTC]``; text without an offset is UTC
    ``Date``, ``Date32``                      ``datetime64[s]``: midnight, of no zone
    ``String``, ``UUID``, enumerations        ``string``
    arrays, maps, tuples, decimals, the rest  objects, as they came
    ========================================= ==========================================================

    :param rows: the answer's ``results``.
    :param columns: its ``columns``.
    :param types: its ``types``, pairs of a name and a type; without them the columns are objects.
    :raises PostHogTransportError: if a row or a value does not fit.
    """
    import pandas as pd

    if any(len(row) != len(columns) for row in rows):
        raise PostHogTransportError(f"PostHog answered rows of other lengths than its {len(columns)} columns")
    kinds = _kinds(types, len(columns))
    series = {}
    for at, (name, kind) in enumerate(zip(columns, kinds, strict=True)):
        try:
            series[at] = _column([row[at] for row in rows], kind)
        except (TypeError, ValueError, OverflowError):
            raise PostHogTransportError(
                f"the column {clean(name)[:60]!r} holds what is no {clean(kind)[:60]}, as PostHog says it is"
            ) from None
    # By position: two columns may have one name.
    frame: pd.DataFrame = pd.DataFrame(series, index=pd.RangeIndex(len(rows)))
    frame.columns = list(columns)
    return frame


def polars_frame(rows: Sequence[Sequence[Any]], columns: Sequence[str], types: object) -> pl.DataFrame:
    """Make a data frame of polars, whose columns have PostHog's types; arrays, maps and tuples are JSON text.

    :param rows: the answer's ``results``.
    :param columns: its ``columns``, each of a name of its own.
    :param types: its ``types``.
    :raises PostHogTransportError: if a row or a value does not fit, or there is not a type for each column.
    """
    import polars as pl
    import pyarrow as pa

    from airflow_provider_posthog.results.arrow_types import batch_of, schema_of

    schema = schema_of(columns, types)  # type: ignore[arg-type] # it looks whether they are any
    return pl.DataFrame(pl.from_arrow(pa.Table.from_batches([batch_of(rows, schema)])))


def read_by_key(
    settings: ClientSettings, hogql: str, values: Mapping[str, Any] | None, key: str | Sequence[str], df_type: str
) -> Any:  # noqa: ANN401 - of pandas or polars
    """Read all rows of a statement, however many, in parts by the hashes of their keys, and count them.

    :param settings: where the project is, and with which key.
    :param hogql: the statement.
    :param values: what its placeholders stand for.
    :param key: HogQL over its columns that tells its rows apart, or several.
    :param df_type: ``pandas`` or ``polars``.
    :raises PostHogError: if not all rows can be read.
    """
    import pyarrow as pa

    from airflow_provider_posthog.extract.reader import Extraction
    from airflow_provider_posthog.extract.sources import hogql as query

    with Extraction(settings, query(hogql, key=key, values=values)) as extraction:
        table = pa.Table.from_batches(
            [batch for chunk in extraction for batch in chunk.table.to_batches()], extraction.schema
        )
    if df_type == "polars":
        import polars as pl

        return pl.from_arrow(table)
    return _pandas(table)


def _pandas(table: pa.Table) -> pd.DataFrame:
    """Return rows with the types that :func:`data_frame` gives them."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    for at, column in enumerate(table.schema):
        kind, values = column.type, table.column(at)
        if pa.types.is_uint64(kind) and (pc.max(values).as_py() or 0) >= 2**63:
            continue
        if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            table = table.set_column(at, column.name, values.cast(pa.int64()))
        elif pa.types.is_date(kind):
            table = table.set_column(at, column.name, values.cast(pa.timestamp("s")))
        elif pa.types.is_float32(kind):
            table = table.set_column(at, column.name, values.cast(pa.float64()))
    kinds = {pa.int64(): pd.Int64Dtype(), pa.uint64(): pd.UInt64Dtype(), pa.string(): pd.StringDtype()}
    made: pd.DataFrame = table.to_pandas(types_mapper=kinds.get)
    return made


def _kinds(types: object, count: int) -> list[str]:
    if not isinstance(types, list) or len(types) != count:
        return [""] * count
    named = [pair[1] if isinstance(pair, list) and len(pair) == 2 else pair for pair in types]
    return [bare(kind) if isinstance(kind, str) else "" for kind in named]


def _column(values: list[Any], kind: str) -> pd.Series:
    if _INTEGER.fullmatch(kind):
        return _integers(values)
    if kind in ("Float32", "Float64"):
        return _series([None if value is None else float(value) for value in values], dtype="float64")
    if kind.startswith("DateTime"):
        return _times(values)
    if kind in ("Date", "Date32"):
        return _series(_days(values))
    if _TEXT.fullmatch(kind) and all(value is None or isinstance(value, str) for value in values):
        try:
            return _series(values, dtype="string")
        except UnicodeEncodeError:  # Arrow takes no half of a surrogate pair, which JSON can hold
            return _objects(values)
    return _objects(values)


def _integers(values: list[Any]) -> pd.Series:
    """Return nullable integers. Each is put into its array as it is: pandas' own ways make floats where nulls are."""
    import numpy as np
    import pandas as pd

    numbers = [None if value is None else integer_of(value) for value in values]
    known = [number for number in numbers if number is not None]
    low, high = min(known, default=0), max(known, default=0)
    if low < -(2**63) or high >= 2**64 or (low < 0 and high >= 2**63):
        return _objects(numbers)
    mask: np.ndarray[Any, Any] = np.array([number is None for number in numbers], dtype=bool)
    filled = np.array([number or 0 for number in numbers], dtype="int64" if high < 2**63 else "uint64")
    return _series(pd.arrays.IntegerArray(filled, mask))


def _days(values: list[Any]) -> Any:  # noqa: ANN401 - an array of NumPy's
    import numpy as np

    # In seconds: pandas has no days, and nanoseconds end in 2262.
    days = [None if value is None else day_of(value) for value in values]
    return np.array(days, dtype="datetime64[D]").astype("datetime64[s]")


def _times(values: list[Any]) -> pd.Series:
    import numpy as np
    import pandas as pd

    # In microseconds: nanoseconds end in 2262, ClickHouse's times in 2299.
    naive = np.array(list(_naive(values)), dtype="datetime64[us]")
    return _series(pd.DatetimeIndex(naive).tz_localize("UTC"))


def _naive(values: list[Any]) -> Iterator[datetime | None]:
    """Yield times in UTC, without saying so, as NumPy wants them."""
    for value in values:
        yield None if value is None else exact_moment_of(value).replace(tzinfo=None)


def _objects(values: list[Any]) -> pd.Series:
    import numpy as np

    # Filled one by one: NumPy would make a table of lists of one length.
    array: np.ndarray[Any, Any] = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):
        array[at] = value
    return _series(array, dtype="object")


def _series(values: Any, dtype: str | None = None) -> pd.Series:  # noqa: ANN401 - whatever pandas takes
    import pandas as pd

    made: pd.Series = pd.Series(values, dtype=dtype)
    return made
