"""How a table is described to HogQL."""

from __future__ import annotations

from collections.abc import Mapping
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
class ExpressionField:
    """A column that is worked out where it is named, and costs nothing elsewhere; ``*`` leaves it out.

    :param column: what it is
    :param function: HogQL's function that gives it
    :param properties: the properties that the function is given
    """

    column: Column
    function: str
    properties: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: its fields in PostHog's order, and those that ``*`` leaves out."""

    name: str
    fields: Mapping[str, Column | Link | Through | ExpressionField]
    hidden: frozenset[str] = frozenset({"team_id"})

    def star(self) -> list[str]:
        """List the columns that ``*`` stands for."""
        return [name for name, kind in self.fields.items() if isinstance(kind, Column) and name not in self.hidden]


def is_virtual(name: str, key: object = None) -> bool:
    """Return whether what is written as a property may be a column that PostHog works out.

    People know these columns as properties, and write them so.

    :param name: the field
    :param key: what is read of it
    """
    return name == "properties" and isinstance(key, str) and key.startswith("$virt_")
