"""HogQL for erasures: statements whose answers can be proved to be whole, and values packed into few queries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import islice
from typing import Any, TypeVar

from airflow_provider_posthog.exceptions import PostHogValidationError
from airflow_provider_posthog.results.answer import Question
from airflow_provider_posthog.results.answer import ask as question_of

T = TypeVar("T")

#: The most values of one query, and the most bytes of all of them. PostHog refuses statements of 256 KiB, and each
#: value stands twice in a question that is asked of two tables.
_MAX_VALUES = 1000
MAX_TEXT = 100_000


def ask_all(statement: object, values: Mapping[str, Any] | None = None) -> Question:
    """Check that an answer to a statement can be proved to be complete.

    :param statement: the statement with its LIMIT.
    :param values: the values.
    :raises PostHogSettingsError: if it cannot.
    """
    return question_of(statement, values, field="query", every_limit=True)


def packed(values: Iterable[str], most: int = _MAX_VALUES, text: int = MAX_TEXT) -> Iterator[list[str]]:
    """Yield values in lists that fit into a query.

    :param values: the values.
    :param most: how many at the most.
    :param text: how many bytes they may have together, as they stand in a statement.
    """
    pack: list[str] = []
    size = 0
    for value in values:
        length = _length(value)
        if pack and (len(pack) >= most or size + length > text):
            yield pack
            pack, size = [], 0
        pack.append(value)
        size += length
    if pack:
        yield pack


def _length(value: str) -> int:
    """Return the bytes of a value in a statement: in quotes, with a comma and a space, and what is escaped twice."""
    escaped = sum(map(value.count, ("\\", "'", "\n", "\t", "\r", "\b", "\f", "\0")))
    return (len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))) + escaped + 4


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of at most so many.

    :param items: the items.
    :param size: how many at the most.
    """
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def is_unknown_table(error: PostHogValidationError) -> bool:
    """Return whether a statement was refused because the server has no such table.

    :param error: the refusal.
    """
    return "unknown table" in (error.detail or "").lower()


def utc(at: datetime) -> str:
    """Write a time as HogQL is sent it, inside ``toDateTime``: ISO text, UTC, ``Z``.

    :param at: a time with an offset.
    """
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
