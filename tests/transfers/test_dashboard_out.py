"""A dashboard's numbers out of PostHog: one long table, as a file or in a database."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogSettingsError
from tests.load.databases import DuckDB, SQLite
from tests.operators.support import connected, context, finish

__all__ = ["connected"]

TREND = 2
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])


@pytest.fixture(params=["duckdb", "sqlite"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    database = (
        DuckDB(tmp_path / "lake.duckdb", held=True) if request.param == "duckdb" else SQLite(tmp_path / "lake.sqlite")
    )
    connection = {"conn_type": request.param, "host": str(tmp_path / f"lake.{request.param}")}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(connection))
    return database


def to_sql(**options: Any) -> Any:
    from airflow_provider_posthog.transfers.dashboard_to_sql import PostHogDashboardToSqlOperator

    given = {"task_id": "task", "dashboard": 1, "sql_conn_id": "lake", "table": "numbers", "poll_interval": 0.05}
    return PostHogDashboardToSqlOperator(**{"deferrable": False, "timeout": 30, **given, **options})


def to_file(path: str, **options: Any) -> Any:
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator

    given = {"task_id": "task", "dashboard": 1, "combined_path": path, "poll_interval": 0.05, "timeout": 30}
    return PostHogRefreshDashboardOperator(**{"deferrable": False, **given, **options})


def trend(connected: EmulatorProcess) -> list[tuple[str, float]]:
    """The trend's own points, read another way."""
    from airflow_provider_posthog.api import insights
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    found = PostHogHook().send(insights.retrieve(TREND, from_dashboard=1))
    (item,) = found["result"]
    return list(zip(item["days"], map(float, item["data"]), strict=True))


@MODES
def test_the_numbers_of_a_dashboard_are_one_file(connected: EmulatorProcess, tmp_path: Path, deferrable: bool) -> None:
    done = finish(to_file(f"file://{tmp_path}/all.csv", deferrable=deferrable), context())
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["date"], float(row["value"])) for row in rows if row["insight_id"] == str(TREND)] == trend(connected)
    assert done["combined"]["rows"] == len(rows)
    assert done["combined"]["without"] == [1, 3]  # they are SQL
    assert {row["insight"] for row in rows} == {"Pageviews per day"}


@MODES
def test_the_numbers_of_a_dashboard_are_rows_of_a_table(
    connected: EmulatorProcess, lake: Any, deferrable: bool
) -> None:
    done = finish(to_sql(deferrable=deferrable), context())
    expected = trend(connected)
    found = lake.rows("SELECT date, value FROM numbers WHERE insight_id = 2 ORDER BY date")
    assert [tuple(row) for row in found] == expected
    assert done["loaded"] == {"table": "numbers", "rows": len(expected), "deleted": 0, "without": [1, 3]}
    assert json.loads(json.dumps(done)) == done
    again = finish(to_sql(deferrable=deferrable), context(run_id="manual__2"))
    assert (again["loaded"]["rows"], again["loaded"]["deleted"]) == (len(expected), len(expected))
    assert lake.rows("SELECT count(*) FROM numbers")[0][0] == len(expected)


def test_an_insight_that_is_in_neither_table_nor_file_is_warned_of_once(
    connected: EmulatorProcess,
    lake: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    finish(to_sql(combined_path=f"file://{tmp_path}/numbers.csv"), context())
    said = [text.count("Insight 1 is not in the table") for text in (caplog.text, capfd.readouterr().out)]
    assert max(said) == 1  # Airflow 3 writes to standard output, older ones to logging


def test_rows_of_other_insights_stay(connected: EmulatorProcess, lake: Any) -> None:
    finish(to_sql(), context())
    before = lake.rows("SELECT count(*) FROM numbers")[0][0]
    number = _second_board(connected)
    done = finish(to_sql(dashboard=number), context(run_id="manual__2"))
    assert done["loaded"]["deleted"] == 0
    assert lake.rows("SELECT count(*) FROM numbers")[0][0] == before + done["loaded"]["rows"]


def _second_board(connected: EmulatorProcess, **node: Any) -> int:
    from airflow_provider_posthog.api import insights
    from airflow_provider_posthog.api.call import Call, json_object
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    hook = PostHogHook()
    number = hook.send(Call("create", "POST", "dashboards/", json_object, json={"name": "Second"}))["id"]
    query = node or {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}
    hook.send(insights.create(query=query, name="Second", dashboards=[number]))
    return int(number)


def test_if_one_insight_fails_the_table_stays_as_it_is(connected: EmulatorProcess, lake: Any) -> None:
    finish(to_sql(), context())
    before = lake.rows("SELECT count(*) FROM numbers")[0][0]
    number = _second_board(connected, kind="HogQLQuery", query="select nope from events")
    with pytest.raises(PostHogJobFailed, match="nope"):
        finish(to_sql(dashboard=number), context(run_id="manual__2"))
    assert lake.rows("SELECT count(*) FROM numbers")[0][0] == before


@pytest.mark.parametrize(
    ("options", "field"),
    [({"table": " "}, "table"), ({"max_shrink": "much"}, "max_shrink"), ({"sql_conn_id": ""}, "sql_conn_id")],
)
def test_what_cannot_be_loaded_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, lake: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        to_sql(**options).execute(context())
    assert refused.value.field == field
    assert connected.calls() == []


@pytest.mark.parametrize("path", ["s3://bucket/all.json", "s3://bucket/all", "s3://bucket/", ""])
def test_a_path_that_is_no_table_is_refused(connected: EmulatorProcess, path: str) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        to_file(path).execute(context())
    assert refused.value.field == "combined_path"
    assert connected.calls() == []
