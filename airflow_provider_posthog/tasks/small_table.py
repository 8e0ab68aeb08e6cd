"""A few rows that a task leaves in a table of a database, in place of those that an earlier try of it has left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_provider_posthog.load.loader import Loader

#: Rows that are written at once.
_ROWS = 10_000


@dataclass(frozen=True)
class SmallTable:
    """A table, and which of its rows are the task's.

    :param field: the argument that names it, for errors.
    :param conn_id: Airflow's connection of the database.
    :param table: its name; it is made if it is not there.
    :param columns: its columns, each with its kind: ``text``, ``int``, ``float``, ``bool``, ``time``.
    :param only: values by column: the rows that have them are the task's, and are replaced.
    """

    field: str
    conn_id: str
    table: str
    columns: Mapping[str, str]
    only: Mapping[str, tuple[str, ...] | tuple[int, ...]]

    def check(self) -> None:
        """Make sure that rows can be written, before anything else is done; the table is made if it is not there.

        :raises PostHogSettingsError: if the table or its database cannot be used.
        """
        if not str(self.table).strip():
            raise PostHogSettingsError(self.field, "is empty.", "Write the table's name, such as 'etl.rejects'.")
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            remedy = "Install airflow-provider-posthog[warehouse]."
            raise PostHogSettingsError(self.field, "needs pyarrow, which is not installed.", remedy) from None
        with self._loader() as loader:
            loader.open(self._schema)

    def write(self, rows: Iterable[Sequence[Any]]) -> int:
        """Put rows in place of those that are there, in one transaction; return how many.

        :param rows: values in the order of the columns.
        :raises PostHogLoadError: if the database refuses something.
        """
        import pyarrow as pa

        left, schema = iter(rows), self._schema
        with self._loader() as loader:
            loader.open(schema)
            while some := list(islice(left, _ROWS)):
                by_column = zip(zip(*some, strict=True), schema, strict=True)
                columns = [pa.array(values, field.type) for values, field in by_column]
                loader.write(pa.Table.from_arrays(columns, schema=schema))
            return loader.commit().rows

    @property
    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        types = {
            "text": pa.string(),
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "time": pa.timestamp("us", "UTC"),
        }
        return pa.schema([(name, types[kind]) for name, kind in self.columns.items()])

    def _loader(self) -> Loader:
        from airflow_provider_posthog.hooks.databases import SqlDatabase
        from airflow_provider_posthog.load.target import Target
        from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard

        guard = ShrinkGuard.of(1, True)
        target = Target(self.table, "replace", only=dict(self.only), guard=guard, other_columns="null")
        return SqlDatabase(self.conn_id).loader(target)
