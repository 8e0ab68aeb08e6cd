"""How often a transfer says how far it is, and what."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from airflow_provider_posthog.extract.progress import Progress, ProgressLog


def told(seconds: float, step: float = 1.0, start: Progress | None = None) -> list[tuple[float, str]]:
    """Transfer 1,000 rows and one window a second, of 10,000 and 10 times as many windows."""
    now, lines = [0.0], []
    log = ProgressLog(
        lambda line: lines.append((now[0], line)),
        "events",
        start=start,
        clock=lambda: now[0],
        today=lambda: datetime(2026, 11, 1, 10, tzinfo=timezone.utc),
    )
    before = start or Progress(0)
    while now[0] < seconds:
        now[0] += step
        log(Progress(before.rows + int(now[0] * 1000), before.windows + int(now[0]), 100_000, 100))
    return lines


def test_gaps_grow() -> None:
    assert [at for at, _ in told(9.9, 0.1)] == []
    assert [at for at, _ in told(200)] == [10, 30, 70, 150]
    late = [at for at, _ in told(10_000, 10)]
    assert late[-1] - late[-2] == 600


def test_what_is_said() -> None:
    assert told(11)[0][1] == ("events: 10,000 of 100,000 rows, 1,000 rows/s, window 10 of 100, done about 10:01:30 UTC")


def test_what_an_earlier_try_did_is_not_part_of_the_speed() -> None:
    line = told(11, start=Progress(50_000, 50))[0][1]
    assert "60,000 of 100,000 rows, 1,000 rows/s, window 60 of 100, done about 10:00:40" in line


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(0), "x: 0 rows, 0 rows/s"),
        (Progress(5, 0, 0, 0), "x: 5 of 0 rows, 1 rows/s"),
        (Progress(0, 1, None, 4), "x: 0 rows, 0 rows/s, window 1 of 4, done about 10:00:15 UTC"),
        (Progress(0, 1, None, 400_000), "x: 0 rows, 0 rows/s, window 1 of 400,000, done 2026-11-24 13:33"),
    ],
)
def test_what_is_not_known_is_left_out(progress: Progress, line: str) -> None:
    now = [0.0]
    log = ProgressLog(print, "x", clock=lambda: now[0], today=lambda: datetime(2026, 11, 1, 10, tzinfo=timezone.utc))
    now[0] = 5.0
    assert log.line(progress) == line
