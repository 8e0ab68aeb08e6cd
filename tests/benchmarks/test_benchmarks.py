"""The measurements themselves work, and their server tells the truth. What they measure is for `make benchmark`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.chart import Bar, chart
from benchmarks.extract import OURS, QUICK, TIGHT, Run, Situation
from benchmarks.extract_report import Report
from benchmarks.fake_events import COLUMNS, Events, Refused, iso
from benchmarks.measure import Cost

ROOT = Path(__file__).parents[2]
PAGE = f"SELECT {', '.join(COLUMNS)} FROM events WHERE {{}} ORDER BY created_at, toString(uuid) LIMIT 1000"


def test_quick_lands_every_row() -> None:
    command = [sys.executable, "-m", "benchmarks.extract", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    there = QUICK[0].events * len(OURS)
    assert f"rows landed {there:,} = rows there {there:,}, 0 of them twice" in done.stdout
    assert done.stdout.count(f"{QUICK[0].events:,} of {QUICK[0].events:,} events landed") == len(OURS) + 2


def test_deferred_exports_are_measured_before_and_after_one_poll_for_all() -> None:
    command = [sys.executable, "-m", "benchmarks.triggerer", "--tasks", "4", "--interval", "0.2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^ +4 (\w+)", done.stdout, re.MULTILINE) == ["before", "after"]


@pytest.fixture(scope="module")
def events() -> Events:
    return Events(3000)


def rows_of(events: Events, sql: str, values: dict[str, str]) -> list[list[str]]:
    pieces, count = events.query(sql, values)
    answer = json.loads(b"".join(map(bytes, pieces)))
    assert len(answer["results"]) == count
    assert len(answer["types"]) == len(answer["columns"])
    return list(answer["results"])


def test_the_fake_pages_through_ties_by_its_keyset(events: Events) -> None:
    assert events.tied > 20
    seen: list[str] = []
    where, values = "created_at >= toDateTime({t})", {"t": iso(0)}
    while page := rows_of(events, PAGE.format(where), values):
        seen += [row[0] for row in page]
        where = "(created_at, toString(uuid)) > (toDateTime({t}), {u})"
        values = {"t": page[-1][5], "u": page[-1][0]}
    assert seen == events.uuids
    assert len(set(seen)) == 3000


def test_the_fake_counts_what_its_windows_hold(events: Events) -> None:
    sql = (
        "SELECT intDiv(toUnixTimestamp(created_at), 3600) AS bucket, count() AS counted, min(timestamp) AS low, "
        "max(timestamp) AS high FROM events GROUP BY bucket ORDER BY bucket LIMIT 4002"
    )
    groups = rows_of(events, sql, {})
    assert sum(group[1] for group in groups) == 3000  # type: ignore[misc]
    _, counted, low, high = groups[5]
    where = "timestamp >= toDateTime({low}) AND timestamp <= toDateTime({high})"
    rows = rows_of(events, PAGE.format(where), {"low": low, "high": high})
    assert len(rows) == counted
    assert {(low, high)} == {(rows[0][4], rows[-1][4])}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM events WHERE event = 'x' LIMIT 10",
        "SELECT * FROM events LIMIT 10 OFFSET 20",
        "SELECT uuid FROM events LIMIT 10",
        "SELECT * FROM events ORDER BY uuid LIMIT 10",
    ],
)
def test_the_fake_refuses_what_it_does_not_understand(events: Events, sql: str) -> None:
    with pytest.raises(Refused):
        events.query(sql, {})


def test_a_child_is_measured_with_its_children(tmp_path: Path) -> None:
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))']); print('done')"
    idle = measure.run([sys.executable, "-c", "print('done')"], tmp_path / "log")
    busy = measure.run([sys.executable, "-c", burn], tmp_path / "log")
    assert busy.output == "done"
    assert busy.cpu > idle.cpu + 0.05
    with pytest.raises(measure.RunFailed, match="ended with 3"):
        measure.run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")


def test_lost_rows_are_never_a_success() -> None:
    situation = Situation(100)
    runs = [Run(situation, TIGHT.name, "limit", Cost(2, 2, 100), 1, 1, 0.0, 100, 100)]
    runs += [Run(situation, client.name, "ours", Cost(1, 1, 50), 1, 1, 0.0, 100, 99) for client in OURS]
    report = Report(runs, [], [])
    assert not report.complete
    assert "LOST ROWS" in report.summary()
    assert "**99**, 1 lost" in report.table(situation)
    assert not any(met for *_, met in report.targets())


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Page\n\nBefore\n", encoding="utf-8")
    measure.write_section("a", "one", page)
    measure.write_section("b", "two", page)
    measure.write_section("a", "three", page)
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"one|two|three", text) == ["three", "two"]
    assert text.startswith("# Page\n\nBefore\n")


def test_the_chart_escapes_names() -> None:
    drawn = chart([("a < b", [Bar("x & y", 1.0, "1 s", "ours"), Bar("z", 2.0, "2 s")])], ["c > d"])
    assert "a &lt; b" in drawn
    assert "x &amp; y" in drawn
    assert "c &gt; d" in drawn
    assert drawn.count("<rect") == 1 + 3 + 2, "the background, a legend of three colours, two bars"
