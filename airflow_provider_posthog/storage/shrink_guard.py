"""The shrink guard: what is there is not replaced by far less, whatever PostHog counts.

A count cannot prove what PostHog does not show: events beyond the retention, a lagging replica, or a key that sees
less make rows and count agree. What an earlier load has left is a witness that does not depend on PostHog.
"""

from __future__ import annotations

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError

#: The largest share of the rows that may be gone.
MAX_SHRINK = 0.5
#: Below so many rows a share says nothing: an interval of a few rows may well lose half of them.
MIN_ROWS = 1_000

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}


@dataclass(frozen=True)
class ShrinkGuard:
    """Refuses to replace rows by none, or by far fewer.

    :param max_shrink: the largest share of the rows that may be gone, from 0 to 1; for 1,000 rows and more.
    :param allow_shrink: replace whatever there is.
    """

    max_shrink: float = MAX_SHRINK
    allow_shrink: bool = False

    @classmethod
    def of(cls, max_shrink: object = MAX_SHRINK, allow_shrink: object = False) -> ShrinkGuard:
        """Read a task's arguments, which a template may have made text of.

        :param max_shrink: a number from 0 to 1, or its text.
        :param allow_shrink: a boolean, or its text (``"True"``, ``"false"``).
        :raises PostHogSettingsError: if one of them is something else.
        """
        return cls(_share(max_shrink), _boolean(allow_shrink))

    def refuses(self, before: int, after: int) -> bool:
        """Return whether too few would take the place of those that are there.

        :param before: how many are there.
        :param after: how many would take their place.
        """
        if self.allow_shrink or before <= 0 or after >= before:
            return False
        return after <= 0 or (before >= MIN_ROWS and after < before * (1 - self.max_shrink))

    def check(self, what: str, before: int, after: int) -> None:
        """Do nothing, unless too few rows would take the place of those that are there.

        :param what: what is replaced, such as ``analytics.events, 2026-11-01 to 2026-11-02``; for the error.
        :param before: how many rows are there.
        :param after: how many rows would take their place.
        :raises PostHogIncompleteError: if they are too few.
        """
        if self.refuses(before, after):
            raise PostHogIncompleteError(
                f"{what}: {before:,} rows are there, and PostHog shows {after:,} to take their place. Nothing was "
                "changed. PostHog may be hiding rows (its events retention, a key that sees less, a lagging replica). "
                "If the rows are really gone, set allow_shrink=True for one run.",
                lasting=True,
            )


def _share(value: object) -> float:
    try:
        share = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else -1.0
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise PostHogSettingsError(
            "max_shrink", "is not a share from 0 to 1.", "Write the share that may be gone, such as 0.5."
        )
    return share


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is None:
        raise PostHogSettingsError("allow_shrink", "is neither True nor False.", "Write True, or leave it out.")
    return known
