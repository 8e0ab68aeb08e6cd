"""What is left of a project's limits, for the size of the next pages."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_posthog.api.budget import budget_of, share_of
from airflow_provider_posthog.api.byte_budget import ByteBudget
from airflow_provider_posthog.api.settings import ClientSettings


class PageLimits:
    """What is left of both budgets of a project. Safe to use from threads.

    :param settings: where the project is, and which share of its limits may be used.
    :param to_read: how many rows are still to be read.
    """

    def __init__(self, settings: ClientSettings, to_read: Callable[[], int]) -> None:
        self._settings = settings
        self._to_read = to_read

    def bytes_left(self) -> float | None:
        """Return how many bytes ClickHouse may still read; ``None`` if PostHog does not say, or no budget is kept."""
        if self._settings.rate_limit_share == 0:
            return None
        return ByteBudget.of(self._settings).remaining(time.monotonic())

    def bytes_back(self) -> float:
        """Return the least refill in bytes a second; 0 if that is not known."""
        return ByteBudget.of(self._settings).refill

    def is_short(self, rows: int) -> bool:
        """Return whether the rest of the hour's requests is too few for all that is still to be read.

        :param rows: of a page.
        """
        share = share_of(self._settings, "query")
        if not share:
            return False
        _, hour = budget_of(self._settings).left("query", time.monotonic(), share=share)
        return hour * rows < self._to_read()
