"""Data quality checks, under the table or view that they are about, and the runs of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from airflow_provider_posthog.emulator.http.envelopes import forbidden, invalid, not_found
from airflow_provider_posthog.emulator.http.fields import flag, mapping, text
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import page
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route
from airflow_provider_posthog.emulator.jobs.quality import KINDS, SEVERITIES, Check, Suite

Handler = Callable[[Request], Awaitable[Answer]]
QUERY = "query:read"


def _subject(request: Request, kind: str) -> str:
    """Return the id of the table or view, if this project has it and PostHog lets the project have checks."""
    if not request.state.settings.checks_enabled:
        raise forbidden("Data quality checks are not enabled for this project.")
    jobs = request.state.warehouse_jobs
    subject_id: str = request.params["id"]
    if not any(table.id == subject_id for table in (jobs.views if kind == "view" else jobs.tables)):
        raise not_found()
    return subject_id


def _check(request: Request, subject: str) -> Check:
    check_id = request.params["check_id"]
    check = next((known for known in request.state.quality.of(subject) if known.id == check_id), None)
    if check is None:
        raise not_found()
    return check


def _suite(request: Request, subject: str) -> Suite:
    run_id = request.params["run_id"]
    suite = next(
        (known for known in request.state.quality.suites if (known.id, known.subject) == (run_id, subject)), None
    )
    if suite is None:
        raise not_found()
    return suite


def _checks(kind: str) -> dict[str, Handler]:
    async def listed(request: Request) -> Answer:
        return page(request, request.state.quality.of(_subject(request, kind)), lambda check: check.as_json())

    async def create(request: Request) -> Answer:
        subject, body, service = _subject(request, kind), request.json(), request.state.quality
        check_type, severity = text(body, "check_type") or "", text(body, "severity") or "error"
        for name, value, known in (("check_type", check_type, KINDS), ("severity", severity, SEVERITIES)):
            if value not in known:
                raise invalid(f'"{value}" is not a valid choice.', "invalid_choice", name)
        name, column = text(body, "name") or "", text(body, "column_name") or ""
        config, enabled = mapping(body, "config"), flag(body, "enabled", True)
        now = request.state.clock.now()
        made = Check(service.new_id(), subject, name, check_type, column, config, severity, enabled, now)
        service.checks.append(made)
        return json_answer(made.as_json(), 201)

    return {"GET checks/": listed, "POST checks/": create}


def _runs(kind: str) -> dict[str, Handler]:
    async def run(request: Request) -> Answer:
        subject = _subject(request, kind)
        started = request.state.quality.start(kind, subject, [_check(request, subject)])
        return json_answer(started.as_json(request.state.clock.now()))

    async def run_all(request: Request) -> Answer:
        subject = _subject(request, kind)
        started = request.state.quality.start(kind, subject, request.state.quality.of(subject))
        return json_answer(started.as_json(request.state.clock.now()))

    async def suite(request: Request) -> Answer:
        return json_answer(_suite(request, _subject(request, kind)).as_json(request.state.clock.now()))

    async def check_runs(request: Request) -> Answer:
        return json_answer(_suite(request, _subject(request, kind)).runs(request.state.clock.now()))

    return {
        "POST checks/run_all/": run_all,
        "POST checks/{check_id}/run/": run,
        "GET check_suite_runs/{run_id}/": suite,
        "GET check_suite_runs/{run_id}/check_runs/": check_runs,
    }


def _routes(kind: str, path: str, scope: str) -> tuple[Route, ...]:
    routes = []
    for words, handler in {**_checks(kind), **_runs(kind)}.items():
        method, _, rest = words.partition(" ")
        scopes = (f"{scope}:{'read' if method == 'GET' else 'write'}", QUERY)
        routes.append(Route(method, f"{path}/{{id}}/{rest}", handler, scopes, generations="C"))
    return tuple(routes)


ROUTES = (
    *_routes("table", "/warehouse_tables", "warehouse_table"),
    *_routes("view", "/warehouse_saved_queries", "warehouse_view"),
)
