"""Prints what the faults came to at the end of a run of the tests, whichever process they ran in."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.cases import Case

_NAME = "fault"
#: What the first word of a problem is counted as.
BOOKS = ("books", "foreign", "key", "salt", "e-mail", "distinct")


def record(node: Any, task: str, case: Case) -> None:
    """Keep what a case came to, for the end of the run; with ``FAULTS_RESULTS=file`` also there, a line of JSON each.

    :param node: the test.
    :param task: whose case it is.
    :param case: the case.
    """
    told = {"task": task, **vars(case)}
    node.user_properties.append((_NAME, told))
    if path := os.environ.get("FAULTS_RESULTS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    cases = [value for each in reports if each.when == "call" for name, value in each.user_properties if name == _NAME]
    if cases:
        terminalreporter.section("faults")
        terminalreporter.write_line(line(cases))


def line(cases: list[dict[str, Any]]) -> str:
    """Say in one line what cases came to.

    :param cases: as :func:`record` keeps them.
    """
    outcomes = Counter(case["outcome"] for case in cases)
    survived = outcomes["succeeds"] + outcomes["waits and succeeds"]
    tasks, kinds = len({case["task"] for case in cases}), len({case["fault"] for case in cases})
    wrong = Counter(problem.split(" ")[0] for case in cases for problem in case["problems"])
    leaked = sum(wrong[name] for name in BOOKS[2:])
    return (
        f"{len(cases)} cases: {tasks} tasks, {kinds} faults. {survived} succeeded at the first try, "
        f"{outcomes['fails']} failed and succeeded when tried again. Books that differ: {wrong['books']} "
        f"(docs/reliability.md tells which may), foreign errors: {wrong['foreign']}, canaries leaked: {leaked}."
    )
