"""Dashboards, their tiles and who may change them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.auth import User
from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.insights.insights import Insight, Tile

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.insights.insights import InsightStore

EVERYONE_MAY_EDIT = 21
ONLY_COLLABORATORS_MAY_EDIT = 37


@dataclass
class Collaborator:
    """Somebody who may change a dashboard that not everyone may change."""

    id: int
    user: User
    added_at: datetime

    def as_json(self, dashboard_id: int) -> Json:
        """Return the object of the API.

        :param dashboard_id: of the dashboard.
        """
        moment = iso(self.added_at)
        return {
            "id": str(self.id),
            "dashboard_id": dashboard_id,
            "user": self.user.brief(),
            "level": ONLY_COLLABORATORS_MAY_EDIT,
            "added_at": moment,
            "updated_at": moment,
        }


@dataclass
class Dashboard:
    """A dashboard."""

    id: int
    name: str | None
    description: str
    created_at: datetime
    created_by: User
    pinned: bool = False
    deleted: bool = False
    creation_mode: str = "default"
    restriction_level: int = EVERYONE_MAY_EDIT
    tags: list[str] = field(default_factory=list)
    filters: Json = field(default_factory=dict)
    variables: Json = field(default_factory=dict)
    tiles: list[Tile] = field(default_factory=list)
    collaborators: list[Collaborator] = field(default_factory=list)
    last_accessed_at: datetime | None = None

    def may_edit(self, user: User) -> bool:
        """Return whether a user may change the dashboard.

        :param user: who.
        """
        if self.restriction_level == EVERYONE_MAY_EDIT or user.id == self.created_by.id:
            return True
        return any(collaborator.user.id == user.id for collaborator in self.collaborators)

    def shown_tiles(self) -> list[Tile]:
        """Return the tiles that are there, from top left to bottom right."""

        def place(tile: Tile) -> tuple[float, float, int]:
            small = tile.layouts.get("sm")
            spot = small if isinstance(small, dict) else {}
            return float(spot.get("y") or 0), float(spot.get("x") or 0), tile.id

        return sorted((tile for tile in self.tiles if tile.shown), key=place)

    def as_json(self, *, shared: bool, newest: bool) -> Json:
        """Return the fields that lists show; a single dashboard adds ``filters`` and ``tiles``.

        :param shared: whether strangers may look at it.
        :param newest: with the fields that servers have since 2025.
        """
        body: Json = {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "pinned": self.pinned,
            "created_at": iso(self.created_at),
            "created_by": self.created_by.brief(),
            "creation_mode": self.creation_mode,
            "deleted": self.deleted,
            "is_shared": shared,
            "tags": self.tags,
            "restriction_level": self.restriction_level,
            "effective_restriction_level": self.restriction_level,
            "effective_privilege_level": ONLY_COLLABORATORS_MAY_EDIT,
        }
        if newest:
            moment = self.last_accessed_at
            body |= {"user_access_level": "manager", "access_control_version": "v1"}
            body |= {"last_accessed_at": iso(moment) if moment else None}
        return body


class DashboardStore:
    """The project's dashboards. The first one shows all insights that are there from the start.

    :param core: the clock, the settings, the store.
    :param insights: what can be on a dashboard.
    """

    def __init__(self, core: Core, insights: InsightStore) -> None:
        self._core = core
        self._dashboards: list[Dashboard] = []
        self._last_id = self._last_tile = self._last_collaborator = 0
        first = self.create(core.keyring.default.user)
        first.name, first.description, first.pinned = "My App Dashboard", "All saved insights.", True
        first.created_at = core.project.created_at
        for insight in insights.all():
            self.add_tile(first, insight)

    def all(self) -> list[Dashboard]:
        """Return all dashboards, deleted ones too, oldest first."""
        return self._dashboards

    def find(self, wanted: object, *, deleted: bool = False) -> Dashboard | None:
        """Return a dashboard, or None.

        :param wanted: its id, as a number or a text.
        :param deleted: find deleted ones, too.
        """
        known = (dashboard for dashboard in self._dashboards if deleted or not dashboard.deleted)
        return next((dashboard for dashboard in known if str(dashboard.id) == str(wanted)), None)

    def create(self, user: User) -> Dashboard:
        """Make a dashboard without a name or tiles.

        :param user: who makes it.
        """
        self._last_id += 1
        made = Dashboard(self._last_id, None, "", self._core.clock.now(), user)
        self._dashboards.append(made)
        return made

    def remove(self, dashboard: Dashboard) -> None:
        """Take back a dashboard that could not be filled. Its id is not given again.

        :param dashboard: from :meth:`create`.
        """
        for tile in dashboard.tiles:
            if tile.insight is not None:
                tile.insight.tiles.remove(tile)
        self._dashboards.remove(dashboard)

    def add_tile(self, dashboard: Dashboard, insight: Insight | None = None, text: Json | None = None) -> Tile:
        """Put an insight or a text on a dashboard; an insight that was there before comes back.

        :param dashboard: where.
        :param insight: what to show, or None.
        :param text: what to show otherwise.
        """
        for tile in dashboard.tiles:
            if insight is not None and tile.insight is insight:
                tile.deleted = False if tile.deleted else tile.deleted
                return tile
        self._last_tile += 1
        made = Tile(self._last_tile, dashboard.id, insight, text)
        dashboard.tiles.append(made)
        if insight is not None:
            insight.tiles.append(made)
        return made

    def add_collaborator(self, dashboard: Dashboard, user: User) -> Collaborator:
        """Let a user change a dashboard that not everyone may change.

        :param dashboard: which.
        :param user: who.
        """
        self._last_collaborator += 1
        made = Collaborator(self._last_collaborator, user, self._core.clock.now())
        dashboard.collaborators.append(made)
        return made

    def move_tile(self, tile: Tile, source: Dashboard, target: Dashboard) -> None:
        """Take a tile from one dashboard to another; it keeps its id.

        :param tile: of the source.
        :param source: where it is.
        :param target: where it shall be.
        """
        source.tiles.remove(tile)
        target.tiles.append(tile)
        tile.dashboard_id = target.id

    def delete(self, dashboard: Dashboard, *, insights: bool) -> None:
        """Delete a dashboard softly.

        :param dashboard: what to delete.
        :param insights: delete those of its insights, too, that no other dashboard shows.
        """
        for tile in dashboard.tiles:
            tile.deleted = True
            if insights and tile.insight is not None and not any(not other.deleted for other in tile.insight.tiles):
                tile.insight.deleted = True
        dashboard.deleted = True
        if self._core.project.primary_dashboard == dashboard.id:
            self._core.project.primary_dashboard = None

    def restore(self, dashboard: Dashboard) -> None:
        """Bring a deleted dashboard back, with its tiles and all their insights.

        :param dashboard: what to restore.
        """
        dashboard.deleted = False
        for tile in dashboard.tiles:
            tile.deleted = False
            if tile.insight is not None:
                tile.insight.deleted = False
