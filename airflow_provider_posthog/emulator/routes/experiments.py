"""Results of experiments: daily ones, which PostHog makes each night, and those of a requested calculation.

What a record has behind an underscore only the emulator knows: ``_results`` are the daily results by metric and day,
``_fresh`` what a calculation makes of a metric (by default its last daily result), ``_errors`` why one fails.
"""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, invalid, not_found
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.routes.persons import threaded
from airflow_provider_posthog.emulator.routes.records import record_of

TRIGGERS = ("manual", "cold_run", "stale_refresh", "auto_refresh", "config_change")
_ENDED = ("completed", "failed")


def _metrics(experiment: Json) -> list[str]:
    own = [metric for field in ("metrics", "metrics_secondary") for metric in experiment.get(field) or ()]
    saved = [metric.get("query") or {} for metric in experiment.get("saved_metrics") or ()]
    return [str(metric["uuid"]) for metric in (*own, *saved) if metric.get("uuid")]


def recalculate(request: Request) -> Answer:
    """Calculate the metrics of an experiment again (``POST experiments/{id}/metrics_recalculation/``).

    :param request: ``trigger`` in its body.
    """
    experiment, state = record_of(request, "experiments"), request.state
    if (trigger := request.json().get("trigger", "manual")) not in TRIGGERS:
        raise invalid(f'"{trigger}" is not a valid choice.', "invalid_choice", "trigger")
    if not experiment.get("start_date"):
        raise invalid("Cannot recalculate metrics for experiment that hasn't started")
    runs = experiment.setdefault("_runs", [])
    if runs and _status(request, runs[-1]) not in _ENDED:
        return json_answer({**_brief(request, experiment, runs[-1]), "is_existing": True})
    name = f"{experiment['id']} {len(runs)} {state.clock.timestamp()}"
    made = {"id": str(uuids.uuid5(uuids.NAMESPACE_OID, name)), "at": state.clock.now(), "trigger": trigger}
    runs.append(made)
    return json_answer({**_brief(request, experiment, made), "is_existing": False}, 201)


def _ends(request: Request, run: Json) -> datetime:
    at: datetime = run["at"]
    return at + timedelta(seconds=request.state.settings.recalculation_seconds)


def _status(request: Request, run: Json) -> str:
    now, settings = request.state.clock.now(), request.state.settings
    if now >= _ends(request, run):
        return str(settings.recalculation_outcome)
    return "pending" if now < run["at"] + (_ends(request, run) - run["at"]) / 4 else "in_progress"


def _brief(request: Request, experiment: Json, run: Json) -> Json:
    """Return a run as the answer to its start has it: without results."""
    status, metrics = _status(request, run), _metrics(experiment)
    results = _results(experiment) if status == "completed" else []
    begun = status != "pending"
    return {
        "id": run["id"],
        "experiment_id": experiment["id"],
        "status": status,
        "total_metrics": len(metrics),
        "completed_metrics": sum(result["status"] == "completed" for result in results),
        "failed_metrics": sum(result["status"] == "failed" for result in results),
        "metric_errors": {
            result["metric_uuid"]: result["error_message"] for result in results if result["error_message"]
        },
        "trigger": run["trigger"],
        "created_at": iso(run["at"]),
        "started_at": iso_or_none(run["at"] if begun else None),
        "completed_at": iso_or_none(_ends(request, run) if status in _ENDED else None),
        "query_to": iso_or_none(run["at"] if begun else None),
    }


def _results(experiment: Json) -> list[Json]:
    results = []
    for uuid in _metrics(experiment):
        error, fresh = (experiment.get("_errors") or {}).get(uuid), (experiment.get("_fresh") or {}).get(uuid)
        days = [day for _, day in sorted(((experiment.get("_results") or {}).get(uuid) or {}).items()) if day]
        result = fresh or (days[-1] if days else None)
        if error or result:
            status = "failed" if error else "completed"
            shown: Mapping[str, Any] | None = None if error else result
            results.append({"metric_uuid": uuid, "status": status, "result": shown, "error_message": error})
    return results


def recalculation(request: Request) -> Answer:
    """Return a recalculation, or the newest that has ended (``GET experiments/{id}/metrics_recalculation/{run}/``).

    :param request: nothing else of it matters.
    """
    experiment, run_id = record_of(request, "experiments"), request.params["run"]
    runs = experiment.get("_runs", [])
    if run_id == "latest":
        matches = [run for run in runs if _status(request, run) == "completed"][-1:]
        if not matches:
            raise ApiError(404, {"detail": "No completed recalculation found"})
    elif not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", run_id):
        raise not_found()  # no route of PostHog's
    else:
        matches = [run for run in runs if run["id"] == run_id]
        if not matches:
            raise ApiError(404, {"detail": "Recalculation not found"})
    run = matches[0]
    results = _results(experiment) if _status(request, run) == "completed" else []
    return json_answer({**_brief(request, experiment, run), "result_source": "recalculation", "results": results})


def timeseries(request: Request) -> Answer:
    """Return a metric's results by day (``GET experiments/{id}/timeseries_results/``): none is no error.

    :param request: ``metric_uuid`` and ``fingerprint`` in its query.
    """
    experiment = record_of(request, "experiments")
    metric = request.query("metric_uuid")
    for name in ("metric_uuid", "fingerprint"):
        if not request.query(name):
            raise invalid(f"{name} query parameter is required")
    days = (experiment.get("_results") or {}).get(metric) or {}
    there = sum(bool(day) for day in days.values())
    status = "pending" if not there else "completed" if there == len(days) else "partial"
    return json_answer(
        {
            "experiment_id": experiment["id"],
            "metric_uuid": metric,
            "status": status,
            "timeseries": days,
            "errors": None,
            "computed_at": None,
            "created_at": experiment["created_at"],
            "updated_at": experiment["updated_at"],
            "recalculation_status": None,
            "recalculation_created_at": None,
        }
    )


_EXPERIMENT = "/experiments/{id}"
_RUNS = f"{_EXPERIMENT}/metrics_recalculation"
_READ, _WRITE = ("experiment:read",), ("experiment:write",)
ROUTES = (
    Route("POST", f"{_RUNS}/", threaded(recalculate), _WRITE, generations="C"),
    Route("GET", f"{_RUNS}/{{run}}/", threaded(recalculation), _READ, generations="C"),
    Route("GET", f"{_EXPERIMENT}/timeseries_results/", threaded(timeseries), _READ, generations="BC"),
)
