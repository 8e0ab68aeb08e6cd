"""Cohorts (``/api/projects/{id}/cohorts/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_provider_posthog.api.answers import object_or_empty
from airflow_provider_posthog.api.arguments import Limit, Number, Object, Offset, Text, Uuid
from airflow_provider_posthog.api.call import Call, json_item, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint

_READ = ("cohort:read",)
_WRITE = ("cohort:write",)


class Cohort(TypedDict, total=False):
    """A cohort; ``count`` and ``last_calculation`` are null before its first calculation."""

    id: int
    name: str
    is_static: bool
    is_calculating: bool
    last_calculation: str | None
    errors_calculating: int
    count: int | None
    deleted: bool
    query: Mapping[str, Any] | None
    created_at: str


class CohortPage(TypedDict, total=False):
    """A page of cohorts."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Cohort]


@endpoint("GET", "cohorts/", scopes=_READ, paging="offset")
def list(*, limit: Limit = 100, offset: Offset = 0) -> Call[CohortPage]:
    """List cohorts.

    :param limit: cohorts per page.
    :param offset: how many to leave out.
    """
    return list.call(json_page, query={"limit": limit, "offset": offset or None})


@endpoint("GET", "cohorts/{id}/", scopes=_READ)
def retrieve(cohort_id: Number) -> Call[Cohort]:
    """Retrieve a cohort.

    :param cohort_id: its number.
    """
    return retrieve.call(json_item, id=cohort_id)


@endpoint("POST", "cohorts/", scopes=_WRITE)
def create_static(*, name: Text, query: Object) -> Call[Cohort]:
    """Make a static cohort of the persons that a query gives, however many; PostHog fills it afterwards.

    :param name: its name.
    :param query: a HogQL query with a column ``person_id`` (or ``actor_id``, ``id``, ``distinct_id``).
    """
    return create_static.call(json_item, json={"name": name, "is_static": True, "query": dict(query)})


@endpoint("PATCH", "cohorts/{id}/", scopes=_WRITE)
def add_by_query(cohort_id: Number, *, query: Object) -> Call[Cohort]:
    """Add the persons that a query gives to a static cohort; PostHog does it afterwards.

    :param cohort_id: its number.
    :param query: as of :func:`create_static`.
    """
    return add_by_query.call(json_object, json={"query": dict(query)}, id=cohort_id)


@endpoint("PATCH", "cohorts/{id}/remove_person_from_static_cohort/", scopes=_WRITE)
def remove_person(cohort_id: Number, *, person_id: Uuid) -> Call[dict[str, Any]]:
    """Take a person out of a static cohort.

    :param cohort_id: its number.
    :param person_id: the person's UUID.
    """
    return remove_person.call(object_or_empty, json={"person_id": person_id}, id=cohort_id)
