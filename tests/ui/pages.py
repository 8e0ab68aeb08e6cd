"""A playground with Airflow's pages in a real Chromium."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Api, wait_for

ROOT = Path(__file__).parents[2]
DAGS = Path(__file__).parent / "dags"
PICTURES = ROOT / "docs" / "pictures"
MISSING = "There is no Chromium: install Debian's or Ubuntu's package chromium, or run `playwright install chromium`."
#: Connections that are wrong, each in its way.
CONNECTIONS = {
    "no_host": '{"conn_type": "posthog", "host": "http://no-such-host.invalid", "password": "phx_none",'
    ' "extra": {"project_id": 1}}',
    "refused": '{"conn_type": "posthog", "host": "http://127.0.0.1:9", "password": "phx_none",'
    ' "extra": {"project_id": 1}}',
    "no_type": '{"conn_type": "generic", "host": "/data/warehouse.duckdb"}',
}


class Playground(Api):
    """What ``make ui`` has started, in a process of its own, as somebody at a terminal would.

    :param python: the Python of the environment with the Airflow to run.
    :param is_2: whether that is Airflow 2.
    """

    posthog: EmulatorProcess

    def __init__(self, python: Path, is_2: bool) -> None:
        super().__init__("", is_2)
        self._python = python
        self._lines: list[str] = []
        self.mark = f"posthog-ui-{os.getpid()}-{python.parent.parent.name}"

    def start(self) -> None:
        """Start it; :meth:`ready` waits for it."""
        connections = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in CONNECTIONS.items()}
        env = {**os.environ, **connections, "PYTHONPATH": str(ROOT), "POSTHOG_UI_MARK": self.mark}
        command = [str(self._python), "-m", "demo.ui", "--more", str(DAGS)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.append(line)

    def said(self, pattern: str) -> re.Match[str] | None:
        """Return what it has printed, if it matches."""
        if self._process.poll() is not None:
            raise AssertionError(f"make ui ended:\n{''.join(self._lines)[-5000:]}")
        return re.search(pattern, "".join(self._lines))

    def ready(self) -> None:
        """Wait until it has said where it is."""
        wait_for("make ui to be ready", lambda: self.said(r"Ready after"), 600)
        found = self.said(r"Airflow +(\S+) +user admin, password admin")
        posthog = self.said(r"PostHog +(\S+) +project (\d+), key (\S+)")
        assert found is not None
        assert posthog is not None
        self.url = found[1]
        self.posthog = EmulatorProcess()
        self.posthog.url, self.posthog.project_id, self.posthog.api_key = posthog[1], int(posthog[2]), posthog[3]
        self.log_in()

    @property
    def files(self) -> Path:
        """Where the DAGs' files are."""
        found = self.said(r"Files +(\S+)")
        assert found is not None
        return Path(found[1])

    def interrupt(self) -> int:
        """Do what Ctrl-C does; return the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(60)

    def kill(self) -> None:
        """End it, if a test failed before."""
        with suppress(ProcessLookupError):
            self._process.terminate()
            self._process.wait(60)

    def left(self) -> list[str]:
        """Return the commands of all processes that it has started and that still run."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes() and folder.name != str(os.getpid()):
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


def browser_path() -> str | None:
    """Return the path of a Chromium of this machine; ``None`` for that of Playwright.

    :raises pytest.fail: if there is neither.
    """
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        if not Path(playwright.chromium.executable_path).exists():
            pytest.fail(MISSING, pytrace=False)
    return None


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a page of a real Chromium, in English."""
    from playwright.sync_api import sync_playwright

    path = browser_path()
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=options)
        context = chromium.new_context(viewport={"width": 1280, "height": 860}, locale="en-US", color_scheme="light")
        context.set_default_timeout(60_000)
        yield context.new_page()
        chromium.close()


def picture(page: Any, name: str, what: Any = None) -> None:
    """Renew a picture of the documentation, if that is asked for (``PICTURES=1``).

    :param page: the page.
    :param name: the picture's name.
    :param what: a part of the page; default: what the window shows.
    """
    if not os.environ.get("PICTURES"):
        return
    import io

    from PIL import Image

    data = (what or page).screenshot()
    image = Image.open(io.BytesIO(data)).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    PICTURES.mkdir(exist_ok=True)
    image.save(PICTURES / f"{name}.png", optimize=True)
