"""Read values as an SQL type: values that do not fit are counted, never rounded, cut or guessed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import ROUND_HALF_UP, Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any
from uuid import UUID

from airflow_provider_posthog.load.columns import sql_family

if TYPE_CHECKING:
    import pyarrow as pa

_INTEGER = re.compile(r"[-+]?\d{1,19}(?:\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,4})?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2})(:\d{2})?(?:\.(\d{1,9}))?)?\s?(Z|[+-]\d{2}:?\d{2})?", re.ASCII
)
_UUID = re.compile(r"(\{)?[0-9a-fA-F]{8}(-?)(?:[0-9a-fA-F]{4}\2){3}[0-9a-fA-F]{12}(?(1)\})")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_SIZES = re.compile(r"\((\d{1,4})(?:, ?(\d{1,4}))?\)")
#: Halves of a surrogate pair, which a script leaves where it cuts a text within an emoji; no database stores them.
_HALVES = re.compile("[\ud800-\udfff]")
#: The most digits of a decimal.
_DIGITS = 38
#: How many bits integers of a type have; all others have 64. DuckDB calls types without a sign ``u...``.
_BITS = {
    "tinyint": 8,
    "int1": 8,
    "smallint": 16,
    "int2": 16,
    "mediumint": 24,
    "int": 32,
    "integer": 32,
    "int4": 32,
}


@dataclass(frozen=True)
class Kind:
    """A type that values are read as.

    :param read: converts a text to a value; raises ``ValueError`` if it does not fit.
    :param arrow: the Arrow type of the values, by name, with precision and scale of a decimal.
    """

    read: Callable[[str], Any]
    arrow: tuple[str, int, int] = ("string", 0, 0)

    def type(self) -> pa.DataType:
        """Return the Arrow type."""
        import pyarrow as pa

        name, precision, scale = self.arrow
        if name == "decimal":
            return pa.decimal128(precision, scale)
        kinds = {"bool": pa.bool_(), "int64": pa.int64(), "double": pa.float64(), "date": pa.date32()}
        return kinds.get(name) or (pa.timestamp("us", "UTC") if name == "time" else pa.string())


def kind_of(sql_type: str, *, bits: bool = True) -> Kind | None:
    """Return how to read values of an SQL type; ``None`` for an unknown type.

    :param sql_type: such as ``decimal(12,2)``.
    :param bits: whether an ``integer`` has 32 bits, as in most databases.
    """
    text = sql_type.strip().lower()
    name, sizes = text.partition("(")[0].strip(), _SIZES.search(text)
    first, second = (int(size or 0) for size in sizes.groups()) if sizes else (0, 0)
    if name in ("uuid", "json", "jsonb"):
        return Kind(_uuid if name == "uuid" else _json)
    family = sql_family(text)
    if family == "decimal":
        is_sized = "(" in text
        return None if (is_sized and not 0 < first <= _DIGITS) or second > first else _decimal_kind(first, second)
    if family == "text":
        return Kind(_text(first))
    if family == "integer":
        return _integer_kind(text, bits=bits)
    kinds = {
        "float": Kind(_float, ("double", 0, 0)),
        "boolean": Kind(_truth, ("bool", 0, 0)),
        "date": Kind(_day, ("date", 0, 0)),
        "time": Kind(_time, ("time", 0, 0)),
    }
    return kinds.get(family or "")


def read(column: pa.ChunkedArray, kind: Kind, *, raw: bool = False) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Read a column's values; return them, and a mask of those that did not fit, which are null.

    :param column: of texts, or of what has a text.
    :param kind: what its values are read as.
    :param raw: whether they are JSON: a text in it is in quotes, and nothing at all is no value.
    """
    import pyarrow as pa

    # Read each distinct value once: properties have few.
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    values: list[Any] = []
    fits: list[bool] = []
    for text in encoded.dictionary.to_pylist():
        value, fit = _value(text, kind, raw)
        values.append(value)
        fits.append(not fit)
    made = pa.array([*values, None], kind.type(), from_pandas=False)
    indices = encoded.indices.fill_null(len(values))
    misfits = pa.array([*fits, False], pa.bool_()).take(indices)
    return pa.chunked_array([made.take(indices)]), pa.chunked_array([misfits])


