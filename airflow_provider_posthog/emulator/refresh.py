"""The ``refresh`` parameter of insights and dashboards: what is computed, and what only looked up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.envelopes import ApiError, Json
from airflow_provider_posthog.emulator.hogql_errors import HogQLError
from airflow_provider_posthog.emulator.insights import Insight, result_fields
from airflow_provider_posthog.emulator.messages import Request
from airflow_provider_posthog.emulator.queries import as_api_error

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.queries import Cached

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
    wish: object = request.query("refresh")
    if wish is None and request.raw_body:
        wish = request.json().get("refresh")
    if wish is True or (isinstance(wish, str) and wish.lower() in ("true", "1", "yes", "")):
        return "force_blocking"
    return wish if isinstance(wish, str) and wish in MODES else "force_cache"


def insight_key(request: Request, insight: Insight, dashboard_id: int | None) -> str | None:
    """Return the name of an insight's result in the cache.

    :param request: its overrides of filters and variables make results of their own.
    :param insight: the insight.
    :param dashboard_id: as shown on a dashboard, which is another result than the bare insight's.
    """
    node = insight.node()
    if node is None:
        return None
    names = ("filters_override", "variables_override", "tile_filters_override")
    extra = [f"{name}={request.query(name)}" for name in names if request.query(name)]
    if dashboard_id is not None:
        extra.append(f"dashboard={dashboard_id}")
    return request.state.queries.key(node, "&".join(extra))


async def serialize(request: Request, insight: Insight, mode: str, dashboard_id: int | None = None) -> Json:
    """Return an insight with its result, computed as ``refresh`` says.

    :param request: what is answered.
    :param insight: the insight.
    :param mode: from :func:`read_mode`.
    :param dashboard_id: of the dashboard whose tile it is, or None.
    :raises ApiError: 400 for a broken query, if the setting ``insight_errors`` is ``raise``.
    """
    key = insight_key(request, insight, dashboard_id)
    if key is None:
        return insight.as_json(None, result_fields(None, is_cached=False))
    queries = request.state.queries
    known = queries.cached(key)
    fresh = queries.fresh(key)
    if _computes(mode, known, fresh):
        return insight.as_json(key, await _computed(request, insight, key))
    fields = result_fields(None if mode == "force_async" else known, is_cached=True)
    if known is None or mode == "force_async":
        fields["is_cached"] = False
    fields["timezone"] = fields["timezone"] or (request.state.warehouse.timezone if request.query("refresh") else None)
    status = queries.running(key)
    if _enqueues(request, mode, known, fresh):
        status_id = request.query("client_query_id") or key
        # a result that is only stale is renewed even if an earlier attempt has failed; a missing one is not
        force = mode == "force_async" or known is not None
        status = queries.enqueue(
            _query(insight), key, status_id=status_id, force=force, personal=False, insight_id=insight.id
        )
    fields["query_status"] = status.as_json(request.state.project.id) if status else None
    return insight.as_json(None if mode == "force_async" else key, fields)


def _query(insight: Insight) -> Json:
    return insight.node() or {}


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


async def _computed(request: Request, insight: Insight, key: str) -> Json:
    if request.state.settings.insight_outcome == "concurrency":
        failed = _failed(request, insight, "concurrency_limit_exceeded", "concurrency_limit_exceeded")
        # the server says "just now" although nothing was computed
        return {**failed, "last_refresh": iso(request.state.clock.now())}
    try:
        made = await request.state.queries.compute(_query(insight), key, personal=False)
    except HogQLError as error:
        if request.state.settings.insight_errors == "raise":
            raise as_api_error(error) from None
        return _failed(request, insight, error.detail, error.code)
    except ApiError as error:
        if request.state.settings.insight_errors == "raise" or not error.body:
            raise
        return _failed(request, insight, str(error.body["detail"]), str(error.body["code"]))
    return result_fields(made, is_cached=False)


def _failed(request: Request, insight: Insight, message: str, code: str) -> Json:
    now = request.state.clock.now()
    status: Json = {
        "id": request.query("client_query_id") or "",
        "team_id": request.state.project.id,
        "insight_id": str(insight.id),
        "dashboard_id": None,
        # newer servers answer 200 and leave "complete" at its default, although nothing more will come
        "complete": False,
        "error": True,
        "error_message": message,
        "error_code": code,
        "query_async": False,
        "results": None,
        "start_time": iso(now),
        "end_time": None,
        "pickup_time": None,
        "expiration_time": None,
        "task_id": None,
        "labels": None,
        "query_progress": None,
    }
    fields = result_fields(None, is_cached=False)
    return {**fields, "timezone": request.state.warehouse.timezone, "query_status": status}
