"""Prove that an answer to a query is whole, fresh and no failure; every reader of answers uses this.

PostHog answers 200 to queries that failed, answers from its cache, and cuts rows silently: a SELECT without LIMIT
at 100, any at 50,000, and each SELECT of a UNION by itself. What no answer can prove is refused before it is sent
(:func:`ask`); what came is read by :func:`read`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_posthog.api.hogql import Limits, limits_of, one_statement
from airflow_provider_posthog.api.queries import DEFAULT_ROWS, MAX_ROWS
from airflow_provider_posthog.api.states import failure_in
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogTransportError,
)

#: How to write a set operation: PostHog adds no LIMIT of its own inside brackets.
WRAPPED = "SELECT * FROM (...) LIMIT n"
_IN_ONE = f"Put the whole into brackets: {WRAPPED}; PostHog cuts no SELECT in there."


@dataclass(frozen=True)
class Question:
    """A statement that may be sent, and what is needed to prove that its answer is whole.

    :param sql: the statement, without a semicolon.
    :param limits: what limits its rows.
    :param every_limit: whether a LIMIT is one more cut, and not what was asked for.
    """

    sql: str
    limits: Limits
    every_limit: bool = False

    @property
    def most(self) -> int:
        """The most rows that one SELECT returns before it is cut: an answer with fewer is whole."""
        counted = self.limits.arms if self.every_limit else ()
        return min([MAX_ROWS, *(arm.limit for arm in counted if arm.limit is not None)])


@dataclass(frozen=True)
class Answer:
    """An answer that is fresh and no failure.

    :param rows: its rows; of other queries than HogQL whatever ``results`` is.
    :param columns: the names of its columns; ``None`` if PostHog did not name them.
    :param types: what PostHog says of their types, as it came.
    :param cut: why rows may be missing; ``None`` if they are all there.
    """

    rows: Any
    columns: list[str] | None
    types: object
    cut: str | None = None

    def whole(self) -> Answer:
        """Return it, if no row is missing.

        :raises PostHogIncompleteError: if rows may be missing.
        """
        if self.cut is not None:
            raise PostHogIncompleteError(self.cut)
        return self

    def names(self) -> list[str]:
        """Return the names of the columns.

        :raises PostHogTransportError: if PostHog did not name them.
        """
        if self.columns is None:
            raise PostHogTransportError("PostHog answered a query without the names of its 'columns'")
        return self.columns

    def kinds(self) -> list[str | None]:
        """Return PostHog's type of each column; all ``None`` if it did not name one for each."""
        names = self.names()
        if not isinstance(self.types, list) or len(self.types) != len(names):
            return [None] * len(names)
        named = [pair[1] if isinstance(pair, list) and len(pair) == 2 else pair for pair in self.types]
        return [kind if isinstance(kind, str) else None for kind in named]


def ask(sql: object, values: object = None, *, field: str = "hogql", every_limit: bool = False) -> Question:
    """Check that the answer to a statement can be proved, before it is sent.

    :param sql: one statement; semicolons at its end are dropped.
    :param values: the values of its placeholders, by name.
    :param field: the argument that it was given in.
    :param every_limit: take a LIMIT that is reached for a cut, of whichever SELECT.
    :raises PostHogSettingsError: if it is none, several, or if PostHog could cut it in a way that nobody can see.
    """
    statement = one_statement(sql, field)
    limits = limits_of(statement, values)
    if limits.is_set:
        _check_set(limits, field, every_limit)
    elif every_limit and limits.arms[0].written and limits.arms[0].limit is None:
        problem = "has a LIMIT that cannot be read, so nobody can tell whether it left rows out."
        raise PostHogSettingsError(field, problem, f"Write a number, such as LIMIT {MAX_ROWS}.")
    return Question(statement, limits, every_limit)


def _check_set(limits: Limits, field: str, every_limit: bool) -> None:
    """Refuse a set operation that hides whether PostHog has cut one of its SELECTs.

    A LIMIT that somebody wrote is what was asked for, unless it is more than PostHog gives.
    """
    names = " and ".join(sorted(limits.operators))
    for number, arm in enumerate(limits.arms, 1):
        place = f"joins {len(limits.arms)} SELECTs by {names}, and number {number} has"
        if not arm.written:
            problem = f"{place} no LIMIT of its own: PostHog cuts it at {DEFAULT_ROWS} rows, and does not say so."
            raise PostHogSettingsError(field, problem, _IN_ONE)
        if arm.limit is None:
            problem = f"{place} a LIMIT that cannot be read, so nobody can tell whether it left rows out."
            raise PostHogSettingsError(field, problem, f"Write a number. Or: {_IN_ONE}")
    if every_limit or any((arm.limit or 0) > MAX_ROWS for arm in limits.arms):
        hides_cuts(limits, field)


