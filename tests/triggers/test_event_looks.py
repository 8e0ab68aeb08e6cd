"""What a watcher makes of looks, and what PostHog is asked for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.triggers.event_looks import (
    DAY,
    Counted,
    LateLook,
    Look,
    Member,
    Seen,
    Terms,
    news,
    next_after,
)
from airflow_provider_posthog.triggers.event_polls import Poll, catch_up, client_of, taking_part
from airflow_provider_posthog.triggers.event_questions import late, read, recent
from tests.support.scripted import Reply, ScriptedServer, error, ok

T0 = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
TERMS = Terms("posthog_default", None, 0.01, 2 * 86_400.0, 3600.0)
HEAVY = error(504, "Query has hit the max execution time", code="timeout")


def at(minutes: float) -> datetime:
    return T0 + timedelta(minutes=minutes)


def test_what_posthog_is_asked_for_names() -> None:
    look = Look(frozenset({"b", "a"}), at(60), at(0), at(1), at(50), {})
    statement = recent(TERMS, look, TERMS.scan_from(look.after))
    assert statement.sql == (
        "SELECT indexOf({names}, events.event) AS number,"
        " uniqExactIf(events.uuid, events.created_at > toDateTime({after})) AS counted,"
        " uniqExactIf(events.uuid, events.created_at > toDateTime({next})) AS kept,"
        " uniqExactIf(events.uuid, events.created_at > toDateTime({newest})) AS fresh,"
        " max(events.created_at) AS newest_arrival FROM events"
        " WHERE events.timestamp >= toDateTime({scan_from}) AND events.created_at > toDateTime({since})"
        " AND events.timestamp >= events.created_at - toIntervalSecond(172800) AND events.event IN {names}"
        " GROUP BY number ORDER BY number LIMIT 50000"
    )
    assert statement.values == {
        "names": ["a", "b"],
        "scan_from": "2026-11-27T12:00:00.000000Z",
        "since": "2026-11-29T12:00:00.000000Z",
        "after": "2026-11-29T12:00:00.000000Z",
        "next": "2026-11-29T12:01:00.000000Z",
        "newest": "2026-11-29T12:50:00.000000Z",
    }


def test_what_posthog_is_asked_for_any_event() -> None:
    statement = recent(TERMS, Look(frozenset({None}), at(60), at(0), at(1), at(50), {}), at(-9))
    assert statement.sql.startswith("SELECT 0 AS number, ")
    assert statement.sql.endswith("toIntervalSecond(172800) LIMIT 50000")
    assert "event " not in statement.sql
    assert "names" not in statement.values
    both = recent(TERMS, Look(frozenset({None, "a"}), at(60), at(0), at(1), at(50), {}), at(-9))
    assert "indexOf({names}, events.event)" in both.sql
    assert " IN " not in both.sql


def test_what_posthog_is_asked_once_a_day() -> None:
    statement = late(TERMS, {"a"}, (at(0), at(1440)), (None, at(-1440)))
    assert statement.sql == (
        "SELECT indexOf({names}, events.event) AS number, uniqExact(events.uuid) AS counted, 0 AS kept, 0 AS fresh,"
        " max(events.created_at) AS newest_arrival FROM events WHERE events.timestamp < toDateTime({scan_until})"
        " AND events.created_at > toDateTime({after}) AND events.created_at <= toDateTime({until})"
        " AND events.timestamp < events.created_at - toIntervalSecond(172800) AND events.event IN {names}"
        " GROUP BY number ORDER BY number LIMIT 50000"
    )
    assert "events.timestamp >= toDateTime({scan_from})" in late(TERMS, {"a"}, (at(0), at(1)), (at(-9), at(-8))).sql


@pytest.mark.parametrize("rows", [[[1, 2]], [["x", 1, 1, 1, "x"]], [[7, 1, 1, 1, "x"]], [[0, None, 1, 1, "x"]]])
def test_an_answer_that_cannot_be_read_is_an_error(rows: list[list[Any]]) -> None:
    with pytest.raises(PostHogError, match="cannot be read"):
        read(rows, {"a"})


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[float, float]]:
    """Draw events: the minute in which each comes in, and when it is visible: up to an hour later."""
    each = st.tuples(st.integers(0, 120), st.sampled_from([0, 0, 5, 30, 59]))
    return [(minute, minute + delay) for minute, delay in draw(st.lists(each, min_size=1, max_size=30))]


@st.composite
def pauses(draw: st.DrawFn) -> list[int]:
    """Draw the minutes between polls; one pause may be long."""
    short = draw(st.lists(st.sampled_from([1, 2, 5, 10]), min_size=40, max_size=80))
    short.insert(draw(st.integers(0, 30)), draw(st.sampled_from([1, 90, 700, 3000])))
    return short


@given(arrivals(), pauses(), st.sampled_from([0, 0, 3, 200]))
def test_each_event_is_told_once_whenever_it_becomes_visible(
    events: list[tuple[float, float]], gaps: list[int], behind: int
) -> None:
    """Also if PostHog as a whole shows everything later by some minutes, or polls fail for hours."""
    now, told, before = at(-1), 0, 0
    after = newest = now - DAY - timedelta(hours=1)
    seen: Seen | None = None
    for gap in [*gaps, 8000]:
        visible = [at(arrived) for arrived, shown in events if at(shown + behind) <= now]
        begin = next_after(after, newest, now, timedelta(hours=1))
        counted = Counted(
            sum(each > after for each in visible),
            sum(each > begin for each in visible),
            sum(each > newest for each in visible),
            max(visible, default=None),
        )
        look = Look({"a"}, now, after, begin, newest, {"a": counted} if counted.counted else {})
        if seen is None:
            seen, before = Seen(look.next, counted.kept, look.seen, now), len(visible)
        else:
            seen, fired = news(look, seen, "a")
            if fired is not None:
                told += fired["count"]
                assert fired["count"] <= sum(fired["after"] < each.isoformat() <= fired["until"] for each in visible)
        after, newest, now = look.next, look.seen, now + timedelta(minutes=gap)
    assert told + before == len([each for each in events if at(each[1] + behind) <= now - timedelta(minutes=8000)])


def test_what_was_seen_is_json_and_other_json_is_not_taken_for_it() -> None:
    seen = Seen(at(0), 3, at(1), at(2))
    assert Seen.from_json(json.loads(json.dumps(seen.to_json()))) == seen
    for other in (None, "2026-11-29T12:00:00Z", {}, {**seen.to_json(), "count": None}, {**seen.to_json(), "late": 7}):
        assert Seen.from_json(other) is None


def test_the_range_of_the_news_is_tight_unless_some_became_visible_late() -> None:
    seen = Seen(at(0), 1, at(50), at(0))
    look = Look({"a"}, at(60), at(0), at(1), at(50), {"a": Counted(3, 2, 2, at(55))})
    _, fired = news(look, seen, "a")
    assert fired is not None
    assert (fired["count"], fired["after"]) == (2, at(50).isoformat())
    look = Look({"a"}, at(60), at(0), at(1), at(50), {"a": Counted(3, 2, 1, at(55))})
    _, fired = news(look, seen, "a")
    assert fired is not None
    assert (fired["count"], fired["after"]) == (2, at(0).isoformat())


def rows(*found: list[Any]) -> Reply:
    return ok({"results": list(found)})


def asked(server: ScriptedServer) -> list[dict[str, Any]]:
    return [request.json["query"] for request in server.requests]


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    value = {"conn_type": "posthog", "host": server.url, "password": "phx_secret", "extra": {"project_id": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(value))
    return server


async def first_looks(member: Member, until: Callable[[object], bool]) -> list[Look | LateLook]:
    found: list[Look | LateLook] = []
    stream: AsyncIterator[Look | LateLook] = Poll(TERMS).looks()
    with taking_part(TERMS, member):
        async for look in stream:
            found.append(look)
            if until(look):
                break
    await stream.aclose()  # type: ignore[attr-defined]
    return found


def is_late(look: object) -> bool:
    return isinstance(look, LateLook)


@pytest.mark.parametrize(
    ("replies", "counted", "said"),
    [
        ([rows([1, 5, 0, 0, "2026-11-29T10:00:00Z"])], 5, False),
        (
            [HEAVY, rows([1, 2, 0, 0, "2026-11-29T10:00:00Z"]), rows(), rows([1, 1, 0, 0, "2026-11-29T09:00:00Z"])],
            3,
            False,
        ),
        ([HEAVY, rows([1, 2, 0, 0, "2026-11-29T10:00:00Z"]), HEAVY], 2, True),
    ],
    ids=["whole", "in-steps", "too-heavy"],
)
def test_the_look_of_a_day_goes_back_in_steps_where_it_is_too_heavy(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture, replies: list[Reply], counted: int, said: bool
) -> None:
    scripted.script(rows(["2026-11-29T12:00:00Z"]), rows(), *replies, rows())
    member = Member("a", at(-2 * 1440))
    *_, look = asyncio.run(first_looks(member, is_late))
    assert isinstance(look, LateLook)
    assert (look.after, look.counts["a"].counted) == (at(-2 * 1440), counted)
    assert at(-60) <= look.until < at(-59)
    late_ones = [query["values"] for query in asked(scripted) if "scan_until" in query["query"]]
    assert len(late_ones) == len(replies)
    edges = [(values.get("scan_from", ""), values["scan_until"]) for values in late_ones[1:]]
    assert all(newer[0] == older[1] for newer, older in pairwise(edges))
    assert ("cannot be counted" in caplog.text) is said


def test_a_look_of_a_day_that_fails_is_not_repeated_at_each_poll(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.script(rows(["2026-11-29T12:00:00Z"]), rows(), error(500), rows())
    member = Member("a", at(-2 * 1440))
    left = iter(range(4))
    looks = asyncio.run(first_looks(member, lambda _: next(left) == 3))
    assert not any(is_late(look) for look in looks)
    assert sum("scan_until" in query["query"] for query in asked(scripted)) == 1
    assert "trying again in an hour" in caplog.text


def test_what_was_missed_for_long_is_looked_for_as_far_as_posthog_can(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.script(HEAVY, rows([1, 4, 1, 4, "2026-11-29T12:30:00Z"]))
    look = Look({"a"}, at(60), at(0), at(1), at(50), {})
    seen = Seen(at(-30 * 1440), 0, at(-30 * 1440), at(0))

    async def caught_up() -> Look:
        async with await client_of(TERMS) as client:
            return await catch_up(client, TERMS, look, seen, "a")

    found = asyncio.run(caught_up())
    assert (found.after, found.next, found.counts["a"].counted) == (seen.after, look.next, 4)
    scanned = [query["values"]["scan_from"] for query in asked(scripted)]
    assert scanned == ["2026-10-28T12:00:00.000000Z", "2026-11-27T12:00:00.000000Z"]
    assert {query["values"]["since"] for query in asked(scripted)} == {"2026-10-30T12:00:00.000000Z"}
    assert "are not looked for" in caplog.text
