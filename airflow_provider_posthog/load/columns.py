"""Compare the columns of an Arrow schema with those of a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    import pyarrow as pa

Family = Literal["text", "integer", "unsigned", "decimal", "float", "boolean", "date", "time", "naive", "bytes"]

#: What databases call the members of a family. The first that matches counts.
_SQL_FAMILIES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (family, re.compile(pattern))
    for family, pattern in (
        ("nested", r".*\[\d*\]|.* array|(array|list|struct|map|union|row|tuple)\b.*"),
        ("cut", r'name|"char"'),  # PostgreSQL's own: the rest of a longer text is lost silently
        ("boolean", r"bool(ean)?|tinyint\(1\)|bit(\(1\))?|logical"),
        ("text", r"(long|medium|tiny)?text|(n?var)?n?char(acter)?\b.*|string|.*clob|uuid|jsonb?|citext|enum\b.*"),
        (
            "integer",
            r"u?(tiny|small|medium|big|huge)?int(eger)?\b.*|u?int\d+|serial\d?",
        ),
        ("float", r"(double|float\d?)\b.*|real"),
        ("decimal", r"(numeric|decimal|number)\b.*"),
        ("date", r"date"),
        ("clock", r"time(tz)?\b(?!stamp).*|interval\b.*|year.*"),
        ("time", r"timestamp\w*\b.*|datetime\w*\b.*"),
        ("bytes", r"blob|bytea|(var)?binary\b.*"),
    )
)
#: A default that is null. (``nullif(...)`` may be a value.)
_NULL = re.compile(r"[\s(]*(?:cast\s*\(\s*)?null\b", re.IGNORECASE)
#: A decimal's digits, and those behind the point.
_SIZE = re.compile(r"\(\d+(?:, ?(?P<scale>-?\d+))?\)")
#: Fractional digits of a second: in the name of an SQL type, and of Arrow's units.
_TIME_SIZE = re.compile(r"\((?P<digits>\d)\)|(?P<unit>_s|_ms)$")
_UNIT_DIGITS = {"_s": 0, "_ms": 3, "s": 0, "ms": 3, "us": 6, "ns": 6}
#: The families of columns that hold values of a family. (A boolean column takes the numbers 0 and 1, as HogQL's
#: conditions are: ``fitting.py`` checks each value.)
_FITS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text"}),
    "integer": frozenset({"integer", "decimal", "float", "boolean"}),
    "unsigned": frozenset({"integer", "decimal", "boolean"}),
    "decimal": frozenset({"decimal"}),
    "float": frozenset({"float", "decimal"}),
    "boolean": frozenset({"boolean"}),
    "date": frozenset({"date"}),
    "time": frozenset({"time"}),
    "naive": frozenset({"time"}),
    "bytes": frozenset({"bytes"}),
}


@dataclass(frozen=True)
class Existing:
    """A column that a table has.

    :param name: its name, as the database keeps it.
    :param type: its type, as the database calls it; empty if that is not known.
    :param fills_itself: whether the database fills it in rows without a value (a default, a generated column).
    :param nullable: whether it takes null.
    """

    name: str
    type: str
    fills_itself: bool = False
    nullable: bool = True


@dataclass(frozen=True)
class Dialect:
    """What differs between databases when tables are made and compared.

    :param types: the SQL type of each family; ``{p}`` and ``{s}`` stand for a decimal's precision and scale.
    :param fold: how the database normalizes a column's name to compare it.
    :param longest_name: how many bytes a name may have.
    :param also_fits: families of columns that hold a family's values in this database, besides those that do
        everywhere.
    :param single: its names for a float of 32 bits.
    :param time_digits: the fractional digits of a time whose type does not state them.
    :param changes: returns, for an Arrow type and a column's SQL type, whether the column would change values.
    :param widest: the type of a column that holds integers above 2^63.
    :param bits: whether an ``INTEGER`` has 32 bits.
    :param alters: the clause that gives a column another type, with ``{column}`` and ``{type}``; empty for none.
    """

    types: Mapping[str, str]
    fold: Callable[[str], str]
    longest_name: int
    also_fits: Mapping[str, frozenset[str]] = field(default_factory=dict)
    single: frozenset[str] = frozenset()
    time_digits: int = 6
    changes: Callable[[pa.DataType, str], bool] | None = None
    widest: str = "numeric(20,0)"
    bits: bool = True
    alters: str = ""

    def type_of(self, column: pa.Field) -> str:
        """Return the SQL type for a new column.

        :param column: the column of the Arrow schema.
        """
        precision, scale = getattr(column.type, "precision", 0), getattr(column.type, "scale", 0)
        return self.types[family_of(column)].format(p=precision, s=scale)


def family_of(column: pa.Field) -> Family:
    """Return the family of a column's type.

    :param column: the column of an Arrow schema.
    :raises PostHogSettingsError: if databases have no such type.
    """
    import pyarrow.types as is_

    kind = column.type.value_type if is_.is_dictionary(column.type) else column.type
    families: tuple[tuple[bool, Family], ...] = (
        (is_.is_string(kind) or is_.is_large_string(kind) or is_.is_null(kind), "text"),
        (is_.is_boolean(kind), "boolean"),
        (is_.is_uint64(kind), "unsigned"),
        (is_.is_integer(kind), "integer"),
        (is_.is_floating(kind), "float"),
        (is_.is_decimal(kind), "decimal"),
        (is_.is_date(kind), "date"),
        (is_.is_timestamp(kind), "time" if getattr(kind, "tz", None) else "naive"),
        (is_.is_binary(kind) or is_.is_large_binary(kind), "bytes"),
    )
    for matches, family in families:
        if matches:
            return family
    raise PostHogSettingsError(
        "columns",
        f"have {column.name!r} of the type {kind}, which no table column takes.",
        "Select it as toJSONString(...).",
    )


def is_null(default: str | None) -> bool:
    """Return whether a column's default is null: ``None``, ``NULL``, ``(NULL)``, ``CAST(NULL AS text)``.

    :param default: as the database shows it.
    """
    return default is None or _NULL.match(default) is not None


def added_columns(
    schema: pa.Schema, existing: Sequence[Existing], dialect: Dialect, *, others_may_stay: bool = False
) -> list[pa.Field]:
    """Compare a schema with a table; return the columns that the table lacks.

    :param schema: what is to be loaded.
    :param existing: what the table has.
    :param dialect: the database's.
    :param others_may_stay: whether the table may have columns, null by default, that are not loaded.
    :raises PostHogSettingsError: if a column has another type, or one of the table's is not in the schema.
    """
    present = {dialect.fold(column.name): column for column in existing}
    coming = {dialect.fold(column.name) for column in schema}
    for name, column in present.items():
        if name not in coming and not column.fills_itself:
            _check_other(column, others_may_stay)
    for column in schema:
        known = present.get(dialect.fold(column.name))
        if known is not None and not fits(column, known.type, dialect):
            raise PostHogSettingsError(
                "columns",
                f"have {column.name!r} as {column.type}, but the table has it as {known.type}.",
                "Alter the table's column, drop it, or load it under another name.",
            )
    return [column for column in schema if dialect.fold(column.name) not in present]


def _check_other(column: Existing, may_stay: bool) -> None:
    """Refuse a table column that is neither loaded nor filled, if its values would be lost or may not be null."""
    if not column.nullable:
        raise PostHogSettingsError(
            "columns",
            f"lack the table's column {column.name!r}, which takes no null and has no default.",
            "Select it, drop it from the table, or give it a DEFAULT.",
        )
    if not may_stay:
        raise PostHogSettingsError(
            "columns",
            f"lack the table's column {column.name!r}, so its values would be lost with the rows that are replaced.",
            "Select it, drop it from the table, or give it a DEFAULT if the database is to fill it. "
            "write_disposition='merge' and 'append' keep its values; other_columns='null' lets it be null in new rows.",
        )


def fits(column: pa.Field, sql_type: str, dialect: Dialect) -> bool:
    """Return whether a column's values are the same in a table's column.

    For an unknown type the database decides.

    :param column: the column of the Arrow schema.
    :param sql_type: the type of the table's column, as the database calls it.
    :param dialect: the database's.
    """
    if dialect.changes is not None and dialect.changes(column.type, sql_type):
        return False
    family, there = family_of(column), sql_family(sql_type)
    if there is None:
        return True
    if there not in _FITS[family] and there not in dialect.also_fits.get(family, frozenset()):
        return False
    return not _loses_digits(column.type, there, sql_type.strip().lower(), dialect)


def _loses_digits(kind: pa.DataType, there: str, sql_type: str, dialect: Dialect) -> bool:
    """Return whether numbers or times would be rounded; floats may be, to the scale of a decimal column."""
    import pyarrow.types as is_

    if is_.is_timestamp(kind) and there == "time":  # rounded, one can be in the next interval
        match = _TIME_SIZE.search(sql_type)
        digits = dialect.time_digits
        if match:
            digits = _UNIT_DIGITS[match["unit"]] if match["unit"] else int(match["digits"])
        return digits < _UNIT_DIGITS[kind.unit]
    if there == "float":
        single = sql_type in dialect.single
        return (
            kind.bit_width > 32
            if is_.is_floating(kind) and single
            else is_.is_integer(kind) and (single or kind.bit_width > 32)
        )
    size = _SIZE.search(sql_type)
    return there == "decimal" and is_.is_decimal(kind) and size is not None and int(size["scale"] or 0) < kind.scale


def sql_family(sql_type: str) -> str | None:
    """Return the family of an SQL type; ``None`` for one that is not known.

    :param sql_type: as the database calls it.
    """
    text = sql_type.strip().lower()
    return next((family for family, pattern in _SQL_FAMILIES if pattern.fullmatch(text)), None)
