"""Earlier intervals counted anew, to find those whose files are no longer what PostHog shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogError, PostHogTransportError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.asking import Asker, is_too_heavy
from airflow_provider_posthog.extract.manifest import Interval
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.windows import Window

#: How many intervals are counted in one query: each takes two columns of its answer.
AT_ONCE = 48


@dataclass(frozen=True)
class Count:
    """What PostHog counts in an interval.

    :param rows: rows, copies included.
    :param keys: different keys.
    """

    rows: int
    keys: int

    def as_json(self) -> list[int]:
        """Return it as the manifest has it."""
        return [self.rows, self.keys]

    def fits(self, manifest: Mapping[str, Any]) -> bool:
        """Tell whether an interval's files may have all rows.

        Copies of a row, which ClickHouse drops when it likes, are dropped within a window only. So files have as many
        rows as there are keys, or some more, but no more than PostHog counts with all copies.

        :param manifest: the interval's.
        """
        rows = manifest.get("rows")
        if manifest.get("recounted") == self.as_json():  # it was read again, and has what can be had
            return True
        return isinstance(rows, int) and self.keys <= rows <= self.rows


class Recount:
    """Counts intervals anew. Close it, or use it in a ``with``.

    :param settings: how to reach PostHog.
    :param source: what is read; it has a time.
    """

    def __init__(self, settings: ClientSettings, source: Source) -> None:
        self._source = source
        self._asker = Asker(settings, 1)

    def __enter__(self) -> Recount:
        return self

    def __exit__(self, *_: object) -> None:
        self._asker.close()

    def stop(self) -> None:
        """Ask no more; may be called from another thread, or while a signal is handled."""
        self._asker.stop()

    def count(self, intervals: Sequence[Interval]) -> list[Count]:
        """Count the rows and keys of each interval; in as few queries as PostHog can answer.

        :param intervals: the intervals.
        :raises PostHogError: if PostHog can not be asked.
        """
        if len(intervals) > AT_ONCE:
            return [*self.count(intervals[:AT_ONCE]), *self.count(intervals[AT_ONCE:])]
        if not intervals:
            return []
        try:
            return self._asked(intervals)
        except PostHogError as error:
            if len(intervals) == 1 or not is_too_heavy(error):
                raise
            half = len(intervals) // 2
            return [*self.count(intervals[:half]), *self.count(intervals[half:])]

    def _asked(self, intervals: Sequence[Interval]) -> list[Count]:
        windows = [Window(one.start, one.end) for one in intervals]
        result = self._asker.ask(statements.count_each(self._source, windows))
        try:
            (row,) = result.rows
            numbers = [int(str(value)) for value in row]
            return [Count(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)][: len(windows)]
        except (TypeError, ValueError):
            raise PostHogTransportError("PostHog's answer to how many rows intervals have cannot be read") from None


def within(intervals: Sequence[Interval], before: Interval, length: timedelta) -> list[Interval]:
    """Return the intervals that end within a length of time before another one begins; no snapshots.

    :param intervals: the intervals.
    :param before: the other one.
    :param length: how far to look back.
    """
    first = before.start - length
    return [one for one in intervals if not one.is_snapshot and first < one.end <= before.start]
