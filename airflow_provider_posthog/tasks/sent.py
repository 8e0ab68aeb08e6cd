"""How far a load into PostHog is, for the try that continues it."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_posthog.dataclass import dataclass


@dataclass(frozen=True)
class Sent:
    """How far a load is, for the try that continues it, perhaps on another machine.

    :param at: the time of rows that have none of their own, as ISO text.
    :param sent_at: when all was sent, in seconds since 1970; 0 before that.
    :param resent: how many events were sent once more, as they were not there.
    :param tally: what was counted while it was sent.
    """

    at: str
    sent_at: float = 0.0
    resent: int = 0
    tally: Mapping[str, int] | None = None

    @classmethod
    def of(cls, stored: object) -> Sent | None:
        """Read it from a trigger's event or a ledger; ``None`` if it is not there.

        :param stored: the event's value.
        """
        if not isinstance(stored, Mapping) or not isinstance(stored.get("at"), str):
            return None
        tally = stored.get("tally")
        counts = {str(name): int(count) for name, count in tally.items()} if isinstance(tally, Mapping) else None
        return cls(stored["at"], float(stored.get("sent_at") or 0.0), int(stored.get("resent") or 0), counts)
