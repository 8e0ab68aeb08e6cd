"""HogQL text -> ClickHouse SQL, with the limits and refusals of PostHog's ``/query/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow_provider_posthog.emulator.hogql_ast import Call, Constant, Select, SelectSet
from airflow_provider_posthog.emulator.hogql_clickhouse import ClickHousePrinter, Floor
from airflow_provider_posthog.emulator.hogql_echo import EchoPrinter
from airflow_provider_posthog.emulator.hogql_errors import HogQLError
from airflow_provider_posthog.emulator.hogql_resolver import Resolver, constant_int, output_name
from airflow_provider_posthog.emulator.hogql_select import parse

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


@dataclass(frozen=True)
class Compiled:
    """A query ready to run.

    ``sql`` is what runs, ``clickhouse`` and ``hogql`` what PostHog shows; ``page`` is the number of rows of a page if
    the query has no LIMIT of its own (one row more is asked for, to see whether there are more), else None.
    """

    sql: str
    clickhouse: str
    hogql: str
    columns: list[str]
    type_names: list[str]
    page: int | None


@dataclass(frozen=True)
class Rules:
    """What holds for a query besides its text.

    :param zone: the project's IANA time zone
    :param database: the ClickHouse database of the project's tables
    :param newer: accept what servers of 2025 and later accept
    :param export: the limits of exports instead of those of ``/query/``
    :param personal_api_key: refuse OFFSET, as PostHog does since 2026
    :param floor: what hides old events, if anything does
    :param without: tables that the server does not have
    """

    zone: str
    database: str
    newer: bool = True
    export: bool = False
    personal_api_key: bool = True
    floor: Floor | None = None
    without: frozenset[str] = frozenset()


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
    tree, has_offset = parse(text, values, newer=rules.newer)
    if has_offset and rules.personal_api_key:
        raise HogQLError(_OFFSET_REFUSED)
    page = _limit(tree, export=rules.export)
    Resolver(rules.without).query(tree)
    echo = EchoPrinter(newer=rules.newer)
    run = ClickHousePrinter(rules.database, rules.zone, newer=rules.newer, floor=rules.floor)
    shown = ClickHousePrinter("", rules.zone, newer=rules.newer, floor=rules.floor)
    bare = ClickHousePrinter("", rules.zone, newer=rules.newer, qualified=False)
    first = _first(tree)
    return Compiled(
        sql=run.statement(tree),
        clickhouse=f"{shown.statement(tree)} SETTINGS {_SETTINGS}",
        hogql=echo.statement(tree),
        columns=[echo.column_name(column) for column in first.columns],
        type_names=[output_name(column) or bare.print(column) for column in first.columns],
        page=page,
    )


def _first(tree: Select | SelectSet) -> Select:
    return tree if isinstance(tree, Select) else _first(tree.members[0])


def _limit(tree: Select | SelectSet, *, export: bool) -> int | None:
    """Put PostHog's limits on the outermost SELECTs; tells the page size if the query said nothing."""
    default, most = (MAX_ROWS, MAX_EXPORT_ROWS) if export else (DEFAULT_ROWS, MAX_ROWS)
    if isinstance(tree, Select) and tree.limit is None:
        tree.limit, tree.offset = Constant(default + 1), Constant(0)
        return default
    for member in [tree] if isinstance(tree, Select) else tree.members:
        if isinstance(member, SelectSet):
            _limit(member, export=export)
        elif member.limit is None:
            member.limit = Constant(default)
        elif constant_int(member.limit) is not None:
            member.limit = Constant(min(constant_int(member.limit) or 0, most))
        else:
            member.limit = Call("min2", [Constant(most), member.limit])
    return None
