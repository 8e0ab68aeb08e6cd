"""``/exports/``: create, list, retrieve and download."""

from __future__ import annotations

from typing import TypeVar

from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, invalid, not_found
from airflow_provider_posthog.emulator.http.fields import moment
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.insights.dashboards import Dashboard
from airflow_provider_posthog.emulator.insights.insights import Insight
from airflow_provider_posthog.emulator.jobs.exports import EXTENSIONS, VIDEO_FORMATS, Export

READ = ("export:read",)
Target = TypeVar("Target", Insight, Dashboard)


def _write_scopes(request: Request) -> tuple[str, ...]:
    body = request.json()
    context = body.get("export_context")
    context = context if isinstance(context, dict) else {}
    wanted = {
        "insight:read": body.get("insight") is not None,
        "dashboard:read": body.get("dashboard") is not None,
        "session_recording:read": bool(context.get("session_recording_id")),
        "query:read": bool(context.get("source")),
    }
    return ("export:write", *(scope for scope, needed in wanted.items() if needed))


def _format(body: Json, *, newest: bool) -> str:
    if "export_format" not in body:
        raise invalid("This field is required.", "required", "export_format")
    value = body["export_format"]
    if value is None:
        raise invalid("This field may not be null.", "null", "export_format")
    # older servers refused what newer ones accept and then fail to make
    if value not in EXTENSIONS or (value == "application/json" and not newest):
        raise invalid(f'"{value}" is not a valid choice.', "invalid_choice", "export_format")
    return str(value)


def _target(body: Json, name: str, known: list[Target]) -> Target | None:
    sent = body.get(name)
    if sent is None:
        return None
    if isinstance(sent, (dict, list, bool)) or not str(sent).isdigit():
        detail = f"Incorrect type. Expected pk value, received {type(sent).__name__}."
        raise invalid(detail, "incorrect_type", name)
    for target in known:
        if str(target.id) == str(sent):
            return target
    raise invalid(f'Invalid pk "{sent}" - object does not exist.', "does_not_exist", name)


def _check_context(context: object) -> None:
    if not isinstance(context, dict) or not context.get("path") or context.get("source"):
        return
    if context.get("body") or str(context.get("method", "GET")).upper() != "GET":
        detail = "Exports from API endpoints only support GET requests without a request body."
        raise invalid(detail, attr="export_context")


async def create(request: Request) -> Answer:
    """Create an export (``POST exports/``): 201, whatever becomes of it.

    :param request: ``export_format`` and ``export_context``, ``insight`` or ``dashboard`` in its body.
    """
    body, state = request.json(), request.state
    # in the order of PostHog's fields, of which the first wrong one is told
    dashboard = _target(body, "dashboard", [dashboard for dashboard in state.dashboards.all() if not dashboard.deleted])
    insight = _target(body, "insight", [insight for insight in state.insights.all() if not insight.deleted])
    export_format = _format(body, newest=state.settings.exceptions_reported)
    expires = moment(body, "expires_after")
    context = body.get("export_context")
    if insight is None and dashboard is None and not context:
        raise invalid("Either dashboard, insight or export_context is required for an export.")
    _check_context(context)
    recording = isinstance(context, dict) and context.get("session_recording_id")
    if export_format in VIDEO_FORMATS and not recording:
        raise invalid("Video export supports session recordings only.", attr="export_format")
    export = state.exports.create(request.caller(), export_format, context, insight, dashboard, expires)
    if state.settings.create_blocks and export_format not in VIDEO_FORMATS:
        await export.ended.wait()
    return json_answer(state.exports.as_json(export), 201)


async def list_(request: Request) -> Answer:
    """List the caller's exports, newest first (``GET exports/``).

    :param request: ``limit``, ``offset`` and the filters ``export_format`` and ``context_path`` in its query.
    """
    exports = request.state.exports.visible(request.caller().user)
    export_format = request.query("export_format")
    if export_format in EXTENSIONS:
        exports = [export for export in exports if export.export_format == export_format]
    path = request.query("context_path")
    if path:
        exports = [export for export in exports if path.lower() in str(export.context("path") or "").lower()]
    return page(request, exports, request.state.exports.as_json)


def _own(request: Request) -> Export:
    export = request.state.exports.find(request.caller().user, request.params["id"])
    if export is None:
        raise not_found()
    return export


async def retrieve(request: Request) -> Answer:
    """Return one of the caller's exports (``GET exports/{id}/``).

    :param request: ``id`` in its path.
    """
    return json_answer(request.state.exports.as_json(_own(request)))


async def content(request: Request) -> Answer:
    """Return the file, or the signed address of it (``GET exports/{id}/content/``).

    :param request: ``id`` in its path, ``download=true`` in its query for a Content-Disposition.
    """
    export, state = _own(request), request.state
    if export.content is None:
        raise _not_ready(request, export)
    name = export.filename(dated=state.settings.dated_filenames)
    # exactly "true": PostHog compares the text
    disposition = f'attachment; filename="{name}"' if request.query("download") == "true" else None
    if state.settings.content_mode == "redirect":
        path = f"/storage/exports/{export.export_format.split('/')[0]}/project-{state.project.id}/{export.id}/{name}"
        link = state.storage.sign(path, export.content, export.export_format, disposition)
        return Answer(302, headers={"Location": link})
    headers = {"Cache-Control": "max-age=86400"}
    if disposition:
        headers["Content-Disposition"] = disposition
    return Answer(200, export.content, export.export_format, headers)


def _not_ready(request: Request, export: Export) -> ApiError:
    settings = request.state.settings
    if settings.not_ready == 409:
        headers = {"Retry-After": "5", "Location": f"{request.base_url}{request.path}"}
        return ApiError(409, envelope("invalid_request", "error", "Not ready."), headers)
    if settings.not_ready == 404:
        return not_found()
    reason = request.state.exports.exception(export)
    if reason:
        return ApiError(400, envelope("validation_error", "export_failed", reason))
    detail = "This export is still being generated. Please try again shortly."
    return ApiError(425, envelope("invalid_request", "export_not_ready", detail))


ROUTES = (
    Route("POST", "/exports/", create, _write_scopes),
    Route("GET", "/exports/", list_, READ),
    Route("GET", "/exports/{id}/", retrieve, READ),
    Route("GET", "/exports/{id}/content/", content, READ),
)
