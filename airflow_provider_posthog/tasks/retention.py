"""What tasks share that read events, which PostHog hides when they are old."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.results.retention_guard import RetentionGuard

if TYPE_CHECKING:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

OnRetention = Literal["fail", "warn", "ignore"]


class RetentionMixin:
    """Has ``on_retention``, and a guard that goes by it; for operators with a ``hook``."""

    on_retention: str

    if TYPE_CHECKING:

        @property
        def hook(self) -> PostHogHook:
            """The hook."""

        @property
        def log(self) -> Any:  # noqa: ANN401 - Airflow 3's is not a logging.Logger
            """Airflow's log."""

    @cached_property
    def retention_guard(self) -> RetentionGuard:
        """What checks the task's reads of events; made when it runs, as ``on_retention`` may be a template."""
        return RetentionGuard(self.on_retention, lambda: self.hook.events_retention(), self.log)
