"""Data quality checks of tables and views of the warehouse, and the runs of several of them."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.emulator.clock import iso, iso_or_none
from airflow_provider_posthog.emulator.http.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core

KINDS = ("not_null", "unique", "accepted_values", "relationships", "row_count", "freshness", "custom_sql")
SEVERITIES = ("error", "warn")


@dataclass
class Check:
    """A check.

    :param subject: the id of the table or view.
    """

    id: str
    subject: str
    name: str
    kind: str
    column: str
    config: Json
    severity: str
    enabled: bool
    created_at: datetime

    def as_json(self) -> Json:
        """Return the object of the API."""
        return {
            "id": self.id,
            "name": self.name,
            "check_type": self.kind,
            "column_name": self.column,
            "config": self.config,
            "severity": self.severity,
            "enabled": self.enabled,
            "subject_uuid": self.subject,
            "created_at": iso(self.created_at),
        }


@dataclass
class Suite:
    """A run of checks. What it is at a moment follows from when it begins and ends.

    :param outcome: what it is then: ``completed``, ``failed``, ``empty``.
    """

    id: str
    subject_kind: str
    subject: str
    checks: list[Check]
    results: list[str]
    begins: datetime
    ends: datetime
    outcome: str

    def status(self, now: datetime) -> str:
        """Return the status.

        :param now: the emulator's time.
        """
        return self.outcome if now >= self.ends else "running"

    def as_json(self, now: datetime) -> Json:
        """Return the object of the API.

        :param now: the emulator's time.
        """
        status = self.status(now)
        counted = self.results if status == "completed" else []
        counts = {f"checks_{outcome}": counted.count(outcome) for outcome in ("passed", "failed", "errored", "skipped")}
        return {
            "id": self.id,
            "trigger": "manual",
            "status": status,
            "subject_type": self.subject_kind,
            "subject_uuid": self.subject,
            "workflow_id": f"data-quality-{self.id}",
            **counts,
            "started_at": iso(self.begins),
            "finished_at": iso_or_none(None if status == "running" else self.ends),
            "error": "The worker was lost." if status == "failed" else "",
            "created_at": iso(self.begins),
        }

    def runs(self, now: datetime) -> list[Json]:
        """Return what each check has found, as the API shows it.

        :param now: the emulator's time.
        """
        if self.status(now) != "completed":
            return []
        return [_run(self, check, result) for check, result in zip(self.checks, self.results, strict=True)]


def _run(suite: Suite, check: Check, result: str) -> Json:
    counted = result in ("passed", "failed") and check.kind != "row_count"
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{suite.id} {check.id}")),
        "quality_check": check.id,
        "check_name": check.name or None,
        "suite_run": suite.id,
        "subject_type": suite.subject_kind,
        "subject_uuid": suite.subject,
        "check_type": check.kind,
        "column_name": check.column,
        "check_config": check.config,
        "check_severity": check.severity,
        "status": result,
        "failed_row_count": (3 if result == "failed" else 0) if counted else None,
        "observed_value": None if result == "errored" else 3.0,
        "compiled_query": "SELECT count() AS failure_count",
        "error": "Unknown column" if result == "errored" else "",
        "started_at": iso(suite.begins),
        "finished_at": iso(suite.ends),
        "created_at": iso(suite.ends),
    }


@dataclass
class QualityService:
    """The project's checks and their runs.

    :param core: the clock and the settings.
    :param seed: equal seeds make equal ids.
    """

    core: Core
    seed: int
    checks: list[Check] = field(default_factory=list)
    suites: list[Suite] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(f"quality {self.seed}")  # noqa: S311 - ids, not secrets

    def new_id(self) -> str:
        """Return a uuid."""
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))

    def of(self, subject: str) -> list[Check]:
        """Return the checks of a table or view, the newest first.

        :param subject: its id.
        """
        return [check for check in reversed(self.checks) if check.subject == subject]

    def start(self, subject_kind: str, subject: str, checks: list[Check]) -> Suite:
        """Run checks; those that are switched off are left out.

        :param subject_kind: ``table`` or ``view``.
        :param subject: its id.
        :param checks: the checks.
        """
        now, settings = self.core.clock.now(), self.core.settings
        on = [check for check in checks if check.enabled]
        results = [
            "failed"
            if check.name in settings.checks_failing
            else "errored"
            if check.name in settings.checks_erring
            else "passed"
            for check in on
        ]
        ends = now + timedelta(seconds=settings.checks_seconds if on else 0)
        outcome = settings.checks_outcome if on else "empty"
        made = Suite(self.new_id(), subject_kind, subject, on, results, now, ends, outcome)
        self.suites.append(made)
        return made
