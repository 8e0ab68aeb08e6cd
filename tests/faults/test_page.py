"""docs/reliability.md says what the table says, and names tests that are there."""

from __future__ import annotations

import pytest

from tests.faults import page, table
from tests.faults.kinds import FAULTS, chosen, number_of
from tests.faults.summary import line
from tests.faults.tasks import TASKS
from tests.support.registry import classes

#: Tasks that send nothing to PostHog, or are tried under another's name.
ELSEWHERE = {
    *("PostHogFinishAccessOperator", "PostHogRangeCheckOperator", "PostHogInsightSensor"),
    *("PostHogErasuresDueSensor", "PostHogSweepErasureFilesOperator", "PostHogErasureGateOperator"),
    *("PostHogFinishErasureOperator", "PostHogDiscardErasureOperator", "PostHogExtendErasureOperator"),
    *("PostHogSealErasureOperator", "PostHogSuppressPersonsOperator", "PostHogEraseFromFilesOperator"),
    *("PostHogEraseFromSqlOperator", "PostHogLookAgainOperator", "PostHogCloseErasureOperator"),
}


def test_the_page_is_not_stale() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.text(len(TASKS)), "run python -m tests.faults.page"


def test_every_public_task_meets_the_faults() -> None:
    rooms = ("operators", "sensors", "transfers", "notifications")
    known = {name.rpartition(".")[2] for room in rooms for name, _ in classes(room)}
    assert known - set(TASKS) == ELSEWHERE


def test_every_fault_is_met_by_some_task() -> None:
    met = {fault.name for name in TASKS for fault in chosen(number_of(name))}
    assert met == {fault.name for fault in FAULTS}


def test_every_fault_has_its_outcome() -> None:
    told = {row["fault"] for row in table.rows()}
    assert told == {fault.name for fault in FAULTS}
    words = {"succeeds", "waits and succeeds", "fails"}
    assert all(set(row["outcome"].split(" or ")) <= words for row in table.rows())


@pytest.mark.parametrize("path", [*page.KILLS, *(", ".join(page.ELSEWHERE.values()).split(", "))])
def test_the_tests_that_the_page_names_are_there(path: str) -> None:
    assert (page.ROOT / path).is_file()


def test_the_summary_counts_what_is_wrong() -> None:
    good = {"task": "a", "fault": "500", "outcome": "succeeds", "problems": []}
    bad = {"task": "a", "fault": "429", "outcome": "fails", "problems": ["key leaked: x", "books differ"]}
    told = line([good, bad])
    assert "2 cases: 1 tasks, 2 faults. 1 succeeded at the first try, 1 failed" in told
    assert "Books that differ: 1 " in told
    assert "canaries leaked: 1" in told
