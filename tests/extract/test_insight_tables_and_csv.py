"""Our tables of insights have PostHog's own numbers: those of its CSV, one by one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.results.insight_tables import table_of

VIEWS, PAID = ({"kind": "EventsNode", "event": name} for name in ("$pageview", "purchase"))
RANGES = ({"date_from": "-7d"}, {"date_from": "-30d", "date_to": "-1d"}, {"date_from": "-1dStart", "date_to": "-1dEnd"})
TRENDS: tuple[dict[str, Any], ...] = (
    {"series": [VIEWS]},
    {"series": [VIEWS, PAID]},
    {"series": [VIEWS], "breakdownFilter": {"breakdown": "$browser"}},
    {"series": [VIEWS, PAID], "breakdownFilter": {"breakdown": "$browser", "breakdown_limit": 2}},
    {"series": [VIEWS], "compareFilter": {"compare": True}},
    {"series": [VIEWS, PAID], "trendsFilter": {"formula": "B / A * 100"}},
    {"series": [VIEWS, PAID], "trendsFilter": {"formula": "A - B"}, "breakdownFilter": {"breakdown": "$browser"}},
    {"series": [VIEWS, PAID], "trendsFilter": {"display": "BoldNumber"}},
    {"series": [VIEWS], "trendsFilter": {"display": "ActionsTable"}, "breakdownFilter": {"breakdown": "$browser"}},
)
INTERVALS = ("day", "week")


def nodes() -> Iterator[dict[str, Any]]:
    for span in RANGES:
        for interval in INTERVALS:
            for trend in TRENDS:
                yield {"kind": "TrendsQuery", "dateRange": span, "interval": interval, **trend}
        yield {"kind": "FunnelsQuery", "series": [VIEWS, PAID], "dateRange": span}
        yield {"kind": "RetentionQuery", "retentionFilter": {"totalIntervals": 4}, "dateRange": span}


def _numbers(text: str, kind: str) -> list[float]:
    """Return the numbers of PostHog's CSV, row by row."""
    rows = list(csv.reader(io.StringIO(text, newline="")))
    header, found = rows[0], rows[1:]
    if kind == "FunnelsQuery":
        return [float(row[header.index("count")]) for row in found]
    names = ("series", "custom name", "$browser", "cohort", "cohort size")
    return [
        float(cell) for row in found for name, cell in zip(header, row, strict=True) if name not in names and cell != ""
    ]


def test_sixty_insights_number_by_number(posthog: EmulatorProcess) -> None:
    """Each is calculated once for the table, and once by PostHog for its CSV."""
    from airflow_provider_posthog.emulator.jobs.csv_writer import write_csv
    from airflow_provider_posthog.emulator.jobs.runner import to_table

    settings = ClientSettings(base_url=posthog.url, api_key=posthog.api_key, project_id=1, rate_limit_share=0)
    compared = 0
    with Client(settings) as client:
        for node in nodes():
            answer = client.send(queries.start(node, refresh="force_blocking"))
            text = write_csv(to_table(dict(answer), 300_000)).decode()
            made = table_of({**answer, "query": node})
            column = made.columns.index("value" if "value" in made.columns else "count")
            ours = [float(row[column]) for row in made.rows]
            assert ours == pytest.approx(_numbers(text, node["kind"])), node
            compared += 1
    assert compared == 60
