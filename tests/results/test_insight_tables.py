"""Tables of insights: every shape that PostHog gives a result, and columns that do not depend on the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.results.insight_tables import Table, table_of

ACTION = {"id": "$pageview", "type": "events", "order": 0, "name": "$pageview", "custom_name": None, "math": "total"}
LINE = {
    "action": ACTION,
    "label": "$pageview",
    "count": 3.0,
    "data": [1, 2.5],
    "labels": ["1-Nov-2026", "2-Nov-2026"],
    "days": ["2026-11-01", "2026-11-02"],
}
STEP = {"action_id": "sign up", "name": "sign up", "custom_name": None, "order": 0, "people": [], "count": 5}
FUNNEL = [
    {**STEP, "average_conversion_time": None, "median_conversion_time": None},
    {
        **{**STEP, "action_id": "buy", "name": "buy", "custom_name": "Paid", "order": 1, "count": 2},
        "average_conversion_time": 10.5,
        "median_conversion_time": 9,
    },
]
COHORTS = [
    {
        "values": [{"count": 4, "label": "Day 0"}, {"count": 0.0, "label": "Day 1"}],
        "label": "Day 0",
        "date": "2026-11-01T00:00:00Z",
        "breakdown_value": None,
    },
    {"values": [{"count": 2, "label": "Day 0"}], "label": "Day 1", "date": "2026-11-02T00:00:00Z"},
]


def table(kind: str, result: Any, **options: Any) -> Table:
    """Make the table of an insight as PostHog saves it: its query in a node that says how it is shown."""
    query = {"kind": "InsightVizNode", "source": {"kind": kind, **options}}
    return table_of({"query": query, "result": result})


def dicts(made: Table) -> list[dict[str, Any]]:
    assert all(len(row) == len(made.columns) for row in made.rows)
    return [dict(zip(made.columns, row, strict=True)) for row in made.rows]


def test_a_trend_is_long() -> None:
    made = table("TrendsQuery", [LINE, {**LINE, "action": {**ACTION, "order": 1, "custom_name": "Views"}}])
    assert made.columns == ("series_order", "series", "date", "value")
    assert made.rows == [
        (0, "$pageview", "2026-11-01", 1),
        (0, "$pageview", "2026-11-02", 2.5),
        (1, "Views", "2026-11-01", 1),
        (1, "Views", "2026-11-02", 2.5),
    ]
    assert made.types == [
        ["series_order", "Nullable(Int64)"],
        ["series", "Nullable(String)"],
        ["date", "Nullable(String)"],
        ["value", "Nullable(Float64)"],
    ]


def test_hours_and_formulas() -> None:
    item = {**LINE, "action": None, "label": "Formula (A+B)", "days": ["2026-11-01 05:00:00", "2026-11-01 06:00:00"]}
    assert table("TrendsQuery", [item], interval="hour").rows[0] == (None, "Formula (A+B)", "2026-11-01T05:00:00", 1)


def test_a_breakdown_and_a_comparison() -> None:
    options = {"breakdownFilter": {"breakdown": "$browser"}, "compareFilter": {"compare": True}}
    items = [
        {**LINE, "breakdown_value": "Chrome", "label": "Chrome", "compare_label": "current"},
        {**LINE, "breakdown_value": "$$_posthog_breakdown_null_$$", "label": "None", "compare_label": "previous"},
        {**LINE, "breakdown_value": 7, "label": "7", "compare_label": "previous"},
    ]
    made = table("TrendsQuery", items, **options)
    assert made.columns == ("series_order", "series", "breakdown", "compare", "date", "value")
    assert [row[1:4] for row in made.rows[::2]] == [
        ("$pageview", "Chrome", "current"),
        ("$pageview", "None (i.e. no value)", "previous"),
        ("$pageview", "7", "previous"),
    ]
    assert table("TrendsQuery", [], **options).columns == made.columns, "the columns do not wait for rows"


@pytest.mark.parametrize("where", ["breakdowns", "breakdown"])
def test_several_breakdowns(where: str) -> None:
    options = {"breakdownFilter": {where: [{"property": "$browser"}, {"property": "$os"}]}}
    items = [{**LINE, "breakdown_value": ["Chrome", "$$_posthog_breakdown_null_$$"]}, {**LINE, "breakdown_value": "x"}]
    made = table("TrendsQuery", items, **options)
    assert made.columns == ("series_order", "series", "breakdown_1", "breakdown_2", "date", "value")
    assert [row[2:4] for row in made.rows[::2]] == [("Chrome", "None (i.e. no value)"), ("x", None)]


def test_a_list_of_cohorts_is_one_breakdown() -> None:
    made = table("TrendsQuery", [], breakdownFilter={"breakdown": [3, 4], "breakdown_type": "cohort"})
    assert made.columns == ("series_order", "series", "breakdown", "date", "value")


def test_totals_have_no_dates() -> None:
    total = {**LINE, "data": [], "days": [], "labels": [], "aggregated_value": 42}
    for made in (
        table("TrendsQuery", [total], trendsFilter={"display": "BoldNumber"}),
        table("TrendsQuery", [{**LINE, "aggregated_value": 42}], trendsFilter={"display": "ActionsTable"}),
        table("TrendsQuery", [total]),
    ):
        assert made.columns == ("series_order", "series", "value")
        assert made.rows == [(0, "$pageview", 42)]


def test_lifecycle_and_stickiness() -> None:
    lifecycle = table("LifecycleQuery", [{**LINE, "label": "$pageview - new", "status": "new"}])
    assert dicts(lifecycle)[0] == {
        "series_order": 0,
        "series": "$pageview",
        "status": "new",
        "date": "2026-11-01",
        "value": 1,
    }
    stickiness = table("StickinessQuery", [{**LINE, "days": [1, 2], "labels": ["1 day", "2 days"]}])
    assert stickiness.columns == ("series_order", "series", "interval", "value")
    assert stickiness.rows == [(0, "$pageview", 1, 1), (0, "$pageview", 2, 2.5)]


def test_a_funnel() -> None:
    made = table("FunnelsQuery", FUNNEL)
    times = ("average_conversion_seconds", "median_conversion_seconds")
    assert made.columns == ("step", "name", "count", *times, "conversion_rate", "conversion_rate_from_previous")
    assert made.rows == [(1, "sign up", 5, None, None, 100.0, 100.0), (2, "Paid", 2, 10.5, 9, 40.0, 40.0)]
    assert table("FunnelsQuery", []).columns == made.columns


def test_a_funnel_with_a_breakdown_is_a_list_of_lists() -> None:
    groups = [[{**step, "breakdown_value": [browser]} for step in FUNNEL] for browser in ("Chrome", "Safari")]
    made = table("FunnelsQuery", groups, breakdownFilter={"breakdown": "$browser"})
    assert made.columns[:3] == ("breakdown", "step", "name")
    assert [row[:2] for row in made.rows] == [("Chrome", 1), ("Chrome", 2), ("Safari", 1), ("Safari", 2)]
    older = [[{**step, "breakdown_value": "Chrome"} for step in FUNNEL]]
    assert table("FunnelsQuery", older).rows[0][:2] == ("Chrome", 1)


def test_a_funnel_over_time() -> None:
    options = {"funnelsFilter": {"funnelVizType": "trends"}}
    item = {"count": 2, "data": [10.0, 0.0], "days": ["2026-11-01", "2026-11-02"], "labels": ["1-Nov-2026", "2-Nov"]}
    assert table("FunnelsQuery", [item], **options).rows == [("2026-11-01", 10.0), ("2026-11-02", 0.0)]
    broken_down = table("FunnelsQuery", [{**item, "breakdown_value": ["Chrome"]}], **options)
    assert broken_down.columns == ("breakdown", "date", "conversion_rate")
    assert table("FunnelsQuery", [], **options).columns == ("date", "conversion_rate")


def test_a_funnel_by_its_time() -> None:
    result = {"bins": [[0, 3], [60, 1]], "average_conversion_time": 12.0}
    options = {"funnelsFilter": {"funnelVizType": "time_to_convert"}}
    made = table("FunnelsQuery", result, **options)
    assert (made.columns, made.rows) == (("bin_seconds", "count"), [(0, 3), (60, 1)])
    compared = table("FunnelsQuery", [{**result, "compare_label": name} for name in ("current", "previous")], **options)
    assert compared.rows[::2] == [("current", 0, 3), ("previous", 0, 3)]


def test_retention() -> None:
    made = table("RetentionQuery", COHORTS)
    assert dicts(made) == [
        {"cohort": "2026-11-01", "cohort_size": 4, "period": 0, "period_label": "Day 0", "count": 4},
        {"cohort": "2026-11-01", "cohort_size": 4, "period": 1, "period_label": "Day 1", "count": 0},
        {"cohort": "2026-11-02", "cohort_size": 2, "period": 0, "period_label": "Day 0", "count": 2},
    ]
    assert all(type(row[4]) is int for row in made.rows), "newer servers write 0.0 where nobody came back"


def test_retention_by_breakdown_and_by_value() -> None:
    options = {"breakdownFilter": {"breakdowns": [{"property": "$browser"}, {"property": "$os"}]}}
    cohort = {**COHORTS[0], "values": [{"count": 1, "aggregation_value": 2.5}], "breakdown_value": "Chrome::macOS"}
    made = table("RetentionQuery", [cohort], **options)
    assert made.columns[:3] == ("breakdown_1", "breakdown_2", "cohort")
    assert made.columns[-1] == "aggregation_value"
    assert made.rows == [("Chrome", "macOS", "2026-11-01", 1, 0, None, 1, 2.5)]


def test_sql_keeps_its_columns() -> None:
    query = {"kind": "DataVisualizationNode", "source": {"kind": "HogQLQuery", "query": "..."}}
    answer = {
        "query": query,
        "result": [["a", 1, [1, "x"], {"b": None}, True, None]],
        "columns": ["event", "n", "list", "map", "n", "n_2"],
        "types": [
            ["event", "String"],
            ["n", "UInt64"],
            ["list", "Array(String)"],
            ["map", "Map"],
            ["n", "Bool"],
            ["", "x"],
        ],
    }
    made = table_of(answer)
    assert made.columns == ("event", "n", "list", "map", "n_2", "n_2_2"), "no name twice"
    assert made.rows == [("a", 1, '[1,"x"]', '{"b":null}', True, None)]
    assert made.types is not None
    assert [name for name, _ in made.types] == list(made.columns)
    empty = table_of({**answer, "result": []})
    assert (empty.columns, empty.rows) == (made.columns, [])


def test_an_answer_of_a_query() -> None:
    answer = {"results": [[1]], "columns": None, "types": None, "query": {"kind": "HogQLQuery", "query": "select 1"}}
    assert (table_of(answer).columns, table_of(answer).types) == (("column_0",), None)
    events = {"results": [[{"uuid": "u"}, "a"]], "columns": ["*", "event"], "types": ["Tuple(UUID)", "String"]}
    made = table_of({**events, "query": {"kind": "EventsQuery", "select": ["*", "event"]}})
    assert made.rows == [('{"uuid":"u"}', "a")]
    assert made.types == [["*", "Tuple(UUID)"], ["event", "String"]]


@pytest.mark.parametrize(
    ("filters", "result", "columns"),
    [
        ({"insight": "TRENDS", "events": []}, [LINE], ("series_order", "series", "date", "value")),
        (
            {"insight": "TRENDS", "display": "BoldNumber", "breakdown": "x"},
            [],
            ("series_order", "series", "breakdown", "value"),
        ),
        ({"insight": "FUNNELS", "funnel_viz_type": "trends"}, [], ("date", "conversion_rate")),
        ({"insight": "RETENTION"}, COHORTS, ("cohort", "cohort_size", "period", "period_label", "count")),
    ],
)
def test_insights_of_the_first_years(filters: dict[str, Any], result: list[Any], columns: tuple[str, ...]) -> None:
    assert table_of({"query": None, "filters": filters, "result": result}).columns == columns


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("PathsQuery", [{"source": "1_a", "target": "2_b", "value": 1}]),
        ("WebOverviewQuery", [{"key": "views", "value": 1}]),
        ("TrendsQuery", {"unexpected": 1}),
        ("TrendsQuery", ["text"]),
        ("TrendsQuery", [{"data": [1], "days": []}]),
        ("TrendsQuery", [{"data": [1], "days": [None]}]),
        ("FunnelsQuery", [{"count": 1}]),
        ("FunnelsQuery", {"result": 1}),
        ("RetentionQuery", [{"label": "Day 0"}]),
        ("HogQLQuery", [[1, 2], [3]]),
        ("HogQLQuery", {"a": 1}),
    ],
)
def test_what_has_no_table_says_to_write_json(kind: str, result: Any) -> None:
    with pytest.raises(PostHogSettingsError, match=r"(?s)^path: .*" + kind + r".*\.json") as caught:
        table_of({"query": {"kind": kind}, "result": result}, field="path")
    assert caught.value.field == "path"


def test_an_insight_without_a_result() -> None:
    with pytest.raises(PostHogIncompleteError, match="no result"):
        table_of({"query": {"kind": "TrendsQuery"}, "result": None})


VIEWS = {"kind": "EventsNode", "event": "$pageview"}


@pytest.mark.parametrize(
    ("node", "value"),
    [
        ({"kind": "TrendsQuery", "series": [VIEWS], "breakdownFilter": {"breakdown": "$browser"}}, "value"),
        ({"kind": "TrendsQuery", "series": [VIEWS], "trendsFilter": {"display": "BoldNumber"}}, "value"),
        ({"kind": "FunnelsQuery", "series": [VIEWS, VIEWS], "breakdownFilter": {"breakdown": "$browser"}}, "count"),
        ({"kind": "RetentionQuery", "retentionFilter": {"totalIntervals": 3}}, "count"),
        ({"kind": "HogQLQuery", "query": "select event, count() as n, groupArray(1) from events group by event"}, "n"),
    ],
)
def test_answers_of_a_server(posthog: EmulatorProcess, node: dict[str, Any], value: str) -> None:
    settings = ClientSettings(base_url=posthog.url, api_key=posthog.api_key, project_id=1)
    with Client(settings) as client:
        answer = client.send(queries.start(node, refresh="force_blocking"))
    made = table_of({**answer, "query": node})
    numbers = [row[value] for row in dicts(made)]
    assert sum(numbers) > 10
    assert made.types is not None
    assert [name for name, _ in made.types] == list(made.columns)


def test_cells_are_scalars() -> None:
    for made in (table("TrendsQuery", [LINE]), table("FunnelsQuery", FUNNEL), table("RetentionQuery", COHORTS)):
        assert json.loads(json.dumps(made.rows)) == [list(row) for row in made.rows]
        assert not any(isinstance(cell, (list, dict)) for row in made.rows for cell in row)


def test_numbers_with_a_fraction_keep_it_in_parquet(tmp_path: Path) -> None:
    """They are counts by rule; sampling and newer servers make parts of them."""
    cohort = {**COHORTS[0], "values": [{"count": 12.75, "label": "Day 0"}]}
    tables = (
        (table("RetentionQuery", [cohort]), "count", 12.75),
        (table("FunnelsQuery", [{**FUNNEL[0], "count": 2.5}]), "count", 2.5),
        (
            table("FunnelsQuery", {"bins": [[0, 2.25]]}, funnelsFilter={"funnelVizType": "time_to_convert"}),
            "count",
            2.25,
        ),
    )
    pq = pytest.importorskip("pyarrow.parquet")
    from airflow_provider_posthog.results.files import write_result
    from airflow_provider_posthog.storage.atomic_file import AtomicFile

    for number, (made, column, expected) in enumerate(tables):
        path = tmp_path / f"{number}.parquet"
        with AtomicFile(LocalFileSystem(), str(path), token="t") as atomic:
            write_result(atomic, None, lambda made=made: made, "parquet")
            atomic.commit()
        assert pq.read_table(path).column(column).to_pylist() == [expected]
    whole = table("FunnelsQuery", [{**FUNNEL[0], "count": 2.0}])
    assert (whole.rows[0][2], whole.types[2]) == (2, ["count", "Nullable(Int64)"])  # type: ignore[index]


def test_a_cohorts_day_is_that_of_a_trend() -> None:
    """They are joined."""
    for told, zone, expected in (
        ("2026-11-23T00:00:00-05:00", "America/New_York", "2026-11-23"),
        ("2026-11-23T05:00:00Z", "America/New_York", "2026-11-23"),
        ("2026-11-23T00:00:00-05:00", None, "2026-11-23"),
        ("2026-11-23T07:00:00", "UTC", "2026-11-23T07:00:00"),
    ):
        made = table_of(
            {"query": {"kind": "RetentionQuery"}, "result": [{**COHORTS[0], "date": told}], "timezone": zone}
        )
        assert dicts(made)[0]["cohort"] == expected


def test_breakdowns_are_called_as_posthog_calls_them() -> None:
    nobody = {**LINE, "breakdown_value": "$$_posthog_breakdown_null_$$", "label": "x"}
    assert dicts(table("TrendsQuery", [nobody]))[0]["breakdown"] == "None (i.e. no value)"
    several = {**LINE, "breakdown_value": ["Chrome", "$$_posthog_breakdown_null_$$"], "label": "x"}
    assert dicts(table("TrendsQuery", [several]))[0]["breakdown_2"] == "None (i.e. no value)"
    others = {**LINE, "breakdown_value": "$$_posthog_breakdown_other_$$", "label": "Other"}
    assert dicts(table("TrendsQuery", [others]))[0]["breakdown"] == "Other (i.e. all remaining values)"
    cohorts = [{**LINE, "breakdown_value": 5, "label": "Power users"}]
    made = table("TrendsQuery", cohorts, breakdownFilter={"breakdown": [5], "breakdown_type": "cohort"})
    assert dicts(made)[0]["breakdown"] == "Power users"
    cohorts = [{**LINE, "breakdown_value": 5, "label": "$pageview - Power users - previous"}]
    made = table("TrendsQuery", cohorts, breakdownFilter={"breakdown": [5], "breakdown_type": "cohort"})
    assert dicts(made)[0]["breakdown"] == "Power users"
    formula = {**LINE, "action": None, "label": "Chrome", "breakdown_value": "Chrome"}
    made = table("TrendsQuery", [formula], trendsFilter={"formula": "A / B"}, breakdownFilter={"breakdown": "$browser"})
    assert (dicts(made)[0]["series"], dicts(made)[0]["breakdown"]) == ("A / B", "Chrome")


@pytest.mark.parametrize(
    ("node", "result", "more"),
    [
        ({"trendsFilter": {"display": "BoxPlot"}}, [], {}),
        ({"trendsFilter": {"display": "CalendarHeatmap"}}, [], {}),
        ({}, [], {"boxplot_data": [{"min": 1}]}),
        ({}, [{"data": [], "days": [], "label": "x", "calendar_heatmap_data": {}}], {}),
    ],
)
def test_displays_without_points_have_no_table(node: dict[str, Any], result: list[Any], more: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError, match=r"\.json"):
        table_of({"query": {"kind": "TrendsQuery", **node}, "result": result, **more})


def test_json_that_is_none_is_refused(tmp_path: Path) -> None:
    from airflow_provider_posthog.exceptions import PostHogTransportError
    from airflow_provider_posthog.results.files import write_result
    from airflow_provider_posthog.storage.atomic_file import AtomicFile

    for kind in ("json", "jsonl"):
        bad = float("nan")
        with (
            AtomicFile(LocalFileSystem(), str(tmp_path / "x"), token="t") as atomic,
            pytest.raises(PostHogTransportError, match="NaN"),
        ):
            write_result(atomic, [bad], lambda: Table(("n",), [(float("inf"),)]), kind)  # type: ignore[arg-type]


def test_one_long_table_of_many_insights() -> None:
    from airflow_provider_posthog.results.insight_long import COLUMNS, long_table

    def insight(number: int, kind: str, result: Any, **node: Any) -> dict[str, Any]:
        return {
            "id": number,
            "short_id": f"s{number}",
            "name": f"n{number}",
            "result": result,
            "query": {"kind": kind, **node},
        }

    total = {**LINE, "data": [], "days": [], "aggregated_value": 42}
    made, without = long_table(
        [
            insight(1, "TrendsQuery", [{**LINE, "breakdown_value": ["Chrome", "macOS"], "compare_label": "previous"}]),
            insight(2, "TrendsQuery", [total]),
            insight(3, "FunnelsQuery", FUNNEL),
            insight(4, "RetentionQuery", COHORTS),
            insight(5, "LifecycleQuery", [{**LINE, "label": "x", "status": "new"}]),
            insight(6, "HogQLQuery", [[1]]),
            insight(7, "PathsQuery", []),
            insight(8, "TrendsQuery", {"a": 1}),
        ]
    )
    assert made.columns == COLUMNS == ("insight_id", "short_id", "insight", "series", "breakdown", "date", "value")
    rows = dicts(made)
    first = {name: rows[0][name] for name in COLUMNS[3:]}
    assert first == {"series": "$pageview - previous", "breakdown": "Chrome :: macOS", "date": "2026-11-01", "value": 1}
    by_insight = {number: [row for row in rows if row["insight_id"] == number] for number in range(1, 9)}
    assert [row["value"] for row in by_insight[2]] == [42]
    assert [row["series"] for row in by_insight[3]] == ["sign up", "Paid"]
    assert by_insight[4][1]["series"] == "Day 1"
    assert by_insight[5][0]["series"].endswith(" - new")
    assert sorted(without) == [6, 7, 8]
    assert all(isinstance(row["value"], float) for row in rows)
