"""Python values -> HogQL constants, and constants -> text that HogQL or ClickHouse reads back unchanged."""

from __future__ import annotations

import math
import re
from datetime import date, datetime

from airflow_provider_posthog.emulator.hogql.ast import Constant
from airflow_provider_posthog.emulator.hogql.errors import HogQLError

_ESCAPES = {
    "\b": "\\b",
    "\f": "\\f",
    "\r": "\\r",
    "\n": "\\n",
    "\t": "\\t",
    "\0": "\\0",
    "\a": "\\a",
    "\v": "\\v",
    "\\": "\\\\",
    "'": "\\'",
}
_ESCAPED = re.compile("[\b\f\r\n\t\0\a\v\\\\']")
_PLAIN = re.compile(r"^[A-Za-z_$][A-Za-z0-9_$]*$")
_PLAIN_CLICKHOUSE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


def words(text: str) -> frozenset[str]:
    """Make a set of the words of a text.

    :param text: words with spaces between
    """
    return frozenset(text.split())


def constant_of(value: object) -> Constant:
    """Make the constant a placeholder is replaced with.

    :param value: None, bool, int, float, text, date, datetime, or a list of those
    :raises HogQLError: for anything else, and for text that is not Unicode (half of a surrogate pair)
    """
    if isinstance(value, (list, tuple)):
        return Constant([constant_of(item).value for item in value])
    if isinstance(value, (datetime, date)):
        return Constant(value.isoformat())
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise HogQLError(f"A value is not valid Unicode text: {error.reason}") from error
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise HogQLError(f"Unsupported value of type {type(value).__name__}: send text, numbers, lists or null")
    return Constant(value)


def quote(text: str) -> str:
    """Write text as a string literal.

    :param text: any text
    """
    return "'" + _ESCAPED.sub(lambda match: _ESCAPES[match.group()], text) + "'"


def literal(value: object, *, clickhouse: bool) -> str:
    """Write a constant.

    :param value: None, bool, int, float, text or a list of those
    :param clickhouse: ClickHouse has no ``true``: PostHog sends 1 and 0
    """
    if isinstance(value, bool):
        return ("1" if value else "0") if clickhouse else ("true" if value else "false")
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return "[" + ", ".join(literal(item, clickhouse=clickhouse) for item in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return "-Inf" if value < 0 else "Inf"
    return quote(value) if isinstance(value, str) else str(value)


def identifier(name: str, *, clickhouse: bool) -> str:
    """Write a name, in backticks where it needs them.

    :param name: the name
    :param clickhouse: ClickHouse knows no ``$`` in a bare name
    :raises HogQLError: for a name with ``%``, which PostHog refuses
    """
    if "%" in name:
        raise HogQLError(f'The HogQL identifier "{name}" is not permitted as it contains the "%" character')
    if (_PLAIN_CLICKHOUSE if clickhouse else _PLAIN).match(name):
        return name
    escaped = _ESCAPED.sub(lambda match: _ESCAPES[match.group()] if match.group() != "'" else "'", name)
    return "`" + escaped.replace("`", "\\`") + "`"
