"""The sensors of insights: none of the answers that PostHog lies with turns a task green."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from airflow_provider_posthog.api import insights, queries
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor, PostHogInsightThresholdSensor
from tests.operators.support import context, finish, make_dag, outcome_errors, task_deferred, task_states, xcoms
from tests.sensors.modes import MODES, ended, first_poke, see_through

#: What has no offset is UTC, and no local time.
pytestmark = pytest.mark.usefixtures("far_from_utc")

__all__ = ["first_poke"]

UTC = timezone.utc
WAYS = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferrable"])
SQL, TREND = 1, 2  # saved insights of the emulator
LONG_AGO, NEVER = "2020-01-01", "2100-01-01"


def _options(**options: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"task_id": "task", "poke_interval": 0.1, "timeout": 10, "failure_grace": 0.2}
    return {**given, "deferrable": False, **options}


def _fresh(**options: Any) -> PostHogInsightFreshSensor:
    return PostHogInsightFreshSensor(**_options(**{"insight": TREND, "fresher_than": LONG_AGO, **options}))


def _gate(**options: Any) -> PostHogInsightThresholdSensor:
    return PostHogInsightThresholdSensor(**_options(**{"insight": TREND, "operator": ">=", "value": 0, **options}))


def _ended(sensor: Any) -> str:
    return ended(lambda **_: sensor, "poke", SimpleNamespace())


def _calculate(insight: int = TREND, **options: Any) -> dict[str, Any]:
    found = PostHogHook().send(insights.retrieve(insight, refresh="force_blocking", **options))
    assert found["last_refresh"]
    return dict(found)


def _save(query: dict[str, Any], **options: Any) -> int:
    made = PostHogHook().send(insights.create(query=query, name="made", **options))
    return made["id"]


def _refreshes(posthog: EmulatorProcess) -> list[str | None]:
    found = [call["query"].get("refresh") for call in posthog.calls("/insights/", "GET")]
    return [each[0] if isinstance(each, list) else each for each in found]


def _now(posthog: EmulatorProcess) -> datetime:
    return datetime.now(UTC)


def _lie(posthog: EmulatorProcess, insight: int = TREND, **fields: Any) -> None:
    """Answer as PostHog does, but for these fields."""
    found = dict(PostHogHook().send(insights.retrieve(insight)))
    posthog.faults(method="GET", path=f"*/insights/{insight}/", status=200, body={**found, **fields}, count=-1)


def _iso(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def _failed(code: str | None, message: str | None) -> dict[str, Any]:
    """PostHog's ``query_status`` of a failed calculation: "complete" stays false."""
    return {"id": "", "complete": False, "error": True, "error_message": message, "error_code": code}


# Fresh.


@WAYS
def test_fresh_is_what_was_calculated_after_the_time(connected: EmulatorProcess, deferrable: bool) -> None:
    found = _calculate()
    before = datetime.fromisoformat(found["last_refresh"].replace("Z", "+00:00")) - timedelta(microseconds=1)
    result = finish(_fresh(fresher_than=before, deferrable=deferrable), context())
    assert json.loads(json.dumps(result)) == {
        "id": TREND,
        "short_id": found["short_id"],
        "name": "Pageviews per day",
        "last_refresh": found["last_refresh"],
    }
    at_the_time = found["last_refresh"]
    assert _ended(_fresh(fresher_than=at_the_time, deferrable=deferrable, timeout=0.3)) == "timed out"


@pytest.mark.parametrize("mode", MODES)
def test_fresh_waits_for_a_calculation_by_others_and_causes_none(
    connected: EmulatorProcess, mode: str, first_poke: SimpleNamespace
) -> None:
    now = _now(connected)
    timer = threading.Timer(0.5, _calculate)
    timer.start()
    result = see_through(lambda **how: _fresh(fresher_than=now, **how), mode, first_poke)
    timer.join()
    assert result["last_refresh"] > _iso(now)
    assert set(_refreshes(connected)) == {None, "force_blocking"}
    assert _refreshes(connected).count("force_blocking") == 1


