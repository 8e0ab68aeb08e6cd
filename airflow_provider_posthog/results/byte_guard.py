"""Guard the bytes that ClickHouse reads: a query that reads far more than it should fails its task.

The bytes are spent when that is known. What the guard saves are those of tomorrow: a schedule does not burn the
project's budget every hour unseen. And it does not let a query begin that the rest of the budget would not cover.
"""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.byte_budget import ByteBudget, shown
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogRateLimitError, PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.clients import Client

log = logging.getLogger(__name__)

_FIELD = "max_bytes_read"


@dataclass(frozen=True)
class ByteGuard:
    """How many bytes ClickHouse may read for a query.

    :param most: bytes; ``None`` for no limit.
    """

    most: int | None = None

    @classmethod
    def of(cls, most: object) -> ByteGuard:
        """Read a task's argument.

        :param most: a whole number of bytes, or its text; ``None`` for no guard.
        :raises PostHogSettingsError: if it is something else.
        """
        if isinstance(most, str) and re.fullmatch(r"\s*[0-9_]{1,20}\s*", most, re.ASCII) and most.strip("_ "):
            most = int(most.replace("_", ""))
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise PostHogSettingsError(_FIELD, "is not a number of bytes.", "Write 1 or more, such as 20_000_000_000.")
        return cls(most)

    def before(self, client: Client) -> None:
        """Refuse to begin if less is left of the project's budget than the query may read.

        Where this process has not heard of it yet, ``SELECT 1`` asks for it. Servers that tell nothing have none.

        :param client: the client.
        :raises PostHogRateLimitError: with the time until enough is there, as far as that is known.
        """
        if self.most is None:
            return
        budget = ByteBudget.of(client.settings)
        if budget.remaining(time.monotonic()) is None:
            client.send(queries.start(queries.hogql("SELECT 1")))
        now = time.monotonic()
        left = budget.remaining(now)
        if left is None or left >= self.most:
            return
        wait = budget.until(now, self.most)
        raise PostHogRateLimitError(
            status=429,
            method="POST",
            path=f"{client.settings.project_path()}query/",
            code="own_budget",
            detail=(
                f"{shown(left)} are left of the project's budget of bytes that queries read, less than "
                f"{_FIELD}={shown(self.most)}, so the query was not sent. Let Airflow retry the task in {wait:,.0f} s "
                "or later (retry_delay), or lower the guard. See docs/limits.md."
            ),
            retry_after=wait,
        )

    def after(self, bytes_read: int | None) -> None:
        """Refuse an answer that cost too much.

        :param bytes_read: what ClickHouse read for it; ``None`` if the server does not say.
        :raises PostHogSettingsError: if that was more than it may.
        """
        if self.most is None:
            return
        if bytes_read is None:
            log.warning("PostHog does not say how many bytes it read for the query: %s guards nothing", _FIELD)
        elif bytes_read > self.most:
            raise PostHogSettingsError(
                _FIELD,
                f"is {shown(self.most)}, and PostHog read {shown(bytes_read)} for the query.",
                "Let it read less (bounds on timestamp, fewer columns, no wide properties), or raise the guard.",
            )


def tell(client: Client, bytes_read: int | None) -> None:
    """Log what a query has read, and what is left; nothing where the server does not say.

    :param client: the client that has asked.
    :param bytes_read: what ClickHouse read for it.
    """
    if bytes_read is None:
        return
    left = ByteBudget.of(client.settings).remaining(time.monotonic())
    rest = "" if left is None else f"; {shown(left)} of the project's budget are left"
    log.info("PostHog read %s for the query%s", shown(bytes_read), rest)
