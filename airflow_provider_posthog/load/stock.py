"""Count a table's rows before they are replaced, and the rows that replace them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_posthog.exceptions import PostHogIncompleteError
from airflow_provider_posthog.load.target import Span, Target

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Stock:
    """Counts of existing rows and of the rows that replace them, for each span that the guard checks.

    :param target: what is replaced.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._spans = target.spans if target.replaces else ()
        self._there = [0] * len(self._spans)
        self._coming = [0] * len(self._spans)

    @property
    def there(self) -> int:
        """How many rows were there."""
        return sum(self._there)

    def take(self, count: Callable[[Span | None], int]) -> None:
        """Count the existing rows.

        :param count: counts the rows of a piece of time, or of the whole table.
        """
        self._there = [count(span) for span in self._spans]

    def see(self, table: pa.Table) -> None:
        """Count rows that are loaded.

        :param table: the rows.
        :raises PostHogIncompleteError: if one of them is not in the interval.
        """
        if self._target.has_interval:
            self._see_times(table)
        else:
            self._coming = [rows + table.num_rows for rows in self._coming]

    def _see_times(self, table: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        # As integers: a time that becomes Python's imports pandas.
        moments = table.column(self._target.by).cast(pa.timestamp("us")).cast(pa.int64())
        extent = pc.min_max(moments).as_py()
        start, end = self._target.interval
        if moments.null_count or extent["min"] < _micros(start) or extent["max"] >= _micros(end):
            raise PostHogIncompleteError(
                f"{self._target.by!r} of some rows is not in the interval from {start:%F %T} to {end:%F %T} (UTC): "
                "a second load would not replace them."
            )
        late = 0
        if len(self._spans) > 1:
            edge = pa.array([_micros(self._spans[-1][0])], pa.int64())[0]  # type: ignore[index]
            late = int(pc.sum(pc.greater_equal(moments, edge)).as_py() or 0)
            self._coming[0] += table.num_rows - late
        self._coming[-1] += late if len(self._spans) > 1 else table.num_rows

    def check(self) -> None:
        """Refuse if far fewer rows would replace the existing ones.

        :raises PostHogIncompleteError: if they are too few.
        """
        check = self._target.guard.check
        for span, before, coming in zip(self._spans, self._there, self._coming, strict=True):
            check(self._called(span), before, coming)
        if len(self._spans) > 1:
            check(self._called(self._target.interval), self.there, sum(self._coming))

    def _called(self, span: Span | None) -> str:
        filtered = "".join(f", rows of some values of {column!r}" for column in self._target.only)
        when = f", {span[0]:%F %T} to {span[1]:%F %T} (UTC)" if span else ""
        return f"{self._target.table}{when}{filtered}"


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
