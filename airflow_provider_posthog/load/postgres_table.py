"""Check whether a PostgreSQL table can be written in the requested way, before rows are read for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load.names import quote
from airflow_provider_posthog.load.target import Target

#: The columns of a table. ``type`` is that under a domain; ``cast`` is empty for texts, as an explicit cast would cut
#: what is too long; they are told apart by their ``letters``.
COLUMNS = """
SELECT a.attname AS name,
       pg_catalog.format_type(coalesce(nullif(t.typbasetype, 0), a.atttypid),
                              CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END) AS type,
       CASE WHEN t.typcategory = 'S' AND t.typname <> 'citext' THEN ''
            ELSE pg_catalog.format_type(a.atttypid, NULL) END AS "cast",
       a.atthasdef OR a.attidentity <> '' OR a.attgenerated <> '' AS filled,
       NOT (a.attnotnull OR t.typnotnull) AS nullable,
       t.typcategory = 'S' AS letters, a.attnum AS number
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
#: Unique indexes that ON CONFLICT can use: of whole columns, over all rows, checked at once. Behind the columns of the
#: key an index can include others.
_UNIQUE = """
SELECT i.indkey::text, i.indnkeyatts FROM pg_catalog.pg_index i
WHERE i.indrelid = %s AND i.indisunique AND i.indimmediate AND i.indisvalid
AND i.indpred IS NULL AND i.indexprs IS NULL
"""
#: What a table is, and the columns that it is split by (0 for an expression).
_KIND = """
SELECT c.relkind::text, coalesce(p.partattrs::text, '') FROM pg_catalog.pg_class c
LEFT JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = c.oid WHERE c.oid = %s
"""
_NAME = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
"""
#: A right of a table is one of all its columns, too.
_ON_TABLE = "pg_catalog.has_table_privilege(%s, %s)"
_ON_COLUMNS = (
    "(SELECT coalesce(bool_and(pg_catalog.has_column_privilege(%s, c, %s)), true) "
    "FROM pg_catalog.unnest(%s::text[]) AS c)"
)
#: The rights that each way of writing needs.
_RIGHTS: Mapping[str, tuple[str, ...]] = {
    "replace_interval": ("SELECT", "INSERT", "DELETE"),
    "replace": ("SELECT", "INSERT", "DELETE"),
    "merge": ("SELECT", "INSERT", "UPDATE"),
    "append": ("SELECT", "INSERT"),
    "scd2": ("SELECT", "INSERT", "UPDATE"),
}


class TableOfPostgres:
    """A table as PostgreSQL describes it.

    :param rows_of: asks the database.
    :param oid: the table's.
    :param name: the table's name, quoted, for remedies.
    :param target: how rows get into it.
    """

    def __init__(
        self, rows_of: Callable[[str, Sequence[object]], list[tuple[Any, ...]]], oid: int, name: str, target: Target
    ) -> None:
        self._rows_of = rows_of
        self._oid = oid
        self._name = name
        self._target = target

    def whole_name(self) -> str:
        """Return the table's name with its schema, quoted."""
        return ".".join(quote(part) for part in self._rows_of(_NAME, [self._oid])[0])

    def check_rights(self, columns: set[str]) -> None:
        """Check the role's rights.

        :param columns: those of the table that are loaded.
        :raises PostHogSettingsError: if a right is missing.
        """
        needed = _RIGHTS[self._target.write_disposition]
        for right in (*needed, "DELETE") if self._target.deleted == "delete" else needed:
            statement, values = f"SELECT {_ON_TABLE}", [self._oid, right]
            if right != "DELETE":  # which is one of the table alone
                statement = f"{statement} OR {_ON_COLUMNS}"
                values += [self._oid, right, sorted(self._touched(right, columns))]
            if not self._rows_of(statement, values)[0][0]:
                raise PostHogSettingsError(
                    "sql_conn_id",
                    f"has a role without the right to {right} on {self._target.table}, which "
                    f"write_disposition={self._target.write_disposition!r} needs.",
                    f"Run once: GRANT {right} ON {self._name} TO the role.",
                )

    def _touched(self, right: str, columns: set[str]) -> set[str]:
        """Return the columns for which a right is needed."""
        located_by = (*self._target.only, self._target.by) if self._target.replaces else self._target.key
        key = {name for name in located_by if name}
        if right == "SELECT":  # a merge looks whether rows differ
            return columns if self._target.write_disposition in ("merge", "scd2") else columns & key
        return columns - key if right == "UPDATE" else columns

    def check_unique(self, numbers: Mapping[str, int]) -> None:
        """Check that an index makes the key unique.

        :param numbers: the number of each of the table's columns.
        :raises PostHogSettingsError: if none does; the remedy is the statement to run.
        """
        key = self._target.key
        rows = self._rows_of(_UNIQUE, [self._oid])
        indexes = [{int(number) for number in columns.split()[:width]} for columns, width in rows]
        if {numbers.get(name) for name in key} in indexes:
            return
        kind, split_by = self._rows_of(_KIND, [self._oid])[0]
        if kind not in ("r", "p"):
            raise PostHogSettingsError(
                "table",
                f"{self._target.table} is a view or a foreign table. These have no unique index, and "
                f"write_disposition={self._target.write_disposition!r} needs one.",
                "Name the table itself, or write_disposition='replace_interval'.",
            )
        names = {str(number): name for name, number in numbers.items()}
        missing = [name for number in split_by.split() if (name := names.get(number)) not in key]
        if missing:
            raise self._partitioned(missing)
        raise PostHogSettingsError(
            "key",
            f"has no unique index, which write_disposition={self._target.write_disposition!r} needs.",
            f"Run once: {self._index(key)}",
        )

    def _partitioned(self, missing: Sequence[str | None]) -> PostHogSettingsError:
        """Return the error for a partitioned table, each of whose unique indexes must have the partition columns."""
        split_by = [name for name in missing if name is not None]
        if len(split_by) < len(missing):
            return PostHogSettingsError(
                "key",
                f"{self._target.table} is partitioned by an expression, so it can have no unique index, which "
                f"write_disposition={self._target.write_disposition!r} needs.",
                "Write write_disposition='replace_interval', or partition the table by a column.",
            )
        key = [*self._target.key, *split_by]
        return PostHogSettingsError(
            "key",
            f"{self._target.table} is partitioned by {', '.join(split_by)}, which has to be in each of its unique "
            "indexes, so there can be none on the key alone.",
            f"Write key=[{', '.join(map(_text, key))}], and run once: {self._index(key)}",
        )

    def _index(self, key: Sequence[str]) -> str:
        return f"CREATE UNIQUE INDEX ON {self._name} ({', '.join(map(quote, key))})"


def _text(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
