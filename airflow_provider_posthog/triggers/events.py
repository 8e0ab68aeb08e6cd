"""Starts DAGs when events arrive in PostHog (Airflow 3 and newer; not importable before).

Kept out of every other module: the base class does not exist on Airflow 2.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.call import STATUS_BYTES
from airflow_provider_posthog.api.retry import POLL
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.steps import run_async
from airflow_provider_posthog.connection_form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError
from airflow_provider_posthog.results.retention import check, look

EVENT_VERSION = 1
WATERMARK = "posthog_newest_created_at"
# created_at is the time of ingestion; timestamp is the client's and may be days old when the event arrives.
_NEWEST = "SELECT count(), max(created_at) FROM events WHERE created_at > toDateTime({since})"
#: PostHog shows events for at least a month, so that a younger watermark needs no look at the retention.
_SHORTEST_RETENTION = timedelta(days=28)
_START = "SELECT max(created_at), now() FROM events"


class PostHogNewEventsTrigger(BaseEventTrigger):
    """Fires when PostHog has ingested events since the last time, for ``AssetWatcher``.

    ::

        sign_ups = Asset(
            "posthog_sign_ups",
            watchers=[AssetWatcher(name="new", trigger=PostHogNewEventsTrigger(event="sign_up"))],
        )

    The newest ``created_at`` seen is kept in the asset's state store (Airflow 3.3), so that a restarted triggerer
    neither fires again nor misses what came meanwhile; before 3.3 it starts from the newest event there is. It tells
    that there is news, once per poll, not which events: a DAG loads them by its own window. Each poll is one query of
    the project's 2,400 an hour. Errors are logged and the next poll tries again, as nobody restarts a watcher. If the
    watermark is so old that PostHog hides events that came after it (docs: *retention.md*), that is logged, too.

    The event's payload: ``version`` (int), ``event`` (text or null), ``count`` (int), ``after`` and ``until`` (ISO
    text, the newest ``created_at`` before and now).

    :param event: only events of this name; ``None`` for any.
    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param poll_interval: seconds between two polls.
    :param newer: arguments of a newer version of the provider, which are ignored.
    """

    def __init__(
        self,
        *,
        event: str | None = None,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        poll_interval: float = 60.0,
        **newer: object,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.event = event
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self.poll_interval = poll_interval
        self._stored_in_memory: str | None = None
        self._retention_checked = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "event": self.event,
                "posthog_conn_id": self.posthog_conn_id,
                "project_id": self.project_id,
                "poll_interval": self.poll_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for ever; fire when there is news."""
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        async with await PostHogHook(self.posthog_conn_id, self.project_id).async_client() as client:
            while True:
                wait = self.poll_interval
                try:
                    since = await self._since(client)
                    await self._look_at_retention(client, since)
                    count, newest = await self._ask(client, since)
                except PostHogError as error:
                    self.log.warning("Looking for new events failed, trying again in %.0f s: %s", wait, error)
                    asked = error.retry_after if isinstance(error, PostHogAPIError) else None
                    wait = max(wait, asked or 0.0)
                else:
                    if count and newest:
                        payload = {
                            "version": EVENT_VERSION,
                            "event": self.event,
                            "count": count,
                            "after": since,
                            "until": newest,
                        }
                        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                        # After the event: a crash between the two fires it again, never not at all.
                        await self._remember(newest)
                await asyncio.sleep(wait)

    async def _since(self, client: AsyncClient) -> str:
        known = await self._recall()
        if known is None:
            row = await self._first_row(client, _START, {})
            known = str(row[0] or row[1])
            await self._remember(known)
        return known

    async def _look_at_retention(self, client: AsyncClient, since: str) -> None:
        """Say once if the watermark is so old that PostHog hides events that came after it."""
        newest = moment(since)
        if self._retention_checked or newest is None or datetime.now(timezone.utc) - newest < _SHORTEST_RETENTION:
            return
        self._retention_checked = True
        try:
            found = await run_async(look(client.settings.project_id or 0), client, policy=POLL)
        except PostHogError as error:
            self.log.info("Whether PostHog hides old events is not known: %s", error)
            return
        text = check(newest, None, found, "warn")
        if text is not None:
            self.log.warning("Events since the last time may be missed. %s", text)

    async def _ask(self, client: AsyncClient, since: str) -> tuple[int, str | None]:
        text, values = _NEWEST, {"since": since}
        if self.event is not None:
            text, values = f"{_NEWEST} AND event = {{event}}", {"since": since, "event": self.event}
        row = await self._first_row(client, text, values)
        return int(row[0] or 0), row[1]

    async def _first_row(self, client: AsyncClient, text: str, values: dict[str, Any]) -> list[Any]:
        asked = replace(queries.start(queries.hogql(text, values)), max_bytes=STATUS_BYTES)
        answer = await client.send(asked, policy=POLL)
        rows = answer.get("results")
        if not isinstance(rows, list) or not rows or not isinstance(rows[0], list) or len(rows[0]) != 2:
            raise PostHogError("PostHog answered a query without the row that was asked for")
        return rows[0]

    async def _recall(self) -> str | None:
        store = getattr(self, "asset_state_store", None)
        if store is not None and self._stored_in_memory is None:
            try:
                kept = await store.aget(WATERMARK)
            except ValueError:  # several assets share this trigger: Airflow does not say which store to take
                self.log.warning("Several assets share this trigger, so a restart of the triggerer starts from now")
                kept = None
            self._stored_in_memory = kept if isinstance(kept, str) else None
        return self._stored_in_memory

    async def _remember(self, watermark: str) -> None:
        self._stored_in_memory = watermark
        store = getattr(self, "asset_state_store", None)
        if store is not None:
            try:
                await store.aset(WATERMARK, watermark)
            except ValueError:  # as above
                self.log.debug("No single store for the watermark")
