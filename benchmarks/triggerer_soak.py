"""Half an hour of deferred exports in one triggerer: ``python -m benchmarks.triggerer_soak [--minutes 30]``.

Runs that many :class:`~airflow_provider_posthog.triggers.jobs.PostHogJobTrigger` on one event loop, as a triggerer
does, against the embedded PostHog in a process of its own. No export ends meanwhile, so that only waiting is measured.
The connection has PostHog's limits, as one to PostHog Cloud. Prints calls a minute, CPU of one core, the event loop's
lag (how late a timer of 50 ms fires, here and in a process beside it that does nothing else), and how the memory grew:
as a slope of a line through all samples, and against its own spread. The first minutes, in which caches fill, do not
count.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

PROBE = 0.05
#: The lag is counted in tenths of a millisecond: a list of all lags would grow, and look like a leak.
PER_MS = 10
#: Seconds between two samples of the memory.
SAMPLE = 10.0


def main() -> int:
    """Wait, measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--warm-up", type=float, default=3.0, help="minutes before, which do not count")
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--step", choices=["create", "wait", "idle"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step == "create":
        print(json.dumps(_create(arguments.tasks)))
        return 0
    if arguments.step == "wait":
        figures = asyncio.run(
            _wait(json.load(sys.stdin), arguments.interval, arguments.warm_up * 60, arguments.minutes * 60)
        )
        print(json.dumps(figures))
        return 0
    if arguments.step == "idle":
        lags, _ = asyncio.run(_probe((arguments.warm_up + arguments.minutes) * 60))
        print(json.dumps({"idle_p50": _quantile(lags, 0.5), "idle_p99": _quantile(lags, 0.99)}))
        return 0
    figures = _measure(arguments)
    print(json.dumps(figures) if arguments.json else _told(figures))
    return 0


def _measure(arguments: argparse.Namespace) -> dict[str, float]:
    from airflow_provider_posthog.emulator.process import EmulatorProcess

    length = (arguments.minutes + arguments.warm_up) * 60
    with EmulatorProcess(events=100, export_seconds=length + 3600) as posthog, tempfile.TemporaryDirectory() as home:
        posthog.settings(stuck_seconds=length + 3600)  # or it gives up an export after ten minutes

        def start(step: str, share: float) -> subprocess.Popen[str]:
            connection = posthog.airflow_connection_json(rate_limit_share=share)
            env = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW_CONN_POSTHOG_DEFAULT": connection}
            command = [sys.executable, "-m", "benchmarks.triggerer_soak", "--step", step]
            for name in ("tasks", "interval", "warm_up", "minutes"):
                command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
            return subprocess.Popen(command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        def end(process: subprocess.Popen[str], given: str = "") -> str:
            told, _ = process.communicate(given)
            if process.returncode:
                raise SystemExit(process.returncode)
            return told.splitlines()[-1]

        jobs = end(start("create", 0))
        idle = start("idle", 0)
        figures: dict[str, float] = json.loads(end(start("wait", 1), jobs))
        figures |= json.loads(end(idle))
        times = [_seconds(call["at"]) for call in posthog.calls("/exports/", "GET")]
    begin, until = figures.pop("began"), figures.pop("ended")
    return {
        "tasks": arguments.tasks,
        "calls": 60 * sum(begin <= at < until for at in times) / (until - begin),
        **figures,
    }


def _create(count: int) -> list[str]:
    from airflow_provider_posthog.api import exports
    from airflow_provider_posthog.api.queries import hogql
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    hook = PostHogHook()
    call = exports.create(export_format=exports.CSV, export_context={"source": hogql("SELECT 1 LIMIT 1")})
    return [str(hook.send(call)["id"]) for _ in range(count)]


async def _wait(jobs: list[str], interval: float, warm_up: float, seconds: float) -> dict[str, float]:
    from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

    async def run(job: str) -> None:
        trigger = PostHogJobTrigger(
            kind="export",
            job_id=job,
            posthog_conn_id="posthog_default",
            deadline=time.time() + 86_400,
            poll_interval=interval,
        )
        async for event in trigger.run():
            raise AssertionError(event.payload)

    tasks = [asyncio.ensure_future(run(job)) for job in jobs]
    await _probe(warm_up)
    for task in tasks:
        if task.done():
            task.result()
    gc.collect()
    began, cpu, objects = time.time(), _cpu(), len(gc.get_objects())
    lags, memory = await _probe(seconds)
    ended, spent = time.time(), _cpu() - cpu
    gc.collect()
    grown = len(gc.get_objects()) - objects
    waiting = sum(not task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    left = len(asyncio.all_tasks()) - 1
    slope, _ = statistics.linear_regression([at for at, _ in memory], [size for _, size in memory])
    return {
        "waiting": waiting,
        "cpu": spent / (ended - began),
        "p50": _quantile(lags, 0.5),
        "p99": _quantile(lags, 0.99),
        "latest": _quantile(lags, 1.0),
        "megabytes": memory[-1][1] / 1024,
        "slope": slope * 3600,
        "drift": memory[-1][1] - memory[0][1],
        "spread": max(size for _, size in memory) - min(size for _, size in memory),
        "objects": grown,
        "tasks_left": left,
        "began": began,
        "ended": ended,
    }


async def _probe(seconds: float) -> tuple[list[int], list[tuple[float, float]]]:
    """Return how often each lag was seen, and the resident memory at times."""
    lags, memory = [0] * (10_000 * PER_MS), []
    began = sampled = time.perf_counter()
    memory.append((0.0, _resident_kilobytes()))
    while (asked := time.perf_counter()) < began + seconds:
        await asyncio.sleep(PROBE)
        late = time.perf_counter() - asked - PROBE
        lags[min(max(int(late * 1000 * PER_MS), 0), len(lags) - 1)] += 1
        if asked >= sampled + SAMPLE:
            sampled += SAMPLE
            memory.append((asked - began, _resident_kilobytes()))
    return lags, memory


def _quantile(lags: list[int], part: float) -> float:
    wanted, seen = part * sum(lags), 0
    for tenths, count in enumerate(lags):
        seen += count
        if seen >= wanted and seen:
            return (tenths + 1) / PER_MS
    return 0.0


def _told(figures: dict[str, float]) -> str:
    return (
        f"{figures['tasks']:.0f} deferred exports, {figures['waiting']:.0f} of them to the end\n"
        f"calls a minute   {figures['calls']:8.1f}\n"
        f"CPU of a core    {figures['cpu']:8.1%}\n"
        f"lag, ms          {figures['p50']:8.1f} p50 {figures['p99']:8.1f} p99 {figures['latest']:8.1f} max\n"
        f"  idle process   {figures['idle_p50']:8.1f} p50 {figures['idle_p99']:8.1f} p99\n"
        f"memory, MB       {figures['megabytes']:8.1f}\n"
        f"  slope, KB/h    {figures['slope']:8.0f}, last less first {figures['drift']:.0f} KB, "
        f"spread {figures['spread']:.0f} KB, objects {figures['objects']:+.0f}\n"
        f"tasks left       {figures['tasks_left']:8.0f}"
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_kilobytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


if __name__ == "__main__":
    sys.exit(main())
