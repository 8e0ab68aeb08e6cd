"""HogQL for erasures: always calculated anew, never cut without a word, and packed into few queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.states import failure_in
from airflow_provider_posthog.api.steps import Send, Step, Steps
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogTransportError,
)

T = TypeVar("T")

#: The most rows of an answer: PostHog cuts it there, whatever LIMIT says.
LIMIT = queries.MAX_ROWS
#: The most values of one query, and the most characters of all of them; PostHog refuses statements of 256 KiB.
_MAX_VALUES = 1000
_MAX_TEXT = 100_000


def ask(sql: str, values: Mapping[str, Any]) -> Steps[list[list[Any]]]:
    """Run HogQL and return all of its rows, freshly calculated.

    :param sql: the statement, without its LIMIT, and with a ``{name}`` for each value.
    :param values: the values; personal data goes nowhere else.
    :raises PostHogIncompleteError: if the rows were cut.
    :raises PostHogJobFailed: if it failed, or came from a cache.
    """
    answer = yield queries.start(queries.hogql(f"{sql} LIMIT {LIMIT}", values), refresh="force_blocking")
    failure = failure_in(answer)
    if failure is not None:
        raise PostHogJobFailed(f"The query was answered 200, but it failed: {failure}")
    if answer.get("is_cached"):
        raise PostHogJobFailed("PostHog answered from its cache, which proves nothing, though it was asked not to.")
    rows = answer.get("results")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise PostHogTransportError("PostHog answered a query without rows")
    if answer.get("hasMore") or len(rows) >= LIMIT:
        raise PostHogIncompleteError(f"PostHog cut an answer at {len(rows):,} rows: too much to be counted at once.")
    return rows


def tallied(steps: Steps[T], calls: Counter[str]) -> Steps[T]:
    """Do steps, and count the calls by endpoint.

    :param steps: the steps.
    :param calls: the counts.
    """
    advance: Callable[[], Step] = lambda: next(steps)  # noqa: E731 - replaced in each round
    try:
        while True:
            step = advance()
            call = step.call if isinstance(step, Send) else step
            if isinstance(call, Call):
                calls[call.name] += 1
            try:
                value = yield step
            except PostHogError as error:
                advance = partial(steps.throw, error)
            else:
                advance = partial(steps.send, value)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    finally:
        steps.close()


def packed(values: Iterable[str], most: int = _MAX_VALUES) -> Iterator[list[str]]:
    """Yield values in lists that fit into a query.

    :param values: the values.
    :param most: how many at the most.
    """
    pack: list[str] = []
    size = 0
    for value in values:
        if pack and (len(pack) >= most or size + len(value) > _MAX_TEXT):
            yield pack
            pack, size = [], 0
        pack.append(value)
        size += len(value) + 4
    if pack:
        yield pack


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in lists of at most so many.

    :param items: the items.
    :param size: how many at the most.
    """
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def utc(at: datetime) -> str:
    """Write a time as HogQL is sent it, inside ``toDateTime``: ISO text, UTC, ``Z``.

    :param at: a time with an offset.
    """
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