def _value(text: str, kind: Kind, raw: bool) -> tuple[Any, bool]:
    try:
        if raw:
            if text in ("", "null"):
                return None, True
            if kind.read is not _json and text.startswith('"'):
                text = _HALVES.sub("\ufffd", json.loads(text))
        return kind.read(text), True
    except (ValueError, ArithmeticError, RecursionError):
        return None, False


def bits_of(sql_type: str) -> int:
    """Return how many bits the integers of a type have.

    :param sql_type: such as ``smallint``.
    """
    name = sql_type.strip().lower().partition("(")[0].strip()
    return _BITS.get(name.removeprefix("u").partition(" ")[0], 64)


def _integer_kind(text: str, *, bits: bool) -> Kind:
    is_unsigned = "unsigned" in text or text.startswith("u")
    return Kind(_integer(bits_of(text) if bits else 64, unsigned=is_unsigned), ("int64", 0, 0))


def _integer(bits: int, *, unsigned: bool) -> Callable[[str], int]:
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    high = min(high, 2**63 - 1)

    def read_integer(text: str) -> int:
        if not _INTEGER.fullmatch(text):
            raise ValueError
        number = int(text.partition(".")[0])
        if not low <= number <= high:
            raise ValueError
        return number

    return read_integer


def _decimal_kind(precision: int, scale: int) -> Kind:
    digits, behind = (precision, scale) if precision else (_DIGITS, 18)

    def read_decimal(text: str) -> Decimal:
        if not _NUMBER.fullmatch(text):
            raise ValueError
        number = Decimal(text)
        if not number:
            return Decimal(0)
        figures = "".join(map(str, number.as_tuple().digits))
        exponent = int(number.as_tuple().exponent) + len(figures) - len(figures.rstrip("0"))
        figures = figures.rstrip("0").lstrip("0")
        if -exponent > behind or len(figures) + exponent > digits - behind:  # behind the point, and before it
            raise ValueError
        return number

    return Kind(read_decimal, ("decimal", digits, behind))


def rounding(kind: Kind) -> Kind:
    """Return how floats are read as a decimal: they are rounded to its scale, as a database does.

    :param kind: a decimal's.
    """
    unit = Decimal(1).scaleb(-kind.arrow[2])

    def read_rounded(text: str) -> Any:  # noqa: ANN401 - what the kind reads
        if not _NUMBER.fullmatch(text):
            raise ValueError
        return kind.read(f"{Decimal(text).quantize(unit, ROUND_HALF_UP):f}")

    return Kind(read_rounded, kind.arrow)


def _float(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError
    number = float(text)
    if not isfinite(number) or (not number and Decimal(text)):  # beyond what a float holds
        raise ValueError
    return number


def _truth(text: str) -> bool:
    truth = _TRUTHS.get(text.lower())
    if truth is None:
        raise ValueError
    return truth


def _day(text: str) -> date:
    if not _DAY.fullmatch(text):
        raise ValueError
    return date.fromisoformat(text)


def _time(text: str) -> datetime:
    parts = _TIME.fullmatch(text)
    if parts is None or (parts[4] or "")[6:].strip("0"):
        raise ValueError
    day, minute, second, fraction, offset = parts.groups()
    offset = "+00:00" if offset in (None, "Z") else offset if ":" in offset else f"{offset[:3]}:{offset[3:]}"
    whole = f"{day}T{minute or '00:00'}{second or ':00'}.{(fraction or '').ljust(6, '0')[:6]}{offset}"
    return datetime.fromisoformat(whole).astimezone(timezone.utc)


def _uuid(text: str) -> str:
    # Python's own reader also takes signs, underscores and hyphens at any place.
    if not _UUID.fullmatch(text):
        raise ValueError
    return str(UUID(text))


def _json(text: str) -> str:
    json.loads(text, parse_constant=_no_json)
    return text


def _no_json(constant: str) -> None:
    """Refuse NaN and Infinity, which Python's reader takes for JSON."""
    raise ValueError(constant)


def _text(longest: int) -> Callable[[str], str]:
    def read_text(text: str) -> str:
        if longest and len(text) > longest:
            raise ValueError
        return text

    return read_text
