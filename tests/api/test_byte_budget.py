"""The budget of bytes that queries read: its arithmetic against a simulated bucket, and both clients heeding it."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.byte_budget import EXCEEDED, HOUR, BudgetHeaders, ByteBudget, shown
from airflow_provider_posthog.api.call import Answer
from airflow_provider_posthog.api.retry import ONCE, RetryPolicy
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogRateLimitError
from tests.api.cases import GET, settings_for
from tests.support.scripted import Reply, ScriptedServer, error, ok
from tests.support.senders import Sender

QUERY = queries.start(queries.hogql("select 1"))
READ, LEFT = "X-PostHog-Query-Bytes-Read", "X-PostHog-Query-Budget-Remaining-Bytes"
GB = 10**9
_projects = itertools.count(500_000)


def fresh(server: ScriptedServer, **changes: Any) -> ClientSettings:
    """Settings for a project of which nobody has asked anything; the server is one on this machine."""
    return settings_for(server, project_id=next(_projects), **changes)


def metered(read: int | str, left: int | str, status: int = 200) -> Reply:
    return ok({"results": []}, status, **{READ: str(read), LEFT: str(left)})


def exceeded(seconds: int | None = 1, **headers: str) -> Reply:
    asked = {} if seconds is None else {"Retry-After": str(seconds)}
    return error(429, "The budget is used up.", code=EXCEEDED, **asked, **headers)


# What answers say.


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, BudgetHeaders(None, None)),
        ({READ: "12", LEFT: "34"}, BudgetHeaders(12, 34)),
        ({READ: " 12 ", LEFT: "-34"}, BudgetHeaders(12, -34)),
        ({READ: "12.0", LEFT: "4.9"}, BudgetHeaders(12, 4)),
        ({READ: "-1"}, BudgetHeaders(0, None)),
        *(
            ({READ: text, LEFT: text}, BudgetHeaders(None, None))
            for text in ("", "many", "1e9", "0x10", "inf", "NaN", "9" * 40)
        ),
    ],
)
def test_headers_that_are_no_numbers_are_not_there(headers: dict[str, str], told: BudgetHeaders) -> None:
    assert BudgetHeaders.by(Answer(200, {name.lower(): text for name, text in headers.items()})) == told


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1.5e9, "1.50 GB"), (-2e12, "-2.00 TB"), (3000, "3.00 kB")]
)
def test_bytes_are_written_for_people(size: float, text: str) -> None:
    assert shown(size) == text


# The arithmetic.


def answered(budget: ByteBudget, now: float, read: int, left: int | None) -> None:
    assert budget.begin(now) == 0
    budget.end()
    budget.saw(now, BudgetHeaders(read, left), began=now)


def test_nothing_is_enforced_before_posthog_has_told() -> None:
    budget = ByteBudget()
    assert [budget.begin(0.0) for _ in range(100)] == [0.0] * 100
    assert budget.pause(0.0) == 0
    assert budget.remaining(0.0) is None
    for _ in range(100):
        budget.end()
        budget.saw(1.0, BudgetHeaders(), began=0.0)
    assert budget.pause(1.0) == 0
    assert budget.bytes_read == 0


def test_what_is_left_is_never_more_than_what_was_told() -> None:
    budget = ByteBudget()
    answered(budget, 0.0, GB, 50 * GB)
    assert budget.remaining(3000.0) == 50 * GB
    assert budget.refill == 0


def test_two_answers_tell_the_refill() -> None:
    budget = ByteBudget()
    answered(budget, 0.0, GB, 50 * GB)
    answered(budget, 99.0, GB, 51 * GB)
    assert budget.refill == 2 * GB / 100
    assert budget.remaining(199.0) == 53 * GB


def test_a_query_waits_where_those_on_their_way_may_take_what_is_left() -> None:
    budget = ByteBudget()
    answered(budget, 0.0, 10 * GB, 25 * GB)
    assert [budget.begin(1.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert 0 < budget.begin(1.0) <= 1, "until the answers to the others tell more"
    budget.end()
    assert budget.begin(1.0) == 0


def test_many_queries_leave_something_for_the_other_tasks() -> None:
    budget = ByteBudget()
    answered(budget, 0.0, 10 * GB, 31 * GB)
    assert budget.pause(0.0) == 0
    answered(budget, 1.0, 10 * GB, 29 * GB)
    assert budget.pause(1.0) > 0
    assert budget.begin(1.0) == 0, "PostHog would not refuse it"


def test_below_zero_it_waits_for_the_refill() -> None:
    budget = ByteBudget()
    answered(budget, 0.0, GB, 50 * GB)
    answered(budget, 99.0, GB, 51 * GB)
    answered(budget, 100.0, 55 * GB, -4 * GB)
    assert budget.begin(100.0) == pytest.approx(200, abs=1)
    assert budget.begin(301.0) == 0
    assert ByteBudget().begin(0.0) == 0


@pytest.mark.parametrize("left", [0, -1, -5 * GB, -(10**15)])
def test_an_empty_bucket_is_waited_for_an_hour_at_the_most(left: int) -> None:
    budget = ByteBudget()
    answered(budget, 0.0, GB, left)
    wait = budget.begin(0.0)
    assert 60 <= wait <= HOUR
    assert budget.begin(wait - 1) > 0
    assert budget.begin(wait + 1) == 0


def test_after_an_hour_without_news_nothing_is_known() -> None:
    budget = ByteBudget()
    answered(budget, 0.0, GB, -100 * GB)
    assert budget.remaining(HOUR) is None
    assert budget.pause(HOUR) == 0


def test_a_refusal_holds_back_all_queries_for_as_long_as_posthog_says() -> None:
    budget = ByteBudget()
    budget.refuse(10.0, 50.0, BudgetHeaders(None, 0))
    assert (budget.begin(10.0), budget.pause(20.0), budget.is_closed(59.0)) == (50.0, 40.0, True)
    assert budget.begin(60.0) == 0
    assert budget.begin(60.0) == 1, "one goes first, and its answer tells how much there is"
    budget.refuse(100.0, 1e12, BudgetHeaders())
    assert budget.begin(100.0) == HOUR


def test_an_answer_that_was_overtaken_tells_nothing_newer() -> None:
    budget = ByteBudget()
    for _ in range(2):
        budget.begin(0.0)
    budget.end()
    budget.saw(5.0, BudgetHeaders(GB, 8 * GB), began=0.0)
    budget.end()
    budget.saw(5.1, BudgetHeaders(GB, 9 * GB), began=0.0)
    assert budget.remaining(5.1) == 8 * GB
    answered(budget, 6.0, GB, 9 * GB)
    assert budget.remaining(6.0) == 9 * GB


def test_a_second_look_at_one_answer_is_not_counted_twice() -> None:
    budget = ByteBudget()
    answered(budget, 0.0, GB, 50 * GB)
    for at in (1.0, 2.0, 3.0):
        budget.saw(at, BudgetHeaders(GB, 50 * GB), began=at, spent=False)
    assert (budget.bytes_read, budget.refill) == (GB, 0)


@dataclass
class Bucket:
    """PostHog's bucket: what begins above zero runs to its end, and is debited then."""

    rate: float
    hours: float
    level: float
    at: float = 0.0
    refused: list[float] = field(default_factory=list)

    def now(self, at: float) -> float:
        self.level = min(self.rate * self.hours * 3600, self.level + self.rate * (at - self.at))
        self.at = at
        return self.level

    def seconds(self) -> float:
        return min(3600.0, math.ceil(-self.level / self.rate) + 1)


