"""The target of an insight refresh, its outcome, and the proof that the numbers are new.

PostHog misleads in several ways here: a plain GET never calculates, an unknown word in ``refresh`` means "from the
cache", a failed calculation is answered with 200 (one refused for lack of capacity even with a ``last_refresh`` of
now), and reading the insight does not show a failure. :func:`fault` proves that none of these happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_provider_posthog.api import insights, queries
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import failure_in
from airflow_provider_posthog.dataclass import dataclass

State = Literal["fresh", "calculated", "failed", "timeout", "unreachable", "refused", "cut"]
STATES: frozenset[str] = frozenset({"fresh", "calculated", "failed", "timeout", "unreachable", "refused", "cut"})

#: Seconds by which the clocks of PostHog's own machines may differ: one writes ``Date``, another ``last_refresh``.
CLOCKS_APART = timedelta(seconds=2)


@dataclass(frozen=True)
class Earlier:
    """A calculation that an earlier try may have started.

    :param query_id: its name.
    :param same_life: whether its success counts: no user has cleared the task since.
    """

    query_id: str
    same_life: bool


@dataclass(frozen=True)
class Target:
    """An insight to calculate afresh.

    :param insight_id: its number.
    :param query_id: the name by which the calculation is polled and cancelled.
    :param title: what to call it in messages.
    :param dashboard_id: with this dashboard's filters: a result of its own.
    :param since: the server's time before the request; ``None`` if the server does not send it.
    :param before: the ``last_refresh`` before the request.
    :param filters_override: filters in place of its own.
    :param variables_override: variables in place of its own.
    :param earlier: what earlier tries may have started, newest first.
    :param life_since: when the task's run began, in seconds since 1970; an older success does not count.
    :param superseded_before: a calculation that still runs and was started before this time (seconds since 1970) has
        used up its time: it is cancelled, and another is started.
    :param may_start: start it; otherwise it has been started, and is only watched.
    :param saved: the insight as it was read before, with its query; ``None`` if it was not.
    """

    insight_id: int
    query_id: str
    title: str = ""
    dashboard_id: int | None = None
    since: datetime | None = None
    before: str | None = None
    filters_override: Mapping[str, Any] | None = field(default=None, repr=False)
    variables_override: Mapping[str, Any] | None = field(default=None, repr=False)
    earlier: tuple[Earlier, ...] = ()
    life_since: float = 0.0
    superseded_before: float = 0.0
    may_start: bool = True
    saved: Insight | None = field(default=None, repr=False, compare=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the calculations that may run now: this try's, and those of earlier tries to take up."""
        return (self.query_id, *(earlier.query_id for earlier in self.earlier))

    def read(self, refresh: queries.Refresh | None = None) -> Call[Insight]:
        """Make the call that reads it.

        :param refresh: how to calculate; by default not at all.
        """
        call = insights.retrieve(
            self.insight_id,
            refresh=refresh,
            from_dashboard=self.dashboard_id,
            filters_override=self.filters_override,
            variables_override=self.variables_override,
            client_query_id=self.query_id if refresh else None,
        )
        # A second calculation would run beside the first, whose answer was lost.
        return replace(call, repeatable=refresh is None)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a refresh.

    :param state: ``fresh`` (proved); ``calculated`` (PostHog says so: read it back); ``failed``; ``timeout``;
        ``unreachable``; ``refused`` (the key is not allowed to); ``cut`` (the connection broke while PostHog
        calculated).
    :param reason: why, fit for a log.
    :param insight: the insight with its result, if it is fresh.
    :param seconds: how long it took; 0 if it was never begun.
    :param started: when PostHog started to calculate, in seconds since 1970 by its clock; 0 if not known.
    """

    state: State
    reason: str = ""
    insight: Insight | None = field(default=None, repr=False)
    seconds: float = 0.0
    started: float = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether PostHog may still be calculating it."""
        return self.state in ("timeout", "unreachable", "cut") and self.seconds > 0


def fault(insight: Insight, target: Target, *, calculated_now: bool) -> str | None:
    """Return why an answer does not prove that the insight is fresh; ``None`` if it does.

    :param insight: the answer.
    :param target: what was asked for.
    :param calculated_now: whether this very answer was to calculate it, and not only to read it back.
    """
    failure = failure_in(insight)
    if failure is not None:
        return failure
    if insight.get("result") is None:
        return "PostHog gave no result"
    if calculated_now and insight.get("is_cached") is not False:
        return "PostHog answered from its cache"
    refreshed = moment(insight.get("last_refresh"))
    if refreshed is None:
        return "PostHog does not say when it was calculated (last_refresh)"
    if _is_before(refreshed, target):
        return (
            f"its numbers are from {refreshed:%Y-%m-%d %H:%M:%S} UTC, before this refresh was asked for at "
            f"{target.since:%Y-%m-%d %H:%M:%S} UTC, by the Date of PostHog's answers. If these are new, the clocks of "
            "PostHog and of the gateway before it differ"
        )
    before = moment(target.before)
    if before is not None and refreshed <= before:
        return f"its numbers are still those from {before:%Y-%m-%d %H:%M:%S} UTC"
    return None


def is_too_old(insight: Insight, target: Target) -> bool:
    """Return whether an answer looks like a new calculation except that its time is before the request.

    :param insight: the answer to a request that was to calculate it.
    :param target: what was asked for.
    """
    if failure_in(insight) is not None or insight.get("result") is None or insight.get("is_cached") is not False:
        return False
    refreshed = moment(insight.get("last_refresh"))
    return refreshed is not None and _is_before(refreshed, target)


def _is_before(refreshed: datetime, target: Target) -> bool:
    return target.since is not None and refreshed < target.since - CLOCKS_APART
