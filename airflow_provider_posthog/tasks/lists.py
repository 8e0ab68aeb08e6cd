"""Arguments that are lists, numbers, words, or values by name; a template makes text of any of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Any

from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogSettingsError


def listed(field: str, value: object, *, kinds: tuple[type, ...] = (str,)) -> list[Any]:
    """Return what an argument lists.

    :param field: the argument.
    :param value: its value; a template makes text of a list.
    :param kinds: what its entries may be.
    :raises PostHogSettingsError: if it is not a list, or an entry is of another kind or empty.
    """
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, Set)):
        raise PostHogSettingsError(
            field,
            f"{str(value)[:60]!r} is not a list.",
            "Write a list, such as ['a', 'b'] (a template makes text of a list, unless the DAG has "
            "render_template_as_native_obj=True).",
        )
    items = list(value)
    wrong = [item for item in items if isinstance(item, bool) or not isinstance(item, kinds) or item == ""]
    if wrong:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise PostHogSettingsError(field, f"has {str(wrong[0])[:60]!r} in it.", f"Write a list of {names}.")
    return items


def number_of(field: str, value: object) -> int:
    """Read the number of a thing on PostHog from a task's argument.

    :param field: the argument.
    :param value: a number, or text of digits.
    :raises PostHogSettingsError: if it is neither.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise PostHogSettingsError(field, f"{text[:60]!r} is not a number.", "Write the number in its address.")
    return int(text)


def count_of(field: str, value: object) -> int:
    """Read how many of something a task allows.

    :param field: the argument.
    :param value: a whole number from 0, or text of digits.
    :raises PostHogSettingsError: if it is neither.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit() or len(text) > 18:
        raise PostHogSettingsError(field, f"{text[:60]!r} is not a number from 0.", "Write how many there may be.")
    return int(text)


def flag_of(field: str, value: object) -> bool:
    """Read a flag that may have been a template.

    :param field: the argument.
    :param value: true or false, or text of that.
    :raises PostHogSettingsError: if it is neither.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise PostHogSettingsError(field, "is neither true nor false.", "Write True or False.")


@contextmanager
def named_by(field: str, value: object, what: str, remedy: str = "Write the number in its address.") -> Iterator[None]:
    """Say which argument names a thing that PostHog is asked for, if there is none: another try would find none either.

    :param field: the argument.
    :param value: its value: a number or a name.
    :param what: what it names, such as ``dashboard``.
    :param remedy: what to write instead.
    :raises PostHogSettingsError: if the project has none that the key may see.
    """
    try:
        yield
    except PostHogNotFoundError as error:
        if error.hint():  # it is the project, or no PostHog at all
            raise
        shown = value if isinstance(value, int) else repr(str(value)[:60])
        problem = f"is {shown}, and the project has no such {what} that this key may see."
        raise PostHogSettingsError(field, problem, remedy) from error


def check_choice(field: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a word that is none of an argument's; where it is no template, when the task is made.

    :param field: the argument.
    :param value: its value.
    :param choices: the words that it takes.
    :raises PostHogSettingsError: if it is another.
    """
    if value not in choices:
        raise PostHogSettingsError(field, f"{value!r:.40} is not known.", f"Write one of {', '.join(choices)}.")


def values_of(values: object, *, is_text: bool) -> Mapping[str, Any] | None:
    """Return what a statement's placeholders stand for.

    :param values: the argument ``values``.
    :param is_text: whether they go with HogQL text: a query node has its own.
    :raises PostHogSettingsError: if they are no values by name, or go with no text.
    """
    if values is None:
        return None
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise PostHogSettingsError(
            "values", "is not a dictionary with names.", "Write {'name': value} for each {name}."
        )
    if values and not is_text:
        raise PostHogSettingsError("values", "goes with HogQL text only.", "Put the values into the query node.")
    return values