@given(
    rate=st.sampled_from([20 * GB / HOUR, 200 * GB / HOUR]),
    start=st.integers(-20, 60).map(lambda size: size * GB),
    reads=st.lists(st.integers(0, 12).map(lambda size: size * GB + 1), min_size=1, max_size=60),
    others=st.lists(st.integers(0, 3).map(lambda size: size * GB), min_size=1, max_size=5),
    shows_debt=st.booleans(),
)
def test_one_query_after_the_other_meets_no_429_that_an_answer_has_foretold(
    rate: float, start: int, reads: list[int], others: list[int], shows_debt: bool
) -> None:
    """One process by itself, and then others who draw on the bucket as well: their share is in each answer."""
    for drawn in ([0], others):
        bucket, budget, now = Bucket(rate, 24, start), ByteBudget(), 0.0
        for read, other in zip(reads, itertools.cycle(drawn), strict=False):
            while wait := budget.begin(now):
                assert wait <= HOUR
                now += wait
            bucket.now(now)
            if bucket.level <= 0:
                bucket.refused.append(now)
                budget.end()
                budget.refuse(now, bucket.seconds(), BudgetHeaders(None, int(bucket.level) if shows_debt else None))
                now += bucket.seconds()
                continue
            bucket.level = max(bucket.level - read, -rate * HOUR)
            left = int(bucket.level) if shows_debt else max(0, int(bucket.level))
            budget.end()
            budget.saw(now, BudgetHeaders(read, left), began=now)
            assert (budget.remaining(now) or 0) <= (bucket.level if shows_debt else max(bucket.level, 0)) + 1
            bucket.level -= other
            now += 2.0
        if drawn == [0] and shows_debt:
            assert bucket.refused in ([], [0.0]), "only what nobody had told yet"