def hides_cuts(limits: Limits, field: str) -> None:
    """Refuse a set whose rows do not show whether one of its SELECTs was cut.

    :param limits: what limits the rows of a statement.
    :param field: the argument that it was given in.
    :raises PostHogSettingsError: if the rows of the whole say nothing of those of its SELECTs.
    """
    if not limits.hides_cuts:
        return
    names = " and ".join(sorted(limits.operators))
    why = "a LIMIT or OFFSET of the whole" if limits.tail else names
    problem = f"joins {len(limits.arms)} SELECTs by {names}; PostHog cuts each of them, and {why} hides that."
    raise PostHogSettingsError(field, problem, _IN_ONE)


def read(
    answer: object,
    question: Question | None = None,
    *,
    asked: object = None,
    shows_reason: bool = True,
    stale: type[PostHogError] = PostHogJobFailed,
) -> Answer:
    """Read an answer of ``/query/``, or the ``results`` of a query's status.

    :param answer: the JSON.
    :param question: what was asked; ``None`` for another query than HogQL, whose ``results`` are of any shape.
    :param asked: the number of rows that such a query requests: that many are no cut.
    :param shows_reason: whether an error may tell PostHog's reason, which can quote personal data.
    :param stale: what to raise for an answer from PostHog's cache.
    :raises PostHogJobFailed: if it failed.
    :raises PostHogTransportError: if it is no answer to a query.
    """
    failure = failure_in(answer)
    if failure is not None:
        reason = failure if shows_reason else "PostHog's reason is not shown, as it could name a person."
        raise PostHogJobFailed(f"The query was answered 200, but it failed: {reason}")
    if not isinstance(answer, Mapping) or answer.get("results") is None:
        raise PostHogTransportError(
            "PostHog's answer to a query has no 'results': check that the host is PostHog itself"
        )
    if answer.get("is_cached"):
        raise stale("PostHog answered from its cache, which proves nothing, although fresh rows were requested.")
    proved = Answer(answer["results"], _columns(answer.get("columns")), answer.get("types"))
    if question is not None:
        _check_table(proved)
    return replace(proved, cut=_cut(proved.rows, answer.get("hasMore"), question, asked))


def _columns(columns: object) -> list[str] | None:
    if columns is None or (isinstance(columns, list) and set(map(type, columns)) <= {str}):
        return columns
    raise PostHogTransportError("PostHog answered a query without the names of its 'columns'")


def _check_table(answer: Answer) -> None:
    """Refuse what is not a list of rows with as many cells as there are columns."""
    rows, columns = answer.rows, answer.columns
    if not isinstance(rows, list) or not set(map(type, rows)) <= {list}:
        raise PostHogTransportError("PostHog answered a query, but its 'results' are not a list of rows")
    if columns is not None and not set(map(len, rows)) <= {len(columns)}:
        raise PostHogTransportError(f"PostHog answered rows of other lengths than its {len(columns)} columns")


def _cut(rows: object, more: object, question: Question | None, asked: object) -> str | None:
    """Return why rows may be missing."""
    if not isinstance(rows, list):
        return None
    count = len(rows)
    if count >= MAX_ROWS or (more and (question is not None or count != asked)):
        return (
            f"PostHog cut the answer at {count} rows. Write a LIMIT (at most {MAX_ROWS:,}), narrow the statement, "
            "read it with get_df(..., key=...), or export it with PostHogCreateExportOperator."
        )
    if question is None or count < question.most:
        return None
    if question.limits.is_set:
        return (
            f"The answer has {count:,} rows, and one of the SELECTs that it joins ends at its LIMIT of "
            f"{question.most:,}: its rows may be cut. Raise that LIMIT. Or, if it is meant, put the whole into "
            f"brackets: {WRAPPED}."
        )
    return (
        f"The answer has {count:,} rows, as many as its LIMIT lets through: there may be more. Raise the LIMIT (at "
        f"most {MAX_ROWS:,}). Or, if no more are meant, put the statement into brackets: {WRAPPED}, with a larger one."
    )
