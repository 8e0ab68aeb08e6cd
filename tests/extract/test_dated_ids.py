"""Sessions come by the minutes in which their ids begin, which PostHog's table is sorted by; none is lost for that."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.dated_ids import Minutes, joined_runs, runs_of
from tests.extract.reading import REFUSALS, Middleman, Told, column, event, read

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NONE = timedelta(0)
#: When the sessions of a day begin, and how wrong the clocks are that have made their ids.
SESSIONS = (
    (HOUR, NONE),
    (HOUR + timedelta(seconds=1), -timedelta(seconds=2)),
    (5 * HOUR, 7 * HOUR),
    (20 * HOUR, -2 * DAY),
    (20 * HOUR + MINUTE, 2 * DAY + 23 * HOUR),
    (24 * HOUR - MINUTE, MINUTE),
)
PAGES = re.compile(r"ORDER BY \$start_timestamp, .* LIMIT \d+$")
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def session_id(moment: datetime) -> str:
    """Return a UUID of version 7 that begins with a time."""
    millis, rest = f"{round(moment.timestamp() * 1000):012x}", uuid4().hex
    return f"{millis[:8]}-{millis[8:]}-7{rest[:3]}-a{rest[3:6]}-{rest[6:18]}"


def begin(posthog: EmulatorProcess, day: datetime, sessions: Sequence[tuple[timedelta, timedelta]]) -> list[str]:
    """Let sessions begin; return their ids."""
    made = [session_id(day + at + wrong) for at, wrong in sessions]
    moments = (timedelta(0), timedelta(seconds=30))
    posthog.add_events(
        [
            event(day + at + later, **{"$session_id": each})
            for each, (at, _) in zip(made, sessions, strict=True)
            for later in moments
        ]
    )
    return sorted(made)


@pytest.fixture
def day(day: datetime) -> datetime:
    return day + timedelta(days=3000)


@pytest.fixture
def made(rows: EmulatorProcess, day: datetime) -> list[str]:
    begin(rows, day, [(-HOUR, NONE), (25 * HOUR, NONE)])
    return begin(rows, day, SESSIONS)


def sessions_of(settings: ClientSettings, day: datetime, **options: Any) -> list[str]:
    return sorted(column(read(settings, sources.sessions(), day, day + DAY, **options), "session_id"))


@pytest.mark.parametrize("page_rows", [1, 2, 100])
def test_every_session_is_read_once_whatever_clock_has_made_its_id(
    settings: ClientSettings, made: list[str], day: datetime, page_rows: int
) -> None:
    assert sessions_of(settings, day, page_rows=page_rows) == made


def test_a_page_asks_for_the_minutes_of_its_ids_alone(
    settings: ClientSettings, man: Middleman, made: list[str], day: datetime
) -> None:
    asked: list[Mapping[str, Any]] = []

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        asked.extend([values] if PAGES.search(sql) else [])
        return ask()

    man.rule = rule
    assert sessions_of(settings, day) == made
    (values,) = asked
    runs = [name for name in values if name.startswith("window_from_")]
    assert len(runs) == 5  # two begin in minutes that touch
    looked_at = sum(_minutes(values, name.removeprefix("window_from_")) for name in runs)
    assert looked_at == 6


def _minutes(values: Mapping[str, Any], number: str) -> int:
    """Return how many minutes PostHog looks at: from three days before to three days after."""
    low, high = (datetime.fromisoformat(values[f"window_{side}_{number}"][:-1]) for side in ("from", "to"))
    return round((high + 3 * DAY - (low - 3 * DAY)) / MINUTE)


def test_few_sessions_cost_no_look_before_their_page(
    settings: ClientSettings, man: Middleman, made: list[str], day: datetime
) -> None:
    assert sessions_of(settings, day) == made
    _, _, page = sorted(man.asked, key=lambda sql: bool(PAGES.search(sql)))
    assert PAGES.search(page)
    assert sum("1 = 2" in sql for sql in man.asked) == 1


def test_a_day_that_is_said_to_have_none_is_looked_at(
    settings: ClientSettings, man: Middleman, made: list[str], day: datetime
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        return status, {**answer, "results": []} if "AS counted" in sql and "GROUP BY" in sql else answer

    man.rule = rule
    with pytest.raises(Exception, match=r"counted 0 rows .* but its first answer showed 3"):
        sessions_of(settings, day)


def test_servers_that_know_no_such_ids_are_asked_without(
    settings: ClientSettings, man: Middleman, made: list[str], day: datetime
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        if "session_id_v7" not in sql:
            return ask()
        detail = "Unable to resolve field: session_id_v7"
        return 400, {"type": "validation_error", "code": "invalid_input", "detail": detail, "attr": None}

    man.rule = rule
    assert sessions_of(settings, day, page_rows=2) == made
    assert sum("session_id_v7" in sql for sql in man.asked) == 1


def test_what_is_not_found_in_its_minutes_is_looked_for_everywhere(
    settings: ClientSettings, man: Middleman, made: list[str], day: datetime
) -> None:
    """A server may look around the bounds less far."""

    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        status, answer = ask()
        return status, {**answer, "results": answer["results"][:-1]} if "session_id_v7 < 0" in sql else answer

    man.rule = rule
    assert sessions_of(settings, day) == made


@pytest.mark.parametrize("refusal", REFUSALS[:2])
def test_parts_of_a_page_that_is_too_much_keep_its_minutes(
    settings: ClientSettings, man: Middleman, made: list[str], day: datetime, refusal: Told
) -> None:
    def rule(sql: str, values: Mapping[str, Any], ask: Callable[[], Told]) -> Told:
        asked = re.search(r"LIMIT (\d+)$", sql)
        return refusal if PAGES.search(sql) and asked and int(asked[1]) > 4 else ask()

    man.rule = rule
    assert sessions_of(settings, day) == made
    assert all("session_id_v7 < 0" in sql for sql in man.asked if PAGES.search(sql))


def test_no_other_column_takes_the_name_of_the_ids() -> None:
    with pytest.raises(PostHogSettingsError, match="session_id_v7"):
        sources.sessions({"id": "session_id", "session_id_v7": "1"})


MINUTES = st.integers(0, 9 * 24 * 60)


@given(minutes=st.sets(MINUTES, min_size=1, max_size=200))
def test_runs_hold_every_minute_and_are_few(minutes: set[int]) -> None:
    first = 20_000 * 24 * 60
    runs = runs_of([first + each for each in minutes], EPOCH + 20_003 * DAY, EPOCH + 20_006 * DAY)
    assert len(runs) <= 32
    assert all(any(low <= first + each < high for low, high in runs) for each in minutes)
    assert all(one[1] < two[0] for one, two in pairwise(runs))
    assert runs[0][0] == first + min(minutes)
    assert runs[-1][1] == first + max(minutes) + 1


@pytest.mark.parametrize("minute", [0, 20_000 * 24 * 60 - 1, 20_010 * 24 * 60, 2**48 // 60_000])
def test_minutes_that_posthog_does_not_look_at_say_nothing(minute: int) -> None:
    assert runs_of([20_003 * 24 * 60, minute], EPOCH + 20_003 * DAY, EPOCH + 20_006 * DAY) == ()


def test_runs_are_joined_across_the_shortest_gaps() -> None:
    runs: list[Minutes] = [(10 * number, 10 * number + 1 + (number == 7) * 5) for number in range(33)]
    joined = joined_runs(runs)
    assert len(joined) == 32
    assert (70, 81) in joined