CACHES: dict[str, Callable[[EmulatorProcess], object]] = {
    "never calculated": lambda posthog: None,
    "too old": lambda posthog: (_calculate(), posthog.advance(7200)),
    "being calculated": lambda posthog: (
        _calculate(),
        posthog.settings(async_seconds=1000.0),
        posthog.advance(7200),
        PostHogHook().send(insights.retrieve(TREND, refresh="force_async")),
    ),
    "being calculated for the first time": lambda posthog: (
        posthog.settings(async_seconds=1000.0),
        PostHogHook().send(insights.retrieve(TREND, refresh="force_async")),
    ),
}


@WAYS
@pytest.mark.parametrize("cache", CACHES)
def test_fresh_waits_in_each_other_state_of_the_cache(connected: EmulatorProcess, cache: str, deferrable: bool) -> None:
    since = datetime.now(UTC) + timedelta(hours=1)
    CACHES[cache](connected)
    sensor = _fresh(fresher_than=since, deferrable=deferrable, timeout=0.3)
    assert _ended(sensor) == "timed out"


LIES: dict[str, dict[str, Any]] = {
    "no room, but refreshed just now": {
        "result": None,
        "query_status": _failed("concurrency_limit_exceeded", "concurrency_limit_exceeded"),
    },
    "failed, but with a result": {"query_status": _failed("unknown_table", "Unknown table `x`")},
    "failed without a reason": {"query_status": _failed(None, None)},
    "an error beside the result": {"error": "It went wrong"},
    "no result": {"result": None},
    "a time that is none": {"last_refresh": "just now"},
    "no time": {"last_refresh": None},
    "a number for a time": {"last_refresh": 1795000000},
}


@WAYS
@pytest.mark.parametrize("lie", LIES)
def test_fresh_believes_no_lie(connected: EmulatorProcess, lie: str, deferrable: bool) -> None:
    _calculate()
    assert _ended(_fresh(deferrable=deferrable)) == "succeeded"
    _lie(connected, **{"last_refresh": _iso(datetime.now(UTC)), **LIES[lie]})
    assert _ended(_fresh(deferrable=deferrable, timeout=0.3)) == "timed out"


def test_why_it_is_not_fresh_is_said_at_the_timeout(connected: EmulatorProcess) -> None:
    _calculate()
    _lie(connected, query_status=_failed("unknown_table", "Unknown table `x`"))
    with pytest.raises(outcome_errors().timeout, match=r"Insight 2 is not fresh after .* Unknown table"):
        finish(_fresh(deferrable=True, timeout=0.3), context())


@WAYS
def test_the_result_on_a_dashboard_is_another_one(connected: EmulatorProcess, deferrable: bool) -> None:
    _calculate()
    on_dashboard = {"from_dashboard": "1", "deferrable": deferrable}
    assert _ended(_fresh(**on_dashboard, timeout=0.3)) == "timed out"
    _calculate(from_dashboard=1)
    assert _ended(_fresh(**on_dashboard)) == "succeeded"
    assert _ended(_gate(**on_dashboard, refresh="force_cache")) == "succeeded"


@WAYS
@pytest.mark.parametrize("make", [_fresh, _gate])
def test_an_insight_that_is_not_on_the_dashboard_fails_it(
    connected: EmulatorProcess, make: Any, deferrable: bool
) -> None:
    """PostHog ignores the wish, and answers with the bare insight."""
    insight = _save({"kind": "DataVisualizationNode", "source": queries.hogql("select 1")})
    _calculate(insight)
    with pytest.raises(PostHogJobFailed, match="not on dashboard 1"):
        finish(make(insight=insight, from_dashboard=1, deferrable=deferrable), context())


@WAYS
@pytest.mark.parametrize("make", [_fresh, _gate])
def test_an_insight_by_each_of_its_names(connected: EmulatorProcess, make: Any, deferrable: bool) -> None:
    found = _calculate()
    for insight in (TREND, str(TREND), found["short_id"], {"id": TREND, "rows": 8}):
        ctx = context()
        assert finish(make(insight=insight, deferrable=deferrable), ctx)["id"] == TREND
        link = ctx["ti"].pushed["_link_PostHogLink"]
        assert link == f"{connected.url}/project/{connected.project_id}/insights/{found['short_id']}"


