"""Groups, such as companies, and their types (``/api/projects/{id}/groups/`` and ``groups_types/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_provider_posthog.api import answers
from airflow_provider_posthog.api.arguments import GroupIndex, Text
from airflow_provider_posthog.api.call import Call, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.shapes import PropertyValue

_READ = ("group:read",)


class Group(TypedDict, total=False):
    """A group."""

    group_type_index: int
    group_key: str
    group_properties: Mapping[str, Any]
    created_at: str


class GroupPage(TypedDict, total=False):
    """A page of groups; always up to 100."""

    next: str | None
    previous: str | None
    results: Sequence[Group]


class GroupType(TypedDict, total=False):
    """A type of groups; groups are listed by its ``group_type_index``."""

    group_type: str
    group_type_index: int
    name_singular: str | None
    name_plural: str | None


@endpoint("GET", "groups/", scopes=_READ, paging="cursor")
def list(*, group_type_index: GroupIndex, search: Text | None = None, cursor: Text | None = None) -> Call[GroupPage]:
    """List the groups of a type, 100 to a page. PostHog takes an invalid cursor for none and starts again.

    :param group_type_index: the type, as :func:`types` numbers it.
    :param search: only groups with this text in their key or name.
    :param cursor: where to go on, from the address in ``next``.
    """
    return list.call(json_page, query={"group_type_index": group_type_index, "search": search, "cursor": cursor})


@endpoint("GET", "groups/find/", scopes=_READ)
def find(*, group_type_index: GroupIndex, group_key: Text) -> Call[Group]:
    """Find a group by its key; 404 if there is none. Many servers refuse it to personal API keys (403).

    Newer servers would create a notebook for the group on the way; the call asks them not to.

    :param group_type_index: the type.
    :param group_key: the key.
    """
    query = {"group_type_index": group_type_index, "group_key": group_key, "skip_create_notebook": True}
    return find.call(json_object, query=query)


@endpoint("GET", "groups/property_definitions/", scopes=_READ)
def property_definitions() -> Call[dict[str, Any]]:
    """List which properties groups have: by the type's index, a list of ``{name, count}``; newer servers answer 404."""
    return property_definitions.call(json_object)


@endpoint("GET", "groups/property_values/", scopes=_READ)
def property_values(
    *, group_type_index: GroupIndex, key: Text, value: Text | None = None
) -> Call[Sequence[PropertyValue]]:
    """List the commonest values of a property, at most 20.

    :param group_type_index: the type.
    :param key: the property.
    :param value: only values with this text in them.
    """
    query = {"group_type_index": group_type_index, "key": key, "value": value}
    return property_values.call(answers.rows, query=query)


@endpoint("GET", "groups_types/", scopes=_READ)
def types() -> Call[Sequence[GroupType]]:
    """List the types of groups: five at the most, and no pages."""
    return types.call(answers.rows)
