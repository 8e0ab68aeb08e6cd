"""A worker is killed at each of a task's calls, when PostHog has done its work; the next try ends as if it had not.

Processes are forks, which kill themselves as soon as the answer of their n-th call is there, before it is read.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import requests

from tests.faults.cases import Weather
from tests.faults.running import Runner
from tests.faults.table import KNOWN
from tests.faults.tasks import TASKS

pytestmark = pytest.mark.reliability

#: One task for each kind of life: what is made, found again, or done over.
LIVES = (
    *("PostHogQueryToObjectStorageOperator", "PostHogToSqlOperator", "PostHogFileDownloadOperator"),
    *("PostHogCreateExportOperator", "PostHogExportToObjectStorageOperator", "PostHogBackfillBatchExportOperator"),
    *(
        "PostHogSyncSourceOperator",
        "PostHogRunViewOperator",
        "PostHogLinkTableOperator",
        "PostHogDeletePersonsOperator",
    ),
    *("PostHogDeletePersonPropertyOperator", "PostHogFromSqlOperator", "PostHogStaticCohortOperator"),
    *("PostHogRunDataQualityOperator", "PostHogExperimentResultsOperator", "PostHogRefreshDashboardOperator"),
    *("PostHogAnnotationOperator", "PostHogFeatureFlagOperator", "PostHogPauseBatchExportOperator"),
)
#: Calls of a task after which it is killed: the first ones, which are those that begin something.
MOST = 8
KILLED, ENDED = "killed", "ended"


def killed_at(runner: Runner, number: int) -> str:
    """Run a try in a fork that is killed at a call; return whether it was, or had ended before."""
    child = os.fork()
    if not child:
        try:
            _die_at(number)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            runner.attempt()
        finally:
            os._exit(0)
    runner.tries += 1
    return KILLED if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else ENDED


def _die_at(number: int) -> None:
    send, left = requests.Session.send, iter(range(number))

    def sent(self: requests.Session, request: Any, **options: Any) -> requests.Response:
        answer = send(self, request, **options)
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    requests.Session.send = sent  # type: ignore[method-assign]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("name", LIVES)
def test_a_kill_at_any_call_costs_nothing(name: str, weather: Weather) -> None:
    course = weather.course(TASKS[name])
    wrong, kills = [], 0
    for number in range(MOST):
        with weather.ready(TASKS[name], "blocking") as (runner, place, _):
            if killed_at(runner, number) == ENDED:
                break
            kills += 1
            found = runner.attempt()
            books = place.books(course.changed)
            if found.error is not None:
                wrong.append(f"killed at call {number + 1}, the next try fails: {found.error!r}")
            elif books != course.books and (name, "cut after the work", "books") not in KNOWN:
                wrong.append(f"killed at call {number + 1}: {books}, not {dict(course.books)}")
    assert not wrong, "\n".join(wrong)
    assert kills >= min(2, len(course.reads) + len(course.writes)), "nothing was killed"
