"""Saved insights."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.auth import User
from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.insights.legacy import to_query

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.jobs.queries import Cached

BASIC_FIELDS = (
    "id",
    "short_id",
    "name",
    "derived_name",
    "description",
    "query",
    "filters",
    "favorited",
    "saved",
    "tags",
    "dashboards",
    "dashboard_tiles",
    "created_at",
    "created_by",
    "last_modified_at",
    "last_refresh",
    "updated_at",
)
NO_RESULT: Json = {
    "result": None,
    "columns": None,
    "types": None,
    "hasMore": None,
    "hogql": None,
    "timezone": None,
    "is_cached": False,
    "last_refresh": None,
    "cache_target_age": None,
    "next_allowed_client_refresh": None,
    "query_status": None,
}
SAVED = (
    (
        "Events by name",
        "How often each event was captured, from SQL.",
        {
            "kind": "DataVisualizationNode",
            "source": {
                "kind": "HogQLQuery",
                "query": "select event, count() as n from events group by event order by n desc",
            },
        },
    ),
    (
        "Pageviews per day",
        "A trend of the last week.",
        {
            "kind": "InsightVizNode",
            "source": {
                "kind": "TrendsQuery",
                "series": [{"kind": "EventsNode", "event": "$pageview", "math": "total"}],
                "dateRange": {"date_from": "-7d"},
                "interval": "day",
            },
        },
    ),
    (
        "Latest events",
        "The twenty newest events.",
        {
            "kind": "DataTableNode",
            "source": {
                "kind": "HogQLQuery",
                "query": "select uuid, event, distinct_id, timestamp from events order by timestamp desc limit 20",
            },
        },
    ),
)


@dataclass
class Tile:
    """The place of an insight, or of a text, on a dashboard.

    :param insight: what it shows; None for a text.
    :param text: of a tile without insight.
    :param layouts: where it is, by size of screen.
    :param deleted: null until it has been deleted once.
    """

    id: int
    dashboard_id: int
    insight: Insight | None = None
    text: Json | None = None
    layouts: Json = field(default_factory=dict)
    color: str | None = None
    deleted: bool | None = None

    @property
    def shown(self) -> bool:
        """Return whether it is there: a deleted insight hides its tiles."""
        return not self.deleted and not (self.insight is not None and self.insight.deleted)


@dataclass
class Insight:
    """A saved insight.

    :param filters: what an insight of PostHog's first years has instead of a query.
    """

    id: int
    short_id: str
    query: Json | None
    created_at: datetime
    created_by: User
    last_modified_at: datetime
    filters: Json = field(default_factory=dict)
    order: int | None = None
    name: str | None = None
    derived_name: str | None = None
    description: str | None = None
    saved: bool = False
    favorited: bool = False
    deleted: bool = False
    tags: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)

    def node(self) -> Json | None:
        """Return what is run: the query, or the query that the filters stand for; None when there is neither."""
        if self.query is not None:
            return self.query
        return to_query(self.filters) if self.filters else None

    def as_json(self, key: str | None, result: Json) -> Json:
        """Return the object of the API.

        :param key: of its query in the cache, shown as ``filters_hash``.
        :param result: the fields of :data:`NO_RESULT`.
        """
        shown = [tile for tile in self.tiles if not tile.deleted]
        return {
            "id": self.id,
            "short_id": self.short_id,
            "name": self.name,
            "derived_name": self.derived_name,
            "description": self.description,
            "query": self.query,
            "filters": self.filters,
            "filters_hash": key,
            "order": self.order,
            "deleted": self.deleted,
            "dashboards": [tile.dashboard_id for tile in shown],
            "dashboard_tiles": [
                {"id": tile.id, "dashboard_id": tile.dashboard_id, "deleted": tile.deleted} for tile in shown
            ],
            "created_at": iso(self.created_at),
            "created_by": self.created_by.brief(),
            "last_modified_at": iso(self.last_modified_at),
            "last_modified_by": self.created_by.brief(),
            "updated_at": iso(self.last_modified_at),
            "favorited": self.favorited,
            "saved": self.saved,
            "tags": self.tags,
            "is_sample": False,
            "effective_restriction_level": 21,
            "effective_privilege_level": 37,
            **result,
        }

    def basic(self) -> Json:
        """Return the short form of lists with ``basic=true``, which know of no result, however fresh."""
        full = self.as_json(None, {"last_refresh": None})
        return {**{name: full[name] for name in BASIC_FIELDS}, "refreshing": False}


class InsightStore:
    """The project's insights.

    :param core: the clock, the settings, the store.
    :param seed: equal seeds make equal short ids.
    """

    def __init__(self, core: Core, seed: int) -> None:
        self._core = core
        self._random = random.Random(f"insights {seed}")  # noqa: S311 - ids, not secrets
        self._insights: list[Insight] = []
        owner = core.keyring.default.user
        for name, description, query in SAVED:
            made = self.create(owner, query)
            made.name, made.description, made.saved = name, description, True
            made.created_at = made.last_modified_at = core.project.created_at

    def create(self, user: User, query: Json | None) -> Insight:
        """Save an insight without a name.

        :param user: who saves it.
        :param query: what it shows, or None.
        """
        now = self._core.clock.now()
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        short_id = "".join(self._random.choice(letters) for _ in range(8))
        made = Insight(
            id=len(self._insights) + 1,
            short_id=short_id,
            query=query,
            created_at=now,
            created_by=user,
            last_modified_at=now,
        )
        self._insights.append(made)
        return made

    def all(self) -> list[Insight]:
        """Return all insights, deleted ones too, oldest first."""
        return self._insights

    def is_hidden(self, insight: Insight) -> bool:
        """Return whether an insight is hidden, as if another user had restricted it.

        :param insight: the insight.
        """
        return insight.id in self._core.settings.hidden_insights

    def find(self, wanted: str, *, deleted: bool = False) -> Insight | None:
        """Return an insight by its id or, when no id fits, by its short id.

        :param wanted: from the path.
        :param deleted: find deleted ones, too.
        """
        known = [insight for insight in self._insights if deleted or not insight.deleted]
        by_id = (insight for insight in known if str(insight.id) == wanted)
        return next(by_id, None) or next((insight for insight in known if insight.short_id == wanted), None)


def result_fields(cached: Cached | None, *, is_cached: bool) -> Json:
    """Return the fields of an insight about its result.

    :param cached: what the cache has, or None.
    :param is_cached: whether it was there before this request.
    """
    if cached is None:
        return dict(NO_RESULT)
    body = cached.body
    return {
        **NO_RESULT,
        "result": body.get("results"),
        "columns": body.get("columns"),
        "types": body.get("types"),
        "hasMore": body.get("hasMore"),
        "hogql": body.get("hogql"),
        "timezone": body.get("timezone"),
        **cached.fields(is_cached=is_cached),
    }
