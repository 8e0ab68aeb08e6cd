"""Our tables of insights have PostHog's own numbers: those of its CSV, one by one."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.results.insight_tables import Table, table_of

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


def _by_date(made: Table) -> dict[tuple[int, str], float]:
    """Return our numbers by the place of the series in the answer, and the date."""
    names = [name for name in made.columns if name not in ("date", "value")]
    date, value = made.columns.index("date"), made.columns.index("value")
    places: dict[tuple[Any, ...], int] = {}
    found: dict[tuple[int, str], float] = {}
    for row in made.rows:
        of = tuple(row[made.columns.index(name)] for name in names)
        found[places.setdefault(of, len(places)), row[date]] = float(row[value])
    assert len(found) == len(made.rows), "each cell is there once"
    return found


def _by_date_in_csv(text: str) -> dict[tuple[int, str], float]:
    header, *rows = list(csv.reader(io.StringIO(text, newline="")))
    found: dict[tuple[int, str], float] = {}
    for place, row in enumerate(rows):
        for name, cell in zip(header, row, strict=True):
            # The days of the other period have no cells in this one's line.
            if cell and re.fullmatch(r"\d{1,2}-[A-Z][a-z]{2}-\d{4}", name):
                found[place, str(datetime.strptime(name, "%d-%b-%Y").date())] = float(cell)
    return found


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
            if "date" in made.columns:  # in the CSV, a column is where its date was first named, by either period
                assert sorted(ours) == pytest.approx(sorted(_numbers(text, node["kind"]))), node
                assert _by_date(made) == pytest.approx(_by_date_in_csv(text)), node
            else:
                assert ours == pytest.approx(_numbers(text, node["kind"])), node
            compared += 1
    assert compared == 60
