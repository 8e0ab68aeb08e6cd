"""The ``refresh`` parameter of insights and dashboards: what is computed, and what only looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, throttled
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.insights.insights import Insight, result_fields
from airflow_provider_posthog.emulator.insights.overrides import asked
from airflow_provider_posthog.emulator.jobs.queries import as_api_error

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.jobs.queries import Cached

MODES = (
    "force_cache",
    "blocking",
    "async",
    "async_except_on_cache_miss",
    "lazy_async",
    "force_blocking",
    "force_async",
)
# seconds after which lazy_async renews a result
LAZY = 24 * 3600.0


def read_mode(request: Request) -> str:
    """Return what ``refresh`` asks for. What PostHog does not know means "look into the cache", typos included.

    :param request: ``refresh`` in its query, or in its body.
    """
    wanted: object = request.query("refresh")
    if wanted is None and request.raw_body:
        wanted = request.json().get("refresh")
    if wanted is True or (isinstance(wanted, str) and wanted.lower() in ("true", "1", "yes", "")):
        return "force_blocking"
    return wanted if isinstance(wanted, str) and wanted in MODES else "force_cache"


def insight_key(request: Request, insight: Insight, dashboard_id: int | None) -> str | None:
    """Return the name of an insight's result in the cache.

    :param request: its overrides of filters and variables make results of their own.
    :param insight: the insight.
    :param dashboard_id: as shown on a dashboard, which is another result than the bare insight's.
    """
    wanted = asked(request, insight, dashboard_id)
    return None if wanted is None else request.state.queries.key(wanted.node, wanted.extra)


@dataclass(frozen=True)
class _Task:
    """An insight to be answered with: what it runs, and where its result is kept."""

    request: Request
    insight: Insight
    node: Json
    key: str
    dashboard_id: int | None

    @property
    def client_id(self) -> str | None:
        return self.request.query("client_query_id") or None


async def serialize(request: Request, insight: Insight, mode: str, dashboard_id: int | None = None) -> Json:
    """Return an insight with its result, computed as ``refresh`` says.

    :param request: what is answered.
    :param insight: the insight.
    :param mode: from :func:`read_mode`.
    :param dashboard_id: of the dashboard whose tile it is, or None.
    :raises ApiError: 400 for an override that is not JSON; for a broken query, if the setting ``insight_errors`` is
        ``raise``.
    """
    wanted = asked(request, insight, dashboard_id)
    if wanted is None:
        return insight.as_json(None, result_fields(None, is_cached=False))
    queries = request.state.queries
    key = queries.key(wanted.node, wanted.extra)
    task = _Task(request, insight, wanted.node, key, dashboard_id)
    known = queries.cached(key)
    fresh = queries.fresh(key)
    if _computes(mode, known, fresh):
        return insight.as_json(key, await _computed(task))
    fields = result_fields(None if mode == "force_async" else known, is_cached=True)
    if known is None or mode == "force_async":
        fields["is_cached"] = False
    fields["timezone"] = fields["timezone"] or (request.state.warehouse.timezone if request.query("refresh") else None)
    status = queries.running(key)
    if _enqueues(request, mode, known, fresh):
        # a result that is only stale is renewed even if an earlier attempt has failed; a missing one is not
        force = mode == "force_async" or known is not None
        status = queries.enqueue(
            wanted.node,
            key,
            status_id=task.client_id or key,
            force=force,
            personal=False,
            insight_id=insight.id,
            dashboard_id=dashboard_id,
        )
    fields["query_status"] = status.as_json(request.state.project.id) if status else None
    return insight.as_json(None if mode == "force_async" else key, fields)


def _computes(mode: str, known: Cached | None, fresh: Cached | None) -> bool:
    if mode == "force_blocking":
        return True
    if mode == "blocking":
        return fresh is None
    return mode == "async_except_on_cache_miss" and known is None


def _enqueues(request: Request, mode: str, known: Cached | None, fresh: Cached | None) -> bool:
    if mode == "force_async":
        return True
    if mode in ("async", "async_except_on_cache_miss"):
        return fresh is None
    if mode == "lazy_async":
        return known is None or (request.state.clock.now() - known.at).total_seconds() > LAZY
    return False


async def _computed(task: _Task) -> Json:
    state = task.request.state
    raising = state.settings.insight_errors == "raise"
    if _is_crowded(task.request):
        if raising:
            raise throttled("concurrency_limit_exceeded")
        failed = _failed(task, "concurrency_limit_exceeded", "concurrency_limit_exceeded")
        # the server says "just now" although nothing was computed
        return {**failed, "last_refresh": iso(state.clock.now())}
    try:
        made = await state.queries.compute(task.node, task.key, personal=False, client_id=task.client_id)
    except HogQLError as error:
        if raising:
            raise as_api_error(error) from None
        return _failed(task, error.detail, error.code)
    except ApiError as error:
        if raising or not error.body:
            raise
        return _failed(task, str(error.body["detail"]), str(error.body["code"]))
    return result_fields(made, is_cached=False)


def _is_crowded(request: Request) -> bool:
    settings = request.state.settings
    limit = settings.insight_concurrency
    full = limit is not None and request.state.queries.calculations.running >= limit
    return full or settings.insight_outcome == "concurrency"


def _failed(task: _Task, message: str, code: str) -> Json:
    state = task.request.state
    status: Json = {
        "id": task.client_id or "",
        "team_id": state.project.id,
        "insight_id": str(task.insight.id),
        "dashboard_id": None if task.dashboard_id is None else str(task.dashboard_id),
        # newer servers answer 200 and leave "complete" at its default, although nothing more will come
        "complete": False,
        "error": True,
        "error_message": message,
        "error_code": code,
        "query_async": False,
        "results": None,
        "start_time": iso(state.clock.now()),
        "end_time": None,
        "pickup_time": None,
        "expiration_time": None,
        "task_id": None,
        "labels": None,
        "query_progress": None,
    }
    fields = result_fields(None, is_cached=False)
    return {**fields, "timezone": state.warehouse.timezone, "query_status": status}
