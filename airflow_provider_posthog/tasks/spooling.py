"""Loads that continue where a long wait stopped them: the rows they have read are kept beside the table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.storage.staging import Owner
from airflow_provider_posthog.tasks.bulk import ReadingOperator
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.spool import Spool, sweep, tables_of

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.extract.reader import Extraction
    from airflow_provider_posthog.extract.windows import Position
    from airflow_provider_posthog.hooks.databases import SqlDatabase
    from airflow_provider_posthog.load.target import Target


class SpoolingOperator(ReadingOperator):
    """Reads rows for a table. Subclasses load them.

    :param kwargs: as :class:`~airflow_provider_posthog.tasks.bulk.ReadingOperator`.
    """

    table: str
    _extraction: Extraction | None = None
    _spool: Spool | None = None
    #: Those of this run: the interval's own one stays until the intervals before it are loaded again, too.
    _spools: tuple[Spool, ...] = ()
    _killed = False

    def goes_on(self) -> str:
        """Return what becomes of what was read before a wait; for the log."""
        if self._keeps:
            return "Nothing is open meanwhile; the load goes on then behind what it has kept"
        return "Nothing is open meanwhile; the load begins anew then"

    @property
    def _keeps(self) -> bool:
        return self._spool is not None and self._spool.keeps

    def rows_lost(self) -> int:
        """Return how many rows were read, and are undone with the transaction."""
        return self._extraction.progress.rows if self._extraction is not None and not self._keeps else 0

    def give_up(self) -> None:
        """Remove what was kept while rows were read."""
        for spool in self._spools:
            spool.drop()
        self._spools = ()

    def on_kill(self) -> None:
        """Stop reading: no more queries are sent, and the transaction is undone."""
        self._killed = True
        if self._extraction is not None:
            self._extraction.close()

    def open_spool(
        self, context: Context, extraction: Extraction, database: SqlDatabase, *, again: bool = False
    ) -> Spool | None:
        """Return where rows are kept until all are read; ``None`` where that cannot be, or is not asked for.

        :param extraction: what reads them.
        :param database: where the rows go.
        :param again: whether an earlier interval is loaded again, beside the interval's own rows.
        """
        self._spool = None
        if not self.deferrable or extraction.source.time is None:
            return None
        who, window = Identity.of(context), extraction.window
        asked = (
            "source", "query", "key", "columns", "events", "exclude_events", "cohort_id", "where", "values",
            "time_column", "scan_back", "complete_after",
        )  # fmt: skip
        settings = self.hook.settings()
        request = {
            **{name: getattr(self, name) for name in asked},
            "of": [window.start.isoformat(), window.end.isoformat()],
            "at": [settings.base_url, settings.project_path()],
        }
        of = who.marker(request).request
        parts = database.parts(self.table, f"{who.owner[:6]}{of[:4]}" if again else who.owner[:10])
        if parts is None:
            return None
        self._spool = Spool(parts, Owner(f"{who.owner}.{who.clearing}", of, who.since))
        self._spools = (*self._spools, self._spool)
        return self._spool

    def tidy(self, database: SqlDatabase) -> None:
        """Remove what was kept while rows were read, and what loads of the table have left behind that are no more.

        :param database: where the rows are.
        """
        self.give_up()
        parts = database.parts(self.table, "none")
        if parts is not None:
            sweep(parts)

    def rows_of(
        self, extraction: Extraction, database: SqlDatabase, target: Target, spool: Spool | None
    ) -> tuple[Any, Iterator[Any]]:
        """Return the schema of what is read, and its rows: as they come, or when all of them are read.

        :param extraction: what reads.
        :param database: where the rows go.
        :param target: the table.
        :param spool: where they are kept meanwhile.
        """
        if spool is None:
            return extraction.schema, tables_of(extraction)

        def open_at(place: Position | None) -> Extraction:
            self._extraction = extraction.at(place)
            if self._killed:
                self._extraction.close()
            return self._extraction

        with database.loader(target):
            pass  # an unreachable database is reported before PostHog is asked

        def check(schema: Any) -> None:  # noqa: ANN401 - of Arrow
            with database.loader(target) as loader:
                loader.open(schema)

        schema = spool.fill(open_at, check)
        return schema, spool.tables()

    def counts(self, extraction: Extraction) -> dict[str, int]:
        """Return how many windows were read, and how many copies were dropped.

        :param extraction: what has read, if nothing was kept.
        """
        if self._keeps and self._spool is not None:
            return {name: self._spool.counts[name] for name in ("windows", "duplicates")}
        done = (self._extraction or extraction).progress
        return {"windows": done.windows, "duplicates": done.duplicates}
