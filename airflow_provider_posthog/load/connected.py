"""The table that a loader writes to: its name, and the statements of its transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load.columns import Dialect
from airflow_provider_posthog.load.names import parse_table, quote
from airflow_provider_posthog.load.target import Target


class Connected(ABC):
    """Runs statements on a table. Subclasses implement how."""

    #: The database, as it is called in a log.
    database: ClassVar[str]
    dialect: ClassVar[Dialect]
    #: The quotation mark of names, and the driver's sign for a value.
    mark: ClassVar[str] = '"'
    _value: str = "?"
    _parts: tuple[str, ...]
    _name: str
    _connection: Any
    target: Target

    @property
    def name(self) -> str:
        """The table's name, quoted."""
        return self._name

    def execute(self, statement: str) -> int:
        """Run a statement in the load's transaction; return how many rows it touched.

        :param statement: SQL.
        """
        return self._execute(statement)

    def fetch(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a query in the load's transaction.

        :param statement: SQL.
        """
        return self._rows_of(statement, [])

    def check_undone(self, table: str) -> None:  # noqa: B027 - most databases undo everything
        """Check that what is written to another table is undone with the load.

        :param table: the table.
        :raises PostHogSettingsError: if it has no transactions.
        """

    @abstractmethod
    def _execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; return how many rows it touched."""

    @abstractmethod
    def _rows_of(self, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a query; return its rows."""

    @abstractmethod
    def _execute_many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each row; return how many rows it touched."""

    def _commit(self) -> None:
        self._connection.commit()

    def _rollback(self) -> None:
        self._connection.rollback()

    def _parts_of_table(self, most: int, fold: Callable[[str], str] = str) -> tuple[str, ...]:
        parts = parse_table(self.target.table, parts=most, fold=fold)
        for part in parts:
            if len(part.encode()) > self.dialect.longest_name:
                raise PostHogSettingsError(
                    "table",
                    f"has {part[:80]!r}, which is longer than {self.dialect.longest_name} bytes.",
                    "Give it a shorter name.",
                )
        return parts

    def _quote(self, name: str) -> str:
        return quote(name, self.mark)

    def _list(self, names: Any) -> str:  # noqa: ANN401 - any iterable of names
        return ", ".join(self._quote(name) for name in names)
