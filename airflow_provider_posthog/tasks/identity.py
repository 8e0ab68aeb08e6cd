"""A job and whose it is: the idempotency key by which a later try finds what an earlier one started."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from datetime import datetime
from typing import Any

from airflow_provider_posthog.compat import deployment, iteration_of, reschedules_of
from airflow_provider_posthog.dataclass import dataclass

#: Seconds by which PostHog's clock may be behind ours.
CLOCKS_DIFFER = 60.0


@dataclass(frozen=True)
class Marker:
    """A job's idempotency key: written into the job on PostHog, read back by later tries.

    :param owner: stands for deployment, dag, run, task and map index, and in a loop of Airflow 3.4 for the iteration.
    :param clearing: tells the tries before a user's "clear" from those after it.
    :param request: stands for what was asked for.
    :param submission: tells one submission from another of the same request, such as that of an earlier try.
    """

    owner: str
    clearing: int
    request: str
    submission: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.clearing}.{self.request}.{self.submission}"

    @classmethod
    def parse(cls, text: object) -> Marker | None:
        """Read a marker; ``None`` if it is none of ours.

        :param text: what stands in the job.
        """
        parts = text.split(".") if isinstance(text, str) else []
        if len(parts) != 4 or not parts[1].isdecimal():
            return None
        return cls(parts[0], int(parts[1]), parts[2], parts[3])


@dataclass(frozen=True)
class Identity:
    """Which task instance this is, and which of its tries.

    :param owner: as a marker's; random outside the task runner.
    :param clearing: how many tries there were before the user's last "clear".
    :param try_number: the try, from 1.
    :param since: when the run began, in seconds since 1970; 0 if that is not known.
    :param reschedules: how often the task was rescheduled, which does not change the try number.
    """

    owner: str
    clearing: int
    try_number: int
    since: float = 0.0
    reschedules: int = 0

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> Identity:
        """Read it from a task's context.

        :param context: the context; an empty one (a unit test's ``execute({})``) gives a random identity.
        """
        ti = context.get("ti")
        if ti is None:
            return cls(uuid.uuid4().hex[:20], 0, 1)
        names = [ti.dag_id, ti.run_id, ti.task_id, getattr(ti, "map_index", -1), *iteration_of(context)]
        # Two Airflows with the same DAGs would take up each other's jobs, and cancel them.
        names.append({"deployment": deployment()})
        retries = getattr(getattr(ti, "task", None), "retries", None) or 0
        # Airflow sets max_tries to try_number + retries when a user clears a task, and leaves it alone on a retry.
        clearing = max(0, (getattr(ti, "max_tries", None) or 0) - retries)
        began = getattr(context.get("dag_run"), "start_date", None)
        since = began.timestamp() if isinstance(began, datetime) else 0.0
        try_number = getattr(ti, "try_number", None) or 1
        return cls(_digest(names, 20), clearing, try_number, since, reschedules_of(context))

    @property
    def is_first(self) -> bool:
        """Whether nothing of this task instance can have run before."""
        return self.try_number == 1 and not self.reschedules

    def marker(self, request: Mapping[str, Any]) -> Marker:
        """Make the marker of a job that this try submits.

        :param request: what is asked for, as JSON.
        """
        return Marker(self.owner, self.clearing, _digest(request, 12), uuid.uuid4().hex[:8])

    @property
    def execution(self) -> str:
        """What tells one run of the task from another: the try, and how often it was rescheduled."""
        return f"{self.try_number}.{self.reschedules}" if self.reschedules else str(self.try_number)

    def name_of(self, request: Mapping[str, Any], try_number: int, reschedules: int = 0) -> str:
        """Return the name under which a try submits a request, for what takes names of ours.

        A later try can make it again, so that it finds what the earlier one started without having kept anything.

        :param request: what is asked for, as JSON.
        :param try_number: the try, from 1.
        :param reschedules: how often it was rescheduled by then.
        """
        run = [try_number, reschedules] if reschedules else [try_number]
        return f"airflow-{_digest([self.owner, _digest(request, 12), *run], 32)}"

    def own_name(self, request: Mapping[str, Any]) -> str:
        """Return the name under which this try submits a request.

        :param request: what is asked for, as JSON.
        """
        return self.name_of(request, self.try_number, self.reschedules)

    def earlier(self, request: Mapping[str, Any]) -> Iterator[tuple[str, Marker]]:
        """Yield the names that earlier tries submitted a request under, newest first, each with its marker.

        All of them: a try that took up what one before it had started has given nothing its own name.

        :param request: what is asked for, as JSON.
        """
        for number in range(self.try_number, 0, -1):
            # A try before the user's last "clear" belongs to a life that is over.
            clearing = self.clearing if number > self.clearing else self.clearing - 1
            # How often an earlier try was rescheduled nobody tells: perhaps as often as this one.
            for reschedules in range(self.reschedules - (number == self.try_number), -1, -1):
                name = self.name_of(request, number, reschedules)
                yield name, Marker(self.owner, clearing, _digest(request, 12), f"{number}-{reschedules}")

    def shares_life(self, job: Job) -> bool:
        """Tell whether a job comes from a try of this run since the last "clear".

        A run that was deleted and made again has the old one's names and counts from the start.

        :param job: a job with this task's marker.
        """
        marker = Marker.parse(job.marker)
        same = marker is not None and (marker.owner, marker.clearing) == (self.owner, self.clearing)
        return same and job.submitted_at >= self.since - CLOCKS_DIFFER


@dataclass(frozen=True)
class Job:
    """A job on PostHog.

    :param id: its id.
    :param marker: its marker, as text.
    :param submitted_at: when it was submitted, in seconds since 1970.
    :param facts: what PostHog said of it last; not kept.
    :param answered: whether PostHog has answered the request for it; a worker that was killed cannot tell.
    """

    id: str
    marker: str
    submitted_at: float
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    answered: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return what is kept of it."""
        stored = asdict(self)
        del stored["facts"]
        if self.answered:
            del stored["answered"]
        return stored

    @classmethod
    def from_json(cls, stored: object) -> Job | None:
        """Read what was kept; ``None`` if it is not a job.

        :param stored: the stored value.
        """
        if not isinstance(stored, Mapping) or not stored.get("id"):
            return None
        at, answered = float(stored.get("submitted_at", 0.0)), stored.get("answered") is not False
        return cls(str(stored["id"]), str(stored.get("marker", "")), at, answered=answered)


def _digest(value: object, length: int) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
