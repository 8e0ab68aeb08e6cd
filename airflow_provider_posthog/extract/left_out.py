"""Count the events that a reading with ``scan_back`` leaves out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogTransportError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.extract.windows import Window, iso

_END = " LIMIT 1"


def count(settings: ClientSettings, source: Source, window: Window, before: datetime) -> int:
    """Count the rows of a window that happened before a moment; nothing narrows that scan, so ask rarely.

    :param settings: where the project is, and with which key.
    :param source: the events, with a ``scan``.
    :param window: the window.
    :param before: the moment.
    :raises PostHogError: if PostHog cannot be asked, or it is too much for one query.
    """
    asker = Asker(settings, 1)
    try:
        result = asker.ask(statement(source, window, before))
    finally:
        asker.close()
    try:
        ((rows,),) = result.rows
        return int(str(rows))
    except (TypeError, ValueError):
        raise PostHogTransportError("PostHog's answer to how many events are left out cannot be read") from None


def statement(source: Source, window: Window, before: datetime) -> Statement:
    """Count the rows of a window that happened before a moment: ``counted``.

    :param source: the events, with a ``scan``.
    :param window: the window.
    :param before: the moment.
    """
    whole = statements.total(replace(source, scan_from=None), window)
    older = f" AND {source.table}.{source.scan} < toDateTime({{window_left_out}})"
    values = {**whole.values, "window_left_out": iso(max(EPOCH, before))}
    return Statement(f"{whole.sql.removesuffix(_END)}{older}{_END}", values)
