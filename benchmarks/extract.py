"""Every event into Parquet, against what people use instead: ``python -m benchmarks.extract``.

A fake PostHog in a process of its own (:mod:`benchmarks.server`); each client is a process, too, whose CPU seconds,
wall time and peak memory are measured with those of all its children. Rounds alternate, so that what else the machine
does hits all alike; CPU seconds and ratios are what to look at. The peers are installed into ``.peers`` on first use
(``--no-peers`` leaves them out); a peer that cannot be had is named. Writes the section and the chart of
``docs/benchmarks.md``. The whole takes about half an hour, ``--no-peers`` three minutes, ``--quick`` ten seconds.
Ends with 1 if this provider lost an event.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from benchmarks import measure, peers
from benchmarks.measure import ROOT, Cost, RunFailed, python
from benchmarks.peers import AIRBYTE, DLT, PANDAS, Peer

CLIENTS = ROOT / "benchmarks" / "clients"
#: What PostHog gave out as a page of ``events/`` until May 2026; with today's 1,000 Airbyte's connector loses the rest.
OLD_CAP = "events_cap=10000"


@dataclass(frozen=True)
class Client:
    """Somebody who reads all events.

    :param name: as it stands in the tables.
    :param command: makes the command, of the server's address and a folder for the files.
    :param kind: ``ours``, ``limit`` or ``peer``.
    :param peer: its environment.
    :param settings: of the server.
    :param output: the file that gets what it prints.
    """

    name: str
    command: Callable[[str, Path], list[str]]
    kind: str = "peer"
    peer: Peer | None = None
    settings: str = ""
    output: str | None = None


@dataclass(frozen=True)
class Situation:
    """A server to read from.

    :param events: how many it has.
    :param latency: milliseconds added to each answer.
    """

    events: int
    latency: int = 0

    def __str__(self) -> str:
        return f"{self.events:,} events" + (f", {self.latency} ms latency" if self.latency else "")


@dataclass(frozen=True)
class Run:
    """One reading.

    :param situation: where.
    :param client: who, and of which kind.
    :param cost: what it took; ``None`` if it failed.
    :param requests: how many it sent.
    :param in_flight: how many of them at once.
    :param server_cpu: seconds of CPU that the server took.
    :param rows: rows in its files.
    :param distinct: different events among them.
    """

    situation: Situation
    client: str
    kind: str
    cost: Cost | None
    requests: int = 0
    in_flight: int = 0
    server_cpu: float = 0.0
    rows: int = 0
    distinct: int = 0


def ours(in_flight: int) -> Client:
    """Return this provider.

    :param in_flight: how many windows it reads side by side.
    """
    return Client(
        f"this provider, {in_flight} in flight",
        lambda url, folder: python("benchmarks.clients.ours", url, folder, in_flight),
        "ours",
    )


def _script(name: str, peer: Peer, script: str, *arguments: str) -> Client:
    program = str(peer.bin / "python")
    return Client(name, lambda url, folder: [program, str(CLIENTS / script), url, str(folder), *arguments], peer=peer)


def _airbyte(url: str, folder: Path) -> list[str]:
    config = {"api_key": "phx_bench", "start_date": "2025-12-31T00:00:00Z", "base_url": url, "events_time_step": 30}
    modes = {"json_schema": {"type": "object"}, "supported_sync_modes": ["full_refresh", "incremental"]}
    stream = {"stream": {"name": "events", **modes}, "sync_mode": "incremental", "destination_sync_mode": "append"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "catalog.json").write_text(json.dumps({"streams": [stream]}), encoding="utf-8")
    paths = ["--config", str(folder / "config.json"), "--catalog", str(folder / "catalog.json")]
    return [str(AIRBYTE.bin / "source-posthog"), "read", *paths]


TIGHT = Client(
    "the limit: pages into Parquet, nothing else",
    lambda url, folder: [sys.executable, str(CLIENTS / "tight.py"), url, str(folder)],
    "limit",
)
#: The loop as one writes it; the limit knows what pyarrow does with pandas.
PLAIN = Client(
    "the same loop, with pandas",
    lambda url, folder: [sys.executable, str(CLIENTS / "tight.py"), url, str(folder), "plain"],
    "limit",
)
OURS = (ours(3), ours(1))
PEERS = (
    _script("pandas, HogQL", PANDAS, "naive.py", "hogql"),
    _script("pandas, GET events/", PANDAS, "naive.py", "rest"),
    _script("dlt, HogQL by keyset", DLT, "with_dlt.py", "hogql"),
    _script("dlt rest_api", DLT, "with_dlt.py", "rest"),
    Client("Airbyte, PostHog's old pages", _airbyte, peer=AIRBYTE, settings=OLD_CAP, output="out.jsonl"),
    Client("Airbyte, PostHog of today", _airbyte, peer=AIRBYTE, output="out.jsonl"),
)
FULL = (Situation(200_000), Situation(600_000), Situation(200_000, 300), Situation(600_000, 300))
QUICK = (Situation(12_000),)


class Server:
    """The fake PostHog, as its clients' driver sees it.

    :param url: its address.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str) -> dict[str, Any]:
        """Ask it about itself.

        :param path: such as ``/__stats``.
        """
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return cast("dict[str, Any]", json.load(answer))


