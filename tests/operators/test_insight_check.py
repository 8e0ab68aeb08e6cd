"""Gates that decide now: an insight's number against a condition, whatever the cache holds."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.api import insights, queries
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogJobTimeout, PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.sensors.insights import PostHogInsightThresholdSensor
from tests.operators.support import context, finish, outcome_errors
from tests.support.scripted import Reply, ScriptedServer, html, ok

UTC = timezone.utc
SQL, TREND = 1, 2  # saved insights of the emulator


def check(**options: Any) -> Any:
    from airflow_provider_posthog.operators.insights import PostHogInsightCheckOperator

    given = {"task_id": "task", "insight": TREND, "condition": ">= 0", "poll_interval": 0.05, "timeout": 20}
    return PostHogInsightCheckOperator(**{**given, **options})


def short_circuit(**options: Any) -> Any:
    from airflow_provider_posthog.operators.insights import PostHogInsightShortCircuitOperator

    return PostHogInsightShortCircuitOperator(**{"task_id": "task", "insight": TREND, "timeout": 20, **options})


def saved(node: dict[str, Any], **options: Any) -> int:
    kind = "DataVisualizationNode" if node["kind"] == "HogQLQuery" else "InsightVizNode"
    made = PostHogHook().send(insights.create(query={"kind": kind, "source": node}, name="Made", **options))
    return made["id"]


def calculated(insight: int) -> dict[str, Any]:
    return dict(PostHogHook().send(insights.retrieve(insight, refresh="force_blocking")))


def forced(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    return [call for call in posthog.calls("/insights/", "GET") if "force_" in json.dumps(call["query"])]


@pytest.fixture
def days(connected: EmulatorProcess) -> list[int]:
    """A pageview trend's counts of the last two whole days, newest first, made by SQL."""
    today = datetime.now(UTC).date()
    found = []
    for back in (1, 2):
        values = {
            "from": f"{today - timedelta(days=back)}T00:00:00Z",
            "to": f"{today - timedelta(days=back - 1)}T00:00:00Z",
        }
        row = PostHogHook().get_first(
            "SELECT count() FROM events WHERE event = '$pageview' AND timestamp >= toDateTime({from}) "
            "AND timestamp < toDateTime({to})",
            values,
        )
        assert row is not None
        found.append(int(row[0]))
    return found


def test_a_number_that_meets_it_is_handed_on(connected: EmulatorProcess, days: list[int]) -> None:
    found = check(condition=f"between {days[0]} and {days[0]}").execute(context())
    assert json.loads(json.dumps(found)) == found
    assert (found["value"], found["previous"], found["change"]) == (days[0], days[1], days[0] - days[1])
    assert (found["met"], found["condition"]) == (True, f"between {days[0]} and {days[0]}")
    assert found["date"] == str(datetime.now(UTC).date() - timedelta(days=1))


def test_one_that_does_not_fails_with_insight_date_value_and_condition(
    connected: EmulatorProcess, days: list[int]
) -> None:
    with pytest.raises(PostHogJobFailed) as failed:
        check(condition="> 1,000,000").execute(context())
    for told in ("nsight 2 'Pageviews per day'", str(datetime.now(UTC).date() - timedelta(days=1)), str(days[0])):
        assert told in str(failed.value)
    assert "> 1000000" in str(failed.value)


def test_the_short_form_skips(connected: EmulatorProcess, days: list[int]) -> None:
    with pytest.raises(outcome_errors().skip, match="not > 1000000"):
        short_circuit(condition="> 1000000").execute(context())
    assert short_circuit(condition=">= 0").execute(context())["met"] is True


def test_a_change_against_the_day_before(connected: EmulatorProcess, days: list[int]) -> None:
    percent = (days[0] - days[1]) * 100 / days[1]
    assert check(condition=f"change >= {percent - 0.01:.4f} %").execute(context())["met"]
    with pytest.raises(PostHogJobFailed, match="change for"):
        check(condition=f"change >= {percent + 0.01:.4f} %").execute(context())


def test_of_several_series_any_or_all(connected: EmulatorProcess) -> None:
    series = [{"kind": "EventsNode", "event": name} for name in ("$pageview", "never_captured")]
    insight = saved({"kind": "TrendsQuery", "series": series})
    assert check(insight=insight, condition="any > 0").execute(context())["met"]
    with pytest.raises(PostHogJobFailed, match="'never_captured'"):
        check(insight=insight, condition="all > 0").execute(context())
    assert check(insight=insight, condition="all > 0", series=["$pageview"]).execute(context())["met"]
    with pytest.raises(PostHogJobFailed, match="any > 0"):
        check(insight=insight, condition="> 0", series=["$pageview", "never_captured"]).execute(context())