@given(
    rate=st.floats(1e6, 1e9),
    steps=st.lists(st.tuples(st.floats(0, 120), st.integers(1, 5), st.floats(0, 1)), min_size=2, max_size=60),
)
def test_the_refill_is_never_overestimated(rate: float, steps: list[tuple[float, int, float]]) -> None:
    """Queries overlap; their answers come in any order, and say what was left when PostHog had finished them."""
    budget, now, level = ByteBudget(), 0.0, 1e12
    for step, together, size in steps:
        began = now = now + step
        level += rate * step
        answers = []
        for _ in range(together):
            assert budget.begin(began) == 0
            level -= size * 1e9
            answers.append(BudgetHeaders(int(size * 1e9), int(level)))
        for told in answers[::-1]:
            budget.end()
            budget.saw(now, told, began=began)
        assert budget.refill <= rate * 1.001
        assert (budget.remaining(now) or 0) <= level + 1


# The clients.


def test_a_server_that_tells_nothing_is_asked_as_before(sender: Sender, server: ScriptedServer) -> None:
    server.script(ok({"results": []}))
    settings = fresh(server)
    sender.send(settings, *[QUERY] * 5)
    budget = ByteBudget.of(settings)
    assert len(server.requests) == 5
    assert budget.remaining(time.monotonic()) is None
    assert budget.bytes_read == 0


def test_each_answer_tells_what_a_query_has_read_and_what_is_left(sender: Sender, server: ScriptedServer) -> None:
    server.script(metered(3 * GB, 100 * GB), metered(GB, 99 * GB))
    settings = fresh(server)
    found = sender.send(settings, queries.metered(QUERY))
    assert (found.bytes_read, found.remaining, found.value) == (3 * GB, 100 * GB, {"results": []})
    sender.send(settings, QUERY)
    budget = ByteBudget.of(settings)
    assert budget.bytes_read == 4 * GB
    assert budget.remaining(time.monotonic()) == 99 * GB


