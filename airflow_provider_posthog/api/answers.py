"""Readers of answers whose shape differs from server to server, or that have no body."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from airflow_provider_posthog.api.call import Answer, json_object, json_page
from airflow_provider_posthog.exceptions import PostHogTransportError


def nothing(answer: Answer) -> None:
    """Read an answer that carries no information: PostHog sends no body, or JSON.

    :raises PostHogTransportError: for anything else, such as the page of a proxy that did not pass the request on.
    """
    if answer.body.strip():
        _json(answer)


def object_or_empty(answer: Answer) -> dict[str, Any]:
    """Read a JSON object, or no body at all, as servers before December 2025 send it: an empty dictionary.

    :raises PostHogTransportError: if it is anything else.
    """
    return json_object(answer) if answer.body.strip() else {}


def rows(answer: Answer) -> list[dict[str, Any]]:
    """Read a list of objects, bare or as ``results``.

    :raises PostHogTransportError: if it has another shape.
    """
    value = _json(answer)
    if not isinstance(value, list):
        results: list[dict[str, Any]] = json_page(answer)["results"]
        return results
    if not all(isinstance(item, dict) for item in value):
        raise PostHogTransportError(f"the answer (status {answer.status}) is not a list of objects")
    return value


def page(answer: Answer) -> dict[str, Any]:
    """Read a page of a list; a bare list is its only page.

    :raises PostHogTransportError: if it has another shape.
    """
    if isinstance(answer.json_or_none(), list):
        return {"results": rows(answer), "next": None}
    return json_page(answer)


Kind = type | tuple[type, ...]
T = TypeVar("T")


def needed(answer: Mapping[str, Any], name: str, kind: type[T], what: str) -> T:
    """Return a field without which an answer is useless.

    :param answer: the answer, or a part of it.
    :param name: the field.
    :param kind: what it is: ``str``, ``int``, ``dict`` or ``list``.
    :param what: names the answer, for the error.
    :raises PostHogTransportError: if it is missing, or of another kind.
    """
    value = answer.get(name)
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise PostHogTransportError(f"{what} came without its {name!r}, or with one that is no {kind.__name__}")
    return value


def typed_rows(rows: Sequence[Sequence[Any]], kinds: Sequence[Kind]) -> list[list[Any]]:
    """Return rows of a query whose columns are known, so that none is read as another.

    :param rows: the rows.
    :param kinds: what each column holds; with ``type(None)`` where it may be null.
    :raises PostHogTransportError: if a row has another shape; the message holds no value.
    """
    for row in rows:
        fits = isinstance(row, list) and len(row) == len(kinds)
        if not fits or not all(isinstance(value, kind) for value, kind in zip(row, kinds, strict=True)):
            raise PostHogTransportError("PostHog answered a query with a row of another shape than it was asked for")
    return [list(row) for row in rows]


def _json(answer: Answer) -> Any:  # noqa: ANN401 - JSON
    try:
        return answer.json()
    except ValueError:
        json_object(answer)  # says what came instead
        raise
