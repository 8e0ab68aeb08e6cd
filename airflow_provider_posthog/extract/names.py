"""The names in HogQL expressions, and which of them a reading must not give to other columns. Pure text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from airflow_provider_posthog.api.hogql import significant
from airflow_provider_posthog.exceptions import PostHogSettingsError

#: The names of a lambda's arguments.
_ARGUMENTS = re.compile(r"(?:\(([\w\s,]+)\)|([A-Za-z_]\w*))\s*->")
#: What a template makes of a list.
_LIST = re.compile(r"\s*[\[(]\s*['\"\])]")


def names_in(*expressions: str | None) -> set[str]:
    """Return the columns in expressions: neither texts, nor functions, nor parts of other columns.

    :param expressions: HogQL; ``None`` for none.
    """
    return {name for expression in expressions if expression for name in _columns_in(expression)}


def _columns_in(expression: str) -> Iterator[str]:
    before, braces = "", 0
    found = significant(expression)
    for token, behind in zip(found, [*[each.text for each in found[1:]], ""], strict=True):
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
    """Refuse a condition on a name that a column gives to something else: HogQL would take that for it.

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
    """Refuse other columns under the names of those that rows are found by: HogQL would take the new ones for them.

    :param columns: HogQL by column name.
    :param own: the names that rows are found by.
    :raises PostHogSettingsError: if there is one.
    """
    for name, expression in columns.items():
        if name in own and expression != name:
            raise PostHogSettingsError(
                "columns", f"{name!r} is the name of a column that the rows are found by.", "Choose another name."
            )


def events_named(
    event: str | Sequence[str] | None, columns: Sequence[str] | Mapping[str, str] | None
) -> tuple[list[str], dict[str, Any]]:
    """Return the condition that rows are events of some names, and its value; none where all are read.

    :param event: the name, or the names.
    :param columns: the columns that are read.
    :raises PostHogSettingsError: if it names no events.
    """
    if event is None:
        return [], {}
    names = [event] if isinstance(event, str) else event
    # No event has an empty name, so nothing would be read, and what is there be replaced by it.
    if not names or not isinstance(names, Sequence) or not all(map(_is_name, names)):
        raise PostHogSettingsError(
            "event",
            f"{event!r:.80} names no events.",
            "Leave it out, or write a name or a list of names (a template makes text of a list, unless the DAG has "
            "render_template_as_native_obj=True).",
        )
    if isinstance(columns, Mapping):
        check_own(columns, {"event"})
    return ["event IN {posthog_event_names}"], {"posthog_event_names": list(names)}


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and not _LIST.match(name)
