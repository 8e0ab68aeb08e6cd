"""The little of HogQL that a client has to read: where a statement's own LIMIT is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TOKENS = re.compile(
    r"""
    (?P<skip>\s+|--[^\n]*|/\*.*?\*/)
  | (?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)
  | (?P<value>\{[^{}]*\})
  | (?P<word>[A-Za-z_$][\w$]*)
  | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def _top_level(sql: str) -> Iterator[str]:
    """Yield the tokens outside all brackets; what is in brackets, quotes and comments can hold no LIMIT of ours."""
    depth = 0
    for match in _TOKENS.finditer(sql):
        if match.lastgroup == "skip":
            continue
        found = match.group()
        if found in "([":
            depth += 1
        elif found in ")]":
            depth -= 1
        elif depth == 0:
            yield found if match.lastgroup != "text" else "''"


def limit_of(sql: str, values: object = None) -> int | None:
    """Return the LIMIT of a HogQL statement, or ``None`` if it has none that can be read.

    Each SELECT of a UNION has a LIMIT of its own: they add up, and none must be missing.

    :param sql: the statement.
    :param values: what its placeholders stand for.
    """
    known = values if isinstance(values, Mapping) else {}
    tokens = [token.upper() if not token.startswith("{") else token for token in _top_level(sql)]
    limits: list[int | None] = [None]
    for at, word in enumerate(tokens):
        if at and tokens[at - 1] == ".":
            continue  # a property of that name
        number, then, _, last = [*tokens[at + 1 : at + 5], "", "", "", ""][:4]
        if word == "UNION":
            limits.append(None)
        elif word == "LIMIT" and then != "BY" and not (then in (",", "OFFSET") and last == "BY"):
            limits[-1] = _number(number, known)
    found = [limit for limit in limits if limit is not None]
    return sum(found) if len(found) == len(limits) else None


def _number(token: str, values: Mapping[str, Any]) -> int | None:
    value = values.get(token[1:-1].strip()) if token.startswith("{") else token
    try:
        return int(str(value))
    except ValueError:
        return None
