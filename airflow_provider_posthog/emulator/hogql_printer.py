"""A resolved query -> text, in PostHog's layout: the part that HogQL and ClickHouse SQL share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from airflow_provider_posthog.emulator.hogql_ast import (
    Alias,
    Call,
    Compare,
    Constant,
    Field,
    Frame,
    Index,
    Join,
    Lambda,
    Logic,
    Node,
    Order,
    Select,
    SelectSet,
    Sequence,
    Window,
    WindowCall,
)
from airflow_provider_posthog.emulator.hogql_errors import HogQLError
from airflow_provider_posthog.emulator.hogql_functions import find

_FOLDED: dict[str, Callable[[object, object], bool]] = {
    "equals": lambda left, right: left == right,
    "notEquals": lambda left, right: left != right,
}


class Printer(ABC):
    """Writes expressions and statements; the sub-classes write what differs.

    :param newer: whether the functions of newer servers are known
    """

    clickhouse = False

    def __init__(self, *, newer: bool) -> None:
        self.newer = newer
        self.depth = 0
        self.aggregations: list[str] = []

    # -- what differs --------------------------------------------------------------------------------------------

    @abstractmethod
    def constant(self, value: object) -> str:
        """Write a constant.

        :param value: None, bool, int, float, text or a list of those
        """

    @abstractmethod
    def name(self, text: str) -> str:
        """Write a name, quoted where it must be.

        :param text: the name
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
        return self._structure(node)

    def _structure(self, node: Node) -> str:
        if isinstance(node, Logic):
            return f"{node.op}({self._list(node.args)})"
        if isinstance(node, Alias):
            inside = self.print(node.expr)
            return f"{f'({inside})' if isinstance(node.expr, Alias) else inside} AS {self.name(node.name)}"
        if isinstance(node, Sequence):
            return f"tuple({self._list(node.items)})" if node.op == "tuple" else f"[{self._list(node.items)}]"
        if isinstance(node, Index):
            return self._index(node)
        if isinstance(node, WindowCall):
            over = self.name(node.over) if isinstance(node.over, str) else f"({self.window(node.over)})"
            return f"{self.print(node.call)} OVER {over}"
        if isinstance(node, Lambda):
            names = [self.name(argument) for argument in node.args]
            arguments = names[0] if len(names) == 1 else f"({', '.join(names)})"
            return f"{arguments} -> {self.print(node.body)}"
        raise HogQLError(f"Unknown AST node {type(node).__name__}")

    def _index(self, node: Index) -> str:
        value = self.print(node.value)
        if node.op == "tuple":
            return f"{value if isinstance(node.value, Field) else f'({value})'}.{self.print(node.index)}"
        return f"{value}[{self.print(node.index)}]"

    def _list(self, nodes: list[Node]) -> str:
        return ", ".join(self.print(node) for node in nodes)

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
        params = f"({self._list(node.params)})" if node.params is not None else ""
        return f"{name}{params}({'DISTINCT ' if node.distinct else ''}{', '.join(args)})"

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

    def window(self, window: Window) -> str:
        """Write a window.

        :param window: what stands in the parentheses after OVER
        """
        parts = []
        if window.partition_by:
            parts.append(f"PARTITION BY {self._list(window.partition_by)}")
        if window.order_by:
            parts.append("ORDER BY " + ", ".join(self._order(order) for order in window.order_by))
        if isinstance(window.frame, Frame):
            frame = window.frame
            bounds = frame.start if frame.end is None else f"BETWEEN {frame.start} AND {frame.end}"
            parts.append(f"{frame.method} {bounds}")
        return " ".join(parts)

    def _order(self, order: Order) -> str:
        return f"{self.print(order.expr)} {'DESC' if order.descending else 'ASC'}"

    # -- statements ----------------------------------------------------------------------------------------------

    def _indent(self, extra: int = 0) -> str:
        return "    " * (self.depth + extra)

    def _sub_query(self, node: Select | SelectSet) -> str:
        outside, self.aggregations = self.aggregations, []
        self.depth += 1
        try:
            return f"({self.statement(node)})"
        finally:
            self.depth -= 1
            self.aggregations = outside

    def statement(self, node: Select | SelectSet) -> str:
        """Write a query without parentheses around it.

        :param node: the query, resolved
        """
        if isinstance(node, SelectSet):
            joint = f"\n{self._indent()}UNION ALL\n{self._indent()}"
            return joint.join(
                self._sub_query(member) if isinstance(member, SelectSet) else self.statement(member)
                for member in node.members
            )
        return f"\n{self._indent()}".join(clause for clause in self._clauses(node) if clause)

    def _clauses(self, node: Select) -> list[str]:
        source = [self._join(join) for join in node.source]
        where = self.where(node)
        return [
            self._block(f"SELECT{' DISTINCT' if node.distinct else ''}", self.columns(node)),
            self._block("FROM", source, joint=""),
            self._block(node.array_join_kind, [self.print(item) for item in node.array_join]),
            self._block("PREWHERE", [self.print(node.prewhere)] if node.prewhere else []),
            self._block("WHERE", [self.print(where)] if where else []),
            self._block("GROUP BY", [self.print(item) for item in node.group_by]),
            self._block("HAVING", [self.print(node.having)] if node.having else []),
            self._block("WINDOW", [f"{self.name(key)} AS ({self.window(item)})" for key, item in node.windows.items()]),
            self._block("ORDER BY", [self._order(order) for order in node.order_by]),
            f"LIMIT {self.print(node.limit)}" if node.limit else "",
            "WITH TIES" if node.with_ties else "",
            f"OFFSET {self.print(node.offset)}" if node.offset else "",
            f"BY {self._list(node.limit_by)}" if node.limit_by else "",
        ]

    def _block(self, word: str, items: list[str], joint: str = ",") -> str:
        if not items:
            return ""
        indent = f"\n{self._indent(1)}"
        return word + indent + (joint + indent).join(items)

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
        """Write FINAL and SAMPLE, with a space before them; empty if there is neither.

        :param join: the join
        """
        text = " FINAL" if join.final else ""
        if join.sample is not None:
            ratio, offset = join.sample
            text += f" SAMPLE {ratio}" + (f" OFFSET {offset}" if offset else "")
        return text
