"""Log the progress of a long transfer at a pace for people: first after 10 seconds, then ever more rarely."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

#: Seconds until the first line.
FIRST = 10.0
#: By what factor the gaps between lines grow, and the longest gap in seconds.
GROWTH = 2.0
LONGEST = 600.0


@dataclass(frozen=True)
class Progress:
    """How far a transfer is.

    :param rows: rows written so far, those of earlier tries included.
    :param windows: windows done.
    :param all_rows: rows there are, where the server counted them.
    :param all_windows: windows there are, where that is known.
    """

    rows: int
    windows: int = 0
    all_rows: int | None = None
    all_windows: int | None = None

    @property
    def share(self) -> float | None:
        """The share that is done, from 0 to 1; ``None`` if the total is not known."""
        for done, whole in ((self.rows, self.all_rows), (self.windows, self.all_windows)):
            if whole:
                return min(done / whole, 1.0)
        return None


class ProgressLog:
    """Logs the progress of a transfer after 10 s, 20 s more, 40 s more, and so on up to every 10 minutes.

    :param say: takes a line of text, such as a logger's ``info``.
    :param what: what is transferred, such as ``events``; begins each line.
    :param start: what an earlier try has already done; not part of the speed.
    :param clock: seconds that only grow.
    :param today: the time, in UTC.
    """

    def __init__(
        self,
        say: Callable[[str], object],
        what: str,
        *,
        start: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._say = say
        self._what = what
        self._start = start or Progress(0)
        self._clock = clock
        self._today = today
        self._began = clock()
        self._gap = FIRST
        self._next = self._began + FIRST

    def __call__(self, progress: Progress) -> None:
        """Log the progress, if a line is due.

        :param progress: how far it is.
        """
        now = self._clock()
        if now < self._next:
            return
        self._gap = min(self._gap * GROWTH, LONGEST)
        self._next = now + self._gap
        self._say(self.line(progress))

    def line(self, progress: Progress) -> str:
        """Return the line of text.

        :param progress: how far it is.
        """
        seconds = max(self._clock() - self._began, 1e-9)
        rows = f"{progress.rows:,}"
        if progress.all_rows is not None:
            rows += f" of {progress.all_rows:,}"
        parts = [f"{self._what}: {rows} rows, {(progress.rows - self._start.rows) / seconds:,.0f} rows/s"]
        if progress.all_windows:
            parts.append(f"window {progress.windows:,} of {progress.all_windows:,}")
        end = self._end(progress, seconds)
        if end is not None:
            parts.append(
                f"done about {end:%H:%M:%S} UTC" if end.date() == self._today().date() else f"done {end:%F %R}"
            )
        return ", ".join(parts)

    def _end(self, progress: Progress, seconds: float) -> datetime | None:
        share, before = progress.share, self._start_share(progress)
        if share is None or share <= before:
            return None
        left = seconds * (1.0 - share) / (share - before)
        return self._today() + timedelta(seconds=min(left, 3650 * 86_400.0))

    def _start_share(self, progress: Progress) -> float:
        start = Progress(self._start.rows, self._start.windows, progress.all_rows, progress.all_windows)
        return start.share or 0.0
