"""Rewrite a query to return no rows, to learn its columns before ``*`` over it leaves some out. Pure text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from airflow_provider_posthog.api.hogql import significant

_SETS = frozenset({"UNION", "INTERSECT", "EXCEPT"})
#: What ends the conditions of a SELECT, and what comes after its groups and changes no column.
_AFTER_WHERE = frozenset({"GROUP", "HAVING", "WINDOW", "QUALIFY"})
_AT_THE_END = frozenset({"ORDER", "LIMIT", "OFFSET"}) | _SETS


@dataclass(frozen=True)
class _Token:
    text: str
    start: int
    end: int
    depth: int


def _tokens(sql: str) -> Iterator[_Token]:
    """Yield words in capitals and signs, with how many brackets are around them; texts and names in quotes as ``''``.

    A word that names something (behind a dot, or AS) comes as such a name, too.
    """
    depth, before = 0, ""
    for token in significant(sql):
        depth -= token.text in (")", "]", "}")
        is_name = token.kind not in ("word", "sign", "number") or (token.kind == "word" and before in (".", "?.", "AS"))
        before = "''" if is_name else token.text.upper()
        yield _Token(before, token.start, token.start + len(token.text), depth)
        depth += token.text in ("(", "[", "{")


def without_rows(sql: str) -> str | None:
    """Return a query with the same columns that PostHog answers without reading rows; ``None`` if there is none.

    Columns are those of the first SELECT of a set operation.

    :param sql: the query.
    """
    tokens = list(_tokens(sql))
    if tokens and tokens[0].text == "(":
        inside = next((token for token in tokens[1:] if token.text == ")" and token.depth == 0), None)
        return without_rows(sql[tokens[0].end : inside.start]) if inside else None
    own = [token for token in tokens if token.depth == 0]
    select = next((number for number, token in enumerate(own) if token.text == "SELECT"), None)
    if select is None:
        return None
    clauses = own[select + 1 :]
    # `* EXCEPT (a)` is not a set operation.
    stars = {after.start for before, after in pairwise(clauses) if before.text == "*"}
    where = next((token for token in clauses if token.text == "WHERE"), None)
    ends = [token.start for token in clauses if token.text in _AT_THE_END and token.start not in stars]
    cut = min(ends, default=len(sql))
    groups = [token.start for token in clauses if token.text in _AFTER_WHERE and token.start < cut]
    tail = min(groups, default=cut)
    rest = f"{sql[tail:cut]}\nLIMIT 1"
    if where is None or where.start > tail:
        return f"{sql[:tail]}\nWHERE 1 = 2 {rest}"
    return f"{sql[: where.end]} 1 = 2 AND ({sql[where.end : tail]}\n) {rest}"


def has_limit_without_order(sql: str) -> bool:
    """Return whether a SELECT in a query has a LIMIT without an order.

    :param sql: the query.
    """
    levels: dict[int, set[str]] = {}
    for token in _tokens(sql):
        words = levels.setdefault(token.depth, set())
        if token.text == ")" or token.text in _SETS:
            ended = token.depth + (token.text == ")")
            if _is_unordered(levels.pop(ended, set())):
                return True
        elif token.text in ("SELECT", "LIMIT", "ORDER"):
            words.add(token.text)
    return any(map(_is_unordered, levels.values()))


def _is_unordered(words: set[str]) -> bool:
    return "SELECT" in words and "LIMIT" in words and "ORDER" not in words
