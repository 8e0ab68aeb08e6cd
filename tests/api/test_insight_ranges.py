"""The gate's number is the count of the newest whole interval of the range, or none at all; whatever the moment."""

from __future__ import annotations

import functools
import random
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.api.insight_ranges import Window, floor, zone_of
from airflow_provider_posthog.api.insight_values import Pick, Reading, readings

UTC = timezone.utc
ZONES = (
    *("UTC", "America/New_York", "America/St_Johns", "Europe/London", "Europe/Berlin"),
    *("Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Kiritimati", "America/Santiago", "Pacific/Pago_Pago"),
)
#: All words that PostHog's menus write, and what users type beside them.
STARTS = (
    *("-1d", "-3d", "-7d", "-14d", "-30d", "-90d", "-180d", "-2w", "-1m", "-3m", "-1y", "dStart", "-1dStart", "wStart"),
    *("-1wStart", "mStart", "-1mStart", "qStart", "-1qStart", "yStart", "-1yStart", "-24h", "-48h", "all"),
)
ENDS = (
    *(
        None,
        "",
        "dEnd",
        "-1d",
        "-2d",
        "-1dEnd",
        "-1dStart",
        "-1w",
        "wEnd",
        "-1wEnd",
        "mEnd",
        "-1mEnd",
        "qEnd",
        "-1qEnd",
    ),
    *("yEnd", "-1yEnd", "-1m", "hEnd", "-1h"),
)
INTERVALS = ("hour", "day", "week", "month", "quarter")
FIRST, LAST = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, tzinfo=UTC)


class PostHog:
    """What PostHog would answer of events at known times, counted by SQL; its dates are read here once more.

    The reference for the test: written after the facts, and sharing nothing with what is tested.
    """

    def __init__(self, chance: random.Random) -> None:
        self.database = sqlite3.connect(":memory:")
        self.database.execute("CREATE TABLE events (at INTEGER PRIMARY KEY) WITHOUT ROWID")
        seconds = sorted(chance.sample(range(int(FIRST.timestamp()) - 40_000_000, int(LAST.timestamp())), 20_000))
        self.database.executemany("INSERT INTO events VALUES (?)", [(second,) for second in seconds])

    def count(self, start: datetime, end: datetime) -> int:
        """Count the events from one moment until before another."""
        sql = "SELECT count(*) FROM events WHERE at >= ? AND at < ?"
        return int(self.database.execute(sql, (start.timestamp(), end.timestamp())).fetchone()[0])


def _edge(text: str, local: datetime, *, is_end: bool, hourly: bool) -> datetime:
    """Read a relative date by the facts: the local time at which a range begins, or the one before which it ends."""
    number, unit = int("".join(filter(str.isdigit, text)) or 0), next(each for each in text if each in "hdwmqysM")
    if unit in "sM":
        moved = local - timedelta(**{{"s": "seconds", "M": "minutes"}[unit]: number})
    elif unit == "h":
        moved = local - timedelta(hours=number)
    elif unit in "dw":
        moved = local - timedelta(days=number * (7 if unit == "w" else 1))
    else:
        moved = _months_before(local, number * {"m": 1, "q": 3, "y": 12}[unit])
    if text.endswith(("Start", "End")):
        name = {
            "s": "second",
            "M": "minute",
            "h": "hour",
            "d": "day",
            "w": "week",
            "m": "month",
            "q": "quarter",
            "y": "year",
        }[unit]
        start = _floor(moved, name)
        if text.endswith("End"):
            return _next(start, name)
        return _next(_floor(start, "day"), "day") if is_end and not hourly else start
    if unit in "sM" or (hourly and unit == "h"):
        return moved
    day = _floor(moved, "day")
    return _next(day, "day") if is_end else day


