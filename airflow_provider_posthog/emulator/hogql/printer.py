"""A resolved query -> text, in PostHog's layout: the part that HogQL and ClickHouse SQL share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from airflow_provider_posthog.emulator.hogql.ast import (
    Alias,
    Between,
    Call,
    Cast,
    Compare,
    Constant,
    Distinct,
    Field,
    Index,
    Join,
    Lambda,
    Logic,
    Node,
    Select,
    SelectSet,
    Sequence,
    Slice,
    Window,
    WindowCall,
)
from airflow_provider_posthog.emulator.hogql.clauses import FRAMED, ClausePrinter, whole
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.hogql.functions import find

_FOLDED: dict[str, Callable[[object, object], bool]] = {
    "equals": lambda left, right: left == right,
    "notEquals": lambda left, right: left != right,
}


class Printer(ClausePrinter, ABC):
    """Writes expressions and statements; the sub-classes write what differs.

    :param newer: whether the functions of newer servers are known
    """

    clickhouse = False

    def __init__(self, *, newer: bool) -> None:
        super().__init__()
        self.newer = newer
        self.aggregations: list[str] = []
        self.windows: dict[str, Window] = {}

    # -- what differs --------------------------------------------------------------------------------------------

    @abstractmethod
    def constant(self, value: object) -> str:
        """Write a constant.

        :param value: None, bool, int, float, text or a list of those
        """

    @abstractmethod
    def field(self, node: Field) -> str:
        """Write a field.

        :param node: the field, resolved
        """

    @abstractmethod
    def call(self, node: Call) -> str:
        """Write a function call.

        :param node: the call, of a function that exists with that many arguments
        """

    @abstractmethod
    def comparison(self, node: Compare, text: str, left: str, right: str) -> str:
        """Write a comparison.

        :param node: the comparison
        :param text: its plain form
        :param left: its written left side
        :param right: its written right side
        """

    @abstractmethod
    def between(self, node: Between, text: str) -> str:
        """Write ``a BETWEEN low AND high``.

        :param node: the condition
        :param text: its plain form
        """

    @abstractmethod
    def cast(self, node: Cast) -> str:
        """Write ``CAST(a AS type)``.

        :param node: the cast
        """

    @abstractmethod
    def slice(self, node: Slice) -> str:
        """Write ``a[1:2]``.

        :param node: the slice
        """

    @abstractmethod
    def columns(self, node: Select) -> list[str]:
        """Write the columns of a SELECT.

        :param node: the SELECT, resolved
        """

    @abstractmethod
    def where(self, node: Select) -> Node | None:
        """Give the condition of a SELECT.

        :param node: the SELECT, resolved
        """

    @abstractmethod
    def table(self, join: Join) -> str:
        """Write a table of a FROM clause, with its alias and what it brings in.

        :param join: the table and how it is joined
        """

    # -- expressions ---------------------------------------------------------------------------------------------

    def print(self, node: Node) -> str:
        """Write any node.

        :param node: an expression or a query, resolved
        :raises HogQLError: for a function HogQL does not have, or has with other arguments
        """
        if isinstance(node, (Select, SelectSet)):
            return self._sub_query(node)
        if isinstance(node, Constant):
            return self.constant(node.value)
        if isinstance(node, Field):
            return self.field(node) if node.expansion is None else self.print(node.expansion)
        if isinstance(node, Call):
            return self._checked_call(node)
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, Cast):
            return self.cast(node)
        return self._structure(node)

    def _infix(self, node: Node) -> str | None:
        if isinstance(node, Between):
            word = "NOT BETWEEN" if node.negated else "BETWEEN"
            text = f"{self._operand(node.expr)} {word} {self._operand(node.low)} AND {self._operand(node.high)}"
            return self.between(node, text)
        if isinstance(node, Distinct):
            word = "IS NOT DISTINCT FROM" if node.negated else "IS DISTINCT FROM"
            return f"{self._operand(node.left)} {word} {self._operand(node.right)}"
        return self.slice(node) if isinstance(node, Slice) else None

    def _operand(self, node: Node) -> str:
        text = self.print(node)
        return f"({text})" if isinstance(node, (Alias, Between, Distinct, Lambda)) else text

    def _structure(self, node: Node) -> str:
        written = self._infix(node)
        if written is not None:
            return written
        if isinstance(node, Logic):
            return f"{node.op}({self.listed(node.args)})"
        if isinstance(node, Alias):
            inside = self.print(node.expr)
            return f"{f'({inside})' if isinstance(node.expr, Alias) else inside} AS {self.name(node.name)}"
        if isinstance(node, Sequence):
            return f"tuple({self.listed(node.items)})" if node.op == "tuple" else f"[{self.listed(node.items)}]"
        if isinstance(node, Index):
            return self._index(node)
        if isinstance(node, WindowCall):
            return self._window_call(node)
        if isinstance(node, Lambda):
            names = [self.name(argument) for argument in node.args]
            arguments = names[0] if len(names) == 1 else f"({', '.join(names)})"
            return f"{arguments} -> {self.print(node.body)}"
        raise HogQLError(f"Unknown AST node {type(node).__name__}")

    def _index(self, node: Index) -> str:
        value = self.print(node.value)
        if node.op == "member":
            return value
        if node.op == "tuple":
            return f"{value if isinstance(node.value, Field) else f'({value})'}.{self.print(node.index)}"
        return f"{value}[{self.print(node.index)}]"

    def _window_call(self, node: WindowCall) -> str:
        """Write a function with OVER.

        PostHog looks its name up nowhere, and an aggregation may stand inside of it. ``lag`` and ``lead`` are those of
        other databases: of the whole window, and null where there is no row.
        """
        call, over = node.call, node.over
        if not self.newer:
            text = self.print(call)
        elif call.name in FRAMED and call.args:
            over = whole(over, self.windows)
            args = [f"toNullable({self.print(call.args[0])})", *map(self.print, call.args[1:])]
            text = self.call_text(FRAMED[call.name], call, args)
        else:
            text = self.call_text(self.name(call.name), call, [self.print(argument) for argument in call.args])
        return f"{text} OVER " + (self.name(over) if isinstance(over, str) else f"({self.window(over)})")

    def _checked_call(self, node: Call) -> str:
        function = find(node.name, newer=self.newer)
        function.check(len(node.args))
        if function.kind != "aggregation":
            return self.call(node)
        if self.aggregations:
            raise HogQLError(
                f"Aggregation '{node.name}' cannot be nested inside another aggregation '{self.aggregations[-1]}'."
            )
        self.aggregations.append(node.name)
        try:
            return self.call(node)
        finally:
            self.aggregations.pop()

    def call_text(self, name: str, node: Call, args: list[str]) -> str:
        """Write a call from its written arguments.

        :param name: the function's name
        :param node: the call, for its parameters and its DISTINCT
        :param args: the arguments
        """
        params = f"({self.listed(node.params)})" if node.params is not None else ""
        order = f" ORDER BY {', '.join(map(self.order, node.order_by))}" if node.order_by else ""
        text = f"{name}{params}({'DISTINCT ' if node.distinct else ''}{', '.join(args)}{order})"
        return text if node.filter is None else f"{text} FILTER (WHERE {self.print(node.filter)})"

    def _compare(self, node: Compare) -> str:
        if isinstance(node.left, Constant) and isinstance(node.right, Constant) and node.op in _FOLDED:
            return "1" if _FOLDED[node.op](node.left.value, node.right.value) else "0"
        left, right = self.print(node.left), self.print(node.right)
        pattern = f"concat('(?i)', {right})" if node.op in ("imatch", "notIMatch") else right
        if node.op in ("match", "imatch"):
            text = f"match({left}, {pattern})"
        elif node.op in ("notMatch", "notIMatch"):
            text = f"not(match({left}, {pattern}))"
        else:
            text = f"{node.op}({left}, {right})"
        return self.comparison(node, text, left, right)

    # -- statements ----------------------------------------------------------------------------------------------

    def _sub_query(self, node: Node) -> str:
        outside, self.aggregations = self.aggregations, []
        self.depth += 1
        try:
            return f"({self.statement(node)})"
        finally:
            self.depth -= 1
            self.aggregations = outside

    def statement(self, node: Node) -> str:
        """Write a query without parentheses around it.

        :param node: the query, resolved
        """
        joint = f"\n{self.indent()}"
        if isinstance(node, SelectSet):
            limits = [clause for clause in self.limits(node.limits) if clause]
            return joint.join([self.limited(self._members(node)) if limits else self._members(node), *limits])
        if not isinstance(node, Select):
            raise HogQLError(f"Unknown AST node {type(node).__name__}")
        return joint.join(clause for clause in self._clauses(node) if clause)

    def limited(self, members: str) -> str:
        """Write several SELECTs so that a LIMIT of the whole may follow.

        :param members: what is written of them
        """
        return members

    def _members(self, node: SelectSet) -> str:
        # in parentheses where the LIMIT of the whole would be that of the last one
        bracketed = any(self.limits(node.limits)) and not self.clickhouse
        written = [
            self._sub_query(member) if bracketed or isinstance(member, SelectSet) else self.statement(member)
            for member in node.members
        ]
        text = written[0]
        for operator, member in zip(node.operators, written[1:], strict=True):
            text += f"\n{self.indent()}{operator}\n{self.indent()}{member}"
        return text

    def _clauses(self, node: Select) -> list[str]:
        outside, self.windows = self.windows, node.windows
        try:
            return self._written(node)
        finally:
            self.windows = outside

    def _written(self, node: Select) -> list[str]:
        source = [self._join(join) for join in node.source]
        where = self.where(node)
        return [
            self.block(f"SELECT{' DISTINCT' if node.distinct else ''}", self.columns(node)),
            self.block("FROM", source, joint=""),
            self.block(node.array_join_kind, [self.print(item) for item in node.array_join]),
            self.block("PREWHERE", [self.print(node.prewhere)] if node.prewhere else []),
            self.block("WHERE", [self.print(where)] if where else []),
            self.group_by(node),
            self.block("HAVING", [self.print(node.having)] if node.having else []),
            self.block("WINDOW", [f"{self.name(key)} AS ({self.window(item)})" for key, item in node.windows.items()]),
            self.block("ORDER BY", [self.order(order) for order in node.order_by]),
            self.interpolate(node),
            self.limit_by(node),
            *self.limits(node.limits),
        ]

    def _join(self, join: Join) -> str:
        self.depth += 1
        try:
            text = f"{join.kind} {self.table(join)}".lstrip()
        finally:
            self.depth -= 1
        return text

    def constraint(self, join: Join) -> str:
        """Write the ON or USING of a join, with a space before it; empty if there is none.

        :param join: the join
        """
        if join.constraint is not None:
            return f" ON {self.print(join.constraint)}"
        if join.using is not None:
            return (
                f" USING {', '.join(self.name('.'.join(item.chain)) for item in join.using if isinstance(item, Field))}"
            )
        return ""

    def sample(self, join: Join) -> str:
        """Write SAMPLE, with a space before it; empty if there is none.

        :param join: the join
        """
        text = ""
        if join.sample is not None:
            ratio, offset = map(self._ratio, join.sample)
            text += f" SAMPLE {ratio}" + (f" OFFSET {offset}" if offset else "")
        return text

    def _ratio(self, value: str | Node | None) -> str:
        return self.print(value) if isinstance(value, Node) else value or ""
