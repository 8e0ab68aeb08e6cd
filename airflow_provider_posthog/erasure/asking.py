"""HogQL for erasures: always calculated anew, never cut without a word, and packed into few queries."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.answers import Kind, typed_rows
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.steps import Send, Step, Steps
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogPermissionError,
    PostHogValidationError,
)
from airflow_provider_posthog.results.answer import Question, read
from airflow_provider_posthog.results.answer import ask as question_of

T = TypeVar("T")

#: The most rows of an answer: PostHog cuts it there, whatever LIMIT says.
LIMIT = queries.MAX_ROWS
#: The most values of one query, and the most characters of all of them; PostHog refuses statements of 256 KiB.
_MAX_VALUES = 1000
_MAX_TEXT = 100_000


def ask(sql: str, values: Mapping[str, Any], *kinds: Kind) -> Steps[list[list[Any]]]:
    """Run HogQL and return all of its rows, freshly calculated.

    :param sql: the statement, without its LIMIT, and with a ``{name}`` for each value.
    :param values: the values; personal data goes nowhere else.
    :param kinds: what each column holds.
    :raises PostHogIncompleteError: if the rows were cut.
    :raises PostHogJobFailed: if it failed, or came from a cache.
    :raises PostHogTransportError: if the rows are of another shape.
    """
    return typed_rows((yield from rows_of(f"{sql} LIMIT {LIMIT}", values)), kinds)


def rows_of(statement: str, values: Mapping[str, Any] | None = None) -> Steps[list[list[Any]]]:
    """Run a whole statement and return all of its rows, freshly calculated.

    :param statement: the statement with its LIMIT, which the rows must not reach: who is left out is not erased.
    :param values: the values.
    :raises PostHogSettingsError: if nobody could tell whether its rows are cut; nothing is sent.
    :raises PostHogIncompleteError: if the rows were cut, or reach a LIMIT.
    :raises PostHogJobFailed: if it failed, or came from a cache.
    """
    question = ask_all(statement, values)
    answer = yield queries.start(queries.hogql(question.sql, values), refresh="force_blocking")
    rows: list[list[Any]] = read(answer, question, shows_reason=False).whole().rows
    return rows


def ask_all(statement: object, values: Mapping[str, Any] | None = None) -> Question:
    """Make sure that an answer to a statement can be proved to leave nobody out.

    :param statement: the statement with its LIMIT.
    :param values: the values.
    :raises PostHogSettingsError: if it cannot.
    """
    return question_of(statement, values, every_limit=True)


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


def is_unknown_table(error: PostHogValidationError) -> bool:
    """Tell whether a statement was refused because the server has no such table.

    :param error: the refusal, before :func:`discreet` has hidden its reason.
    """
    return "unknown table" in (error.detail or "").lower()


def utc(at: datetime) -> str:
    """Write a time as HogQL is sent it, inside ``toDateTime``: ISO text, UTC, ``Z``.

    :param at: a time with an offset.
    """
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_WORD = re.compile(r"[a-z_]{1,60}")
#: What PostHog says of a key or of too many requests: whole sentences, with nothing in them that was sent.
_OF_NOBODY = re.compile(
    r"Authentication credentials were not provided\."
    r"|Personal API key found in request [A-Za-z ]{1,40} is invalid\."
    r"|(?:Request was throttled\.)?(?: ?Expected available in [0-9.]{1,12} seconds?\.)?"
    r"|Quota exceeded\.?"
)
_HIDDEN = "PostHog's reason is not shown, as it could name a person."


@contextmanager
def discreet() -> Iterator[None]:
    """Let errors pass without what PostHog wrote in them: it quotes what it was sent, and that names persons.

    What the missing scope is, and how long to wait, stays, as does what PostHog says to everybody in the same words.
    """
    try:
        yield
    except PostHogError as error:
        one: BaseException | None = error
        while one is not None:  # a traceback shows those behind it too
            if isinstance(one, PostHogAPIError):
                _hide(one)
            one = one.__cause__ or one.__context__
        raise


def _hide(error: PostHogAPIError) -> None:
    scope = error.scope if isinstance(error, PostHogPermissionError) else None
    if scope is not None:
        error.detail = f"API key missing required scope '{scope}'"
    elif error.detail and error.code != "own_budget" and not _OF_NOBODY.fullmatch(error.detail):
        error.detail = _HIDDEN
    for name in ("code", "attr"):
        if not _WORD.fullmatch(getattr(error, name) or ""):
            setattr(error, name, None)
    error.args = (str(error),)
