"""Copy an interval of a source into files: read, prove, write, and resume where a killed try stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import (
    NotSettled,
    PostHogErasureError,
    PostHogIncompleteError,
    PostHogRateLimitError,
    PostHogSettingsError,
)
from airflow_provider_posthog.extract.folder_fitting import FolderFit
from airflow_provider_posthog.extract.layout import Layout
from airflow_provider_posthog.extract.lists import extraction_of
from airflow_provider_posthog.extract.progress import Progress, ProgressLog
from airflow_provider_posthog.extract.reader import Chunk, Extraction
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.suppressor import Suppressor
from airflow_provider_posthog.extract.windows import Position
from airflow_provider_posthog.extract.writers import TableFiles
from airflow_provider_posthog.storage.beside import Beside, keep_lines
from airflow_provider_posthog.storage.folder_types import FolderTypes
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard
from airflow_provider_posthog.storage.staging import Staging

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

#: Seconds after which files are closed and recorded even if they are small: the most that a killed worker loses.
CHECKPOINT = 300.0
#: Where rows that do not fit into the folder are kept.
REJECTED = "_rejected"


@dataclass(frozen=True)
class Reading:
    """How rows are read.

    :param settings: how to reach PostHog.
    :param source: what is read.
    :param max_in_flight: how many windows are read side by side.
    :param page_rows: the most rows of a window.
    :param settle: how long rows take until queries see them.
    :param longest_wait: the longest wait for that, in seconds; if it would be longer, what is read is recorded, and
        the reading ends.
    """

    settings: ClientSettings
    source: Source
    max_in_flight: int = 3
    page_rows: int = 49_999
    settle: timedelta = timedelta(minutes=5)
    longest_wait: float | None = None


class Copy:
    """Brings the rows of one interval into files, and publishes them.

    :param reading: how rows are read.
    :param staging: where the files go; what an earlier try has recorded in it is not read again.
    :param layout: how rows become files.
    :param facts: the manifest's description of the source, as JSON.
    :param checkpoint: seconds after which files are closed and recorded even if they are small.
    :param before_publishing: is called when all is read, and ends it by an error.
    :param guard: refuses to replace the interval's rows by far fewer.
    :param types: those of the folder's other files.
    :param rows_before: of the snapshot before this one, for the guard.
    :param suppressor: finds rows of persons who were erased, and may leave them out.
    :param schema_policy: what to do with rows that do not fit the folder, as
        :class:`~airflow_provider_posthog.extract.folder_fitting.FolderFit` says.
    :param max_rejects: how many rows may be kept aside.
    :param commit: brings the files into a table of another format, as :class:`~.storage.staging.Beside` says.
    """

    def __init__(
        self,
        reading: Reading,
        staging: Staging,
        layout: Layout,
        facts: Mapping[str, Any],
        *,
        checkpoint: float = CHECKPOINT,
        before_publishing: Callable[[], None] = lambda: None,
        guard: ShrinkGuard | None = None,
        types: FolderTypes | None = None,
        rows_before: int | None = None,
        suppressor: Suppressor | None = None,
        commit: Callable[[Sequence[str], str], Mapping[str, Any]] | None = None,
        schema_policy: str | None = None,
        max_rejects: int | None = None,
    ) -> None:
        self._reading = reading
        self._staging = staging
        self._layout = layout
        self._facts = facts
        self._checkpoint = checkpoint
        self._before_publishing = before_publishing
        self._guard = guard
        self._types = types or FolderTypes()
        self._rows_before = rows_before
        self._extraction: Extraction | None = None
        self._schema: pa.Schema | None = None
        self._suppressor = suppressor
        self._commit = commit
        self._fit = FolderFit(schema_policy, self._types.known, max_rejects)
        self._counts = {"rows": 0, "counted": 0, "duplicates": 0, "windows": 0}
        if suppressor is not None:
            self._counts["suppressed"] = 0

    def run(self) -> dict[str, Any]:
        """Read what is still missing, and publish.

        :returns: the manifest.
        :raises PostHogIncompleteError: if it cannot be proved that all rows of a window were read, or the guard
            refuses.
        :raises PostHogSettingsError: if a column has another type than in the folder's other files.
        :raises PostHogError: if PostHog cannot be asked, or another run writes the same interval.
        :raises NotSettled: if the rest would have to wait longer than ``longest_wait``.
        """
        staging = self._staging
        if not staging.publishing:
            if not staging.note.get("read"):
                self._read()
            self._prove()
            self._before_publishing()
        return staging.publish(
            {
                **self._facts,
                "format": self._layout.format,
                "compression": self._layout.compression,
                "partition_by": self._layout.partition_by,
                **{name: staging.note.get(name) for name in ("schema", *self._counts)},
                **({"rejected": len(staging.note.get("rejects") or ())} if self._fit.policy == "quarantine" else {}),
                "known_types": self._types.merged(staging.note.get("schema") or ()),
            },
            self._guard,
            rows_before=self._rows_before,
            beside=Beside(self._commit, self._keep_aside),
        )

    def stop(self) -> None:
        """End the reading; may be called from another thread, or while a signal is handled."""
        if self._extraction is not None:
            self._extraction.close()

    def _read(self) -> None:
        if not self._read_on(self._taken_up()):
            log.info("The columns have changed: what an earlier try has written is read again")
            self._staging.record(resume_after=None, schema=None, rejects=None)
            self._counts = dict.fromkeys(self._counts, 0)
            self._read_on(self._taken_up())

    def _read_on(self, resume: Position | None) -> bool:
        """Read from a position on; return ``False`` if the columns differ from those of an earlier try."""
        with self._open(resume) as extraction:
            self._extraction = extraction
            fitted = self._fitted(extraction)
            schema = [[field.name, str(field.type)] for field in fitted]
            if resume is not None and self._staging.note.get("schema") != schema:
                return False
            self._check_types(schema)
            with TableFiles(self._staging, fitted, self._layout) as files:
                self._write(extraction, files, schema)
        return True

    def _fitted(self, extraction: Extraction) -> pa.Schema:
        """Return the schema of the files, and restore the rows that an earlier try set aside."""
        try:
            self._schema = self._fit.schema(extraction.schema)
        except PostHogSettingsError:
            self._staging.give_up()
            raise
        self._fit.rejects = list(self._staging.note.get("rejects") or ())
        return self._schema

    def _keep_aside(self) -> None:
        """Write the rows that do not fit, replacing those of the interval's last load."""
        if self._fit.policy == "quarantine":
            fs, path = self._staging.place(f"{REJECTED}/{self._staging.interval.stem}.jsonl")
            keep_lines(fs, path, self._staging.note.get("rejects") or (), "rejected")

    def _check_types(self, schema: list[list[str]]) -> None:
        try:
            self._types.check(schema)
        except PostHogSettingsError:
            self._staging.give_up()
            raise

    def _write(self, extraction: Extraction, files: TableFiles, schema: list[list[str]]) -> None:
        kept_at = time.monotonic()
        after: Position | None = None
        try:
            for chunk in extraction:
                self._take(chunk, files)
                after = chunk.resume_after
                if files.is_due or time.monotonic() - kept_at > self._checkpoint:
                    kept_at = self._keep(files, schema, after) or kept_at
                del chunk  # the next one comes into its place
        except PostHogErasureError:  # the written files hold rows of an erased person
            self._staging.give_up()
            raise
        except (NotSettled, PostHogRateLimitError):  # a retry resumes here
            self._keep(files, schema, after)
            raise
        self._staging.record(files.finish(), read=True, schema=schema, rejects=self._fit.rejects, **self._counts)

    def _keep(self, files: TableFiles, schema: list[list[str]], after: Position | None) -> float | None:
        """Record what is written, if a reading can resume after it; return when that was."""
        if after is None:
            return None
        self._staging.record(
            files.finish(), resume_after=after.as_json(), schema=schema, rejects=self._fit.rejects, **self._counts
        )
        return time.monotonic()

    def _taken_up(self) -> Position | None:
        """Return where an earlier try stopped, and restore its counts."""
        note = self._staging.note
        try:
            after = Position.from_json(note.get("resume_after"))
        except ValueError:
            self._staging.drop(lambda file: True)
            return None
        self._counts = {name: int(note.get(name, 0)) for name in self._counts}
        log.info("Going on where an earlier try stopped: %s rows are written already", f"{self._counts['rows']:,}")
        return after

    def _open(self, resume: Position | None) -> Extraction:
        reading, interval = self._reading, self._staging.interval
        before = dict(self._counts)
        progress = ProgressLog(log.info, reading.source.name, start=Progress(before["counted"], before["windows"]))
        has_time = reading.source.time is not None
        return extraction_of(reading.source)(
            reading.settings,
            reading.source,
            interval.start if has_time else None,
            interval.end if has_time else None,
            max_in_flight=reading.max_in_flight,
            page_rows=reading.page_rows,
            settle=reading.settle,
            longest_wait=reading.longest_wait,
            resume_after=resume,
            on_progress=lambda far: progress(
                Progress(
                    before["counted"] + far.rows, before["windows"] + far.windows, before["counted"] + far.rows_counted
                )
            ),
        )

    def _take(self, chunk: Chunk, files: TableFiles) -> None:
        """Write rows, without those of erased persons if they are dropped, and count both."""
        more = {"rows": chunk.rows, "counted": chunk.counted, "duplicates": chunk.duplicates, "windows": 1}
        table = chunk.table
        if self._suppressor is not None and table.num_rows:
            before = self._suppressor.met
            table = self._suppressor(table)
            more |= {"rows": table.num_rows, "suppressed": self._suppressor.met - before}
        rows = table.num_rows
        table = self._fit.fit(table, self._schema)
        more["rows"] -= rows - table.num_rows
        files.add(table)
        self._counts = {name: count + more.get(name, 0) for name, count in self._counts.items()}

    def _prove(self) -> None:
        """Compare the rows of the files with those of the windows, each of which PostHog counted."""
        written, read = sum(file["rows"] for file in self._staging.files), self._staging.note["rows"]
        if written != read:
            raise PostHogIncompleteError(
                f"{self._staging.interval.stem}: {read:,} rows were read, but the files have {written:,}."
            )
