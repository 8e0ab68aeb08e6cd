"""Exports: files that PostHog makes of a query, an insight or a dashboard (``/api/projects/{id}/exports/``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_provider_posthog.api import insights, queries
from airflow_provider_posthog.api.arguments import Limit, Number, Offset, Text
from airflow_provider_posthog.api.call import Call, json_item, json_object, json_page
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.hogql import Arm, limits_of
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogSettingsError

CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PNG = "image/png"

#: The most rows of a CSV or XLSX file, and the rows that a HogQL query without LIMIT returns.
MAX_ROWS = 300_000
DEFAULT_ROWS = 50_000

#: The key in ``export_context`` that carries our marker; PostHog keeps unknown keys and returns them verbatim.
MARKER_KEY = "airflow_marker"


class Export(TypedDict, total=False):
    """An export as PostHog describes it; servers before 2025 have no ``exception``."""

    id: int
    export_format: str
    created_at: str
    dashboard: int | None
    insight: int | None
    has_content: bool
    filename: str
    expires_after: str | None
    export_context: Any  # of exports that others have made it may be anything: PostHog takes any JSON
    exception: str | None


class ExportPage(TypedDict, total=False):
    """A page of exports, newest first."""

    count: int
    next: str | None
    previous: str | None
    results: Sequence[Export]


@endpoint("GET", "exports/", scopes=("export:read",), paging="offset")
def list(*, export_format: Text | None = None, limit: Limit = 100, offset: Offset = 0) -> Call[ExportPage]:
    """List the exports of the key's own user, newest first.

    :param export_format: only this format; PostHog ignores a format it does not know and lists all.
    :param limit: exports per page.
    :param offset: how many to leave out.
    """
    query = {"export_format": export_format, "limit": limit, "offset": offset or None}
    return list.call(json_page, query=query)


@endpoint("GET", "exports/{id}/", scopes=("export:read",))
def retrieve(export_id: Number) -> Call[Export]:
    """Retrieve one export; 404 after ``expires_after`` and for exports that another user's key made.

    :param export_id: the export's id.
    """
    return retrieve.call(json_object, id=export_id)


@endpoint("POST", "exports/", scopes=("export:write",))
def create(
    *,
    export_format: Text,
    insight: int | None = None,
    dashboard: int | None = None,
    export_context: Mapping[str, Any] | None = None,
) -> Call[Export]:
    """Create an export. 201 means that it exists, not that it is done or will succeed.

    PostHog makes a new one for each request, so this call is never repeated when its outcome is unknown.

    :param export_format: such as ``text/csv``.
    :param insight: the insight's numeric id.
    :param dashboard: the dashboard's id.
    :param export_context: ``source`` (a query node), ``columns``, ``filename`` and your own keys.
    """
    body: dict[str, Any] = {"export_format": export_format}
    scopes = []
    if insight is not None:
        body["insight"] = insight
        scopes.append("insight:read")
    if dashboard is not None:
        body["dashboard"] = dashboard
        scopes.append("dashboard:read")
    if export_context:
        body["export_context"] = dict(export_context)
        if export_context.get("source"):
            scopes.append("query:read")
    return create.call(json_item, json=body, scopes=tuple(scopes))


@endpoint("GET", "exports/{id}/content/", scopes=("export:read",))
def content(export_id: Number) -> Call[bytes]:
    """Download an export's file: bytes, or a redirect to a presigned address of the object storage.

    Fetch it with :func:`airflow_provider_posthog.download.http.download`, which keeps the key from the storage
    and the file out of memory.

    :param export_id: the export's id.
    """
    return content.call(lambda answer: answer.body, query={"download": True}, id=export_id)


def summary(export: Export, settings: ClientSettings) -> dict[str, Any]:
    """Return what tasks return about an export: JSON, without its query and without data.

    :param export: PostHog's description of it.
    :param settings: where it is.
    :returns: ``id`` (int), ``filename``, ``export_format``, ``created_at`` and ``expires_after`` (ISO text or null),
        ``has_content`` (bool), ``project_id`` (int), ``host``.
    """
    return {**facts_of(export), "project_id": settings.project_id, "host": settings.base_url}


def facts_of(export: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a summary that comes from PostHog.

    :param export: PostHog's description of it.
    :returns: ``id``, ``filename``, ``export_format``, ``created_at``, ``expires_after`` and ``has_content``.
    """
    return {
        "id": export.get("id"),
        "filename": export.get("filename"),
        "export_format": export.get("export_format"),
        "created_at": export.get("created_at"),
        "expires_after": export.get("expires_after"),
        "has_content": export.get("has_content") is True,
    }


