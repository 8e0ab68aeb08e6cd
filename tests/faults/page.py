"""Writes docs/reliability.md from the table and the plan of the cases: ``python -m tests.faults.page``.

The tests of this folder run each case of the plan, and fail where its outcome is not the table's; so the page says what
a green run has shown, and holds no times.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tests.faults import table
from tests.faults.kinds import GROUPS
from tests.soak.jobs import JOBS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
#: Other tests of kills, and what they kill.
KILLS = {
    "tests/transfers/test_killed_loads.py": "loads into databases, killed at random moments",
    "tests/transfers/test_crash_and_memory.py": "rows into files, killed at random moments",
    "tests/transfers/test_query_kills.py": "queries, killed before and after each call",
    "tests/transfers/test_into_posthog_kills.py": "events into PostHog, killed five times in a load",
    "tests/operators/test_refresh_kills.py": "refreshes of insights, worker and triggerer",
    "tests/sensors/test_gate_kills.py": "gates on insights, worker and triggerer",
    "tests/load/test_killed.py": "the loaders of databases, in the middle of a transaction",
    "tests/e2e/test_survival.py": "a whole deployment: worker, triggerer, scheduler, three rounds",
}
#: What the other folders try, which needs a server of its own.
ELSEWHERE = {
    "answers that drip, a byte at a time": "tests/operators/test_deadlines.py, tests/triggers/test_deadlines.py",
    "endless pages, and a next page that is the same one": "tests/api/test_pages.py",
    "proxies that cut, refuse, or want a password": "tests/api/test_proxies.py, tests/operators/test_behind_a_proxy.py",
    "answers larger than memory": "tests/api/test_limits_of_answers.py",
    "good answers, bent at any place": "tests/fuzz/test_malformed_answers.py",
    "a full disk": "tests/extract/test_atomic_file.py",
    "an object storage that fails at its end": "tests/transfers/test_export_to_object_storage.py",
}


def text(tasks: int) -> str:
    """Return the page.

    :param tasks: how many tasks meet the faults.
    """
    faults = sum(len(group) for group in GROUPS.values())
    parts = [
        _HEAD.format(tasks=tasks, faults=faults, cases=tasks * len(GROUPS)),
        _outcomes(),
        "\n## What is known\n",
        _known(),
        _KILLS,
        *[f"- `{path}`: {what}" for path, what in KILLS.items()],
        "\n## Tried elsewhere\n\n| | |\n|---|---|",
        *[f"| {what} | `{path.replace(', ', '`, `')}` |" for what, path in ELSEWHERE.items()],
        _SOAK.format(examples=len(JOBS)),
        _DEFECTS.lstrip("\n"),
    ]
    return "\n".join(parts)


def _outcomes() -> str:
    lines = ["| fault | on a call that reads | on a call that changes something |", "|---|---|---|"]
    found: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in table.rows():
        found[row["fault"]][row["call"]] = row
    for group in GROUPS.values():
        for fault in group:
            rows = found[fault.name]
            both = rows.get("any")
            lines.append(f"| {fault.name} | {_told(rows.get('read') or both)} | {_told(rows.get('write') or both)} |")
    return "\n".join(lines)


def _told(row: dict[str, str] | None) -> str:
    if row is None:
        return ""
    return row["outcome"] + (
        f", naming `{row['names'].replace('|', '` or `')}`" if row["names"] and "fails" in row["outcome"] else ""
    )


def _known() -> str:
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (task, fault, _), why in table.KNOWN.items():
        told[task, why].append(fault)
    lines = [f"- `{task}` ({', '.join(faults)}): {why}" for (task, why), faults in told.items()]
    return "\n".join([*lines, _AGAIN])


_AGAIN = """\
- An event that is sent into PostHog again has the uuid of the first, so that PostHog keeps one. A flag may be set twice
  to what it is to be.
- Before Airflow 3.3, which keeps notes for a task, a retry cannot know the sync or the run of a view that an earlier
  try began and lost sight of: it begins another one when that has ended."""
_KILLS = """
## Kills

Workers, triggerers and schedulers are killed with SIGKILL; the next try ends with the right rows, once:

- `tests/faults/test_kills.py`: a task of each kind of life, killed after each of its first calls"""
_HEAD = """\
# Reliability

What happens to a task when PostHog, the network or the worker fails. `python -m tests.faults.page` writes this page.
The tests in `tests/faults/` prove it on every change, and `make test` prints their totals.

{tasks} operators, sensors, transfers and notifiers meet {faults} kinds of faults in {cases} cases. Each task meets one
fault of each group, at one of its calls, while it waits in the worker, in the triggerer, or rescheduled. A clock that
jumps stands for the hours. After each case the books are counted, and compared with those of a run without a fault:

| | |
|---|---|
| rows lost, rows there twice | 0 |
| jobs in PostHog more than one (but for what is [known](#what-is-known)) | 0 |
| files left, tables half loaded | 0 |
| tasks that do not succeed once PostHog is well again | 0 |
| errors that are not the provider's own | 0 |
| keys, salts, e-mail addresses and distinct ids in logs at DEBUG, results, errors, templates and triggers | 0 |

## What a task does

"succeeds": at the first try. "waits and succeeds": it waits as long as PostHog asks. "fails": with an error that names
the fault; the next try, when PostHog is well, ends as if nothing had been. Where both are possible, it depends on the
task: one that waits for a job goes on waiting, one that has nothing to wait for fails.
"""
_SOAK = """
## A soak

`make soak` runs {examples} of the example DAGs for half an hour on a whole deployment: scheduler, triggerer, workers
and PostgreSQL, each a process. Meanwhile PostHog answers with random faults, and random workers, triggerers and
schedulers are killed. It prints its seed. At the end nothing is wrong any more, and the books are checked: each run is
green; one that failed for faults that outlasted its tries, once it was cleared; the warehouse has the rows that
PostHog has, and PostHog those of the warehouse; there is no job more than runs asked for, none that still runs, no part
of a file, no table of a load that ended, and no key, salt, e-mail address or distinct id in a log. Not in it are
`erase_persons` and `hand_out_person_data`, which are a person's, what watches for events, and the recipes, which need a
cloud.
"""
_DEFECTS = """
## Would we notice?

`tests/defects/` puts defects into the package, one by one: a POST that is repeated blindly, a key that follows a
redirect, a count or a size that is not compared, a file that grows under its final name. Each has to turn a test red.
"""


def main() -> None:
    """Write the page."""
    from tests.faults.tasks import TASKS

    PAGE.write_text(text(len(TASKS)), encoding="utf-8")


if __name__ == "__main__":
    import importlib

    importlib.import_module("tests.conftest")  # before Airflow
    main()
