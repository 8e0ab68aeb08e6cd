"""The trigger of deferred refreshes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import refresh
from airflow_provider_posthog.api.freshness import STATES, Earlier, Outcome, Target
from airflow_provider_posthog.api.jobs import CANCEL_SECONDS
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import run_all_async
from airflow_provider_posthog.triggers.watching import (
    PostHogWatchingTrigger,
    Waiting,
    WatchEvent,
    read_event,
    untrusted,
)

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.async_clients import AsyncClient
    from airflow_provider_posthog.exceptions import PostHogError

KIND = "refresh"
_CANCELS_AT_ONCE = 10
#: Characters of JSON that a trigger can hold: Airflow encrypts them, which makes them a third longer, and MySQL's
#: column takes 65,535.
MOST_CHARACTERS = 45_000
_NAMES = ("insight_id", "query_id", "dashboard_id", "earlier")


class PostHogRefreshTrigger(PostHogWatchingTrigger):
    """Has PostHog calculate insights, a few at once, and fires one event when all have ended.

    A triggerer that was killed costs nothing: each calculation has a name, by which it is taken up again.

    :param items: the insights, as :func:`item_of` writes them; numbers and names only.
    :param in_flight: how many to calculate at once.
    :param facts: what the task wants to read in the event: JSON, small.
    :param cancel_on_kill: cancel the calculations when a user ends the deferred task (Airflow 3.3).
    :param waiting: how to wait, as for
        :class:`~airflow_provider_posthog.triggers.watching.PostHogWatchingTrigger`.
    """

    def __init__(
        self,
        *,
        items: Sequence[Mapping[str, Any]] = (),
        in_flight: int = 1,
        facts: Mapping[str, Any] | None = None,
        cancel_on_kill: bool = False,
        **waiting: Unpack[Waiting],
    ) -> None:
        super().__init__(**waiting)
        self.items = [dict(item) for item in items]
        self.in_flight = in_flight
        self.facts = dict(facts or {})
        self.cancel_on_kill = cancel_on_kill
        self._outcomes: list[Outcome] = []

    def subject(self) -> dict[str, Any]:
        """Return the arguments that say what is calculated."""
        return {
            "items": self.items,
            "in_flight": self.in_flight,
            "facts": self.facts,
            "cancel_on_kill": self.cancel_on_kill,
        }

    def title(self) -> str:
        """Name it for the log."""
        return f"refresh of {len(self.items)} insight{'' if len(self.items) == 1 else 's'}"

    async def look(self, client: AsyncClient) -> Verdict | PostHogError:
        """Have all of them calculated; this one look lasts until the last has ended, or the deadline."""
        tasks = [
            refresh.in_background(target_of(item), self.deadline, self.poll_interval, self.max_poll_failures)
            for item in self.items
        ]
        unanswered = Outcome("timeout", "PostHog did not answer in time", seconds=self.poll_interval)
        self._outcomes = [unanswered] * len(tasks)
        self._outcomes = await run_all_async(
            tasks, client, max_workers=self.in_flight, deadline=self.deadline, on_timeout=unanswered
        )
        return Verdict("succeeded")

    def payload(self) -> dict[str, Any]:
        """Return what came of each."""
        outcomes = [
            {
                **{name: item[name] for name in _NAMES if name in item},
                "state": outcome.state,
                "reason": outcome.reason,
                "seconds": outcome.seconds,
                "started": outcome.started,
            }
            for item, outcome in zip(self.items, self._outcomes, strict=True)
        ]
        return {"kind": KIND, "items": outcomes, "facts": self.facts}

    async def on_kill(self) -> None:
        """Cancel the calculations when a user ends the deferred task."""
        if not self.cancel_on_kill:
            return
        async with await self.client() as client:
            # Side by side: Airflow gives half a minute for all of it.
            names = [name for item in self.items for name in target_of(item).names]
            tasks = [refresh.cancel(name) for name in names]
            end = time.time() + CANCEL_SECONDS
            await run_all_async(tasks, client, max_workers=_CANCELS_AT_ONCE, deadline=end, on_timeout=False)
        self.log.info("Cancelled the %s on PostHog", self.title())


def item_of(target: Target, *, may_start: bool) -> dict[str, Any]:
    """Write a target as JSON, without what may be personal, and short: a trigger's row on MySQL has 64 KB.

    :param target: the insight.
    :param may_start: whether the trigger is to start it; otherwise the task has.
    """
    item = {
        "insight_id": target.insight_id,
        "query_id": target.query_id,
        "dashboard_id": target.dashboard_id,
        "earlier": [[earlier.query_id, earlier.same_life] for earlier in target.earlier],
        "life_since": int(target.life_since),
        "superseded_before": int(target.superseded_before),
    }
    return {name: value for name, value in item.items() if value} | ({} if may_start else {"may_start": False})


def fit(targets: Sequence[Target]) -> bool:
    """Tell whether a trigger can hold so many insights; one can of some 300.

    :param targets: the insights.
    """
    return sum(len(json.dumps(item_of(target, may_start=False))) for target in targets) < MOST_CHARACTERS


def target_of(item: Mapping[str, Any]) -> Target:
    """Read what :func:`item_of` wrote, or what the event says of it.

    :param item: the item.
    """
    return Target(
        insight_id=int(item["insight_id"]),
        query_id=str(item["query_id"]),
        dashboard_id=None if item.get("dashboard_id") is None else int(item["dashboard_id"]),
        earlier=tuple(Earlier(str(name), bool(same_life)) for name, same_life in item.get("earlier", ())),
        life_since=float(item.get("life_since", 0.0)),
        superseded_before=float(item.get("superseded_before", 0.0)),
        may_start=bool(item.get("may_start", True)),
    )


@dataclass(frozen=True)
class RefreshEvent(WatchEvent):
    """The event of a refresh; its ``facts`` are those that the task gave the trigger.

    :param outcomes: each insight with what came of it.
    """

    outcomes: Sequence[tuple[Target, Outcome]] = ()

    @classmethod
    def parse(cls, event: object) -> RefreshEvent:
        """Read an event; what is not surely ours and known is an error, never a success.

        :param event: the event's payload.
        :raises PostHogJobError: if the event cannot be trusted.
        """
        payload, base = read_event(event, {"kind": KIND})
        items, facts = payload.get("items"), payload.get("facts")
        try:
            if not isinstance(items, list) or not isinstance(facts, Mapping):
                raise TypeError
            outcomes = [(target_of(item), _outcome_of(item)) for item in items]
        except (KeyError, TypeError, ValueError):
            raise untrusted(payload, KIND) from None
        if base.ended.outcome == "succeeded" and not outcomes:
            raise untrusted(payload, KIND)
        return cls(base.ended, base.limit, base.try_number, facts, outcomes)


def _outcome_of(item: Mapping[str, Any]) -> Outcome:
    state = item["state"]
    if state not in STATES or state == "fresh":  # only the task itself can prove that
        raise ValueError(state)
    return Outcome(state, str(item.get("reason") or ""), seconds=float(item["seconds"]), started=float(item["started"]))