def test_a_funnel_and_a_retention(connected: EmulatorProcess) -> None:
    series = [{"kind": "EventsNode", "event": name} for name in ("$pageview", "never_captured")]
    funnel = saved({"kind": "FunnelsQuery", "series": series})
    assert check(insight=funnel, condition="= 100 %", step=1).execute(context())["series"] == "$pageview"
    with pytest.raises(PostHogJobFailed, match="0 %"):
        check(insight=funnel, condition=">= 1 %").execute(context())
    target = {"id": "$pageview", "name": "$pageview", "type": "events"}
    options = {"targetEntity": target, "returningEntity": target, "period": "Day", "totalIntervals": 8}
    retention = saved({"kind": "RetentionQuery", "retentionFilter": options, "dateRange": {"date_from": "-7d"}})
    assert check(insight=retention, condition="= 100 %", period=0).execute(context())["value"] == 100


def test_a_cell_of_sql(connected: EmulatorProcess) -> None:
    insight = saved(queries.hogql("select 'x' as name, 7 as n, 2.5 as share"))
    assert check(insight=insight, condition="= 7", column="n").execute(context())["value"] == 7
    assert check(insight=insight, condition="= 2.5", column=2).execute(context())["value"] == 2.5
    with pytest.raises(PostHogJobFailed, match="not a number") as failed:
        check(insight=insight, condition="= 7").execute(context())
    assert "column" in str(failed.value)


@pytest.mark.parametrize("how", ["blocking", "force_blocking"])
def test_a_stale_number_is_calculated_again(connected: EmulatorProcess, how: str) -> None:
    """SQL does not show its age: the gate says how old it may be."""
    insight = saved(queries.hogql("select count() as n from events"))
    before = calculated(insight)
    connected.capture([{"event": "new", "distinct_id": "d", "timestamp": datetime.now(UTC).isoformat()}])
    connected.settings(cache_seconds=86400.0)
    count = int(before["result"][0][0])
    found = check(insight=insight, condition=f"= {count + 1}", refresh=how, fresher_than=before["last_refresh"])
    assert found.execute(context())["value"] == count + 1


def test_without_a_calculation_an_old_number_fails_it(connected: EmulatorProcess) -> None:
    insight = saved(queries.hogql("select 5 as n"))
    told = calculated(insight)["last_refresh"]
    gate = check(insight=insight, condition="= 5", refresh="force_cache", fresher_than=told)
    with pytest.raises(PostHogJobFailed, match="calculated at"):
        gate.execute(context())
    with pytest.raises(PostHogJobFailed, match="calculated at"):
        short_circuit(insight=insight, condition="= 5", refresh="force_cache", fresher_than=told).execute(context())
    assert check(insight=insight, condition="= 5", refresh="force_cache").execute(context())["met"]


def test_yesterday_of_the_night_before_is_not_yesterday(connected: EmulatorProcess) -> None:
    """PostHog's cache of half past eleven holds the day before; it is fresh enough for PostHog."""
    node = {
        "kind": "TrendsQuery",
        "series": [{"kind": "EventsNode", "event": "$pageview"}],
        "dateRange": {"date_from": "-1dStart", "date_to": "-1dEnd"},
    }
    insight = saved(node)
    old = calculated(insight)
    connected.settings(cache_seconds=10 * 86400.0)
    connected.advance(86400)
    gate = check(insight=insight, condition=">= 0", refresh="force_cache")
    with pytest.raises(PostHogJobFailed, match="has ended since"):
        gate.execute(context())
    found = check(insight=insight, condition=">= 0").execute(context())
    assert found["date"] > old["result"][0]["days"][-1]


