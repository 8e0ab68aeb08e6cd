"""Expand ``*``, ``* EXCLUDE (...)`` and ``COLUMNS(...)`` to columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from airflow_provider_posthog.emulator.hogql.ast import Alias, Columns, Field, Node
from airflow_provider_posthog.emulator.hogql.errors import HogQLError


class Source(Protocol):
    """A table or sub-query of a FROM clause."""

    alias: str

    def star(self) -> list[str]:
        """List the columns that ``*`` stands for."""
        ...


def expanded(item: Node, sources: Sequence[Source]) -> list[Node]:
    """Return the columns of an entry of a SELECT's list.

    :param item: the column
    :param sources: the tables of the SELECT
    :raises HogQLError: if it stands for none, or for those of several tables
    """
    if isinstance(item, Columns):
        return _columns(item, sources)
    if not isinstance(item, Field) or item.chain[-1] != "*":
        return [item]
    if len(item.chain) > 1:
        sources = [source for source in sources if source.alias == item.chain[0]]
    if not sources:
        raise HogQLError("Cannot use '*' when there are no tables in the query")
    if len(sources) > 1:
        raise HogQLError("Cannot use '*' without table name when there are multiple tables in the query")
    return [Field([*item.chain[:-1], name]) for name in sources[0].star()]


def _columns(item: Columns, sources: Sequence[Source]) -> list[Node]:
    if item.spread:
        raise HogQLError("*COLUMNS(...) is not valid as a top-level SELECT item. Use COLUMNS(...) instead.")
    if item.names is not None:
        return [column for name in item.names for column in expanded(name, sources)]
    names = [(source.alias, name) for source in sources for name in source.star()]
    if item.regex is not None:
        return _matching(item.regex, [name for _, name in names])
    for excluded in item.exclude:
        names = _without(excluded, names, sources)
    if missing := [name for name in item.replace if name not in {column for _, column in names}]:
        raise HogQLError(f'Column "{missing[0]}" in REPLACE list was not found in {_label(sources)}')
    if not names:
        raise HogQLError("No columns matched the EXCLUDE list")
    return [Alias(item.replace[name], name) if name in item.replace else Field([name]) for _, name in names]


def _matching(regex: str, names: list[str]) -> list[Node]:
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise HogQLError(f"COLUMNS() has an invalid regex pattern: {error}") from None
    fields: list[Node] = [Field([name]) for name in names if pattern.search(name)]
    if not fields:
        raise HogQLError(f"No columns matched the COLUMNS('{regex}') expression")
    return fields


def _without(excluded: str, names: list[tuple[str, str]], sources: Sequence[Source]) -> list[tuple[str, str]]:
    table, _, column = excluded.rpartition(".")
    kept = [(alias, name) for alias, name in names if name != column or (table and alias != table)]
    if len(kept) == len(names):
        raise HogQLError(f'Column "{column}" in EXCLUDE list was not found in {table or _label(sources)}')
    return kept


def _label(sources: Sequence[Source]) -> str:
    return sources[0].alias if len(sources) == 1 and sources[0].alias else "the selected tables"
