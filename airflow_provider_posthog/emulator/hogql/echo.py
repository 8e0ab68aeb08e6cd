"""A resolved query -> HogQL again, as PostHog echoes it in ``hogql`` and names columns by it."""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.ast import Between, Call, Cast, Compare, Field, Join, Node, Select, Slice
from airflow_provider_posthog.emulator.hogql.printer import Printer
from airflow_provider_posthog.emulator.hogql.resolver import output_name
from airflow_provider_posthog.emulator.hogql.values import identifier, literal


class EchoPrinter(Printer):
    """Writes HogQL."""

    def constant(self, value: object) -> str:
        """Write a constant."""
        return literal(value, clickhouse=False)

    def name(self, text: str) -> str:
        """Write a name."""
        return identifier(text, clickhouse=False)

    def field(self, node: Field) -> str:
        """Write a field as the user wrote it."""
        return ".".join(part if part == "*" or part.isdigit() else self.name(part) for part in node.chain)

    def call(self, node: Call) -> str:
        """Write a call as the user wrote it."""
        return self.call_text(node.name, node, [self.print(argument) for argument in node.args])

    def comparison(self, node: Compare, text: str, left: str, right: str) -> str:
        """Write a comparison unchanged: HogQL does not mention NULL."""
        return text

    def between(self, node: Between, text: str) -> str:
        """Write BETWEEN unchanged."""
        return text

    def cast(self, node: Cast) -> str:
        """Write a cast as the user did."""
        return f"CAST({self.print(node.expr)} AS {node.type})"

    def slice(self, node: Slice) -> str:
        """Write a slice as the user did."""
        first, last = (self.print(end) if end else "" for end in (node.first, node.last))
        return f"{self.print(node.value)}[{first}:{last}]"

    def columns(self, node: Select) -> list[str]:
        """Write the columns of a SELECT."""
        return [self.print(column) for column in node.columns]

    def where(self, node: Select) -> Node | None:
        """Give the condition the user wrote."""
        return node.where

    def table(self, join: Join) -> str:
        """Write a table or sub-query and its alias."""
        if isinstance(join.table, list):
            text = ".".join(self.name(part) for part in join.table)
            if join.args is not None:
                text += f"({', '.join(self.print(argument) for argument in join.args)})"
            aliased = join.alias is not None and join.alias != join.table[-1]
        else:
            self.depth -= 1
            text = self.print(join.table)
            self.depth += 1
            aliased = join.alias is not None
        alias = f" AS {self.name(join.alias)}" if aliased and join.alias is not None else ""
        return text + alias + self.sample(join) + self.constraint(join)

    def column_name(self, column: Node) -> str:
        """Return the name of a column in an answer: its alias, or its text.

        :param column: an expression of a SELECT's list, resolved
        """
        return output_name(column) or self.print(column)
