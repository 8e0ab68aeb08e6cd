"""Events of any days, names, people and clocks: each lands once, also where a reading is taken up again."""

from __future__ import annotations

import itertools
import uuid
from datetime import datetime, timedelta
from typing import Any

import hypothesis
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.extract import sources
from tests.extract.reading import UTC, column, event, lie_in_their_cells, read, settings_of, uuids

DAY = timedelta(days=1)
_numbers = itertools.count()

names = st.sampled_from(["$pageview", "$pageview", "a", "ä", "b'{x}", "B", "\uffff", "💥"])
people = st.sampled_from(["d0", "d0", "d0", "d1", "d2", "d3"])
#: Days before the range; most are none. No third day, which is another example's.
clocks = st.sampled_from([0, 0, 0, 0, 1, -1, 5, 61, 700, 15_500, 16_000, -200, -49_000])
crowds = st.lists(st.tuples(clocks, names, people, st.integers(1, 12), st.integers(0, 86_399)), max_size=14)


@st.composite
def events_of_a_day(draw: st.DrawFn) -> tuple[datetime, list[dict[str, Any]]]:
    """Some events of one day of arrival; copies too, which PostHog has not merged yet."""
    day = datetime(1990, 1, 1, tzinfo=UTC) + 3 * next(_numbers) * DAY
    made = [
        {
            **event(day + timedelta(seconds=second + number), name=name),
            "timestamp": (day - clock * DAY + timedelta(seconds=second)).isoformat(),
            "distinct_id": person,
            "created_at": (day + timedelta(seconds=min(second + number, 86_399))).isoformat(),
        }
        for clock, name, person, many, second in draw(crowds)
        for number in range(many)
    ]
    copies = draw(st.lists(st.sampled_from(made), max_size=3)) if made else []
    return day, [*made, *copies]


@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    events_of_a_day(),
    st.sampled_from(["created_at", "timestamp"]),
    st.integers(1, 30),
    st.integers(1, 30),
    st.integers(0, 1000),
)
def test_each_event_lands_once(
    rows: EmulatorProcess, made: tuple[datetime, list[dict[str, Any]]], by: Any, size: int, other: int, at: int
) -> None:
    day, events = made
    events = [{**each, "uuid": str(uuid.UUID(each["uuid"]))} for each in events]
    rows.add_events(events)
    if by == "timestamp":
        events = [each for each in events if day.isoformat() <= each["timestamp"] < (day + DAY).isoformat()]
    settings, source = settings_of(rows.url, rows), sources.events(time_column=by)
    chunks = read(settings, source, day, day + DAY, page_rows=size)
    assert sorted(column(chunks)) == uuids(events)
    assert sum(chunk.counted for chunk in chunks) == len(events)
    assert lie_in_their_cells(chunks)
    at %= len(chunks)
    again = read(settings, source, day, day + DAY, page_rows=other, resume_after=chunks[at].resume_after)
    assert sorted([*column(chunks[: at + 1]), *column(again)]) == uuids(events)
