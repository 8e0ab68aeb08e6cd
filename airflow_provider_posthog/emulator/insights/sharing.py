"""Public links of insights and dashboards."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_posthog.emulator.clock import Clock, iso_or_none
from airflow_provider_posthog.emulator.http.envelopes import Json

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass
class Sharing:
    """Whether and under which address strangers see an object.

    :param created_at: when it was first set; None for one that nobody has set yet.
    """

    access_token: str
    enabled: bool = False
    created_at: datetime | None = None

    def as_json(self, *, newest: bool) -> Json:
        """Return the object of the API.

        :param newest: with the fields that servers have since 2025.
        """
        body: Json = {
            "created_at": iso_or_none(self.created_at),
            "enabled": self.enabled,
            "access_token": self.access_token,
        }
        return {**body, "settings": None, "password_required": False, "share_passwords": []} if newest else body


class SharingStore:
    """The settings of all objects that were ever shared.

    :param clock: says when.
    :param seed: equal seeds make equal tokens.
    """

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._random = random.Random(f"sharing {seed}")  # noqa: S311 - tokens of a made-up server
        self._known: dict[tuple[str, int], Sharing] = {}

    def get(self, kind: str, number: int) -> Sharing:
        """Return how an object is shared. Until it is set for the first time, each look shows another token.

        :param kind: ``insights`` or ``dashboards``.
        :param number: the object's id.
        """
        return self._known.get((kind, number)) or Sharing("".join(self._random.choice(LETTERS) for _ in range(30)))

    def enable(self, kind: str, number: int, enabled: bool) -> Sharing:
        """Share an object, or share it no more; its address stays.

        :param kind: ``insights`` or ``dashboards``.
        :param number: the object's id.
        :param enabled: whether strangers may look.
        """
        sharing = self._known.setdefault((kind, number), self.get(kind, number))
        sharing.enabled = enabled
        sharing.created_at = sharing.created_at or self._clock.now()
        return sharing
