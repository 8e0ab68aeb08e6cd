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
    "a full disk": "tests/storage/test_atomic_file.py",
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
        "\n## Known exceptions\n",
        _known(),
        _KILLS,
        *[f"- `{path}`: {what}" for path, what in KILLS.items()],
        "\n## Other faults\n\n| fault | tested in |\n|---|---|",
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
- An event that is sent into PostHog again has the same uuid, so PostHog keeps one. A feature flag may be set twice
  to the same value.
- Airflow 3.3 and newer store notes for a task. Before 3.3, a retry cannot know the sync or the run of a view that an
  earlier try began and lost sight of. It starts another one when that has ended.
  A retry of a backfill takes for its own whatever backfill of the range has ended since the run of the DAG began,
  and likewise of an experiment's results."""
_KILLS = """
## Kills

Tests kill workers, triggerers and schedulers with SIGKILL. The next try ends with the right rows, once:

- `tests/faults/test_kills.py`: a task of each kind of life, killed after each of its first calls"""
_HEAD = """\
# Reliability

This page says what happens to a task when PostHog, the network or the worker fails. Read it to decide how many
`retries` a task needs, and what to check after an incident. The tests in `tests/faults/` prove it on every change,
`make reliability` prints their totals, and `python -m tests.faults.page` writes this page.

{tasks} operators, sensors, transfers and notifiers are tested with {faults} kinds of faults, in {cases} cases. In each
case one call of a task meets one fault, while the task waits in the worker, in the triggerer, or rescheduled. Faults
that last for hours are simulated by a clock that jumps. After each case the test compares rows, files, jobs and logs
with those of a run without a fault. It found:

| | |
|---|---|
| rows lost, rows that are there twice | 0 |
| jobs started twice in PostHog (except the [known exceptions](#known-exceptions)) | 0 |
| files left behind, tables loaded by half | 0 |
| tasks that do not succeed when PostHog works again | 0 |
| errors of another class than the provider's own | 0 |
| keys, salts, e-mail addresses and distinct ids in logs at DEBUG, results, errors, templates and triggers | 0 |

## What a task does

- "succeeds": at the first try.
- "waits and succeeds": it waits as long as PostHog asks.
- "fails": with an error that names the fault. The next try, when PostHog works again, ends as if nothing had happened.
- "succeeds or fails": this depends on the task. A task that waits for a job keeps waiting; a task without a job fails.

"""
_SOAK = """
## A soak

`make soak` runs {examples} of the example DAGs for half an hour on a whole deployment: scheduler, triggerer, workers
and PostgreSQL, each a process. Meanwhile PostHog answers with random faults, and random workers, triggerers and
schedulers are killed. It prints its seed. Then the faults stop, the last runs end, and the books are checked:

- each run is green; if its faults outlasted its tries, after it was cleared
- the warehouse has the rows that PostHog has, and PostHog has those of the warehouse
- no job was started that no run asked for, and none still runs
- no part of a file is left, and no table of a load that has ended
- no log has the key, the salt, an e-mail address or a distinct id

In half an hour on 2 cores (November 2026): 751 runs, 371 faults, and 84 workers, 14 triggerers and 7 schedulers killed.
No run failed, and the books were right.

`erase_persons` and `hand_out_person_data` are not in it, as they wait for a person. Nor are what watches for events
and the recipes, which need a cloud.
"""
_DEFECTS = """
## Would these tests notice a defect?

`tests/defects/` puts defects into the package, one by one: a POST that is repeated blindly, a key that follows a
redirect, a count or a size that is not compared, a file that grows under its final name. Each must make a test fail.

Next: [what to do about each error](troubleshooting.md), [what is sent again](limits.md#what-is-sent-again).
"""


def main() -> None:
    """Write the page."""
    from tests.faults.tasks import TASKS

    PAGE.write_text(text(len(TASKS)), encoding="utf-8")


if __name__ == "__main__":
    import importlib

    importlib.import_module("tests.conftest")  # before Airflow
    main()
