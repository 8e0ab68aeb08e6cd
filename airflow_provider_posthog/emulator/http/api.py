"""From a request to its answer: route, key, project, scopes, rate limit, handler. No sockets here."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import traceback
from urllib.parse import unquote, urlsplit

from airflow_provider_posthog.emulator.control import own as routes_control_own
from airflow_provider_posthog.emulator.control import people as routes_control_people
from airflow_provider_posthog.emulator.control import routes as routes_control
from airflow_provider_posthog.emulator.http.auth import SECRET_SCOPES, ApiKey, unauthenticated
from airflow_provider_posthog.emulator.http.envelopes import (
    ApiError,
    Json,
    forbidden,
    not_for_keys,
    not_found,
    server_error,
)
from airflow_provider_posthog.emulator.http.messages import Answer, error_answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Match, Route, Router
from airflow_provider_posthog.emulator.routes import activity as routes_activity
from airflow_provider_posthog.emulator.routes import batch_exports as routes_batch_exports
from airflow_provider_posthog.emulator.routes import capture as routes_capture
from airflow_provider_posthog.emulator.routes import cohorts as routes_cohorts
from airflow_provider_posthog.emulator.routes import dashboards as routes_dashboards
from airflow_provider_posthog.emulator.routes import data_quality as routes_data_quality
from airflow_provider_posthog.emulator.routes import elements as routes_elements
from airflow_provider_posthog.emulator.routes import events as routes_events
from airflow_provider_posthog.emulator.routes import experiments as routes_experiments
from airflow_provider_posthog.emulator.routes import exports as routes_exports
from airflow_provider_posthog.emulator.routes import file_downloads as routes_file_downloads
from airflow_provider_posthog.emulator.routes import groups as routes_groups
from airflow_provider_posthog.emulator.routes import insight_actions as routes_insight_actions
from airflow_provider_posthog.emulator.routes import insights as routes_insights
from airflow_provider_posthog.emulator.routes import lists as routes_lists
from airflow_provider_posthog.emulator.routes import person_deletion as routes_person_deletion
from airflow_provider_posthog.emulator.routes import persons as routes_persons
from airflow_provider_posthog.emulator.routes import projects as routes_projects
from airflow_provider_posthog.emulator.routes import query as routes_query
from airflow_provider_posthog.emulator.routes import records as routes_records
from airflow_provider_posthog.emulator.routes import sharing as routes_sharing
from airflow_provider_posthog.emulator.routes import warehouse as routes_warehouse
from airflow_provider_posthog.emulator.state import State

PROJECT = "/api/projects/{project_id}"
PROJECT_ROUTES: tuple[Route, ...] = (
    *routes_exports.ROUTES,
    *routes_query.ROUTES,
    *routes_insights.ROUTES,
    *routes_insight_actions.ROUTES,
    *routes_activity.ROUTES,
    *routes_sharing.ROUTES,
    *routes_dashboards.ROUTES,
    *routes_batch_exports.ROUTES,
    *routes_file_downloads.ROUTES,
    *routes_warehouse.ROUTES,
    *routes_lists.ROUTES,
    *routes_records.ROUTES,
    *routes_experiments.ROUTES,
    *routes_data_quality.ROUTES,
    *routes_cohorts.ROUTES,
    *routes_persons.ROUTES,
    *routes_person_deletion.ROUTES,
    *routes_groups.ROUTES,
    *routes_events.ROUTES,
    *routes_elements.ROUTES,
    *routes_projects.PROJECT_ROUTES,
)


class Api:
    """Answers requests.

    :param state: the server's state.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        in_project = [dataclasses.replace(route, pattern=PROJECT + route.pattern) for route in PROJECT_ROUTES]
        control = (*routes_control.ROUTES, *routes_control_people.ROUTES, *routes_control_own.ROUTES)
        outside = (*control, *routes_capture.ROUTES, *routes_projects.USER_ROUTES, *routes_lists.ORGANIZATION_ROUTES)
        self._router = Router([*outside, *in_project])
        state.get_internally = self.get_internally

    def route_name(self, method: str, path: str) -> str:
        """Return the pattern that answers a request, or "" when none does.

        :param method: in capitals.
        :param path: without the query.
        """
        match = self._match(method, path)
        return match.route.pattern if match and match.route else ""

    def _match(self, method: str, path: str) -> Match | None:
        if path.startswith("/api/environments/") and self._state.settings.environments_alias:
            path = path.replace("/api/environments/", "/api/projects/", 1)
        return self._router.match(method, path, self._state.settings.generation)

    async def answer(self, request: Request) -> Answer:
        """Answer a request, whatever happens.

        :param request: without ``params`` and ``key``, which are found here.
        """
        if self._state.is_due():
            await asyncio.to_thread(self._state.tick)
        match = self._match(request.method, request.path)
        allow = {"Allow": ", ".join(match.allowed)} if match else {}
        try:
            made = await self._answer(request, match)
        except ApiError as error:
            made = error_answer(error)
        except Exception:
            sys.stderr.write(f"posthog emulator: {request.method} {request.path}\n{traceback.format_exc()}")
            made = error_answer(server_error())
        if request.path.startswith(routes_control.PREFIX):
            return made
        standard = {**allow, "Vary": "Accept, Origin", "X-Frame-Options": "SAMEORIGIN"}
        return dataclasses.replace(made, headers={**standard, **made.headers})

    async def _answer(self, request: Request, match: Match | None) -> Answer:
        if match is None:
            raise not_found("API endpoint not found.")
        route = match.route
        request = dataclasses.replace(request, params={k: unquote(v) for k, v in match.params.items()})
        if route is not None and route.public:
            return await route.handler(self._about(request, request.query("project")))
        key = request.key or self._authenticate(request)
        if key.is_secret and not (route and self._opens(route, request)):
            status = self._state.settings.unauthenticated_status
            detail = "Authentication credentials were not provided."
            raise unauthenticated("not_authenticated", detail, status, request.headers)
        request = dataclasses.replace(request, key=key)
        if "project_id" in request.params:
            self._check_project(key, request.params["project_id"], request.path)
            wanted = request.params["project_id"]
            own = str(key.projects[0]) if key.is_secret and key.projects else None
            request = self._about(request, own if wanted == "@current" else wanted)
        if route is None:
            # PostHog looks for the scope of the action before it looks whether there is one
            raise not_for_keys()
        key.require(route.needed(request))
        if route.throttle is not None and not key.is_secret:
            self._throttle(route.throttle, key, request.state)
        return await route.handler(request)

    def _about(self, request: Request, project: str | None) -> Request:
        """Hand the request the state of the project that it is about; the first one's, if it names none."""
        state = self._state if project is None else self._state.of_project(int(project) if project.isdigit() else 0)
        if state is None:
            raise not_found("Project not found.")
        return dataclasses.replace(request, state=state)

    def _opens(self, route: Route, request: Request) -> bool:
        """Return whether an endpoint takes the secret keys of projects: each has to opt in, and old ones did not."""
        needed = frozenset(route.needed(request))
        return self._state.settings.generation != "A" and bool(needed) and needed <= SECRET_SCOPES

    def _throttle(self, name: str, key: ApiKey, state: State) -> None:
        settings = state.settings
        if settings.rate_limit_per_minute is not None:
            state.throttle.check(name, key.value, settings.rate_limit_per_minute, header=settings.retry_after)
        if settings.rate_limits is not None:
            state.throttle.check_own(name, settings.rate_limits, header=settings.retry_after)

    def _authenticate(self, request: Request) -> ApiKey:
        try:
            body_key = request.json().get("personal_api_key")
        except ApiError:
            body_key = None
        status = self._state.settings.unauthenticated_status
        return self._state.keyring.find(request.headers, request.query("personal_api_key"), body_key, status)

    def _check_project(self, key: ApiKey, wanted: str, path: str) -> None:
        if wanted == "@current":
            return
        if not wanted.isdigit():
            raise not_found("Project not found.")
        key.require_project(int(wanted))
        if int(wanted) == routes_control.FOREIGN_PROJECT:
            raise forbidden("You don't have access to the project.")
        if self._state.of_project(int(wanted)) is None:
            broken = path.split("/")[4:5] in (["insights"], ["dashboards"])
            if broken and self._state.settings.unknown_project_status == 500:
                raise server_error()
            raise not_found("Project not found.")

    async def get_internally(self, key: ApiKey, path: str) -> tuple[int, Json]:
        """Return the status and JSON of a GET that the exports' worker makes as the owner of a key.

        :param key: whose call it is.
        :param path: with its query; a full address is fine.
        """
        parts = urlsplit(path)
        request = Request(self._state, "GET", parts.path, parts.query, key=key)
        answer = await self.answer(request)
        try:
            return answer.status, Request(self._state, "GET", "", raw_body=answer.body).json()
        except ApiError:
            return answer.status, {}
