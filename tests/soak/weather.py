"""What goes wrong in a soak: faults of PostHog's, and kills of Airflow's parts, both drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.e2e.deployment import Deployment, kill_process

_ERROR = {"type": "server_error", "code": "error", "detail": "It went wrong.", "attr": None}
_PATHS = ("/api/*", "/api/*/query/*", "/api/*/exports/*", "/api/*/insights/*", "/i/v1/*")


def _status(status: int, **headers: str) -> dict[str, Any]:
    return {
        "status": status,
        "body": _ERROR,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
    }


#: What a request may meet.
WISHES: dict[str, dict[str, Any]] = {
    **{str(status): _status(status) for status in (408, 425, 500, 502, 503, 504, 520, 521, 522, 524)},
    "429": _status(429),
    "429, Retry-After": _status(429, Retry_After="3"),
    "503, Retry-After": _status(503, Retry_After="2"),
    "500 after the work": {**_status(500), "work": True},
    "504 after the work": {**_status(504), "work": True},
    "HTML of 502": {"status": 502, "body": "<html><body>Bad gateway</body></html>"},
    "HTML of 200": {"status": 200, "body": "<html><body>Log in</body></html>"},
    "nothing in a 200": {"status": 200, "body": ""},
    "cut before the work": {"cut": "before"},
    "cut after the work": {"cut": "after"},
    "cut in the answer": {"cut": "middle", "cut_bytes": 9},
    "late": {"delay": 5.0},
}
#: What lasts for seconds in place of some requests.
LASTING = ("503", "cut before the work", "429, Retry-After")


class Weather:
    """Makes faults and kills, and counts them.

    :param posthog: the emulator.
    :param airflow: the deployment.
    :param dice: where chance comes from.
    """

    def __init__(self, posthog: EmulatorProcess, airflow: Deployment, dice: random.Random) -> None:
        self._posthog, self._airflow, self._dice = posthog, airflow, dice
        self._fair_at = 0.0
        self.faults: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()

    def turn(self, now: float, running: Callable[[], list[int]]) -> None:
        """Let something go wrong, or nothing.

        :param now: seconds of the soak.
        :param running: finds the processes of tasks that run.
        """
        if self._fair_at and now >= self._fair_at:
            self._posthog.clear_faults()
            self._fair_at = 0.0
        drawn = self._dice.random()
        if drawn < 0.4:
            self._fault(now)
        elif drawn < 0.5:
            self._kill_worker(running())
        elif drawn < 0.53:
            self._kill(self._dice.choice(("triggerer", "scheduler")))

    def clear(self) -> None:
        """Let nothing be wrong any more."""
        self._posthog.clear_faults()

    def _fault(self, now: float) -> None:
        path, count = self._dice.choice(_PATHS), self._dice.randint(1, 3)
        name = self._dice.choice(sorted(WISHES))
        if not self._fair_at and self._dice.random() < 0.1:
            name, path, count = self._dice.choice(LASTING), "/api/*", -1
            self._fair_at = now + self._dice.uniform(3.0, 12.0)
            self.faults["of seconds"] += 1
        if not self._fair_at:
            self._posthog.clear_faults()  # those that nobody met would wait for the next one all at once
        self.faults[name] += 1
        self._posthog.faults(method="*", path=path, count=count, **WISHES[name])

    def _kill_worker(self, pids: list[int]) -> None:
        if pids:
            kill_process(self._dice.choice(pids))
            self.kills["worker"] += 1

    def _kill(self, part: str) -> None:
        self._airflow.kill_all_of(part)
        self._airflow.start(part)
        self.kills[part] += 1
