"""HogQL words -> expressions, with the precedence of PostHog's grammar."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from airflow_provider_posthog.emulator.hogql_ast import (
    Alias,
    Call,
    Compare,
    Constant,
    Field,
    Index,
    Lambda,
    Logic,
    Node,
    Select,
    SelectSet,
    Sequence,
    Window,
    WindowCall,
)
from airflow_provider_posthog.emulator.hogql_errors import HogQLError
from airflow_provider_posthog.emulator.hogql_lexer import Token
from airflow_provider_posthog.emulator.hogql_values import constant_of
from airflow_provider_posthog.emulator.hogql_words import Words

_UNITS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
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
# written as functions they mean the same, with the same care for NULL
_COMPARE_FUNCTIONS = frozenset(_COMPARE.values()) - {"imatch", "notMatch", "notIMatch"}
_ARITHMETIC = {"+": "plus", "-": "minus", "*": "multiply", "/": "divide", "%": "modulo"}
_ALIAS, _TERNARY, _OR, _AND, _NOT, _NULLISH, _IS, _CMP, _ADD, _MUL, _NEG, _POSTFIX = range(2, 26, 2)


class ExpressionParser(Words, ABC):
    """Reads expressions; the statements around them are the sub-class's.

    :param text: the HogQL
    :param values: what ``{placeholders}`` stand for
    :param newer: also take what servers of 2025 and later take (``BETWEEN``)
    """

    def __init__(self, text: str, values: Mapping[str, object], *, newer: bool) -> None:
        super().__init__(text)
        self.values = values
        self.newer = newer
        self.has_offset = False

    @abstractmethod
    def select_set(self) -> Select | SelectSet:
        """Read a SELECT, or several with UNION ALL between."""

    @abstractmethod
    def window(self) -> Window:
        """Read what stands in the parentheses after OVER."""

    # -- expressions ---------------------------------------------------------------------------------------------

    def expressions(self) -> list[Node]:
        """Read expressions with commas between."""
        found = [self.expression()]
        while self.accept(","):
            if self.at(")") or self.at("]") or self.at("from"):
                break
            found.append(self.expression())
        return found

    def expression(self, least: int = 0) -> Node:
        """Read an expression.

        :param least: operators that bind less than this end it
        """
        left = self._prefix()
        while True:
            further = self._postfix(left) or self._infix(left, least)
            if further is None:
                return left
            left = further

    def _prefix(self) -> Node:
        token = self.token
        if token.kind == "op":
            return self._prefix_sign(token.text)
        if token.kind in ("number", "string"):
            return self._literal(self.take())
        if token.kind == "name":
            read = self._keyword(token.text.lower())
            if read is not None:
                return read()
        if self.ahead().text == "->" and self.ahead().kind == "op":
            name = self.identifier()
            self.take()
            return Lambda([name], self.expression())
        return self._name()

    def _prefix_sign(self, sign: str) -> Node:
        if sign == "-":
            self.take()
            value = self.expression(_NEG)
            if isinstance(value, Constant) and isinstance(value.value, (int, float)):
                return Constant(-value.value)
            return Call("negate", [value])
        if sign == "(":
            return self._parentheses()
        if sign == "[":
            self.take()
            items = [] if self.at("]") else self.expressions()
            self.expect("]")
            return Sequence("array", items)
        if sign == "{":
            return self.placeholder()
        if sign == "*":
            self.take()
            return Field(["*"])
        raise self.error()

    def _keyword(self, word: str) -> Callable[[], Node] | None:
        if word == "case":
            return self._case
        if word == "not":
            return self._not
        if word == "interval" and self.ahead().text not in (".", ",", ")"):
            return self._interval
        if word in ("null", "true", "false") and self.ahead().text not in (".", "("):
            return lambda: Constant({"null": None, "true": True, "false": False}[self.take().text.lower()])
        if word in ("cast", "date", "timestamp") and self.ahead().kind == "string":
            raise HogQLError(f"Unsupported node: ColumnExpr{word.capitalize()}")
        return None

    def _not(self) -> Node:
        self.take()
        return Logic("not", [self.expression(_NOT)])

    def _case(self) -> Node:
        self.take()
        subject = None if self.at("when") else self.expression()
        pairs: list[tuple[Node, Node]] = []
        while self.accept("when"):
            condition = self.expression()
            self.expect("then")
            pairs.append((condition, self.expression()))
        default: Node = self.expression() if self.accept("else") else Constant(None)
        self.expect("end")
        if not pairs:
            raise self.error()
        if subject is not None:
            keys, results = Sequence("array", [key for key, _ in pairs]), Sequence("array", [item for _, item in pairs])
            return Call("transform", [subject, keys, results, default])
        flat = [node for pair in pairs for node in pair]
        return Call("if" if len(pairs) == 1 else "multiIf", [*flat, default])

    def _interval(self) -> Node:
        self.take()
        value = self.expression(_ADD)
        unit = self.token.text.lower().removesuffix("s") if self.token.kind == "name" else ""
        if unit in _UNITS:
            self.take()
            return Call(f"toInterval{unit.capitalize()}", [value])
        if isinstance(value, Constant) and isinstance(value.value, str):
            number, _, unit = value.value.partition(" ")
            unit = unit.lower().removesuffix("s")
            if number.isdigit() and unit in _UNITS:
                return Call(f"toInterval{unit.capitalize()}", [Constant(int(number))])
        raise self.error()

    def _literal(self, token: Token) -> Node:
        if token.kind == "string":
            return Constant(token.text)
        if token.text.lower().startswith("0x"):
            return Constant(int(token.text, 16))
        return Constant(int(token.text) if token.text.isdigit() else float(token.text))

    def placeholder(self) -> Node:
        """Read ``{name}`` and put its value in its place.

        :raises HogQLError: if no value of that name was sent
        """
        self.expect("{")
        name = self.identifier()
        while self.accept("."):
            name += "." + self.identifier()
        self.expect("}")
        if name in self.values:
            return constant_of(self.values[name])
        if name == "filters":
            return Constant(True)
        if not self.values:
            raise HogQLError(f"Unresolved placeholder: {{{name}}}")
        raise HogQLError(
            f"Placeholder {{{name}}} is not available in this context. "
            f"You can use the following: {', '.join(self.values)}"
        )

    def _parentheses(self) -> Node:
        names = self._lambda_arguments()
        if names is not None:
            return Lambda(names, self.expression())
        self.expect("(")
        if self.at("select") or self.at("with") or (self.at("(") and self._is_query()):
            query = self.select_set()
            self.expect(")")
            return query
        comma = False
        items = []
        while not self.at(")"):
            items.append(self.expression())
            if not self.accept(","):
                break
            comma = True
        self.expect(")")
        return items[0] if len(items) == 1 and not comma else Sequence("tuple", items)

    def _is_query(self) -> bool:
        count = 0
        while self.ahead(count).text == "(":
            count += 1
        return self.ahead(count).kind == "name" and self.ahead(count).text.lower() in ("select", "with")

    def _lambda_arguments(self) -> list[str] | None:
        count, names = 1, []
        while self.ahead(count).kind in ("name", "quoted"):
            names.append(self.ahead(count).text)
            count += 1
            if self.ahead(count).text != ",":
                break
            count += 1
        if self.ahead(count).text != ")" or self.ahead(count + 1).text != "->":
            return None
        for _ in range(count + 2):
            self.take()
        return names

    def _name(self) -> Node:
        name = self.identifier()
        if not self.at("("):
            return Field([name])
        if name.lower() == "cast":
            raise HogQLError("Unsupported node: ColumnExprCast")
        distinct, args = self._arguments()
        params = None
        if self.at("("):
            params = args
            distinct, args = self._arguments()
        call = Call(name, args, params, distinct)
        if self.accept("over"):
            return WindowCall(call, self._over())
        if name in _COMPARE_FUNCTIONS and len(args) == 2:
            return Compare(name, args[0], args[1])
        return call

    def _over(self) -> Window | str:
        if not self.accept("("):
            return self.identifier()
        window = self.window()
        self.expect(")")
        return window

    def _arguments(self) -> tuple[bool, list[Node]]:
        self.expect("(")
        distinct = self.at("distinct") and self.accept("distinct")
        args = [] if self.at(")") else self.expressions()
        self.expect(")")
        return distinct, args

    def _postfix(self, left: Node) -> Node | None:
        if self.at("."):
            self.take()
            if self.token.kind == "number" and self.token.text.isdigit():
                return Index("tuple", left, Constant(int(self.take().text)))
            member = "*" if self.accept("*") else self.identifier()
            if isinstance(left, Field):
                return Field([*left.chain, member])
            return Index("array", left, Constant(member))
        if self.at("["):
            self.take()
            index = self.expression()
            self.expect("]")
            return Index("array", left, index)
        return None

    def _infix(self, left: Node, least: int) -> Node | None:
        operator = self._operator()
        if operator in _COMPARE and least < _CMP:
            return self._comparison(left, operator)
        if operator in ("+", "-", "||") and least < _ADD:
            self.take()
            right = self.expression(_ADD)
            return Call("concat", [left, right]) if operator == "||" else Call(_ARITHMETIC[operator], [left, right])
        if operator in ("*", "/", "%") and least < _MUL:
            self.take()
            return Call(_ARITHMETIC[operator], [left, self.expression(_MUL)])
        if operator in ("and", "or") and least < (_AND if operator == "and" else _OR):
            self.take()
            right = self.expression(_AND if operator == "and" else _OR)
            if isinstance(left, Logic) and left.op == operator:
                return Logic(operator, [*left.args, right])
            return Logic(operator, [left, right])
        return self._rare_infix(left, operator, least)

    def _rare_infix(self, left: Node, operator: str, least: int) -> Node | None:
        if operator == "is" and least < _IS:
            self.take()
            op = "notEquals" if self.accept("not") else "equals"
            self.expect("null")
            return Compare(op, left, Constant(None))
        if operator in ("between", "not between") and self.newer and least < _CMP:
            return self._between(left, operator)
        if operator == "??" and least < _NULLISH:
            self.take()
            return Call("ifNull", [left, self.expression(_NULLISH)])
        if operator == "?" and least <= _TERNARY:
            self.take()
            middle = self.expression(_TERNARY)
            self.expect(":")
            return Call("if", [left, middle, self.expression(_TERNARY)])
        if operator == "as" and least < _ALIAS:
            self.take()
            return Alias(left, self.alias())
        return None

    def _operator(self) -> str:
        if self.token.kind not in ("op", "name"):
            return ""
        word = self.token.text.lower()
        if word == "not" and self.ahead().text.lower() in ("in", "like", "ilike", "between"):
            return f"not {self.ahead().text.lower()}"
        return word

    def _comparison(self, left: Node, operator: str) -> Node:
        for _ in operator.split():
            self.take()
        if operator.endswith("in") and self.accept("cohort"):
            raise HogQLError("Could not find a cohort: this project has none")
        return Compare(_COMPARE[operator], left, self.expression(_CMP))

    def _between(self, left: Node, operator: str) -> Node:
        for _ in operator.split():
            self.take()
        low = self.expression(_CMP)
        self.expect("and")
        inside = Logic(
            "and", [Compare("greaterOrEquals", left, low), Compare("lessOrEquals", left, self.expression(_CMP))]
        )
        return Logic("not", [inside]) if operator.startswith("not") else inside
