"""HogQL words -> names, calls of functions, and several columns at once."""

from __future__ import annotations

from abc import ABC, abstractmethod

from airflow_provider_posthog.emulator.hogql.ast import (
    Call,
    Columns,
    Compare,
    Constant,
    Field,
    Node,
    Order,
    Window,
    WindowCall,
)
from airflow_provider_posthog.emulator.hogql.values import words
from airflow_provider_posthog.emulator.hogql.words import Words

# comparisons; written as functions they mean the same, with the same care for NULL
_COMPARE_FUNCTIONS = words(
    "equals notEquals lessOrEquals less greaterOrEquals greater in notIn like notLike ilike notILike"
)
# how tightly operators bind
ALIAS, TERNARY, OR, AND, NOT, BETWEEN, NULLISH, DISTINCT, IS, CMP, ADD, MUL, NEG = range(2, 28, 2)


class CallParser(Words, ABC):
    """Reads names, and what may follow them in parentheses."""

    @abstractmethod
    def select_set(self) -> Node:
        """Read a SELECT, or several of them put together."""

    @abstractmethod
    def window(self) -> Window:
        """Read what stands in the parentheses after OVER."""

    @abstractmethod
    def expression(self, least: int = 0) -> Node:
        """Read an expression.

        :param least: operators that bind less than this end it
        """

    @abstractmethod
    def orders(self) -> list[Order]:
        """Read what follows ORDER BY."""

    @abstractmethod
    def is_query(self) -> bool:
        """Return whether a query begins here, perhaps in parentheses."""

    def expressions(self) -> list[Node]:
        """Read expressions with commas between, and perhaps after them."""
        nodes = [self.expression()]
        while self.accept(",") and not self.ends_list():
            nodes.append(self.expression())
        return nodes

    def name(self) -> Node:
        """Read a name, or a call of one."""
        name = self.identifier()
        if not self.at("("):
            return Field([name])
        if name.lower() == "columns" and self.newer and self.ahead().text != ")":
            return self._columns()
        return self._call(name)

    def _call(self, name: str) -> Node:
        call = self._arguments(Call(name, []))
        if self.newer and self.at("within", "group"):
            self.expect("within", "group", "(", "order", "by")
            call = Call(name, [], params=call.args, within_group=self.orders())
            self.expect(")")
        elif self.at("("):
            call = self._arguments(Call(name, [], params=call.args))
        if self.newer and self.at("filter", "("):
            self.expect("filter", "(", "where")
            call.filter = self.expression()
            self.expect(")")
        if self.newer and self.at("ignore", "nulls"):
            # no window may follow
            self.expect("ignore", "nulls")
            return call
        # the grammar knows no DISTINCT of a window's function that has no parameters, and no order
        if not call.order_by and (call.params is not None or not call.distinct) and self.accept("over"):
            # PostHog's parser forgets the filter of a window's function, and the DISTINCT
            call.filter, call.distinct = None, False
            return WindowCall(call, self._over())
        if name in _COMPARE_FUNCTIONS and len(call.args) == 2 and call.params is None:
            return Compare(name, call.args[0], call.args[1])
        return call

    def _over(self) -> Window | str:
        if not self.accept("("):
            return self.identifier()
        window = self.window()
        self.expect(")")
        return window

    def _arguments(self, call: Call) -> Call:
        self.expect("(")
        call.distinct = self.accept("distinct")
        if self.at("select") and self.is_query():
            call.args = [self.select_set()]
        elif not self.at(")"):
            call.args = self.expressions()
        if self.newer and self.accept("ignore"):
            self.expect("nulls")
        if self.newer and self.accept("order", "by"):
            call.order_by = self.orders()
        self.expect(")")
        return call

    # -- several columns at once ---------------------------------------------------------------------------------

    def _columns(self) -> Node:
        self.expect("(")
        if self.at("*") and self.ahead().text.lower() in ("replace", "exclude"):
            columns = self.attempt(self._columns_of_all)
            if columns is not None:
                return columns
        names = self.expressions()
        self.expect(")")
        only = names[0]
        if len(names) == 1 and isinstance(only, Constant) and isinstance(only.value, str):
            return Columns(regex=only.value)
        return Columns(names=names)

    def _columns_of_all(self) -> Columns:
        self.expect("*")
        columns = Columns(exclude=self._excluded() if self.at("exclude") else [])
        self.expect("replace", "(")
        while not columns.replace or self.accept(","):
            value = self.expression(ALIAS)
            self.expect("as")
            columns.replace[self.identifier()] = value
        self.expect(")", ")")
        return columns

    def excluding(self, star: Field) -> Node:
        """Read the EXCLUDE after a star.

        :param star: the star
        """
        if self.newer and self.at("exclude", "("):
            return Columns(exclude=self._excluded())
        return star

    def _excluded(self) -> list[str]:
        self.expect("exclude", "(")
        names: list[str] = []
        while not names or self.accept(","):
            name = self.identifier()
            while self.accept("."):
                name += "." + self.identifier()
            names.append(name)
        self.expect(")")
        return names


def joined(items: list[Node]) -> Call:
    """Put texts together, those that are put together already as parts of the whole.

    :param items: what ``||`` or a template joins
    """
    parts = [part for item in items for part in (item.args if _is_joined(item) else [item])]  # type: ignore[attr-defined]
    return Call("concat", parts)


def _is_joined(node: Node) -> bool:
    return isinstance(node, Call) and node.name == "concat" and node.params is None and not node.distinct
