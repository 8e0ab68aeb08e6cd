"""Elements that autocapture saw (``/api/projects/{id}/elements/``).

Servers of 2024 refuse them to personal API keys (403).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from airflow_provider_posthog.api import answers
from airflow_provider_posthog.api.arguments import (
    FILLED,
    Limit,
    Number,
    Object,
    Offset,
    Properties,
    Text,
    changes,
    json_text,
)
from airflow_provider_posthog.api.call import Call, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.shapes import PropertyValue

_READ = ("element:read",)
_WRITE = ("element:write",)
Include = Literal["$autocapture", "$rageclick", "$dead_click"]


class Element(TypedDict, total=False):
    """An element; PostHog does not return its id."""

    text: str | None
    tag_name: str | None
    attr_class: Sequence[str] | None
    href: str | None
    attr_id: str | None
    nth_child: int | None
    nth_of_type: int | None
    attributes: Mapping[str, Any]
    order: int | None


class ElementPage(TypedDict, total=False):
    """A page of elements."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Element]


class ElementStats(TypedDict, total=False):
    """How often each chain of elements was clicked: ``count``, ``hash``, ``type`` and ``elements``."""

    next: str | None
    previous: str | None
    results: Sequence[Mapping[str, Any]]


@endpoint("GET", "elements/", scopes=_READ, paging="offset")
def list(*, limit: Limit = 100, offset: Offset = 0) -> Call[ElementPage]:
    """List elements.

    :param limit: elements per page.
    :param offset: how many to leave out.
    """
    return list.call(json_page, query={"limit": limit, "offset": offset or None})


@endpoint("POST", "elements/", scopes=_WRITE)
def create(
    *,
    text: str | None = None,
    tag_name: str | None = None,
    attr_class: Sequence[str] | None = None,
    href: str | None = None,
    attr_id: str | None = None,
    nth_child: int | None = None,
    nth_of_type: int | None = None,
    attributes: Object | None = None,
    order: int | None = None,
) -> Call[Element]:
    """Create an element.

    :param text: its text.
    :param tag_name: such as ``a``.
    :param attr_class: its CSS classes.
    :param href: where it leads.
    :param attr_id: its ``id`` in the page.
    :param nth_child: its place among all children.
    :param nth_of_type: its place among those of its tag.
    :param attributes: its other attributes.
    :param order: its place in the chain.
    """
    body = _body(text, tag_name, attr_class, href, attr_id, nth_child, nth_of_type, attributes, order)
    return create.call(json_object, json=body)


@endpoint("GET", "elements/{id}/", scopes=_READ)
def retrieve(element_id: Number) -> Call[Element]:
    """Retrieve an element.

    :param element_id: its number.
    """
    return retrieve.call(json_object, id=element_id)


@endpoint("PATCH", "elements/{id}/", scopes=_WRITE)
def update(
    element_id: Number,
    *,
    text: str | None = None,
    tag_name: str | None = None,
    attr_class: Sequence[str] | None = None,
    href: str | None = None,
    attr_id: str | None = None,
    nth_child: int | None = None,
    nth_of_type: int | None = None,
    attributes: Object | None = None,
    order: int | None = None,
) -> Call[Element]:
    """Change an element; what is not given stays. The arguments are those of :func:`create`.

    :param element_id: its number.
    :param text: its text.
    :param tag_name: such as ``a``.
    :param attr_class: its CSS classes.
    :param href: where it leads.
    :param attr_id: its ``id`` in the page.
    :param nth_child: its place among all children.
    :param nth_of_type: its place among those of its tag.
    :param attributes: its other attributes.
    :param order: its place in the chain.
    """
    body = _body(text, tag_name, attr_class, href, attr_id, nth_child, nth_of_type, attributes, order)
    return update.call(json_object, json=body, id=element_id)


@endpoint("DELETE", "elements/{id}/", scopes=_WRITE)
def delete(element_id: Number) -> Call[None]:
    """Delete an element; a second time is 404.

    :param element_id: its number.
    """
    return delete.call(answers.nothing, id=element_id)


@endpoint("GET", "elements/stats/", scopes=_READ, paging="offset")
def stats(
    *,
    include: Annotated[Sequence[Include], FILLED] | None = None,
    date_from: Text | None = None,
    date_to: Text | None = None,
    properties: Properties | None = None,
    limit: Limit | None = None,
    offset: Offset | None = None,
) -> Call[ElementStats]:
    """Count the clicks on chains of elements.

    :param include: which kinds of clicks; servers differ in what they take for none.
    :param date_from: a day, or ``-7d``, which is the default.
    :param date_to: a day.
    :param properties: only events with these properties.
    :param limit: chains per page; PostHog refuses what is over its own limit.
    :param offset: how many to leave out.
    """
    query = {
        "include": [*include] if include is not None else None,
        "date_from": date_from,
        "date_to": date_to,
        "properties": json_text("properties", properties),
        "limit": limit,
        "offset": offset,
    }
    return stats.call(json_page, query=query)


@endpoint("GET", "elements/values/", scopes=_READ)
def values(
    *, key: Literal["tag_name", "text", "href", "attr_id"], value: Text | None = None
) -> Call[Sequence[PropertyValue]]:
    """List what an attribute of elements was, at most 100 values.

    :param key: the attribute.
    :param value: only values with this text in them.
    """
    return values.call(answers.rows, query={"key": key, "value": value})


def _body(*fields: object) -> dict[str, Any]:
    names = ("text", "tag_name", "attr_class", "href", "attr_id", "nth_child", "nth_of_type", "attributes", "order")
    return changes(**dict(zip(names, fields, strict=True)))
