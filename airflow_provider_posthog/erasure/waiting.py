"""Waiting for the next look at an erasure.

The look itself is made in a worker: it needs the distinct ids, which are in object storage and nowhere else, and may
take minutes for many persons. So the triggerer only waits, and gets neither personal data nor the storage's keys.
"""

from __future__ import annotations

import time

from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Pause, Steps


def due(*, at: float, deadline: float, limit: str, bad_looks: int) -> Steps[Finding]:
    """Wait until it is time for the next look.

    :param at: when that is, in seconds since 1970; absolute, so that a triggerer that restarts does not begin anew.
    :param deadline: when the sensor gives up; handed back.
    :param limit: which of its limits that is; handed back.
    :param bad_looks: how many looks in a row went wrong; handed back.
    """
    left = at - time.time()
    if left > 0:
        yield Pause(left)
    return Finding(Verdict("succeeded"), {"deadline": deadline, "limit": limit, "bad_looks": bad_looks})
