"""Starts DAGs when PostHog has completed something (Airflow 3 and newer; not importable before).

Kept out of every other module: the base class does not exist on Airflow 2.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import TriggerEvent

from airflow_provider_posthog.api.arguments import is_uuid
from airflow_provider_posthog.api.jobs import WATCHED
from airflow_provider_posthog.api.poller import Waiter
from airflow_provider_posthog.api.polls import Seen
from airflow_provider_posthog.api.watched import Watched, utc
from airflow_provider_posthog.compat import BaseEventTrigger, asset_stores
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from airflow_provider_posthog.triggers.poller import joined

if TYPE_CHECKING:
    from airflow_provider_posthog.api.async_clients import AsyncClient

#: What the stored state begins with; an asset may have several watchers. Never renamed.
STATE = "posthog_completed_seen"
#: Seconds by which a look goes back behind the newest that was seen: rows are not written in the order of their times.
OVERLAP = 600
#: Seconds by which PostHog's clock may be behind ours, before anything that it completed tells its time.
_CLOCKS_APART = 3_600
_FAR = 10 * 366 * 86_400.0
_VERSION = 1


class PostHogCompletedTrigger(BaseEventTrigger):
    """Fires when PostHog has completed new jobs. Subclasses say which.

    All watchers, and all deferred tasks that wait for such jobs on the connection, share one query per poll. The
    watermark is kept in the assets' state stores (Airflow 3.3), so that a restarted triggerer neither misses what was
    completed meanwhile nor, as a rule, fires again; before 3.3 it starts from now.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    :param poll_interval: between two polls. Seconds, or a timedelta.
    :param newer: arguments of a newer version of the provider, which are ignored.
    :raises PostHogSettingsError: if an argument is wrong.
    """

    #: What is watched (:class:`~airflow_provider_posthog.api.watched.Watched`), and the argument that says of what.
    what: str
    argument: str

    def __init__(
        self,
        *,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        poll_interval: float | timedelta = 60.0,
        **newer: object,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        seconds = poll_interval.total_seconds() if isinstance(poll_interval, timedelta) else poll_interval
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0.01 <= seconds <= 86_400 * 7:
            raise PostHogSettingsError(
                "poll_interval", "is not a length of time up to a week.", "Write seconds, as 60."
            )
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id
        self.poll_interval = float(seconds)
        #: When what was seen last was completed, in seconds since 1970, and what was completed since a while before.
        self._since = int(time.time() - _CLOCKS_APART)
        self._seen: set[str] = set()
        self._recalled = False
        self._first = True
        self._complained = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                self.argument: getattr(self, self.argument),
                "posthog_conn_id": self.posthog_conn_id,
                "project_id": self.project_id,
                "poll_interval": self.poll_interval,
            },
        )

    @abstractmethod
    def payload(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an event says of a job.

        :param row: the job.
        """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for ever; fire for each job that was completed."""
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        wait = 0.0
        while True:
            try:
                async with await PostHogHook(self.posthog_conn_id, self.project_id).async_client() as client:
                    while True:
                        await self._recall()
                        seen = await self._look(client, wait)
                        wait, was_first = self.poll_interval, self._first
                        news = self._news(seen)
                        if was_first and not self._first:
                            await self._remember()
                        for row in news:
                            yield TriggerEvent({"version": _VERSION, **self.payload(row)})  # type: ignore[no-untyped-call]
                            self._note(row)
                            # After the event: a crash between the two fires it again, never not at all.
                            await self._remember()
            except PostHogError as error:  # the connection itself; the next poll reads it again
                self._complain("PostHog cannot be asked", error)
                wait = self.poll_interval
                await asyncio.sleep(wait)

    async def _look(self, client: AsyncClient, wait: float) -> Seen:
        text = str(Watched(self.what, (getattr(self, self.argument),), max(0, self._since - OVERLAP)))
        waiter = Waiter(text, self.poll_interval)
        connection = (self.posthog_conn_id, self.project_id)
        async with joined(WATCHED, waiter, connection, client) as poller:
            return await poller.ask(waiter, wait, _FAR)

    def _news(self, seen: Seen) -> Sequence[Mapping[str, Any]]:
        if isinstance(seen.verdict, PostHogError):
            self._complain("The look failed, the next poll tries again", seen.verdict)
            return []
        self._complained = False
        rows = list(seen.facts.get("rows", ()))
        known, self._seen = self._seen, {_key(row) for row in rows if _key(row) in self._seen}
        if self._first:  # what was there before is no news
            self._first = False
            self._since = max(self._since, *(int(row["finished"] or 0) for row in rows), 0)
            self._seen = {_key(row) for row in rows if int(row["finished"] or 0) >= self._since - OVERLAP}
            return []
        return [row for row in rows if _key(row) not in known]

    def _note(self, row: Mapping[str, Any]) -> None:
        self._seen.add(_key(row))
        self._since = max(self._since, int(row["finished"] or 0))

    def _complain(self, what: str, error: PostHogError) -> None:
        if not self._complained:  # once, until it works again
            self._complained = True
            self.log.warning("%s: %s", what, error)

    @property
    def state_key(self) -> str:
        """The key of this watcher's state in an asset's store."""
        project = None if self.project_id is None else str(self.project_id)
        which = json.dumps([self.posthog_conn_id, project, self.what, getattr(self, self.argument)])
        return f"{STATE}_{hashlib.sha256(which.encode()).hexdigest()[:16]}"

    async def _recall(self) -> None:
        """Read what was seen before, once; while a store does not answer, again at each look."""
        if self._recalled:
            return
        try:
            stored = [await store.aget(self.state_key) for store in asset_stores(self)]
        except Exception as error:  # Airflow's API server may be starting again
            self.log.warning("What was seen cannot be read: %s", type(error).__name__)
            return
        self._recalled = True
        known = [
            watcher for watcher in stored if isinstance(watcher, Mapping) and isinstance(watcher.get("since"), int)
        ]
        if known:
            first = min(known, key=lambda watcher: int(watcher["since"]))
            self._since, self._seen = int(first["since"]), {str(job_id) for job_id in first.get("seen") or ()}
            self._first = False

    async def _remember(self) -> None:
        if not self._recalled:
            return
        stored = {"since": self._since, "seen": sorted(self._seen)[-1000:]}
        try:
            for store in asset_stores(self):
                await store.aset(self.state_key, stored)
        except Exception as error:  # as above
            self.log.warning("What was seen cannot be kept: %s", type(error).__name__)


def _key(row: Mapping[str, Any]) -> str:
    return str(row["id"] or row["finished"])  # a view's history of older servers has no ids


def _checked(argument: str, value: object) -> str:
    if not isinstance(value, str) or not is_uuid(value):
        raise PostHogSettingsError(argument, "is not a UUID.", "Write the UUID that PostHog shows.")
    return value


def _when(seconds: object) -> str | None:
    return utc(float(seconds)).isoformat() if isinstance(seconds, (int, float)) else None


class PostHogBatchExportRunTrigger(PostHogCompletedTrigger):
    """Fires when a run of a batch export was completed, for ``AssetWatcher``.

    ::

        trigger = PostHogBatchExportRunTrigger(batch_export="01970f1e-5c7a-0000-9d3b-6f1e2a3b4c5d")
        lake = Asset("lake_events", watchers=[AssetWatcher(name="run", trigger=trigger)])

    The event's payload: ``version`` (int), ``run_id``, ``batch_export_id``, ``backfill_id`` (text, or null for a run of
    the schedule), ``start`` and ``end`` of its interval (ISO text), ``rows`` and ``bytes`` (int or null),
    ``finished_at`` (ISO text).

    :param batch_export: the batch export's UUID.
    :param options: as :class:`PostHogCompletedTrigger`.
    """

    what = "runs"
    argument = "batch_export"

    def __init__(self, *, batch_export: str, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.batch_export = _checked("batch_export", batch_export)

    def payload(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an event says of a run.

        :param row: the run.
        """
        parts = str(row["of"]).split("/")
        start, end = (int(part) if part.isdecimal() else None for part in (*parts, "", "", "")[1:3])
        return {
            "run_id": row["id"],
            "batch_export_id": self.batch_export,
            "backfill_id": row["backfill"],
            "start": _when(start),
            "end": _when(end),
            "rows": row["rows"],
            "bytes": row["bytes"],
            "finished_at": _when(row["finished"]),
        }


