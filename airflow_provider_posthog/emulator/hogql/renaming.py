"""Columns under other names: ``AS t(a, b)``."""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.ast import Alias, Field, Join, Node, Select, SelectSet
from airflow_provider_posthog.emulator.hogql.errors import HogQLError


def rename(join: Join, columns: list[str]) -> None:
    """Put ``AS t(a, b)`` into the query, or into one around the table.

    :param join: the table
    :param columns: its columns, if it is not a query
    """
    names = join.names
    if isinstance(join.table, list):
        if len(names) > len(columns):
            raise HogQLError(
                f"Table has {len(columns)} column(s) available for aliasing but {len(names)} alias(es) were provided"
            )
        renamed: list[Node] = [Alias(Field([old]), new) for old, new in zip(columns, names, strict=False)]
        rest: list[Node] = [Field([name]) for name in columns[len(names) :] if name not in names]
        join.table, join.args = Select([*renamed, *rest], source=[Join(join.table, args=join.args)]), None
    else:
        query = first_select(join.table)
        if len(names) != len(query.columns):
            raise HogQLError(
                f"Subquery has {len(query.columns)} column(s) but {len(names)} column name(s) were provided"
            )
        query.columns = [Alias(column, name) for column, name in zip(query.columns, names, strict=True)]
    join.names = []


def first_select(node: Node) -> Select:
    """Give the first of SELECTs that are put together: it names the columns.

    :param node: the query
    """
    while isinstance(node, SelectSet):
        node = node.members[0]
    if not isinstance(node, Select):
        raise HogQLError("Only SELECT queries can be put together")
    return node