@WAYS
@pytest.mark.parametrize("make", [_fresh, _gate])
@pytest.mark.parametrize("insight", [4242, "nowhere1"])
def test_an_insight_that_is_not_there_fails_it(
    connected: EmulatorProcess, make: Any, insight: Any, deferrable: bool
) -> None:
    with pytest.raises(PostHogJobFailed, match=f"'{insight}', and the project has no such insight"):
        finish(make(insight=insight, deferrable=deferrable), context())


@WAYS
@pytest.mark.parametrize("make", [_fresh, _gate])
def test_a_key_without_the_scope_fails_it(
    connected: EmulatorProcess, make: Any, deferrable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn = json.loads(connected.airflow_connection_json())
    conn["password"] = connected.create_key(["export:read"])
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    with pytest.raises(PostHogError, match="insight:read"):
        finish(make(deferrable=deferrable), context())


# Which time.

T1, T2, T3 = (datetime(2026, 1, day, 6, tzinfo=UTC) for day in (1, 2, 3))


@pytest.mark.parametrize(
    ("given", "ctx", "expected"),
    [
        (None, {"data_interval_end": T1, "logical_date": T2, "dag_run": SimpleNamespace(start_date=T3)}, T1),
        (None, {"logical_date": T2, "dag_run": SimpleNamespace(start_date=T3)}, T2),
        (None, {"data_interval_end": None, "logical_date": T2}, T2),
        (None, {"data_interval_end": None, "logical_date": None, "dag_run": SimpleNamespace(start_date=T3)}, T3),
        (T2, {"data_interval_end": T1}, T2),
        (T2.replace(tzinfo=None), {}, T2),
        (T2.astimezone(ZoneInfo("Asia/Tokyo")), {}, T2),
        ("2026-01-02T06:00:00Z", {}, T2),
        ("2026-01-02 15:00:00+09:00", {}, T2),
        ("2026-01-02T06:00:00", {}, T2),
        ("2026-01-02", {}, T2.replace(hour=0)),
    ],
)
def test_fresher_than_what(given: Any, ctx: dict[str, Any], expected: datetime) -> None:
    arguments = _fresh(fresher_than=given).check_arguments(ctx)  # type: ignore[arg-type]
    assert json.loads(json.dumps(arguments)) == arguments
    assert datetime.fromisoformat(arguments["fresher_than"]) == expected


@WAYS
@pytest.mark.parametrize("given", ["", "yesterday", "None", 5, True])
def test_what_is_no_time_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, given: Any, deferrable: bool
) -> None:
    with pytest.raises(PostHogSettingsError, match="fresher_than"):
        finish(_fresh(fresher_than=given, deferrable=deferrable), context())
    assert connected.calls() == []


def test_a_run_without_any_time_needs_one(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="fresher_than"):
        finish(_fresh(fresher_than=None), context())


# Thresholds.


@pytest.fixture
def yesterday(connected: EmulatorProcess) -> tuple[str, int]:
    """The day before, in UTC, and how many pageviews it had, counted another way."""
    day = datetime.now(UTC).date() - timedelta(days=1)
    where = {"from": f"{day}T00:00:00Z", "to": f"{day + timedelta(days=1)}T00:00:00Z"}
    count = PostHogHook().get_first(
        "SELECT count() FROM events WHERE event = '$pageview' AND timestamp >= toDateTime({from}) "
        "AND timestamp < toDateTime({to})",
        where,
    )
    assert count is not None
    assert count[0] > 0
    return str(day), int(count[0])


@pytest.mark.parametrize("mode", MODES)
def test_the_newest_complete_day_of_a_trend(
    connected: EmulatorProcess, yesterday: tuple[str, int], mode: str, first_poke: SimpleNamespace
) -> None:
    day, count = yesterday
    result = see_through(lambda **how: _gate(operator="==", value=str(count), **how), mode, first_poke)
    assert json.loads(json.dumps(result)) == result
    assert (result["id"], result["name"], result["date"], result["value"]) == (TREND, "Pageviews per day", day, count)
    assert (result["operator"], result["threshold"]) == ("==", count)
    assert result["last_refresh"]
    assert result["short_id"]


