"""The file of an export, 1 GiB of it, onto the disk: ``python -m benchmarks.download [--mib 1024] [--rounds 3]``.

The fake PostHog of :mod:`benchmarks.server` sends it from memory. This provider streams it by
:func:`airflow_provider_posthog.extract.download.download` into a
:class:`~airflow_provider_posthog.extract.landing.Landing`: resumable, counted, with a SHA-256, under its name only when
it is whole. Beside it: bytes from the socket to a file with nothing between (the limit), and
``requests.get(...).content``, which holds the file in memory.
Writes a section of ``docs/benchmarks.md``. Ends with 1 if bytes are missing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from benchmarks.extract import serving
from benchmarks.measure import Cost, python

_TEXT = """## The file of an export

`python -m benchmarks.download`. {mib:,} MiB from a server on this machine onto its disk; medians of {rounds} rounds
that alternate. *time* is what the download took, without imports; *memory* is what the process held at the most
meanwhile, and above what it held before. This provider also reckons a SHA-256,
and gives the file its name only when it is whole.

{table}

### Against our own targets

{verdict}
"""
WAYS = {
    "ours": "this provider",
    "socket": "the raw socket into a file (the limit)",
    "content": "`requests.get(...).content`",
}


def run_all(mib: int, rounds: int, room: Path) -> dict[str, list[dict[str, float]]]:
    """Download by all ways.

    :param mib: the file's size.
    :param rounds: how often each.
    :param room: a folder for the file.
    """
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with serving(10) as server:
        for number in range(rounds):
            print(f"Round {number + 1} of {rounds}", flush=True)
            for way, name in WAYS.items():
                path = room / "export.csv"
                cost = measure.run(python("benchmarks.clients.one_file", way, server.url, mib, path), room / "log.txt")
                told = json.loads(cost.output)
                size = path.stat().st_size if path.exists() else 0
                path.unlink(missing_ok=True)
                above = told["memory"] - told["base"]
                found[way].append({**told, "above": above, "missing": mib * 1024 * 1024 - size})
                speed = f"{told['seconds']:6.2f} s  {mib / told['seconds']:7.0f} MiB/s  {told['cpu']:6.2f} CPU s"
                print(f"  {name:40} {speed}  {told['memory']:6.0f} MiB, {above:.0f} above the base", flush=True)
    return found


def report(found: dict[str, list[dict[str, float]]], mib: int) -> tuple[str, str]:
    """Return the table and the targets.

    :param found: what :func:`run_all` brought.
    :param mib: the file's size.
    """
    middle = {
        way: measure.median([Cost(run["cpu"], run["seconds"], run["memory"]) for run in runs])
        for way, runs in found.items()
    }
    above = {way: measure.median([Cost(0, 0, run["above"]) for run in runs]).memory for way, runs in found.items()}
    rows = []
    for way, name in WAYS.items():
        cost = middle[way]
        figures = [f"{cost.wall:.2f}", f"{mib / cost.wall:.0f}", f"{cost.cpu:.2f}", f"{cost.memory:.0f}"]
        rows.append([name, *figures, f"{above[way]:.0f}"])
    speed = middle["socket"].wall / middle["ours"].wall
    targets = [
        ["speed of the raw socket", "at least 0.85 x", f"{speed:.2f} x", _met(speed >= 0.85)],
        ["memory above the base", "< 64 MiB", f"{above['ours']:.0f} MiB", _met(above["ours"] < 64)],
        ["CPU of the raw socket", "", f"{middle['ours'].cpu / middle['socket'].cpu:.2f} x", ""],
    ]
    table = measure.table(["", "time, s", "MiB/s", "CPU, s", "memory, MiB", "above the base, MiB"], rows)
    return table, measure.table(["", "target", "measured", ""], targets)


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page.

    :param given: arguments in place of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True, help="write docs/benchmarks.md")
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="posthog_bench_") as room:
        found = run_all(arguments.mib, arguments.rounds, Path(room))
    table, verdict = report(found, arguments.mib)
    print(f"\n{table}\n\n{verdict}")
    if arguments.docs:
        measure.keep("download", found)
        text = _TEXT.format(mib=arguments.mib, rounds=arguments.rounds, table=table, verdict=verdict)
        measure.write_section("download", text)
    return 0 if not any(run["missing"] for runs in found.values() for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
