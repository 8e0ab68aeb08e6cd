"""Arguments that are lists: a text is none, though Python takes it for a list of letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError


def listed(field: str, value: object, *, kinds: tuple[type, ...] = (str,)) -> list[Any]:
    """Return what an argument lists.

    :param field: the argument.
    :param value: its value; a template makes text of a list.
    :param kinds: what its entries may be.
    :raises PostHogSettingsError: if it is no list, or an entry is of another kind or empty.
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, Set)):
        raise PostHogSettingsError(
            field,
            f"{str(value)[:60]!r} is no list.",
            "Write a list, such as ['a', 'b'] (a template makes text of a list, unless the DAG has "
            "render_template_as_native_obj=True).",
        )
    found = list(value)
    wrong = [each for each in found if isinstance(each, bool) or not isinstance(each, kinds) or each == ""]
    if wrong:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise PostHogSettingsError(field, f"has {str(wrong[0])[:60]!r} in it.", f"Write a list of {names}.")
    return found


def number_of(field: str, value: object) -> int:
    """Read the number of a thing on PostHog from a task's argument.

    :param field: the argument.
    :param value: a number, or text of digits.
    :raises PostHogSettingsError: if it is neither.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or int(text) < 1:
        raise PostHogSettingsError(field, f"{text[:60]!r} is not a number.", f"Write the {field}'s id.")
    return int(text)
