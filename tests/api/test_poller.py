"""Which polls are made when many wait, by a clock that only these tests move."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import pytest

from airflow_provider_posthog.api import insights
from airflow_provider_posthog.api.budget import SHARES
from airflow_provider_posthog.api.jobs import EXPORT, QUERY, Ended
from airflow_provider_posthog.api.poller import Poll, Rounds, Waiter
from airflow_provider_posthog.api.polls import Reading, Seen
from airflow_provider_posthog.api.retry import ONCE, poll_policy
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Send
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogRateLimitError,
    PostHogTransportError,
    PostHogValidationError,
)
from tests.support.simulated import Poller, Work, World

TIMEOUT = 40 * 60.0


def _exports(world: World, count: int, seconds: float, *, within: float = 30.0, timeout: float = TIMEOUT) -> Poller:
    """So many tasks that start an export within half a minute, and wait for it."""
    poller = Poller(world)

    def start(number: int) -> None:
        world.ready[str(number)] = world.now + seconds
        poller.wait(str(number), deadline=world.now + timeout)

    for number in range(1, count + 1):
        world.at(number * within / count, lambda number=number: start(number))  # type: ignore[misc]
    return poller


def _insight_sensors(world: World, count: int, until: float) -> list[list[float]]:
    """So many sensors that want to poll each minute; returns when they do."""
    polls: list[list[float]] = [[] for _ in range(count)]

    def sensor(number: int) -> Work:
        yield number / 10
        while world.now < until:
            try:
                yield Send(insights.retrieve(number + 1), ONCE)
            except PostHogError as error:
                raise AssertionError from error
            polls[number].append(world.now)
            yield 60.0

    for number in range(count):
        world.work(sensor(number))
    return polls


def _all_green(poller: Poller, count: int) -> bool:
    return len(poller.ended) == count and all(ended == Ended("succeeded") for ended, _ in poller.ended.values())


@pytest.mark.parametrize(
    ("count", "seconds"), [(300, 90), (300, 600), (300, 1200), (100, 1200), (20, 1800), (1, 1800), (1000, 1200)]
)
def test_every_export_that_is_ready_in_time_is_noticed_within_an_interval(count: int, seconds: float) -> None:
    world = World()
    poller = _exports(world, count, seconds)
    world.run(3600)
    assert _all_green(poller, count)
    assert max(poller.lateness()) <= 10 + 2
    assert world.refused == 0
    assert world.a_minute(60, seconds) <= (24 if count <= 300 else 52)


@pytest.mark.parametrize("share", [1.0, SHARES["crud"].triggerer])
@pytest.mark.parametrize(("count", "calls"), [(300, 7), (1000, 14)])
def test_longer_pages_are_asked_for_where_the_server_gives_them(count: int, calls: int, share: float) -> None:
    world = World(share, longest=10_000)
    poller = _exports(world, count, 1200)
    world.run(3600)
    assert _all_green(poller, count)
    assert max(poller.lateness()) <= 10 + 2
    assert world.a_minute(60, 1200) <= calls


@pytest.mark.parametrize("longest", [100, 250, 10_000])
def test_the_ends_of_many_cost_no_more_than_the_wait(longest: int) -> None:
    world = World(longest=longest)
    poller = Poller(world)
    for number in range(1, 401):
        world.ready[str(number)] = 600.0 + 3 * ((number * 7) % 400)
        world.at(number / 20, lambda number=number: poller.wait(str(number), deadline=TIMEOUT))  # type: ignore[misc]
    world.run(3600)
    assert _all_green(poller, 400)
    assert max(poller.lateness()) <= 10 + 2
    assert world.a_minute(600, 1800) <= 1.1 * world.a_minute(60, 600) + 1


@pytest.mark.parametrize("share", [1.0, SHARES["crud"].triggerer])
def test_300_exports_of_10_minutes_and_100_of_20_end_green_with_50_insight_sensors_beside_them(share: float) -> None:
    world = World(share)
    assert SHARES["crud"].triggerer == SHARES["analytics"].triggerer
    poller = _exports(world, 300, 600)
    for number in range(1001, 1101):
        world.ready[str(number)] = 1200.0
        poller.wait(str(number), deadline=TIMEOUT)
    polls = _insight_sensors(world, 50, 3600)
    world.run(3600)
    assert _all_green(poller, 400)
    assert max(poller.lateness()) <= 15
    assert world.refused == 0
    assert world.a_minute(60, 600) <= 80 * share
    gaps = [later - earlier for each in polls for earlier, later in pairwise(each)]
    assert max(gaps) <= 60 + 180 / share, "20 a minute of the whole limit, for 50 of them"


@pytest.mark.parametrize("count", [300, 100])
def test_insight_sensors_beside_them_hold_up_nobody_and_are_not_blind(count: int) -> None:
    world = World()
    poller = _exports(world, count, 1200)
    polls = _insight_sensors(world, 50, 3 * 3600)
    world.run(3 * 3600)
    assert _all_green(poller, count)
    assert max(poller.lateness()) <= 12
    assert world.refused == 0
    gaps = [later - earlier for each in polls for earlier, later in pairwise(each)]
    assert max(gaps) <= 60 + 180, "20 a minute for 50 of them"
    assert world.a_minute(3600, 2 * 3600, "analytics") >= 0.85 * 20


@pytest.mark.parametrize("count", [100, 300])
def test_where_there_is_no_list_polls_stretch_and_each_deadline_is_looked_at(count: int) -> None:
    """As for queries: a poll for each."""
    world = World()
    poller = Poller(world, dataclasses.replace(QUERY, status=EXPORT.status))
    for number in range(1, count + 1):
        world.ready[str(number)] = 1200 if number % 2 else TIMEOUT - 5
        poller.wait(str(number), deadline=TIMEOUT)
    world.run(3600)
    assert _all_green(poller, count)
    assert world.refused == 0
    assert max(late for late in poller.lateness() if late < 1000) <= count / 1.1 + 20


def test_others_use_up_the_hour_and_the_look_at_the_deadline_is_made_from_the_reserve() -> None:
    world = World(share=0.02)
    poller = _exports(world, 6, 660, timeout=840)
    world.run(3600)
    assert _all_green(poller, 6)
    assert max(poller.lateness()) <= 60, "96 calls an hour"


def test_a_look_at_the_deadline_is_made_though_nothing_of_the_hour_is_left() -> None:
    """Others of this process have used up the reserve, too."""
    world = World(share=0.02)
    poller = _exports(world, 6, 660, timeout=840)
    for minute in range(12):
        world.at(minute * 61.0, lambda: [world.budget.count("crud", world.now, share=0.02) for _ in range(8)] and None)
    world.run(3600)
    assert _all_green(poller, 6)
    assert world.refused == 0, "PostHog has more to give than this process may take"


def test_a_server_that_lists_nothing_is_asked_for_each() -> None:
    world = World(listed=False)
    poller = _exports(world, 20, 60)
    world.run(600)
    assert _all_green(poller, 20)
    assert max(poller.lateness()) <= 20


def test_exports_beyond_the_first_pages_get_looks_of_their_own() -> None:
    world = World()
    poller = _exports(world, 5, 300)
    world.run(100)
    for number in range(1000, 1500):
        world.ready[str(number)] = 0.0  # another DAG's, of the same key
    before = len(world.calls)
    world.run(3600)
    assert _all_green(poller, 5)
    assert max(poller.lateness()) <= 12
    assert len(world.calls) - before <= 5 * 200 / 9 + 20, "no pages on which nobody's export is"


def test_rows_that_move_up_between_two_pages_cost_a_look_and_not_the_list() -> None:
    """Others' exports are deleted while the list is read, so that an offset leaves out a row now and then."""
    world = World()
    poller = _exports(world, 150, 1200)
    for number in range(10_000, 10_050):
        world.ready[str(number)] = 0.0

    def move(number: int) -> None:
        del world.ready[str(number)]
        world.at(world.now + 1.5, lambda: world.ready.setdefault(str(number), 0.0))

    for turn in range(200):
        world.at(60.0 + 3.1 * turn, lambda turn=turn: move(10_000 + turn % 50))  # type: ignore[misc]
    world.run(1100)
    assert len([waiter for waiter in poller.rounds.waiters if waiter.deep]) <= 3
    world.run(3600)
    assert _all_green(poller, 150)
    assert max(poller.lateness()) <= 12


