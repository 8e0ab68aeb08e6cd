"""Whether PostHog has calculated a cohort."""

from __future__ import annotations

from typing import Any

from airflow_provider_posthog.api import cohorts
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Steps


def calculated(*, cohort_id: int, newer_than: str | None = None) -> Steps[Finding]:
    """Check whether a cohort was calculated after a given time.

    :param cohort_id: its number.
    :param newer_than: the time, as ISO text in UTC; ``None`` for any.
    """
    cohort: Any = yield cohorts.retrieve(cohort_id)
    at = moment(cohort.get("last_calculation"))
    facts = {
        "cohort_id": cohort_id,
        "count": cohort.get("count"),
        "last_calculation": None if at is None else at.isoformat(),
        "is_calculating": bool(cohort.get("is_calculating")),
    }
    errors = cohort.get("errors_calculating") or 0
    if cohort.get("deleted"):
        return Finding(Verdict("failed", "it was deleted", final=True), facts)
    if facts["is_calculating"]:
        return Finding(Verdict("pending", "PostHog is calculating it"), facts)
    if errors:
        return Finding(Verdict("failed", f"its last {errors} calculations failed", final=False), facts)
    since = moment(newer_than) if newer_than else None
    if at is None or facts["count"] is None or (since is not None and at < since):
        return Finding(Verdict("pending", f"it was last calculated {facts['last_calculation'] or 'never'}"), facts)
    return Finding(Verdict("succeeded", f"it has {facts['count']} persons"), facts)
