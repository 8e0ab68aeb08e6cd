"""Refreshes bring the numbers that were asked for: of the right dashboard, all of them, and into the right place."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor
from tests.operators.support import context, finish
from tests.support.scripted import Reply, ScriptedServer, error, html, ok

MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
TREND = 2


def refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 20, "deferrable": False}
    return PostHogRefreshInsightOperator(**{**given, **options})


def dashboard_refresh(**options: Any) -> Any:
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator

    given = {"task_id": "task", "poll_interval": 0.05, "timeout": 30, "deferrable": False}
    return PostHogRefreshDashboardOperator(**{**given, **options})


def api(posthog: EmulatorProcess) -> Any:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    return PostHogHook()


def saved(posthog: EmulatorProcess, query: Any, **fields: Any) -> dict[str, Any]:
    from airflow_provider_posthog.api import insights

    made: dict[str, Any] = api(posthog).send(insights.create(query=query, **fields))
    return made


def board(posthog: EmulatorProcess, **fields: Any) -> int:
    from airflow_provider_posthog.api.call import Call, json_object

    return int(
        api(posthog).send(Call("create", "POST", "dashboards/", json_object, json={"name": "B", **fields}))["id"]
    )


def asked(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    """The requests that had something calculated."""
    return [call for call in posthog.calls("/insights/", "GET") if "force_" in json.dumps(call["query"])]


def when(text: Any) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))


def _stamp() -> str:
    return datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _insight(**fields: Any) -> dict[str, Any]:
    now = datetime.now(timezone.utc).isoformat()
    fresh = {"id": 7, "short_id": "abcdefgh", "name": "Signups", "result": [[1]], "is_cached": False}
    return {**fresh, "last_refresh": now, "query_status": None, **fields}


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


# The right dashboard.

ELSEWHERE: dict[str, dict[str, Any]] = {
    "no tiles": {"dashboard_tiles": []},
    "tiles of another": {"dashboard_tiles": [{"id": 1, "dashboard_id": 8, "deleted": None}]},
    "a deleted tile": {"dashboard_tiles": [{"id": 1, "dashboard_id": 9, "deleted": True}]},
    "null beside tiles": {"dashboards": None, "dashboard_tiles": []},
    "both, and neither": {"dashboards": [8], "dashboard_tiles": [{"dashboard_id": 8}]},
    "numbers of another": {"dashboards": [8]},
}


@pytest.mark.parametrize("shape", ELSEWHERE)
def test_a_dashboard_that_does_not_show_it_is_refused_whatever_way_the_server_says_so(
    scripted: ScriptedServer, shape: str
) -> None:
    scripted.script(ok(_insight(is_cached=True, **ELSEWHERE[shape]), Date=_stamp()))
    with pytest.raises(PostHogSettingsError, match="dashboard 9 does not show insight 7") as refused:
        refresh(insight=7, from_dashboard=9).execute({})
    assert refused.value.field == "from_dashboard"
    assert not any("force" in request.path for request in scripted.requests)


@pytest.mark.parametrize("shown", [{}, {"dashboards": [9]}, {"dashboard_tiles": [{"dashboard_id": 9}]}], ids=str)
def test_one_that_does_or_where_the_server_does_not_tell_is_asked_for(
    scripted: ScriptedServer, shown: dict[str, Any]
) -> None:
    before = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z", **shown), Date=_stamp())
    scripted.script(before, before, ok(_insight(**shown), Date=_stamp()))
    assert refresh(insight=7, from_dashboard=9).execute({})["dashboard_id"] == 9


@MODES
def test_what_a_refresh_returned_keeps_its_dashboard(connected: EmulatorProcess, deferrable: bool) -> None:
    first = refresh(insight=TREND, from_dashboard=1).execute(context())
    again = finish(refresh(insight=first, deferrable=deferrable), context(run_id="manual__2"))
    assert again["dashboard_id"] == 1
    assert [call["query"]["from_dashboard"] for call in asked(connected)] == ["1", "1"]
    several = finish(refresh(insight=[first, 1], deferrable=deferrable), context(run_id="manual__3"))
    assert [each["dashboard_id"] for each in several] == [1, None]
    fresh = PostHogInsightFreshSensor(
        task_id="fresh", insight=again, fresher_than=first["last_refresh"], deferrable=False, timeout=5
    )
    assert fresh.execute(context())["id"] == TREND


def test_the_bare_insight_and_that_of_a_dashboard_are_two(connected: EmulatorProcess) -> None:
    done = refresh(insight=[{"id": TREND, "dashboard_id": 1}, TREND]).execute(context())
    assert [each["dashboard_id"] for each in done] == [1, None]
    with pytest.raises(PostHogSettingsError, match="twice"):
        refresh(insight=[{"id": TREND, "dashboard_id": 1}, {"id": TREND, "dashboard_id": "1"}]).execute({})


@pytest.mark.parametrize("dashboard", ["main", True, 0, -1, 1.5, [1], "1 "])
def test_a_dashboard_that_is_no_number_is_refused_wherever_it_comes_from(
    connected: EmulatorProcess, dashboard: Any
) -> None:
    for given in ({"insight": {"id": 2, "dashboard_id": dashboard}}, {"insight": 2, "from_dashboard": dashboard}):
        if dashboard == "1 ":
            refresh(**given).check()
            continue
        with pytest.raises(PostHogSettingsError) as refused:
            refresh(**given).check()
        assert refused.value.field == "from_dashboard"


# A dashboard's answer.


@pytest.mark.parametrize(
    "answer",
    [{}, {"tiles": None}, {"tiles": {}}, {"items": []}, {"tiles": ["x"]}, {"tiles": [None]}, {"results": []}],
    ids=str,
)
def test_an_answer_that_is_no_dashboards_is_no_empty_dashboard(
    scripted: ScriptedServer, answer: dict[str, Any]
) -> None:
    scripted.script(ok({"id": 5, "name": "Board", **answer}, Date=_stamp()), Reply(500))
    with pytest.raises(PostHogTransportError, match=r"tiles"):
        dashboard_refresh(dashboard=5).execute({})


# All of the rows, or a word of it.

HUNDREDS = {"kind": "HogQLQuery", "query": "select number from numbers(20000)"}
CUT: dict[str, dict[str, Any]] = {
    "no LIMIT": HUNDREDS,
    "in a view": {"kind": "DataVisualizationNode", "source": HUNDREDS},
    "a set": {"kind": "HogQLQuery", "query": "select 1 from numbers(200) union all select 2 from numbers(200)"},
    "events": {"kind": "DataTableNode", "source": {"kind": "EventsQuery", "select": ["uuid"], "after": "all"}},
}
WHOLE: dict[str, dict[str, Any]] = {
    "a LIMIT": {"kind": "HogQLQuery", "query": "select number from numbers(20000) limit 500"},
    "in brackets": {"kind": "HogQLQuery", "query": "select * from (select number from numbers(300)) limit 1000"},
    "few": {"kind": "HogQLQuery", "query": "select number from numbers(99)"},
    "events": {
        "kind": "DataTableNode",
        "source": {"kind": "EventsQuery", "select": ["uuid"], "after": "all", "limit": 5},
    },
}


@MODES
@pytest.mark.parametrize("case", CUT)
def test_rows_that_posthog_cut_become_no_file(
    connected: EmulatorProcess, tmp_path: Any, case: str, deferrable: bool
) -> None:
    insight = saved(connected, CUT[case])["id"]
    path = f"file://{tmp_path}/rows.csv"
    with pytest.raises(PostHogIncompleteError, match=f"Insight {insight}"):
        finish(refresh(insight=insight, path=path, deferrable=deferrable), context())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["warn", "ignore"])
def test_cut_rows_are_written_if_that_is_meant_and_always_told(
    connected: EmulatorProcess, tmp_path: Any, how: str
) -> None:
    insight = saved(connected, HUNDREDS)["id"]
    done = refresh(insight=insight, path=f"file://{tmp_path}/rows.csv", on_truncation=how).execute(context())
    assert (done["rows"], done["has_more"]) == (100, True)
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 101
    assert refresh(insight=insight).execute(context(run_id="manual__2"))["has_more"] is True


@pytest.mark.parametrize("case", WHOLE)
def test_whole_rows_are_written(connected: EmulatorProcess, tmp_path: Any, case: str) -> None:
    insight = saved(connected, WHOLE[case])["id"]
    done = refresh(insight=insight, path=f"file://{tmp_path}/rows.csv").execute(context())
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == done["rows"] + 1


def test_more_values_of_a_breakdown_are_no_cut(scripted: ScriptedServer, tmp_path: Any) -> None:
    days = {"days": ["2026-11-27"], "data": [3], "label": "Chrome", "breakdown_value": "Chrome"}
    trend = {"query": {"kind": "TrendsQuery"}, "result": [days], "hasMore": True}
    before = ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z", **trend), Date=_stamp())
    scripted.script(before, before, ok(_insight(**trend), Date=_stamp()))
    done = refresh(insight=7, path=f"file://{tmp_path}/x.csv").execute({})
    assert done["has_more"] is True


# Into the right place.


def _files(folder: Any) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_in_the_way_is_seen_before_anything_is_calculated(connected: EmulatorProcess, tmp_path: Any) -> None:
    (tmp_path / "1.csv").write_text("somebody's")
    operator = refresh(insight=[TREND, 1], path=f"file://{tmp_path}/{{id}}.csv")
    with pytest.raises(PostHogSettingsError, match="already exists"):
        operator.execute(context())
    assert asked(connected) == []
    assert (_files(tmp_path), (tmp_path / "1.csv").read_text()) == (["1.csv"], "somebody's")


TABLELESS: dict[str, dict[str, Any]] = {
    "PathsQuery": {"query": {"kind": "PathsQuery"}},
    "WebOverviewQuery": {"query": {"kind": "WebOverviewQuery"}},
    "ExperimentTrendsQuery": {"query": {"kind": "ExperimentTrendsQuery"}},
    "BoxPlot": {"query": {"kind": "TrendsQuery", "trendsFilter": {"display": "BoxPlot"}}},
    "CalendarHeatmap": {"query": {"kind": "TrendsQuery", "trendsFilter": {"display": "CalendarHeatmap"}}},
    "PathsQuery of the first years": {"query": None, "filters": {"insight": "PATHS"}},
}


@pytest.mark.parametrize("kind", TABLELESS)
def test_a_kind_without_a_table_is_refused_before_anything_is_calculated(
    scripted: ScriptedServer, tmp_path: Any, kind: str
) -> None:
    scripted.script(ok(_insight(**TABLELESS[kind], is_cached=True), Date=_stamp()))
    with pytest.raises(PostHogSettingsError, match=kind.split()[0]):
        refresh(insight=7, path=f"file://{tmp_path}/x.csv").execute({})
    assert not any("force" in request.path for request in scripted.requests)


def test_a_retry_may_replace_what_its_task_has_written(
    connected: EmulatorProcess, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage refuses the second file; until the retry the numbers of the first have moved."""
    counts = {"kind": "HogQLQuery", "query": "select count() as n from events"}
    numbers = [saved(connected, counts)["id"], saved(connected, {**counts, "query": "select 1 as one"})["id"]]
    path = f"file://{tmp_path}/{{id}}.csv"
    (tmp_path / f"{numbers[1]}.csv").mkdir()  # nothing can be moved there
    with pytest.raises((PostHogIncompleteError, PostHogSettingsError, OSError)):
        refresh(insight=numbers, path=path).execute(context(try_number=2))
    (tmp_path / f"{numbers[1]}.csv").rmdir()
    first = (tmp_path / f"{numbers[0]}.csv").read_text()
    connected.capture([{"event": "x", "distinct_id": "d", "timestamp": datetime.now(timezone.utc).isoformat()}])
    refresh(insight=numbers, path=path).execute(context(try_number=3))
    assert (tmp_path / f"{numbers[0]}.csv").read_text() != first
    assert _files(tmp_path) == sorted(f"{number}.csv" for number in numbers)


