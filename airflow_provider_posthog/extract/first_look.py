"""The first look at what is read: its columns, their types, and how long its rows are."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
    clean,
)
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.bare_query import has_limit_without_order
from airflow_provider_posthog.extract.query_client import Asker, Result, is_long
from airflow_provider_posthog.extract.sources import Source, is_own
from airflow_provider_posthog.extract.windows import Piece
from airflow_provider_posthog.results.arrow_types import batch_of, schema_of
from airflow_provider_posthog.results.clickhouse_values import bare
from airflow_provider_posthog.results.heaviness import is_too_heavy

log = logging.getLogger(__name__)

_TEXT = re.compile(r"'(?:[^'\\]|\\.|'')*'")


@dataclass(frozen=True)
class Look:
    """The result of the first look.

    :param source: what is read, with its columns by name, and the times in its key.
    :param schema: of its rows as they come, the reader's own columns included.
    :param rows: how many rows were looked at.
    :param keys: how many different keys they have.
    :param size: bytes of the rows.
    :param exact: whether they have integers that may be longer than 64 bits.
    """

    source: Source
    schema: pa.Schema
    rows: int
    keys: int
    size: int
    exact: bool


def first_look(asker: Asker, source: Source, likely: Piece) -> Look:
    """Look at some rows.

    :param asker: asks PostHog.
    :param source: what is read.
    :param likely: where to look, and at how many rows.
    :raises PostHogSettingsError: if a query has columns that would be lost, or its time column is not a time.
    :raises PostHogError: if PostHog cannot be asked, or refuses the query.
    """
    names = list(source.columns)
    if source.query is not None:
        names = _columns_of(asker, source)
        if has_limit_without_order(source.query):
            log.warning(
                "The query of %s has a LIMIT without ORDER BY. It runs once for each window, and may answer other rows "
                "each time: write ORDER BY, or leave the LIMIT out",
                source.name,
            )
    try:
        result = _sample(asker, source, likely)
    except PostHogValidationError:  # perhaps the key is a column that would not be read
        if source.query is not None:
            _check_same(names, asker.ask(statements.star(source)).columns[:-1])
        raise
    return _look(source, result, names)


def _look(source: Source, result: Result, names: list[str]) -> Look:
    whole = schema_of(result.columns, result.types)
    parts = statements.part_names(source)
    own = [*source.added_columns, *parts]
    shown, added = whole.names[: -len(own) or None], whole.names[len(whole) - len(own) :]
    if added != own or (names and source.query is None and shown != names):
        raise PostHogTransportError("PostHog returned other columns than requested")
    if source.query is not None:
        _check_same(names, shown)
    rows = batch_of(result.rows, whole)  # a row of another shape is an error as in all pages
    kinds = dict(zip(whole.names, (bare(pair[1]) for pair in result.types), strict=True))
    zoned = {key for key, name in zip(source.key_parts, parts, strict=False) if kinds[name].startswith("DateTime")}
    schema = pa.schema([field for field in whole if field.name not in parts])
    _check_time(source, schema)
    return Look(
        source=replace(source if source.columns else statements.with_columns(source, shown), zoned=frozenset(zoned)),
        schema=schema,
        rows=rows.num_rows,
        keys=len(set(rows.column(source.key_column).to_pylist())),
        size=sum(_length(row[: len(schema)]) for row in result.rows),
        exact=is_long(result.types),
    )


def _length(row: Sequence[object]) -> int:
    """Return the bytes of a row in an answer; the answer's own are few for many rows, but more than ten rows may be."""
    return len(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def _check_time(source: Source, schema: pa.Schema) -> None:
    if source.time_column and not pa.types.is_timestamp(schema.field(source.time_column).type):
        raise PostHogSettingsError(
            "time_column",
            f"is {source.time}, which is not a time but {schema.field(source.time_column).type}.",
            "Write a DateTime column.",
        )


def _sample(asker: Asker, source: Source, likely: Piece) -> Result:
    window = likely.window
    try:
        return asker.ask(statements.sample(source, window, likely.rows, likely.begun))
    except PostHogError as error:
        if not is_too_heavy(error):
            raise
        return asker.ask(statements.sample(source, window, 0))


def _columns_of(asker: Asker, source: Source) -> list[str]:
    """Return the columns of the query itself, including those without a name and duplicates."""
    *short, whole = statements.columns_of_query(source)
    for form in short:
        try:
            return _named(asker.ask(form).columns)
        except PostHogValidationError as error:
            if is_too_heavy(error):
                raise
            log.debug("PostHog does not accept the query without its rows (%s): sending it unchanged", error.status)
    return _named(asker.ask(whole).columns)


def _named(columns: list[str]) -> list[str]:
    if not columns or not all(isinstance(name, str) for name in columns):
        raise PostHogTransportError("PostHog's answer does not say what its columns are")
    if own := [name for name in columns if is_own(name)]:
        raise PostHogSettingsError(
            "query", f"has a column {own[0]}, a name that the reader uses itself.", "Write AS with another name."
        )
    if twice := [name for name, times in Counter(columns).items() if times > 1]:
        raise PostHogSettingsError(
            "query",
            f"has several columns of one name, of which only one would be read: {_listed(twice)}.",
            "Write AS with a name of its own for each.",
        )
    return columns


def _check_same(names: list[str], shown: list[str]) -> None:
    """Compare a query's columns with those of ``*`` over it, which leaves out what has no name."""
    if names == shown:
        return
    lost = [name for name in names if name not in shown]
    raise PostHogSettingsError(
        "query",
        f"has columns without a name, which would not be read: {_listed(lost)}."
        if lost
        else f"has other columns ({len(names)}) than are read of it ({len(shown)}).",
        "Write AS with a name for each column.",
    )


def _listed(names: list[str]) -> str:
    """List columns for an error: an expression without a name may hold a text, which may be personal."""
    return clean(", ".join(_TEXT.sub("'...'", name)[:60] for name in names[:10]))
