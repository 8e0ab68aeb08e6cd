"""The activity log: who changed which object, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.auth import User
from airflow_provider_posthog.emulator.http.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.clock import Clock


@dataclass(frozen=True)
class Entry:
    """One line of the log.

    :param scope: the kind of the object, such as ``Insight``.
    :param item_id: of the object.
    :param activity: such as ``created``, ``updated`` or ``deleted``.
    :param detail: ``name``, ``short_id`` and ``changes`` as the API shows them.
    """

    scope: str
    item_id: str
    activity: str
    user: User
    created_at: datetime
    detail: Json

    def as_json(self) -> Json:
        """Return the object of the API."""
        return {
            "user": {"first_name": self.user.brief()["first_name"], "email": self.user.email},
            "activity": self.activity,
            "scope": self.scope,
            "item_id": self.item_id,
            "detail": self.detail,
            "created_at": iso(self.created_at),
        }


@dataclass
class ActivityLog:
    """All entries, oldest first.

    :param clock: says when something happened.
    """

    clock: Clock
    entries: list[Entry] = field(default_factory=list)

    def add(
        self,
        scope: str,
        item_id: object,
        activity: str,
        user: User,
        *,
        name: str | None,
        short_id: str | None = None,
        changes: list[Json] | None = None,
    ) -> None:
        """Record an activity.

        :param scope: the kind of the object, such as ``Insight``.
        :param item_id: of the object.
        :param activity: what happened.
        :param user: who did it.
        :param name: of the object.
        :param short_id: of the object, if it has one.
        :param changes: from :func:`changes`, or None.
        """
        detail: Json = {"changes": changes, "name": name, "short_id": short_id, "trigger": None, "type": None}
        self.entries.append(Entry(scope, str(item_id), activity, user, self.clock.now(), detail))


def changes(scope: str, before: Mapping[str, object], after: Mapping[str, object]) -> list[Json]:
    """Return the differences between two states of an object, as entries list them.

    :param scope: the kind of the object.
    :param before: its fields before.
    :param after: its fields after.
    """
    return [
        {"type": scope, "action": "changed", "field": name, "before": before[name], "after": after[name]}
        for name in before
        if before[name] != after[name]
    ]
