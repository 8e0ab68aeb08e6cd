"""Conditions that PostHog misreads on tables that it derives from others: refused before anything is sent.

PostHog builds ``persons`` and ``sessions`` on demand, and pushes parts of a query's WHERE down to their source tables.
Since November 2024 some expressions that it cannot push down become *true* there, and not *unknown*: ``x % 2 = 0``
becomes ``true = 0``, and no row is returned, without an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set

from airflow_provider_posthog.api.hogql import Token, significant
from airflow_provider_posthog.exceptions import PostHogSettingsError

#: The function for each operator; PostHog handles functions correctly.
_FUNCTIONS = {"+": "plus", "-": "minus", "*": "multiply", "/": "divide", "%": "modulo"}
#: Words behind which a sign belongs to a number, and no value ends.
_KEYWORDS = frozenset(
    ("AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "BETWEEN", "IS", "THEN", "ELSE", "WHEN", "CASE", "INTERVAL", "SELECT")
)
_ENDS_OF_VALUES = frozenset((")", "]", "}"))
_COMPARED = frozenset("=<>~") | {"IN", "LIKE", "ILIKE"}
#: Behind these, NOT belongs to the operator.
_NEGATED = frozenset(("IN", "LIKE", "ILIKE", "BETWEEN"))
#: Columns that hold values by name.
_OBJECTS = frozenset(("properties", "person_properties", "elements_chain"))
_CHOICES = frozenset(("IF", "MULTIIF", "CASE", "XOR", "BETWEEN"))


def check_lazy(table: str, columns: Mapping[str, str], where: str | None) -> None:
    """Refuse a condition that some servers misread, so that it returns the wrong rows.

    :param table: what is read, one of PostHog's tables.
    :param columns: HogQL by column name.
    :param where: the condition.
    :raises PostHogSettingsError: if it is one.
    """
    if not where:
        return
    tokens = significant(where)
    check_tokens(
        {table}, tokens, [*tokens, *(token for expression in columns.values() for token in significant(expression))]
    )


def check_tokens(tables: Set[str], where: Sequence[Token], all_of_it: Sequence[Token], field: str = "where") -> None:
    """Refuse a condition that some servers misread, so that it returns the wrong rows.

    :param tables: what is read, and joined.
    :param where: the condition.
    :param all_of_it: the condition, and all else that may bring persons or sessions along.
    :param field: the argument that has the condition.
    :raises PostHogSettingsError: if it is one.
    """
    tokens = list(_outside(where))
    joined = _chains(list(_outside(all_of_it))) if "events" in tables else set()
    if "persons" in tables or "person" in joined:
        _check_arithmetic(tokens, field)
        _check_lambdas(tokens, field)
    if "sessions" in tables or "session" in joined:
        _check_negations(tokens, field)


def _outside(tokens: Sequence[Token]) -> Iterator[Token]:
    """Yield the tokens outside of placeholders, and of the queries that something is compared with."""
    depth, braces, before = 0, 0, ""
    for number, token in enumerate(tokens):
        text = token.upper or token.text
        if depth:
            depth += (text == "(") - (text == ")")
            if not depth:
                yield token
        elif text == "(" and before in _COMPARED and _begins_query(tokens[number + 1 : number + 2]):
            depth = 1
            yield token
        else:
            is_edge = text in "{}" and not token.inside  # f'{a}' holds a column
            braces += is_edge and text == "{"
            if not braces or is_edge:
                yield token
            braces -= is_edge and text == "}"
        before = text


def _begins_query(following: Sequence[Token]) -> bool:
    return bool(following) and following[0].upper in ("SELECT", "WITH")


def _chains(tokens: Sequence[Token]) -> set[str]:
    """Return the names that another one follows behind a dot, and that follow none, or only a table's."""
    texts = [token.text.strip('`"') if token.kind in ("word", "name") else token.text for token in tokens]
    dots = (".", "?.")
    chains = set()
    for at, text in enumerate(texts):
        first = at == 0 or texts[at - 1] not in dots
        # `e.person.id` of the table e; but `properties.person.id` is a property.
        second = at > 1 and not first and texts[at - 2] not in _OBJECTS and (at == 2 or texts[at - 3] not in dots)
        if (first or second) and at + 1 < len(texts) and texts[at + 1] in dots:
            chains.add(text)
    return chains


def _check_arithmetic(tokens: Sequence[Token], field: str) -> None:
    for number, token in enumerate(tokens):
        if token.kind != "sign" or token.text not in _FUNCTIONS:
            continue
        before, behind = tokens[number - 1] if number else None, tokens[number + 1 : number + 2]
        if token.text == "*" and before is not None and before.text in ("(", "."):
            continue
        is_sign = before is None or not _ends_value(before)
        if is_sign and behind and behind[0].kind == "number":
            continue
        name = "negate" if is_sign else _FUNCTIONS[token.text]
        example = "negate(a)" if is_sign else f"{name}(a, b)"
        raise PostHogSettingsError(
            field,
            f"has an operator ({token.text}) that PostHog drops where it looks up persons, so that the wrong rows, or "
            "none, are found.",
            f"Write it as a function: {example} in place of {'-a' if is_sign else f'a {token.text} b'}, and "
            "toIntervalDay(30) in place of INTERVAL 30 DAY.",
        )


def _ends_value(token: Token) -> bool:
    if token.kind == "word":
        return token.upper not in _KEYWORDS
    return token.kind in ("number", "text", "name", "template") or token.text in _ENDS_OF_VALUES


def _check_lambdas(tokens: Sequence[Token], field: str) -> None:
    if not any(token.text == "->" for token in tokens):
        return
    if any(_is_negation(tokens, number) or token.upper in _CHOICES for number, token in enumerate(tokens)):
        raise PostHogSettingsError(
            field,
            "has a lambda (->) beside NOT, BETWEEN or a choice (if, CASE), of which PostHog loses a part where it "
            "looks up persons.",
            "Write what NOT stands before the other way round (!=, NOT IN, NOT LIKE), and BETWEEN as >= and <=.",
        )


def _check_negations(tokens: Sequence[Token], field: str) -> None:
    for number, token in enumerate(tokens):
        if token.upper == "BETWEEN":
            raise PostHogSettingsError(
                field,
                "has BETWEEN, of which PostHog loses the column where it looks up sessions, so that none are found.",
                "Write a >= 1 AND a <= 5 in place of a BETWEEN 1 AND 5.",
            )
        if _is_negation(tokens, number):
            raise PostHogSettingsError(
                field,
                "has NOT before a condition, which PostHog takes for 'not true' where it looks up sessions, so that "
                "none are found.",
                "Write the condition the other way round: a != 1, a NOT IN (...), a NOT LIKE '...'.",
            )


def _is_negation(tokens: Sequence[Token], number: int) -> bool:
    """Return whether a token negates a condition: NOT IN and IS NOT NULL are other operators, and a column none."""
    if tokens[number].upper != "NOT":
        return False
    before = tokens[number - 1].upper if number else ""
    behind = [token.upper or token.text for token in tokens[number + 1 : number + 3]]
    if before == "IS" or not behind or behind[0] in _NEGATED:
        return False
    is_column = tokens[number + 1].kind in ("word", "name") and behind[1:] in ([], ["AND"], ["OR"], [")"])
    return not is_column
