"""Earlier intervals: whether the table still has as many of their rows as PostHog."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.extract.interval_counts import Recount
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.windows import Window
    from airflow_provider_posthog.load.loader import Loader

#: The most intervals that are counted again.
_MOST = 2_000


def windows_before(start: datetime, end: datetime, look_back: timedelta, verify_back: timedelta) -> list[Window]:
    """Return the intervals that are counted again, the latest first; each is as long as this one, but the last.

    :param start: this interval's start.
    :param end: its end.
    :param look_back: what is read again anyway.
    :param verify_back: how far before ``start`` they begin.
    :raises PostHogSettingsError: if they are too many.
    """
    from airflow_provider_posthog.extract.cells import EPOCH
    from airflow_provider_posthog.extract.windows import Window

    first = max(EPOCH, start - verify_back)
    if (start - first) // (end - start) > _MOST:
        raise PostHogSettingsError(
            "verify_back",
            f"{verify_back} has more than {_MOST:,} intervals of {end - start}.",
            "Write a shorter time, or count older intervals by a task with longer ones.",
        )
    at, windows = start - look_back, []
    while first < at:
        begin = max(first, at - (end - start))
        windows.append(Window(begin, at))
        at = begin
    return windows


class Earlier:
    """Counts intervals in the table and in PostHog.

    :param source: what was read.
    :param windows: the intervals.
    """

    def __init__(self, source: Source, windows: Sequence[Window]) -> None:
        self.windows = windows
        self._source = source
        # Copies are there once or more often on either side: their keys tell.
        keys = [name for name, column in source.columns.items() if column == source.key] if source.copies else []
        self._key = keys[0] if keys else None
        self._kept: list[tuple[int, int | None]] = []

    def count_kept(self, loader: Loader) -> None:
        """Count the table's rows.

        :param loader: is open, and has not committed yet.
        """
        spans = [(window.start, window.end) for window in self.windows]
        if spans:
            rows = loader.counts(spans)
            keys: Sequence[int | None] = loader.counts(spans, self._key) if self._key else [None] * len(spans)
            self._kept = list(zip(rows, keys, strict=True))

    def differing(self, settings: ClientSettings) -> list[Recount]:
        """Count PostHog's rows; return what it has in those intervals of which the table has others, oldest first.

        :param settings: where the project is, and with which key.
        :raises PostHogError: if PostHog cannot be asked.
        """
        if not self.windows:
            return []
        from airflow_provider_posthog.extract.interval_counts import recount

        there = recount(settings, self._source, self.windows)
        return [counted for counted, kept in zip(there, self._kept, strict=True) if not counted.agrees(*kept)][::-1]