def test_nothing_is_sent_that_posthog_would_refuse(sender: Sender, server: ScriptedServer) -> None:
    server.script(metered(3 * GB, -GB), ok({}))
    settings = fresh(server, max_rate_limit_wait=5.0)
    sender.send(settings, QUERY)
    for policy in (None, ONCE):
        with pytest.raises(PostHogRateLimitError) as caught:
            sender.send(settings, QUERY, policy=policy)
        assert caught.value.code == "own_budget"
        assert 60 <= (caught.value.retry_after or 0) <= HOUR
        for said in (
            "-1.00 GB are left",
            "read 3.00 GB each",
            "nothing was sent",
            "max_rate_limit_wait",
            "docs/limits.md",
        ):
            assert said in str(caught.value)
        assert "..." not in str(caught.value), "cut short"
    assert sender.send(settings, GET) == {}, "only queries draw on it"
    assert len(server.requests) == 2


def test_without_a_budget_it_asks_all_the_same(sender: Sender, server: ScriptedServer) -> None:
    server.script(metered(3 * GB, -GB))
    settings = fresh(server, rate_limit_share=0.0)
    sender.send(settings, *[QUERY] * 3)
    assert len(server.requests) == 3


@pytest.mark.parametrize("left", [None, "0", "-50"])
def test_a_429_of_the_budget_is_waited_out(sender: Sender, server: ScriptedServer, left: str | None) -> None:
    server.script(exceeded(1, **({LEFT: left} if left else {})), metered(5, 50))
    settings = fresh(server)
    began = time.monotonic()
    sender.send(settings, QUERY, policy=RetryPolicy(max_rate_limit_wait=10.0))
    assert time.monotonic() - began >= 0.9
    assert len(server.requests) == 2


def test_a_429_of_the_budget_without_time_says_which_one_how_much_and_what_to_do(
    sender: Sender, server: ScriptedServer
) -> None:
    server.script(metered(3 * GB, 2 * GB), exceeded(1800))
    settings = fresh(server)
    with pytest.raises(PostHogRateLimitError) as caught:
        sender.send(settings, QUERY, QUERY)
    assert (caught.value.code, caught.value.retry_after) == (EXCEEDED, 1800)
    for said in ("bytes that ClickHouse reads", "read 3.00 GB each", "1,800 s", "timestamp", "docs/limits.md"):
        assert said in str(caught.value)
    with pytest.raises(PostHogRateLimitError) as again:
        sender.send(settings, QUERY)
    assert again.value.code == "own_budget"
    assert "PostHog answered 429" in str(again.value)
    assert 1700 < (again.value.retry_after or 0) <= 1800
    assert len(server.requests) == 2


def test_a_429_of_the_budget_that_names_no_time_is_to_be_tried_again_after_a_minute(
    sender: Sender, server: ScriptedServer
) -> None:
    """PostHog knows when bytes are back; a proxy may drop what it says of it. A deferred load waits all the same."""
    server.script(exceeded(None))
    with pytest.raises(PostHogRateLimitError) as caught:
        sender.send(fresh(server, max_rate_limit_wait=0.5), QUERY)
    assert caught.value.code == EXCEEDED
    assert 50 < (caught.value.retry_after or 0) <= 60


def test_another_429_is_none_of_this_budget(sender: Sender, server: ScriptedServer) -> None:
    server.script(error(429, "Too many queries at once."), ok({}))
    settings = fresh(server)
    with pytest.raises(PostHogRateLimitError):
        sender.send(settings, QUERY)
    assert sender.send(settings, QUERY) == {}


def test_a_query_that_brings_no_answer_is_not_on_its_way_any_more(sender: Sender, server: ScriptedServer) -> None:
    server.script(metered(GB, 2 * GB), *[error(500)] * 8, metered(GB, GB))
    settings = fresh(server)
    sender.send(settings, QUERY)
    for _ in range(2):
        with pytest.raises(Exception, match="500"):
            sender.send(settings, QUERY)
    sender.send(settings, QUERY)


