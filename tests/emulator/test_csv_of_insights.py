"""The emulator's CSV of insights, by which our tables are judged, by genuine answers and the rules of PostHog's own."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from airflow_provider_posthog.emulator.jobs.csv_writer import write_csv
from airflow_provider_posthog.emulator.jobs.runner import to_table
from airflow_provider_posthog.results.insight_tables import table_of
from tests.contract.replay import RECORDINGS

#: What a server of October 2024 answered, with its result.
GENUINE = ("insights.retrieve_refresh", "insights.retrieve_cached_after_refresh", "insights.trend")


def written(results: Any, **answer: Any) -> list[dict[str, str]]:
    text = write_csv(to_table({"results": results, **answer}, 300_000)).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("case", GENUINE)
def test_a_genuine_trend_is_one_line_with_a_column_for_each_day(case: str) -> None:
    """The heading of each is PostHog's own label, as in ``1-Apr-2022``; and our table has the same numbers."""
    answer: Any = RECORDINGS[case].body
    result = answer["result"]
    rows = written(result)
    assert len(rows) == len(result) > 0
    ours = table_of({**answer, "query": answer.get("query") or {"kind": "TrendsQuery"}})
    for row, item in zip(rows, result, strict=True):
        assert list(row) == ["series", *item["labels"]]
        assert row["series"] == item["label"]
        assert [float(row[label]) for label in item["labels"]] == item["data"]
    dates, values = ours.columns.index("date"), ours.columns.index("value")
    assert [(cells[dates][:10], cells[values]) for cells in ours.rows] == [
        (day, value) for item in result for day, value in zip(item["days"], item["data"], strict=True)
    ]


LINE: dict[str, Any] = {
    "action": {"id": "$pageview", "order": 0, "name": "$pageview", "custom_name": "Views"},
    "label": "Views",
    "labels": ["1-Apr-2022", "2-Apr-2022"],
    "days": ["2022-04-01", "2022-04-02"],
    "data": [3, 0],
    "filter": {"breakdown": "$browser"},
}


def test_columns_of_a_trend_by_posthogs_rules() -> None:
    """``series``, ``custom name``, one for each property of a breakdown, then the dates; a period behind the series."""
    other = {**LINE, "breakdown_value": "$$_posthog_breakdown_other_$$", "label": "Other (i.e. all remaining values)"}
    (row,) = written([{**other, "compare_label": "previous"}])
    assert row == {
        "series": "Other (i.e. all remaining values) - previous",
        "custom name": "Views",
        "$browser": "Other (i.e. all remaining values)",
        "1-Apr-2022": "3",
        "2-Apr-2022": "0",
    }
    total = {**LINE, "data": [], "days": [], "labels": [], "aggregated_value": 7}
    assert written([total]) == [{"series": "Views", "custom name": "Views", "Total Sum": "7"}]


def test_columns_of_a_funnel_by_posthogs_rules() -> None:
    step = {"action_id": "paid", "name": "paid", "custom_name": None, "order": 0, "count": 5, "breakdown_value": ["EU"]}
    step |= {"median_conversion_time": 2.5, "average_conversion_time": 3.0}
    assert written([[step]]) == [
        {
            "name": "paid",
            "breakdown_value": "EU",
            "action_id": "paid",
            "count": "5",
            "median_conversion_time (seconds)": "2.5",
            "average_conversion_time (seconds)": "3.0",
        }
    ]


def test_columns_of_a_retention_by_posthogs_rules() -> None:
    values = [{"label": "Day 0", "count": 4}, {"label": "Day 1", "count": 1}]
    (row,) = written([{"date": "2022-04-01T00:00:00Z", "values": values}])
    assert list(row) == ["cohort", "cohort size", "Day 0", "Day 1"]
    assert (row["cohort size"], row["Day 1"]) == ("4", "1")
