"""Lists of plain records, and what can be done with some of them: annotations, feature flags, experiments and more."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, invalid, not_found
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.routes.persons import threaded

Work = Callable[[Request], Answer]
SCOPES = ("dashboard_item", "dashboard", "project", "organization")
MOST_CONTENT = 8192
READ_ONLY = ("event_definitions", "property_definitions")
KINDS = ("annotations", "experiments", "feature_flags", "surveys")


def _lister(kind: str) -> Work:
    def work(request: Request) -> Answer:
        return page(request, request.state.records.listed(kind), _shown)

    return work


def _record(request: Request, kind: str) -> Json:
    record = request.state.records.get(kind, request.params["id"])
    if record is None or record.get("deleted"):
        raise not_found()
    return record


def _getter(kind: str) -> Work:
    return lambda request: json_answer(_shown(_record(request, kind)))


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
            each for each in request.state.records.listed(kind) if each["key"] == body["key"] and each["id"] != own
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
        record, body = _record(request, kind), request.json()
        _check(request, kind, body, record["id"])
        if request.state.settings.flags_frozen and kind == "feature_flags":
            return json_answer({**record, **body})  # as if, and nothing is kept
        record.update({name: value for name, value in body.items() if name not in ("id", "created_at")})
        record["updated_at"] = iso(request.state.clock.now())
        if kind == "feature_flags":
            record["version"] += 1
        return json_answer(record)

    return work


def _switch(active: bool) -> Work:
    def work(request: Request) -> Answer:
        record = _record(request, "feature_flags")
        if not request.state.settings.flags_frozen:
            record["active"] = active
        return json_answer({**record, "active": active})

    return work


# -- experiments -------------------------------------------------------------------------------------------------


def recalculate(request: Request) -> Answer:
    """Calculate the metrics of an experiment again (``POST experiments/{id}/metrics_recalculation/``).

    :param request: nothing else of it matters.
    """
    experiment, state = _record(request, "experiments"), request.state
    runs = experiment.setdefault("_runs", [])
    if runs and _status(request, runs[-1]) in ("pending", "in_progress"):
        return json_answer({**_run(request, runs[-1]), "is_existing": True})
    made = {
        "id": str(uuids.uuid5(uuids.NAMESPACE_OID, f"{experiment['id']} {len(runs)}")),
        "at": state.clock.timestamp(),
        "created_at": iso(state.clock.now()),
    }
    runs.append(made)
    return json_answer({**_run(request, made), "is_existing": False}, 201)


def _status(request: Request, run: Json) -> str:
    settings = request.state.settings
    if request.state.clock.timestamp() < run["at"] + settings.recalculation_seconds:
        return "pending"
    return str(settings.recalculation_outcome)


def _run(request: Request, run: Json) -> Json:
    status = _status(request, run)
    return {"id": run["id"], "status": status, "created_at": run["created_at"], "metric_errors": {}}


def recalculation(request: Request) -> Answer:
    """Return a recalculation, or the latest (``GET experiments/{id}/metrics_recalculation/{run}/``).

    :param request: nothing else of it matters.
    """
    runs = _record(request, "experiments").get("_runs", [])
    wanted = request.params["run"]
    matching = runs[-1:] if wanted == "latest" else [each for each in runs if each["id"] == wanted]
    if not matching:
        raise not_found()
    return json_answer(_run(request, matching[0]))


def timeseries(request: Request) -> Answer:
    """Return a metric's results by day (``GET experiments/{id}/timeseries_results/``).

    :param request: ``metric_uuid`` and ``fingerprint`` in its query.
    """
    experiment = _record(request, "experiments")
    metric, fingerprint = request.query("metric_uuid"), request.query("fingerprint")
    if not metric or not fingerprint:
        raise ApiError(400, {"detail": "metric_uuid and fingerprint query parameters are required"})
    series = (experiment.get("_results") or {}).get(metric)
    if series is None:
        raise not_found("No timeseries results found for this experiment-metric combination")
    days = {"timeseries": series, "errors": None, "status": "completed"}
    return json_answer({"experiment_id": experiment["id"], "metric_uuid": metric, **days})


def _routes(kind: str) -> tuple[Route, ...]:
    scope = kind.rstrip("s")
    read, write = (f"{scope}:read",), (f"{scope}:write",)
    return (
        Route("GET", f"/{kind}/", threaded(_lister(kind)), read),
        Route("POST", f"/{kind}/", threaded(_creator(kind)), write),
        Route("GET", f"/{kind}/{{id}}/", threaded(_getter(kind)), read),
        Route("PATCH", f"/{kind}/{{id}}/", threaded(_changer(kind)), write),
    )


_EXPERIMENT = "/experiments/{id}"
ROUTES = (
    *(route for kind in KINDS for route in _routes(kind)),
    *(Route("GET", f"/{kind}/", threaded(_lister(kind)), (f"{kind.rstrip('s')}:read",)) for kind in READ_ONLY),
    Route("POST", "/feature_flags/{id}/enable/", threaded(_switch(True)), ("feature_flag:write",), generations="C"),
    Route("POST", "/feature_flags/{id}/disable/", threaded(_switch(False)), ("feature_flag:write",), generations="C"),
    Route(
        "POST", f"{_EXPERIMENT}/metrics_recalculation/", threaded(recalculate), ("experiment:write",), generations="C"
    ),
    Route(
        "GET",
        f"{_EXPERIMENT}/metrics_recalculation/{{run}}/",
        threaded(recalculation),
        ("experiment:read",),
        generations="C",
    ),
    Route("GET", f"{_EXPERIMENT}/timeseries_results/", threaded(timeseries), ("experiment:read",), generations="BC"),
)
