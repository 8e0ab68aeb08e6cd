"""PostHog's own data quality checks as a gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import data_quality, warehouse
from airflow_provider_posthog.api.arguments import is_uuid, nearest
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.watched import Watched
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogSettingsError,
    clean,
)
from airflow_provider_posthog.tasks.identity import Job
from airflow_provider_posthog.tasks.log_lines import shown
from airflow_provider_posthog.tasks.watched_job import WatchedJobOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.tasks.job import JobArguments

#: Checks that an error names, and that the result has.
_NAMED, _MOST_CHECKS = 5, 200


class PostHogRunDataQualityOperator(WatchedJobOperator):
    """Runs PostHog's data quality checks of a table or a view, and fails if one of them finds bad rows.

    A check whose severity is ``warn`` only warns. A check that could not be run is no good check, and neither are none
    at all: the task fails. A retry goes on with the run of the try before. PostHog has checks since August 2026, for
    projects that it lets have them; it cannot cancel them.

    ::

        PostHogRunDataQualityOperator(task_id="checks", view="daily_orders", deferrable=True)

    :param table: a table of the warehouse, by its name or UUID.
    :param view: a view in its place, by its name or UUID.
    :param check: one check, by its name or UUID; default: all that are switched on.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`; ``timeout`` is an hour by
        default. The key needs ``query:read``, and ``warehouse_table:write`` or ``warehouse_view:write``.
    :returns: ``suite_run_id``, ``subject_id`` and ``subject`` (the name), ``passed``, ``failed``, ``errored``,
        ``skipped`` (int), ``checks`` (the first 200, the bad ones first: each with ``id``, ``name``, ``type``,
        ``column``, ``severity``, ``status``, ``bad_rows`` (int or null), ``observed`` (a number or null)),
        ``project_id`` (int), ``host``.
    :raises PostHogSettingsError: if the table, the view or the check cannot be found, or the server has no checks.
    :raises PostHogPermissionError: if PostHog does not let the project have checks.
    :raises PostHogJobFailed: if a check found bad rows or could not be run, or there is none.
    """

    template_fields: Sequence[str] = (*WatchedJobOperator.template_fields, "table", "view", "check")
    twice_is_harmless = True

    def __init__(
        self,
        *,
        table: str | None = None,
        view: str | None = None,
        check: str | None = None,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.view = view
        self.check = check

    def default_timeout(self) -> float:
        """Return an hour."""
        return 3_600.0

    def prepare(self) -> dict[str, Any]:
        """Find the table or view, and the check."""
        if bool(self.table) == bool(self.view):
            raise PostHogSettingsError("table", "is not given once.", "Write a table, or a view.")
        kind = "table" if self.table else "view"
        subject = self._find(kind, str(self.table or self.view).strip())
        return {"kind": kind, "subject": str(subject["id"]), "check": self._check_id(kind, str(subject["id"]))}

    def _find(self, kind: str, text: str) -> Mapping[str, Any]:
        call: Call[Any] = warehouse.tables() if kind == "table" else warehouse.views()
        subjects = list(self.hook.client.pages(call))
        named = [subject for subject in subjects if text in (subject.get("id"), subject.get("name"))]
        if len(named) != 1:
            near = nearest(text, [str(subject.get("name")) for subject in subjects])
            raise PostHogSettingsError(kind, f"there is no {clean(text)[:60]!r}.{near}", "Write its name or UUID.")
        return named[0]

    def _check_id(self, kind: str, subject: str) -> str | None:
        text = str(self.check or "").strip()
        if not text or is_uuid(text):
            return text or None
        call: Call[Any] = data_quality.table_checks(subject) if kind == "table" else data_quality.view_checks(subject)
        with _checks_are_there():
            checks = list(self.hook.client.pages(call))
        named = [check for check in checks if check.get("name") == text]
        if len(named) != 1:
            near = nearest(text, [str(check["name"]) for check in checks if check.get("name")])
            raise PostHogSettingsError("check", f"there is no {clean(text)[:60]!r}.{near}", "Write its name or UUID.")
        return str(named[0]["id"])

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Run the checks."""
        kind, subject, check = request["kind"], request["subject"], request["check"]
        call: Call[Any]
        if check:
            endpoint = data_quality.run_table_check if kind == "table" else data_quality.run_view_check
            call = endpoint(subject, check)
        else:
            every = data_quality.run_table_checks if kind == "table" else data_quality.run_view_checks
            call = every(subject)
        with _checks_are_there():
            suite, at = self.server_time(call)
        return str(Watched("suite", (kind, subject, str(suite["id"])), int(at))), {}

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield nothing: what PostHog shows of a run does not tell whose it is, and another one costs little."""
        return iter(())

    def link(self, job: Job) -> str:
        """Return PostHog's page of the warehouse's quality.

        :param job: the run.
        """
        return "data-warehouse/data-quality"

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Judge what the checks have found.

        :param job: the run.
        """
        kind, subject, run_id = Watched.parse(job.id).names
        settings = self.hook.settings()
        result = {
            "suite_run_id": run_id,
            "subject_id": subject,
            "subject": str(self.table or self.view),
            "project_id": settings.project_id,
            "host": settings.base_url,
        }
        if not self.wait_for_completion:
            return result
        runs = self._results(kind, subject, run_id)
        self._judge(runs, run_id)
        counts = {status: sum(run.get("status") == status for run in runs) for status in _RANKS[::-1]}
        numbers = ", ".join(f"{n} {what}" for what, n in counts.items())
        self.concludes("Checks of %s: %s", shown(self.table or self.view) or result["subject"], numbers)
        return {**result, **counts, "checks": [_summary(run) for run in sorted(runs, key=_rank)][:_MOST_CHECKS]}

    def _results(self, kind: str, subject: str, run_id: str) -> list[Mapping[str, Any]]:
        """Read the result of each check.

        :raises PostHogIncompleteError: if there are fewer results than the run has counted: one of them may be bad.
        """
        send = self.hook.client.send
        if kind == "table":
            suite = send(data_quality.table_suite(subject, run_id))
            runs = send(data_quality.table_check_runs(subject, run_id))
        else:
            suite = send(data_quality.view_suite(subject, run_id))
            runs = send(data_quality.view_check_runs(subject, run_id))
        counts: Mapping[str, Any] = suite
        counted = sum(int(counts.get(f"checks_{status}") or 0) for status in _RANKS)
        if len(runs) < counted:
            raise PostHogIncompleteError(
                f"PostHog counted {counted:,} checks in the run and returned the results of {len(runs):,}, so that a "
                "check that failed could be missing. Let the task retry."
            )
        return list(runs)

    def _judge(self, runs: Sequence[Mapping[str, Any]], run_id: str) -> None:
        """Fail for what is no good check, and warn of what only warns."""
        bad = [run for run in runs if run.get("status") == "failed" and run.get("check_severity") != "warn"]
        unknown = [run for run in runs if run.get("status") not in ("passed", "failed")]
        for run in runs:
            if run.get("status") == "failed" and run.get("check_severity") == "warn":
                self.log.warning("A check that only warns has failed: %s", _named(run))
        ran = len(runs) - len(unknown)
        if bad or unknown or not ran:
            what = [f"{len(bad)} of {len(runs)} checks found bad rows"] if bad else []
            what += [f"{len(unknown)} could not be run"] if unknown else []
            what = what or ["no check was run"]
            first = "; ".join(_named(run) for run in [*bad, *unknown][:_NAMED])
            raise PostHogJobFailed(f"{', '.join(what)}. {first}".rstrip(), job_id=run_id)


_RANKS = ("failed", "errored", "skipped", "passed")


def _rank(check_run: Mapping[str, Any]) -> int:
    status = check_run.get("status")
    return _RANKS.index(status) if status in _RANKS else 0


def _summary(check_run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": check_run.get("quality_check"),
        "name": check_run.get("check_name"),
        "type": check_run.get("check_type"),
        "column": check_run.get("column_name") or None,
        "severity": check_run.get("check_severity"),
        "status": check_run.get("status"),
        "bad_rows": check_run.get("failed_row_count"),
        "observed": check_run.get("observed_value"),
    }


def _named(check_run: Mapping[str, Any]) -> str:
    """Name a check for a log; no value of a row is in what PostHog tells of it, but an error may quote the query."""
    column = f" of {check_run['column_name']}" if check_run.get("column_name") else ""
    name = f"{check_run.get('check_name') or check_run.get('check_type')}{column}"
    rows = check_run.get("failed_row_count")
    count = f": {rows:,} rows" if isinstance(rows, int) and rows else ""
    error = f": {clean(check_run['error'])[:200]}" if check_run.get("error") else ""
    return f"{clean(name)[:80]}{count}{error}"


@contextmanager
def _checks_are_there() -> Iterator[None]:
    """Say of a 404 that the server has no checks: the table or view was there a moment ago."""
    try:
        yield
    except PostHogNotFoundError as error:
        raise PostHogSettingsError(
            "check",
            "PostHog knows none there: it has no such check, or the server is older than August 2026.",
            "Look at the page of the table or view in PostHog.",
        ) from error