@contextmanager
def serving(events: int, *, persons: int = 0) -> Iterator[Server]:
    """Start the fake PostHog, and stop it at the end.

    :param events: how many it has.
    :param persons: how many persons it has in their place.
    """
    command = python("benchmarks.server", "--events", events, "--persons", persons)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise RunFailed("the fake PostHog did not start")
            yield Server(json.loads(line)["url"])
        finally:
            if process.stdin:
                process.stdin.close()


def read(server: Server, client: Client, situation: Situation, room: Path) -> Run:
    """Let a client read everything.

    :param server: from where.
    :param client: who.
    :param situation: what the server has.
    :param room: a folder for the files; they are removed.
    """
    folder = room / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    server.get(f"/__reset?latency_ms={situation.latency}&{client.settings}")
    output = folder / client.output if client.output else None
    try:
        cost = measure.run(client.command(server.url, folder), room / "log.txt", output)
    except RunFailed as error:
        print(f"  {client.name} failed: {error}", file=sys.stderr)
        return Run(situation, client.name, client.kind, None)
    stats = server.get("/__stats")
    found = json.loads(subprocess.check_output(python("benchmarks.clients.landed", folder), cwd=ROOT))
    requests, in_flight = int(stats["requests"]), int(stats["in_flight"])
    return Run(situation, client.name, client.kind, cost, requests, in_flight, stats["cpu"], **found)


def show(run: Run) -> None:
    """Print a run.

    :param run: the run.
    """
    if run.cost is None:
        return
    print(
        f"  {run.client:45} {run.cost.cpu:8.2f} CPU s {run.cost.wall:8.2f} s {run.cost.memory:7.0f} MiB "
        f"{run.requests:5} requests  {run.distinct:,} of {run.situation.events:,} events landed",
        flush=True,
    )


def run_all(situations: Sequence[Situation], clients: Sequence[Client], rounds: int, room: Path) -> list[Run]:
    """Let all clients read in all situations; the peers only once where that takes long.

    :param situations: where.
    :param clients: who.
    :param rounds: how often each, one after another.
    :param room: a folder for files.
    """
    runs: list[Run] = []
    for events in dict.fromkeys(situation.events for situation in situations):
        print(f"A fake PostHog with {events:,} events ...", flush=True)
        with serving(events) as server:
            if situations is FULL:
                read(server, ours(1), Situation(events), room)  # compiles modules, fills the disk's cache
            for situation in (each for each in situations if each.events == events):
                for number in range(rounds):
                    print(f"{situation}, round {number + 1} of {rounds}", flush=True)
                    for client in clients:
                        if client.kind != "peer" or _takes_part(situation, situations, number):
                            runs.append(read(server, client, situation, room))
                            show(runs[-1])
        if situations is FULL:
            measure.keep("extract", kept(runs))  # what was measured is not lost if the rest fails
    return runs


def kept(runs: Sequence[Run], missing: Sequence[str] = (), versions: Sequence[str] = ()) -> dict[str, Any]:
    """Return runs as JSON.

    :param runs: the runs.
    :param missing: which peers are not there.
    :param versions: of the peers.
    """
    return {"runs": [asdict(run) for run in runs], "missing": list(missing), "versions": list(versions)}


def _takes_part(situation: Situation, situations: Sequence[Situation], number: int) -> bool:
    """Tell whether peers run: always in the first situation, once in the others, not in the last and longest one."""
    return situation == situations[0] or (number == 0 and situation != situations[-1])


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and write the page.

    :param given: arguments in place of the command line's.
    """
    from benchmarks.extract_report import Report, loaded

    arguments = _arguments(given)
    if arguments.render:
        Report(*loaded()).write()
        return 0
    clients, missing = [TIGHT, PLAIN, *OURS], []
    if arguments.peers:
        for peer in peers.PEERS:
            print(f"Looking for {peer.shown} ...", flush=True)
            if why := peers.install(peer):
                missing.append(f"{peer.shown} could not be installed: {why}")
                print(f"  not there: {why}", file=sys.stderr)
        clients += [client for client in PEERS if client.peer and client.peer.is_there]
    with tempfile.TemporaryDirectory(prefix="posthog_bench_") as room:
        runs = run_all(QUICK if arguments.quick else FULL, clients, arguments.rounds, Path(room))
    report = Report(runs, missing, [peer.version() for peer in peers.PEERS] if arguments.peers else [])
    print(report.summary())
    if arguments.quick:
        return 0 if report.complete else 1
    print(report.verdict())
    if arguments.docs:
        measure.keep("extract", kept(runs, missing, report.versions))
        report.write()
    return 0 if report.complete else 1


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few events, no peers, no page: whether it works at all")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--rounds", type=int, default=None, help="default 3, with --quick 1")
    parser.add_argument("--docs", action=argparse.BooleanOptionalAction, default=True, help="write docs/benchmarks.md")
    parser.add_argument("--render", action="store_true", help="write the page from the last figures")
    arguments = parser.parse_args(given)
    arguments.rounds = arguments.rounds or (1 if arguments.quick else 3)
    arguments.peers = not arguments.quick if arguments.peers is None else arguments.peers
    return arguments


if __name__ == "__main__":
    sys.exit(main())
