"""``/batch_exports/``, their runs and their backfills."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.cursors import cursor_page
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, invalid, not_found, server_error
from airflow_provider_posthog.emulator.http.fields import flag, mapping, number, text
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.insights.dates import parse_date
from airflow_provider_posthog.emulator.jobs.batch_exports import INTERVALS, BatchExport
from airflow_provider_posthog.emulator.jobs.batch_runs import LIVE, Backfill, Run

READ, WRITE = ("batch_export:read",), ("batch_export:write",)
RUNS_PAGE, BACKFILLS_PAGE = 100, 50
MODELS = ("events", "persons", "sessions")
DESTINATIONS = ("AwsS3", "S3Compatible", "Snowflake", "Postgres", "Redshift", "BigQuery", "Databricks", "AzureBlob")
UNAUTHENTICATED_DESTINATIONS = ("HTTP", "NoOp")


def _written(request: Request, export: BatchExport) -> Json:
    return export.as_json(request.state.clock.now(), request.state.project.id)


def _export_of(request: Request) -> BatchExport:
    export = request.state.batch_exports.find(request.params["id"])
    if export is None:
        raise not_found()
    return export


async def list_(request: Request) -> Answer:
    """List the batch exports, newest first (``GET batch_exports/``).

    :param request: ``limit`` and ``offset`` in its query.
    """
    return page(request, request.state.batch_exports.all(), lambda export: _written(request, export))


async def retrieve(request: Request) -> Answer:
    """Return a batch export (``GET batch_exports/{id}/``).

    :param request: ``id`` in its path.
    """
    return json_answer(_written(request, _export_of(request)))


async def create(request: Request) -> Answer:
    """Make a batch export (``POST batch_exports/``). Its destination never sees a row: only the runs are real.

    :param request: ``name``, ``model``, ``destination``, ``interval``, ``paused``, ``timezone``, ``offset_day``,
        ``offset_hour``, ``start_at`` and ``end_at`` in its body.
    """
    body = request.json()
    for name in ("name", "destination", "interval"):
        if body.get(name) is None:
            raise invalid("This field is required.", "required", name)
    wanted: Json = {
        "name": text(body, "name"),
        "model": _choice(body, "model", MODELS, "events"),
        "interval": _choice(body, "interval", tuple(INTERVALS), ""),
        "destination": _destination(mapping(body, "destination")),
        "paused": flag(body, "paused", False),
        "timezone": _zone(body),
        "offset_day": number(body, "offset_day", 0) or 0,
        "offset_hour": number(body, "offset_hour", 0) or 0,
        "start_at": _moment(body["start_at"], "start_at") if body.get("start_at") else None,
        "end_at": _moment(body["end_at"], "end_at") if body.get("end_at") else None,
    }
    return json_answer(_written(request, request.state.batch_exports.create(wanted)), 201)


def _choice(body: Json, name: str, options: tuple[str, ...], default: str) -> str:
    value = body.get(name, default)
    if value not in options:
        raise invalid(f'"{value}" is not a valid choice.', "invalid_choice", name)
    return str(value)


def _zone(body: Json) -> str:
    name = text(body, "timezone") or "UTC"
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise invalid(f'"{name}" is not a valid choice.', "invalid_choice", "timezone") from None
    return name


def _destination(wanted: Json) -> Json:
    kind = wanted.get("type")
    if kind == "S3":
        raise invalid("S3 is deprecated. Use AwsS3 or S3Compatible.", attr="destination__type")
    if kind not in (*DESTINATIONS, *UNAUTHENTICATED_DESTINATIONS):
        raise invalid(f'"{kind}" is not a valid choice.', "invalid_choice", "destination__type")
    integration = wanted.get("integration_id", wanted.get("integration"))
    if kind in DESTINATIONS and integration is None:
        raise invalid(f"Integration is required for {kind} batch exports", attr="destination")
    return {"type": kind, "config": mapping(wanted, "config"), "integration": integration}


async def destroy(request: Request) -> Answer:
    """Delete a batch export (``DELETE batch_exports/{id}/``).

    :param request: ``id`` in its path.
    """
    request.state.batch_exports.remove(_export_of(request))
    return Answer(204)


async def pause(request: Request) -> Answer:
    """Stop the schedule (``POST batch_exports/{id}/pause/``).

    :param request: ``id`` in its path.
    """
    request.state.batch_exports.pause(_export_of(request))
    return json_answer({"paused": True})


async def unpause(request: Request) -> Answer:
    """Go on with the schedule (``POST batch_exports/{id}/unpause/``).

    :param request: ``id`` in its path; ``backfill`` in its body runs what was missed.
    """
    request.state.batch_exports.unpause(_export_of(request), backfill=flag(request.json(), "backfill", False))
    return json_answer({"paused": False})


def _bound(request: Request, name: str, default: str) -> datetime:
    wanted = request.query(name) or default
    try:
        return parse_date(wanted, request.state.clock.now(), ZoneInfo("UTC")) if wanted else request.state.clock.now()
    except ValueError:
        raise invalid(f"{wanted!r} is not a date.", attr=name) from None


async def list_runs(request: Request) -> Answer:
    """List the runs (``GET batch_exports/{id}/runs/``): without bounds, only those of the last seven days.

    :param request: ``id`` in its path. In its query ``ordering``; ``after`` and ``before`` bound ``created_at``, or,
        if the order is by ``data_interval_start``, they mean nothing and ``start`` and ``end`` bound the interval;
        ``status``, many times; ``cursor``.
    """
    now = request.state.clock.now()
    runs = _export_of(request).visible_runs(now)
    ordering = request.query("ordering") or "-created_at"
    by_interval = ordering.lstrip("-") == "data_interval_start"
    if by_interval:
        first, last = _bound(request, "start", "-7d"), _bound(request, "end", "")
        runs = [run for run in runs if run.interval_start >= first and run.interval_end <= last]
    else:
        first, last = _bound(request, "after", "-7d"), _bound(request, "before", "")
        runs = [run for run in runs if first <= run.begins <= last]
    statuses = {value for name, value in parse_qsl(request.query_string) if name == "status"}
    runs = [run for run in runs if not statuses or run.status(now) in statuses]

    def place(run: Run) -> tuple[str, str]:
        return iso(run.interval_start if by_interval else run.begins), run.id

    runs.sort(key=place, reverse=ordering.startswith("-"))
    return cursor_page(request, runs, lambda run: run.as_json(now), place=place, size=RUNS_PAGE)


def _run_of(request: Request) -> tuple[BatchExport, Run]:
    export, now = _export_of(request), request.state.clock.now()
    run = next((run for run in export.visible_runs(now) if run.id == request.params["run_id"]), None)
    if run is None:
        raise not_found()
    return export, run


async def retrieve_run(request: Request) -> Answer:
    """Return a run, however old it is (``GET batch_exports/{id}/runs/{run_id}/``).

    :param request: ``id`` and ``run_id`` in its path.
    """
    return json_answer(_run_of(request)[1].as_json(request.state.clock.now()))


async def retry_run(request: Request) -> Answer:
    """Run an interval again (``POST batch_exports/{id}/runs/{run_id}/retry/``): the answer names no backfill.

    :param request: ``id`` and ``run_id`` in its path.
    """
    return json_answer({"backfill_id": request.state.batch_exports.retry(*_run_of(request))}, 201)


async def cancel_run(request: Request) -> Answer:
    """Cancel a run that has not ended (``POST batch_exports/{id}/runs/{run_id}/cancel/``).

    :param request: ``id`` and ``run_id`` in its path.
    """
    run, now = _run_of(request)[1], request.state.clock.now()
    status = run.status(now)
    if status not in LIVE:
        raise invalid(f"Cannot cancel a run that is in '{status}' status")
    run.cancelled_at = now
    return json_answer({"cancelled": True})


async def list_backfills(request: Request) -> Answer:
    """List the backfills, newest first (``GET batch_exports/{id}/backfills/``).

    :param request: ``id`` in its path, ``cursor`` in its query.
    """
    now, project = request.state.clock.now(), request.state.project.id
    shown = [backfill for backfill in _export_of(request).backfills if backfill.visible_from <= now]
    shown.sort(key=_place, reverse=True)
    return cursor_page(
        request, shown, lambda backfill: backfill.as_json(now, project), place=_place, size=BACKFILLS_PAGE
    )


def _place(backfill: Backfill) -> tuple[str, str]:
    return iso(backfill.created_at), backfill.id


async def create_backfill(request: Request) -> Answer:
    """Start a backfill (``POST batch_exports/{id}/backfills/``): the answer has its id and nothing else.

    :param request: ``id`` in its path; ``start_at`` and ``end_at`` in its body.
    """
    export, body, service = _export_of(request), request.json(), request.state.batch_exports
    start, end = (_edge(export, body, name) for name in ("start_at", "end_at"))
    if start >= end:
        raise invalid("The initial backfill datetime 'start_at' must happen before 'end_at'")
    if end > request.state.clock.now():
        raise invalid("The provided 'end_at' is in the future", attr="end_at")
    live = service.live_backfills()
    if len(live) >= request.state.settings.max_backfills:
        detail = "Too many backfills are running for this project. Wait until one of them has ended."
        # the server does not know when: no Retry-After
        raise ApiError(429, envelope("server_error", "too_many_concurrent_backfills", detail))
    if any((backfill.export_id, backfill.start, backfill.end) == (export.id, start, end) for backfill in live):
        # the workflow's name is made of the window, and there is one of that name
        raise server_error()
    return json_answer({"backfill_id": service.backfill(export, start, end).id}, 201)


def _edge(export: BatchExport, body: Json, name: str) -> datetime:
    if name not in body:
        raise invalid("This field is required.", "required", name)
    if body[name] is None:
        raise invalid("A backfill of this batch export needs both ends.", attr=name)
    wanted = str(body[name])
    is_date = re.fullmatch(r"\d{4}-\d\d-\d\d", wanted) is not None
    if export.interval not in ("day", "week"):
        return _moment(wanted, name)
    if not is_date:
        detail = f"Input {wanted} is not a date: {export.interval} batch exports expect only the date component"
        raise invalid(detail, attr=name)
    try:
        day = datetime.strptime(wanted, "%Y-%m-%d").replace(hour=export.offset_hour, tzinfo=ZoneInfo(export.timezone))
    except ValueError:
        raise invalid(f"Input {wanted} is not a valid ISO formatted date", attr=name) from None
    if export.interval == "week" and (day.weekday() + 1) % 7 != export.offset_day:
        raise invalid(f"Input {wanted} is not on the day on which the weeks of this batch export begin", attr=name)
    return day.astimezone(timezone.utc)


def _moment(wanted: object, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(str(wanted).replace("Z", "+00:00"))
    except ValueError:
        raise invalid(f"Input {wanted} is not a valid ISO formatted datetime.", attr=name) from None
    if moment.tzinfo is None:
        raise invalid(f"Input {wanted} is naive.", attr=name)
    return moment.astimezone(timezone.utc)


def _backfill_of(request: Request) -> tuple[BatchExport, Backfill]:
    export, now = _export_of(request), request.state.clock.now()
    for backfill in export.backfills:
        # the row is written a moment after the id was given away
        if backfill.id == request.params["backfill_id"] and backfill.visible_from <= now:
            return export, backfill
    raise not_found()


async def retrieve_backfill(request: Request) -> Answer:
    """Return a backfill; 404 for the first seconds (``GET batch_exports/{id}/backfills/{backfill_id}/``).

    :param request: ``id`` and ``backfill_id`` in its path.
    """
    backfill = _backfill_of(request)[1]
    return json_answer(backfill.as_json(request.state.clock.now(), request.state.project.id))


async def cancel_backfill(request: Request) -> Answer:
    """Cancel a backfill that has not ended (``POST batch_exports/{id}/backfills/{backfill_id}/cancel/``).

    :param request: ``id`` and ``backfill_id`` in its path.
    """
    export, backfill = _backfill_of(request)
    status = backfill.status(request.state.clock.now())
    if status not in LIVE:
        raise invalid(f"Cannot cancel a backfill that is in '{status}' status")
    request.state.batch_exports.cancel_backfill(export, backfill)
    return json_answer({"cancelled": True})


_ONE = "/batch_exports/{id}"
ROUTES = (
    Route("GET", "/batch_exports/", list_, READ),
    Route("POST", "/batch_exports/", create, WRITE),
    Route("GET", f"{_ONE}/", retrieve, READ),
    Route("DELETE", f"{_ONE}/", destroy, WRITE),
    Route("POST", f"{_ONE}/pause/", pause, WRITE),
    Route("POST", f"{_ONE}/unpause/", unpause, WRITE),
    Route("GET", f"{_ONE}/runs/", list_runs, READ),
    Route("GET", f"{_ONE}/runs/{{run_id}}/", retrieve_run, READ),
    Route("POST", f"{_ONE}/runs/{{run_id}}/retry/", retry_run, WRITE),
    Route("POST", f"{_ONE}/runs/{{run_id}}/cancel/", cancel_run, WRITE),
    Route("GET", f"{_ONE}/backfills/", list_backfills, READ),
    Route("POST", f"{_ONE}/backfills/", create_backfill, WRITE),
    Route("GET", f"{_ONE}/backfills/{{backfill_id}}/", retrieve_backfill, READ),
    Route("POST", f"{_ONE}/backfills/{{backfill_id}}/cancel/", cancel_backfill, WRITE),
)
