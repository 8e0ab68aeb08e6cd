"""How a table is described to HogQL."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_posthog.emulator.hogql.ast import Column


@dataclass(frozen=True)
class Link:
    """A field that stands for a row of another table: ``events.person`` and the like."""

    table: str
    left: str
    right: str
    join: str = "LEFT OUTER JOIN"


@dataclass(frozen=True)
class Through:
    """A field that stands for one further away: ``person`` of what has a distinct id is ``pdi.person``."""

    chain: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: its fields in PostHog's order, and those that ``*`` leaves out."""

    name: str
    fields: dict[str, Column | Link | Through]
    hidden: frozenset[str] = frozenset({"team_id"})

    def star(self) -> list[str]:
        """List the columns that ``*`` stands for."""
        return [name for name, kind in self.fields.items() if isinstance(kind, Column) and name not in self.hidden]
