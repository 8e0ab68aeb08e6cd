"""What PostHog's grammar reads and its printer for ClickHouse then refuses, with PostHog's own words."""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.ast import (
    Apply,
    Call,
    Cast,
    Constant,
    Cte,
    Join,
    Lambda,
    Limits,
    Node,
    Pivot,
    Select,
    SelectSet,
    Values,
)
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.placeholders import walk

_NOT_HERE = "{} is not supported in the 'clickhouse' dialect"


def refuse(tree: Node) -> None:
    """Refuse a query that ClickHouse is never asked.

    :param tree: the query, its placeholders filled
    :raises HogQLError: 400 for what PostHog tells of, 500 for what fails inside of it
    """
    for part in walk(tree):
        if isinstance(part, Cte):
            _cte(part)
        elif isinstance(part, SelectSet):
            _set(part)
        elif isinstance(part, Limits):
            _limits(part)
        else:
            _rest(part)


def _rest(part: object) -> None:
    if isinstance(part, Select) and part.qualify is not None:
        raise HogQLError(_NOT_HERE.format("QUALIFY"))
    if isinstance(part, Join):
        _join(part)
    if isinstance(part, Apply):
        raise HogQLError("You can only call simple functions in HogQL, not expressions")
    if isinstance(part, Cast) and part.attempt:
        raise HogQLError("TRY_CAST is not allowed in clickhouse dialect")
    if isinstance(part, Call) and part.within_group:
        raise HogQLError(f"Aggregation '{part.name}' with WITHIN GROUP is not supported in ClickHouse dialect")
    if isinstance(part, Lambda) and not part.args:
        raise _internal("Lambdas require at least one argument")


def _join(join: Join) -> None:
    if join.final:
        raise HogQLError("The FINAL keyword is not supported in HogQL as it causes slow queries")
    if isinstance(join.table, Values):
        raise HogQLError("VALUES clause is not supported in ClickHouse dialect")
    if isinstance(join.table, Pivot):
        raise HogQLError(f"{join.table.word} is not allowed in clickhouse dialect")
    if not isinstance(join.table, (list, Select, SelectSet)):
        kind = "HogQLXTag" if not isinstance(join.table, Constant) else "Constant"
        raise HogQLError(f"JoinExpr with table of type {kind} not supported")


def _cte(cte: Cte) -> None:
    if cte.recursive:
        raise _internal("Recursive CTEs are only supported in PostgreSQL dialect")
    if cte.materialized is not None:
        raise _internal("CTE materialization hints are not supported in the 'clickhouse' dialect")
    if cte.names:
        raise _internal("CTE column name lists are not supported in this dialect")


def _set(node: SelectSet) -> None:
    for operator in node.operators:
        if operator in ("INTERSECT ALL", "EXCEPT ALL") or operator.endswith("BY NAME"):
            raise _internal(_NOT_HERE.format(operator))
    if not all(isinstance(member, (Select, SelectSet)) for member in node.members):
        raise HogQLError("Only SELECT queries can be put together")


def _limits(limits: Limits) -> None:
    if not limits.percent:
        return
    if not isinstance(limits.limit, Constant) or not isinstance(limits.limit.value, (int, float)):
        raise HogQLError("LIMIT percent with expressions is not supported in clickhouse dialect")
    if not 0 <= limits.limit.value <= 100:
        raise HogQLError("Limit percent must be between 0 and 100")


def _internal(detail: str) -> HogQLError:
    """Make the error of what PostHog does not catch: it answers 500."""
    return HogQLError(detail, code="error", status=500)
