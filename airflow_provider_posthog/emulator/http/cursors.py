"""Lists in pages by cursor: no count, no numbers of pages, and nothing is skipped when new rows come in between."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode

from airflow_provider_posthog.emulator.http.envelopes import Json, not_found
from airflow_provider_posthog.emulator.http.messages import Answer, json_answer
from airflow_provider_posthog.emulator.http.request import Request

T = TypeVar("T")
Place = tuple[str, str]


def cursor_page(
    request: Request, items: Sequence[T], write: Callable[[T], Json], *, place: Callable[[T], Place], size: int
) -> Answer:
    """Answer with one page of a list.

    :param request: ``cursor`` in its query, from a link of an earlier page.
    :param items: the whole list, in order.
    :param write: makes JSON of one item.
    :param place: tells where in the order an item is: two texts that no other item has.
    :param size: items on a page.
    :raises ApiError: 404 for a cursor that is none.
    """
    cursor = request.query("cursor")
    first, backwards = 0, False
    if cursor:
        backwards, wanted = _read(cursor)
        places = [place(item) for item in items]
        first = places.index(wanted) if wanted in places else 0
        first = max(first - size, 0) if backwards else first + 1
    shown = items[first : first + size]
    following = _link(request, "n", place(shown[-1])) if shown and first + size < len(items) else None
    previous = _link(request, "p", place(shown[0])) if shown and first > 0 else None
    return json_answer({"next": following, "previous": previous, "results": [write(item) for item in shown]})


def _link(request: Request, direction: str, place: Place) -> str:
    cursor = base64.urlsafe_b64encode("|".join((direction, *place)).encode()).decode()
    query = [(name, value) for name, value in parse_qsl(request.query_string) if name != "cursor"]
    return f"{request.base_url}{request.path}?{urlencode([('cursor', cursor), *query])}"


def _read(cursor: str) -> tuple[bool, Place]:
    try:
        direction, first, second = base64.urlsafe_b64decode(cursor.encode()).decode().split("|")
    except (ValueError, binascii.Error, UnicodeDecodeError):
        raise not_found("Invalid cursor") from None
    return direction == "p", (first, second)