def test_a_retry_does_not_replace_what_others_have_written(connected: EmulatorProcess, tmp_path: Any) -> None:
    (tmp_path / "1.csv").write_text("somebody's")
    with pytest.raises(PostHogSettingsError, match="already exists"):
        refresh(insight=1, path=f"file://{tmp_path}/1.csv").execute(context(try_number=2))
    assert (tmp_path / "1.csv").read_text() == "somebody's"


def test_two_insights_are_never_one_file(connected: EmulatorProcess, tmp_path: Any) -> None:
    both = [{"id": TREND, "dashboard_id": 1}, {"id": TREND}]
    with pytest.raises(PostHogSettingsError, match="one file for insights"):
        refresh(insight=both, path=f"file://{tmp_path}/{{id}}.csv").execute(context())
    assert asked(connected) == []


# Dashboards.


@MODES
def test_a_tile_that_fails_does_not_lose_the_files_of_the_others(
    connected: EmulatorProcess, tmp_path: Any, deferrable: bool
) -> None:
    number = board(connected)
    good = saved(connected, {"kind": "HogQLQuery", "query": "select 1 as one"}, dashboards=[number])
    saved(connected, {"kind": "HogQLQuery", "query": "select nope from events"}, dashboards=[number], name="Broken")
    saved(connected, HUNDREDS, dashboards=[number], name="Cut one")
    operator = dashboard_refresh(dashboard=number, path=f"file://{tmp_path}/{{id}}.csv", deferrable=deferrable)
    with pytest.raises(PostHogJobFailed) as failed:
        finish(operator, context())
    assert "Broken" in str(failed.value)
    assert "Cut one" in str(failed.value)
    assert f"{good['id']}.csv" in _files(tmp_path)
    assert len([name for name in _files(tmp_path) if name.endswith(".csv")]) == 1


