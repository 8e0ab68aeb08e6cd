"""Runs the tests on the Airflow versions we support: ``python -m tests.matrix [NAME ...]``.

The newest 3.3 is what ``make test`` runs on. 2.11 runs all that is ours, on the oldest Python; the versions between
them what differs by Airflow version: imports, forms, whole DAGs, and for 3.0 the life cycle of every task. None repeats
what takes long and is the same everywhere. Each version is installed as its users have it, that is with the packages of
its own time: Airflow 3.0 with today's fastapi does not even start a task, nor does 3.2 with today's pydantic. The cell
"lowest" has the oldest release of everything that setup.cfg names: a floor there is one that was tried.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
VENVS = HERE / ".venvs"
#: What is installed of ours.
EXTRAS = "emulator,examples,pandas,warehouse"
#: How many cells run at once, the longest first. Half of a test is waiting: two cores have enough to do then.
AT_ONCE = 3
#: How pytest's lines about them begin; a log's may begin with ERROR, too.
_FAILED = ("FAILED tests/", "ERROR tests/")
#: How many tests that failed are repeated alone; more have a reason that they share.
MOST_REPEATED = 5
#: What the forms, the hooks, the triggerer and whole DAGs are like.
ESSENTIALS = (
    "tests/airflow",
    "tests/hooks",
    "tests/triggers",
    "tests/connection/test_form.py",
    "tests/test_imports.py",
    "tests/test_links.py",
    "tests/test_provider_info.py",
)
#: The life cycle of every task beside it.
LIFE_CYCLE = (*ESSENTIALS, "tests/operators", "tests/sensors", "tests/task_groups", "tests/tasks")
#: All that is ours; what only tests the emulator, the benchmarks and their harness is the same everywhere.
WHOLE = (
    *LIFE_CYCLE,
    "tests/api",
    "tests/audit",
    "tests/capture",
    "tests/download",
    "tests/erasure",
    "tests/extract",
    "tests/load",
    "tests/results",
    "tests/storage",
    "tests/transfers",
)

#: How many processes run the tests of a cell that takes long.
_WORKERS = {WHOLE: 3, LIFE_CYCLE: 2}

#: What is the same on every version, and takes long: sizes, large plans, and a person's whole life. `make test` proves
#: it. Nor does a cell repeat `make reliability`: that a task survives a kill and a retry, tests/airflow shows.
ONCE = (
    "tests/api/test_budget.py",
    "tests/api/test_insight_ranges.py",
    "tests/api/test_limits_by_posthogs_parser.py",
    "tests/api/test_limits_of_answers.py",
    "tests/api/test_poller.py",
    "tests/audit/test_docs.py",
    "tests/capture/test_load.py",
    "tests/erasure/test_erase_folder.py",
    "tests/erasure/test_rate_limits.py",
    "tests/erasure/test_tables.py",
    "tests/extract/test_cell_statements.py",
    "tests/extract/test_interval_counts.py",
    "tests/extract/test_key_ranges.py",
    "tests/load/test_dispositions.py",
    "tests/load/test_merging.py",
    "tests/load/test_other_columns.py",
    "tests/operators/test_erasure_close.py",
    "tests/operators/test_erasure_deadline.py",
    "tests/operators/test_refresh_right_numbers.py",
    "tests/transfers/test_retention.py",
    "tests/triggers/test_deadlines.py",
    "tests/triggers/test_poller.py",
)


#: What touches each package that setup.cfg names.
FLOORS = (
    "tests/airflow/test_example_flow.py",
    "tests/api/test_no_answer.py",
    "tests/api/test_proxies.py",
    "tests/api/test_streamed.py",
    "tests/audit/test_chain.py",
    "tests/capture/test_events.py",
    "tests/emulator/test_exports.py",
    "tests/emulator/test_scenario.py",
    "tests/download/test_download.py",
    "tests/hooks/test_data_frames.py",
    "tests/hooks/test_large_frames.py",
    "tests/load/test_duckdb.py",
    "tests/load/test_loaders.py",
    "tests/results/test_row_slices.py",
    "tests/results/test_workbook.py",
    "tests/storage",
    "tests/transfers/test_table_formats.py",
    "tests/triggers/test_jobs.py",
)


@dataclass(frozen=True)
class Entry:
    """One cell of the matrix.

    :param name: what to call it.
    :param airflow: the requirement of Airflow.
    :param pythons: Python versions, the first one found is taken.
    :param before: install nothing that was released later (a date), or ``None`` for today's packages.
    :param tests: which tests to run.
    :param groups: which groups of pyproject.toml to install.
    :param lowest: install the oldest release that setup.cfg allows of everything that it names, with every extra.
    :param beside: releases of what others bring, to install with it.
    """

    name: str
    airflow: str
    pythons: tuple[str, ...]
    before: str | None
    tests: tuple[str, ...]
    groups: tuple[str, ...] = ("test",)
    lowest: bool = False
    beside: tuple[str, ...] = ()


MATRIX = (
    Entry("2.11", "apache-airflow==2.11.2", ("3.10", "3.11", "3.12"), None, WHOLE),
    Entry(
        "lowest",
        "apache-airflow",
        ("3.10", "3.11", "3.12"),
        None,
        FLOORS,
        ("test-core",),
        lowest=True,
        # under Airflow's ObjectStoragePath; 2.11 takes this one
        beside=("universal-pathlib==0.2.2",),
    ),
    Entry("3.0", "apache-airflow==3.0.6", ("3.11", "3.12", "3.10"), "2025-09-05", LIFE_CYCLE),
    Entry("3.1", "apache-airflow==3.1.8", ("3.12", "3.11", "3.10"), "2026-06-01", ESSENTIALS),
    Entry("3.2", "apache-airflow==3.2.2", ("3.12", "3.13", "3.11", "3.10"), "2026-06-15", ESSENTIALS),
    Entry("3.3-py313", "apache-airflow>=3.3,<3.4", ("3.13", "3.12"), None, ESSENTIALS, ("test", "recipes")),
)


def main(names: list[str]) -> int:
    """Run the named cells, or all; return 0 if every one passed."""
    unknown = set(names) - {entry.name for entry in MATRIX}
    if unknown:
        print(f"No such cell: {', '.join(sorted(unknown))}. There are {', '.join(entry.name for entry in MATRIX)}.")
        return 2
    wanted = [entry for entry in MATRIX if not names or entry.name in names]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        longest_first = sorted(wanted, key=lambda entry: -_WORKERS.get(entry.tests, 0))
        going = {entry: pool.submit(_run, entry) for entry in longest_first}
    results = [_alone(going[entry].result()) for entry in wanted]
    for result in results:
        print(f"\n== {result.entry.name}: {result.entry.airflow} on Python {result.python}\n{result.output}")
    print("\n== matrix")
    for result in results:
        verdict = ("passed, but UNSTABLE" if result.unstable else "passed") if result.passed else "FAILED"
        entry = result.entry
        print(f"{entry.name:10} {entry.airflow:28} Python {result.python:6} {result.seconds:5.0f} s  {verdict}")
    for result in results:
        _say_what_failed(result)
    return 0 if all(result.passed for result in results) else 1


def _say_what_failed(result: Result) -> None:
    """Print the names once more at the very end: a long log is often kept by its last lines only."""
    if result.unstable:
        print(f"\n== {result.entry.name} passed these alone only; find out why", *result.unstable, sep="\n")
    if not result.passed:
        failed = [line for line in result.output.splitlines() if line.startswith(_FAILED)]
        print(f"\n== {result.entry.name} failed in", *(failed[:20] or result.output.splitlines()[-20:]), sep="\n")


@dataclass(frozen=True)
class Result:
    """How a cell ended.

    :param entry: the cell.
    :param python: the version of Python it ran on.
    :param passed: whether every test passed.
    :param seconds: how long it took.
    :param output: what pytest said, or its last words if it passed.
    :param unstable: the tests that failed beside the other cells, and passed when they were repeated alone.
    """

    entry: Entry
    python: str
    passed: bool
    seconds: float
    output: str
    unstable: tuple[str, ...] = ()


def _alone(result: Result) -> Result:
    """Repeat a few tests that failed, on a machine that is quiet now: a wrong code fails again.

    Several cells on two cores are more than a test's patience is made for. What passes here is told at the end, as it
    may be a race that is real.
    """
    lines = [line for line in result.output.splitlines() if line.startswith(_FAILED)]
    names = tuple(dict.fromkeys(line.partition(" ")[2].partition(" - ")[0] for line in lines))
    if result.passed or not 0 < len(names) <= MOST_REPEATED:
        return result
    venv = VENVS / f"{result.entry.name}-py{result.python}"
    done = _pytest(venv, *names)
    print(f"{result.entry.name}: {len(names)} tests repeated alone, exit code {done.returncode}", flush=True)
    if done.returncode:
        return replace(result, output=result.output + "\n== repeated alone\n" + done.stdout[-10_000:])
    return replace(result, passed=True, unstable=names)


def _pytest(venv: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(venv / "bin" / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=HERE, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _run(entry: Entry) -> Result:
    started = time.monotonic()
    version, python = find_python(entry.pythons)
    venv = VENVS / f"{entry.name}-py{version}"
    _install(entry, venv, python)
    workers = _WORKERS.get(entry.tests, 0)
    side_by_side = ["-n", str(workers), "--dist", "loadfile", "--no-loadscope-reorder"] if workers else []
    but = [f"--ignore={path}" for path in _there(ONCE)]
    done = _pytest(venv, *_there(entry.tests), *but, *side_by_side, "-m", "not reliability")
    output = done.stdout[-20_000:] if done.returncode else "\n".join(done.stdout.splitlines()[-1:])
    print(f"{entry.name} {'passed' if done.returncode == 0 else 'FAILED'}", flush=True)
    return Result(entry, version, done.returncode == 0, time.monotonic() - started, output)


def _there(tests: tuple[str, ...]) -> list[str]:
    missing = [path for path in tests if not (HERE / path).exists()]
    if missing:
        raise SystemExit(f"The matrix names tests that are not there: {', '.join(missing)}")
    return list(tests)


def python_of(name: str) -> Path:
    """Return the Python of a cell's environment, which is made if it is not there.

    :param name: the cell.
    """
    entry = next(entry for entry in MATRIX if entry.name == name)
    version, python = find_python(entry.pythons)
    venv = VENVS / f"{entry.name}-py{version}"
    _install(entry, venv, python)
    return venv / "bin" / "python"


def _install(entry: Entry, venv: Path, python: str) -> None:
    stamp = venv / ".installed"
    wanted = f"{entry}\n{(HERE / 'setup.cfg').read_text()}\n{(HERE / 'pyproject.toml').read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(venv, ignore_errors=True)
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", python, str(venv)], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python")]
    groups = [word for group in entry.groups for word in ("--group", f"{HERE / 'pyproject.toml'}:{group}")]
    if entry.lowest:
        listed = venv / "floors.txt"
        listed.write_text("\n".join(floors()))
        ours = ["--constraint", str(listed), "-e", f"{HERE}[{','.join(extras())}]", *entry.beside]
        subprocess.run([*install, *ours, *groups], check=True)
    else:
        then = ["--exclude-newer", entry.before] if entry.before else []
        subprocess.run([*install, *then, entry.airflow], check=True)
        # In a second step and without the date, as a user adds a new provider to an old Airflow; what is there stays.
        subprocess.run([*install, entry.airflow, "-e", f"{HERE}[{EXTRAS}]", *groups], check=True)
    stamp.write_text(wanted)


def _settings() -> configparser.ConfigParser:
    settings = configparser.ConfigParser()
    settings.read(HERE / "setup.cfg")
    return settings


def extras() -> list[str]:
    """Return the names of our extras."""
    return list(_settings()["options.extras_require"])


def dependencies() -> list[str]:
    """Return what setup.cfg names, with and without extras."""
    settings = _settings()
    lines = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
    return [line for line in "\n".join(lines).splitlines() if line]


def floors() -> list[str]:
    """Return the lowest release that setup.cfg allows of each package that it names, as a requirement of just that."""
    found = [re.match(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", line) for line in dependencies()]
    return [f"{each[1]}=={each[2]}" for each in found if each]


def find_python(versions: tuple[str, ...]) -> tuple[str, str]:
    """Return the first of these Python versions that really runs here, and its path."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for version in versions:
        candidates = [shutil.which(f"python{version}") or "", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python")))]
        if sys.version_info[:2] == tuple(map(int, version.split("."))):
            candidates.append(sys.executable)
        for path in filter(None, candidates):
            # A pyenv shim may be on the path and not work.
            command = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
            probe = subprocess.run(command, capture_output=True, text=True, check=False)
            if probe.stdout.strip() == version:
                return version, path
    raise SystemExit(f"None of Python {', '.join(versions)} is on this machine")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