class PostHogSourceSyncTrigger(PostHogCompletedTrigger):
    """Fires when a sync of a warehouse source was completed, for ``AssetWatcher``.

    The event's payload: ``version`` (int), ``sync_id``, ``source_id``, ``schema_id``, ``rows`` (int or null),
    ``finished_at`` (ISO text).

    .. code-block:: python

        trigger = PostHogSourceSyncTrigger(source="01970f1e-5c7a-0000-9d3b-6f1e2a3b4c5d")
        orders = Asset("orders", watchers=[AssetWatcher(name="sync", trigger=trigger)])

    :param source: the source's UUID.
    :param options: as :class:`PostHogCompletedTrigger`.
    """

    what = "syncs"
    argument = "source"

    def __init__(self, *, source: str, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.source = _checked("source", source)

    def payload(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an event says of a sync.

        :param row: the sync.
        """
        facts = {"sync_id": row["id"], "source_id": self.source, "schema_id": row["of"], "rows": row["rows"]}
        return {**facts, "finished_at": _when(row["finished"])}


class PostHogViewRunTrigger(PostHogCompletedTrigger):
    """Fires when a view of the warehouse was materialized, for ``AssetWatcher``.

    The event's payload: ``version`` (int), ``run_id`` (text; null on servers that do not tell), ``view_id``, ``rows``
    (int; null there too), ``finished_at`` (ISO text; there when it began).

    .. code-block:: python

        trigger = PostHogViewRunTrigger(view="01970f1e-5c7a-0000-9d3b-6f1e2a3b4c5d")
        totals = Asset("totals", watchers=[AssetWatcher(name="run", trigger=trigger)])

    :param view: the view's UUID.
    :param options: as :class:`PostHogCompletedTrigger`.
    """

    what = "views"
    argument = "view"

    def __init__(self, *, view: str, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.view = _checked("view", view)

    def payload(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an event says of a run.

        :param row: the run.
        """
        facts = {"run_id": row["id"] or None, "view_id": self.view, "rows": row["rows"]}
        return {**facts, "finished_at": _when(row["finished"])}