def test_who_falls_out_of_one_list_stays_with_the_others_and_after_the_second_looks_alone() -> None:
    rounds = Rounds(1)
    waiter = Waiter("1", 10.0)
    rounds.waiters.add(waiter)
    deep = []
    for seen in ({}, {"1": Seen(Verdict("pending"))}, {}, {}):
        waiter.want(0.0, 1000.0)
        poll = Poll((waiter,), listed=True, last=False)
        list(rounds.missed(poll, Reading(seen)))
        deep.append(waiter.deep)
    assert deep == [False, False, False, True]


def test_a_poll_that_is_due_with_the_deadline_is_the_look_at_the_deadline() -> None:
    rounds = Rounds(None)
    waiter = Waiter("1", 10.0)
    rounds.waiters.add(waiter)
    waiter.want(100.0, 100.0)
    assert list(rounds.begin(99.99)) == []
    assert rounds.next_at() == 100.0
    assert [poll.last for poll in rounds.begin(100.0)] == [True]


def test_an_unknown_export_is_gone_at_once_and_the_others_go_on() -> None:
    world = World()
    poller = _exports(world, 5, 300)
    world.run(100)
    poller.wait("77", deadline=TIMEOUT)
    world.run(112)
    assert poller.ended["77"][0].outcome == "gone"
    world.run(3600)
    assert len(poller.ended) == 6


