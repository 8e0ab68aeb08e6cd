"""The table of rows that do not fit, beside the one that is loaded: it is written in the same transaction."""

# ruff: noqa: S608 - names are quoted, and no value is part of a statement

from __future__ import annotations

from collections.abc import Sequence

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load.connected import Connected
from airflow_provider_posthog.load.rejects import COLUMNS, SUFFIX, Rejects


class Quarantine(Connected):
    """Writes rows that do not fit to ``<table>__rejected``. A row that is read again is there once."""

    _rejects: Rejects
    _are_rejects_old = True
    #: What makes a table one with transactions, where a server may make others.
    _transactional = ""

    @property
    def _rejected_name(self) -> str:
        *before, last = self._parts
        if len((last + SUFFIX).encode()) > self.dialect.longest_name:
            raise PostHogSettingsError(
                "table",
                f"is {last[:80]!r}, so that {SUFFIX!r} behind it, the table of the quarantine, would be longer than "
                f"the database's {self.dialect.longest_name} bytes.",
                "Give it a shorter name, or write another schema_policy.",
            )
        return ".".join(self._quote(part) for part in (*before, last + SUFFIX))

    def _make_rejected(self) -> None:
        """Create the table, if there can be rows that do not fit; refuse one of other columns."""
        if not self._rejects.quarantines:
            return
        text, name = self.dialect.types["text"], self._rejected_name
        columns = ", ".join(f"{self._quote(column)} {text}" for column in COLUMNS)
        self._execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns}){self._transactional}")
        try:
            # With the table's alias: SQLite reads a name in quotes that is no column as a text.
            columns = ", ".join(f"q.{self._quote(column)}" for column in COLUMNS)
            self._rows_of(f"SELECT {columns} FROM {name} AS q WHERE 1 = 0", [])
        except Exception as error:
            if "column" not in str(error).lower():
                raise
            raise PostHogSettingsError(
                "schema_policy",
                f"is 'quarantine', which writes to {self._parts[-1]}{SUFFIX}, but that table has other columns than "
                f"{', '.join(COLUMNS)}.",
                "Rename or drop it; the next load makes its own.",
            ) from None

    def _reject(self, rows: Sequence[tuple[str, str]]) -> None:
        """Store rows that do not fit, replacing those that an earlier load has stored of what this one reads again."""
        common = self._rejects.common_values()
        if self._are_rejects_old:
            self._are_rejects_old = False
            self._forget(common[1])
        values = ", ".join([self._value] * len(COLUMNS))
        if rows:
            statement = f"INSERT INTO {self._rejected_name} ({self._list(COLUMNS)}) VALUES ({values})"
            self._execute_many(statement, [(*common, *row) for row in rows])

    def _end_rejects(self) -> None:
        """Delete what another load of the same has stored meanwhile: it has ended, and this one holds the lock."""
        self._reject([])
        at, task, *_ = self._rejects.common_values()
        others = f"{self._same_as('task', 'interval_start', 'interval_end')} AND {self._quote('rejected_at')} <> "
        delete = f"DELETE FROM {self._rejected_name} WHERE {others}{self._value}"
        self._execute_many(delete, [(task, *self._rejects.edges, at)])

    def _forget(self, task: str) -> None:
        """Delete the task's rows of this interval, and those of others that overlap it (``look_back``)."""
        name, start, end = self._rejected_name, *self._rejects.edges
        of_task, of_interval = self._same_as("task"), self._same_as("interval_start", "interval_end")
        delete = f"DELETE FROM {name} WHERE {of_task} AND {of_interval}"
        self._execute_many(delete, [(task, start, end)])
        if not start:
            return
        overlap = f"{self._quote('interval_start')} < {self._value} AND {self._quote('interval_end')} > {self._value}"
        columns = self._list(("interval_start", "interval_end", "data"))
        found = self._rows_of(f"SELECT {columns} FROM {name} WHERE {of_task} AND {overlap}", [task, end, start])
        again = [(task, *row) for row in found if self._rejects.is_read_again(str(row[-1]))]
        if again:
            self._execute_many(f"{delete} AND {self._same_as('data')}", again)

    def _same_as(self, *names: str) -> str:
        return " AND ".join(f"{self._quote(name)} = {self._value}" for name in names)
