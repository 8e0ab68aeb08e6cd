"""Lists of plain records, and what can be done with some of them: annotations, feature flags and more."""

from __future__ import annotations

from collections.abc import Callable

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, invalid, not_found
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.routes.persons import threaded

Work = Callable[[Request], Answer]
SCOPES = ("dashboard_item", "dashboard", "project", "organization")
MOST_CONTENT = 8192
READ_ONLY = ("event_definitions", "property_definitions")
_NOT_SENT = ("id", "created_at", "version", "original_flag")
KINDS = ("annotations", "experiments", "feature_flags", "surveys")


def _lister(kind: str) -> Work:
    def work(request: Request) -> Answer:
        listed = request.state.records.listed(kind)
        if kind == "annotations":  # the latest moments first, whenever they were marked
            listed = sorted(listed, key=lambda record: str(record["date_marker"] or ""), reverse=True)
            words = (request.query("search") or "").lower().split()
            listed = [record for record in listed if all(word in str(record["content"]).lower() for word in words)]
        if kind == "property_definitions":
            index = request.query("group_type_index")
            of = (request.query("type") or "event", None if index is None else int(index))
            listed = [record for record in listed if (record["_type"], record["_group_type_index"]) == of]
        return page(request, listed, _shown)

    return work


def record_of(request: Request, kind: str) -> Json:
    """Return the record that a request names.

    :param request: the request.
    :param kind: the path of its list.
    """
    record = request.state.records.get(kind, request.params["id"])
    if record is None or record.get("deleted"):
        raise not_found()
    return record


def _getter(kind: str) -> Work:
    return lambda request: json_answer(_shown(record_of(request, kind)))


def _shown(record: Json) -> Json:
    """Leave out what only the emulator knows."""
    return {name: value for name, value in record.items() if not name.startswith("_")}


def _check(request: Request, kind: str, body: Json, own: object = None) -> None:
    if kind == "annotations":
        if body.get("scope", SCOPES[0]) not in SCOPES:
            raise invalid(f'"{body["scope"]}" is not a valid choice.', "invalid_choice", "scope")
        if len(str(body.get("content") or "")) > MOST_CONTENT:
            text = f"Ensure this field has no more than {MOST_CONTENT} characters."
            raise invalid(text, "max_length", "content")
    if kind == "feature_flags" and "key" in body:
        taken = [
            record
            for record in request.state.records.listed(kind)
            if record["key"] == body["key"] and record["id"] != own
        ]
        if taken:
            raise invalid("There is already a feature flag with this key.", "unique", "key")


def _creator(kind: str) -> Work:
    def work(request: Request) -> Answer:
        body = request.json()
        _check(request, kind, body)
        return json_answer(request.state.records.add(kind, body, created_by=request.caller().user.brief()), 201)

    return work


def _changer(kind: str) -> Work:
    def work(request: Request) -> Answer:
        record, body = record_of(request, kind), request.json()
        _check(request, kind, body, record["id"])
        if request.state.settings.flags_frozen and kind == "feature_flags":
            return json_answer({**record, **body})  # as if, and nothing is kept
        if kind == "feature_flags":
            _check_version(record, body)
        record.update({name: value for name, value in body.items() if name not in _NOT_SENT})
        record["updated_at"] = iso(request.state.clock.now())
        if kind == "feature_flags":
            record["version"] += 1
        return json_answer(record)

    return work


def _check_version(flag: Json, body: Json) -> None:
    """Refuse a change of what somebody else has changed since, if the caller says what it has read."""
    seen = body.get("original_flag") or {}
    changes = [name for name, value in body.items() if name in seen and value != seen[name]]
    if body.get("version", -1) not in (-1, flag["version"]) and any(flag[name] != seen[name] for name in changes):
        text = "The feature flag was updated by another user since you started editing it."
        raise ApiError(409, envelope("invalid_request", "conflict", text))


def _switch(active: bool) -> Work:
    def work(request: Request) -> Answer:
        record = record_of(request, "feature_flags")
        if not request.state.settings.flags_frozen:
            record["active"] = active
        return json_answer({**record, "active": active})

    return work


def _routes(kind: str) -> tuple[Route, ...]:
    scope = kind.rstrip("s")
    read, write = (f"{scope}:read",), (f"{scope}:write",)
    return (
        Route("GET", f"/{kind}/", threaded(_lister(kind)), read),
        Route("POST", f"/{kind}/", threaded(_creator(kind)), write),
        Route("GET", f"/{kind}/{{id}}/", threaded(_getter(kind)), read),
        Route("PATCH", f"/{kind}/{{id}}/", threaded(_changer(kind)), write),
    )


ROUTES = (
    *(route for kind in KINDS for route in _routes(kind)),
    *(Route("GET", f"/{kind}/", threaded(_lister(kind)), (f"{kind.rstrip('s')}:read",)) for kind in READ_ONLY),
    Route("POST", "/feature_flags/{id}/enable/", threaded(_switch(True)), ("feature_flag:write",), generations="C"),
    Route("POST", "/feature_flags/{id}/disable/", threaded(_switch(False)), ("feature_flag:write",), generations="C"),
)
