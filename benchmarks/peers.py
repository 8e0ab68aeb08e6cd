"""The environments of the clients that we are compared with: made once, by uv, each with its own packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import ROOM


@dataclass(frozen=True)
class Peer:
    """A client's environment.

    :param name: of its folder.
    :param packages: what is installed.
    :param pythons: which Python it runs on; the first one that can be had.
    :param shown: the package whose version is told.
    """

    name: str
    packages: tuple[str, ...]
    pythons: tuple[str, ...]
    shown: str

    @property
    def bin(self) -> Path:
        """Where its programs are."""
        return ROOM / self.name / "bin"

    @property
    def is_there(self) -> bool:
        """Whether it was made, with all packages."""
        return (ROOM / self.name / "installed").exists()

    @property
    def packages_path(self) -> Path:
        """Where its packages are, once it was made."""
        return next((ROOM / self.name).glob("lib/*/site-packages"))

    def version(self) -> str:
        """Return what is installed, such as ``dlt 1.31.0``."""
        found = sorted((ROOM / self.name).glob(f"lib/*/site-packages/{self.shown.replace('-', '_')}-*.dist-info"))
        return f"{self.shown} {found[0].name.split('-')[1].removesuffix('.dist')}" if found else self.shown


AIRBYTE = Peer("airbyte", ("airbyte-source-posthog",), ("3.11", "3.10", sys.executable), "airbyte-source-posthog")
DLT = Peer("dlt", ("dlt[parquet,filesystem]",), (sys.executable,), "dlt")
PANDAS = Peer("pandas", ("requests", "pandas", "pyarrow"), (sys.executable,), "pandas")
PEERS = (AIRBYTE, DLT, PANDAS)
#: Sends into PostHog; the others read.
SDK = Peer("sdk", ("posthog",), (sys.executable,), "posthog")


def install(peer: Peer) -> str | None:
    """Make an environment, unless it is there.

    :param peer: whose.
    :returns: ``None``, or why there is none.
    """
    ROOM.mkdir(exist_ok=True)
    (ROOM / ".gitignore").write_text("*\n", encoding="utf-8")
    if peer.is_there:
        return None
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if uv is None:
        return "uv is not installed"
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    why = ""
    for python in peer.pythons:
        folder = peer.bin.parent
        made = [uv, "venv", "--quiet", "--clear", "--python", python, str(folder)]
        filled = [uv, "pip", "install", "--quiet", "--python", str(peer.bin / "python"), *peer.packages]
        try:
            for command in (made, filled):
                subprocess.run(command, env=env, check=True, capture_output=True, text=True, timeout=900)
        except (subprocess.SubprocessError, OSError) as error:
            why = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1][:200]
            continue
        (folder / "installed").touch()
        return None
    return why
