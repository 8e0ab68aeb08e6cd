"""HogQL words -> the FROM clause."""

from __future__ import annotations

from abc import ABC

from airflow_provider_posthog.emulator.hogql.ast import Constant, Join, Node, Pivot, Select, Values
from airflow_provider_posthog.emulator.hogql.errors import UnsupportedError
from airflow_provider_posthog.emulator.hogql.parser import ExpressionParser
from airflow_provider_posthog.emulator.hogql.values import words

_JOIN_WORDS = words("all any asof semi anti inner left right full outer cross join natural positional")
_STRICTNESS = frozenset(("ALL", "ANY", "ASOF", "SEMI", "ANTI"))


class FromParser(ExpressionParser, ABC):
    """Reads tables and how they are joined."""

    def joins(self, query: Select) -> None:
        """Read what follows FROM.

        :param query: the SELECT, which gets its tables
        """
        query.source = self._joined()

    def _joined(self) -> list[Join]:
        tables = self._tables()
        while True:
            if self.accept(","):
                further = self._tables()
                further[0].kind = "CROSS JOIN"
            elif kind := self._join_kind():
                further = self._tables()
                further[0].kind = kind
                self._constraint(further[0])
            elif self.at("on") and (pending := self._pending(tables)) is not None:
                # `a JOIN b JOIN c ON 1 ON 2`: the second condition is that of b
                self._constraint(pending)
                continue
            else:
                return tables
            tables += further
            while self._pivot_follows():
                self._pivot_joined(tables)

    def _pending(self, tables: list[Join]) -> Join | None:
        """Find the last join that has no condition yet."""
        joined = [join for join in tables if join.kind and join.kind not in ("CROSS JOIN", "POSITIONAL JOIN")]
        return next((join for join in reversed(joined) if join.constraint is None and join.using is None), None)

    def _join_kind(self) -> str:
        """Read ``LEFT ANY JOIN`` and the like, and write it in PostHog's order; empty if there is no join."""
        count = 0
        while self.ahead(count).kind == "name" and self.ahead(count).text.lower() in _JOIN_WORDS:
            count += 1
            if self.ahead(count - 1).text.lower() == "join":
                break
        if not count or self.ahead(count - 1).text.lower() != "join":
            return ""
        if not self.newer and self.token.text.lower() in ("natural", "positional"):
            return ""
        return _kind([self.take().text.upper() for _ in range(count)][:-1])

    def _constraint(self, joined: Join) -> None:
        if self.accept("on"):
            conditions = self.expressions()
            if len(conditions) > 1:
                raise UnsupportedError("Unsupported: JOIN ... ON with multiple expressions")
            joined.constraint = conditions[0]
        elif self.accept("using"):
            braces = self.accept("(")
            joined.using = self.expressions()
            if braces:
                self.expect(")")
        elif joined.kind != "CROSS JOIN" and not self.newer:
            raise self.error()

    def _tables(self) -> list[Join]:
        """Read a table, or joined ones in parentheses."""
        if self.at("(") and not self.is_query() and self.ahead().text.lower() != "values":
            self.take()
            tables = self._joined()
            self.expect(")")
            while self._pivot_follows():
                tables = [Join(self._pivot())]
            return tables
        return [self._table()]

    def _table(self) -> Join:
        joined = self._aliased(self._source())
        while self._pivot_follows():
            joined = self._aliased(Join(self._pivot()))
        joined = self._sampled(joined)
        while self._pivot_follows():
            joined = Join(self._pivot())
        return joined

    def _aliased(self, joined: Join) -> Join:
        if self._join_follows():
            return joined
        # several aliases may follow each other; the last one counts
        while (alias := self.bare_alias()) is not None:
            joined.alias = alias
        if self.newer and joined.alias is not None and self.accept("("):
            joined.names = self.names()
        return joined

    def _sampled(self, joined: Join) -> Join:
        joined.final = self.accept("final")
        if self.at("using", "sample"):
            raise UnsupportedError("Unsupported: SelectStmt.sampleClause()")
        if self.accept("sample"):
            joined.sample = (self._ratio(), self._ratio() if self.accept("offset") else None)
        return joined

    def _source(self) -> Join:
        if self.at("{"):
            return Join(self.placeholder())
        if self.token.kind == "tag" and self.newer:
            return Join(self.tag(self.take()))
        if self.accept("("):
            joined = Join(self._values() if self.newer and self.at("values", "(") else self.select_set())
            self.expect(")")
            return joined
        chain = [self.identifier()]
        while self.accept("."):
            chain.append(self.identifier())
        joined = Join(chain)
        if len(chain) == 1 and self.accept("("):
            joined.args = [] if self.at(")") else self.expressions()
            self.expect(")")
        return joined

    def _values(self) -> Values:
        self.expect("values")
        rows: list[list[Node]] = []
        while not rows or self.accept(","):
            self.expect("(")
            rows.append(self.expressions())
            self.expect(")")
        return Values(rows)

    def names(self) -> list[str]:
        """Read names with commas between, and the parenthesis that closes them."""
        names = [self.identifier()]
        while self.accept(","):
            names.append(self.identifier())
        self.expect(")")
        return names

    # -- PIVOT and UNPIVOT, which PostHog reads and then refuses -------------------------------------------------

    def _pivot_follows(self) -> bool:
        words = (("pivot", "("), ("unpivot", "("), ("unpivot", "include", "nulls", "("))
        return self.newer and any(self.at(*each) for each in words)

    def _pivot_joined(self, tables: list[Join]) -> None:
        """Pivot joined tables: those whose condition has been read."""
        pending = self._pending(tables)
        first = tables.index(pending) if pending is not None else 0
        tables[first:] = [Join(self._pivot(), kind=tables[first].kind)]

    def _pivot(self) -> Pivot:
        """Read ``PIVOT (sum(x) FOR y IN (1, 2) z IN (3) GROUP BY w)``, of which only the word is kept."""
        pivot = Pivot(self.take().text.upper())
        self.accept("include", "nulls")
        self.expect("(")
        self.expression()
        while pivot.word == "PIVOT" and self.accept(",") and not (self.at("for") and self.ahead().text != ","):
            self.expression()
        self.expect("for")
        self._pivot_column()
        while not self.at(")") and not self.at("group", "by"):
            self._pivot_column()
        if pivot.word == "PIVOT" and self.accept("group", "by"):
            self.expressions()
        self.expect(")")
        return pivot

    def _pivot_column(self) -> None:
        """Read ``y IN (1, 2)``: an expression of any kind that ends in a list."""
        self.expression()
        place, depth = self.place, 0
        while place > 0:
            place -= 1
            sign = self.tokens[place]
            depth += (sign.kind == "op") * ((sign.text == ")") - (sign.text == "("))
            if depth <= 0:
                break
        negated, word, opened, first = (token.text.lower() for token in self.tokens[place - 2 : place + 2])
        if (word, opened) != ("in", "(") or negated == "not" or first in ("select", "with"):
            raise self.error()

    def _join_follows(self) -> bool:
        place = self.place
        follows = bool(self._join_kind())
        self.place = place
        return follows

    def _ratio(self) -> str | Node:
        if self.at("{"):
            return self.placeholder()
        top = self._number()
        return f"{top}/{self._number()}" if self.accept("/") else top

    def _number(self) -> str:
        value = self.prefix()
        if not isinstance(value, Constant) or not isinstance(value.value, (int, float)):
            raise self.error()
        return str(value.value)


def _kind(words: list[str]) -> str:
    """Order the words of a join as PostHog does: ``ANY LEFT`` -> ``LEFT ANY JOIN``, ``INNER ANY`` -> ``ANY INNER``.

    :param words: those before JOIN
    """
    strict = [word for word in words if word in _STRICTNESS]
    rest = [word for word in words if word not in _STRICTNESS and word != "NATURAL"]
    inner = not rest or rest == ["INNER"]
    if inner and strict and strict[0] not in ("SEMI", "ANTI"):
        return f"{strict[0]} INNER JOIN"
    return " ".join([*(strict if inner else rest), *(rest if inner else strict), "JOIN"])
