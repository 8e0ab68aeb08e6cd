"""Where events come in: capture V1 (``/i/v1/analytics/events``) and ``/batch/``, with the project's token."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.emulator.capture.rules import FUTURE, fault_of, moment, uuid_fault
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, not_found, server_error
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.routes.persons import threaded
from airflow_provider_posthog.emulator.state import State

LARGEST = 20_000_000
HEADERS = ("posthog-sdk-info", "posthog-attempt", "posthog-request-id", "posthog-request-timestamp")


def _refused(status: int, tag: str, text: str = "", headers: dict[str, str] | None = None) -> ApiError:
    return ApiError(status, {"error": tag, "error_description": text or tag.replace("_", " ")}, headers)


def _body(request: Request) -> Json:
    if len(request.raw_body) > LARGEST:
        raise _refused(413, "payload_too_large")
    if not request.raw_body:
        raise _refused(400, "empty_body")
    try:
        body = json.loads(request.raw_body)
    except (ValueError, UnicodeDecodeError):
        raise _refused(400, "request_parsing_error") from None
    if not isinstance(body, dict) or not isinstance(body.get("batch"), list):
        raise _refused(400, "invalid_batch")
    if not body["batch"]:
        raise _refused(400, "empty_batch")
    return body


def _state_of(request: Request, token: str) -> State:
    """Return the project that a token is of, wherever else the sender may believe its events to be."""
    state = next((state for state in request.state.all_projects() if state.project.token == token), None)
    if state is None:
        raise _refused(401, "invalid_api_token")
    return state


def v1(request: Request) -> Answer:
    """Take events in, and answer for each of them (``POST /i/v1/analytics/events``).

    :param request: ``created_at``, ``historical_migration`` and ``batch`` in its body.
    """
    settings = request.state.settings
    if not settings.capture_v1 or settings.generation == "A":
        raise not_found()
    if missing := [name for name in HEADERS if not request.headers.get(name)]:
        raise _refused(400, "missing_required_headers", ", ".join(missing))
    state = _state_of(request, request.headers.get("authorization", "").removeprefix("Bearer "))
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise _refused(415, "unsupported_content_type")
    body = _body(request)
    if moment(body.get("created_at")) is None:
        raise _refused(400, "invalid_batch", "created_at is not valid RFC 3339")
    if settings.capture == "refused":
        raise _refused(503, "service_unavailable")
    _check_whole(body["batch"], whole=settings.capture_refusals == "batch")
    historical, burst = body.get("historical_migration") is True, Counter[str]()
    results: dict[str, dict[str, str]] = {}
    taken = []
    for event in body["batch"]:
        said = state.capture.judge(event, historical=historical, burst=burst)
        results[str(event["uuid"])] = said
        if said["result"] in ("ok", "warning"):
            taken.append({**_lifted(event), "at": _at(request, event), "person_processing": said["result"] == "ok"})
    state.capture.take(taken)
    wait = {"Retry-After": "1"} if any(result["result"] == "retry" for result in results.values()) else {}
    return json_answer({"results": results}, headers=wait)


def _check_whole(batch: list[Any], *, whole: bool) -> None:
    """Refuse a batch for one of its events, where this server does."""
    seen: set[str] = set()
    for event in batch:
        if fault := uuid_fault(event):
            raise _refused(400, fault)
        if str(event["uuid"]).lower() in seen:
            raise _refused(400, "duplicate_event_uuid")
        seen.add(str(event["uuid"]).lower())
        if whole and (fault := fault_of(event)):
            raise _refused(400, fault)


def _lifted(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event with its options where ingestion looks for them."""
    options = event.get("options") or {}
    properties = dict(event["properties"])
    if options.get("process_person_profile") is False:
        properties["$process_person_profile"] = False
    named = {f"${name}": event[name] for name in ("session_id", "window_id") if event.get(name)}
    # of capture V1 only the properties count
    kept = {name: value for name, value in event.items() if name not in ("$set", "$set_once")}
    return {**kept, **named, "properties": properties}


def _at(request: Request, event: Mapping[str, Any]) -> datetime:
    """Return when an event happened, by the server's clock: corrected by the sender's, if that is allowed."""
    now = request.state.clock.now()
    at = moment(event["timestamp"]) or now
    if (event.get("options") or {}).get("disable_skew_correction"):
        return at
    sent = moment(request.headers.get("posthog-request-timestamp"))
    at -= (sent - now) if sent is not None else timedelta(0)
    return now if at - now > FUTURE else at


def batch(request: Request) -> Answer:
    """Take events in, and say nothing of them (``POST /batch/``): 200, whatever becomes of those over the quota.

    :param request: ``api_key``, ``historical_migration`` and ``batch`` in its body.
    """
    body = _body(request)
    state = _state_of(request, str(body.get("api_key")))
    if request.state.settings.capture == "refused":
        raise server_error()
    now = request.state.clock.now()
    taken = []
    for event in body["batch"]:
        whole = (
            {"options": {}, "timestamp": now.isoformat(), "properties": {}, **event} if isinstance(event, dict) else {}
        )
        fault = fault_of({**whole, "distinct_id": whole.get("distinct_id") or whole["properties"].get("distinct_id")})
        if fault in ("missing_event_name", "missing_distinct_id", "malformed_distinct_id", "dropped_performance_event"):
            continue  # dropped, and nobody is told
        if fault is not None:
            raise _refused(400, fault)
        at = moment(whole["timestamp"]) or now
        whole["distinct_id"] = whole.get("distinct_id") or whole["properties"]["distinct_id"]
        taken.append({**whole, "at": now if at - now > FUTURE else at})
    state.capture.take_unseen(taken)
    return json_answer({"status": "Ok"})


ROUTES = (
    Route("POST", "/i/v1/analytics/events", threaded(v1), throttle=None, public=True),
    Route("POST", "/batch/", threaded(batch), throttle=None, public=True),
)
