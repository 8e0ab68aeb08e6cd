"""HogQL words -> expressions, with the precedence of PostHog's grammar."""

from __future__ import annotations

from abc import ABC

from airflow_provider_posthog.emulator.hogql.ast import (
    Alias,
    Apply,
    Between,
    Call,
    Cast,
    Compare,
    Constant,
    Distinct,
    Field,
    Index,
    Logic,
    Node,
    Slice,
)
from airflow_provider_posthog.emulator.hogql.atoms import OCTAL, AtomParser
from airflow_provider_posthog.emulator.hogql.calls import (
    ADD,
    ALIAS,
    AND,
    BETWEEN,
    CMP,
    DISTINCT,
    IS,
    MUL,
    NULLISH,
    OR,
    TERNARY,
    joined,
)

_COMPARE = {
    "=": "equals",
    "==": "equals",
    "!=": "notEquals",
    "<>": "notEquals",
    "<=": "lessOrEquals",
    "<": "less",
    ">=": "greaterOrEquals",
    ">": "greater",
    "~": "match",
    "=~": "match",
    "!~": "notMatch",
    "~*": "imatch",
    "=~*": "imatch",
    "!~*": "notIMatch",
    "in": "in",
    "not in": "notIn",
    "like": "like",
    "not like": "notLike",
    "ilike": "ilike",
    "not ilike": "notILike",
}
_ARITHMETIC = {"+": "plus", "-": "minus", "*": "multiply", "/": "divide", "%": "modulo", "||": "concat"}
_LEVELS = {"+": ADD, "-": ADD, "||": ADD, "*": MUL, "/": MUL, "%": MUL}
# `LIMIT 10%`: what cannot be the right side of a modulo
_AFTER_PERCENT = frozenset({"", ")", ";", "offset", "with", "union", "intersect", "except", "settings"})


class ExpressionParser(AtomParser, ABC):
    """Reads expressions; the statements around them are the sub-class's."""

    def expression(self, least: int = 0) -> Node:
        """Read an expression.

        :param least: operators that bind less than this end it
        """
        left = self._postfixes(self.prefix())
        while (further := self._infix(left, least)) is not None:
            left = further
        return left

    def _postfixes(self, left: Node) -> Node:
        while (further := self._postfix(left)) is not None:
            left = further
        return left

    # -- what follows a value at once ----------------------------------------------------------------------------

    def _postfix(self, left: Node) -> Node | None:
        if self.token.kind != "op":
            return None
        if self.token.text in (".", "?."):
            return self._member(left, nullish=self.take().text == "?.")
        if self.token.text == "[":
            self.take()
            return self._subscript(left)
        if self.token.text == "::" and self.newer:
            self.take()
            return Cast(left, self.type_name(nested=False))
        if self.token.text == "(" and self.newer:
            self.take()
            args = [] if self.at(")") else self.expressions()
            self.expect(")")
            return Apply(left, args)
        return None

    def _member(self, left: Node, *, nullish: bool) -> Node:
        if self.token.kind == "number" and self.token.text.isdigit() and not OCTAL.match(self.token.text):
            return Index("tuple", left, Constant(int(self.take().text)), nullish)
        if nullish and self.accept("["):
            index = self.expression()
            self.expect("]")
            return Index("array", left, index, nullish)
        # what stands in parentheses is a value and no longer a name
        is_value = self.tokens[self.place - 2].text == ")"
        if isinstance(left, Field) and not nullish and not is_value and left.chain[-1] != "*":
            if self.accept("*"):
                return self.excluding(Field([*left.chain, "*"]))
            return Field([*left.chain, self.identifier()])
        return Index("array", left, Constant(self.identifier()), nullish)

    def _subscript(self, left: Node) -> Node:
        first = None if self.at(":") and self.newer else self.expression()
        if self.newer and self.accept(":"):
            last = None if self.at("]") else self.expression()
            self.expect("]")
            return Slice(left, first, last)
        self.expect("]")
        return Index("array", left, first or Constant(None))

    # -- what stands between two values --------------------------------------------------------------------------

    def _infix(self, left: Node, least: int) -> Node | None:
        operator = self._operator()
        if operator in _COMPARE and least < CMP:
            return self._comparison(left, operator)
        if operator in _LEVELS and least < _LEVELS[operator]:
            return self._arithmetic(left, operator)
        if operator in ("and", "or") and least < (AND if operator == "and" else OR):
            self.take()
            return self._logic(operator, left, self.expression(AND if operator == "and" else OR))
        if operator == "is" and least < (DISTINCT if self._is_distinct() else IS):
            return self._is(left)
        if operator in ("between", "not between") and self.newer and least < BETWEEN:
            return self._between(left, operator)
        return self._rare_infix(left, operator, least)

    def _rare_infix(self, left: Node, operator: str, least: int) -> Node | None:
        if operator == "<=>" and self.newer and least < DISTINCT:
            self.take()
            return Distinct(left, self.expression(DISTINCT), negated=True)
        if operator == "??" and least < NULLISH:
            self.take()
            return Call("ifNull", [left, self.expression(NULLISH)])
        if operator == "?" and least <= TERNARY:
            self.take()
            middle = self.expression(TERNARY)
            self.expect(":")
            return Call("if", [left, middle, self.expression(TERNARY)])
        if operator == "as" and least < ALIAS:
            self.take()
            return Alias(left, self.alias())
        return None

    def _operator(self) -> str:
        if self.token.kind not in ("op", "name"):
            return ""
        word = self.token.text.lower()
        if word == "not" and self.ahead().text.lower() in ("in", "like", "ilike", "between"):
            return f"not {self.ahead().text.lower()}"
        if word == "%":
            follows = self.ahead()
            text = "" if follows.kind == "end" else follows.text.lower()
            return "" if text in _AFTER_PERCENT else word
        return word

    def _arithmetic(self, left: Node, operator: str) -> Node:
        self.take()
        level = _LEVELS[operator]
        right = self.expression(level)
        return joined([left, right]) if operator == "||" else Call(_ARITHMETIC[operator], [left, right], infix=True)

    def _logic(self, operator: str, left: Node, right: Node) -> Node:
        items = [
            item
            for node in (left, right)
            for item in (node.args if isinstance(node, Logic) and node.op == operator else [node])
        ]
        return Logic(operator, items)

    def _is_distinct(self) -> bool:
        follows = self.ahead(2 if self.ahead().text.lower() == "not" else 1)
        return self.newer and follows.text.lower() == "distinct"

    def _is(self, left: Node) -> Node:
        self.take()
        negated = self.accept("not")
        if self.newer and self.accept("distinct", "from"):
            return Distinct(left, self.expression(DISTINCT), negated)
        self.expect("null")
        return self._postfixes(Compare("notEquals" if negated else "equals", left, Constant(None)))

    def _comparison(self, left: Node, operator: str) -> Node:
        for _ in operator.split():
            self.take()
        if operator.endswith("in") and self.at("cohort"):
            node = self.attempt(lambda: self._cohort(left, operator))
            if node is not None:
                return node
        return Compare(_COMPARE[operator], left, self.expression(CMP))

    def _cohort(self, left: Node, operator: str) -> Node:
        self.expect("cohort")
        return Compare("inCohort" if operator == "in" else "notInCohort", left, self.expression(CMP))

    def _between(self, left: Node, operator: str) -> Node:
        for _ in operator.split():
            self.take()
        low = self.expression(BETWEEN)
        self.expect("and")
        return Between(left, low, self.expression(BETWEEN), operator.startswith("not"))
