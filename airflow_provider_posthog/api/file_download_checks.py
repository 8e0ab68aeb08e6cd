"""The check whether PostHog would start another file download."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from airflow_provider_posthog.api import file_downloads, states
from airflow_provider_posthog.api.call import STATUS_BYTES
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Steps


def slot_free(*, refused_at: int) -> Steps[Finding]:
    """Check whether fewer file downloads run than when PostHog refused one more.

    :param refused_at: how many ran then.
    """
    page: Any = yield replace(file_downloads.list(), max_bytes=STATUS_BYTES)
    running = sum(states.is_live(download) for download in page.get("results", ()))
    if running < refused_at:
        return Finding(Verdict("succeeded"), {"running": running})
    return Finding(Verdict("pending", f"{running} file downloads run"), {"running": running})
