"""The rate budget: its windows by properties, and both clients keeping it against a real server."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import insights, persons
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.budget import (
    HOUR,
    LIMITS,
    MINUTE,
    RESERVE,
    Budget,
    budget_of,
    limit_of,
    reservations_of,
    share_of,
)
from airflow_provider_posthog.api.call import Bucket, Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.jobs import Again, Watch
from airflow_provider_posthog.api.retry import LAST, ONCE
from airflow_provider_posthog.api.settings import ClientSettings, Shares
from airflow_provider_posthog.exceptions import PostHogRateLimitError
from tests.api.cases import GET, settings_for
from tests.support.scripted import ScriptedServer, error, ok
from tests.support.senders import SENDERS, Sender

BUCKETS = sorted(LIMITS)
ANALYTICS = insights.retrieve(7)
#: Shares that make the limits small: from one call a minute to some dozens.
SHARES = st.sampled_from([0.001, 0.0042, 0.0105, 0.05])
#: Steps in halves, as the windows are, so that the sums are exact.
STEPS = st.one_of(st.just(0), st.integers(0, 20), st.integers(0, 4000)).map(lambda halves: halves / 2)
_projects = itertools.count(1000)


def fresh(server: ScriptedServer, **changes: Any) -> ClientSettings:
    """Settings for a project of which nobody has called anything."""
    return settings_for(server, project_id=next(_projects), **({"rate_limit_share": 1.0} | changes))


def used_up(server: ScriptedServer, *, free_in: float, bucket: Bucket = "crud", **changes: Any) -> ClientSettings:
    """Settings for a project whose bucket lets ten calls a minute go, which are spent; all come back in seconds."""
    settings = fresh(server, rate_limit_share=10.01 / LIMITS[bucket][0][0], **changes)
    assert isinstance(settings.rate_limit_share, float)
    then = time.monotonic() - LIMITS[bucket][0][1] + free_in
    for _ in range(10):
        assert budget_of(settings).take(bucket, then, share=settings.rate_limit_share) == 0
    return settings


def assert_within_limits(turns: list[float], bucket: Bucket, share: float) -> None:
    for limit, seconds in LIMITS[bucket]:
        calls = limit_of(limit, share)
        for first, beyond in zip(turns, turns[calls:], strict=False):
            assert beyond - first >= seconds


Taken = list[tuple[float, float]]


def earliest(taken: Taken, now: float, bucket: Bucket, share: float, *, kept: float = 0.0) -> float:
    """Find the first time at which one more call breaks no window, by trying all that can be it.

    :param taken: times and shares of the others, of those that are promised too.
    :param kept: the part of each window that the call leaves alone.
    """

    def passes(at: float, turns: list[float], part: float) -> bool:
        # A window that is broken ends with one of the calls that are in it.
        ends = [at, *(turn for turn in turns if turn >= at)]
        return all(
            sum(end - seconds < turn <= end for turn in (at, *turns)) <= limit_of(limit, part * (1 - kept))
            for limit, seconds in LIMITS[bucket]
            for end in ends
            if end - seconds < at
        )

    every, own = [turn for turn, _ in taken], [turn for turn, part in taken if part == share]
    tried = (now, *(turn + seconds for turn in every for _, seconds in LIMITS[bucket]))
    return min(at for at in tried if at >= now and passes(at, every, 1.0) and passes(at, own, share))


def test_the_limits_are_posthogs() -> None:
    rates = {bucket: tuple(limit for limit, _ in windows) for bucket, windows in LIMITS.items()}
    assert rates == {"crud": (480, 4800), "deletion": (480, 4800), "analytics": (240, 1200), "query": (240, 2400)}
    assert all(60 <= minute <= 61 and 3600 <= hour <= 3601 for (_, minute), (_, hour) in LIMITS.values())


@pytest.mark.parametrize(("share", "calls"), [(1.0, 480), (0.5, 240), (0.29, 139), (0.001, 1)])
def test_a_share_of_a_limit(share: float, calls: int) -> None:
    assert limit_of(480, share) == calls
    assert limit_of(100, 0.29) == 29, "not 28, though the product is a little less than 29"


@pytest.mark.parametrize("bucket", BUCKETS)
@pytest.mark.parametrize("share", [1.0, 0.1])
def test_exactly_the_limit_goes_at_once(bucket: Bucket, share: float) -> None:
    (a_minute, minute), (an_hour, hour) = ((limit_of(limit, share), seconds) for limit, seconds in LIMITS[bucket])
    budget = Budget()
    waits = [budget.take(bucket, 0.0, share=share) for _ in range(an_hour + 1)]
    assert waits[:a_minute] == [0.0] * a_minute
    assert waits[a_minute] == minute
    assert waits[an_hour] == hour
    assert_within_limits(waits, bucket, share)


@given(bucket=st.sampled_from(BUCKETS), share=SHARES, steps=st.lists(STEPS, max_size=60))
def test_every_turn_is_the_earliest_that_posthog_allows(bucket: Bucket, share: float, steps: list[float]) -> None:
    budget, now, taken = Budget(), 0.0, Taken()
    for step in steps:
        now += step
        expected = earliest(taken, now, bucket, share)
        assert now + budget.take(bucket, now, share=share) == expected
        taken.append((expected, share))
    assert_within_limits([turn for turn, _ in taken], bucket, share)


@given(
    bucket=st.sampled_from(BUCKETS),
    calls=st.lists(st.tuples(STEPS, SHARES, st.booleans(), st.sampled_from(["stays", "stays", "leaves"])), max_size=40),
)
def test_every_turn_is_the_first_gap_whoever_waits_and_whoever_leaves(
    bucket: Bucket, calls: list[tuple[float, float, bool, str]]
) -> None:
    """Shares do not hold each other up, polls leave a tenth, and turns that were given back are free again."""
    budget, now, taken = Budget(), 0.0, Taken()
    for step, share, reserve, then in calls:
        now += step
        expected = earliest(taken, now, bucket, share, kept=0.0 if reserve else RESERVE)
        seconds, at = budget.promise(bucket, now, share=share, reserve=reserve)
        assert (at, now + seconds) == (expected, expected)
        if then == "leaves" and seconds > 0:
            budget.give_back(bucket, expected, share=share)
        else:
            taken.append((expected, share))
    assert_within_limits(sorted(turn for turn, _ in taken), bucket, 1.0)
    for part in {share for _, share in taken}:
        assert_within_limits(sorted(turn for turn, share in taken if share == part), bucket, part)


def test_one_connection_that_waits_holds_up_no_other() -> None:
    """Thirty sensors with a fiftieth of the limits wait for an hour; who may send all goes at once, and so may they."""
    budget = Budget()
    waits = [budget.take("analytics", 0.0, share=0.02, reserve=False) for _ in range(30)]
    assert waits[:4] == [0.0] * 4
    assert waits[-1] >= HOUR
    assert [budget.take("analytics", 1.0) for _ in range(200)] == [0.0] * 200
    assert budget.take("analytics", 1.0, share=0.1) == 0


def test_one_connection_that_is_busy_does_not_starve_one_with_a_small_share() -> None:
    budget = Budget()
    for minute in range(5):
        assert [budget.take("crud", minute * 61.0) for _ in range(400)] == [0.0] * 400
    assert budget.take("crud", 250.0, share=0.01) == 0


def test_a_turn_that_is_given_back_goes_to_the_next() -> None:
    budget, three_a_minute = Budget(), 3 / 480
    turns = [budget.promise("crud", 0.0, share=three_a_minute).at for _ in range(30)]
    for turn in turns[3:]:
        assert turn is not None
        budget.give_back("crud", turn, share=three_a_minute)
    assert [budget.take("crud", 1.0, share=three_a_minute) for _ in range(3)] == [59.5] * 3
    budget.give_back("crud", 60.5, share=three_a_minute)
    budget.give_back("crud", 1234.5, share=three_a_minute)
    assert [budget.take("crud", 1.0, share=three_a_minute) for _ in range(2)] == [59.5, 120.0]


@pytest.mark.parametrize("bucket", BUCKETS)
def test_polls_leave_a_tenth_of_each_window_to_what_cannot_wait(bucket: Bucket) -> None:
    (a_minute, _), (an_hour, _hour) = LIMITS[bucket]
    budget = Budget()
    polls = [budget.take(bucket, 0.0, reserve=False, patience=0.0) for _ in range(a_minute)]
    assert polls.count(0.0) == a_minute * 9 // 10
    others = [budget.take(bucket, 0.0, patience=0.0) for _ in range(a_minute)]
    assert others.count(0.0) == a_minute // 10
    for at in range(61, 3540, 61):
        for _ in range(a_minute):
            budget.take(bucket, float(at), reserve=False, patience=0.0)
    left = [budget.take(bucket, 3599.0, patience=0.0) for _ in range(a_minute)].count(0.0)
    assert left >= min(a_minute // 10, an_hour // 10 - a_minute // 10)


@given(
    steps=st.lists(st.tuples(STEPS, st.sampled_from(["poll", "poll", "start", "quit"])), max_size=80),
    share=st.sampled_from([10 / 480, 30 / 480]),
)
def test_polls_that_ask_again_and_again_never_starve_what_starts_jobs(
    steps: list[tuple[float, str]], share: float
) -> None:
    """Polls take whatever they get; a start in a minute in which the reserve is unused goes at once."""
    budget, now, started = Budget(), 0.0, list[float]()
    minute, hour = (math.ceil(limit_of(limit, share) * RESERVE) for limit, _ in LIMITS["crud"])
    for step, what in steps:
        now += step
        if what == "start":
            free = sum(now - 60.5 < at for at in started) < minute and sum(now - 3600.5 < at for at in started) < hour
            wait = budget.take("crud", now, share=share, patience=0.0)
            assert wait == 0 or not free
            if wait == 0:
                started.append(now)
        for _ in range(40 if what == "poll" else 0):
            budget.take("crud", now, share=share, patience=0.0, reserve=False)


@given(
    share=SHARES,
    steps=st.lists(st.tuples(STEPS, st.sampled_from(["call", "call", "call", "429"]), st.integers(1, 90)), max_size=80),
)
def test_windows_and_closures_hold_for_what_is_really_sent(share: float, steps: list[tuple[float, str, int]]) -> None:
    """Callers that sleep until their turn and then ask whether it still holds, as ``Reservations`` does."""
    budget, now = Budget(), 0.0
    sent: list[float] = []
    closed: list[tuple[float, float]] = []
    asleep: list[float] = []

    def wake_until(end: float) -> None:
        while asleep and asleep[0] <= end:
            turn = heapq.heappop(asleep)
            if budget.is_void("crud", turn):
                heapq.heappush(asleep, turn + budget.take("crud", turn, share=share))
            else:
                sent.append(turn)

    calls = 0
    for step, what, seconds in steps:
        wake_until(now + step)
        now += step
        if what == "429":
            budget.close("crud", now, seconds)
            closed.append((now, now + seconds))
        else:
            calls += 1
            heapq.heappush(asleep, now + budget.take("crud", now, share=share))
            wake_until(now)
    wake_until(float("inf"))
    assert len(sent) == calls
    assert sent == sorted(sent)
    assert_within_limits(sent, "crud", share)
    assert not [at for at in sent for since, until in closed if since < at < until]


@given(bucket=st.sampled_from(BUCKETS), patience=st.floats(0, 59), others=st.sampled_from(BUCKETS))
def test_a_turn_that_is_too_far_away_is_not_taken(bucket: Bucket, patience: float, others: Bucket) -> None:
    budget, one_a_minute = Budget(), 1 / 480
    budget.take(bucket, 0.0, share=one_a_minute)
    waits = [budget.take(bucket, 1.0, share=one_a_minute, patience=patience) for _ in range(5)]
    assert waits == [LIMITS[bucket][0][1] - 1] * 5
    same = {bucket, others} <= {"crud", "deletion"} or bucket == others
    held = budget.take(others, 1.0, share=one_a_minute) > 0
    assert held == same, "deletions are counted with CRUD, the other buckets each alone"


def test_turns_that_a_429_made_void_are_not_counted() -> None:
    budget, three_a_minute = Budget(), 3 / 480
    waits = [budget.take("crud", 0.0, share=three_a_minute) for _ in range(6)]
    assert waits == [0.0] * 3 + [60.5] * 3
    budget.close("crud", 10.0, 20.0)
    assert not budget.is_void("crud", 60.5), "it comes after the bucket is open again"
    budget.close("crud", 10.0, 90.0)
    assert budget.is_void("crud", 60.5)
    assert [budget.take("crud", 61.0, share=three_a_minute) for _ in range(4)] == [39.0] * 3 + [99.5]


def test_a_clock_that_was_read_in_another_order_is_no_wait() -> None:
    budget = Budget()
    assert budget.take("crud", 10.0) == 0
    assert budget.take("crud", 9.999) == 0


def test_a_proxy_cannot_close_a_bucket_for_years() -> None:
    budget = Budget()
    budget.close("crud", 0.0, 1e12)
    assert budget.take("crud", 0.0) == HOUR
    assert budget.take("analytics", 0.0) == 0


def test_memory_does_not_grow_with_the_calls() -> None:
    budget = Budget()
    sizes = []
    tracemalloc.start()
    try:
        for start in (0, 6_000):
            for number in range(6_000):
                assert budget.take("crud", (start + number) * 1.0, share=0.9) == 0
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] < sizes[0] * 1.2 + 20_000
    assert sizes[1] < 1_000_000


def test_projects_that_are_not_called_any_more_are_forgotten(server: ScriptedServer) -> None:
    settings = fresh(server)
    budget = budget_of(settings)
    budget.take("crud", time.monotonic() - HOUR - 10)
    assert budget_of(settings) is budget
    busy = used_up(server, free_in=5)
    kept = budget_of(busy)
    budget_of(fresh(server))
    assert budget_of(settings) is not budget
    assert budget_of(busy) is kept


@pytest.mark.parametrize(
    ("base_url", "own", "given_share", "share"),
    [
        ("https://us.posthog.com", "a cloud", None, 0.5),
        ("https://posthog.internal:8000", "a server of one's own", None, 0.5),
        ("http://10.0.0.7", "a private address", None, 0.5),
        ("https://us.posthog.com", "a share", 0.5, 0.5),
        ("https://us.posthog.com", "none", 0.0, 0.0),
        ("http://127.0.0.1:8010", "this machine", None, 0.0),
        ("http://127.1.2.3", "this machine", None, 0.0),
        ("http://[::1]:8010", "this machine", None, 0.0),
        ("http://localhost:8010", "this machine", None, 0.0),
        ("http://posthog.localhost", "this machine", None, 0.0),
        ("http://localhost.example", "a server of one's own", None, 0.5),
        ("http://127.0.0.1:8010", "this machine, by wish", 1.0, 1.0),
        ("http://[::1", "no address", None, 0.5),
    ],
)
def test_who_has_a_budget(base_url: str, own: str, given_share: float | None, share: float) -> None:
    settings = ClientSettings(base_url=base_url, rate_limit_share=given_share)
    assert share_of(settings, "crud") == share, own
    assert (reservations_of(settings, "crud") is None) == (share == 0), own


@pytest.mark.parametrize("bucket", BUCKETS)
def test_a_worker_and_the_triggerer_use_up_posthogs_limits_together(bucket: Bucket) -> None:
    settings = ClientSettings()
    worker, triggerer = (share_of(settings, bucket, role=role) for role in ("worker", "triggerer"))
    assert worker + triggerer <= 1
    assert min(worker, triggerer) >= 0.1
    given_shares = ClientSettings(rate_limit_share=Shares(0.125, 0.5))
    assert [share_of(given_shares, bucket, role=role) for role in ("worker", "triggerer")] == [0.125, 0.5]


def test_the_triggerers_client_keeps_the_triggerers_share(server: ScriptedServer) -> None:
    server.script(ok({}))
    settings = fresh(server, rate_limit_share=Shares(1.0, 1 / 480), max_rate_limit_wait=0.0)
    SENDERS["blocking"].send(settings, GET, GET, GET, policy=None)
    SENDERS["async"].send(settings, GET, policy=None)
    with pytest.raises(PostHogRateLimitError, match="1 a minute"):
        SENDERS["async"].send(settings, GET, policy=None)


def test_the_triggerer_stands_in_no_line_for_longer_than_a_minute(server: ScriptedServer) -> None:
    """What it looks for goes on without it; it asks again."""
    server.script(ok({}))
    settings = fresh(server, rate_limit_share=1 / 4800, max_rate_limit_wait=7 * 86_400.0)
    SENDERS["async"].send(settings, GET, policy=None)
    with pytest.raises(PostHogRateLimitError) as caught:
        SENDERS["async"].send(settings, GET, policy=None)
    assert (caught.value.retry_after or 0) > MINUTE


def test_a_call_that_is_cancelled_gives_its_turn_back(server: ScriptedServer) -> None:
    server.script(ok({}))
    settings = used_up(server, free_in=30.0, max_rate_limit_wait=50.0)

    async def cancelled() -> None:
        async with AsyncClient(settings) as client:
            waiting = [asyncio.ensure_future(client.send(GET)) for _ in range(10)]
            await asyncio.sleep(0.05)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    for _ in range(3):
        asyncio.run(cancelled())
    share = settings.rate_limit_share
    assert isinstance(share, float)
    budget, now = budget_of(settings), time.monotonic()
    assert [budget.take("crud", now, share=share, patience=50.0) < 50 for _ in range(10)] == [True] * 10


def test_a_server_on_this_machine_is_not_counted(sender: Sender, server: ScriptedServer) -> None:
    server.script(ok({}))
    settings = fresh(server, rate_limit_share=None)
    sender.send(settings, GET)
    assert budget_of(settings).is_idle(time.monotonic())
    counted = fresh(server)
    sender.send(counted, GET)
    assert not budget_of(counted).is_idle(time.monotonic())


def test_threads_and_an_event_loop_share_one_budget(server: ScriptedServer) -> None:
    """Ten calls come back in a second, twelve are wanted: ten wait for it, and two would have to wait a minute more."""
    server.script(ok({}))
    settings = used_up(server, free_in=1.0, max_rate_limit_wait=10.0)
    began = time.monotonic()

    def blocking(_: int) -> object:
        with Client(settings) as client:
            try:
                return client.send(GET)
            except PostHogRateLimitError as refused:
                return refused

    async def on_a_loop() -> list[object]:
        async with AsyncClient(settings) as client:
            return list(await asyncio.gather(*(client.send(GET) for _ in range(6)), return_exceptions=True))

    with ThreadPoolExecutor(7) as threads:
        loop = threads.submit(asyncio.run, on_a_loop())
        results = [*threads.map(blocking, range(6)), *loop.result(timeout=30)]
    refused = [result for result in results if isinstance(result, PostHogRateLimitError)]
    assert [result for result in results if result == {}] == [{}] * 10
    assert len(refused) == 2
    assert all(60 < (found.retry_after or 0) < 62 for found in refused)
    assert len(server.requests) == 10
    assert 0.8 < time.monotonic() - began < 10


@pytest.mark.parametrize("wait", [0.0, 20.0])
def test_a_wait_that_is_too_long_raises_before_anything_is_sent(
    sender: Sender, server: ScriptedServer, wait: float
) -> None:
    settings = used_up(server, free_in=40.0, max_rate_limit_wait=wait)
    began = time.monotonic()
    with pytest.raises(PostHogRateLimitError) as caught:
        sender.send(settings, GET, policy=None)
    assert time.monotonic() - began < 5
    assert server.attempts == 0
    found = caught.value
    assert (found.status, found.code) == (429, "own_budget")
    assert found.retry_after is not None
    assert 35 < found.retry_after <= 40
    for said in ("nothing was sent", "10 a minute", "rate_limit_share", "max_rate_limit_wait", "crud"):
        assert said in str(found)
    assert "..." not in str(found), "cut short"


def test_other_buckets_go_on(sender: Sender, server: ScriptedServer) -> None:
    server.script(ok({}))
    settings = used_up(server, free_in=40.0, max_rate_limit_wait=0.0)
    assert sender.send(settings, ANALYTICS, policy=ONCE) == {}
    with pytest.raises(PostHogRateLimitError):
        sender.send(settings, persons.bulk_delete(ids=["0190f6c2-6a1e-7c3b-8f7d-3d5b9c1e2a4f"]), policy=ONCE)
    assert len(server.requests) == 1


def test_a_poll_over_the_budget_is_waited_out_like_a_429(sender: Sender, server: ScriptedServer) -> None:
    settings = used_up(server, free_in=40.0)
    now = time.time()
    watch = Watch(deadline=now + 1000, interval=5, max_failures=1)
    with pytest.raises(PostHogRateLimitError) as caught:
        sender.send(settings, GET, policy=ONCE)
    for _ in range(3):
        step = watch.observe(caught.value, now)
        assert isinstance(step, Again)
        assert 35 < step.seconds <= 40


def test_the_last_look_is_made_though_polls_have_used_up_theirs(sender: Sender, server: ScriptedServer) -> None:
    server.script(ok({}))
    settings = fresh(server, rate_limit_share=20.01 / 480)
    assert isinstance(settings.rate_limit_share, float)
    for _ in range(18):  # by now, at the pace of polls
        budget_of(settings).take("crud", time.monotonic(), share=settings.rate_limit_share, reserve=False)
    with pytest.raises(PostHogRateLimitError, match="polls leave 10% of it to other calls"):
        sender.send(settings, GET, policy=ONCE)
    assert sender.send(settings, GET, GET, policy=LAST) == {}
    with pytest.raises(PostHogRateLimitError):
        sender.send(settings, GET, policy=LAST)
    assert len(server.requests) == 2


def test_waits_for_the_budget_and_for_429s_add_up(sender: Sender, server: ScriptedServer) -> None:
    server.script(error(429, Retry_After="4"), ok({}))
    settings = used_up(server, free_in=1.0, max_rate_limit_wait=4.5)
    with pytest.raises(PostHogRateLimitError) as caught:
        sender.send(settings, GET, policy=None)
    assert caught.value.code != "own_budget"
    assert caught.value.retry_after == 4
    assert server.attempts == 1


def test_every_attempt_counts(sender: Sender, server: ScriptedServer) -> None:
    settings = fresh(server, rate_limit_share=2.01 / 480, max_rate_limit_wait=0.0)
    server.script(error(500), error(500), ok({}))
    with pytest.raises(PostHogRateLimitError) as caught:
        sender.send(settings, GET)
    assert caught.value.code == "own_budget"
    assert server.attempts == 2


class TestClosing:
    def test_a_429_holds_back_everybody(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(error(429, Retry_After="1"), ok({}))
        settings = fresh(server, max_rate_limit_wait=10.0)
        with pytest.raises(PostHogRateLimitError):
            sender.send(settings, GET, policy=ONCE)
        closed = time.monotonic()
        assert sender.send(settings, ANALYTICS, policy=ONCE) == {}
        with pytest.raises(PostHogRateLimitError) as caught:
            sender.send(settings, GET, policy=ONCE)
        assert "PostHog answered 429 to one of them" in str(caught.value)
        assert len(server.requests) == 2
        with ThreadPoolExecutor(8) as threads:
            waiting = [threads.submit(sender.send, settings, GET, policy=None) for _ in range(8)]
            assert [one.result(timeout=30) for one in waiting] == [{}] * 8
        assert time.monotonic() - closed > 0.8
        assert len(server.requests) == 10, "each was sent once, after the bucket was open again"

    def test_those_who_wait_already_wait_longer(self, server: ScriptedServer) -> None:
        settings = used_up(server, free_in=0.5, max_rate_limit_wait=10.0)
        server.script(ok({}))
        turns = reservations_of(settings, "crud")
        assert turns is not None
        with ThreadPoolExecutor(1) as threads, Client(settings) as client:
            waiting = threads.submit(client.send, GET)
            turns.close(1.5)
            closed = time.monotonic()
            assert waiting.result(timeout=30) == {}
        assert time.monotonic() - closed >= 1.45

    @pytest.mark.parametrize("headers", [{}, {"Retry_After": "0"}])
    def test_a_429_without_a_time_closes_nothing(
        self, sender: Sender, server: ScriptedServer, headers: dict[str, str]
    ) -> None:
        server.script(error(429, "Too many queries at once.", **headers), ok({}))
        settings = fresh(server)
        with pytest.raises(PostHogRateLimitError):
            sender.send(settings, GET, policy=ONCE)
        assert sender.send(settings, GET, policy=ONCE) == {}


def test_the_log_says_once_that_the_budget_slows_calls(
    sender: Sender, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "airflow_provider_posthog")
    server.script(ok({}))
    settings = used_up(server, free_in=0.6, max_rate_limit_wait=10.0)
    calls: list[Call[Any]] = [GET] * 5
    sender.send(settings, *calls, policy=None)
    said = [record for record in caplog.records if "rate budget" in record.getMessage()]
    assert [record.levelname for record in said] == ["INFO"]
    text = said[0].getMessage()
    assert "holds back crud calls, this one for 0." in text
    assert "10 a minute and 100 an hour" in text


def test_a_slowdown_ends_with_a_minute_without_waits() -> None:
    budget = Budget()
    told = [budget.begins_slowdown("crud", now, 5.0) for now in (0.0, 1.0, 66.0, 130.0, 196.0, 197.0)]
    assert told == [True, False, False, False, True, False]
    assert budget.begins_slowdown("analytics", 1.0, 5.0)


def test_a_forked_process_starts_anew() -> None:
    """Airflow forks a process for each task; another thread's lock would be held there for ever."""
    code = (
        "import os, signal, airflow_provider_posthog.api.budget as b\n"
        "from airflow_provider_posthog.api.settings import ClientSettings, Shares\n"
        "s = ClientSettings(project_id=1)\n"
        "b.budget_of(s).close('crud', 0.0, 1e9)\n"
        "assert b.budget_of(s).take('crud', 0.0) > 0\n"
        "b._lock.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.alarm(20)\n"
        "    os._exit(0 if b.budget_of(s).take('crud', 0.0) == 0 else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
