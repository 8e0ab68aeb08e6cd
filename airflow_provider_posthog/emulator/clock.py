"""The one clock of the emulator: real time plus whatever tests have moved it by."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime, timezone


class Clock:
    """A clock that runs at real speed and can be moved forward.

    Everything that ages (exports, query statuses, signed links, rate limits) reads this clock, so a test moves an
    hour ahead without waiting for it.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._moved = asyncio.Event()

    def timestamp(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time() + self._offset

    def now(self) -> datetime:
        """Return the time as a UTC datetime."""
        return datetime.fromtimestamp(self.timestamp(), tz=timezone.utc)

    def advance(self, seconds: float) -> None:
        """Move the clock forward and wake everything that was waiting for a time that has now come.

        :param seconds: how far, in seconds; not negative.
        """
        self._offset += seconds
        self._wake()

    def reset(self) -> None:
        """Go back to real time."""
        self._offset = 0.0
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def sleep(self, seconds: float) -> None:
        """Wait until this clock, not the wall's, has gone on by so much.

        :param seconds: how long, in seconds of this clock.
        """
        end = self.timestamp() + seconds
        while (left := end - self.timestamp()) > 0:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._moved.wait(), left)


def iso(moment: datetime) -> str:
    """Write a time as PostHog's serializers do: UTC, microseconds, a ``Z``.

    :param moment: an aware UTC datetime.
    """
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def iso_or_none(moment: datetime | None) -> str | None:
    """Write a time like :func:`iso`, or null when there is none.

    :param moment: an aware UTC datetime, or None.
    """
    return None if moment is None else iso(moment)