def _months_before(local: datetime, months: int) -> datetime:
    count = local.year * 12 + local.month - 1 - months
    for day in range(local.day, 0, -1):
        try:
            return local.replace(year=count // 12, month=count % 12 + 1, day=day)
        except ValueError:
            continue
    raise AssertionError


def _floor(local: datetime, interval: str) -> datetime:
    if interval in ("second", "minute"):
        return local.replace(microsecond=0, second=local.second if interval == "second" else 0)
    hour = local.replace(minute=0, second=0, microsecond=0)
    if interval == "hour":
        return hour
    day = hour.replace(hour=0)
    if interval == "week":
        return day - timedelta(days=day.isoweekday() % 7)
    if interval == "day":
        return day
    return day.replace(day=1, month={"month": day.month, "quarter": (day.month - 1) // 3 * 3 + 1, "year": 1}[interval])


def _next(start: datetime, interval: str) -> datetime:
    lengths = {"second": {"seconds": 1}, "minute": {"minutes": 1}, "hour": {"hours": 1}, "day": {"days": 1}}
    if interval in lengths or interval == "week":
        return start + timedelta(**lengths.get(interval, {"days": 7}))
    for _ in range({"month": 1, "quarter": 3, "year": 12}[interval]):
        start = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
    return start


class Asked:
    """A trend in a zone, and what PostHog answers for it at a moment."""

    def __init__(self, posthog: PostHog, zone: str, begun: str, ended: str | None, interval: str) -> None:
        self.posthog, self.name, self.zone, self.interval = posthog, zone, ZoneInfo(zone), interval
        self.begun, self.ended = begun, ended

    def at(self, local: datetime) -> datetime:
        return local.replace(tzinfo=self.zone).astimezone(UTC)

    def range(self, now: datetime) -> tuple[datetime | None, datetime]:
        """Return the moments at which the range begins and ends, if it is asked for now."""
        local, hourly = now.astimezone(self.zone).replace(tzinfo=None), self.interval == "hour"
        start = None if self.begun == "all" else self.at(_edge(self.begun, local, is_end=False, hourly=hourly))
        if not self.ended:
            return start, self.at(_next(_floor(local, "day"), "day"))
        return start, self.at(_edge(self.ended, local, is_end=True, hourly=hourly))

    def starts(self, now: datetime) -> list[datetime]:
        """Return the local times at which the points begin; the newest forty will do."""
        first, last = self.range(now)
        local = (last - timedelta(microseconds=1)).astimezone(self.zone).replace(tzinfo=None)
        found = [_floor(local, self.interval)]
        while len(found) < 40 and (first is None or self.at(found[0]) > first):
            found.insert(0, _floor(found[0] - timedelta(hours=1), self.interval))
        return found if first is None or last > first else []

    def points(self, now: datetime) -> Iterator[tuple[datetime, datetime, datetime]]:
        """Yield each point's local beginning, and the moments between which its events are, by now."""
        first, last = self.range(now)
        for start in self.starts(now):
            begins, ends = self.at(start), self.at(_next(start, self.interval))
            yield start, max(begins, first or begins), min(ends, last, now)

    def answer(self, now: datetime, *, told: bool) -> dict[str, Any]:
        """Answer as PostHog does if it calculates the trend now."""
        form = "%Y-%m-%d %H:%M:%S" if self.interval == "hour" else "%Y-%m-%d"
        found = list(self.points(now))
        item = {
            "label": "x",
            "action": {},
            "days": [f"{start:{form}}" for start, _, _ in found],
            "data": [self.posthog.count(begins, ends) for _, begins, ends in found],
        }
        first, last = self.range(now)
        resolved = {"date_from": first and first.isoformat(), "date_to": (last - timedelta(microseconds=1)).isoformat()}
        dates = {"date_from": self.begun, "date_to": self.ended}
        return {
            "query": {"kind": "TrendsQuery", "interval": self.interval, "dateRange": dates},
            "result": [item],
            "last_refresh": now.isoformat(),
            "timezone": self.name,
            **({"resolved_date_range": resolved} if told else {}),
        }

    def newest(self, now: datetime) -> int | None:
        """Count the events of the newest whole interval of the range, if it is asked for now."""
        first, last = self.range(now)
        for start in reversed(self.starts(now)):
            begins, ends = self.at(start), self.at(_next(start, self.interval))
            if ends <= min(now, last) and (first is None or begins >= first):
                return self.posthog.count(begins, ends)
        return None


def _cases(number: int) -> Iterator[tuple[Asked, datetime, datetime, bool]]:
    chance = random.Random("moments")
    posthog = PostHog(chance)
    for _ in range(number):
        asked = Asked(posthog, *(chance.choice(each) for each in (ZONES, STARTS, ENDS, INTERVALS)))
        now = FIRST + timedelta(seconds=chance.uniform(86400, 700 * 86400))
        if chance.random() < 0.3:  # near midnight, where the days end
            local = now.astimezone(asked.zone).replace(hour=0, minute=0, second=0, microsecond=0)
            now = local.astimezone(UTC) + timedelta(seconds=chance.choice((-1, 0, 1, 59)))
        age = chance.choice((0.0, 0.5, 600.0, 3 * 3600.0, 26 * 3600.0, 8 * 86400.0, 40 * 86400.0))
        yield asked, now - timedelta(seconds=age * chance.random()), now, chance.random() < 0.5


def _read(answer: dict[str, Any], now: datetime) -> Reading:
    return readings(answer, Pick(), now)[0]


def _check(asked: Asked, calculated: datetime, now: datetime, *, told: bool) -> str:
    """Let a gate read a number at a moment, and hold it against the count; returns what came of it."""
    found = _read(asked.answer(calculated, told=told), now)
    kept = "kept" if found.value is not None else "none"
    if found.stale:
        kept = "stale"
        found = _read(asked.answer(now, told=told), now)
        assert not found.stale
    expected = asked.newest(now)
    if not told and found.value is not None and expected is None:
        assert _is_cut_by_a_word_that_only_the_server_knows(asked)
    elif told and not _is_before_the_range(asked, _newest_start(asked, calculated), now):
        assert found.value == expected, (vars(asked), calculated, now)
    return kept


@pytest.mark.reliability
def test_forty_thousand_moments() -> None:
    """A number that is given is the count of now's newest whole interval; and after a calculation there is one.

    In ten zones, for every word of a range, by each interval, from caches that are up to forty days old.
    """
    came = []
    for number, (asked, calculated, now, told) in enumerate(_cases(40_000)):
        if number % 4:  # three of four: only the choice of the point, which costs little
            window = Window(asked.interval, asked.zone, asked.begun, asked.ended or None)
            if not window.stale(calculated, now):
                then, today = _newest_start(asked, calculated), _newest_start(asked, now)
                assert then == today or _is_before_the_range(asked, then, now), (vars(asked), calculated, now)
            continue
        came.append(_check(asked, calculated, now, told=told))
    assert came.count("kept") > 1000
    assert came.count("stale") > 1000


@functools.cache
def _posthog() -> PostHog:
    return PostHog(random.Random("words"))


#: Every word that PostHog's reader of relative dates takes: a number, a unit, and an edge of it.
WORDS = st.builds(
    lambda number, unit, edge: f"{'' if number is None else -number}{unit}{edge}",
    st.one_of(st.none(), st.integers(0, 40)),
    st.sampled_from("sMhdwmqy"),
    st.sampled_from(["", "Start", "End"]),
)
MOMENTS = st.datetimes(datetime(2025, 1, 2), datetime(2026, 11, 30)).map(lambda moment: moment.replace(tzinfo=UTC))
AGES = st.sampled_from([0, 1, 59, 3600, 86_399, 86_400, 8 * 86_400, 40 * 86_400])


@settings(max_examples=1500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    *(st.sampled_from(ZONES), st.one_of(WORDS, st.just("all")), st.one_of(WORDS, st.none())),
    *(st.sampled_from(INTERVALS), MOMENTS, AGES, st.booleans()),
)
def test_every_word_of_a_range(
    zone: str, begun: str, ended: str | None, interval: str, now: datetime, age: int, told: bool
) -> None:
    _check(Asked(_posthog(), zone, begun, ended, interval), now - timedelta(seconds=age), now, told=told)


def _newest_start(asked: Asked, now: datetime) -> datetime | None:
    """Return when the newest interval begins that was over at a moment, and that the end of the range does not cut."""
    last = asked.range(now)[1]
    start = _floor(min(now, last).astimezone(asked.zone).replace(tzinfo=None), asked.interval)
    while asked.at(_next(start, asked.interval)) > min(now, last):
        start = _floor(start - timedelta(hours=1), asked.interval)
    return start


def _is_before_the_range(asked: Asked, start: datetime | None, now: datetime) -> bool:
    """Tell whether an interval is one that the range has left behind: then there is nothing newer, either."""
    first = asked.range(now)[0]
    return start is not None and first is not None and asked.at(start) < first


def _is_cut_by_a_word_that_only_the_server_knows(asked: Asked) -> bool:
    words = (asked.begun, asked.ended or "")
    return any(unit in word for word in words for unit in "hwqsM") or asked.interval == "hour"


@pytest.mark.parametrize(
    ("ended", "calculated", "now", "stale"),
    [
        ("-1d", "2026-11-28T23:30", "2026-11-29T06:00", True),  # the cache holds the day before yesterday
        ("-1dEnd", "2026-11-28T23:30", "2026-11-29T06:00", True),
        ("-1d", "2026-11-29T00:10", "2026-11-29T23:59", False),
        (None, "2026-11-28T23:30", "2026-11-29T00:00", True),
        (None, "2026-11-29T00:00", "2026-11-29T23:59", False),
        ("-1mEnd", "2026-11-02T00:00", "2026-11-29T00:00", False),  # last month stays what it is
        ("-1mEnd", "2026-10-31T23:00", "2026-11-01T01:00", True),
        ("2026-11-20", "2026-11-21T00:00", "2026-11-29T00:00", False),  # it ended, and was calculated behind that
        ("2026-11-20", "2026-11-20T12:00", "2026-11-29T00:00", True),
        ("some day", "2026-11-28T23:30", "2026-11-29T06:00", True),  # what cannot be read goes on until now
    ],
)
def test_a_result_is_stale_as_soon_as_its_range_has_a_newer_whole_day(
    ended: str | None, calculated: str, now: str, stale: bool
) -> None:
    window = Window("day", UTC, "-7d", ended)
    then, today = (datetime.fromisoformat(each).replace(tzinfo=UTC) for each in (calculated, now))
    assert window.stale(then, today) is stale


def test_a_week_that_the_range_cuts_is_none() -> None:
    """Of the last week only three days are in the range; and of the first one only some."""
    answer = {
        "query": {"kind": "TrendsQuery", "interval": "week", "dateRange": {"date_from": "-30d", "date_to": "-4d"}},
        "result": [{"label": "x", "action": {}, "days": ["2026-11-08", "2026-11-15"], "data": [70, 30]}],
        "last_refresh": "2026-11-22T06:00:00Z",
        "timezone": "UTC",
    }
    now = datetime(2026, 11, 22, 6, tzinfo=UTC)
    assert (_read(answer, now).date, _read(answer, now).value) == ("2026-11-08", 70)
    dates = {"date_from": "2026-11-10", "date_to": None}
    assert _read({**answer, "query": {**answer["query"], "dateRange": dates}}, now).previous is None


def test_a_range_that_a_dashboard_has_replaced_is_not_read_by_the_insights_own_words() -> None:
    """PostHog says what it has read; the query says "until now"."""
    told = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 27, 23, 59, 59, tzinfo=UTC))
    window = Window("day", UTC, "-7d", None, resolved=told)
    assert window.stale(datetime(2026, 11, 28, 23, tzinfo=UTC), datetime(2026, 11, 29, 6, tzinfo=UTC))


def test_every_local_time_is_in_the_interval_that_it_is_floored_to() -> None:
    chance = random.Random("floors")
    for _ in range(2000):
        local = datetime(2024, 1, 1) + timedelta(seconds=chance.uniform(0, 1000 * 86400))
        for interval in INTERVALS:
            assert floor(local, interval) == _floor(local, interval)


@pytest.mark.parametrize("name", [None, "", "Mars/Olympus", "../etc/passwd", 7])
def test_an_unknown_zone_is_the_one_in_which_it_is_earliest(name: object) -> None:
    assert zone_of(name).utcoffset(datetime(2026, 1, 1)) == timedelta(hours=-12)
