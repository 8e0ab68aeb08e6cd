"""The file of an export, 1 GiB of it, onto the disk: ``python -m benchmarks.download [--mib 1024] [--rounds 3]``.

The fake PostHog of :mod:`benchmarks.server` sends it from memory: by TLS at the speed of a network, by TLS as fast as
it can, and without TLS. This provider
streams it by :func:`airflow_provider_posthog.download.http.download` into a
:class:`~airflow_provider_posthog.storage.atomic_file.AtomicFile`: resumable, counted, with a SHA-256, under its name
only when it is whole. Beside it: bytes from the socket to a file with nothing between (the limit), the same with a
SHA-256 (the least that a checksum costs), the raw stream of requests to a file (what a client by requests can do at
best), and ``requests.get(...).content``, which holds the file in memory. Writes a section of ``docs/benchmarks.md``.
Ends with 1 if bytes are missing.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import ROOT, Cost, python

_TEXT = """## The file of an export

`python -m benchmarks.download`. {mib:,} MiB from a server on this machine onto its disk; medians of {rounds} rounds
that alternate. *time* is what the download took, without imports; *memory* is what the process held at the most
meanwhile, and above what it held before. PostHog is reached by TLS over a network: the first part, at {pace} MiB/s.
Without that limit server, download and checksum take each other's time on this machine's two cores; that is what the
code itself costs. This provider also reckons a SHA-256 of every byte, in a thread beside the download, and gives the
file its name only when it is whole. A SHA-256 takes half a second for each GiB here, longer than the
socket without TLS. So the target of speed is for the first part.

{table}

### Against our own targets

*speed* is the median of the ratios of each round. With a SHA-256 the raw socket itself is at {checked}.

{verdict}
"""
WAYS = {
    "ours": "this provider",
    "socket": "the raw socket into a file (the limit)",
    "checked": "the raw socket into a file, and a SHA-256",
    "stream": "`copyfileobj` of requests' raw stream",
    "content": "`requests.get(...).content`",
}
#: 2.5 Gbit/s, which is more than one connection brings from an object storage.
PACE = 300


@dataclass(frozen=True)
class Link:
    """What is between PostHog and here.

    :param name: what to call it.
    :param tls: whether it is encrypted.
    :param pace: how many MiB it brings in a second; 0 for what the machine can.
    """

    name: str
    tls: bool
    pace: int = 0


LINKS = (Link(f"TLS, {PACE} MiB/s", tls=True, pace=PACE), Link("TLS", tls=True), Link("no TLS", tls=False))
Found = dict[str, list[dict[str, float]]]


@contextmanager
def serving(pem: Path | None, pace: int) -> Iterator[str]:
    """Start the fake PostHog, and stop it at the end.

    :param pem: its key and certificate, for TLS.
    :param pace: how many MiB it sends in a second; 0 for all it can.
    """
    tls = ["--tls", pem] if pem else []
    command = python("benchmarks.server", "--events", 10, "--mib-per-second", pace, *tls)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield json.loads(process.stdout.readline() if process.stdout else "")["url"]
        finally:
            if process.stdin:
                process.stdin.close()


def certificate(pem: Path) -> None:
    """Write a key and a certificate for 127.0.0.1.

    :param pem: where to.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))


def run_all(mib: int, rounds: int, room: Path, link: Link) -> Found:
    """Download by all ways.

    :param mib: the file's size.
    :param rounds: how often each.
    :param room: a folder for the file.
    :param link: what is between.
    """
    found: Found = {way: [] for way in WAYS}
    pem = room / "server.pem" if link.tls else None
    if pem:
        certificate(pem)
    with serving(pem, link.pace) as url:
        for number in range(rounds):
            print(f"Round {number + 1} of {rounds}, {link.name}", flush=True)
            for way, name in WAYS.items():
                path = room / "export.csv"
                command = python("benchmarks.clients.one_file", way, url, mib, path, *([pem] if pem else []))
                told = json.loads(measure.run(command, room / "log.txt").output)
                size = path.stat().st_size if path.exists() else 0
                path.unlink(missing_ok=True)
                above = told["memory"] - told["base"]
                found[way].append({**told, "above": above, "missing": mib * 1024 * 1024 - size})
                speed = f"{told['seconds']:6.2f} s  {mib / told['seconds']:7.0f} MiB/s  {told['cpu']:6.2f} CPU s"
                print(f"  {name:42} {speed}  {told['memory']:6.0f} MiB, {above:.0f} above the base", flush=True)
    return found


