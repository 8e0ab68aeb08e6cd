"""Whole numbers that are written as sums: ``300000``, ``(1000 * 300)``, ``{n} + 1``, ``{n + 1}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_provider_posthog.api.hogql.lexer import Token
from airflow_provider_posthog.patterns import pattern

_WHOLE = pattern(r"0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+")
#: More digits, or more signs, than a LIMIT has.
_LONGEST = 40


def number_of(tokens: Sequence[Token], values: Mapping[str, object]) -> int | None:
    """Calculate a whole number.

    :param tokens: how it is written, without spaces.
    :param values: the placeholders' values, by name; ``variables.x`` counts as one as well.
    :returns: the number; ``None`` for anything else than whole numbers, ``+``, ``-``, ``*``, ``%`` and brackets.
    """
    if not 0 < len(tokens) <= _LONGEST:
        return None
    sum_ = _Sum(tokens, values)
    try:
        number = sum_.added()
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return number if sum_.at == len(tokens) else None


class _Sum:
    def __init__(self, tokens: Sequence[Token], values: Mapping[str, object]) -> None:
        self.tokens = tokens
        self.values = values
        self.at = 0
        self._braces = 0

    def added(self) -> int:
        number = self._multiplied()
        while (sign := self._takes("+", "-")) is not None:
            other = self._multiplied()
            number = number + other if sign == "+" else number - other
        return number

    def _multiplied(self) -> int:
        number = self._one()
        while (sign := self._takes("*", "%")) is not None:
            other = self._one()
            if sign == "%" and (number < 0 or other <= 0):
                raise ValueError("ClickHouse and Python differ here")
            number = number * other if sign == "*" else number % other
        return number

    def _one(self) -> int:
        if self._takes("-") is not None:
            return -self._one()
        if self._takes("(") is not None:
            return self._closed(")")
        if self._takes("{") is not None:
            self._braces += 1
            number = self._closed("}")
            self._braces -= 1
            return number
        token = self.tokens[self.at]
        if token.kind == "number" and _WHOLE.fullmatch(token.text) and len(token.text) <= _LONGEST:
            self.at += 1
            base = {"x": 16, "b": 2}.get(token.text[1:2].lower(), 10)
            return int(token.text[2:] if base != 10 else token.text, base)
        if token.kind == "word" and self._braces:
            return self._value()
        raise ValueError("no whole number")

    def _closed(self, sign: str) -> int:
        number = self.added()
        if self._takes(sign) is None:
            raise ValueError("not closed")
        return number

    def _value(self) -> int:
        name = self.tokens[self.at].text
        self.at += 1
        while self._takes(".") is not None:
            name += f".{self.tokens[self.at].text}"
            self.at += 1
        value = self.values[name]
        if isinstance(value, bool) or not isinstance(value, (int, str)) or len(str(value)) > _LONGEST:
            raise ValueError("no whole number")
        return int(value)

    def _takes(self, *signs: str) -> str | None:
        token = self.tokens[self.at] if self.at < len(self.tokens) else None
        if token is None or token.kind != "sign" or token.text not in signs:
            return None
        self.at += 1
        return token.text
