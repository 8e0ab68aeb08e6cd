"""The tables that loads keep beside a table: its quarantine, and parts of a running load. Both hold personal data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from airflow_provider_posthog.load.mysql import text_of
from airflow_provider_posthog.load.names import quote
from airflow_provider_posthog.load.parts import stem_of
from airflow_provider_posthog.load.postgres_values import as_jsonb
from airflow_provider_posthog.load.rejects import SUFFIX

Kind = Literal["postgres", "duckdb", "sqlite", "mysql"]
#: Lists the tables in a table's own schema; in PostgreSQL the schema is looked up by the table itself.
_OF_POSTGRES = (
    "SELECT relname FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'f') AND relnamespace = "
    "(SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s))"
)
_OF_DUCKDB = "SELECT table_name FROM duckdb_tables() WHERE "
_OF_MYSQL = "SELECT table_name FROM information_schema.tables WHERE table_schema = COALESCE(%s, DATABASE())"
_OF_SQLITE = "SELECT name FROM {schema}.sqlite_master WHERE type = 'table'"


class Beside:
    """The tables beside one.

    :param rows_of: runs a statement with its values, and returns the rows.
    :param parts: the table's name, with what stands before it, without quotes.
    :param kind: which database it is.
    """

    def __init__(self, rows_of: Callable[..., list[Any]], parts: Sequence[str], kind: Kind) -> None:
        self._parts = list(parts)
        self._kind = kind
        fold = str if self._tells_case(rows_of) else str.lower
        last = fold(parts[-1])
        names = [text_of(row[0]) for row in self._names(rows_of)]
        #: The quarantine's last name; ``None`` if there is none.
        self.quarantine = next((name for name in names if fold(name) == last + SUFFIX), None)
        #: The last names of the tables in which unfinished loads keep their rows.
        self.unfinished = sorted(name for name in names if fold(name).startswith(stem_of(last)))

    def _tells_case(self, rows_of: Callable[..., list[Any]]) -> bool:
        """Return whether two tables may have names that differ in case only."""
        if self._kind == "mysql":
            return not int(rows_of("SELECT @@lower_case_table_names")[0][0])
        return self._kind == "postgres"

    def _names(self, rows_of: Callable[..., list[Any]]) -> list[Any]:
        *around, _ = self._parts
        if self._kind == "postgres":
            return rows_of(_OF_POSTGRES, [".".join(map(quote, self._parts))])
        if self._kind == "mysql":
            return rows_of(_OF_MYSQL, [around[-1] if around else None])
        if self._kind == "sqlite":
            return rows_of(_OF_SQLITE.format(schema=quote(around[-1] if around else "main")))
        if not around:
            return rows_of(f"{_OF_DUCKDB}schema_name = current_schema() AND database_name = current_database()")
        if len(around) == 1:  # a schema's name, or a database's
            as_schema = "(lower(schema_name) = lower(?) AND database_name = current_database())"
            as_database = "(lower(database_name) = lower(?) AND schema_name = 'main')"
            return rows_of(f"{_OF_DUCKDB}{as_schema} OR {as_database}", around * 2)
        return rows_of(f"{_OF_DUCKDB}lower(database_name) = lower(?) AND lower(schema_name) = lower(?)", around)

    @property
    def quarantine_name(self) -> str:
        """The quarantine's whole name, in quotes."""
        mark = "`" if self._kind == "mysql" else '"'
        return ".".join(quote(part, mark) for part in (*self._parts[:-1], self.quarantine or ""))

    def in_data(self, column: str) -> str:
        """Return the expression of a column of a row in quarantine, as text; null where the row has none.

        :param column: the column.
        """
        if self._kind == "postgres":
            name = column.replace("'", "''")
            return f"CAST({as_jsonb('data')} AS jsonb) ->> '{name}'"
        if self._kind == "mysql":  # to which a backslash in a text is a sign of its own or not: by sql_mode
            key = column.replace("\\", "\\\\").replace('"', '\\"')
            path = f'$."{key}"'.encode().hex()
            found = f"JSON_EXTRACT(data, _utf8mb4 X'{path}')"
            return f"CASE WHEN JSON_TYPE({found}) <> 'NULL' THEN JSON_UNQUOTE({found}) END"  # it makes null a text
        path = column.replace('"', '\\"').replace("'", "''")
        function = "json_extract_string" if self._kind == "duckdb" else "json_extract"
        return f"{function}(data, '$.\"{path}\"')"
