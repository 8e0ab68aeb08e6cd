"""Conditions of a task's own: one that would change the rest of the statement is refused before anything is sent.

A condition is put into brackets and joined with those of a window. One that closes the brackets, such as
``1 = 1) OR (1 = 1``, would take the window's bounds away, and each window would return the rows of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from airflow_provider_posthog.api.hogql import Token, significant
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

_OPENS = {")": "(", "]": "[", "}": "{"}
#: What closes a quote that was opened.
_QUOTED = pattern(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"|`(?:[^`\\]|\\.|``)*`", re.DOTALL)
#: Clauses of a whole query, each with what follows it there; otherwise the word is a name.
_CLAUSES = {
    "ORDER": ("BY",),
    "GROUP": ("BY",),
    "LIMIT": ("{",),
    "OFFSET": ("{",),
    "UNION": ("ALL", "DISTINCT", "SELECT", "("),
    "INTERSECT": ("DISTINCT", "SELECT", "("),
    "EXCEPT": ("DISTINCT", "SELECT", "("),
}
_REMEDY = "Write one condition, such as \"event = 'purchase'\"."


def check_condition(where: object, values: Mapping[str, object] | None = None) -> None:
    """Refuse what is not one condition, or has a placeholder without a value.

    :param where: the condition; ``None`` or empty for none.
    :param values: the values of its placeholders.
    :raises PostHogSettingsError: if it is something else.
    """
    if where is None or where == "":
        return
    if not isinstance(where, str):
        raise PostHogSettingsError("where", f"is not text, but of type {type(where).__name__}.", _REMEDY)
    tokens = significant(where)
    problem = _problem(tokens) if tokens else "holds no condition."
    if problem is not None:
        raise PostHogSettingsError("where", problem, _REMEDY)
    for opened, name, closed in zip(tokens, tokens[1:], tokens[2:], strict=False):
        is_placeholder = (opened.text, closed.text) == ("{", "}") and name.kind == "word" and not opened.inside
        if is_placeholder and name.text not in (values or {}):
            raise PostHogSettingsError(
                "where", f"has a placeholder {{{name.text}}} without a value.", f'Write values={{"{name.text}": ...}}.'
            )


def _problem(tokens: Sequence[Token]) -> str | None:
    if tokens[0].upper in ("WHERE", "PREWHERE") and len(tokens) > 1:
        return f"begins with {tokens[0].upper}, which the statement has already."
    opened: list[str] = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.kind == "open" or _is_unclosed(token):
            return "has a comment, or a quote, that nothing closes."
        if token.kind != "sign":
            if not opened and _is_clause(token, following):
                return f"has {token.upper}, which belongs to a whole query."
        elif token.text == ";":
            return "has a semicolon (;)."
        elif token.text in _OPENS.values():
            opened.append(token.text)
        elif token.text in _OPENS and (not opened or opened.pop() != _OPENS[token.text]):
            return f"closes a bracket ({token.text}) that it has not opened."
    return f"opens a bracket ({opened[-1]}) that it does not close." if opened else None


def _is_unclosed(token: Token) -> bool:
    return token.kind in ("text", "name") and token.text[:1] != "F" and not _QUOTED.fullmatch(token.text)


def _is_clause(token: Token, following: Token | None) -> bool:
    """Return whether a clause begins: ``LIMIT 5``, but not a column of that name."""
    words = _CLAUSES.get(token.upper)
    if words is None or following is None:
        return False
    return (following.upper or following.text) in words or ("{" in words and following.kind == "number")
