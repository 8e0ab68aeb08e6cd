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


def read_timer(event: object) -> Mapping[str, Any] | None:
    """Return what a timer's event brings back; ``None`` if it is none of this version.

    :param event: the event's payload.
    """
    return event if isinstance(event, Mapping) and event.get("version") == EVENT_VERSION else None


class PostHogTimerTrigger(BaseTrigger):
    """Waits until a moment, then fires one event. It reads no connection and asks nobody.

    :param until: when, in seconds since 1970; absolute, so that a restarted triggerer keeps it.
    :param payload: what comes back in the event: JSON, small, without secrets and personal data.
    :param later: arguments of a newer version of the provider; they are ignored.
    """

    def __init__(self, *, until: float, payload: Mapping[str, Any] | None = None, **later: Any) -> None:  # noqa: ANN401
        super().__init__()  # type: ignore[no-untyped-call]
        self.until = until
        self.payload = dict(payload or {})
        del later

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {"until": self.until, "payload": self.payload},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait; fire one event."""
        while (left := self.until - time.time()) > 0:  # noqa: ASYNC110 - no event, but the clock decides
            await asyncio.sleep(min(left, _NAP))
        yield TriggerEvent({**self.payload, "version": EVENT_VERSION})  # type: ignore[no-untyped-call]
