"""Pages of the activity log."""

from __future__ import annotations

from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.paging import number
from airflow_provider_posthog.emulator.http.request import Request

# unlike other lists, this one counts pages, and they are short
PAGE_LENGTH = 10


def activity_page(request: Request, scope: str, item_id: str | None = None) -> Answer:
    """Answer with one page of the log, newest first.

    :param request: ``limit`` (default 10) and ``page`` (from 1) in its query.
    :param scope: the kind of the objects.
    :param item_id: of one object; None for all.
    """
    log = request.state.activity.entries
    entries = [entry for entry in reversed(log) if entry.scope == scope and item_id in (None, entry.item_id)]
    limit = number(request.query("limit"), PAGE_LENGTH, 1)
    page = number(request.query("page"), 1, 1)
    shown = entries[(page - 1) * limit : page * limit]
    following = request.link(limit=limit, page=page + 1) if page * limit < len(entries) else None
    previous = request.link(limit=limit, page=page - 1) if page > 1 else None
    results = [entry.as_json() for entry in shown]
    return json_answer({"results": results, "next": following, "previous": previous, "total_count": len(entries)})