def test_two_that_wait_for_one_job_share_each_look() -> None:
    world = World()
    poller = Poller(world, QUERY)
    world.ready["1"] = 60.0
    for _ in range(2):
        poller.wait("1", deadline=TIMEOUT)
    alone = World()
    single = Poller(alone, QUERY)
    alone.ready["1"] = 60.0
    single.wait("1", deadline=TIMEOUT)
    for each in (world, alone):
        each.run(600)
    assert len(world.calls) <= len(alone.calls) * 1.5


def test_a_look_at_the_deadline_is_no_poll() -> None:
    assert poll_policy(ONCE, 1.0).polls
    assert poll_policy(ONCE, 1.0).max_pace_wait == 1.0
    assert not poll_policy(ONCE, 0.0).polls
    assert not poll_policy(ONCE, -1.0).polls


def test_a_page_that_is_too_large_is_asked_for_in_smaller_ones() -> None:
    from airflow_provider_posthog.api.polls import ListReader
    from airflow_provider_posthog.exceptions import PostHogTransportError

    assert EXPORT.listing is not None
    reader = ListReader(EXPORT, EXPORT.listing)
    steps = reader.read({"1", "2", "3"}, ONCE)
    sizes = []
    step: Any = next(steps)
    with pytest.raises(StopIteration) as ended:  # noqa: PT012
        while True:
            sizes.append(step.call.query["limit"])
            step = steps.throw(PostHogTransportError("large", too_large=True))
    assert (ended.value.value.error, ended.value.value.seen) == (None, {})
    assert sizes == [100, 33, 11]
    assert not reader.usable


def test_a_server_that_refuses_long_pages_is_asked_for_its_own() -> None:
    from airflow_provider_posthog.api.polls import ListReader

    assert EXPORT.listing is not None
    reader = ListReader(EXPORT, EXPORT.listing)
    rows = [{"id": number, "has_content": False} for number in range(300, 0, -1)]
    sizes, came = [], None
    for _ in range(2):
        steps = reader.read({str(row["id"]) for row in rows}, ONCE)
        step: Any = next(steps)
        with pytest.raises(StopIteration) as ended:  # noqa: PT012
            while True:
                limit, offset = step.call.query["limit"], step.call.query["offset"] or 0
                sizes.append(limit)
                if limit > 100:
                    step = steps.throw(PostHogValidationError(status=400, method="GET", path="exports/"))
                else:
                    step = steps.send({"results": rows[offset : offset + limit], "next": "more"})
        came = ended.value.value
    assert came is not None
    assert len(came.seen) == 300
    assert sizes == [300, *[100] * 6]
    assert reader.usable


def test_a_list_waits_a_moment_for_those_who_were_just_answered() -> None:
    """They would need another call otherwise: one poll is one query, however many wait."""
    late, prompt = Waiter("1", 10.0), Waiter("2", 10.0)
    rounds = Rounds(1)
    rounds.waiters |= {late, prompt}
    prompt.want(10.0, 1000.0)
    assert not list(rounds.begin(10.0))
    assert rounds.next_at() == 11.0, "but not for ever: somebody may be held up"
    late.want(14.0, 1000.0)
    (poll,) = rounds.begin(10.1)
    assert set(poll.waiters) == {late, prompt}
    rounds.end(poll, 1)
    prompt.want(20.0, 1000.0)
    late.waits = False
    (poll,) = rounds.begin(21.1)
    assert poll.waiters == (prompt,)


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize(
    "verdict",
    [
        PostHogRateLimitError(status=429, method="GET", path="exports/", retry_after=1800),
        PostHogTransportError("It was cut."),
        Verdict("pending"),
        Verdict("failed", "It may still end well.", final=False),
    ],
)
def test_nothing_but_an_end_takes_the_poll_at_the_deadline_away(listed: bool, verdict: Verdict | PostHogError) -> None:
    """What is heard just before the deadline would be judged behind it, and the task would end as timed out."""
    rounds = Rounds(least=2 if listed else None)
    rounds.waiters = {Waiter("1", 1.0), Waiter("2", 1.0)}
    for each in rounds.waiters:
        each.want(5.0, 10.0)
    early = list(rounds.begin(9.9))
    assert early
    assert not any(poll.last for poll in early)
    for poll in early:
        for each in poll.waiters:
            assert not rounds.answers(each, Seen(verdict), poll, 9.99)
            assert not rounds.answers(each, Seen(verdict), poll, 10.1), "nor does what comes still later"
        rounds.end(poll, 1)
    last = [poll for poll in rounds.begin(10.0) if poll.last]
    assert {each for poll in last for each in poll.waiters} == rounds.waiters
    for poll in last:
        assert all(rounds.answers(each, Seen(verdict), poll, 10.2) for each in poll.waiters)


def test_an_end_is_told_however_near_the_deadline_is() -> None:
    rounds = Rounds(least=None)
    (waiter,) = rounds.waiters = {Waiter("1", 1.0)}
    waiter.want(5.0, 10.0)
    (poll,) = rounds.begin(9.9)
    assert rounds.answers(waiter, Seen(Verdict("succeeded")), poll, 9.99)
