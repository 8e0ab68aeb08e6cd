"""The names in HogQL expressions, and which of them must not be reused for other columns. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set

from airflow_provider_posthog.api.hogql import significant
from airflow_provider_posthog.exceptions import PostHogSettingsError

#: The names of a lambda's arguments.
_ARGUMENTS = re.compile(r"(?:\(([\w\s,]+)\)|([A-Za-z_]\w*))\s*->")


def names_in(*expressions: str | None) -> set[str]:
    """Return the columns in expressions: neither texts, nor functions, nor parts of other columns.

    :param expressions: HogQL; ``None`` for none.
    """
    return {name for expression in expressions if expression for name in _columns_in(expression)}


def _columns_in(expression: str) -> Iterator[str]:
    before, braces = "", 0
    tokens = significant(expression)
    for token, behind in zip(tokens, [*[following.text for following in tokens[1:]], ""], strict=True):
        if not token.inside:  # f'{a}' holds a column
            braces += (token.text == "{") - (token.text == "}")
        if braces:  # a placeholder's name is none of a column
            continue
        if token.kind == "name":
            yield token.text[1:-1]
        elif token.kind == "word" and before not in (".", "?.") and behind != "(":
            yield token.text
        before = token.text


def check_where(columns: Mapping[str, str], where: str | None) -> None:
    """Refuse a condition on a name that a column gives to another expression: HogQL would use that one.

    :param columns: HogQL by column name.
    :param where: the condition.
    :raises PostHogSettingsError: if it uses such a name.
    """
    lambdas = {name for pair in _ARGUMENTS.findall(where or "") for part in pair for name in re.findall(r"\w+", part)}
    for name in sorted(names_in(where) - lambdas):
        if columns.get(name, name) != name:
            raise PostHogSettingsError(
                "where",
                f"uses {name!r}, which columns gives to another expression, and HogQL would take that one.",
                "Choose another name in columns.",
            )


def check_own(columns: Mapping[str, str], own: Set[str]) -> None:
    """Refuse columns that reuse the names by which rows are found: HogQL would use the new ones.

    :param columns: HogQL by column name.
    :param own: the names that rows are found by.
    :raises PostHogSettingsError: if there is one.
    """
    for name, expression in columns.items():
        if name in own and expression != name:
            raise PostHogSettingsError(
                "columns", f"reuse {name!r}, a column by which rows are found.", "Choose another name."
            )
