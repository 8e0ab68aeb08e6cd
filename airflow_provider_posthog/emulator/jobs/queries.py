"""The query service: its cache, its queue of asynchronous queries and its limit of simultaneous ones."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.hogql.errors import HogQLError
from airflow_provider_posthog.emulator.http.envelopes import ApiError, Json, envelope, not_found, throttled
from airflow_provider_posthog.emulator.http.throttle import ByteBucket
from airflow_provider_posthog.emulator.jobs.calculations import Calculation, Calculations
from airflow_provider_posthog.emulator.jobs.runner import run, unwrap
from airflow_provider_posthog.emulator.jobs.work import Work

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core

# how long a result counts as fresh, and when a client may ask again: seconds, by kind of query
FRESH = {
    "HogQLQuery": (15.0, 60.0),
    "EventsQuery": (15.0, 60.0),
    "TrendsQuery": (7200.0, 900.0),
    "FunnelsQuery": (7200.0, 900.0),
    "RetentionQuery": (7200.0, 900.0),
}


@dataclass(frozen=True)
class Cached:
    """A result in the cache.

    :param body: of the answer, without the fields that tell of the cache.
    :param at: when it was computed.
    :param fresh_until: when it becomes stale.
    :param next_refresh: when PostHog advises to ask again.
    :param bytes_read: what ClickHouse read for it.
    """

    body: Json
    at: datetime
    fresh_until: datetime
    next_refresh: datetime
    bytes_read: int = 0

    def fields(self, *, is_cached: bool) -> Json:
        """Return the fields about the cache.

        :param is_cached: whether the result was there before this request.
        """
        return {
            "is_cached": is_cached,
            "last_refresh": iso(self.at),
            "cache_target_age": iso(self.fresh_until),
            "next_allowed_client_refresh": iso(self.next_refresh),
        }


@dataclass
class Status:
    """An asynchronous query; PostHog calls it query_status."""

    id: str
    key: str
    task_id: str
    start_time: datetime
    expiration_time: datetime
    insight_id: int | None = None
    dashboard_id: int | None = None
    complete: bool = False
    error: bool = False
    error_message: str | None = None
    results: Json | None = None
    cancelled: bool = False
    pickup_time: datetime | None = None
    end_time: datetime | None = None
    bytes_read: int = 0

    def as_json(self, project_id: int) -> Json:
        """Return the object of the API.

        :param project_id: which PostHog calls ``team_id`` here.
        """
        return {
            "id": self.id,
            "team_id": project_id,
            "insight_id": self.insight_id,
            "dashboard_id": self.dashboard_id,
            "query_async": True,
            "complete": self.complete,
            "error": self.error,
            "error_message": self.error_message,
            "results": self.results,
            "start_time": iso(self.start_time),
            "pickup_time": iso_or_none(self.pickup_time),
            "end_time": iso_or_none(self.end_time),
            "expiration_time": iso(self.expiration_time),
            "task_id": self.task_id,
            "labels": None,
            "query_progress": None,
        }


class QueryService:
    """Runs queries for ``/query/`` and for insights.

    :param core: the clock, the settings, the store.
    :param catch_up: brings what ``system.*`` shows of batch exports up to the clock.
    """

    def __init__(self, core: Core, *, catch_up: Callable[[], object]) -> None:
        self._core = core
        self._catch_up = catch_up
        self._cache: dict[str, Cached] = {}
        self._statuses: dict[str, Status] = {}
        self._running = 0
        #: the latest queries, as the table ``query_log`` shows them
        self.log: deque[dict[str, object]] = deque(maxlen=1000)
        self.calculations = Calculations(core.spawn)
        self.bucket = ByteBucket(core.clock)
        self._freed = asyncio.Condition()

    def key(self, query: Json, extra: str = "") -> str:
        """Return the name of a query in the cache. Equal queries of insights and of ``/query/`` share it.

        :param query: with or without wrappers.
        :param extra: what else makes the result different, e.g. the dashboard.
        """
        text = json.dumps([unwrap(query), self._core.project.id, extra], sort_keys=True)
        return "cache_" + hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    def cached(self, key: str) -> Cached | None:
        """Return what the cache has, fresh or stale.

        :param key: from :meth:`key`.
        """
        return self._cache.get(key)

    def fresh(self, key: str) -> Cached | None:
        """Return what the cache has, unless it is stale.

        :param key: from :meth:`key`.
        """
        cached = self._cache.get(key)
        return cached if cached is not None and cached.fresh_until > self._core.clock.now() else None

    async def compute(
        self, query: Json, key: str, *, personal: bool, limited: bool = False, client_id: str | None = None
    ) -> Cached:
        """Run a query now and keep the result. It goes on even if the caller goes away.

        :param query: with or without wrappers.
        :param key: from :meth:`key`.
        :param personal: whether a personal API key asks directly, which forbids OFFSET.
        :param limited: count it against the limit of simultaneous queries.
        :param client_id: by which it can be cancelled.
        :raises HogQLError: when HogQL refuses it, or it was cancelled.
        :raises ApiError: 429 when too many others run, 400 when it cannot be run at all.
        """
        node = unwrap(query)
        calculation = Calculation(frozenset([client_id] if client_id else []))
        if not limited:
            self.calculations.begin(calculation)
        return await self.calculations.run(calculation, self._calculate(calculation, node, key, personal, limited))

    def _may_show_batch_exports(self, node: Json) -> bool:
        """Whether a query may read their tables; to plan the runs of weeks takes longer than most queries."""
        texts = (json.dumps(node), *self._core.warehouse.own.views.values())
        return any("batch_export" in text.lower() for text in texts)

    async def _calculate(self, calculation: Calculation, node: Json, key: str, personal: bool, limited: bool) -> Cached:
        if limited:
            await self._enter()
            self.calculations.begin(calculation)
        try:
            await self._core.clock.sleep(self._core.settings.query_seconds)
            hidden = self._core.settings.hidden_months()
            without = self._core.settings.missing_tables()
            if self._may_show_batch_exports(node):  # here and not in the thread, where a run could be planned twice
                self._catch_up()
            work = Work(self._core.warehouse, node, self._core.clock.now(), "query", personal, hidden, without)
            body = await self._logged(work)
        finally:
            self.calculations.end(calculation)
            if limited:
                await self._leave()
        if personal:  # queries of the app draw on nothing
            self.bucket.debit(work.meter.bytes_read)
        now = self._core.clock.now()
        fresh, wait = FRESH[str(node["kind"])]
        if self._core.settings.cache_seconds is not None:
            fresh = self._core.settings.cache_seconds
        until = now + timedelta(seconds=fresh)
        made = Cached(body, now, until, now + timedelta(seconds=wait), work.meter.bytes_read)
        self._cache[key] = made
        return made

    async def _logged(self, work: Work) -> Json:
        """Run a query, and note it for the table ``query_log``."""
        node, began = work.node, self._core.clock.now()
        entry: dict[str, object] = {
            "query_id": str(uuid.uuid4()),
            "query": node["query"] if isinstance(node.get("query"), str) else json.dumps(node),
            "query_start_time": began,
            "kind": "Select",
            "query_type": node["kind"],
            "is_personal_api_key_request": work.personal,
            "is_initial_query": 1,
            "team_id": self._core.project.id,
            "status": "ExceptionBeforeStart",
        }
        try:
            body = await asyncio.to_thread(run, work)
            entry |= {"status": "QueryFinish", "result_rows": len(body.get("results") or [])}
            return body
        finally:
            took = (self._core.clock.now() - began).total_seconds() * 1000
            entry |= {"type": entry["status"], "query_duration_ms": int(took), "read_bytes": work.meter.bytes_read}
            self.log.append(entry)

    def check_budget(self) -> None:
        """Refuse a query of an API key if the project's bytes are used up and the setting asks for that.

        :raises ApiError: 429.
        """
        if self._metered() and self._core.settings.query_bytes_per_hour is not None:
            self.bucket.check()

    def budget_headers(self, bytes_read: int = 0) -> dict[str, str]:
        """Return what an answer of ``/query/`` says of the project's bytes: nothing before September 2026.

        :param bytes_read: what ClickHouse read for it.
        """
        if not self._metered():
            return {}
        left = max(0, math.floor(self.bucket.level()))
        return {"X-PostHog-Query-Bytes-Read": str(bytes_read), "X-PostHog-Query-Budget-Remaining-Bytes": str(left)}

    def _metered(self) -> bool:
        return self._core.settings.generation == "C" and self._core.settings.query_budget_headers

    async def _enter(self) -> None:
        settings = self._core.settings
        async with self._freed:
            free = self._freed.wait_for(lambda: self._running < settings.concurrency)
            try:
                await asyncio.wait_for(free, settings.concurrency_wait_seconds or 0.001)
            except asyncio.TimeoutError:
                project = self._core.project.id
                detail = (
                    f"Exceeded maximum concurrency limit: {settings.concurrency} for key: app:query:per-team:{project}"
                )
                # the server does not know how long the others will take: no Retry-After
                raise throttled(detail) from None
            self._running += 1

    async def _leave(self) -> None:
        async with self._freed:
            self._running -= 1
            self._freed.notify_all()

    def status(self, status_id: str) -> Status | None:
        """Return the status of an asynchronous query, unless it is unknown, cancelled or expired.

        :param status_id: its id.
        """
        status = self._statuses.get(status_id)
        if status is not None and status.expiration_time <= self._core.clock.now():
            del self._statuses[status_id]
            return None
        return status

    def running(self, key: str) -> Status | None:
        """Return the unfinished status that will renew a result of the cache.

        :param key: from :meth:`key`.
        """
        return next((s for s in self._statuses.values() if s.key == key and not s.complete and self.status(s.id)), None)

    def enqueue(
        self,
        query: Json,
        key: str,
        *,
        status_id: str,
        force: bool,
        personal: bool,
        insight_id: int | None = None,
        dashboard_id: int | None = None,
    ) -> Status:
        """Start a query in the background, or return the status that its id already has.

        :param query: with or without wrappers.
        :param key: from :meth:`key`.
        :param status_id: its id: the caller's ``client_query_id`` or one of ours.
        :param force: start anew even if the id has a status, whatever came of it.
        :param personal: whether a personal API key asks directly.
        :param insight_id: of the insight that it belongs to.
        :param dashboard_id: of the dashboard that shows the insight.
        """
        existing = self.status(status_id)
        if existing is not None and (not force or not existing.complete):
            return existing
        now = self._core.clock.now()
        expires = now + timedelta(seconds=self._core.settings.status_seconds)
        status = Status(status_id, key, str(uuid.uuid4()), now, expires, insight_id, dashboard_id)
        self._statuses[status_id] = status
        self._core.background(self._work(status, query, personal))
        return status

    async def _work(self, status: Status, query: Json, personal: bool) -> None:
        clock, settings = self._core.clock, self._core.settings
        await clock.sleep(settings.async_seconds)
        if status.cancelled:
            return
        status.pickup_time = clock.now()
        try:
            made = await self.compute(query, status.key, personal=personal, limited=True, client_id=status.id)
            status.bytes_read = made.bytes_read
            status.results = self.body(made, status.key, is_cached=False)
        except (HogQLError, ApiError) as error:
            status.error = True
            status.error_message = None if settings.hide_query_errors else _message(error)
        except Exception:
            status.error = True
            raise
        finally:
            status.complete = True
            status.end_time = clock.now()
            status.expiration_time = status.end_time + timedelta(seconds=settings.status_seconds)

    async def cancel(self, wanted: str, *, dequeue_only: bool) -> str:
        """Cancel a query, and forget its status if it has one; return what PostHog says about it.

        :param wanted: the id of its status or its ``client_query_id``; an unknown one is cancelled all the same.
        :param dequeue_only: leave what runs in the database alone.
        """
        status = self.status(wanted)
        self._statuses.pop(wanted, None)
        if status is not None and status.complete:
            return "Query already complete"
        if status is not None:
            status.cancelled = True
        if dequeue_only:
            return "Only tried to dequeue, not cancelling query on clickhouse"
        await self.calculations.cancel(wanted)
        return "Cancelled query on clickhouse"

    def body(self, cached: Cached, key: str, *, is_cached: bool) -> Json:
        """Return the body of the answer of ``/query/``.

        :param cached: the result.
        :param key: from :meth:`key`.
        :param is_cached: whether it was there before this request.
        """
        fields = cached.fields(is_cached=is_cached)
        timezone = cached.body.get("timezone", self._core.warehouse.timezone)
        return {**cached.body, **fields, "cache_key": key, "calculation_trigger": None, "timezone": timezone}

    def not_found(self, status_id: str) -> ApiError:
        """Return the 404 of an unknown, cancelled or expired query.

        :param status_id: its id.
        """
        return not_found(f"Query {status_id} not found for team {self._core.project.id}")


def _message(error: HogQLError | ApiError) -> str | None:
    if isinstance(error, HogQLError):
        return error.detail if error.status < 500 else None
    return str(error.body["detail"]) if error.body else None


def as_api_error(error: HogQLError) -> ApiError:
    """Return the HTTP answer of a query that failed.

    :param error: what failed.
    """
    if error.status >= 500:
        return ApiError(error.status, envelope("server_error", "error", "ClickHouse error while executing query."))
    return ApiError(error.status, envelope("validation_error", error.code, error.detail, error.attr))