def test_the_log_says_once_that_queries_wait_for_bytes(
    sender: Sender, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "airflow_provider_posthog")
    server.script(exceeded(1), metered(5, 50))
    settings = fresh(server)
    with pytest.raises(PostHogRateLimitError):
        sender.send(settings, QUERY, policy=ONCE)
    sender.send(settings, QUERY, QUERY, policy=RetryPolicy(max_rate_limit_wait=10.0))
    said = [record.getMessage() for record in caplog.records if "budget of bytes" in record.getMessage()]
    assert len(said) == 1
    assert "used up" in said[0]


def test_a_forked_process_knows_nothing_of_its_parents_bytes() -> None:
    code = (
        "import os, signal, airflow_provider_posthog.api.byte_budget as b\n"
        "from airflow_provider_posthog.api.settings import ClientSettings\n"
        "s = ClientSettings(project_id=1)\n"
        "b.ByteBudget.of(s).refuse(0.0, 1e9, b.BudgetHeaders())\n"
        "b._lock.acquire()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.alarm(20)\n"
        "    os._exit(0 if b.ByteBudget.of(s).begin(0.0) == 0 else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# Hours with a bucket that others draw on.


def load(
    budgets: list[ByteBudget],
    in_flight: int,
    size: float,
    bucket: Bucket,
    hours: float,
    *,
    many: bool,
    shows_debt: bool,
) -> tuple[int, float]:
    """Let each process read without end; return how many queries were refused, and the used part of what there was."""
    dice, number = random.Random(1), itertools.count()
    there = bucket.level + bucket.rate * hours * HOUR
    steps = [(dice.random(), next(number), at, -1) for at in range(len(budgets)) for _ in range(in_flight)]
    began: dict[int, float] = {}
    refused, read = 0, 0
    heapq.heapify(steps)
    while steps[0][0] < hours * HOUR:
        now, name, at, size_read = heapq.heappop(steps)
        budget, level = budgets[at], bucket.now(now)
        if size_read < 0:
            wait = (budget.pause(now) if many else 0.0) or budget.begin(now)
            if wait == 0 and level <= 0:
                refused += 1
                wait = bucket.seconds()
                budget.end()
                budget.refuse(now, wait, BudgetHeaders(None, int(level) if shows_debt else 0))
            if wait:
                heapq.heappush(steps, (now + wait, name, at, -1))
            else:
                began[name] = now
                seconds, wanted = 4 * (0.5 + dice.random()), int(size * (0.5 + dice.random()))
                heapq.heappush(steps, (now + seconds, name, at, wanted))
            continue
        bucket.level = max(level - size_read, -bucket.rate * HOUR)
        read += size_read
        left = int(bucket.level) if shows_debt else max(0, int(bucket.level))
        budget.end()
        budget.saw(now, BudgetHeaders(size_read, left), began=began.pop(name))
        heapq.heappush(steps, (now + 0.01, name, at, -1))
    return refused, read / there


@pytest.mark.parametrize("shows_debt", [False, True])
@pytest.mark.parametrize("many", [False, True], ids=["queries", "bulk"])
@pytest.mark.parametrize(("size", "start"), [(0.5, 50), (0.5, 480), (5, 50), (0.02, 1)])
def test_one_load_meets_no_429_and_leaves_little_unused(
    size: float, start: float, many: bool, shows_debt: bool
) -> None:
    bucket = Bucket(20 * GB / HOUR, 24, start * GB)
    refused, used = load([ByteBudget()], 3, size * GB, bucket, 4, many=many, shows_debt=shows_debt)
    assert refused == 0
    assert used > 0.8


@pytest.mark.parametrize("shows_debt", [False, True])
def test_loads_of_several_processes_share_what_is_left(shows_debt: bool) -> None:
    """They know each other by PostHog's header alone."""
    bucket = Bucket(20 * GB / HOUR, 24, 50 * GB)
    refused, used = load([ByteBudget() for _ in range(3)], 1, 0.5 * GB, bucket, 4, many=True, shows_debt=shows_debt)
    assert refused == 0
    assert used > 0.9
