"""The current numbers of an insight: a trend's newest complete point, a cell of SQL, a step of a funnel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from airflow_provider_posthog.api import insight_cells
from airflow_provider_posthog.api.insight_series import (
    KINDS,
    Number,
    Pick,
    Reading,
    calculated_at,
    chosen,
    number,
    of_series,
    refuse,
)
from airflow_provider_posthog.api.insights import Insight, runnable_query
from airflow_provider_posthog.exceptions import clean

__all__ = ["Number", "Pick", "Reading", "kind_of", "newest", "number", "readings"]


def newest(insight: Insight, series: int | str, at: datetime | None) -> Reading:
    """Return an insight's newest value; as :func:`readings`, of one series.

    :param insight: PostHog's answer, with its result.
    :param series: which series of a trend: its number, from 0, or its name.
    :param at: the server's time when it answered, if known.
    :raises PostHogSettingsError: if there is no such number in an insight of this kind.
    """
    return readings(insight, Pick(series), at)[0]


def readings(insight: Insight, pick: Pick, at: datetime | None) -> list[Reading]:
    """Return an insight's newest values.

    Of a trend: the newest point whose interval had ended when PostHog calculated it, by PostHog's clock and in the
    project's time zone, and that the range does not cut. Of a trend shown as one total: that total, up to the time it
    was calculated. Of a funnel: a step. Of a retention: a cell. Of SQL: a cell.

    :param insight: PostHog's answer, with its result.
    :param pick: which of its numbers.
    :param at: the server's time when it answered, if known.
    :returns: one for each selected series; one without a value if there is none now.
    :raises PostHogSettingsError: if there are no such numbers in an insight of this kind.
    """
    query = runnable_query(insight)
    kind = kind_of(insight)
    if kind == "HogQLQuery":
        return [insight_cells.cell(insight, pick)]
    asked_query: Mapping[str, Any] = query or insight.get("filters") or {}
    if kind == "RetentionQuery":
        return insight_cells.retention(insight, asked_query, pick, calculated_at(insight, at), at)
    if kind == "FunnelsQuery" and not insight_cells.is_dated_funnel(asked_query):
        return insight_cells.funnel(insight, asked_query, pick, calculated_at(insight, at), at)
    if kind not in ("TrendsQuery", "LifecycleQuery", "FunnelsQuery"):
        refuse("insight", f"is a {clean(kind)}.", KINDS)
    series = chosen(insight.get("result"), pick.series)
    if isinstance(series, Reading):
        return [series]
    made = [of_series(insight, asked_query, item, at, named=len(series) > 1 or pick.series is None) for item in series]
    return [replace(reading, percent=True) for reading in made] if kind == "FunnelsQuery" else made


def kind_of(insight: Insight) -> str:
    """Return the kind of an insight's query, also of one that only has legacy ``filters``.

    :param insight: PostHog's answer.
    """
    query = runnable_query(insight)
    if query:
        return str(query["kind"])
    filters = insight.get("filters") or {}
    return f"{str(filters.get('insight') or 'TRENDS').title()}Query"
