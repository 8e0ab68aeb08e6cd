"""Update loaded rows whose person has since been merged into another one: they get the current person."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.load.names import parse_table, quote

if TYPE_CHECKING:
    from airflow_provider_posthog.load.loader import Loader

OLD, NEW, AT = "old_person_id", "new_person_id", "overridden_at"
#: How databases name the type of a value; others convert a text to the column's type.
_TYPE_OF: Mapping[str, str] = {
    "PostgreSQL": "CAST(pg_catalog.pg_typeof({}) AS text)",
    "DuckDB": "typeof({})",
}


@dataclass
class Remapping:
    """Gives loaded rows the persons that their distinct ids have now, in the transaction that has loaded these.

    :param tables: the tables whose rows have a distinct id and a person.
    :param distinct_id: their column of the distinct id.
    :param person_id: their column of the person.
    :param overrides: the table that records which person became which; it must exist. ``None`` for none.
    """

    tables: Sequence[str]
    distinct_id: str = "distinct_id"
    person_id: str = "person_id"
    overrides: str | None = None
    #: How many rows of each table had another person.
    rows: dict[str, int] = field(default_factory=dict)

    def check(self, loader: Loader) -> None:
        """Look whether the tables have the columns, before anything is read.

        :param loader: of their database; it need not be open.
        :raises PostHogSettingsError: if one has not, or has no transactions.
        """
        names = (self.distinct_id, self.person_id)
        for table in self.tables:
            loader.check_undone(table)
            columns = ", ".join(f"events.{quote(name, loader.mark)}" for name in names)
            try:
                loader.fetch(f"SELECT {columns} FROM {_named(loader, table)} AS events WHERE 1 = 0")
            except PostHogSettingsError:
                raise
            except Exception as error:  # each driver has its own
                raise PostHogSettingsError(
                    "remap",
                    f"names {table!r}, of which {names[0]!r} and {names[1]!r} cannot be read ({type(error).__name__}).",
                    "Name a table that has both; distinct_id_column and person_id_column say what they are called.",
                ) from None

    def __call__(self, loader: Loader) -> None:
        """Update the tables.

        :param loader: holds the distinct ids with their persons, and has not committed yet.
        :raises PostHogLoadError: if the database refuses something.
        :raises PostHogIncompleteError: if rows still have another person afterwards.
        """
        for table in self.tables:
            self.rows[table] = self._remap(loader, table)

    def _remap(self, loader: Loader, table: str) -> int:
        there = _named(loader, table)
        person, kept = f"{there}.{quote(self.person_id, loader.mark)}", f"mapped.{quote('person_id', loader.mark)}"
        same = f"mapped.{quote('distinct_id', loader.mark)} = {there}.{quote(self.distinct_id, loader.mark)}"
        text = "CHAR" if loader.mark == "`" else loader.dialect.types["text"]
        other = f"({person} IS NULL OR CAST({person} AS {text}) <> CAST({kept} AS {text}))"
        source = f"FROM {loader.name} AS mapped WHERE {same}"
        stale = f"EXISTS (SELECT 1 {source} AND {other})"
        stale_rows = int(loader.fetch(f"SELECT count(*) FROM {there} WHERE {stale}")[0][0])
        if not stale_rows:
            return 0
        if self.overrides:
            self._keep(loader, there, f"CAST({person} AS {text})", f"CAST({kept} AS {text})", f"{same} AND {other}")
        value = self._as_type(loader, there, person, kept)
        column = quote(self.person_id, loader.mark)
        loader.execute(f"UPDATE {there} SET {column} = (SELECT {value} {source}) WHERE {stale}")
        left = int(loader.fetch(f"SELECT count(*) FROM {there} WHERE {stale}")[0][0])
        if left:
            raise PostHogIncompleteError(
                f"{left:,} of {stale_rows:,} rows of {table} still have another person than their distinct id. "
                "Nothing was changed. Does a trigger or rule of the table keep rows?"
            )
        return stale_rows

    def _as_type(self, loader: Loader, there: str, person: str, kept: str) -> str:
        if loader.database not in _TYPE_OF:
            return kept
        kind = loader.fetch(f"SELECT {_TYPE_OF[loader.database].format(person)} FROM {there} LIMIT 1")[0][0]
        return f"CAST({kept} AS {kind})" if kind != "NULL" else kept

    def _keep(self, loader: Loader, there: str, old: str, new: str, stale: str) -> None:
        """Record which person became which, each pair once."""
        kept, mark = _named(loader, self.overrides or ""), loader.mark
        pairs = (
            f"SELECT DISTINCT {old} AS was, {new} AS became FROM {there} JOIN {loader.name} AS mapped ON {stale}"
            f" WHERE {old} IS NOT NULL"
        )
        known = f"SELECT 1 FROM {kept} AS known WHERE known.{quote(OLD, mark)} = pairs.was"
        known += f" AND known.{quote(NEW, mark)} = pairs.became"
        columns = ", ".join(quote(name, mark) for name in (OLD, NEW, AT))
        loader.execute(
            f"INSERT INTO {kept} ({columns}) SELECT was, became, CURRENT_TIMESTAMP FROM ({pairs}) AS pairs"
            f" WHERE NOT EXISTS ({known})"
        )


def _named(loader: Loader, table: str) -> str:
    fold: Any = str.lower if loader.database == "PostgreSQL" else str
    return ".".join(quote(part, loader.mark) for part in parse_table(table, parts=3, fold=fold))
