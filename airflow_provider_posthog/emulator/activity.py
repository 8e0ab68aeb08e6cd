"""The activity log: who changed which object, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.auth import User
from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.envelopes import Json
from airflow_provider_posthog.emulator.messages import Answer, Request, json_answer
from airflow_provider_posthog.emulator.paging import number

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.clock import Clock

# unlike other lists, this one counts pages, and they are short
PAGE_LENGTH = 10


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
        """Note that something happened.

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


def activity_page(request: Request, scope: str, item_id: str | None = None) -> Answer:
    """Answer with one page of the log, newest first.

    :param request: ``limit`` (default 10) and ``page`` (from 1) in its query.
    :param scope: the kind of the objects.
    :param item_id: of one object; None for all.
    """
    log = request.state.activity.entries
    found = [each for each in reversed(log) if each.scope == scope and item_id in (None, each.item_id)]
    limit = number(request.query("limit"), PAGE_LENGTH, 1)
    page = number(request.query("page"), 1, 1)
    shown = found[(page - 1) * limit : page * limit]
    following = request.link(limit=limit, page=page + 1) if page * limit < len(found) else None
    previous = request.link(limit=limit, page=page - 1) if page > 1 else None
    results = [each.as_json() for each in shown]
    return json_answer({"results": results, "next": following, "previous": previous, "total_count": len(found)})
