"""The clauses of a SELECT -> text: groups, windows, orders and limits."""

from __future__ import annotations

from abc import ABC, abstractmethod

from airflow_provider_posthog.emulator.hogql.ast import Bound, Constant, Frame, Limits, Node, Order, Select, Window

#: Functions of windows that ClickHouse has under other names, and for frames.
FRAMED = {"lag": "lagInFrame", "lead": "leadInFrame"}


def whole(over: Window | str, windows: dict[str, Window]) -> Window | str:
    """Return the window of a function that looks at all of it: its frame, where it has none, reaches to both ends.

    :param over: the window, or its name.
    :param windows: those that have names.
    """
    window = windows.get(over) if isinstance(over, str) else over
    if window is None or (window is over and (window.frame or not window.order_by)):
        return over
    written = window.frame or Frame("ROWS", Bound("PRECEDING"))
    frame = Frame(written.method, written.start, written.end or Bound("FOLLOWING"))
    return Window(window.partition_by, window.order_by, frame)


class ClausePrinter(ABC):
    """Writes what follows the FROM of a SELECT."""

    def __init__(self) -> None:
        self.depth = 0

    @abstractmethod
    def print(self, node: Node) -> str:
        """Write any node.

        :param node: an expression or a query, resolved
        """

    @abstractmethod
    def name(self, text: str) -> str:
        """Write a name, quoted where it must be.

        :param text: the name
        """

    def listed(self, nodes: list[Node]) -> str:
        """Write expressions with commas between.

        :param nodes: the expressions
        """
        return ", ".join(self.print(node) for node in nodes)

    def window(self, window: Window) -> str:
        """Write a window.

        :param window: what stands in the parentheses after OVER
        """
        parts = []
        if window.partition_by:
            parts.append(f"PARTITION BY {self.listed(window.partition_by)}")
        if window.order_by:
            parts.append("ORDER BY " + ", ".join(self.order(order) for order in window.order_by))
        if isinstance(window.frame, Frame):
            frame = window.frame
            bounds = self._bound(frame.start)
            bounds = bounds if frame.end is None else f"BETWEEN {bounds} AND {self._bound(frame.end)}"
            parts.append(f"{frame.method} {bounds}")
        return " ".join(parts)

    def _bound(self, bound: Bound) -> str:
        if bound.kind == "CURRENT ROW":
            return bound.kind
        return f"{'UNBOUNDED' if bound.size is None else self.print(bound.size)} {bound.kind}"

    def order(self, order: Order) -> str:
        """Write one entry of an ORDER BY.

        :param order: the entry
        """
        text = f"{self.print(order.expr)} {'DESC' if order.descending else 'ASC'}"
        fill = order.fill
        if fill is None:
            return text
        steps = (("FROM", fill.low), ("TO", fill.high), ("STEP", fill.step))
        return " ".join([text, "WITH FILL", *(f"{word} {self.print(node)}" for word, node in steps if node)])

    def indent(self, extra: int = 0) -> str:
        """Give the spaces that a line begins with.

        :param extra: how many levels more
        """
        return "    " * (self.depth + extra)

    def group_by(self, node: Select) -> str:
        """Write a GROUP BY.

        :param node: the SELECT
        """
        items = [self.print(item) for item in node.group_by]
        if node.group_mode == "all":
            return "GROUP BY ALL"
        if node.group_mode == "grouping_sets":
            sets = [f"({item.removeprefix('tuple(').removesuffix(')')})" for item in items]
            return f"GROUP BY GROUPING SETS ({', '.join(sets)})"
        if node.group_mode:
            return f"GROUP BY {node.group_mode.upper()}({', '.join(items)})"
        return self.block("GROUP BY", items)

    def interpolate(self, node: Select) -> str:
        """Write an INTERPOLATE.

        :param node: the SELECT
        """
        if node.interpolate is None:
            return ""
        items = [
            self.name(name) + (f" AS {self.print(value)}" if value else "") for name, value in node.interpolate.items()
        ]
        return f"INTERPOLATE ({', '.join(items)})" if items else "INTERPOLATE"

    def limit_by(self, node: Select) -> str:
        """Write a LIMIT BY.

        :param node: the SELECT
        """
        by = node.limit_by
        if by is None:
            return ""
        offset = f" OFFSET {self.print(by.offset)}" if by.offset else ""
        return f"LIMIT {self.print(by.count)}{offset} BY {self.listed(by.by)}"

    def limits(self, limits: Limits) -> list[str]:
        """Write LIMIT and OFFSET.

        :param limits: what they say
        """
        value = limits.limit
        if limits.percent and isinstance(value, Constant) and isinstance(value.value, (int, float)):
            value = Constant(value.value / 100)
        return [
            f"LIMIT {self.print(value)}" if value else "",
            "WITH TIES" if limits.with_ties else "",
            f"OFFSET {self.print(limits.offset)}" if limits.offset else "",
        ]

    def block(self, word: str, items: list[str], joint: str = ",") -> str:
        """Write a clause, each of its items on a line.

        :param word: what it begins with
        :param items: the items; the clause is empty without them
        :param joint: stands between them
        """
        if not items:
            return ""
        indent = f"\n{self.indent(1)}"
        return word + indent + (joint + indent).join(items)
