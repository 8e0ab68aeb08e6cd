"""Check a user's own query over tables that PostHog derives from others: each SELECT like a condition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from airflow_provider_posthog.api.hogql import Token, significant
from airflow_provider_posthog.extract.lazy_conditions import check_tokens

_SETS = frozenset(("UNION", "INTERSECT", "EXCEPT"))
#: What stands in a SELECT behind its tables, and behind its conditions.
_CLAUSES = frozenset(
    ("WHERE", "PREWHERE", "GROUP", "HAVING", "WINDOW", "QUALIFY", "ORDER", "LIMIT", "OFFSET", "SETTINGS", "FORMAT")
)
_CONDITIONS = ("WHERE", "PREWHERE")
_BEFORE_TABLE = ("FROM", "JOIN", ",")


def check_query(query: str) -> None:
    """Refuse a query that some servers misread in part, so that it returns the wrong rows.

    :param query: HogQL.
    :raises PostHogSettingsError: if a SELECT of it has such a condition.
    """
    tokens = significant(query)
    depths = list(_depths(tokens))
    for at, token in enumerate(tokens):
        if token.upper == "SELECT" and not _is_name(tokens, at):
            _check_select(tokens[at:], depths[at:])


def _depths(tokens: Sequence[Token]) -> Iterator[int]:
    """Yield how many brackets are around each token."""
    depth = 0
    for token in tokens:
        is_sign = token.kind == "sign"
        depth -= is_sign and token.text in (")", "]", "}")
        yield depth
        depth += is_sign and token.text in ("(", "[", "{")


def _is_name(tokens: Sequence[Token], at: int) -> bool:
    """Return whether a word is not a keyword: ``a.select``, or ``AS from``."""
    return tokens[at].kind != "word" or (at > 0 and tokens[at - 1].text.upper() in (".", "?.", "AS"))


def _check_select(tokens: Sequence[Token], depths: Sequence[int]) -> None:
    """Check the conditions of the SELECT that some tokens begin with."""
    own = depths[0]
    end = next((at for at, depth in enumerate(depths) if depth < own or _ends(tokens, at, depth == own)), len(tokens))
    words = {at: tokens[at].upper for at in range(1, end) if depths[at] == own and not _is_name(tokens, at)}
    edges = [at for at, word in words.items() if word in _CLAUSES]
    begin = next((at for at, word in words.items() if word == "FROM"), end)
    behind = range(begin + 1, min((edge for edge in edges if edge > begin), default=end))
    tables = {
        tokens[at].text.strip('`"')
        for at in behind
        if depths[at] == own and tokens[at].kind in ("word", "name") and tokens[at - 1].text.upper() in _BEFORE_TABLE
    }
    outside = list(_without_queries(tokens[:end]))
    for at in edges:
        if words[at] in _CONDITIONS:
            until = min((edge for edge in edges if edge > at), default=end)
            check_tokens(tables, tokens[at + 1 : until], outside, "query")


def _ends(tokens: Sequence[Token], at: int, is_own: bool) -> bool:
    """Return whether another SELECT of a set operation begins here; ``* EXCEPT (a)`` is none."""
    return is_own and tokens[at].upper in _SETS and not _is_name(tokens, at) and tokens[at - 1].text != "*"


def _without_queries(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens that are in no query within this one."""
    inside: list[bool] = []
    for at, token in enumerate(tokens):
        if token.text == ")" and inside:
            inside.pop()
        if not any(inside):
            yield token
        if token.text == "(":
            inside.append(at + 1 < len(tokens) and tokens[at + 1].upper in ("SELECT", "WITH"))
