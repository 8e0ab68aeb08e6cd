"""Starts DAGs when events arrive in PostHog (Airflow 3 and newer; not importable before).

Kept out of every other module: the base class does not exist on Airflow 2.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import AsyncIterator, Hashable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_posthog.api.retry import ONCE
from airflow_provider_posthog.api.steps import run_async
from airflow_provider_posthog.compat import BaseEventTrigger, asset_stores
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.results.retention import check, look
from airflow_provider_posthog.triggers.event_looks import LateLook, Look, Member, Seen, Terms, news, of_event, payload

if TYPE_CHECKING:
    from airflow_provider_posthog.api.async_clients import AsyncClient

#: What the stored state begins with; an asset may have several watchers.
STATE = "posthog_events_seen"
#: PostHog shows events for at least a month, so that a younger watermark needs no look at the retention.
_SHORTEST_RETENTION = timedelta(days=28)
#: How old the stored state may get while nothing happens.
_STORE_EVERY = timedelta(hours=1)
_LONGEST = 10 * 366 * 86_400.0


class PostHogNewEventsTrigger(BaseEventTrigger):
    """Fires when new events have arrived in PostHog, for ``AssetWatcher``.

    ::

        sign_ups = Asset(
            "posthog_sign_ups",
            watchers=[AssetWatcher(name="new", trigger=PostHogNewEventsTrigger(event="sign_up"))],
        )

    It says that there are new events, once per poll, and not which: a DAG loads them by its own window. All watchers in
    a triggerer with the same arguments but ``event`` share one query per poll, whose cost is bounded by ``scan_back``
    and by the names (docs: *watcher.md*).

    The watermark is kept in the assets' state stores (Airflow 3.3), so that a restarted triggerer neither misses what
    came meanwhile nor, as a rule, fires again; before 3.3 it starts from now. Failures of PostHog, the connection or
    the state store are logged, and the next poll tries again. If the watermark is so old that PostHog hides events that
    came after it (docs: *retention.md*), that is logged too.

    The event's payload: ``version`` (int), ``event`` (text or null), ``count`` (int, the new ones), ``after`` and
    ``until`` (ISO text): all the new ones have a ``created_at`` later than ``after`` and no later than ``until``.

    :param event: only events of this name; ``None`` for any.
    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param poll_interval: between two polls. Seconds, or a timedelta.
    :param scan_back: events that happened more than this before they came in are looked for once a day, the others at
        each poll. Seconds (whole ones), or a timedelta; ``None`` looks for all at each poll, in all that PostHog has.
    :param overlap: how long an event may take, after it came in, until queries see it. Seconds, or a timedelta.
    :param newer: arguments of a newer version of the provider, which are ignored.
    :raises PostHogSettingsError: if an argument is wrong.
    """

    def __init__(
        self,
        *,
        event: str | None = None,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        poll_interval: float | timedelta = 60.0,
        scan_back: float | timedelta | None = 2 * 86_400.0,
        overlap: float | timedelta = 3600.0,
        **newer: object,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if event is not None and (not isinstance(event, str) or not event):
            raise PostHogSettingsError("event", "is not a name.", "Write the event's name, or None for any event.")
        self.event = event
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self.poll_interval = _seconds("poll_interval", poll_interval, 0.01)
        self.scan_back = None if scan_back is None else float(math.ceil(_seconds("scan_back", scan_back, 1.0)))
        self.overlap = _seconds("overlap", overlap, 0.0)
        self._seen: Seen | None = None
        self._stored: Seen | None = None
        self._was_read = False
        self._store_failed = False
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
                "scan_back": self.scan_back,
                "overlap": self.overlap,
            },
        )

    @property
    def terms(self) -> Terms:
        """What this watcher has in common with those that it shares a poll with."""
        project_id = None if self.project_id is None else str(self.project_id)
        return Terms(self.posthog_conn_id, project_id, self.poll_interval, self.scan_back, self.overlap)

    def shared_stream_key(self) -> Hashable | None:
        """Return what the poll is known by that this watcher shares with others (Airflow 3.3 and newer)."""
        return self.terms

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Look | LateLook]:
        """Poll for ever, for all who share the poll (Airflow 3.3 and newer).

        :param kwargs: the arguments of one of them.
        """
        from airflow_provider_posthog.triggers.event_polls import Poll

        async for look_ in Poll(cls(**kwargs).terms).looks():
            yield look_

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Look | LateLook]) -> AsyncIterator[TriggerEvent]:
        """Fire what is new in a shared poll's looks to this watcher.

        :param shared_stream: the looks.
        """
        from airflow_provider_posthog.triggers.event_polls import taking_part

        member = Member(self.event)
        with taking_part(self.terms, member):
            async for look_ in shared_stream:
                if self.event not in look_.names:
                    continue  # it was on its way when this watcher came
                await self._recall()
                fresh = self._late_news(look_) if isinstance(look_, LateLook) else await self._news(look_)
                if fresh is not None:
                    yield TriggerEvent(fresh)  # type: ignore[no-untyped-call]
                # After the event: a crash between the two fires it again, never not at all.
                await self._remember(fired=fresh is not None)
                member.late = self._seen.late if self._seen is not None else None

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for ever; fire when there is news. Airflow 3.3 and newer run the shared poll by themselves."""
        from airflow_provider_posthog.triggers.event_polls import shared

        async for event in self.filter_shared_stream(shared(self.terms)):
            yield event

    async def _news(self, look_: Look) -> dict[str, Any] | None:
        seen = self._seen
        if seen is None:  # what was there before is no news
            kept = of_event(look_.counts, self.event).kept
            self._seen = Seen(look_.next, kept, look_.seen, look_.at)
            return None
        if seen.after != look_.after:
            own = await self._catch_up(look_, seen)
            if own is None:
                return None
            look_ = own
        self._seen, fresh = news(look_, seen, self.event)
        return fresh

    def _late_news(self, look_: LateLook) -> dict[str, Any] | None:
        if self._seen is None or self._seen.late != look_.after:
            return None
        self._seen = replace(self._seen, late=look_.until)
        counted = of_event(look_.counts, self.event)
        if not counted.counted or counted.newest is None:
            return None
        self.log.info(
            "%d events came in since %s that had happened longer before than scan_back", counted.counted, look_.after
        )
        return payload(self.event, counted.counted, look_.after, counted.newest)

    async def _catch_up(self, look_: Look, seen: Seen) -> Look | None:
        from airflow_provider_posthog.triggers.event_polls import catch_up, client_of

        try:
            async with await client_of(self.terms) as client:
                await self._look_at_retention(client, seen.after)
                return await catch_up(client, self.terms, look_, seen, self.event)
        except PostHogError as error:
            self.log.warning(
                "Looking for what came in since %s failed, the next poll tries again: %s", seen.after, error
            )
            return None

    async def _look_at_retention(self, client: AsyncClient, since: datetime) -> None:
        """Say once if what was seen is so old that PostHog hides events that came after it."""
        if self._retention_checked or datetime.now(timezone.utc) - since < _SHORTEST_RETENTION:
            return
        self._retention_checked = True
        try:
            retention = await run_async(look(client.settings.project_id or 0), client, policy=ONCE)
        except PostHogError as error:
            self.log.info("Whether PostHog hides old events is not known: %s", error)
            return
        text = check(since, None, retention, "warn")
        if text is not None:
            self.log.warning("Events since the last time may be missed. %s", text)

    @property
    def state_key(self) -> str:
        """The key of this watcher's state in an asset's store."""
        which = json.dumps([self.posthog_conn_id, self.terms.project_id, self.event])
        return f"{STATE}_{hashlib.sha256(which.encode()).hexdigest()[:16]}"

    async def _recall(self) -> None:
        """Read what was seen before, once; while a store does not answer, again at each look."""
        if self._was_read:
            return
        try:
            stored = [Seen.from_json(await store.aget(self.state_key)) for store in asset_stores(self)]
        except Exception as error:  # Airflow's API server may be starting again
            self._say_store_failed("read", error)
            return
        self._was_read = True
        known = [seen for seen in stored if seen is not None]
        if known:
            self._stored = self._seen = min(known, key=lambda seen: seen.after)

    async def _remember(self, *, fired: bool) -> None:
        seen, stored = self._seen, self._stored
        if not self._was_read or seen is None or seen == stored:
            return
        if not fired and stored is not None and seen.after - stored.after < _STORE_EVERY and seen.late == stored.late:
            return
        try:
            for store in asset_stores(self):
                await store.aset(self.state_key, seen.to_json())
        except Exception as error:  # as above
            self._stored = None  # again at the next look
            self._say_store_failed("written", error)
            return
        self._stored, self._store_failed = seen, False

    def _say_store_failed(self, done: str, error: Exception) -> None:
        if not self._store_failed:  # once, until it works again
            self._store_failed = True
            self.log.warning("What was seen cannot be %s, and is kept in memory: %s", done, type(error).__name__)


def _seconds(field: str, value: object, least: float) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= _LONGEST:
        example = "timedelta(minutes=1)" if field == "poll_interval" else "timedelta(days=1)"
        raise PostHogSettingsError(
            field,
            f"is not a length of time from {least:g} seconds to ten years.",
            f"Write seconds, or {example}.",
        )
    return float(value)
