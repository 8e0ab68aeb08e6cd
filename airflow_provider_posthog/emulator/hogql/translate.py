"""HogQL text -> ClickHouse SQL, with the limits and refusals of PostHog's ``/query/``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_posthog.emulator.hogql.ast import Call, Constant, Field, Join, LazyTable, Node, Select, SelectSet
from airflow_provider_posthog.emulator.hogql.catalog import Catalog
from airflow_provider_posthog.emulator.hogql.clickhouse import ClickHousePrinter, Floor, Guards
from airflow_provider_posthog.emulator.hogql.echo import EchoPrinter
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.placeholders import Filler, has_offset, walk
from airflow_provider_posthog.emulator.hogql.refusals import refuse
from airflow_provider_posthog.emulator.hogql.renaming import first_select
from airflow_provider_posthog.emulator.hogql.resolver import Resolver, output_name
from airflow_provider_posthog.emulator.hogql.schema import tables
from airflow_provider_posthog.emulator.hogql.schema_types import Table
from airflow_provider_posthog.emulator.hogql.select import SelectParser
from airflow_provider_posthog.emulator.hogql.sessions import FIRST_SOURCES
from airflow_provider_posthog.emulator.hogql.system import system_tables

__all__ = ["Compiled", "Floor", "Rules", "translate"]

DEFAULT_ROWS = 100
MAX_ROWS = 50_000
MAX_EXPORT_ROWS = 300_000
_OFFSET_REFUSED = (
    "OFFSET is not supported on queries made with a personal API key. "
    "For pagination, use keyset pagination on the `timestamp` column, e.g. "
    "`WHERE timestamp > :last_seen_timestamp ORDER BY timestamp LIMIT N`. "
    "For bulk data extraction, use batch exports: https://posthog.com/docs/cdp/batch-exports"
)
_SETTINGS = (
    "readonly=2, max_execution_time=60, allow_experimental_object_type=1, format_csv_allow_double_quotes=0, "
    "max_ast_elements=4000000, max_expanded_ast_elements=4000000, max_bytes_before_external_group_by=0"
)

# newer servers: NULL is in `(NULL, 1)`, and not in `(1)`
_NULL_IN = "\nSETTINGS transform_null_in=1"


@dataclass(frozen=True)
class Compiled:
    """A query ready to run.

    ``sql`` is what runs, ``clickhouse`` and ``hogql`` what PostHog shows; ``page`` is the number of rows of a page if
    the query has no LIMIT of its own (one row more is asked for, to see whether there are more), else None. ``system``
    are the tables of the server's own state that it reads.
    """

    sql: str
    clickhouse: str
    hogql: str
    columns: list[str]
    type_names: list[str]
    page: int | None
    system: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rules:
    """What holds for a query besides its text.

    :param zone: the project's IANA time zone
    :param database: the ClickHouse database of the project's tables
    :param newer: accept what servers of 2025 and later accept
    :param export: the limits of exports instead of those of ``/query/``
    :param personal_api_key: refuse OFFSET, as PostHog does since 2026
    :param floor: what hides old events, if anything does
    :param without: tables, and columns as ``table.column``, that the server does not have
    :param catalog: what the project has of its own
    :param team: the project's id
    """

    zone: str
    database: str
    newer: bool = True
    export: bool = False
    personal_api_key: bool = True
    floor: Floor | None = None
    without: frozenset[str] = frozenset()
    catalog: Catalog = field(default_factory=Catalog)
    team: int = 1


def translate(text: str, values: Mapping[str, object], rules: Rules) -> Compiled:
    """Translate a HogQL query.

    :param text: the HogQL
    :param values: what its ``{placeholders}`` stand for
    :param rules: what else holds
    :raises HogQLError: for what PostHog refuses before ClickHouse sees it
    """
    try:
        return _translate(text, values, rules)
    except RecursionError:
        raise HogQLError("This query is too deeply nested to be read. Use fewer levels of parentheses.") from None


def _translate(text: str, values: Mapping[str, object], rules: Rules) -> Compiled:
    tree = Filler(values, rules.catalog).fill(SelectParser(text, newer=rules.newer).query())
    refuse(tree)
    if rules.newer and rules.personal_api_key and has_offset(tree):
        raise HogQLError(_OFFSET_REFUSED)
    page = _limit(tree, rules)
    echo = EchoPrinter(newer=rules.newer)
    name_of = (lambda column: echo.print(column).replace("%", "")) if rules.newer else None
    Resolver(_tables_of(rules), name_of, rules.catalog.views).query(tree)
    ours = Guards(rules.team, rules.floor)
    how: dict[str, Any] = {"newer": rules.newer, "guards": ours, "name_of": name_of}
    run = ClickHousePrinter(rules.database, rules.zone, with_sources=_with_sources(tree), **how)
    shown = ClickHousePrinter("", rules.zone, **how)
    bare = ClickHousePrinter("", rules.zone, newer=rules.newer, qualified=False)
    first = first_select(tree)
    return Compiled(
        sql=run.statement(tree) + (_NULL_IN if rules.newer else ""),
        clickhouse=f"{shown.statement(tree)} SETTINGS {_SETTINGS}",
        hogql=echo.statement(tree),
        columns=[echo.column_name(column) for column in first.columns],
        type_names=[output_name(column) or bare.print(column) for column in first.columns],
        page=page,
        system=frozenset(_tables(tree)) & system_tables().keys(),
    )


def _tables_of(rules: Rules) -> dict[str, Table]:
    there = {**tables(newer=rules.newer), **rules.catalog.tables}
    return {name: _known_of(table, rules) for name, table in there.items() if name not in rules.without}


def _known_of(table: Table, rules: Rules) -> Table:
    fields = {name: kind for name, kind in table.fields.items() if f"{table.name}.{name}" not in rules.without}
    return table if len(fields) == len(table.fields) else replace(table, fields=fields)


def _tables(tree: Node) -> Iterator[str]:
    for part in walk(tree):
        if isinstance(part, LazyTable):
            yield part.table
        if isinstance(part, Join) and isinstance(part.table, list):
            yield ".".join(part.table)


def _with_sources(tree: Node) -> frozenset[str]:
    refs = (part.ref for part in walk(tree) if isinstance(part, Field) and part.ref is not None)
    return frozenset(ref.table for ref in refs if ref.name in FIRST_SOURCES)


def _limit(tree: Node, rules: Rules) -> int | None:
    """Put PostHog's limits on the outermost SELECTs; return the page size if the query has none."""
    default, most = (MAX_ROWS, MAX_EXPORT_ROWS) if rules.export else (DEFAULT_ROWS, MAX_ROWS)
    if isinstance(tree, SelectSet):
        for member in tree.members:
            _cap(member, default, most, newer=rules.newer)
        return None
    if not isinstance(tree, Select):
        raise HogQLError("Only SELECT queries are supported")
    # for older servers, LIMIT BY is a LIMIT
    if tree.limits.limit is None and (rules.newer or tree.limit_by is None):
        tree.limits.limit, tree.limits.offset = Constant(default + 1), tree.limits.offset or Constant(0)
        return default
    _cap(tree, default, most, newer=rules.newer)
    return None


def _cap(node: Node, default: int, most: int, *, newer: bool) -> None:
    """Limit a SELECT, or each of several: those with a LIMIT to the most rows, those without to the page."""
    if isinstance(node, SelectSet):
        for member in node.members:
            _cap(member, default, most, newer=newer)
        return
    if not isinstance(node, Select) or node.limits.percent:
        return
    limits, by = node.limits, node.limit_by
    if not newer and by is not None:
        by.count = Constant(min(_whole(by.count) or 0, most))
    elif limits.limit is None:
        limits.limit = Constant(default)
    elif _whole(limits.limit) is not None:
        limits.limit = Constant(min(_whole(limits.limit) or 0, most))
    else:
        limits.limit = Call("min2", [Constant(most), limits.limit])


def _whole(node: Node | None) -> int | None:
    """Return the number of a LIMIT, None if it is an expression."""
    if isinstance(node, Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    return None
