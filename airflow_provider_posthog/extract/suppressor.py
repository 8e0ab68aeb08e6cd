"""Rows of erased persons that come again in a reading: drop them, count them, or fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs
import pyarrow.compute as pc  # noqa: TID253

from airflow_provider_posthog.audit.suppression import Kind
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.extract.sources import Source

CHOICES = ("drop", "fail", "count")
#: Which columns of PostHog's tables say whose row it is.
_TELL: Mapping[str, Mapping[str, Kind]] = {
    "persons": {"id": "uuid"},
    "groups": {},
}
_ELSE: Mapping[str, Kind] = {"distinct_id": "distinct_id", "person_id": "uuid"}


class Listed(Protocol):
    """The list of erased persons."""

    def has(self, kind: Kind, value: str, /) -> bool:
        """Return whether a person is on it."""


class Suppressor:
    """Finds rows of persons who are on a list.

    :param listed: the list.
    :param source: what is read.
    :param choice: ``drop`` leaves such rows out, ``fail`` ends the reading, ``count`` lets them pass.
    """

    def __init__(self, listed: Listed, source: Source, choice: str) -> None:
        self._listed = listed
        self._tell = dict(_TELL.get(source.table, _ELSE))
        self._named = {expression: name for name, expression in source.columns.items()}
        self._choice = choice
        #: How many such rows were met.
        self.met = 0

    def __call__(self, table: pa.Table) -> pa.Table:
        """Take rows; return those that are to be kept.

        :param table: the rows.
        :raises PostHogSettingsError: if none of the columns says whose rows they are.
        :raises PostHogErasureError: if one is of somebody on the list, and that is an error.
        """
        names = {self._named.get(expression, expression): kind for expression, kind in self._tell.items()}
        columns = [(table.column(name), kind) for name, kind in names.items() if name in table.column_names]
        if not columns:
            raise PostHogSettingsError(
                "suppress_path",
                "cannot be used: none of the columns says whose row it is.",
                f"Select {' or '.join(self._tell) or 'distinct_id'}, or leave it out.",
            )
        gone: pa.ChunkedArray | None = None
        for column, kind in columns:
            hits = self._hits(column, kind)
            gone = hits if gone is None else pc.or_(gone, hits)
        met = pc.sum(gone).as_py() or 0
        self.met += met
        if met and self._choice == "fail":
            raise PostHogErasureError(
                f"At least {met:,} rows are of persons who were erased (suppress_path): they came again. Nothing was "
                "changed. Stop their source and erase them anew, or leave their rows out with suppressed='drop'."
            )
        return table.filter(pc.invert(gone)) if met and self._choice == "drop" else table

    def _hits(self, column: pa.ChunkedArray, kind: Kind) -> pa.ChunkedArray:
        texts = column.cast(pa.large_string())
        values = [text for text in pc.unique(texts).to_pylist() if text is not None and self._listed.has(kind, text)]
        return pc.is_in(texts, value_set=pa.array(values, pa.large_string()))
