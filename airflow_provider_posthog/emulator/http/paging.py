"""Lists in pages of limit and offset, with absolute links, as most of PostHog's lists are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request

T = TypeVar("T")
DEFAULT_LIMIT = 100


def number(text: str | None, default: int, least: int) -> int:
    """Return a number of a query.

    :param text: as sent, or None.
    :param default: taken instead of what is not a number, as Django REST framework does, which refuses nothing.
    :param least: smaller ones are no number.
    """
    if text is None or not text.isdigit() or int(text) < least:
        return default
    return int(text)


def bounds(request: Request) -> tuple[int, int]:
    """Return the limit and the offset that a request asks for.

    :param request: its ``limit`` (default 100, cut to the setting ``max_page``) and ``offset``.
    """
    limit = number(request.query("limit"), DEFAULT_LIMIT, 1)
    return min(limit, request.state.settings.max_page or limit), number(request.query("offset"), 0, 0)


def page(request: Request, items: Sequence[T], write: Callable[[T], Json]) -> Answer:
    """Answer with one page of a list.

    :param request: says which page; see :func:`bounds`.
    :param items: the whole list, in order.
    :param write: makes JSON of one item; called for the page's items only.
    """
    limit, offset = bounds(request)
    count = len(items)
    following = request.link(limit=limit, offset=offset + limit) if offset + limit < count else None
    previous = None
    if offset > 0:
        previous = request.link(limit=limit, offset=offset - limit if offset > limit else None)
    results = [write(item) for item in items[offset : offset + limit]]
    return json_answer({"count": count, "next": following, "previous": previous, "results": results})
