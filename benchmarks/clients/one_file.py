"""One way of downloading an export's file: ``python -m benchmarks.clients.one_file WAY URL MIB PATH [CA_FILE]``.

Prints how long it took, the CPU seconds, what the process held before, and at the most meanwhile (MiB).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

URL, MIB, PATH, CA_FILE = sys.argv[2], int(sys.argv[3]), sys.argv[4], next(iter(sys.argv[5:]), None)
TARGET = f"/api/projects/1/exports/{MIB}/content/"
CHUNK = 1024 * 1024


def ours() -> Callable[[], None]:
    """Download by this provider."""
    from fsspec.implementations.local import LocalFileSystem

    from airflow_provider_posthog.api import exports
    from airflow_provider_posthog.api.clients import Client
    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.download.http import download
    from airflow_provider_posthog.storage.atomic_file import AtomicFile

    client = Client(ClientSettings(base_url=URL, api_key="phx_bench", project_id=1, verify=CA_FILE or True))

    def work() -> None:
        with AtomicFile(LocalFileSystem(), PATH, token="bench") as atomic:
            download(client, exports.content(MIB), atomic)
            atomic.finish()
            atomic.commit()

    return work


def raw_socket(*, checked: bool = False) -> Callable[[], None]:
    """Download with nothing between socket and file.

    :param checked: reckon a SHA-256 too, one block after another.
    """
    buffer = memoryview(bytearray(CHUNK))
    digest = hashlib.sha256()

    def work() -> None:
        with _connected() as connection, open(PATH, "wb") as file:
            connection.sendall(f"GET {TARGET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            head, _, begun = head.partition(b"\r\n\r\n")
            digest.update(begun)
            left = int(head.lower().partition(b"content-length: ")[2].split()[0]) - file.write(begun)
            while left and (count := connection.recv_into(buffer)):
                file.write(buffer[:count])
                if checked:
                    digest.update(buffer[:count])
                left -= count

    return work


def _connected() -> socket.socket:
    address = urlsplit(URL)
    connection = socket.create_connection((address.hostname, address.port or 80))
    if CA_FILE is None:
        return connection
    return ssl.create_default_context(cafile=CA_FILE).wrap_socket(connection, server_hostname=address.hostname)


def stream() -> Callable[[], None]:
    """Copy what requests brings, as it comes: the least that a client by requests can do."""
    import requests

    def work() -> None:
        answer = requests.get(URL + TARGET, timeout=120, verify=CA_FILE, stream=True)
        with answer, open(PATH, "wb") as file:
            shutil.copyfileobj(answer.raw, file, CHUNK)

    return work


def content() -> Callable[[], None]:
    """Download as one does."""
    import requests

    def work() -> None:
        with open(PATH, "wb") as file:
            file.write(requests.get(URL + TARGET, timeout=120, verify=CA_FILE).content)

    return work


def _held(which: str) -> float:
    """Return how many MiB this process holds (``VmRSS``), or has held at the most (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


if __name__ == "__main__":
    ways = {
        "ours": ours,
        "socket": raw_socket,
        "checked": lambda: raw_socket(checked=True),
        "stream": stream,
        "content": content,
    }
    download_it = ways[sys.argv[1]]()
    base = _held("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most that is held counts anew
    wall, cpu = time.perf_counter(), time.process_time()
    download_it()
    took = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    print(json.dumps({**took, "base": base, "memory": _held("VmHWM")}))
