"""What there was before a task began anything: no job of an earlier try is among it.

Jobs that PostHog runs for a whole project carry no name of ours. A retry tells an earlier try's from others of the same
subject, such as yesterday's, by what that try has seen just before it asked for one. Airflow keeps that from 3.3 on.
Before, nothing tells when the first try began, but the run of the DAG has a beginning.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_posthog.api.server_time import ROUNDING
from airflow_provider_posthog.compat import StateStore
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.tasks.identity import CLOCKS_DIFFER, Identity

#: Where it is kept between tries (Airflow 3.3); never renamed.
STORE_KEY = "posthog_known_before"


@dataclass(frozen=True)
class KnownBefore:
    """What there was.

    :param until: whatever was created earlier, in seconds since 1970 by PostHog's clock.
    :param ids: of what was created then or later, all that was there. So no two clocks of PostHog's have to agree.
    """

    until: float
    ids: frozenset[str] = frozenset()

    @classmethod
    def seen(cls, at: float, there: Iterable[tuple[str, float]]) -> KnownBefore:
        """Make it from a look.

        :param at: the server's time of the look, in seconds since 1970.
        :param there: the ids that it saw, each with when that was created; only the newest matter.
        """
        until = at - CLOCKS_DIFFER
        return cls(until, frozenset(job_id for job_id, created in there if created >= until))

    @classmethod
    def of_run(cls, identity: Identity, at: float) -> KnownBefore:
        """Make it from when the run of the DAG began, where nothing is kept; a user's "clear" hides that.

        :param identity: the task's.
        :param at: the server's time now, by which a clock of PostHog's that is behind ours is told.
        """
        if identity.clearing or identity.since <= 0:
            return EVERYTHING
        # A time of the server is rounded down: only what is more than that is known to be its clock's.
        return cls(identity.since + min(0.0, at + ROUNDING.total_seconds() - time.time()))

    @classmethod
    def stored(cls, store: StateStore, identity: Identity) -> KnownBefore:
        """Read what an earlier try has kept. It keeps that before it asks for a job: without it, there is none.

        :param store: the task's store.
        :param identity: the task's.
        """
        kept = store.get(STORE_KEY)
        if not isinstance(kept, Mapping) or kept.get("life") != _life(identity):
            return EVERYTHING
        return cls(float(kept.get("until", math.inf)), frozenset(map(str, kept.get("ids") or ())))

    def keep(self, store: StateStore, identity: Identity) -> None:
        """Keep it for later tries.

        :param store: the task's store.
        :param identity: the task's.
        """
        store.set(STORE_KEY, {"life": _life(identity), "until": self.until, "ids": sorted(self.ids)})

    def has(self, job_id: str, created: float) -> bool:
        """Tell whether a job was there.

        :param job_id: its id.
        :param created: when it was created, in seconds since 1970 by PostHog's clock.
        """
        return created < self.until or job_id in self.ids


EVERYTHING = KnownBefore(math.inf)


def forget(store: StateStore) -> None:
    """Drop what was kept, as PostHog has surely begun nothing.

    :param store: the task's store.
    """
    if store.get(STORE_KEY) is not None:
        store.delete(STORE_KEY)


def _life(identity: Identity) -> list[Any]:
    return [identity.owner, identity.clearing]  # iterations may share a store
