"""Command line: ``python -m airflow_provider_posthog.emulator``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow_provider_posthog.emulator.control.scenario import Scenario, ScenarioError, read_scenario

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.state import State

DESCRIPTION = (
    "An embedded PostHog for developing and testing. It listens on 127.0.0.1, prints one line of JSON when it is "
    "ready (url, storage_url, project_id, api_key, project_token) and serves until SIGTERM or Ctrl-C."
)

GENERATION = "the age of the PostHog: A (until 2025), B (until September 2026) or C (Cloud since then, the default)"


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: write a number from 0 (any free port) to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number: write a whole number, 0 or more")
    return int(text)


def _days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days: write a whole number from 1 to 3650")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: write seconds, 0 or more")
    return seconds


def _date(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date: write YYYY-MM-DD") from None


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(f"{text!r} is not an IANA time zone: write e.g. Europe/Berlin") from None
    return text


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IP address: write e.g. 0.0.0.0") from None


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")) or not text.partition("://")[2].strip("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an address: write e.g. http://posthog:8011")
    return text


def _scenario(text: str) -> Scenario:
    try:
        return read_scenario(Path(text))
    except ScenarioError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


#: How long the end of the process waits for ClickHouse, in seconds.
_CLOSING_SECONDS = 1.0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser("python -m airflow_provider_posthog.emulator", description=DESCRIPTION)
    made.add_argument("--port", type=_port, default=0, help="of the API; 0, the default, takes any free one")
    made.add_argument("--storage-port", type=_port, default=0, help="of the object storage; 0 takes any free one")
    made.add_argument("--host", type=_address, default="127.0.0.1", help="to listen on; 0.0.0.0 in a container")
    made.add_argument("--storage-url", type=_url, help="under which others reach the object storage, for its links")
    made.add_argument("--seed", type=int, default=7, help="equal seeds make equal data and keys (default 7)")
    made.add_argument("--events", type=_count, default=20_000, help="how many events there are (default 20000)")
    made.add_argument("--start", type=_date, help="first day of the events, YYYY-MM-DD; by default they end yesterday")
    made.add_argument("--days", type=_days, default=30, help="how many days the events span (default 30)")
    made.add_argument("--timezone", type=_zone, default="UTC", help="of the project (default UTC)")
    made.add_argument("--export-seconds", type=_seconds, default=1.0, help="how long an export takes (default 1)")
    made.add_argument("--generation", choices=("A", "B", "C"), default="C", help=GENERATION)
    made.add_argument("--scenario", type=_scenario, help="a YAML file of what is in it; see docs/emulator.md")
    made.add_argument("--stop-with-stdin", action="store_true", help="also stop when standard input is closed")
    return made


def _read_stdin(stopped: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 4096):
        stopped.set()


def _data(options: argparse.Namespace) -> dict[str, Any]:
    """Return how the first project's events are made: what the scenario says goes before the command line."""
    wanted = {name: getattr(options, name) for name in ("seed", "events", "start", "days")}
    said = options.scenario.data() if options.scenario is not None else {}
    if "start" in said:
        try:
            said["start"] = _date(str(said["start"]))
        except argparse.ArgumentTypeError as error:
            raise options.scenario.error(f"{options.scenario.projects()[0][0]}data.start", str(error)) from None
    return {**wanted, **said}


async def _play(state: State, scenario: Scenario, keys: list[dict[str, Any]]) -> None:
    """Make what a scenario asks for, and note the keys that it has made."""
    from airflow_provider_posthog.emulator.http.api import Api
    from airflow_provider_posthog.emulator.http.request import Request

    api = Api(state)

    async def send(path: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        path, _, query = path.partition("?")
        request = Request(state, "POST", path, query, raw_body=json.dumps(body).encode())
        answer = await api.answer(request)
        return answer.status, json.loads(answer.body or b"{}")

    keys[:] = await scenario.play(send)


def _stop_requested(*, with_stdin: bool) -> asyncio.Event:
    """Return the event that is set when the process has to stop."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if with_stdin:
        loop.add_reader(sys.stdin.fileno(), _read_stdin, stopped)
    return stopped


async def _serve(options: argparse.Namespace) -> None:
    from airflow_provider_posthog.emulator.data.warehouse import Warehouse
    from airflow_provider_posthog.emulator.http.server import start
    from airflow_provider_posthog.emulator.state import State

    stopped = _stop_requested(with_stdin=options.stop_with_stdin)
    wanted = _data(options)
    warehouse = Warehouse(**wanted, timezone=options.timezone)
    settings = {name: getattr(options, name) for name in ("generation", "timezone", "export_seconds")}
    state = State(warehouse, wanted["seed"], settings)
    places = {name: getattr(options, name) for name in ("port", "storage_port", "host", "storage_url")}
    server = await start(state, **places)
    keys: list[dict[str, Any]] = []
    if options.scenario is not None:
        state.after_reset = partial(_play, state, options.scenario, keys)
        await state.after_reset()
    ready = {
        "url": server.url,
        "storage_url": server.storage_url,
        "project_id": state.project.id,
        "api_key": state.keyring.default.value,
        "project_token": state.project.token,
        **({"keys": keys} if keys else {}),
    }
    gc.collect()
    gc.freeze()  # what is there stays: no collection need go through it again
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    await stopped.wait()
    # closing removes ClickHouse's folder of temporary files; a query that still runs may hold it up
    closing = threading.Thread(target=warehouse.close, daemon=True)
    closing.start()
    closing.join(_CLOSING_SECONDS)
    sys.stderr.flush()
    # at once, as when a machine goes away: whoever waits for an answer gets none, and a query that still runs in a
    # thread does not keep the process alive
    os._exit(0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the emulator until it is told to stop, which ends the process with 0.

    :param arguments: of the command line; those of the process by default.
    """
    missing = [name for name in ("aiohttp", "chdb", "openpyxl", "yaml") if find_spec(name) is None]
    if missing:
        sys.exit(f"posthog emulator: needs {' and '.join(missing)}. Install airflow-provider-posthog[emulator].")
    options = parser().parse_args(arguments)
    try:
        asyncio.run(_serve(options))
    except ScenarioError as error:
        sys.exit(f"posthog emulator: {error}")
    except OSError as error:
        sys.exit(f"posthog emulator: cannot listen: {error}")
    except KeyboardInterrupt:
        # Ctrl-C before the server was ready
        sys.exit(0)


if __name__ == "__main__":
    main()