def test_a_tile_without_a_table_becomes_json(scripted: ScriptedServer, tmp_path: Any) -> None:
    edges = [{"source": "1_a", "target": "2_b", "value": 1}]
    paths = _insight(id=8, short_id="pppppppp", query={"kind": "PathsQuery"}, result=edges)
    table = _insight(columns=["n"], query={"kind": "HogQLQuery", "query": "select 1 as n"})
    old = {"last_refresh": "2026-01-01T00:00:00Z"}
    tiles = [{"id": 1, "insight": {**table, **old}}, {"id": 2, "insight": {**paths, **old}}]
    scripted.script(ok({"id": 5, "name": "B", "tiles": tiles}, Date=_stamp()), ok(table), ok(paths))
    path = f"file://{tmp_path}/{{short_id}}.csv.gz"
    done = dashboard_refresh(dashboard=5, path=path, max_in_flight=1).execute(context())
    assert _files(tmp_path) == ["abcdefgh.csv.gz", "pppppppp.json.gz"]
    assert [each["path"].rpartition("/")[2] for each in done["insights"]] == _files(tmp_path)


@pytest.mark.parametrize(
    ("options", "left"),
    [({"include": ["B", 0]}, [0, 1]), ({"exclude": ["A"]}, [1, 2]), ({"include": ["A", "B"], "exclude": ["B"]}, [0])],
)
def test_only_the_tiles_that_are_meant(connected: EmulatorProcess, options: dict[str, Any], left: list[int]) -> None:
    number = board(connected)
    made = [
        saved(connected, {"kind": "HogQLQuery", "query": f"select {name!r}"}, dashboards=[number], name=name)
        for name in "ABC"
    ]
    wanted = {field: [made[0]["short_id"] if name == 0 else name for name in names] for field, names in options.items()}
    done = dashboard_refresh(dashboard=number, **wanted).execute(context())
    assert [each["id"] for each in done["insights"]] == [made[index]["id"] for index in left]
    assert done["left_out_tiles"] == 3 - len(left)