def row_limit(export: Export, rows: int = 0) -> tuple[int, str]:
    """Return at how many rows PostHog may silently cut a table, and which limit does so.

    :param export: PostHog's description of the export, with its query in ``export_context.source``.
    :param rows: how many rows it has. Nodes other than HogQL may have more rows than their ``limit``, as PostHog
        fetches them page by page; then the limit does not cut.
    :returns: the least number of rows that any SELECT of its query is cut at; 0 if no number of rows shows a cut.
    """
    context = export.get("export_context")
    source = (insights.unwrap(context.get("source")) if isinstance(context, dict) else None) or {}
    if source.get("kind") == "HogQLQuery":
        return _limit_of_hogql(source)
    own = source.get("limit")
    limit = own if isinstance(own, int) and not isinstance(own, bool) and rows <= own else MAX_ROWS
    return _named(limit, "the query's own limit")


def _limit_of_hogql(source: Mapping[str, Any]) -> tuple[int, str]:
    limits = limits_of(str(source.get("query", "")), queries.placeholders(source))
    if limits.hides_cuts:
        return 0, f"PostHog cuts each of the {len(limits.arms)} SELECTs that it joins, and the rows do not show that"
    own = "the query's own limit" if not limits.is_set else "the limit of one of the SELECTs that it joins"
    return min(_limit_of_arm(arm, own) for arm in limits.arms)


def _limit_of_arm(arm: Arm, own: str) -> tuple[int, str]:
    if not arm.written:
        return DEFAULT_ROWS, "PostHog's own limit for a query without LIMIT"
    if arm.stretches:  # no number of rows, so no accident
        return _named(MAX_ROWS, own)
    if arm.limit is None:
        return 0, f"{own} cannot be read"
    return _named(max(arm.limit, 1), own)


def _named(limit: int, own: str) -> tuple[int, str]:
    return (limit, f"{own} of {limit:,}") if limit < MAX_ROWS else (MAX_ROWS, "PostHog's limit for exports")


def created_at(export: Export) -> float:
    """Return when an export was created, in seconds since 1970 by the server's clock; 0 if that cannot be read.

    :param export: PostHog's description of it.
    """
    created = moment(export.get("created_at"))
    return 0.0 if created is None else created.timestamp()


def id_of(value: object, settings: ClientSettings) -> int:
    """Read an export's id from a task's argument: a number, or a task's result (:func:`summary`).

    :param value: the argument.
    :param settings: the project that the task will ask.
    :raises PostHogSettingsError: if it is neither, or comes from another project or host.
    """
    if isinstance(value, Mapping):
        for field, expected in (("project_id", settings.project_id), ("host", settings.base_url)):
            if value.get(field) not in (None, expected):
                raise PostHogSettingsError(
                    "export_id",
                    f"is of an export made with {field} {value[field]!r}, but this task's is {expected!r}.",
                    "Give both tasks the same connection and project_id.",
                )
        value = value.get("id")
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdigit():
        raise PostHogSettingsError(
            "export_id",
            f"is {text[:60]!r}, which is not the id of an export.",
            "Write the number, or create_export.output (a template that pulls it must pull its ['id']).",
        )
    return int(text)
