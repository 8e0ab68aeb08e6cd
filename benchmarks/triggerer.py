"""What 2,000 deferred exports cost a triggerer: ``python -m benchmarks.triggerer [--triggers 2000] [--seconds 60]``.

Runs :class:`~airflow_provider_posthog.triggers.jobs.PostHogJobTrigger` on one event loop, as a triggerer does, against
the embedded PostHog in a process of its own; every trigger polls every 10 seconds. In the same run, each in a fresh
process, the same number of triggers that poll with blocking calls in threads, as several providers do.
Prints CPU share, memory a trigger, polls a second and the event loop's lag; the lag is how late a timer of 10 ms fires.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

POLL_INTERVAL = 10.0
PROBE = 0.01


def main() -> int:
    """Measure both ways and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--triggers", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--way", choices=["ours", "threads"], help=argparse.SUPPRESS)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(asyncio.run(_measure(arguments.way, arguments.job, arguments.triggers, arguments.seconds))))
        return 0
    from airflow_provider_posthog.emulator.process import EmulatorProcess

    print(f"{arguments.triggers:,} deferred exports, polled every {POLL_INTERVAL:.0f} s, for {arguments.seconds:.0f} s")
    print(f"{'':10} {'CPU':>6} {'KB/trigger':>11} {'polls/s':>8} {'lag p50':>9} {'lag p99':>9} {'lag max':>9}  (ms)")
    with EmulatorProcess(events=100, export_seconds=86_400) as posthog, tempfile.TemporaryDirectory() as home:
        job = _create_export(posthog)
        env = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW_CONN_POSTHOG_DEFAULT": posthog.airflow_connection_json()}
        for way in ("ours", "threads"):
            _show(way, _in_fresh_process(way, job, arguments, env))
    return 0


def _create_export(posthog: Any) -> str:  # noqa: ANN401 - EmulatorProcess
    from airflow_provider_posthog.api import exports
    from airflow_provider_posthog.api.clients import Client
    from airflow_provider_posthog.api.queries import hogql
    from airflow_provider_posthog.api.settings import ClientSettings

    settings = ClientSettings(base_url=posthog.url, api_key=posthog.api_key, project_id=posthog.project_id)
    with Client(settings) as client:
        context = {"source": hogql("SELECT 1 LIMIT 1")}
        return str(client.send(exports.create(export_format=exports.CSV, export_context=context))["id"])


def _in_fresh_process(way: str, job: str, arguments: argparse.Namespace, env: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.triggerer", "--way", way, "--job", job]
    command += ["--triggers", str(arguments.triggers), "--seconds", str(arguments.seconds)]
    done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _show(way: str, figures: dict[str, float]) -> None:
    print(
        f"{way:10} {figures['cpu']:6.0%} {figures['kilobytes']:11.1f} {figures['polls']:8.0f} "
        f"{figures['p50']:9.1f} {figures['p99']:9.1f} {figures['max']:9.1f}",
        flush=True,
    )


async def _measure(way: str, job: str, triggers: int, seconds: float) -> dict[str, float]:
    """Run the triggers and the probe; the first half of the time is for starting and is left out."""
    polls = [0]
    make = _our_trigger if way == "ours" else _thread_trigger
    await _warm_up(make, job)
    before = _resident_kilobytes()
    tasks = []
    for number in range(triggers):
        tasks.append(asyncio.create_task(make(job, polls)))
        if number % 50 == 49:
            await asyncio.sleep(0.1)  # a triggerer takes its triggers up in batches too
    await asyncio.sleep(seconds / 2)
    kilobytes = (_resident_kilobytes() - before) / triggers
    counted, cpu, started = polls[0], _cpu(), time.perf_counter()
    lags = await _probe(seconds / 2)
    wall = time.perf_counter() - started
    figures = {
        "cpu": (_cpu() - cpu) / wall,
        "kilobytes": kilobytes,
        "polls": (polls[0] - counted) / wall,
        "p50": statistics.median(lags),
        "p99": statistics.quantiles(lags, n=100)[98],
        "max": max(lags),
    }
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return figures


async def _warm_up(make: Any, job: str) -> None:  # noqa: ANN401
    """Let imports and the first connection be paid before anything is measured."""
    task = asyncio.create_task(make(job, [0]))
    await asyncio.sleep(3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _probe(seconds: float) -> list[float]:
    lags = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        asked = time.perf_counter()
        await asyncio.sleep(PROBE)
        lags.append((time.perf_counter() - asked - PROBE) * 1000)
    return lags


def _our_trigger(job: str, polls: list[int]) -> Coroutine[Any, Any, None]:
    from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

    trigger = PostHogJobTrigger(
        kind="export",
        job_id=job,
        posthog_conn_id="posthog_default",
        deadline=time.time() + 86_400,
        poll_interval=POLL_INTERVAL,
    )

    async def run() -> None:
        async for event in trigger.run():
            raise AssertionError(f"the export can not have ended: {event}")

    return _counting(run(), trigger, polls)


async def _counting(running: Coroutine[Any, Any, None], trigger: Any, polls: list[int]) -> None:  # noqa: ANN401
    look = trigger._look

    async def counted(client: Any) -> Any:  # noqa: ANN401
        polls[0] += 1
        return await look(client)

    trigger._look = counted
    await running


async def _thread_trigger(job: str, polls: list[int]) -> None:
    from airflow_provider_posthog.api import exports
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    hook = PostHogHook()
    while True:
        await asyncio.to_thread(hook.send, exports.retrieve(int(job)))
        polls[0] += 1
        await asyncio.sleep(POLL_INTERVAL)


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_kilobytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


if __name__ == "__main__":
    sys.exit(main())
