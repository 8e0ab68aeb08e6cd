"""The target of a load, and its result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timezone
from typing import Literal, get_args

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern
from airflow_provider_posthog.storage.shrink_guard import ShrinkGuard

WriteDisposition = Literal["replace_interval", "replace", "merge", "append", "scd2"]
OtherColumns = Literal["fail", "null"]
Deleted = Literal["keep", "delete", "mark"]
SchemaPolicy = Literal["evolve", "freeze", "quarantine"]
#: The column that marks a row as gone, and those that say from when to when a version was the newest.
DELETED_AT, VALID_FROM, VALID_TO = "deleted_at", "valid_from", "valid_to"
#: Types of values within values. What PostHog has of them comes as JSON.
_NESTED = pattern(r".*\[\d*\]|.*\barray|(?:array|list|struct|map|union|row|tuple)\b.*", re.IGNORECASE | re.DOTALL)
#: A piece of time, half-open.
Span = tuple[datetime, datetime]
#: Words, a size, and words again: ``numeric(10, 2)``, ``timestamp(6) with time zone``.
_SQL_TYPE = pattern(r"[A-Za-z_][\w ]{0,60}(?:\(\d{1,6}(?:, ?\d{1,6})?\))?[\w ]{0,40}")


@dataclass(frozen=True)
class Target:
    """A table, and how rows get into it.

    ==================== ====================================================================================
    ``replace_interval`` rows whose time ``by`` is in [start, end) are deleted and the new ones put in
    ``replace``          all rows of the table are deleted and the new ones put in
    ``merge``            rows of one key that differ are replaced, new ones added; of two loaded, the last one stays
    ``append``           only rows whose key is not there yet are added; nothing is changed or deleted
    ``scd2``             a row that changed gets an end (``valid_to``), and a version that begins (``valid_from``)
    ==================== ====================================================================================

    Each is idempotent: a second load of the same rows leaves the same table.

    :param table: the table's name; parts in double quotes are taken literally.
    :param write_disposition: how rows get into it.
    :param key: the columns that identify a row; for ``merge``, ``append`` and ``scd2``.
    :param by: the column of the time; for ``replace_interval``.
    :param start: the first moment, with an offset; for ``replace_interval``.
    :param end: the first moment after it, with an offset; for ``replace_interval``.
    :param since: from when the rows of the interval are new; what is before is read again (``look_back``), and the
        guard looks at it by itself, too, so that many new rows do not hide that old ones are missing.
    :param only: values by column: rows that have another value there are not of this load, and are not deleted.
    :param guard: refuses to replace rows by far fewer.
    :param column_types: SQL types for columns that are made, in place of those that follow from Arrow's.
    :param other_columns: what ``replace_interval`` does if the table has columns, null by default, that are not loaded:
        ``fail``, as their values would be lost with the rows, or leave them ``null`` in the new rows. ``merge`` and
        ``append`` keep their values.
    :param deleted: what becomes of rows that are there and not among what is loaded, by ``merge``, ``scd2``: ``keep``
        them as they are, ``delete`` them, or ``mark`` them (``deleted_at``; ``valid_to`` of ``scd2``). Everything there
        is has to be loaded.
    :param whole: whether everything there is is loaded, so that what is there beyond it is gone, and is counted.
    :param stamps: columns that say of each row which load has written it, with their value: a moment, a text, or
        ``None`` for no moment. Rows do not differ by them.
    :param schema_policy: what becomes of columns and types that are not the table's: ``None`` adds columns and leaves
        types alone, ``evolve`` makes types wider, too, ``freeze`` fails, and ``quarantine`` puts rows that do not fit
        into ``<table>__rejected``.
    :param casts: SQL types by column, as which texts are read, each with whether the text is JSON.
    :param max_rejects: how many values and rows may not fit; ``None`` for none, or, with ``quarantine``, for any.
    :param label: tells the rejected rows of this load from those of others into the same table.
    :param run: the run that loads, which stands beside them.
    :param now: the moment for which the rows stand, with an offset; for ``mark`` and ``scd2``.
    :raises PostHogSettingsError: if they do not go together.
    """

    table: str
    write_disposition: WriteDisposition = "replace_interval"
    key: tuple[str, ...] = ()
    by: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    since: datetime | None = None
    only: Mapping[str, tuple[str, ...] | tuple[int, ...]] = field(default_factory=dict)
    guard: ShrinkGuard = field(default_factory=ShrinkGuard)
    column_types: Mapping[str, str] = field(default_factory=dict)
    other_columns: OtherColumns = "fail"
    deleted: Deleted = "keep"
    whole: bool = False
    stamps: Mapping[str, datetime | str | None] = field(default_factory=dict)
    schema_policy: SchemaPolicy | None = None
    casts: Mapping[str, tuple[str, bool]] = field(default_factory=dict)
    max_rejects: int | None = None
    label: str = ""
    run: str = ""
    now: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def __post_init__(self) -> None:
        modes = get_args(WriteDisposition)
        if not isinstance(self.table, str):
            raise PostHogSettingsError("table", f"is {self.table!r:.40}, not a name.", "Write 'schema.table'.")
        if self.write_disposition not in modes:
            raise PostHogSettingsError(
                "write_disposition",
                f"is {self.write_disposition!r}, which is not known.",
                f"Write one of {', '.join(modes)}.",
            )
        if self.write_disposition == "replace_interval":
            self._check_interval()
        elif not self.replaces and not self.key:
            raise PostHogSettingsError(
                "key",
                f"is empty, but write_disposition={self.write_disposition!r} needs it.",
                "Name the column that identifies a row.",
            )
        if self.other_columns not in get_args(OtherColumns):
            raise PostHogSettingsError(
                "other_columns", f"is {self.other_columns!r}, which is not known.", "Write 'fail' or 'null'."
            )
        check_deleted(self.deleted, self.write_disposition)
        check_policy(self.schema_policy, self.max_rejects)
        for column, sql_type in self.column_types.items():
            if isinstance(sql_type, str) and _NESTED.fullmatch(sql_type.strip()):
                raise PostHogSettingsError(
                    "column_types",
                    f"have an array or structure for {column!r}, which comes as JSON text.",
                    "Write 'jsonb' (PostgreSQL), 'JSON' (DuckDB) or 'text', and take them apart in the database.",
                )
            if not (isinstance(sql_type, str) and _SQL_TYPE.fullmatch(sql_type)):
                raise PostHogSettingsError(
                    "column_types", f"have no SQL type for {column!r}.", "Write one such as 'jsonb'."
                )

    def _check_interval(self) -> None:
        if not self.by:
            raise PostHogSettingsError(
                "by", "is empty, but write_disposition='replace_interval' needs it.", "Name the column of the time."
            )
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment is None or moment.tzinfo is None:
                raise PostHogSettingsError(name, "must be a time with an offset.", "Write it with one, or with Z.")
            object.__setattr__(self, name, moment.astimezone(timezone.utc))
        if self.interval[0] >= self.interval[1]:
            raise PostHogSettingsError("end", "is not after the start.", "Write an end after the start.")

    @property
    def own(self) -> dict[str, datetime | str | None]:
        """The columns that the loader adds to those that are loaded, with their value in rows that are written."""
        made: dict[str, datetime | str | None] = dict(self.stamps)
        if self.write_disposition == "scd2":
            made |= {VALID_FROM: self.now, VALID_TO: None}
        elif self.deleted == "mark":
            made[DELETED_AT] = None
        return made

    @property
    def replaces(self) -> bool:
        """Whether rows are deleted by what they are, rather than by their key."""
        return self.write_disposition in ("replace_interval", "replace")

    @property
    def has_interval(self) -> bool:
        """Whether the rows of an interval are deleted, and no others."""
        return self.write_disposition == "replace_interval"

    @property
    def spans(self) -> tuple[Span | None, ...]:
        """What is replaced, in the pieces of time that the guard looks at; ``(None,)`` for the whole table."""
        if self.write_disposition == "replace":
            return (None,)
        start, end = self.interval
        if self.since is None or not start < self.since < end:
            return ((start, end),)
        return ((start, self.since), (self.since, end))

    @property
    def interval(self) -> tuple[datetime, datetime]:
        """Start and end, in UTC, of a target with ``replace_interval``."""
        if self.start is None or self.end is None:
            raise PostHogSettingsError("start", "is missing: this target has no interval.", "Write start and end.")
        return self.start, self.end


@dataclass(frozen=True)
class Loaded:
    """The result of a load, as counted in the table before the commit.

    :param rows: rows written, after all of one key but the last were left out.
    :param deleted: rows that were there and are not any more: those that were replaced by ``replace_interval`` and
        ``replace``, and those that are gone with ``deleted="delete"``.
    :param inserted: rows (by ``scd2``: versions) that are new in the table.
    :param changed: rows that were there and differed; ``None`` where rows are not compared.
    :param unchanged: rows that were there as they are, and were not touched; ``None`` where rows are not compared.
    :param gone: rows that were there and are not among what was loaded; ``None`` where nobody looked.
    :param rejected: rows that did not fit, and are in ``<table>__rejected``.
    :param misfits: values that did not fit and are null, by column.
    """

    rows: int
    deleted: int
    inserted: int
    changed: int | None = None
    unchanged: int | None = None
    gone: int | None = None
    rejected: int = 0
    misfits: Mapping[str, int] = field(default_factory=dict)

    def describe(self) -> str:
        """Describe what was new, changed, unchanged and gone, for a log; empty if rows were not compared."""
        counts = {"new": self.inserted, "changed": self.changed, "unchanged": self.unchanged, "gone": self.gone}
        if self.changed is None:
            return ""
        return " (" + ", ".join(f"{number:,} {what}" for what, number in counts.items() if number is not None) + ")"


def check_policy(schema_policy: object, max_rejects: object) -> None:
    """Check the arguments for rows that do not fit.

    :param schema_policy: what the task says.
    :param max_rejects: how many may not fit.
    :raises PostHogSettingsError: if one of them is not known.
    """
    policies = get_args(SchemaPolicy)
    if schema_policy is not None and schema_policy not in policies:
        raise PostHogSettingsError(
            "schema_policy", f"is {schema_policy!r:.40}, which is not known.", f"Write one of {', '.join(policies)}."
        )
    if max_rejects is None:
        return
    if isinstance(max_rejects, bool) or not isinstance(max_rejects, int) or max_rejects < 0:
        raise PostHogSettingsError(
            "max_rejects",
            f"is {max_rejects!r:.40}, which is not a number of rows.",
            "Write one, such as 100, or leave it out.",
        )


def check_deleted(deleted: object, write_disposition: object) -> None:
    """Check the argument for rows that are gone.

    :param deleted: what the task says.
    :param write_disposition: how rows get into the table.
    :raises PostHogSettingsError: if it is not known, or is not for this way of writing.
    """
    if deleted not in get_args(Deleted):
        raise PostHogSettingsError(
            "deleted", f"is {deleted!r:.40}, which is not known.", "Write 'keep', 'delete' or 'mark'."
        )
    if deleted != "keep" and write_disposition not in ("merge", "scd2"):
        raise PostHogSettingsError(
            "deleted",
            f"is not for write_disposition={write_disposition!r}.",
            "Write write_disposition='merge', or leave it out.",
        )
    if deleted == "delete" and write_disposition == "scd2":
        raise PostHogSettingsError(
            "deleted",
            "is 'delete', which would remove the history that write_disposition='scd2' keeps.",
            "Write 'mark' or 'keep'.",
        )
