"""HogQL text -> a tree: the SELECT statements."""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.ast import (
    Alias,
    Bound,
    Cte,
    Fill,
    Frame,
    Lambda,
    LimitBy,
    Limits,
    Node,
    Order,
    Select,
    SelectSet,
    Sequence,
    Window,
)
from airflow_provider_posthog.emulator.hogql.errors import HogQLError, UnsupportedError
from airflow_provider_posthog.emulator.hogql.from_clause import FromParser

_MODES = ("rollup", "cube")

# clauses that may begin after a comma, and with a parenthesis
_IN_PARENTHESES = frozenset({"from", "prewhere", "where", "having", "limit"})
_NEWER_IN_PARENTHESES = frozenset({"union", "intersect", "except", "qualify", "offset"})


class SelectParser(FromParser):
    """Reads whole queries."""

    def query(self) -> Node:
        """Read a query to its very end.

        :raises HogQLError: if anything follows it; older servers take no semicolon either
        """
        if self.token.kind == "end":
            raise HogQLError("Empty query")
        node = self.tag(self.take()) if self.token.kind == "tag" and self.newer else self.select_set()
        if self.newer:
            self.accept(";")
        self.end()
        return node

    def end(self) -> None:
        """Make sure that nothing follows.

        :raises HogQLError: if something does
        """
        if self.token.kind != "end":
            raise self.error()

    # -- several SELECTs -----------------------------------------------------------------------------------------

    def select_set(self) -> Node:
        """Read a SELECT, or several of them put together, and the LIMIT of the whole."""
        members, operators = [self._arm()], []
        while operator := self._set_operator():
            operators.append(operator)
            members.append(self._arm())
        node = SelectSet(members, operators) if operators else members[0]
        if self.newer and (self.at("order", "by") or self.at("limit") or self.at("offset")):
            self._limit_set(node)
        return node

    def _set_operator(self) -> str:
        if self.at("union", "all") and not self.newer:
            self.expect("union", "all")
            return "UNION ALL"
        if not self.newer or self.token.text.lower() not in ("union", "intersect", "except"):
            return ""
        word = self.take().text.upper()
        if self.at("all") or (self.at("distinct") and word != "EXCEPT"):
            word += f" {self.take().text.upper()}"
        elif word == "UNION":
            word = "UNION DISTINCT"
        if word.startswith("UNION") and self.accept("by", "name"):
            word += " BY NAME"
        return word

    def _limit_set(self, node: Node) -> None:
        """Read what ends a query in parentheses: its LIMIT takes the place of the inner one, its order is forgotten."""
        if self.accept("order", "by"):
            self.orders()
        limits = Limits()
        self._limits(limits)
        if isinstance(node, (Select, SelectSet)):
            node.limits.limit = limits.limit or node.limits.limit
            node.limits.offset = limits.offset or node.limits.offset
            node.limits.with_ties = node.limits.with_ties or limits.with_ties
            node.limits.percent = node.limits.percent or limits.percent

    def _arm(self) -> Node:
        ctes = self._ctes() if self.accept("with") else {}
        if self.at("(") and (not ctes or self.newer):
            self.take()
            node = self.select_set()
            self.expect(")")
        elif self.at("{") and not ctes:
            node = self.placeholder()
        else:
            node = self._select()
        first = node
        while isinstance(first, SelectSet):
            first = first.members[0]
        if ctes and isinstance(first, Select):
            first.ctes = {**ctes, **first.ctes}
        return node

    def _ctes(self) -> dict[str, Cte]:
        recursive = self.newer and self.ahead().text.lower() != "as" and self.accept("recursive")
        ctes: dict[str, Cte] = {}
        while True:
            name, cte = self._cte()
            cte.recursive = recursive
            ctes[name] = cte
            if not self.accept(",") or self.at("select") or self.at("("):
                return ctes

    def _cte(self) -> tuple[str, Cte]:
        named = self.attempt(self._query_cte)
        if named is not None:
            return named
        column = self.expression()
        if isinstance(column, Lambda) and isinstance(column.body, Alias):
            column = Alias(Lambda(column.args, column.body.expr), column.body.name)
        if not isinstance(column, Alias):
            raise self.error()
        return column.name, Cte(column.expr, is_column=True)

    def _query_cte(self) -> tuple[str, Cte]:
        name = self.alias()
        names: list[str] = []
        if self.newer and self.accept("("):
            names = self.names()
        self.expect("as")
        materialized = None
        if self.newer and self.at("not", "materialized"):
            self.expect("not", "materialized")
            materialized = False
        elif self.newer and self.accept("materialized"):
            materialized = True
        self.expect("(")
        query = self.select_set()
        self.expect(")")
        return name, Cte(query, names=names, materialized=materialized)

    # -- one SELECT ----------------------------------------------------------------------------------------------

    def _select(self) -> Select:
        query = Select()
        self.expect("select")
        is_name = self.ahead().text == "," or (self.ahead().text == "." and self.ahead(2).kind != "number")
        query.distinct = not is_name and self.accept("distinct")
        if self.at("top") and self.ahead().kind == "number":
            raise UnsupportedError("Unsupported: SelectStmt.topClause()")
        query.columns = self._select_columns()
        if self.accept("from"):
            self.joins(query)
        self._array_join(query)
        query.prewhere = self.expression() if self.accept("prewhere") else None
        query.where = self.expression() if self.accept("where") else None
        self._grouping(query)
        if self.accept("window"):
            self._named_windows(query)
        if self.accept("order", "by"):
            query.order_by = self.orders()
            self._interpolate(query)
        query.limit_by = self._limit_by()
        if self.newer or query.limit_by is None:
            self._limits(query.limits)
        if self.at("settings"):
            raise UnsupportedError("Unsupported: SelectStmt.settingsClause()")
        return query

    def _select_columns(self) -> list[Node]:
        columns: list[Node] = []
        while not columns or (self.accept(",") and not self.ends_list() and not self._is_clause_in_parentheses()):
            if self.at("from") and self.is_name(self.ahead()) and not self._is_clause(self.ahead().text):
                raise UnsupportedError('Cannot use "from" before an implicit alias')
            columns.append(self._select_column())
        return columns

    def _is_clause_in_parentheses(self) -> bool:
        """Return whether what looks like a call is the next clause: ``SELECT a, FROM (SELECT ...)``."""
        word, last = self.token.text.lower(), self.ahead(2).text
        known = _IN_PARENTHESES | (_NEWER_IN_PARENTHESES if self.newer else frozenset())
        return self.token.kind == "name" and word in known and self.ahead().text == "(" and last != ")"

    def _is_clause(self, word: str) -> bool:
        return word.lower() in ("from", "where", "order", "group", "limit", "union")

    def _select_column(self) -> Node:
        if self.newer and self.is_name(self.token) and self.ahead().text == ":":
            name = self.alias()
            self.take()
            return Alias(self.expression(), name)
        column = self.expression()
        alias = self.bare_column_alias() if self.newer else None
        return column if alias is None else Alias(column, alias)

    def _array_join(self, query: Select) -> None:
        for words in (("array", "join"), ("left", "array", "join"), ("inner", "array", "join")):
            if self.accept(*words):
                query.array_join_kind = " ".join(words).upper()
                query.array_join = self.expressions()
        if query.array_join and not query.source:
            raise UnsupportedError("Using ARRAY JOIN without a FROM clause is not permitted")
        if not all(isinstance(item, Alias) for item in query.array_join):
            raise UnsupportedError("ARRAY JOIN arrays must have an alias")

    # -- what follows the WHERE ----------------------------------------------------------------------------------

    def _grouping(self, query: Select) -> None:
        if self.accept("group", "by"):
            self._group_by(query)
        # PostHog's parser reads these and lets them fall
        for word in ("cube", "rollup", "totals"):
            self.accept("with", word)
        query.having = self.expression() if self.accept("having") else None
        query.qualify = self.expression() if self.newer and self.accept("qualify") else None

    def _group_by(self, query: Select) -> None:
        if self.newer and self.at("grouping", "sets", "("):
            self.expect("grouping", "sets", "(")
            query.group_mode = "grouping_sets"
            while not query.group_by or self.accept(","):
                self.expect("(")
                query.group_by.append(Sequence("tuple", [] if self.at(")") else self.expressions()))
                self.expect(")")
            self.expect(")")
            return
        if self.newer and self.at("all") and self.ahead().text not in (",", ".", "("):
            self.take()
            query.group_mode = "all"
            return
        mode = self.token.text.lower()
        if mode in _MODES and self.at(mode, "("):
            self.expect(mode, "(")
            query.group_by = self.expressions()
            self.expect(")")
            query.group_mode = mode
            return
        query.group_by = self.expressions()

    def _named_windows(self, query: Select) -> None:
        while not query.windows or self.accept(","):
            name = self.identifier()
            self.expect("as", "(")
            query.windows[name] = self.window()
            self.expect(")")

    def window(self) -> Window:
        """Read what stands in the parentheses after OVER."""
        window = Window()
        if self.accept("partition", "by"):
            window.partition_by = self.expressions()
        if self.accept("order", "by"):
            window.order_by = self.orders()
        if self.at("rows") or self.at("range"):
            method = self.take().text.upper()
            if self.accept("between"):
                start = self._bound()
                self.expect("and")
                window.frame = Frame(method, start, self._bound())
            else:
                window.frame = Frame(method, self._bound())
        return window

    def _bound(self) -> Bound:
        if self.accept("current", "row"):
            return Bound("CURRENT ROW")
        size = None
        if not self.accept("unbounded"):
            if not self.newer and self.token.kind != "number":
                raise self.error()
            size = self.expression()
        if not (self.at("preceding") or self.at("following")):
            raise self.error()
        return Bound(self.take().text.upper(), size)

    def orders(self) -> list[Order]:
        """Read what follows ORDER BY."""
        orders: list[Order] = []
        while not orders or self.accept(","):
            order = Order(self.expression())
            order.descending = self.accept("desc") or self.accept("descending")
            if not order.descending and not self.accept("asc"):
                self.accept("ascending")
            # PostHog's parser reads these two and lets them fall
            if self.accept("nulls") and not (self.accept("first") or self.accept("last")):
                raise self.error()
            if self.accept("collate"):
                self.take()
            if self.newer and self.accept("with", "fill"):
                order.fill = self._fill()
            orders.append(order)
        return orders

    def _fill(self) -> Fill:
        fill = Fill()
        fill.low = self.expression() if self.accept("from") else None
        fill.high = self.expression() if self.accept("to") else None
        fill.step = self.expression() if self.accept("step") else None
        return fill

    def _interpolate(self, query: Select) -> None:
        if not self.newer or not self.accept("interpolate"):
            return
        query.interpolate = {}
        if not self.accept("("):
            return
        while not query.interpolate or self.accept(","):
            name = self.identifier()
            query.interpolate[name] = self.expression() if self.accept("as") else None
        self.expect(")")

    # -- LIMIT ---------------------------------------------------------------------------------------------------

    def _limit_by(self) -> LimitBy | None:
        """Read ``LIMIT n BY a, b``; a LIMIT without BY is left to be read."""
        return self.attempt(self._read_limit_by) if self.at("limit") else None

    def _read_limit_by(self) -> LimitBy:
        self.expect("limit")
        count = self.expression()
        offset = None
        if self.accept(","):
            offset, count = count, self.expression()
        elif self.accept("offset"):
            offset = self.expression()
        self.expect("by")
        return LimitBy(count, self.expressions(), offset)

    def _limits(self, limits: Limits) -> None:
        while True:
            if limits.limit is None and self.accept("limit"):
                self._limit(limits)
            elif limits.offset is None and self.accept("offset"):
                limits.offset = self.expression()
            else:
                return

    def _limit(self, limits: Limits) -> None:
        limits.limit = self.expression()
        limits.percent = self.newer and self.accept("%")
        if self.accept(","):
            # not ClickHouse's order of the two
            limits.offset = self.expression()
        limits.with_ties = self.accept("with", "ties")