@WAYS
@pytest.mark.parametrize(
    ("operator", "by", "met"),
    [
        (">", -1, True),
        (">", 0, False),
        (">=", 0, True),
        (">=", 1, False),
        ("<", 1, True),
        ("<", 0, False),
        ("<=", 0, True),
        ("<=", -1, False),
        ("==", 0, True),
        ("==", 1, False),
        ("!=", 1, True),
        ("!=", 0, False),
        (">", -0.5, True),
        ("<", 0.5, True),
    ],
)
def test_each_operator(
    connected: EmulatorProcess, yesterday: tuple[str, int], operator: str, by: float, met: bool, deferrable: bool
) -> None:
    sensor = _gate(operator=operator, value=yesterday[1] + by, deferrable=deferrable, timeout=10 if met else 0.25)
    assert _ended(sensor) == ("succeeded" if met else "timed out")


@WAYS
def test_it_waits_until_the_condition_is_met(connected: EmulatorProcess, deferrable: bool) -> None:
    insight = _save({"kind": "DataVisualizationNode", "source": queries.hogql("select count() as n from events")})
    count = int(_calculate(insight)["result"][0][0])
    capture = threading.Timer(
        0.5, lambda: connected.capture([{"event": "new", "distinct_id": "d", "timestamp": _iso(datetime.now(UTC))}])
    )
    capture.start()
    sensor = _gate(insight=insight, operator=">", value=count, refresh="force_blocking", deferrable=deferrable)
    result = finish(sensor, context())
    capture.join()
    assert (result["value"], result["date"]) == (count + 1, None)


# What is in the cache x how it is to be refreshed. The value is always met; the question is whether it may be believed.
STATES: dict[str, Callable[[EmulatorProcess], object]] = {
    "empty": lambda posthog: None,
    "fresh": lambda posthog: _calculate(SQL_COUNT[0]),
    "stale": lambda posthog: (_calculate(SQL_COUNT[0]), posthog.advance(3600)),
}
SQL_COUNT: list[int] = []
#: refresh -> state of the cache -> how it ends, and how many calculations the sensor's first look causes.
GOOD: dict[str, dict[str, tuple[str, bool]]] = {
    "force_cache": {"empty": ("timed out", False), "fresh": ("succeeded", False), "stale": ("succeeded", False)},
    "blocking": {"empty": ("succeeded", True), "fresh": ("succeeded", False), "stale": ("succeeded", True)},
    "force_blocking": {"empty": ("succeeded", True), "fresh": ("succeeded", True), "stale": ("succeeded", True)},
}
CASES = [(refresh, state) for refresh in GOOD for state in STATES]


@pytest.fixture
def counted(connected: EmulatorProcess) -> EmulatorProcess:
    """An insight whose first cell is a count."""
    source = queries.hogql("select count() as n, 'x' as x from events")
    SQL_COUNT[:] = [_save({"kind": "DataVisualizationNode", "source": source})]
    return connected


@WAYS
@pytest.mark.parametrize(("refresh", "state"), CASES)
def test_each_refresh_in_each_state_of_the_cache(
    counted: EmulatorProcess, refresh: str, state: str, deferrable: bool
) -> None:
    STATES[state](counted)
    before = PostHogHook().send(insights.retrieve(SQL_COUNT[0])).get("last_refresh")
    outcome, calculates = GOOD[refresh][state]
    timeout = 10 if outcome == "succeeded" else 0.25
    sensor = _gate(insight=SQL_COUNT[0], value=1, refresh=refresh, deferrable=deferrable, timeout=timeout)
    assert _ended(sensor) == outcome
    after = PostHogHook().send(insights.retrieve(SQL_COUNT[0])).get("last_refresh")
    assert (after != before) is calculates


FAILURES: dict[str, dict[str, Any]] = {
    "no room (200, refreshed just now)": {"insight_outcome": "concurrency"},
    "no room (429)": {"insight_outcome": "concurrency", "insight_errors": "raise"},
}