def test_a_number_on_a_dashboard_is_that_of_the_dashboard(connected: EmulatorProcess) -> None:
    """What a refresh returned of a tile means the tile."""
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    refresh = PostHogRefreshInsightOperator(task_id="refresh", insight=TREND, from_dashboard=1, poll_interval=0.05)
    done = refresh.execute(context())
    assert done["dashboard_id"] == 1
    check(insight=done, refresh="force_cache").execute(context())
    assert connected.calls("/insights/", "GET")[-1]["query"]["from_dashboard"] == "1"
    sensor = PostHogInsightThresholdSensor(task_id="s", insight=done, condition=">= 0", deferrable=False)
    sensor.execute(context())
    assert connected.calls("/insights/", "GET")[-1]["query"]["from_dashboard"] == "1"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no condition": ({"condition": "soon"}, "condition"),
    "refresh": ({"refresh": "async"}, "refresh"),
    "measure": ({"measure": "much"}, "measure"),
    "step 0": ({"step": 0}, "step"),
    "period": ({"period": "x"}, "period"),
    "row": ({"row": -1}, "row"),
    "column": ({"column": 1.5}, "column"),
    "cohort": ({"cohort": "monday"}, "cohort"),
    "fresher_than": ({"fresher_than": "now"}, "fresher_than"),
    "series": ({"series": []}, "series"),
    "a series of a series": ({"series": [["a"]]}, "series"),
    "dashboard": ({"from_dashboard": "main"}, "from_dashboard"),
    "insight": ({"insight": ["a"]}, "insight"),
    "timeout": ({"timeout": 0}, "timeout"),
    "timeout of text": ({"timeout": "1"}, "timeout"),
    "poll_interval": ({"poll_interval": float("nan")}, "poll_interval"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_arguments_are_refused_before_anything_is_sent(connected: EmulatorProcess, case: str) -> None:
    arguments, field = WRONG[case]
    with pytest.raises(PostHogSettingsError) as refused:
        check(**arguments).execute({})
    assert refused.value.field == field
    assert connected.calls() == []


@pytest.mark.parametrize("number", [10**400, "1e999", float("inf"), "nan", True, None])
def test_a_threshold_that_no_number_can_be_is_refused(connected: EmulatorProcess, number: Any) -> None:
    sensor = PostHogInsightThresholdSensor(task_id="s", insight=TREND, operator=">", value=number, deferrable=False)
    with pytest.raises(PostHogSettingsError) as refused:
        sensor.execute(context())
    assert refused.value.field == "value"


@pytest.mark.parametrize("given", [{}, {"condition": "> 5", "operator": ">", "value": 5}])
def test_a_sensor_takes_one_way_to_say_it(connected: EmulatorProcess, given: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError, match="one of the two"):
        PostHogInsightThresholdSensor(task_id="s", insight=TREND, deferrable=False, **given).execute(context())


@pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])
def test_the_sensor_takes_all_that_the_gate_does(connected: EmulatorProcess, deferrable: bool) -> None:
    insight = saved(queries.hogql("select 'x' as name, 7 as n"))
    long_ago = "2020-01-01T00:00:00Z"
    options = {"insight": insight, "condition": "between 7 and 8", "column": "n", "fresher_than": long_ago}
    found = finish(PostHogInsightThresholdSensor(task_id="s", deferrable=deferrable, **options), context())
    assert (found["value"], found["condition"], found["met"]) == (7, "between 7 and 8", True)


# A server that misbehaves.


def _stamp() -> str:
    return datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


def _insight(**fields: Any) -> dict[str, Any]:
    fresh = {"id": 7, "short_id": "abcdefgh", "name": "Signups", "result": [[1]], "is_cached": False}
    query = {"kind": "HogQLQuery", "query": "select 1"}
    return {**fresh, "query": query, "last_refresh": datetime.now(UTC).isoformat(), "query_status": None, **fields}


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


def _forces(server: ScriptedServer) -> list[str]:
    return [request.path for request in server.requests if "blocking" in request.path]


@pytest.mark.parametrize("cut", [Reply(cut="after"), html(504)], ids=["cut", "504"])
def test_a_look_that_is_cut_is_asked_for_once_and_cancelled(scripted: ScriptedServer, cut: Reply) -> None:
    """What runs on behind the cut would take the place of the next look's calculation, under a name of nobody."""
    scripted.script(cut, ok({}), ok(_insight(), Date=_stamp()))
    sensor = PostHogInsightThresholdSensor(
        task_id="s",
        insight=7,
        condition="> 0",
        refresh="force_blocking",
        deferrable=False,
        poke_interval=0.1,
        timeout=20,
    )
    assert sensor.execute(context())["value"] == 1
    first, second = _forces(scripted)
    assert "client_query_id=airflow-" in first
    name = first.partition("client_query_id=")[2].partition("&")[0]
    cancels = [request for request in scripted.requests if request.method in ("DELETE", "POST")]
    assert cancels
    assert any(name in request.path or name in request.body.decode() for request in cancels)
    assert scripted.requests.index(cancels[0]) == 1
    assert second


def test_a_server_without_a_clock_makes_old_numbers_no_newer(scripted: ScriptedServer) -> None:
    days = [str(datetime.now(UTC).date() - timedelta(days=back)) for back in (4, 3)]
    item = {"label": "x", "action": {}, "days": days, "data": [5, 5]}
    old = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    trend = _insight(query={"kind": "TrendsQuery"}, result=[item], last_refresh=old, is_cached=True, timezone="UTC")
    scripted.script(ok(trend))
    with pytest.raises(PostHogJobFailed, match="has ended since"):
        check(insight=7, refresh="force_cache").execute(context())


def test_out_of_time_it_says_so_and_cancels(scripted: ScriptedServer) -> None:
    scripted.script(ok(_insight(result=None), Date=_stamp()), Reply(delay=30), ok({}))
    with pytest.raises((PostHogJobTimeout, PostHogJobFailed)):
        check(insight=7, timeout=0.5).execute(context())
    assert any(request.method in ("DELETE", "POST") for request in scripted.requests)
