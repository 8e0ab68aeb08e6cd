"""HogQL text -> a tree: the SELECT statements."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_posthog.emulator.hogql_ast import (
    Alias,
    Constant,
    Frame,
    Join,
    Order,
    Select,
    SelectSet,
    Window,
)
from airflow_provider_posthog.emulator.hogql_errors import HogQLError
from airflow_provider_posthog.emulator.hogql_parser import ExpressionParser

_JOIN_WORDS = ("all", "any", "asof", "semi", "anti", "inner", "left", "right", "full", "outer", "cross", "join")


class SelectParser(ExpressionParser):
    """Reads whole queries."""

    def query(self) -> Select | SelectSet:
        """Read a query to its very end.

        :raises HogQLError: if anything follows it, a semicolon too
        """
        if self.token.kind == "end":
            raise HogQLError("Empty query")
        found = self.select_set()
        if self.token.kind != "end":
            raise self.error()
        return found

    def select_set(self) -> Select | SelectSet:
        """Read a SELECT, or several with UNION ALL between."""
        members = [self._member()]
        while self.at("union"):
            self.expect("union", "all")
            members.append(self._member())
        if len(members) == 1:
            return members[0]
        return SelectSet(members)

    def _member(self) -> Select | SelectSet:
        if self.accept("("):
            found = self.select_set()
            self.expect(")")
            return found
        return self._select()

    def _select(self) -> Select:
        query = Select()
        if self.accept("with"):
            self._ctes(query)
        self.expect("select")
        query.distinct = self.at("distinct") and self.accept("distinct")
        if self.at("top") and self.ahead().kind == "number":
            raise HogQLError("Unsupported: SelectStmt.topClause()")
        query.columns = self.expressions()
        if self.accept("from"):
            self._joins(query)
        self._array_join(query)
        query.prewhere = self.expression() if self.accept("prewhere") else None
        query.where = self.expression() if self.accept("where") else None
        self._grouping(query)
        if self.accept("window"):
            self._named_windows(query)
        if self.accept("order", "by"):
            query.order_by = self._orders()
        self._limits(query)
        if self.at("settings"):
            raise HogQLError("Unsupported: SelectStmt.settingsClause()")
        return query

    def _ctes(self, query: Select) -> None:
        while True:
            if (
                self.token.kind in ("name", "quoted")
                and self.ahead().text.lower() == "as"
                and self.ahead(2).text == "("
            ):
                name = self.alias()
                self.expect("as", "(")
                query.ctes[name] = self.select_set()
                self.expect(")")
            else:
                column = self.expression()
                if not isinstance(column, Alias):
                    raise self.error()
                query.ctes[column.name] = column.expr
            if not self.accept(","):
                return

    # -- FROM ----------------------------------------------------------------------------------------------------

    def _joins(self, query: Select) -> None:
        query.source = [self._table()]
        while True:
            if self.accept(","):
                joined = self._table()
                joined.kind = "CROSS JOIN"
            else:
                kind = self._join_kind()
                if not kind:
                    return
                joined = self._table()
                joined.kind = kind
                self._constraint(joined)
            query.source.append(joined)

    def _join_kind(self) -> str:
        count = 0
        while self.ahead(count).kind == "name" and self.ahead(count).text.lower() in _JOIN_WORDS:
            count += 1
            if self.ahead(count - 1).text.lower() == "join":
                return " ".join(self.take().text.upper() for _ in range(count))
        return ""

    def _constraint(self, joined: Join) -> None:
        if self.accept("on"):
            joined.constraint = self.expression()
        elif self.accept("using"):
            braces = self.accept("(")
            joined.using = self.expressions()
            if braces:
                self.expect(")")
        elif joined.kind != "CROSS JOIN":
            raise self.error()

    def _table(self) -> Join:
        if self.at("{"):
            self.placeholder()
            raise HogQLError("JoinExpr with table of type Constant not supported")
        if self.accept("("):
            joined = Join(self.select_set())
            self.expect(")")
        else:
            chain = [self.identifier()]
            while self.accept("."):
                chain.append(self.identifier())
            joined = Join(chain)
            if self.accept("("):
                joined.args = [] if self.at(")") else self.expressions()
                self.expect(")")
        if self._join_kind_follows():
            return joined
        joined.alias = self.bare_alias()
        joined.final = self.accept("final")
        if self.accept("sample"):
            joined.sample = (self._ratio(), self._ratio() if self.accept("offset") else None)
        return joined

    def _join_kind_follows(self) -> bool:
        place = self.place
        found = bool(self._join_kind())
        self.place = place
        return found

    def _ratio(self) -> str:
        top = self._number()
        return f"{top}/{self._number()}" if self.accept("/") else top

    def _number(self) -> str:
        value = self.placeholder() if self.at("{") else self.expression(24)
        if not isinstance(value, Constant) or not isinstance(value.value, (int, float)):
            raise self.error()
        return str(value.value)

    def _array_join(self, query: Select) -> None:
        for words in (("array", "join"), ("left", "array", "join"), ("inner", "array", "join")):
            if self.accept(*words):
                query.array_join_kind = " ".join(words).upper()
                query.array_join = self.expressions()

    # -- what follows the WHERE ----------------------------------------------------------------------------------

    def _grouping(self, query: Select) -> None:
        if self.accept("group", "by"):
            query.group_by = self.expressions()
        if self.at("with") and self.ahead().text.lower() in ("totals", "cube", "rollup"):
            raise HogQLError(f"Unsupported: SelectStmt.{self.ahead().text.upper()}()")
        query.having = self.expression() if self.accept("having") else None

    def _named_windows(self, query: Select) -> None:
        while True:
            name = self.identifier()
            self.expect("as", "(")
            query.windows[name] = self.window()
            self.expect(")")
            if not self.accept(","):
                return

    def window(self) -> Window:
        """Read what stands in the parentheses after OVER."""
        window = Window()
        if self.accept("partition", "by"):
            window.partition_by = self.expressions()
        if self.accept("order", "by"):
            window.order_by = self._orders()
        if self.at("rows") or self.at("range"):
            method = self.take().text.upper()
            if self.accept("between"):
                start = self._bound()
                self.expect("and")
                window.frame = Frame(method, start, self._bound())
            else:
                window.frame = Frame(method, self._bound())
        return window

    def _bound(self) -> str:
        if self.accept("current", "row"):
            return "CURRENT ROW"
        if self.accept("unbounded"):
            size = "UNBOUNDED"
        elif self.token.kind == "number" and self.token.text.isdigit():
            size = self.take().text
        else:
            raise self.error()
        if not (self.at("preceding") or self.at("following")):
            raise self.error()
        return f"{size} {self.take().text.upper()}"

    def _orders(self) -> list[Order]:
        orders = []
        while True:
            order = Order(self.expression())
            if self.accept("desc") or self.accept("descending"):
                order.descending = True
            elif self.accept("asc") or self.accept("ascending"):
                order.descending = False
            # PostHog's parser reads these and lets them fall
            if self.accept("nulls") and not (self.accept("first") or self.accept("last")):
                raise self.error()
            orders.append(order)
            if not self.accept(","):
                return orders

    def _limits(self, query: Select) -> None:
        if self.accept("limit"):
            query.limit = self.expression()
            if self.accept(","):
                query.offset, query.limit = query.limit, self.expression()
            query.with_ties = self.accept("with", "ties")
            if query.offset is None and self.accept("offset"):
                query.offset = self.expression()
            if not query.with_ties and self.accept("by"):
                query.limit_by = self.expressions()
        elif self.accept("offset"):
            query.offset = self.expression()
        self.has_offset = self.has_offset or query.offset is not None


def parse(text: str, values: Mapping[str, object], *, newer: bool = True) -> tuple[Select | SelectSet, bool]:
    """Read a HogQL query.

    :param text: the HogQL
    :param values: what ``{placeholders}`` stand for
    :param newer: also take what servers of 2025 and later take
    :returns: the tree, and whether an OFFSET stands anywhere in it
    :raises HogQLError: where PostHog's parser would stop, or a placeholder has no value
    """
    parser = SelectParser(text, values, newer=newer)
    return parser.query(), parser.has_offset