def ratio(found: Found, way: str, limit: str = "socket") -> float:
    """Return how fast a way is against another: the median of the rounds.

    :param found: what :func:`run_all` brought.
    :param way: the way.
    :param limit: the other; if not said, the raw socket.
    """
    rounds = zip(found[limit], found[way], strict=True)
    return statistics.median(other["seconds"] / run["seconds"] for other, run in rounds)


def rows_of(found: Found, mib: int, link: Link) -> list[list[str]]:
    """Return rows of the table.

    :param found: what :func:`run_all` brought.
    :param mib: the file's size.
    :param link: what was between.
    """
    rows = []
    for way, name in WAYS.items():
        cost = measure.median([Cost(run["cpu"], run["seconds"], run["memory"]) for run in found[way]])
        above = statistics.median(run["above"] for run in found[way])
        figures = [f"{cost.wall:.2f}", f"{mib / cost.wall:.0f}", f"{cost.cpu:.2f}", f"{cost.memory:.0f}"]
        rows.append([f"{link.name}: {name}", *figures, f"{above:.0f}"])
    return rows


def targets_of(found: Found, link: Link) -> list[list[str]]:
    """Return what became of our targets.

    :param found: what :func:`run_all` brought.
    :param link: what was between.
    """
    socket, stream = (ratio(found, "ours", limit) for limit in ("socket", "stream"))
    above = statistics.median(run["above"] for run in found["ours"])
    cpu = [statistics.median(run["cpu"] for run in found[way]) for way in ("ours", "socket", "checked")]
    return [
        [f"{link.name}: speed of the raw socket", *_goal(socket, link)],
        [f"{link.name}: speed of requests' raw stream", *_goal(stream, link)],
        [f"{link.name}: memory above the base", "< 64 MiB", f"{above:.0f} MiB", _met(above < 64)],
        [f"{link.name}: CPU of the raw socket", "", f"{cpu[0] / cpu[1]:.2f} x", ""],
        [f"{link.name}: CPU of the raw socket with a SHA-256", "", f"{cpu[0] / cpu[2]:.2f} x", ""],
    ]


def _goal(speed: float, link: Link) -> list[str]:
    # Without a network between, a SHA-256 alone takes longer than the socket: no goal can be met then.
    return ["at least 0.85 x", f"{speed:.2f} x", _met(speed >= 0.85)] if link.pace else ["", f"{speed:.2f} x", ""]


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
    mib, rounds = arguments.mib, arguments.rounds
    with tempfile.TemporaryDirectory(prefix="posthog_bench_") as room:
        found = {link: run_all(mib, rounds, Path(room), link) for link in LINKS}
    rows = [row for link, runs in found.items() for row in rows_of(runs, mib, link)]
    table = measure.table(["", "time, s", "MiB/s", "CPU, s", "memory, MiB", "above the base, MiB"], rows)
    targets = [row for link, runs in found.items() for row in targets_of(runs, link)]
    verdict = measure.table(["", "target", "measured", ""], targets)
    checked = ", ".join(f"{ratio(runs, 'checked'):.2f} x ({link.name})" for link, runs in found.items())
    print(f"\n{table}\n\n{verdict}")
    if arguments.docs:
        measure.keep("download", {link.name: runs for link, runs in found.items()})
        texts = {"table": table, "verdict": verdict, "checked": checked, "pace": PACE}
        measure.write_section("download", _TEXT.format(mib=mib, rounds=rounds, **texts))
    missing = any(run["missing"] for runs in found.values() for way in runs.values() for run in way)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
