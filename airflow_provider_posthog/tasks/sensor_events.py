"""What sensors read in the events of triggers."""

from __future__ import annotations

from typing import Protocol

from airflow_provider_posthog.api.jobs import Ended


class Told(Protocol):
    """What a trigger's event says."""

    @property
    def ended(self) -> Ended:
        """How the watch ended."""

    @property
    def limit(self) -> str:
        """Which of the task's limits the deadline followed."""

    @property
    def try_number(self) -> int:
        """The try that waited."""
