"""Whether a recipe can make events of rows: its arguments go together, before a row is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError

KINDS: Mapping[str, str | None] = {
    "events": None,
    "persons": "$set",
    "groups": "$groupidentify",
    "aliases": "$create_alias",
    "merges": "$merge_dangerously",
}
_OF_PERSONS = ("$set", "$set_once", "$unset")
#: The ways in which properties are set: those of groups can only be set.
_PARTS = ("properties", *_OF_PERSONS)
_PARTS_OF_GROUPS = ("properties", "$set")
_PAIRS = ("aliases", "merges")


def check_recipe(recipe: Any) -> None:  # noqa: ANN401 - Recipe, whose module imports this one
    """Refuse a recipe that cannot work.

    :param recipe: the recipe.
    :raises PostHogSettingsError: if its arguments do not go together.
    """
    if recipe.kind not in KINDS:
        raise PostHogSettingsError(
            "kind", f"is {recipe.kind!r:.40}, which is not known.", f"Write one of {', '.join(KINDS)}."
        )
    _check_texts(recipe)
    _check_event(recipe)
    if (recipe.kind == "groups") != bool(recipe.group_type):
        raise PostHogSettingsError(
            "group_type",
            "is empty." if recipe.kind == "groups" else f"is given, and {recipe.kind} have none.",
            "Write the groups' type, such as 'company'." if recipe.kind == "groups" else "Leave it out.",
        )
    if not recipe.key and recipe.kind in ("events", *_PAIRS):
        raise PostHogSettingsError(
            "key", "is empty.", "Write the columns that identify a row: each event's uuid follows from them."
        )
    _check_properties(recipe)


def _check_texts(recipe: Any) -> None:  # noqa: ANN401
    for field, name in (("distinct_id", recipe.distinct_id), *(("key", part) for part in recipe.key)):
        if not isinstance(name, str) or not name:
            raise PostHogSettingsError(field, f"is {name!r:.40}, which is no column.", "Write a column's name.")
    for field in ("event", "event_column", "timestamp", "group_type"):
        given = getattr(recipe, field)
        if not isinstance(given, (str, type(None))):
            raise PostHogSettingsError(field, f"is {given!r:.40}, which is no text.", "Write text.")


def _check_event(recipe: Any) -> None:  # noqa: ANN401
    named = KINDS[recipe.kind]
    if named is not None and (recipe.event or recipe.event_column):
        raise PostHogSettingsError("event", f"is given, and {recipe.kind} are sent as {named}.", "Leave it out.")
    if named is None and bool(recipe.event) == bool(recipe.event_column):
        raise PostHogSettingsError(
            "event", "is missing, or given twice.", "Write the event's name as event, or its column as event_column."
        )
    if named is None and not recipe.timestamp:
        raise PostHogSettingsError("timestamp", "is not given.", "Write the column with the events' time.")


def _check_properties(recipe: Any) -> None:  # noqa: ANN401
    given = recipe.properties
    if recipe.kind in _PAIRS and (given is None or isinstance(given, (str, Mapping)) or len(given) != 1):
        raise PostHogSettingsError("properties", "is not one column.", "Write a list of the column with the other id.")
    parts = given if isinstance(given, Mapping) else {"properties": () if given is None else given}
    takes = _PARTS_OF_GROUPS if recipe.kind == "groups" else _PARTS
    if set(parts) - set(takes):
        raise PostHogSettingsError(
            "properties",
            f"has parts that {recipe.kind} cannot have.",
            f"Write some of {', '.join(takes)}, or a list of columns.",
        )
    for part, names in parts.items():
        if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
            what = f"{part} is" if isinstance(given, Mapping) else "is"
            raise PostHogSettingsError("properties", f"{what} no list of columns.", "Write one, such as ['plan'].")
    if recipe.kind == "persons" and given is not None and not any(parts.values()):
        raise PostHogSettingsError("properties", "is empty: no person would change.", "Write columns, or leave it out.")
    twice = _repeated([name for part in _OF_PERSONS for name in parts.get(part, ())])
    if twice:
        raise PostHogSettingsError(
            "properties", f"has {twice:.60} twice among {', '.join(_OF_PERSONS)}.", "Write it in one of them."
        )


def _repeated(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)
