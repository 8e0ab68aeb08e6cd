"""What limits the rows of a statement.

PostHog gives a LIMIT of its own to each SELECT that has none: 100 rows in a query, 50,000 in an export. It does so to
a statement's outermost SELECTs alone, but to every one of those that UNION, EXCEPT and INTERSECT bring together, also
in brackets; a LIMIT behind the last closing bracket does not count. It leaves CTEs and subqueries alone (PostHog's
``extract_select_queries`` and ``_apply_limit``, the same since 2023).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import NamedTuple

from airflow_provider_posthog.api.hogql.lexer import Token, significant
from airflow_provider_posthog.api.hogql.numbers import number_of
from airflow_provider_posthog.dataclass import dataclass

_SETS = frozenset({"UNION", "EXCEPT", "INTERSECT"})
_PAIRS = {"(": ")", "[": "]", "{": "}"}
#: After these words the expression is not complete: what follows is a name, even if it looks like a keyword.
_UNFINISHED = frozenset(
    re.findall(
        r"\w+",
        "SELECT DISTINCT FROM JOIN ON USING WHERE PREWHERE HAVING QUALIFY BY AND OR NOT IN LIKE ILIKE BETWEEN WHEN "
        "THEN ELSE LIMIT OFFSET",
    )
)
#: What follows a column that is called ``limit``; a number, a name or a bracket follows the LIMIT of a SELECT.
_GOES_ON = frozenset(
    re.findall(
        r"\w+",
        "FROM WHERE PREWHERE HAVING QUALIFY WINDOW GROUP ORDER LIMIT OFFSET UNION EXCEPT INTERSECT AS AND OR IN IS "
        "LIKE ILIKE BETWEEN ASC ASCENDING DESC DESCENDING NULLS COLLATE WHEN THEN ELSE END JOIN LEFT RIGHT INNER FULL "
        "CROSS ARRAY ANY ASOF SEMI ANTI ON USING SETTINGS WITH BY",
    )
)
#: The deepest nesting of brackets that is read.
_DEEPEST = 100


class Arm(NamedTuple):
    """A SELECT whose rows PostHog limits by themselves.

    :param limit: its LIMIT; ``None`` if it has none, or one that cannot be read.
    :param written: whether it has a LIMIT.
    :param stretches: whether its LIMIT is not a number of rows: ``WITH TIES``, or a percentage.
    """

    limit: int | None = None
    written: bool = False
    stretches: bool = False


@dataclass(frozen=True)
class Limits:
    """What limits the rows of a statement.

    :param arms: its outermost SELECTs, in order.
    :param operators: what brings them together, such as ``UNION ALL``, ``UNION DISTINCT``, ``EXCEPT``.
    :param tail: whether a LIMIT or OFFSET of the whole hides how many rows the arms have.
    """

    arms: Sequence[Arm] = (Arm(),)
    operators: frozenset[str] = field(default_factory=frozenset)
    tail: bool = False

    @property
    def is_set(self) -> bool:
        """Whether there is more than one SELECT."""
        return len(self.arms) > 1

    @property
    def hides_cuts(self) -> bool:
        """Whether the number of rows does not show how many each SELECT returned."""
        return self.is_set and (self.tail or bool(self.operators - {"UNION ALL"}))


def limits_of(sql: str, values: object = None) -> Limits:
    """Read what limits the rows of a statement.

    :param sql: one statement.
    :param values: what its placeholders stand for, by name.
    """
    tokens = significant(sql)
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    reader = _Reader(tokens, values if isinstance(values, Mapping) else {})
    limits, at = reader.whole(0, len(reader.tokens), 0)
    if at < len(reader.tokens) and reader.has_operator(at):
        return Limits(
            (*limits.arms, Arm()), frozenset({"UNION DISTINCT"})
        )  # PostHog would not read this; assume a set, to be safe
    return limits


def arms(sql: str, values: object = None) -> list[Arm]:
    """Return each outermost SELECT of a statement, with its LIMIT.

    :param sql: one statement.
    :param values: what its placeholders stand for, by name.
    """
    return [*limits_of(sql, values).arms]


class _Reader:
    """Reads ``set := member (UNION member)* [ORDER BY] [LIMIT]``, ``member := [WITH] SELECT ... | [WITH] (set)``."""

    def __init__(self, tokens: list[Token], values: Mapping[str, object]) -> None:
        self.tokens = tokens
        self.values = values
        self._closing = _closing(tokens)

    def whole(self, at: int, end: int, depth: int) -> tuple[Limits, int]:
        """Read a set of members, or one; return it, and where it ends."""
        first, at = self._member(at, end, depth)
        arms, operators, tail = [*first.arms], set(first.operators), first.tail
        while (behind := self._behind_operator(at, end)) is not None:
            operators.add(self._operator(at, behind))
            member, at = self._member(behind, end, depth)
            arms += member.arms
            operators |= member.operators
            tail = tail or member.tail
        own, at = self._clauses(at, end)
        if own is None:
            return Limits(tuple(arms), frozenset(operators), tail), at
        if len(arms) == 1:  # behind a SELECT in brackets its LIMIT stands in for the one within
            if not own.written:
                return Limits((arms[0],)), at
            # PostHog forgets WITH TIES there, and keeps that of the SELECT within.
            inner = arms[0].stretches
            return Limits((Arm(written=True, stretches=inner) if inner or own.stretches else own,)), at
        return Limits(tuple(arms), frozenset(operators), True), at

    def has_operator(self, at: int) -> bool:
        """Return whether a set operator follows the part that could be read."""
        return any(self._behind_operator(index, len(self.tokens)) is not None for index in range(at, len(self.tokens)))

    def _member(self, at: int, end: int, depth: int) -> tuple[Limits, int]:
        at = self._behind_with(at, end)
        if at < end and self.tokens[at].text == "(" and self._is_query(at):
            closing = self._closing.get(at, end)
            if depth >= _DEEPEST:
                return Limits(), closing + 1
            limits, rest = self.whole(at + 1, closing, depth + 1)
            if rest < closing and self.has_operator(rest):
                limits = replace(limits, arms=(*limits.arms, Arm()))
            return limits, closing + 1
        if at < end and self.tokens[at].text == "{":  # a placeholder for a query
            return Limits(), self._closing.get(at, end) + 1
        return self._select(at, end)

    def _select(self, at: int, end: int) -> tuple[Limits, int]:
        """Read a SELECT up to the operator behind it, or to what belongs to the whole set."""
        arm, offset, unfinished = Arm(), False, True
        while at < end and self._behind_operator(at, end) is None:
            if self._is_limit(at, end, unfinished):
                behind = self._behind_clause(at + 1, end)
                if not self._has(at + 1, behind, "BY"):
                    if arm.written:
                        break
                    arm = self._arm(at + 1, behind)
                    offset = offset or self._has(at + 1, behind, "OFFSET")
                at, unfinished = behind, False
                continue
            offset = offset or (self.tokens[at].upper == "OFFSET" and not unfinished)
            unfinished = self._is_unfinished(at, unfinished)
            at = self._behind(at)
        # PostHog takes the OFFSET of the last SELECT for one of the whole set.
        return Limits((arm,), tail=offset), at

    def _clauses(self, at: int, end: int) -> tuple[Arm | None, int]:
        """Read ORDER BY, LIMIT and OFFSET of a whole set; ``None`` if there is neither LIMIT nor OFFSET."""
        own: Arm | None = None
        unfinished = False
        while at < end and self._behind_operator(at, end) is None:
            if self._is_limit(at, end, unfinished):
                behind = self._behind_clause(at + 1, end)
                own = self._arm(at + 1, behind)
                at, unfinished = behind, False
                continue
            if self.tokens[at].upper == "OFFSET" and not unfinished:
                own = own or Arm()
            unfinished = self._is_unfinished(at, unfinished)
            at = self._behind(at)
        return own, at

    def _is_limit(self, at: int, end: int, unfinished: bool) -> bool:
        """Distinguish the LIMIT of a SELECT from a column, an alias and a property of that name."""
        if self.tokens[at].upper != "LIMIT" or self._names(at) or at + 1 >= end:
            return False
        behind = self.tokens[at + 1]
        if behind.kind == "number" or behind.text == "{":
            return True  # two values side by side are never one expression
        if behind.kind == "sign":
            return not unfinished and behind.text in ("(", "[", "-", "+")
        return not unfinished and behind.upper not in _GOES_ON

    def _names(self, at: int) -> bool:
        """Return whether what stands before a word makes it a name."""
        before = self.tokens[at - 1] if at else None
        return before is not None and (before.text in (".", "?.", "::") or before.upper == "AS")

    def _is_unfinished(self, at: int, unfinished: bool) -> bool:
        token = self.tokens[at]
        if token.kind == "word":
            if unfinished and token.upper not in ("SELECT", "DISTINCT", "NOT"):
                return False
            return token.upper in _UNFINISHED and not self._names(at)
        if token.kind == "sign":
            return not (token.text in _PAIRS or token.text in (")", "]", "}") or (token.text == "*" and unfinished))
        return False

    def _behind_clause(self, at: int, end: int) -> int:
        """Return where a LIMIT ends: at the next clause, or operator."""
        unfinished = True
        while at < end and self._behind_operator(at, end) is None:
            token = self.tokens[at]
            if token.upper in ("SETTINGS", "ORDER") or self._is_limit(at, end, unfinished):
                break
            unfinished = self._is_unfinished(at, unfinished)
            at = self._behind(at)
        return min(at, end)

    def _has(self, at: int, end: int, word: str) -> bool:
        """Return whether a LIMIT contains a word: ``BY`` makes it a limit of the rows for each value."""
        return any(self.tokens[index].upper == word and not self._names(index) for index in self._outer(at, end))

    def _arm(self, at: int, end: int) -> Arm:
        ends = [index for index in self._outer(at, end) if self._ends_number(index)]
        number = self.tokens[at : min([*ends, end])]
        if self._has(at, end, "TIES") or (number and number[-1].text == "%"):
            return Arm(written=True, stretches=True)
        limit = number_of(number, self.values)
        return Arm(limit if limit is not None and limit >= 0 else None, written=True)

    def _ends_number(self, at: int) -> bool:
        token = self.tokens[at]
        return (token.kind == "sign" and token.text == ",") or token.upper in ("OFFSET", "WITH")

    def _behind(self, at: int) -> int:
        """Return where the next token is, or what is behind the bracket that opens here."""
        return self._closing.get(at, at) + 1

    def _outer(self, at: int, end: int) -> list[int]:
        """Return where the tokens outside all brackets are."""
        outer = []
        while at < end:
            outer.append(at)
            at = self._behind(at)
        return outer

    def _behind_operator(self, at: int, end: int) -> int | None:
        """Return where the member behind an operator begins; ``None`` if there is no operator."""
        if at >= end or self.tokens[at].upper not in _SETS or self._names(at):
            return None
        behind = at + 1
        if behind < end and self.tokens[behind].upper in ("ALL", "DISTINCT"):
            behind += 1
        if behind + 1 < end and [self.tokens[behind].upper, self.tokens[behind + 1].upper] == ["BY", "NAME"]:
            behind += 2
        if behind >= end or not self._is_query(behind):
            return None
        # A function may have this name, but only as the first expression of a SELECT.
        is_function = at > 0 and self.tokens[at - 1].upper in ("SELECT", "DISTINCT") and behind == at + 1
        return None if is_function and self.tokens[behind].text == "(" else behind

    def _operator(self, at: int, behind: int) -> str:
        words = [token.upper for token in self.tokens[at:behind] if token.upper not in ("BY", "NAME")]
        return "UNION DISTINCT" if words == ["UNION"] else " ".join(words)

    def _is_query(self, at: int) -> bool:
        """Return whether a query begins here."""
        while at < len(self.tokens) and self.tokens[at].text == "(":
            at += 1
        return at < len(self.tokens) and (
            self.tokens[at].upper in ("SELECT", "WITH")
            or (self.tokens[at].kind == "sign" and self.tokens[at].text == "{")
        )

    def _behind_with(self, at: int, end: int) -> int:
        """Return where the query behind its CTEs begins."""
        if at >= end or self.tokens[at].upper != "WITH":
            return at
        at += 1
        while at < end:
            token, before = self.tokens[at], self.tokens[at - 1]
            if token.upper == "SELECT" and not self._names(at):
                return at
            if token.text == "(" and self._is_query(at) and self._ends_cte(at, before):
                return at
            at = self._behind(at)
        return end

    def _ends_cte(self, at: int, before: Token) -> bool:
        """Distinguish the query in brackets behind the CTEs from a CTE's own: ``a AS (...) (SELECT ...)``."""
        return before.text == ")" or (self._names(at - 1) and before.upper not in ("MATERIALIZED", "NOT", "AS"))


def _closing(tokens: list[Token]) -> dict[int, int]:
    """Return where each bracket is closed; what nothing closes goes to the end."""
    closing: dict[int, int] = {}
    waiting: list[int] = []
    for at, token in enumerate(tokens):
        if token.kind != "sign":
            continue
        if token.text in _PAIRS:
            waiting.append(at)
        elif token.text in (")", "]", "}") and waiting:
            closing[waiting.pop()] = at
    return closing | {at: len(tokens) for at in waiting}
