"""PostHog's data quality checks: assertions about a table or a view of its warehouse (an alpha of 2026).

PostHog counts the rows that break an assertion, and keeps no row. Checks run in a suite, which is started by one call
and polled by others. PostHog enables it project by project: others get 403.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_provider_posthog.api.answers import rows
from airflow_provider_posthog.api.arguments import Limit, Offset, Uuid
from airflow_provider_posthog.api.call import Call, json_item, json_page
from airflow_provider_posthog.api.endpoint import endpoint

# A check's counts reveal something about the rows behind it: PostHog wants the right to query them, too.
_READ_TABLE, _RUN_TABLE = ("warehouse_table:read", "query:read"), ("warehouse_table:write", "query:read")
_READ_VIEW, _RUN_VIEW = ("warehouse_view:read", "query:read"), ("warehouse_view:write", "query:read")


class QualityCheck(TypedDict, total=False):
    """A check; ``severity`` is ``error`` or ``warn``, ``last_status`` empty before its first run."""

    id: str
    name: str
    check_type: str
    column_name: str
    config: Mapping[str, Any]
    severity: str
    enabled: bool
    last_status: str


class QualityCheckPage(TypedDict, total=False):
    """A page of checks."""

    count: int
    next: str | None
    results: Sequence[QualityCheck]


class SuiteRun(TypedDict, total=False):
    """A run of several checks; ``status`` is ``running``, ``completed``, ``failed`` or ``empty`` (no check to run)."""

    id: str
    status: str
    checks_passed: int
    checks_failed: int
    checks_errored: int
    checks_skipped: int
    error: str | None
    created_at: str
    finished_at: str | None


class CheckRun(TypedDict, total=False):
    """The result of one check; ``status`` is ``passed``, ``failed``, ``errored`` or ``skipped``."""

    id: str
    quality_check: str | None
    check_name: str | None
    check_type: str
    column_name: str
    check_severity: str | None
    status: str
    failed_row_count: int | None
    observed_value: float | None
    error: str | None


@endpoint("GET", "warehouse_tables/{id}/checks/", scopes=_READ_TABLE, paging="offset")
def table_checks(table_id: Uuid, *, limit: Limit = 100, offset: Offset = 0) -> Call[QualityCheckPage]:
    """List the checks of a table.

    :param table_id: the table's UUID.
    :param limit: checks per page.
    :param offset: how many to leave out.
    """
    return table_checks.call(json_page, query={"limit": limit, "offset": offset or None}, id=table_id)


@endpoint("POST", "warehouse_tables/{id}/checks/run_all/", scopes=_RUN_TABLE, repeatable=True)
def run_table_checks(table_id: Uuid) -> Call[SuiteRun]:
    """Run all checks of a table that are switched on.

    :param table_id: the table's UUID.
    """
    return run_table_checks.call(json_item, id=table_id)


@endpoint("POST", "warehouse_tables/{id}/checks/{check_id}/run/", scopes=_RUN_TABLE, repeatable=True)
def run_table_check(table_id: Uuid, check_id: Uuid) -> Call[SuiteRun]:
    """Run one check of a table.

    :param table_id: the table's UUID.
    :param check_id: the check's UUID.
    """
    return run_table_check.call(json_item, id=table_id, check_id=check_id)


@endpoint("GET", "warehouse_tables/{id}/check_suite_runs/{run_id}/", scopes=_READ_TABLE)
def table_suite(table_id: Uuid, run_id: Uuid) -> Call[SuiteRun]:
    """Retrieve a run of checks of a table.

    :param table_id: the table's UUID.
    :param run_id: the run's UUID.
    """
    return table_suite.call(json_item, id=table_id, run_id=run_id)


@endpoint("GET", "warehouse_tables/{id}/check_suite_runs/{run_id}/check_runs/", scopes=_READ_TABLE)
def table_check_runs(table_id: Uuid, run_id: Uuid) -> Call[list[CheckRun]]:
    """List the results of each check of a run.

    :param table_id: the table's UUID.
    :param run_id: the run's UUID.
    """
    return table_check_runs.call(rows, id=table_id, run_id=run_id)


@endpoint("GET", "warehouse_saved_queries/{id}/checks/", scopes=_READ_VIEW, paging="offset")
def view_checks(view_id: Uuid, *, limit: Limit = 100, offset: Offset = 0) -> Call[QualityCheckPage]:
    """List the checks of a view.

    :param view_id: the view's UUID.
    :param limit: checks per page.
    :param offset: how many to leave out.
    """
    return view_checks.call(json_page, query={"limit": limit, "offset": offset or None}, id=view_id)


@endpoint("POST", "warehouse_saved_queries/{id}/checks/run_all/", scopes=_RUN_VIEW, repeatable=True)
def run_view_checks(view_id: Uuid) -> Call[SuiteRun]:
    """Run all checks of a view that are switched on.

    :param view_id: the view's UUID.
    """
    return run_view_checks.call(json_item, id=view_id)


@endpoint("POST", "warehouse_saved_queries/{id}/checks/{check_id}/run/", scopes=_RUN_VIEW, repeatable=True)
def run_view_check(view_id: Uuid, check_id: Uuid) -> Call[SuiteRun]:
    """Run one check of a view.

    :param view_id: the view's UUID.
    :param check_id: the check's UUID.
    """
    return run_view_check.call(json_item, id=view_id, check_id=check_id)


@endpoint("GET", "warehouse_saved_queries/{id}/check_suite_runs/{run_id}/", scopes=_READ_VIEW)
def view_suite(view_id: Uuid, run_id: Uuid) -> Call[SuiteRun]:
    """Retrieve a run of checks of a view.

    :param view_id: the view's UUID.
    :param run_id: the run's UUID.
    """
    return view_suite.call(json_item, id=view_id, run_id=run_id)


@endpoint("GET", "warehouse_saved_queries/{id}/check_suite_runs/{run_id}/check_runs/", scopes=_READ_VIEW)
def view_check_runs(view_id: Uuid, run_id: Uuid) -> Call[list[CheckRun]]:
    """List the results of each check of a run.

    :param view_id: the view's UUID.
    :param run_id: the run's UUID.
    """
    return view_check_runs.call(rows, id=view_id, run_id=run_id)