@WAYS
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("refresh", "state"), CASES)
def test_no_room_is_waited_out_and_never_a_success(
    counted: EmulatorProcess,
    refresh: str,
    state: str,
    failure: str,
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", counted.airflow_connection_json(max_rate_limit_wait=0))
    STATES[state](counted)
    counted.settings(**FAILURES[failure])
    calculates = GOOD[refresh][state][1]
    expected = "timed out" if calculates else GOOD[refresh][state][0]
    options = {"insight": SQL_COUNT[0], "value": 1, "refresh": refresh, "deferrable": deferrable}
    assert _ended(_gate(**options, timeout=0.25 if expected == "timed out" else 10)) == expected
    if calculates:
        counted.settings(insight_outcome="compute")
        assert _ended(_gate(**options)) == "succeeded"


@WAYS
@pytest.mark.parametrize("errors", ["status", "raise"])
@pytest.mark.parametrize(("refresh", "expected"), [("force_cache", "timed out"), ("blocking", "failed")])
def test_a_query_that_can_not_work_fails_it(
    connected: EmulatorProcess, refresh: str, expected: str, errors: str, deferrable: bool
) -> None:
    connected.settings(insight_errors=errors)
    insight = _save({"kind": "DataVisualizationNode", "source": queries.hogql("select nope from events")})
    timeout = 0.25 if expected == "timed out" else 10
    sensor = _gate(insight=insight, value=1, refresh=refresh, deferrable=deferrable, timeout=timeout)
    assert _ended(sensor) == expected
    if expected == "failed":
        with pytest.raises(PostHogJobFailed, match="nope"):
            finish(_gate(insight=insight, value=1, deferrable=deferrable), context())


@WAYS
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (_failed("unknown_table", "Unknown table `x`"), "failed"),
        (_failed(None, None), "failed"),  # a fault of PostHog's own, once it has stood for failure_grace
        (_failed("error", "ClickHouse is at capacity"), "failed"),
        (_failed("concurrency_limit_exceeded", "concurrency_limit_exceeded"), "timed out"),
    ],
)
def test_a_failure_beside_a_result_is_a_failure(
    connected: EmulatorProcess, status: dict[str, Any], expected: str, deferrable: bool
) -> None:
    _calculate()
    _lie(connected, last_refresh=_iso(datetime.now(UTC)), query_status=status)
    timeout = 0.4 if expected == "timed out" else 10
    assert _ended(_gate(refresh="blocking", deferrable=deferrable, timeout=timeout)) == expected


@WAYS
@pytest.mark.parametrize("status", [_failed(None, None), _failed("error", "ClickHouse is at capacity, try again")])
def test_a_failure_that_passes_is_waited_out(
    connected: EmulatorProcess, status: dict[str, Any], deferrable: bool
) -> None:
    found = {**_calculate(), "query_status": status}
    connected.faults(method="GET", path=f"*/insights/{TREND}/", status=200, body=found, count=2)
    assert _ended(_gate(deferrable=deferrable, failure_grace=10)) == "succeeded"


@WAYS
@pytest.mark.parametrize("status", [512, 513])
def test_a_query_that_is_too_large_fails_it_at_once(connected: EmulatorProcess, status: int, deferrable: bool) -> None:
    connected.faults(method="GET", path=f"*/insights/{TREND}/", status=status, count=-1)
    with pytest.raises(PostHogJobFailed, match=str(status)):
        finish(_gate(deferrable=deferrable), context())
    assert len(connected.calls(f"/insights/{TREND}/")) <= 2


def test_a_forced_calculation_that_came_from_a_cache_is_none(connected: EmulatorProcess) -> None:
    _calculate()
    _lie(connected, is_cached=True)
    assert _ended(_gate(refresh="force_blocking", timeout=0.25)) == "timed out"
    assert _ended(_gate(refresh="blocking")) == "succeeded"


# Complete in whose time, and as of when.


