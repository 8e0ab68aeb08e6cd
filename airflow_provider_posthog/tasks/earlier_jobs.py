"""Which of the jobs that earlier tries of a task started it continues with.

A job that has used up its time is not waited for again: some of PostHog's exports hang for ever, while a new one works.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import field, replace

from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.tasks.identity import Identity, Job, Marker


@dataclass
class Earlier:
    """What earlier tries have left.

    :param job: the job to continue with; ``None`` if there is none.
    :param superseded: jobs that still run although their time is up: another one is to be started in their place.
    :param ids: all jobs of theirs that were looked at.
    """

    job: Job | None = None
    superseded: list[Job] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)


def choose(
    jobs: Iterable[tuple[Job, Verdict]],
    identity: Identity,
    mine: Marker,
    timeout: float,
    named: Callable[[str], str],
    say: Callable[..., object],
) -> Earlier:
    """Choose the job that a try continues with: one that is running and has time left, or one that succeeded.

    :param jobs: the jobs, newest first; a job may come twice. Read only as far as need be.
    :param identity: the task's.
    :param mine: a marker that this try would write.
    :param timeout: seconds that a job may take.
    :param named: what to call a job, by its id.
    :param say: takes lines for the task's log.
    """
    earlier = Earlier()
    for job, verdict in jobs:
        marker = Marker.parse(job.marker)
        if marker is None or marker.owner != mine.owner or job.id in earlier.ids:
            continue
        earlier.ids.add(job.id)
        name = named(job.id)
        if marker.request != mine.request:  # the DAG was edited, or an argument changes from try to try
            say("Not going on with %s: it was asked for something else", name)
        elif verdict.state == "pending" and 0 < job.submitted_at <= time.time() - timeout:
            earlier.superseded.append(job)
        elif verdict.state == "pending":
            say("Taking up %s, which an earlier try started", name)
            return replace(earlier, job=job)
        elif verdict.state == "succeeded" and identity.shares_life(job):
            say("Taking up %s, which has succeeded", name)
            return replace(earlier, job=job)
        else:  # look further: a worker may have died after it started a later one, and before it was stored
            why = "was cleared since" if verdict.state == "succeeded" else verdict.reason
            say("Not going on with %s, which %s: %s", name, verdict.state, why)
    return earlier
