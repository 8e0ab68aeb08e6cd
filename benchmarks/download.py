"""The file of an export, 1 GiB of it, onto the disk: ``python -m benchmarks.download [--mib 1024] [--rounds 3]``.

The fake PostHog of :mod:`benchmarks.server` sends it from memory, by TLS as PostHog does and without. This provider
streams it by :func:`airflow_provider_posthog.extract.download.download` into a
:class:`~airflow_provider_posthog.extract.landing.Landing`: resumable, counted, with a SHA-256, under its name only when
it is whole. Beside it: bytes from the socket to a file with nothing between (the limit), the same with a SHA-256 (the
least that a checksum costs), and ``requests.get(...).content``, which holds the file in memory.
Writes a section of ``docs/benchmarks.md``. Ends with 1 if bytes are missing.
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
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import ROOT, Cost, python

_TEXT = """## The file of an export

`python -m benchmarks.download`. {mib:,} MiB from a server on this machine onto its disk; medians of {rounds} rounds
that alternate. *time* is what the download took, without imports; *memory* is what the process held at the most
meanwhile, and above what it held before. PostHog is reached by TLS; without it is what the code itself costs. This
provider also reckons a SHA-256 of every byte, in a thread beside the download, and gives the file its name only when
it is whole. Server, download and checksum share this machine's cores: over a network, the network is the limit.

{table}

### Against our own targets

*speed* is the median of the ratios of each round. With a SHA-256 the raw socket itself is at {checked_tls} (TLS) and
{checked} (without).

{verdict}
"""
WAYS = {
    "ours": "this provider",
    "socket": "the raw socket into a file (the limit)",
    "checked": "the raw socket into a file, and a SHA-256",
    "content": "`requests.get(...).content`",
}
_TLS = {True: "TLS", False: "no TLS"}
Found = dict[str, list[dict[str, float]]]


@contextmanager
def serving(pem: Path | None) -> Iterator[str]:
    """Start the fake PostHog, and stop it at the end.

    :param pem: its key and certificate, for TLS.
    """
    command = python("benchmarks.server", "--events", 10, *(["--tls", pem] if pem else []))
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


def run_all(mib: int, rounds: int, room: Path, *, tls: bool) -> Found:
    """Download by all ways.

    :param mib: the file's size.
    :param rounds: how often each.
    :param room: a folder for the file.
    :param tls: whether the server speaks TLS.
    """
    found: Found = {way: [] for way in WAYS}
    pem = room / "server.pem" if tls else None
    if pem:
        certificate(pem)
    with serving(pem) as url:
        for number in range(rounds):
            print(f"Round {number + 1} of {rounds}, {_TLS[tls]}", flush=True)
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


def ratio(found: Found, way: str) -> float:
    """Return how fast a way is against the raw socket: the median of the rounds.

    :param found: what :func:`run_all` brought.
    :param way: the way.
    """
    rounds = zip(found["socket"], found[way], strict=True)
    return statistics.median(limit["seconds"] / run["seconds"] for limit, run in rounds)


def rows_of(found: Found, mib: int, *, tls: bool) -> list[list[str]]:
    """Return rows of the table.

    :param found: what :func:`run_all` brought.
    :param mib: the file's size.
    :param tls: whether the server spoke TLS.
    """
    rows = []
    for way, name in WAYS.items():
        cost = measure.median([Cost(run["cpu"], run["seconds"], run["memory"]) for run in found[way]])
        above = statistics.median(run["above"] for run in found[way])
        figures = [f"{cost.wall:.2f}", f"{mib / cost.wall:.0f}", f"{cost.cpu:.2f}", f"{cost.memory:.0f}"]
        rows.append([f"{_TLS[tls]}: {name}", *figures, f"{above:.0f}"])
    return rows


def targets_of(found: Found, *, tls: bool) -> list[list[str]]:
    """Return what became of our targets.

    :param found: what :func:`run_all` brought.
    :param tls: whether the server spoke TLS.
    """
    speed, above = ratio(found, "ours"), statistics.median(run["above"] for run in found["ours"])
    cpu = [statistics.median(run["cpu"] for run in found[way]) for way in ("ours", "socket", "checked")]
    return [
        [f"{_TLS[tls]}: speed of the raw socket", "at least 0.85 x", f"{speed:.2f} x", _met(speed >= 0.85)],
        [f"{_TLS[tls]}: memory above the base", "< 64 MiB", f"{above:.0f} MiB", _met(above < 64)],
        [f"{_TLS[tls]}: CPU of the raw socket", "", f"{cpu[0] / cpu[1]:.2f} x", ""],
        [f"{_TLS[tls]}: CPU of the raw socket with a SHA-256", "", f"{cpu[0] / cpu[2]:.2f} x", ""],
    ]


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
        found = {tls: run_all(mib, rounds, Path(room), tls=tls) for tls in (True, False)}
    rows = [row for tls, runs in found.items() for row in rows_of(runs, mib, tls=tls)]
    table = measure.table(["", "time, s", "MiB/s", "CPU, s", "memory, MiB", "above the base, MiB"], rows)
    targets = [row for tls, runs in found.items() for row in targets_of(runs, tls=tls)]
    verdict = measure.table(["", "target", "measured", ""], targets)
    checked = {tls: f"{ratio(runs, 'checked'):.2f} x" for tls, runs in found.items()}
    print(f"\n{table}\n\n{verdict}")
    if arguments.docs:
        measure.keep("download", {_TLS[tls]: runs for tls, runs in found.items()})
        texts = {"table": table, "verdict": verdict, "checked_tls": checked[True], "checked": checked[False]}
        measure.write_section("download", _TEXT.format(mib=mib, rounds=rounds, **texts))
    missing = any(run["missing"] for runs in found.values() for way in runs.values() for run in way)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
