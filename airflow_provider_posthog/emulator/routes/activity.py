"""``insights/activity/`` and ``insights/{id}/activity/``."""

from __future__ import annotations

from airflow_provider_posthog.emulator.http.activity_page import activity_page
from airflow_provider_posthog.emulator.http.envelopes import not_found
from airflow_provider_posthog.emulator.http.messages import Answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.http.routes import Route


def _scope(request: Request) -> tuple[str, ...]:
    return ("insight:read",) if request.state.settings.generation == "A" else ("activity_log:read",)


async def of_all(request: Request) -> Answer:
    """List what was done to insights, newest first.

    :param request: ``limit`` and ``page`` in its query.
    """
    return activity_page(request, "Insight")


async def of_one(request: Request) -> Answer:
    """List what was done to an insight, newest first; a deleted one has its history, too.

    :param request: the insight's id in its path, ``limit`` and ``page`` in its query.
    """
    wanted = request.params["id"]
    insight = request.state.insights.find(wanted, deleted=True)
    if insight is None or str(insight.id) != wanted:
        raise not_found()
    return activity_page(request, "Insight", wanted)


ROUTES = (
    Route("GET", "/insights/activity/", of_all, _scope, "clickhouse"),
    Route("GET", "/insights/{id}/activity/", of_one, _scope, "clickhouse"),
)
