"""Persons who have not changed, merged: ``python -m benchmarks.merge [--persons 1000000] [--rounds 3]``.

A fake PostHog has so many persons, and a PostgreSQL of our own (a wheel, with its own defaults) the same. They are
read, with all proofs, and let go; and they are read and merged by the task itself. Both once as fast as the fake
answers, and once at PostHog's pace. Writes a section of ``docs/benchmarks.md``. Ends with 1 if a row was touched.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from benchmarks import measure
from benchmarks.extract import Server, serving
from benchmarks.load_sql import Postgres
from benchmarks.measure import python

_TEXT = """## {persons} persons merged who have not changed

`python -m benchmarks.merge`. A server on this machine has {persons} persons of 0.6 KB, and a PostgreSQL with its
default settings has them, too. *Reading* is everything before a load, with its counts and checks. *Merging* is the task
itself, reading included. *As fast as it answers*: from memory, on the same two cores. *At PostHog's pace*: 50 ms for
each query and 60 \u00b5s for each row, three queries at once. Medians of {rounds} rounds.

{table}

Rows of the table that were written or locked: {touched}.
"""
#: By name: what the server waits.
PACES = {"as fast as it answers": "", "at PostHog's pace": "latency_ms=50&row_us=60"}


def _run(way: str, server: Server, postgres: Postgres, room: Path) -> dict[str, float]:
    cost = measure.run(python("benchmarks.clients.persons_merged", way, server.url, postgres.socket), room / "log.txt")
    found: dict[str, float] = json.loads(cost.output)
    return {**found, "memory": cost.memory}


def touched(postgres: Postgres, made_by: int) -> int:
    """Return how many rows another transaction than the first one has written or locked.

    :param postgres: the database.
    :param made_by: the first one.
    """
    return _ask(postgres, f"SELECT count(*) FROM persons WHERE xmin::text::bigint <> {made_by} OR xmax <> 0")


def _ask(postgres: Postgres, sql: str) -> int:
    psycopg2 = importlib.import_module("psycopg2")
    with closing(psycopg2.connect(host=postgres.socket, user="postgres", dbname="postgres")) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(sql)
        return int(cursor.fetchone()[0]) if cursor.description else 0


def measured(persons: int, rounds: int, room: Path) -> tuple[list[list[str]], int]:
    """Return the rows of the table, and how many rows of persons were touched.

    :param persons: how many persons.
    :param rounds: how often.
    :param room: a folder.
    :raises RunFailed: if a merge took a person for another one than before.
    """
    postgres = Postgres(room / "postgres")
    table = []
    try:
        with serving(0, persons=persons) as server:
            first = _run("load", server, postgres, room)
            _check(first, {"rows": persons, "inserted": persons})
            _ask(postgres, "VACUUM ANALYZE persons")
            made_by = _ask(postgres, "SELECT max(xmin::text::bigint) FROM persons")
            for name, pace in PACES.items():
                reads, merges = [], []
                for _ in range(rounds):
                    server.get(f"/__reset?{pace}")
                    reads.append(_run("read", server, postgres, room))
                    _check(reads[-1], {"rows": persons})
                    merges.append(_run("merge", server, postgres, room))
                    _check(merges[-1], {"rows": persons, "unchanged": persons, "inserted": 0, "changed": 0, "gone": 0})
                    print(f"  {name}: {reads[-1]['seconds']:.2f} s, {merges[-1]['seconds']:.2f} s", flush=True)
                read, merge = (statistics.median(one["seconds"] for one in some) for some in (reads, merges))
                memory = max(one["memory"] for one in merges)
                table.append([name, f"{read:.1f}", f"{merge:.1f}", f"{merge / read:.2f}", f"{memory:.0f}"])
            return table, touched(postgres, made_by)
    finally:
        postgres.close()


def _check(found: dict[str, float], expected: dict[str, int]) -> None:
    if {name: found[name] for name in expected} != expected:
        raise measure.RunFailed(f"{found} is not {expected}")


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page.

    :param given: arguments in place of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True, help="write docs/benchmarks.md")
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="posthog_bench_") as room:
        rows, number = measured(arguments.persons, arguments.rounds, Path(room))
    table = measure.table(["", "reading, s", "merging, s", "x reading", "peak MiB"], rows)
    print(f"\n{table}\n\ntouched: {number}")
    if arguments.docs:
        facts = {"persons": f"{arguments.persons:,}", "rounds": arguments.rounds, "touched": number}
        measure.write_section("merge", _TEXT.format(table=table, **facts))
    return 1 if number else 0


if __name__ == "__main__":
    sys.exit(main())
