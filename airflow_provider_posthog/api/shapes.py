"""Shapes of answers that more than one kind of object has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Activity(TypedDict, total=False):
    """One thing that somebody did; ``scope`` and ``item_id`` say to what."""

    activity: str
    scope: str
    item_id: str
    created_at: str
    detail: Mapping[str, Any] | None
    user: Mapping[str, Any] | None


class ActivityPage(TypedDict, total=False):
    """A page of the log, newest first."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Activity]


class Sharing(TypedDict, total=False):
    """How an insight or a dashboard is shared; ``access_token`` is part of the public address: keep it to yourself."""

    created_at: str | None
    enabled: bool
    access_token: str
    settings: Mapping[str, Any] | None
    password_required: bool


class PropertyValue(TypedDict, total=False):
    """A value of a property; ``count`` where PostHog counts them."""

    name: Any
    count: int
