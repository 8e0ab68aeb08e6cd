"""A trigger that only waits, so that no worker has to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

EVENT_VERSION = 1
#: Seconds after which the clock is read again: it may be set while somebody sleeps.
_NAP = 60.0


class PostHogTimerTrigger(BaseTrigger):
    """Waits until a moment, then fires one event. It reads no connection and asks nobody.

    :param until: when, in seconds since 1970; absolute, so that a restarted triggerer keeps it.
    :param told: what comes back in the event: JSON, small, without secrets and personal data.
    :param later: what a newer version of the provider has handed on besides; is left out.
    """

    def __init__(self, *, until: float, told: Mapping[str, Any] | None = None, **later: Any) -> None:  # noqa: ANN401
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self.told = dict(told or {})
        del later

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"until": self.until, "told": self.told},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; fire one event."""
        while (left := self.until - time.time()) > 0:  # noqa: ASYNC110 - no event, but the clock decides
            await asyncio.sleep(min(left, _NAP))
        yield TriggerEvent({**self.told, "version": EVENT_VERSION})  # type: ignore[no-untyped-call]
