"""Widen a column's type so that it holds both its values and the loaded ones."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from airflow_provider_posthog.load.columns import Dialect, family_of, fits, sql_family
from airflow_provider_posthog.load.typed import bits_of

if TYPE_CHECKING:
    import pyarrow as pa

_SIZE = re.compile(r"\((\d+)(?:, ?(\d+))?\)")
#: The digits of a 64-bit integer, and the most digits of a decimal.
_INTEGER, _MOST = 19, 38


def wider(column: pa.Field, sql_type: str, dialect: Dialect) -> str | None:
    """Return a type that holds each value of a table's column and each loaded one; ``None`` if there is none.

    No value is changed by it: an integer does not become a float, which has fewer digits.

    :param column: what comes.
    :param sql_type: the type of the table's column.
    :param dialect: the database's.
    """
    coming, there = family_of(column), sql_family(sql_type)
    widened: str | None = None
    if there in ("integer", "decimal") and coming in ("integer", "unsigned", "decimal"):
        widened = _decimal(column, sql_type, dialect)
    elif there in ("integer", "decimal") and coming == "float":
        widened = dialect.types["decimal"] if "{" not in dialect.types["decimal"] else None
    elif there == "float" and coming == "float":
        widened = dialect.types["float"]
    elif there == "time" and coming in ("time", "naive"):
        widened = re.sub(r"\(\d\)", "(6)", sql_type) if "(" in sql_type else dialect.types["time"]
    return widened if widened is not None and fits(column, widened, dialect) else None


def _decimal(column: pa.Field, sql_type: str, dialect: Dialect) -> str | None:
    if "{" not in dialect.types["decimal"]:
        return dialect.types["decimal"]  # of any size
    size = _SIZE.search(sql_type) if sql_family(sql_type) == "decimal" else None
    before, behind = (_INTEGER, 0)
    if size:
        behind = int(size[2] or 0)
        before = int(size[1]) - behind
    scale = max(behind, getattr(column.type, "scale", 0))
    precision = max(before, getattr(column.type, "precision", _INTEGER + 1) - getattr(column.type, "scale", 0)) + scale
    return dialect.types["decimal"].format(p=precision, s=scale) if precision <= _MOST else None


def outgrown(column: pa.Field, values: pa.ChunkedArray, sql_type: str, dialect: Dialect) -> str | None:
    """Return a wider type if some values are too big for a table's column; ``None`` if all fit, or there is none.

    :param column: what comes.
    :param values: its values.
    :param sql_type: the type of the table's column.
    :param dialect: the database's.
    """
    import pyarrow.compute as pc

    there, size = sql_family(sql_type), _SIZE.search(sql_type)
    if there == "text" and size and family_of(column) == "text":
        longest = pc.max(pc.utf8_length(values.cast("string"))).as_py() or 0
        return dialect.types["text"] if longest > int(size[1]) else None
    largest = _largest(sql_type, dialect) if there in ("integer", "decimal") else None
    if largest is None or family_of(column) not in ("integer", "unsigned", "decimal", "float"):
        return None
    extent = pc.min_max(values).as_py()
    if extent["min"] is None or (-largest - (there == "integer") <= extent["min"] and extent["max"] <= largest):
        return None
    return dialect.types["integer"] if there == "integer" else wider(column, sql_type, dialect)


def _largest(sql_type: str, dialect: Dialect) -> Decimal | int | None:
    """Return the largest number of a type; ``None`` if it holds all that come."""
    if sql_family(sql_type) == "integer":
        bits = bits_of(sql_type) if dialect.bits else 64
        return 2 ** (bits - 1) - 1 if bits < 64 else None
    size = _SIZE.search(sql_type)
    if size is None:
        return None
    behind = int(size[2] or 0)
    return Decimal(10) ** (int(size[1]) - behind) - Decimal(10) ** -behind