@pytest.mark.parametrize("field", ["include", "exclude"])
@pytest.mark.parametrize("given", ["A", "['A']", {"A": 1}, [""], [None], 5, ["nobody"]])
def test_names_that_are_none_of_its_insights_are_refused(connected: EmulatorProcess, field: str, given: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        dashboard_refresh(dashboard=1, **{field: given}).execute(context())
    assert refused.value.field == field
    assert asked(connected) == []


# The numbers.


@MODES
def test_numbers_are_handed_on_with_those_before_and_in_words(connected: EmulatorProcess, deferrable: bool) -> None:
    done = finish(refresh(insight=TREND, values=True, deferrable=deferrable), context())
    (value,) = done["values"]
    assert value["change"] == value["value"] - value["previous"]
    assert value["date"] > value["previous_date"]
    assert done["text"].startswith(f"Pageviews per day: {value['value']} on {value['date']} (")
    assert json.loads(json.dumps(done)) == done
    board = finish(dashboard_refresh(dashboard=1, values=True, deferrable=deferrable), context(run_id="manual__2"))
    by_id = {each["id"]: each for each in board["insights"]}
    assert by_id[TREND]["values"] == done["values"]
    assert [each["values"] for each in board["insights"] if each["id"] == 1] == [[]]  # its first cell is a text
    assert by_id[1]["text"] == "Events by name: no number"


def test_the_xcom_of_three_hundred_tiles_is_small() -> None:
    from airflow_provider_posthog.tasks.refresh_results import fitted
    from airflow_provider_posthog.tasks.result_file import MAX_XCOM_BYTES

    value = {"series": "$pageview " * 3, "value": 12345.678, "date": "2026-11-28", "previous": 1234.5, "percent": False}
    value |= {"previous_date": "2026-11-27", "change": 11111.178, "change_percent": 900.05}
    tile = {
        "id": 123456,
        "short_id": "AbCd1234",
        "name": "A name as people give it to insights",
        "dashboard_id": 1234,
        "last_refresh": "2026-11-29T06:00:00.123456Z",
        "rows": 12,
        "has_more": False,
        "seconds": 12.345,
        "url": "https://eu.posthog.com/project/12345/insights/AbCd1234",
        "path": "s3://a-lake-of-some-name/insights/2026-11-29/AbCd1234.csv",
    }
    for more in ({}, {"values": [value], "text": "x" * 80}, {"values": [value] * 25, "text": "x" * 400}):
        kept, left_out = fitted([{**tile, **more}] * 300)
        assert len(json.dumps(kept).encode()) < MAX_XCOM_BYTES
        assert left_out
        assert {"id", "dashboard_id", "name", "last_refresh"} <= set(kept[0])
        assert len(json.dumps(fitted([{**tile, "name": "n" * 400, **more}] * 300)[0]).encode()) < MAX_XCOM_BYTES
    assert fitted([tile] * 3) == ([tile] * 3, [])


# Clocks, names and servers in trouble.


def _old() -> Reply:
    return ok(_insight(is_cached=True, last_refresh="2026-01-01T00:00:00Z"), Date=_stamp())


def _at(seconds: float, **fields: Any) -> Reply:
    when = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return ok(_insight(last_refresh=when.isoformat(), **fields), Date=_stamp())


def _forces(server: ScriptedServer) -> int:
    return sum("force_" in request.path for request in server.requests)


def test_a_gateway_whose_clock_is_ahead_does_not_make_new_numbers_old(scripted: ScriptedServer) -> None:
    """By PostHog's own clock the second calculation is newer than the first."""
    scripted.script(_old(), _old(), _at(-60), _at(-58))
    done = refresh(insight=7).execute({})
    assert when(done["last_refresh"]) < datetime.now(timezone.utc) - timedelta(seconds=50)
    assert _forces(scripted) == 2


@pytest.mark.parametrize("second", [-60, -61])
def test_numbers_that_do_not_become_newer_are_old_and_the_clocks_are_spoken_of(
    scripted: ScriptedServer, second: float
) -> None:
    scripted.script(_old(), _old(), _at(-60), _at(second - 1))
    with pytest.raises(PostHogJobFailed, match="still those from"):
        refresh(insight=7).execute({})
    assert _forces(scripted) == 2


def test_an_error_of_old_numbers_names_the_clocks() -> None:
    from airflow_provider_posthog.api.freshness import Target, fault

    now = datetime.now(timezone.utc)
    answer: Any = _insight(last_refresh=(now - timedelta(minutes=1)).isoformat())
    assert "clocks" in str(fault(answer, Target(7, "name", since=now), calculated_now=True))


@pytest.mark.parametrize("status", [500, 410, 502])
def test_a_status_that_cannot_be_asked_for_keeps_the_insights_name(scripted: ScriptedServer, status: int) -> None:
    """Behind a cut nobody can tell whether it may be calculated in the background."""
    scripted.script(_old(), _old(), html(504), error(status, "Gone wrong."))
    with pytest.raises(PostHogJobFailed, match="Signups") as failed:
        refresh(insight=7).execute({})
    assert "background" in str(failed.value)


def test_a_calculation_that_posthog_names_itself_is_the_one_that_is_cancelled(scripted: ScriptedServer) -> None:
    from airflow_provider_posthog.api.clients import Client
    from airflow_provider_posthog.api.freshness import Target
    from airflow_provider_posthog.api.refresh import in_background
    from airflow_provider_posthog.api.steps import run
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    started = _insight(result=None, last_refresh=None, query_status={"id": "its-own-name", "complete": False})
    going = ok({"query_status": {"id": "its-own-name", "complete": False, "error": False}}, 202)
    scripted.script(error(404, code="not_found"), ok(started), *[going] * 20)
    with Client(PostHogHook().settings()) as client:
        target = Target(7, "ours")
        outcome = run(in_background(target, time.time() + 1.5, 0.2, 3), client)
    assert outcome.state == "timeout"
    assert "its-own-name" in next(call.path for call in scripted.requests if call.method == "DELETE")
