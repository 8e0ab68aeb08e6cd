"""Read sources on older servers without the columns that those lack."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import replace

from airflow_provider_posthog.exceptions import PostHogValidationError
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.results.heaviness import is_too_heavy

log = logging.getLogger(__name__)

#: How HogQL names a column that it does not know.
_UNKNOWN = re.compile(r"(?:resolve field|field not found|unknown field)\W+(\w+)", re.IGNORECASE)


def of_older_server(asker: Asker, source: Source) -> Source | None:
    """Return a source without the columns that a server lacks, after it refused a query.

    :param asker: asks PostHog.
    :param source: what was refused.
    :returns: the source as this server has it; ``None`` if it has all of its columns, so that something else was wrong.
    :raises PostHogError: if PostHog cannot be asked.
    """
    lacking: set[str] = set()
    left = [*source.newer]
    while left and (unknown := _unknown(asker, source, left)):
        lacking |= unknown
        left = [name for name in left if name not in lacking]
    if not lacking:
        return None
    log.warning(
        "PostHog: this server is older, and has no %s in %s. Rows of %s come without it",
        ", ".join(sorted(lacking)),
        source.newer_in or source.table,
        source.name,
    )
    return without(source, lacking)


def without(source: Source, lacking: Collection[str]) -> Source:
    """Return a source that asks for none of some columns.

    :param source: the source.
    :param lacking: names of its :attr:`~.sources.Source.newer` columns.
    """
    table, columns = source.table, dict(source.columns)
    for name in lacking:
        here, elsewhere = source.newer[name]
        table = table.replace(here, elsewhere) if source.newer_in else table
        columns = {column: elsewhere if hogql == here else hogql for column, hogql in columns.items()}
    left = {name: both for name, both in source.newer.items() if name not in lacking}
    return replace(source, table=table, columns=columns, newer=left)


def _unknown(asker: Asker, source: Source, names: Collection[str]) -> set[str]:
    """Return columns that the server does not know: one that it names, or all of them where it names none."""
    try:
        asker.ask(_question(source, names))
    except PostHogValidationError as error:
        if is_too_heavy(error):
            raise
        match = _UNKNOWN.search(error.detail or "")
        if match is not None and match[1] in names:
            return {match[1]}
        return {name for name in names if _is_refused(asker, source, name)} if len(names) > 1 else {*names}
    return set()


def _is_refused(asker: Asker, source: Source, name: str) -> bool:
    try:
        asker.ask(_question(source, [name]))
    except PostHogValidationError as error:
        if is_too_heavy(error):
            raise
        return True
    return False


def _question(source: Source, names: Collection[str]) -> Statement:
    table = source.newer_in or source.table
    return Statement(f"SELECT {', '.join(names)} FROM {table} WHERE 1 = 2 LIMIT 1", {})  # noqa: S608 - our own names
