"""Every task meets a fault of each group; ``outcomes.tsv`` says what comes of it, and the books are as without it.

What is asked of each case, whatever its outcome: errors are this provider's, the next try succeeds, and then there is
what a run without the fault leaves: no row fewer or twice, no second job in PostHog, no file of ours more. Neither the
key, the salt, an e-mail address nor a distinct id is in any log, result, error, trigger, field or stored note.
"""

from __future__ import annotations

import re

import pytest

from tests.faults.cases import MODES, Case, Weather
from tests.faults.kinds import chosen, number_of
from tests.faults.summary import record
from tests.faults.table import KNOWN, allowed
from tests.faults.tasks import TASKS

pytestmark = pytest.mark.reliability

NAMES = list(TASKS)
#: Looks at a job count as waits, too, so that what succeeds may have waited.
WAITED = "waits and succeeds"


@pytest.mark.parametrize("name", NAMES)
def test_faults_leave_the_books_right(name: str, weather: Weather, request: pytest.FixtureRequest) -> None:
    make, number = TASKS[name], number_of(name)
    course = weather.course(make)
    wrong = []
    for turn, fault in enumerate(chosen(number)):
        case = weather.case(make, course, fault, MODES[(number + turn) % len(MODES)], number + turn)
        record(request.node, name, case)
        wrong += [f"{told(case)}: {problem}" for problem in _found(name, case)]
    assert not wrong, "\n".join(wrong)


def _found(name: str, case: Case) -> list[str]:
    expected = allowed(case.fault, case.call)
    found = [each for each in case.problems if (name, case.fault, each.split(" ")[0]) not in KNOWN]
    if case.outcome not in expected.words and not (case.outcome == WAITED and "succeeds" in expected.words):
        found.append(f"{case.outcome}, and outcomes.tsv says {' or '.join(expected.words)}. {case.reason[:300]}")
    elif case.outcome == "fails" and not re.search(expected.names, case.reason):
        found.append(f"does not name {expected.names!r}: {case.reason[:300]}")
    return found


def told(case: Case) -> str:
    return f"{case.fault} ({case.call}, {case.mode}, {case.tries} tries)"