def test_the_day_ends_at_the_project_s_own_midnight(connected: EmulatorProcess) -> None:
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        connected.settings(timezone=zone)
        local = datetime.now(ZoneInfo(zone)).date()
        assert finish(_gate(refresh="force_blocking"), context())["date"] == str(local - timedelta(days=1))


@WAYS
def test_a_cache_from_before_midnight_says_nothing_of_the_whole_day(
    connected: EmulatorProcess, deferrable: bool
) -> None:
    connected.settings(cache_seconds=10 * 86400.0)  # PostHog thinks that it is fresh enough
    now = datetime.now(UTC)
    _calculate()
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    connected.advance((midnight - now).total_seconds() + 60)
    assert _ended(_gate(refresh="force_cache", deferrable=deferrable, timeout=0.25)) == "timed out"
    result = finish(_gate(refresh="blocking", deferrable=deferrable), context())
    assert result["date"] == str(now.date())
    assert result["last_refresh"] > _iso(midnight)
    assert finish(_gate(refresh="force_cache", deferrable=deferrable), context()) == result


def test_an_hourly_trend(connected: EmulatorProcess) -> None:
    source = {
        "kind": "TrendsQuery",
        "series": [{"kind": "EventsNode", "event": "$pageview", "math": "total"}],
        "dateRange": {"date_from": "-6h"},
        "interval": "hour",
    }
    insight = _save({"kind": "InsightVizNode", "source": source})
    before = datetime.now(UTC)
    found = finish(_gate(insight=insight), context())["date"]
    hours = {f"{moment - timedelta(hours=1):%Y-%m-%d %H:00:00}" for moment in (before, datetime.now(UTC))}
    assert found in hours


# Series.

TWO = [{"kind": "EventsNode", "event": name, "math": "total"} for name in ("$pageview", "no such event")]


def _trend(**node: Any) -> int:
    source = {"kind": "TrendsQuery", "series": TWO, "dateRange": {"date_from": "-3d"}, "interval": "day", **node}
    return _save({"kind": "InsightVizNode", "source": source})


@WAYS
def test_a_series_by_number_or_by_name(
    connected: EmulatorProcess, yesterday: tuple[str, int], deferrable: bool
) -> None:
    insight = _trend()
    for series, value in ((0, yesterday[1]), ("$pageview", yesterday[1]), (1, 0), ("1", 0), ("no such event", 0)):
        assert finish(_gate(insight=insight, series=series, deferrable=deferrable), context())["value"] == value


@WAYS
@pytest.mark.parametrize(
    ("node", "series", "why"),
    [
        ({}, 2, "'no such event'"),
        ({}, "sign up", "'no such event'"),
        ({"series": [TWO[0], TWO[0]]}, "$pageview", "2 series"),
        ({"series": TWO[:1], "breakdownFilter": {"breakdown": "$browser"}}, 0, "breakdown"),
    ],
)
def test_a_series_that_is_not_clear_fails_it(
    connected: EmulatorProcess, node: dict[str, Any], series: Any, why: str, deferrable: bool
) -> None:
    with pytest.raises(PostHogJobFailed, match=why):
        finish(_gate(insight=_trend(**node), series=series, deferrable=deferrable), context())


def test_a_total(connected: EmulatorProcess, yesterday: tuple[str, int]) -> None:
    day = {"date_from": yesterday[0], "date_to": yesterday[0]}
    insight = _trend(dateRange=day, trendsFilter={"display": "BoldNumber"})
    result = finish(_gate(insight=insight), context())
    assert (result["value"], result["date"]) == (yesterday[1], None)


@WAYS
def test_no_rows_and_null_meet_no_condition(connected: EmulatorProcess, deferrable: bool) -> None:
    for sql in ("select 1 from events where event = 'no such event'", "select null"):
        insight = _save({"kind": "DataVisualizationNode", "source": queries.hogql(sql)})
        for operator in ("!=", "<"):
            sensor = _gate(insight=insight, operator=operator, value=5, deferrable=deferrable, timeout=0.25)
            assert _ended(sensor) == "timed out"


