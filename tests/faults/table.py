"""``outcomes.tsv``: what each fault may come to, by what it falls on."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent / "outcomes.tsv"
#: What is known of single tasks, and told in docs/reliability.md: the task, the fault, and what is not as elsewhere.
_TWICE = (
    "PostHog may make the files twice. A file download cannot carry an id of ours, so one whose start was not answered "
    "looks like any other. PostHog bills its rows; no row is written twice."
)
KNOWN: dict[tuple[str, str, str], str] = {
    ("PostHogFileDownloadOperator", fault, "books"): _TWICE
    for fault in ("cut after the work", "cut in the answer", "time-out", "500 after the work", "504 after the work")
}


@dataclass(frozen=True)
class Expected:
    """A row of the table.

    :param words: the outcomes that may be.
    :param names: what an error has to name.
    """

    words: list[str]
    names: str


def rows() -> list[dict[str, str]]:
    """Read the table."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


_TABLE = {(row["fault"], row["call"]): Expected(row["outcome"].split(" or "), row["names"]) for row in rows()}


def allowed(fault: str, call: str) -> Expected:
    """Return what a fault may come to.

    :param fault: its name.
    :param call: ``read``, ``write`` or ``any``.
    """
    return _TABLE.get((fault, call)) or _TABLE.get((fault, "any")) or Expected(["?"], "")
