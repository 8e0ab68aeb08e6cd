"""Count the events that a reading with ``scan_back`` leaves out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogTransportError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.extract.windows import Window, iso

_END = " LIMIT 1"
_SECOND = timedelta(seconds=1)


def count(settings: ClientSettings, source: Source, window: Window, since: datetime, length: timedelta) -> int:
    """Count the rows of a window that ``scan_back`` leaves out; nothing narrows that scan, so ask rarely.

    :param settings: where the project is, and with which key.
    :param source: the events, with a ``scan`` and a ``scan_back``.
    :param window: the window: what was read, or all of the day that it ends.
    :param since: from where on the last reading has read.
    :param length: how far the next one will begin behind it, as earlier ones began before it.
    :raises PostHogError: if PostHog cannot be asked, or it is too much for one query.
    """
    asker = Asker(settings, 1)
    try:
        result = asker.ask(statement(source, window, since, length))
    finally:
        asker.close()
    try:
        ((rows,),) = result.rows
        return int(str(rows))
    except (TypeError, ValueError):
        raise PostHogTransportError("PostHog's answer to how many events are left out cannot be read") from None


def statement(source: Source, window: Window, since: datetime, length: timedelta) -> Statement:
    """Count the rows of a window that ``scan_back`` leaves out: ``counted``.

    What was read leaves out what happened more than that before its own beginning, and each earlier reading of a
    shorter interval what happened more than that before its beginning, which is earlier.

    :param source: the events, with a ``scan`` and a ``scan_back``.
    :param window: the window.
    :param since: from where on the last reading has read.
    :param length: how far the readings begin behind one another.
    """
    back = source.scan_back or timedelta(0)
    whole = statements.total(replace(source, scan_from=None), window)
    scan, time = f"{source.table}.{source.scan}", f"{source.table}.{source.time}"
    where = [f"{scan} < toDateTime({{window_left_out}})"]
    values = {**whole.values, "window_left_out": iso(max(EPOCH, since - back))}
    if window.start < since:
        step = max(1, length // _SECOND)
        first = int(since.timestamp()) - -(-(since - window.start) // (step * _SECOND)) * step
        behind = f"modulo(minus(toUnixTimestamp({time}), {first}), {step})"
        begun = f"minus(toStartOfSecond({time}), toIntervalSecond(plus({behind}, {back // _SECOND})))"
        where.append(f"({time} >= toDateTime({{window_left_since}}) OR {scan} < {begun})")
        values["window_left_since"] = iso(since)
    return Statement(f"{whole.sql.removesuffix(_END)} AND {' AND '.join(where)}{_END}", values)
