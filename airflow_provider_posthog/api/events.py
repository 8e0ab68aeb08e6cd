"""Single events, by the endpoint that PostHog keeps for old clients (``/api/projects/{id}/events/``).

For more than a few events use :mod:`~airflow_provider_posthog.api.queries` or
:mod:`~airflow_provider_posthog.api.file_downloads`: this endpoint loses rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypedDict

from airflow_provider_posthog.api.arguments import (
    PersonId,
    Properties,
    Text,
    Time,
    Uuid,
    between,
    json_text,
    span,
    time_text,
)
from airflow_provider_posthog.api.call import Call, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.exceptions import PostHogDeprecatedEndpointWarning

#: The most events of a page; PostHog cuts a larger one to this and says nothing.
MAX_PAGE = 1000
_DEPRECATED = (
    "PostHog has deprecated the list of events, which skips rows at the end of pages: "
    "use a query with keyset pages, or a file download"
)


class Event(TypedDict, total=False):
    """An event; ``person`` is null on most servers."""

    id: str
    event: str
    distinct_id: str
    timestamp: str
    properties: Mapping[str, Any]
    person: Mapping[str, Any] | None
    elements: Sequence[Mapping[str, Any]]
    elements_chain: str


class EventPage(TypedDict, total=False):
    """A page of events; only ``next`` leads to the following one."""

    next: str | None
    results: Sequence[Event]


@endpoint("GET", "events/", scopes=("query:read",), bucket="analytics", paging="next")
def list(
    *,
    after: Time,
    before: Time,
    event: Text | None = None,
    distinct_id: Text | None = None,
    person_id: PersonId | None = None,
    properties: Properties | None = None,
    limit: Annotated[int, between(1, MAX_PAGE)] = MAX_PAGE,
) -> Call[EventPage]:
    """List events, oldest first. PostHog has deprecated this; it warns.

    Both bounds are needed, as servers differ in what they take for a missing one, and the order is fixed: newest first,
    PostHog looks into short windows only and ends early. Even so, of the events at the very time where a page ends,
    some may be skipped. ``offset`` is not offered: PostHog carries it on into the following pages, which then skip
    rows again.

    :param after: only events later than this, exclusive.
    :param before: only events earlier than this, exclusive.
    :param event: only events of this name.
    :param distinct_id: only events with exactly this id.
    :param person_id: only this person's.
    :param properties: only events with these properties.
    :param limit: events per page, at most 1,000.
    """
    warnings.warn(_DEPRECATED, PostHogDeprecatedEndpointWarning, stacklevel=3)
    span(("after", "before"), after, before)
    query = {
        "after": time_text(after),
        "before": time_text(before),
        "orderBy": '["timestamp"]',
        "limit": limit,
        "event": event,
        "distinct_id": distinct_id,
        "person_id": person_id,
        "properties": json_text("properties", properties),
    }
    return list.call(json_page, query=query)


@endpoint("GET", "events/{id}/", scopes=("query:read",), bucket="analytics")
def retrieve(event_id: Uuid) -> Call[Event]:
    """Retrieve one event; 404 if there is none.

    :param event_id: the event's UUID.
    """
    return retrieve.call(json_object, id=event_id)
