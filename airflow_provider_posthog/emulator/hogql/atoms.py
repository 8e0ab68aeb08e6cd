"""HogQL words -> the parts of expressions that operators stand between."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Callable

from airflow_provider_posthog.emulator.hogql.ast import (
    Call,
    Cast,
    Columns,
    Constant,
    Dict,
    Field,
    Lambda,
    Logic,
    Node,
    Placeholder,
    Sequence,
    Tag,
)
from airflow_provider_posthog.emulator.hogql.calls import ALIAS, NEG, NOT, CallParser
from airflow_provider_posthog.emulator.hogql.errors import UnsupportedError
from airflow_provider_posthog.emulator.hogql.lexer import Token
from airflow_provider_posthog.emulator.hogql.values import words

UNITS = ("second", "minute", "hour", "day", "week", "month", "quarter", "year")
_TRIMS = {"both": "trim", "leading": "trimLeft", "trailing": "trimRight"}
# keywords that may follow `::`
_CAST_KEYWORDS = frozenset(("date", "timestamp", "time", "interval", "yyyy", *UNITS))
_CONSTANTS: dict[str, object] = {"null": None, "true": True, "false": False}
_NUMBERS = {"inf": "inf", "infinity": "inf", "nan": "nan"}
_BINARY = re.compile(r"0b[01]+$")
#: Numbers in which PostHog's grammar sees no whole ones: they have no places after a dot, and are none.
OCTAL = re.compile(r"0[0-7]+$")
# keywords that may follow a number which ends with a dot
_AFTER_A_NUMBER = words(
    "and as asc between desc else end except from group having ilike in intersect is like limit offset or order "
    "prewhere qualify sample then union when where window with"
)
_NEGATED = words("between ilike in like")


class AtomParser(CallParser, ABC):
    """Reads names, literals and whatever else begins an expression."""

    def prefix(self) -> Node:
        """Read what an expression begins with."""
        token = self.token
        if token.kind == "op":
            return self._prefix_sign(token.text)
        if token.kind == "string":
            return Constant(self.take().text)
        if token.kind == "number":
            return self._numeral()
        if token.kind == "template":
            return self._template(self.take())
        if token.kind == "tag" and self.newer:
            return self.tag(self.take())
        lambda_names = self._bare_lambda()
        if lambda_names is not None:
            return Lambda(lambda_names, self.expression())
        read = self._keyword(token.text.lower()) if token.kind == "name" else None
        node = self.attempt(read) if read is not None else None
        return self.name() if node is None else node

    def _prefix_sign(self, sign: str) -> Node:
        if sign == "(":
            return self._parentheses()
        if sign == "[":
            self.take()
            items = [] if self.at("]") else self.expressions()
            self.expect("]")
            return Sequence("array", items)
        if sign == "{":
            return self._braces()
        if sign == "*":
            self.take()
            if self.newer and self.at("columns", "("):
                columns = self.name()
                if isinstance(columns, Columns):
                    columns.spread = True
                    return columns
            return self.excluding(Field(["*"]))
        if sign in ("-", "+"):
            return self._signed(sign)
        return self._numeral()

    def _signed(self, sign: str) -> Node:
        self.take()
        if self.token.text.lower() in _NUMBERS or self.token.kind == "number" or self._starts_with_a_dot():
            value = self._value()
            return Constant(-value if sign == "-" else value)
        if sign == "+":
            raise self.error()
        return Call("minus", [Constant(0), self.expression(NEG)], infix=True)

    def _numeral(self) -> Constant:
        return Constant(self._value())

    def _value(self) -> int | float:
        """Read a number, put together of its words: ``1.5``, ``1.`` and ``.5``."""
        if self._starts_with_a_dot():
            self.take()
            return float(f".{self.take().text}")
        if self.token.kind != "number" and self.token.text.lower() not in _NUMBERS:
            raise self.error()
        text = self.take().text.lower()
        if text.startswith(("0b", "0o")) and not _BINARY.match(text):
            raise self.error()
        if not text.isdigit():
            return _written(text)
        if OCTAL.match(text) or not self.at(".") or self._is_member(self.ahead()):
            return int(text)
        self.take()
        return float(f"{text}.{self.take().text if _is_whole(self.token) else ''}")

    def _starts_with_a_dot(self) -> bool:
        return self.at(".") and _is_whole(self.ahead())

    def _is_member(self, token: Token) -> bool:
        """Return whether a name after ``1.`` is what is read of the 1, and not what comes after the number."""
        if not self.is_name(token) or self.tokens[self.place - 2].text.lower() == "interval":
            return False
        word = token.text.lower() if token.kind == "name" else ""
        return word not in _AFTER_A_NUMBER and not (word == "not" and self.ahead(2).text.lower() in _NEGATED)

    def _template(self, token: Token) -> Node:
        """Read ``f'...'``: its texts and expressions, put together."""
        items: list[Node] = []
        for part in token.parts:
            items.append(self.within(part, self.expression) if isinstance(part, list) else Constant(part))
        if len(items) > 1:
            return Call("concat", items)
        return items[0] if items else Constant("")

    def tag(self, token: Token) -> Tag:
        """Read a HogQLX tag.

        :param token: the tag
        """
        kind, attributes, children = token.parts
        by_name: dict[str, Node | list[Node]] = {}
        for name, value in attributes:  # type: ignore[attr-defined]
            by_name[name] = self._tag_part(value)
        if children:
            by_name["children"] = [self._tag_part(child) for child in children]  # type: ignore[attr-defined]
        return Tag(str(kind), by_name)

    def _tag_part(self, part: object) -> Node:
        if isinstance(part, Token):
            return self.tag(part)
        return self.within(part, self.expression) if isinstance(part, list) else Constant(part)

    # -- words with a meaning of their own -----------------------------------------------------------------------

    def _keyword(self, word: str) -> Callable[[], Node] | None:
        readers: dict[str, Callable[[], Node]] = {
            "case": self._case,
            "not": self._not,
            "interval": self._interval,
            "trim": self._trim,
            "substring": self._substring,
        }
        if self.newer:
            readers |= {"cast": self._cast, "try_cast": self._cast, "lambda": self._lambda, "array": self._array}
        is_name = self.ahead().text == "(" or (self.ahead().text == "." and not _is_whole(self.ahead(2)))
        if word in _CONSTANTS and (word == "null" or not is_name):
            return lambda: Constant(_CONSTANTS[self.take().text.lower()])
        if word in _NUMBERS:
            return self._numeral
        if word in ("date", "timestamp") and self.ahead().kind == "string":
            raise UnsupportedError(f"Unsupported rule: ColumnExpr{word.capitalize()}")
        if word in ("case", "array", "lambda", "interval") or self.ahead().text == "(" or word == "not":
            return readers.get(word)
        return None

    def _not(self) -> Node:
        self.take()
        if self.at("(") and not self.is_query():
            # PostHog's grammar sees a function here
            self.place -= 1
            return self.name()
        return Logic("not", [self.expression(NOT)])

    def _case(self) -> Node:
        self.take()
        subject = None if self.at("when") else self.expression()
        pairs: list[Node] = []
        while self.accept("when"):
            pairs.append(self.expression())
            self.expect("then")
            pairs.append(self.expression())
        default: Node = self.expression() if self.accept("else") else Constant(None)
        self.expect("end")
        if not pairs:
            raise self.error()
        if subject is not None:
            if self.newer:
                return Call("_caseWithExpression", [subject, *pairs, default])
            keys, results = Sequence("array", pairs[::2]), Sequence("array", pairs[1::2])
            return Call("transform", [subject, keys, results, default])
        return Call("if" if len(pairs) == 2 else "multiIf", [*pairs, default])

    def _interval(self) -> Node:
        self.take()
        if self.token.kind == "string" and not self._is_unit(self.ahead()):
            return self._interval_text(self.take().text)
        value = self.expression(ALIAS)
        if not self._is_unit(self.token):
            raise self.error()
        return Call(f"toInterval{self.take().text.lower().capitalize()}", [value])

    def _is_unit(self, token: Token) -> bool:
        return token.kind == "name" and token.text.lower() in UNITS

    def _interval_text(self, text: str) -> Node:
        number, _, unit = text.partition(" ")
        if not unit:
            raise UnsupportedError("Unsupported interval type: must be in the format '<count> <unit>'")
        if not number.isdigit():
            raise UnsupportedError(f"Unsupported interval count: '{number}'")
        if unit.lower().removesuffix("s") not in UNITS:
            raise UnsupportedError(f"Unsupported interval unit: {unit}")
        return Call(f"toInterval{unit.lower().removesuffix('s').capitalize()}", [Constant(int(number))])

    def _trim(self) -> Node:
        self.expect("trim", "(")
        function = _TRIMS.get(self.take().text.lower(), "")
        if not function or self.token.kind not in ("string", "template"):
            raise self.error()
        signs = self.prefix()
        self.expect("from")
        value = self.expression()
        self.expect(")")
        return Call(function, [value, signs])

    def _substring(self) -> Node:
        self.expect("substring", "(")
        self.expression()
        self.expect("from")
        raise UnsupportedError("Unsupported rule: ColumnExprSubstring")

    def _lambda(self) -> Node:
        self.take()
        names = [self.identifier()]
        while self.accept(","):
            names.append(self.identifier())
        self.expect(":")
        return Lambda(names, self.expression())

    def _array(self) -> Node:
        self.expect("array", "[")
        items = [] if self.at("]") else self.expressions()
        self.expect("]")
        return Sequence("array", items)

    def _cast(self) -> Node:
        attempt = self.take().text.lower() == "try_cast"
        self.expect("(")
        value = self.expression(ALIAS)
        self.expect("as")
        cast = Cast(value, self.type_name(), attempt)
        self.expect(")")
        return cast

    def type_name(self, *, nested: bool = True) -> str:
        """Read the name of a type, in lower case.

        :param nested: with types and numbers in parentheses, as CAST takes it and ``::`` does not
        """
        if not nested and self.token.kind == "name" and self.is_keyword(self.token, but=_CAST_KEYWORDS):
            raise self.error()
        name = self.identifier().lower()
        if name == "timestamp" and self.at("with"):
            name += " with local time zone" if self.ahead().text.lower() == "local" else " with time zone"
            self.expect(*name.split()[1:])
        if not nested:
            return name
        if name == "double" and self.accept("precision"):
            return "double precision"
        if not self.accept("("):
            return name
        parts = [] if self.at(")") else [self._type_part()]
        while self.accept(","):
            parts.append(self._type_part())
        self.expect(")")
        return f"{name}({', '.join(parts)})"

    def _type_part(self) -> str:
        if self.token.kind == "number":
            return self.take().text
        if self.token.kind == "string":
            if self.ahead().text == "=":
                raise UnsupportedError("Unsupported rule: ColumnTypeExprEnum")
            return f"'{self.take().text}'"
        name = self.identifier().lower() + " " if self.is_name(self.token) and self.is_name(self.ahead()) else ""
        return name + self.type_name()

    # -- braces, parentheses and names ---------------------------------------------------------------------------

    def _braces(self) -> Node:
        """Read ``{placeholder}`` or ``{'key': value}``."""
        self.expect("{")
        items: list[tuple[Node, Node]] = []
        while not self.at("}"):
            key = self.expression()
            if not items and self.accept("}"):
                return Placeholder(key)
            self.expect(":")
            items.append((key, self.expression()))
            if not self.accept(","):
                break
        self.expect("}")
        return Dict(items)

    def placeholder(self) -> Placeholder:
        """Read ``{placeholder}``.

        :raises HogQLError: if something else comes
        """
        node = self._braces() if self.at("{") else None
        if not isinstance(node, Placeholder):
            raise self.error()
        return node

    def _parentheses(self) -> Node:
        names = self._lambda_arguments()
        if names is not None:
            return Lambda(names, self.expression())
        self.expect("(")
        if self.is_query():
            query = self.select_set()
            self.expect(")")
            return query
        items = self.expressions()
        is_tuple = len(items) > 1 or self.tokens[self.place - 1].text == ","
        self.expect(")")
        return Sequence("tuple", items) if is_tuple else items[0]

    def is_query(self) -> bool:
        """Return whether a query begins here, perhaps in parentheses."""
        count = 0
        while self.ahead(count).text == "(" and self.ahead(count).kind == "op":
            count += 1
        if self.ahead(count).kind != "name" or self.ahead(count).text.lower() not in ("select", "with"):
            return False
        return self.ahead(count + 1).text not in (")", ",", ".", "=", "+", "-")

    def _lambda_arguments(self) -> list[str] | None:
        """Read ``(a, b) ->``."""
        count, names = 1, []
        while self.is_name(self.ahead(count)):
            names.append(self.ahead(count).text)
            count += 1
            if self.ahead(count).text != ",":
                break
            count += 1
        if self.ahead(count).text != ")" or self.ahead(count + 1).text != "->":
            return None
        self.place += count + 2
        return names

    def _bare_lambda(self) -> list[str] | None:
        """Read ``a, b ->``."""
        count, names = 0, []
        while self.is_name(self.ahead(count)):
            names.append(self.ahead(count).text)
            if self.ahead(count + 1).text == "->" and self.ahead(count + 1).kind == "op":
                self.place += count + 2
                return names
            if self.ahead(count + 1).text != ",":
                break
            count += 2
        return None


def _is_whole(token: Token) -> bool:
    return token.kind == "number" and token.text.isdigit()


def _written(text: str) -> int | float:
    """Read a number that is one word: with a base or an exponent, or none that can be written."""
    if text.startswith("0b"):
        return int(text, 2)
    if text.startswith("0x"):
        return float.fromhex(text) if "p" in text else int(text, 16)
    return float(_NUMBERS.get(text, text))
