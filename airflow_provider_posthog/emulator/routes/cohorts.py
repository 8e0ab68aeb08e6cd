"""``/cohorts/``: those that are filled by a query or a file, and those that tests have made."""

from __future__ import annotations

from airflow_provider_posthog.emulator.http.envelopes import invalid, not_found
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.jobs.cohorts import Cohort
from airflow_provider_posthog.emulator.routes.persons import threaded

READ, WRITE = ("cohort:read",), ("cohort:write",)


def _cohort(request: Request) -> Cohort:
    number = request.params["id"]
    cohort = request.state.cohorts.get(int(number)) if number.isdigit() else None
    if cohort is None or cohort.deleted:
        raise not_found()
    return cohort


def list_(request: Request) -> Answer:
    """List cohorts (``GET cohorts/``).

    :param request: ``limit`` and ``offset`` in its query.
    """
    return page(request, request.state.cohorts.listed(), lambda cohort: cohort.as_json())


def create(request: Request) -> Answer:
    """Make a cohort (``POST cohorts/``).

    :param request: ``name``, ``is_static``, ``query`` or ``filters`` in its body.
    """
    body = request.json()
    query = body.get("query")
    if query is not None and (not isinstance(query, dict) or not query.get("query")):
        raise invalid("Query must be a dictionary", attr="query")
    made = request.state.cohorts.create(
        str(body.get("name") or "Untitled"), is_static=bool(body.get("is_static")), filters=body.get("filters")
    )
    if made.is_static and query is not None:
        request.state.cohorts.fill(made, query)
    elif not made.is_static:
        request.state.cohorts.calculate(made)
    return json_answer(made.as_json(), 201)


def retrieve(request: Request) -> Answer:
    """Return a cohort (``GET cohorts/{id}/``).

    :param request: nothing else of it matters.
    """
    return json_answer(_cohort(request).as_json())


def update(request: Request) -> Answer:
    """Change a cohort (``PATCH cohorts/{id}/``); a query adds to a static one.

    :param request: ``name``, ``query`` or ``deleted`` in its body.
    """
    cohort, body = _cohort(request), request.json()
    cohort.name = str(body.get("name", cohort.name))
    cohort.deleted = bool(body.get("deleted", cohort.deleted))
    if cohort.is_static and isinstance(body.get("query"), dict):
        request.state.cohorts.fill(cohort, body["query"])
    return json_answer(cohort.as_json())


def add(request: Request) -> Answer:
    """Add persons (``PATCH cohorts/{id}/add_persons_to_static_cohort/``).

    :param request: ``person_ids`` in its body.
    """
    cohort = _cohort(request)
    names = request.json().get("person_ids")
    if not cohort.is_static or not isinstance(names, list):
        raise invalid("Can only add users to static cohorts")
    known = [str(uuid) for uuid in names if request.state.people.get(str(uuid)) is not None]
    request.state.cohorts.add(cohort, known)
    return json_answer({"success": True})


def remove(request: Request) -> Answer:
    """Take a person out (``PATCH cohorts/{id}/remove_person_from_static_cohort/``).

    :param request: ``person_id`` in its body.
    """
    cohort, person = _cohort(request), str(request.json().get("person_id"))
    if not cohort.is_static:
        raise invalid("Can only remove users from static cohorts")
    if person not in request.state.cohorts.members(cohort):
        raise not_found("Person with this UUID does not exist in the cohort")
    request.state.cohorts.remove(cohort, person)
    return json_answer({"success": True})


ROUTES = (
    Route("GET", "/cohorts/", threaded(list_), READ),
    Route("POST", "/cohorts/", threaded(create), WRITE),
    Route("GET", "/cohorts/{id}/", threaded(retrieve), READ),
    Route("PATCH", "/cohorts/{id}/", threaded(update), WRITE),
    Route("PATCH", "/cohorts/{id}/add_persons_to_static_cohort/", threaded(add), WRITE),
    Route("PATCH", "/cohorts/{id}/remove_person_from_static_cohort/", threaded(remove), WRITE),
)