@WAYS
def test_a_text_fails_it_without_showing_it(connected: EmulatorProcess, deferrable: bool) -> None:
    sql = "select 'ann-b', 5"
    insight = _save({"kind": "DataVisualizationNode", "source": queries.hogql(sql)})
    with pytest.raises(PostHogJobFailed, match="is not a number but String") as raised:
        finish(_gate(insight=insight, deferrable=deferrable), context())
    assert "ann" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"operator": "=>"}, "operator"),
        ({"operator": ""}, "operator"),
        ({"value": "many"}, "value"),
        ({"value": None}, "value"),
        ({"value": True}, "value"),
        ({"value": "nan"}, "value"),
        ({"value": float("inf")}, "value"),
        ({"series": -1}, "series"),
        ({"series": True}, "series"),
        ({"series": ""}, "series"),
        ({"refresh": "forceblocking"}, "refresh"),
        ({"refresh": "force_async"}, "refresh"),
        ({"refresh": True}, "refresh"),
        ({"from_dashboard": "x"}, "from_dashboard"),
        ({"from_dashboard": True}, "from_dashboard"),
        ({"insight": None}, "insight"),
        ({"insight": [1, 2]}, "insight"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    for deferrable in (False, True):
        with pytest.raises(PostHogSettingsError, match=field):
            finish(_gate(**options, deferrable=deferrable), context())
    assert connected.calls() == []


def test_deferring_hands_on_json_without_secrets(connected: EmulatorProcess) -> None:
    with pytest.raises(task_deferred()) as deferred:
        _gate(operator="<", value="-1.5", series="$pageview", from_dashboard="1", deferrable=True).execute(context())
    arguments = deferred.value.trigger.serialize()[1]  # type: ignore[attr-defined]
    assert json.loads(json.dumps(arguments)) == arguments
    assert (arguments["check"], arguments["looked"]) == ("insight_threshold", True)
    assert arguments["arguments"].pop("query_id").startswith("airflow-")
    assert arguments["arguments"] == {
        "insight": "2",
        "from_dashboard": 1,
        "operator": "<",
        "value": -1.5,
        "series": "$pageview",
        "refresh": "blocking",
    }
    assert connected.api_key not in json.dumps(arguments)


def test_arguments_are_templates() -> None:
    when = "{{ when }}"
    fresh = _fresh(insight=when, from_dashboard=when, fresher_than=when)
    gate = _gate(insight=when, operator=when, value=when, series=when, refresh=when)
    for sensor, names in (
        (fresh, ("insight", "from_dashboard", "fresher_than")),
        (gate, ("insight", "operator", "value", "series", "refresh")),
    ):
        sensor.render_template_fields({"when": "5"})
        assert {getattr(sensor, name) for name in names} == {"5"}


# In a real DAG.


def test_in_a_dag(connected: EmulatorProcess, run_dag: Callable[..., Any]) -> None:
    """By default an insight has to be fresher than the run; each mode waits for it."""
    _calculate(SQL)
    _calculate()
    how: dict[str, Any] = {"poke_interval": 0.5, "timeout": 60}

    def fill() -> None:
        old = PostHogInsightFreshSensor(task_id="old", insight=SQL, soft_fail=True, timeout=0.5, poke_interval=0.2)
        fresh = PostHogInsightFreshSensor(task_id="fresh", insight=TREND, mode="reschedule", **how)
        gate = PostHogInsightThresholdSensor(
            task_id="gate", insight=fresh.output, operator=">", value="{{ 1 - 1 }}", deferrable=True, **how
        )
        old.trigger_rule = fresh.trigger_rule = "all_done"
        old >> fresh >> gate

    ready = threading.Event()

    def renew() -> None:
        while not ready.wait(1.0):
            _calculate()

    renewing = threading.Thread(target=renew)
    renewing.start()
    try:
        run = run_dag(make_dag("insights", fill))
    finally:
        ready.set()
        renewing.join()
    assert task_states(run) == {"old": "skipped", "fresh": "success", "gate": "success"}
    found = xcoms(run)
    assert found["gate", -1, "return_value"]["value"] > 0
    assert found["fresh", -1, "return_value"]["id"] == TREND
    assert "/insights/" in found["fresh", -1, "_link_PostHogLink"]
