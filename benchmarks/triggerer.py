"""What deferred exports cost: ``python -m benchmarks.triggerer [--tasks 100 300 1000] [--page 100]``.

Runs :class:`~airflow_provider_posthog.triggers.jobs.PostHogJobTrigger` on one event loop, as a triggerer does, against
the embedded PostHog in a process of its own; every task waits for an export of its own, and polls every 10 seconds.
PostHog's limits hold at both ends, as for a connection with ``rate_limit_share`` 1. In the same run, each in a fresh
process, the same tasks *before*: each with a poll of its own, as this provider's triggers were until they had a poller
for all, and as other providers' are. Prints calls a minute, how late the ends were noticed, CPU share, memory a task
and the event loop's lag; the lag is how late a timer of 10 ms fires.
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
import urllib.request
from pathlib import Path
from typing import Any

PROBE = 0.01
#: Seconds for which an export takes, in poll intervals.
ROUNDS = 6
WAYS = ("before", "after")


def main() -> int:
    """Measure both ways for each number of tasks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--interval", type=float, default=10.0)
    parser.add_argument("--quick", action="store_true", help="10 and 40 tasks that poll every second")
    parser.add_argument("--page", type=int, help="the longest page that PostHog gives, such as 100")
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tasks, arguments.interval = [10, 40], 1.0
    if arguments.way:
        print(json.dumps(asyncio.run(_measure(arguments.way, arguments.tasks[0], arguments.interval))))
        return 0
    print(f"Deferred exports, polled every {arguments.interval:g} s under PostHog's limits; late in s, lag in ms")
    print(
        f"{'tasks':>6} {'':8} {'calls/min':>9} {'late p50':>9} {'late max':>9} {'CPU':>5} {'KB/task':>8} {'lag p99':>8}"
    )
    for tasks in arguments.tasks:
        for way in arguments.ways:
            _show(tasks, way, _in_fresh_process(way, tasks, arguments.interval, arguments.page))
    return 0


def _in_fresh_process(way: str, tasks: int, interval: float, page: int | None) -> dict[str, float]:
    from airflow_provider_posthog.emulator.process import EmulatorProcess

    with (
        EmulatorProcess(events=100, export_seconds=interval * ROUNDS) as posthog,
        tempfile.TemporaryDirectory() as home,
    ):
        posthog.settings(max_page=page)
        connections = {"AIRFLOW_CONN_POSTHOG_DEFAULT": posthog.airflow_connection_json(rate_limit_share=1)}
        connections["AIRFLOW_CONN_POSTHOG_UNLIMITED"] = posthog.airflow_connection_json(rate_limit_share=0)
        env = {**os.environ, "AIRFLOW_HOME": home, **connections}
        command = [sys.executable, "-m", "benchmarks.triggerer", "--way", way]
        command += ["--tasks", str(tasks), "--interval", str(interval)]
        done = subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE, text=True)
        figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        polls = len(posthog.calls("/exports/", "GET"))
    return {**figures, "calls": polls * 60 / figures["seconds"]}


def _show(tasks: int, way: str, figures: dict[str, float]) -> None:
    print(
        f"{tasks:6} {way:8} {figures['calls']:9.0f} {figures['late']:9.1f} {figures['latest']:9.1f} "
        f"{figures['cpu']:5.0%} {figures['kilobytes']:8.1f} {figures['p99']:8.1f}",
        flush=True,
    )


async def _measure(way: str, count: int, interval: float) -> dict[str, float]:
    wait = _of_all if way == "after" else _of_each
    ready = await asyncio.to_thread(_create_exports, count, interval * ROUNDS)
    await wait(next(iter(ready)), interval, warm_up=True)  # imports, and the first connection
    before, cpu, began = _resident_kilobytes(), _cpu(), time.time()
    tasks = [asyncio.ensure_future(_noticed(wait, job, interval)) for job in ready]
    lags = await _probe(max(min(ready.values()) - time.time(), 1.0))
    kilobytes = (_resident_kilobytes() - before) / count
    noticed = await asyncio.gather(*tasks)
    late = [at - when for at, when in zip(noticed, ready.values(), strict=True)]
    seconds = time.time() - began
    return {
        "cpu": (_cpu() - cpu) / seconds,
        "kilobytes": kilobytes,
        "p99": statistics.quantiles(lags, n=100)[98],
        "late": statistics.median(late),
        "latest": max(late),
        "seconds": seconds,
    }


def _create_exports(count: int, seconds: float) -> dict[str, float]:
    """Return when each export will be ready, by its id."""
    from airflow_provider_posthog.api import exports
    from airflow_provider_posthog.api.queries import hogql
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    context = {"source": hogql("SELECT 1 LIMIT 1")}
    call = exports.create(export_format=exports.CSV, export_context=context)
    hook = PostHogHook("posthog_unlimited")
    ready = {str(hook.send(call)["id"]): time.time() + seconds for _ in range(count)}
    address, body = f"{hook.settings().base_url}/__emulator__/settings", json.dumps({"rate_limits": 1}).encode()
    urllib.request.urlopen(urllib.request.Request(address, body, {"Content-Type": "application/json"}))
    return ready


async def _noticed(wait: Any, job: str, interval: float) -> float:  # noqa: ANN401
    await wait(job, interval)
    return time.time()


async def _of_all(job: str, interval: float, *, warm_up: bool = False) -> None:
    from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

    await _end_of(PostHogJobTrigger, job, interval, warm_up=warm_up)


async def _of_each(job: str, interval: float, *, warm_up: bool = False) -> None:
    from airflow_provider_posthog.api.jobs import KINDS
    from airflow_provider_posthog.api.polls import poll_job
    from airflow_provider_posthog.api.retry import LAST
    from airflow_provider_posthog.api.steps import run_async
    from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger
    from airflow_provider_posthog.triggers.watching import PostHogWatchingTrigger

    class Trigger(PostHogJobTrigger):
        watch = PostHogWatchingTrigger.watch
        next_poll = PostHogWatchingTrigger.next_poll

        async def look(self, client: Any) -> Any:  # noqa: ANN401
            return (await run_async(poll_job(KINDS[self.kind], self.job_id, LAST), client)).verdict

    await _end_of(Trigger, job, interval, warm_up=warm_up)


async def _end_of(trigger: Any, job: str, interval: float, *, warm_up: bool) -> None:  # noqa: ANN401
    deadline = time.time() + (0.1 if warm_up else 86_400)
    made = trigger(
        kind="export", job_id=job, posthog_conn_id="posthog_default", deadline=deadline, poll_interval=interval
    )
    async for event in made.run():
        assert warm_up or event.payload["outcome"] == "succeeded", event.payload


async def _probe(seconds: float) -> list[float]:
    lags = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        asked = time.perf_counter()
        await asyncio.sleep(PROBE)
        lags.append((time.perf_counter() - asked - PROBE) * 1000)
    return lags


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _resident_kilobytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1024


if __name__ == "__main__":
    sys.exit(main())
