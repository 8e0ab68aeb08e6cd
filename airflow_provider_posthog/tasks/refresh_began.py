"""When the first try of a refresh began: what was calculated since then need not be calculated again.

Airflow keeps that from 3.3 on. Before, PostHog does for twenty minutes: where there are more than a few
insights, one of them is calculated in the background, under a name that a later try can make again, and
PostHog remembers when it started that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow_provider_posthog.api import queries, refresh
from airflow_provider_posthog.api.freshness import CLOCKS_APART, Outcome, Target, fault
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.server_time import ROUNDING, moment
from airflow_provider_posthog.api.steps import Steps, Stopped
from airflow_provider_posthog.compat import StateStore, state_store
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.tasks.identity import Identity

#: Where it is kept between tries (Airflow 3.3); never renamed.
STORE_KEY = "posthog_refresh"
#: So many insights are calculated once more without much ado.
_FEW = 12


@dataclass(frozen=True)
class Began:
    """What a try knows of the ones before.

    :param since: when the first of them began, by the server's clock; ``None`` if this is the first, or nobody knows.
    :param before: numbers that are not newer than this were there already (ISO text, by the clock that writes
        ``last_refresh``). ``since`` alone has slack for clocks that differ, and would take those of the moment before.
    :param anchor: the insight that is calculated in the background, so that a later try knows; ``None`` for none.
    """

    since: datetime | None = None
    before: str | None = None
    anchor: int | None = None

    def known(self, target: Target) -> Steps[Outcome | None]:
        """Return an insight that an earlier try has had calculated, proved anew; ``None`` if it has not.

        :param target: the insight.
        """
        if self.since is None:
            return None
        answer: Insight | None = target.saved
        if answer is None or target.filters_override or target.variables_override:
            try:
                answer = yield target.read()  # what was read of a dashboard is another result
            except Stopped:
                raise
            except PostHogError:
                return None  # the calculation will say so
        target = replace(target, since=self.since, before=self.before)
        if answer is None:
            return None
        return Outcome("fresh", insight=answer) if fault(answer, target, calculated_now=False) is None else None


def began(
    context: Mapping[str, Any], identity: Identity, targets: Sequence[Target], max_in_flight: int, timeout: float
) -> Steps[Began]:
    """Find out when the first try began, and see to it that a later one can.

    :param identity: the task's.
    :param targets: the insights.
    :param max_in_flight: how many are calculated at once.
    :param timeout: how many seconds a try may take; what is older than that is calculated again in any case.
    """
    oldest = max((target.since for target in targets if target.since), default=None)
    oldest = oldest and oldest - timedelta(seconds=timeout)
    store = state_store(context)
    if store is not None:
        since, before = _stored(store, identity, targets)
        return Began(_later(since, oldest), before)
    if len(targets) <= max(max_in_flight, _FEW) or "ti" not in context:
        return Began()
    anchor = min(targets, key=lambda target: target.insight_id)
    if (yield from refresh.why_not_watch(anchor.query_id)) is not None:
        return Began()
    started = yield from _remembered(anchor)
    return Began(_later(started, oldest), started.isoformat() if started else None, anchor.insight_id)


def _later(since: datetime | None, oldest: datetime | None) -> datetime | None:
    return None if since is None or oldest is None else max(since, oldest)


def _stored(store: StateStore, identity: Identity, targets: Sequence[Target]) -> tuple[datetime | None, str | None]:
    """Return what the first try has kept, or keep it if this is the first."""
    life = [identity.owner, identity.clearing]  # iterations may share a store
    stored = store.get(STORE_KEY)
    if not identity.is_first and isinstance(stored, Mapping) and stored.get("life") == life:
        return moment(stored.get("since")), stored.get("before")
    times = [target.since for target in targets if target.since is not None]
    if times and len(times) == len(targets):
        since = max(times)
        store.set(STORE_KEY, {"life": life, "since": since.isoformat(), "before": _newest(targets, since)})
    return None, None


def _newest(targets: Sequence[Target], since: datetime) -> str | None:
    """Return when the newest of the numbers was calculated that are there before anything is; ``None`` for none."""
    times = [at for at in (moment(target.before) for target in targets) if at is not None]
    if any(target.before is None and (target.filters_override or target.variables_override) for target in targets):
        times.append(since + ROUNDING + CLOCKS_APART)  # what a dashboard shows are not the numbers with overrides
    return max(times).isoformat() if times else None


def _remembered(anchor: Target) -> Steps[datetime | None]:
    times: list[float] = []
    for earlier in anchor.earlier:
        if not earlier.same_life:
            continue
        try:
            status: queries.QueryStatus = yield queries.status(earlier.query_id)
        except Stopped:
            raise
        except PostHogError:  # it is forgotten, or cannot be asked for
            continue
        times.append(queries.started_at(status))
    counting = [at for at in times if at >= max(anchor.life_since, 1.0)]
    return datetime.fromtimestamp(min(counting), timezone.utc) if counting else None


def forget(context: Mapping[str, Any]) -> None:
    """Drop what was kept, now that the task has succeeded."""
    store = state_store(context)
    if store is not None and store.get(STORE_KEY) is not None:
        store.delete(STORE_KEY)
