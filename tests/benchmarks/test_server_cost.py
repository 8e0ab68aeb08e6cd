"""What a reading costs PostHog: the measurement works, and its limits are PostHog's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.clickhouse import printed
from benchmarks.limits_model import Query, calculator, hours
from benchmarks.server_cost_lazy import measure

ROOT = Path(__file__).parents[2]


def test_quick_lands_every_row() -> None:
    command = [sys.executable, "-m", "benchmarks.server_cost", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "10,000 events (new server), this provider: " in done.stdout
    assert "30,000 landed" in done.stdout
    assert re.search(r"rows landed [\d,]+, lost 0 times", done.stdout)


def test_the_page_of_the_limits_has_the_table_that_the_measurement_makes() -> None:
    assert calculator() in (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")


def test_queries_wait_for_their_places_minutes_and_hours() -> None:
    quick = Query(0, 0)
    assert hours([Query(0, 1_000_000)] * 4, 1e9) * 3600 == pytest.approx(2 * 60.05)
    assert hours([quick] * 240, 1e9) * 3600 == pytest.approx(4, abs=0.1)
    assert hours([quick] * 241, 1e9) * 3600 == pytest.approx(60.05, abs=0.1)
    assert hours([quick] * 2401, 1e9) == pytest.approx(1, abs=0.01)


def test_queries_wait_for_bytes_once_a_days_worth_is_spent() -> None:
    assert hours([Query(1e9, 0)] * 24, 1e9) < 0.01
    assert hours([Query(1e9, 0)] * 25, 1e9) < 0.01
    assert hours([Query(1e9, 0)] * 36, 1e9) == pytest.approx(10, abs=1.01)
    assert hours([Query(1e12, 0)] * 2, 1e9) == pytest.approx(1, abs=0.01)


def test_hogql_is_written_as_posthog_writes_it() -> None:
    sql = "SELECT uuid FROM events WHERE events.timestamp >= toDateTime({a}) AND created_at < toDateTime({a}) LIMIT 1"
    values = {"a": "2026-01-01T00:00:00Z"}
    moment = "parseDateTime64BestEffortOrNull('2026-01-01T00:00:00Z', 6, 'UTC')"
    came = f"ifNull(toTimeZone(created_at, 'UTC') < {moment}, 0) LIMIT 1"
    of_team = "SELECT uuid FROM events WHERE team_id = 1 AND"
    assert printed(sql, values, "new") == f"{of_team} events.timestamp >= {moment} AND {came}"
    wrapped = f"toTimeZone(events.timestamp, 'UTC') >= {moment}"
    assert printed(sql, values, "old") == f"{of_team} {wrapped} AND {came}"
    persons = "SELECT id, properties FROM persons WHERE id >= {a} ORDER BY toString(id) LIMIT 1"
    assert printed(persons, values, "new").count("id >= '2026-01-01T00:00:00Z'") == 2
    assert printed(persons, values, "old").count("ifNull(id >= '2026-01-01T00:00:00Z', 0)") == 1


def test_groups_and_distinct_ids_are_written_with_their_versions_merged() -> None:
    groups = printed("SELECT key FROM groups WHERE key >= {a} ORDER BY key LIMIT 1", {"a": "x"}, "new")
    assert "argMax(groups.group_properties, groups._timestamp)" in groups
    assert groups.endswith(" AS groups WHERE key >= 'x' ORDER BY key LIMIT 1")


def test_sessions_are_looked_up_as_each_age_does() -> None:
    begun = "($start_timestamp <= toDateTime({a}) OR NOT (session_id_v7 < 0))"
    sql = f"SELECT session_id FROM sessions WHERE $start_timestamp >= toDateTime({{a}}) AND {begun} ORDER BY 1 LIMIT 1"
    old, new, newest = (printed(sql, {"a": "2026-01-01"}, age) for age in ("old", "new", "v3"))
    moment = "parseDateTime64BestEffortOrNull('2026-01-01', 6, 'UTC')"
    assert f"+ toIntervalDay(3) >= {moment}, 0)" in old
    assert " OR 1))" in old
    assert f"80)), 1000)) >= minus({moment}, toIntervalDay(3)) AND (" in new
    assert f"raw_sessions_v3.session_timestamp <= plus({moment}, toIntervalDay(3)) OR not(1))) GROUP BY" in newest


@pytest.mark.parametrize("name", ["groups", "distinct_ids"])
def test_what_posthog_merges_is_read_for_few_bytes(name: str) -> None:
    rows, ratio, _ = measure(name, 3_000)
    assert rows == 3_000
    assert ratio <= 5


def test_sessions_of_a_week_are_read_for_few_bytes() -> None:
    rows, ratio, _ = measure("sessions", 2_000, 7)
    assert rows == 14_000
    assert ratio <= 6
