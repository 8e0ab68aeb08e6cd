"""The SQL of databases other than PostgreSQL and DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_posthog.load.columns import Dialect
from airflow_provider_posthog.load.names import ascii_lower

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Flavour:
    """The SQL of a kind of database.

    :param dialect: its types and names.
    :param mark: its quotation mark of names.
    :param times: how times are sent: as ``text`` of fixed width, as ``naive`` datetimes in UTC, or ``aware`` ones.
    :param columns: the statement that lists a table's columns (name, type, default, whether the database fills it by
        something else than a default, whether it takes null) from its schema (or null) and its name; ``None`` to look
        at an empty result instead.
    :param session: statements that make a connection refuse values that it would otherwise change.
    :param binary: a collation to which different texts are never equal.
    :param differs: the condition that a column differs from a value, null or not, and the same for texts, compared
        exactly; ``None`` if there is no portable one: rows are then written again, changed or not.
    """

    dialect: Dialect
    mark: str = '"'
    times: str = "aware"
    columns: str | None = None
    session: tuple[str, ...] = ()
    binary: str = "one that tells all texts apart"
    differs: tuple[str, str] | None = None


#: Declared types whose columns SQLite makes into integers, and those that keep texts as texts
#: (https://www.sqlite.org/datatype3.html). Texts that look like numbers become numbers in all others.
_INTEGERS, _TEXTS = re.compile(r"INT", re.IGNORECASE), re.compile(r"CHAR|CLOB|TEXT|BLOB|^$", re.IGNORECASE)
#: Texts of these do not look like numbers, or are numbers anyway.
_HARMLESS = re.compile(r"uuid|jsonb?", re.IGNORECASE)
#: The digits that SQLite keeps of a number that is not an integer.
_SQLITE_DIGITS = 15


def keeps_texts(sql_type: str) -> bool:
    """Return whether SQLite keeps a text in a column of a type as it is.

    :param sql_type: the column's declared type.
    """
    sql_type = sql_type.strip()
    return not _INTEGERS.search(sql_type) and bool(_TEXTS.search(sql_type))


def _sqlite_changes(kind: pa.DataType, sql_type: str) -> bool:
    """Return whether SQLite would change a column's values."""
    import pyarrow.types as is_

    if keeps_texts(sql_type):
        return False
    if is_.is_decimal(kind):
        return bool(kind.precision > _SQLITE_DIGITS)
    is_text = is_.is_string(kind) or is_.is_large_string(kind) or is_.is_dictionary(kind)
    return is_text and not _HARMLESS.fullmatch(sql_type.strip())


SQLITE = Flavour(
    Dialect(
        types={
            "text": "TEXT",
            "integer": "INTEGER",
            "unsigned": "INTEGER",
            "decimal": "TEXT",
            "float": "REAL",
            "boolean": "BOOLEAN",
            "date": "DATE",
            "time": "TIMESTAMP",
            "naive": "TIMESTAMP",
            "bytes": "BLOB",
        },
        fold=ascii_lower,
        longest_name=1024,
        also_fits={
            "boolean": frozenset({"integer"}),
            "unsigned": frozenset({"text"}),
            "decimal": frozenset({"text"}),
            "date": frozenset({"text"}),
            "time": frozenset({"text"}),
            "naive": frozenset({"text"}),
        },
        changes=_sqlite_changes,
        widest="TEXT",
        bits=False,
    ),
    times="text",
    # An INTEGER PRIMARY KEY is the row's number, which SQLite gives it.
    columns=(
        "SELECT name, type, dflt_value, hidden > 0 OR (pk > 0 AND lower(type) = 'integer'), \"notnull\" = 0 "
        "FROM pragma_table_xinfo({table}, {schema})"
    ),
    binary="COLLATE BINARY",
    differs=("{column} IS NOT {value}", "{column} IS NOT ({value} COLLATE BINARY)"),
)
MYSQL = Flavour(
    Dialect(
        types={
            "text": "LONGTEXT CHARACTER SET utf8mb4",
            "integer": "BIGINT",
            "unsigned": "BIGINT UNSIGNED",
            "decimal": "DECIMAL({p}, {s})",
            "float": "DOUBLE",
            "boolean": "BOOLEAN",
            "date": "DATE",
            "time": "DATETIME(6)",
            "naive": "DATETIME(6)",
            "bytes": "LONGBLOB",
        },
        fold=str.casefold,
        longest_name=64,
        single=frozenset({"float"}),
        time_digits=0,
    ),
    mark="`",
    times="naive",
    # MariaDB shows the text NULL where there is no default.
    columns=(
        "SELECT column_name, column_type, column_default, "
        "extra LIKE '%%auto_increment%%' OR extra LIKE '%%GENERATED%%', is_nullable = 'YES' "
        "FROM information_schema.columns "
        "WHERE table_name = {table} AND table_schema = coalesce({schema}, database())"
    ),
    session=(
        "SET autocommit = 0",
        # Columns of type TIMESTAMP take what they get for the session's zone.
        "SET time_zone = '+00:00'",
        # Without it, long texts are cut and big numbers made smaller.
        "SET sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')",
    ),
    binary="utf8mb4_nopad_bin (MariaDB) or utf8mb4_0900_bin (MySQL 8)",
    # As bytes of one character set: collations treat different texts as equal, and all ignore trailing blanks.
    differs=(
        "NOT ({column} <=> {value})",
        "NOT (CAST(CONVERT({column} USING utf8mb4) AS BINARY) <=> CAST(CONVERT({value} USING utf8mb4) AS BINARY))",
    ),
)
ANSI = Flavour(
    Dialect(
        types={
            "text": "TEXT",
            "integer": "BIGINT",
            "unsigned": "DECIMAL(20, 0)",
            "decimal": "DECIMAL({p}, {s})",
            "float": "DOUBLE PRECISION",
            "boolean": "BOOLEAN",
            "date": "DATE",
            "time": "TIMESTAMP WITH TIME ZONE",
            "naive": "TIMESTAMP",
            "bytes": "BLOB",
        },
        fold=str.casefold,
        longest_name=128,
    ),
)
FLAVOURS: Mapping[str, Flavour] = {"sqlite": SQLITE, "mysql": MYSQL}
