"""The books of a soak: what is in the warehouse and the files against what is in PostHog, and what must not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import duckdb

from tests.soak.ground import CANARY, EMAIL, SALT, Ground, listed
from tests.soak.jobs import BACKFILLS, Run

#: Runs that ended well, by the example.
Done = dict[str, list[Run]]


def problems(ground: Ground, done: Done, again: Counter[str], home: Path) -> Iterator[str]:
    """Yield what is not as it has to be, a sentence each.

    :param ground: what the examples ran on.
    :param done: which ran.
    :param again: how often a run of each was cleared, and so began its work anew.
    :param home: Airflow's folder, with its logs.
    """
    yield from _loaded(ground, done)
    yield from _exported(ground, done)
    yield from _persons(ground, done)
    yield from _sent(ground, done)
    yield from _jobs(ground, done, again)
    yield from _left(ground)
    yield from _leaks(ground, home)


def _loaded(ground: Ground, done: Done) -> Iterator[str]:
    for run in done.get("load_events", []):
        start, end = run.start.isoformat(), run.end.isoformat()
        there = ground.posthog.count_events(start, end, "created_at")
        where = f"created_at >= '{start}' AND created_at < '{end}'"
        ((rows, uuids),) = ground.warehouse.rows(f"SELECT count(*), count(DISTINCT uuid) FROM events WHERE {where}")
        if not there == rows == uuids:
            yield f"load_events of {start}: PostHog has {there} events, the warehouse {rows} rows of {uuids}"
    if done.get("load_events"):
        ((rows, uuids),) = ground.warehouse.rows("SELECT count(*), count(DISTINCT uuid) FROM events")
        if rows != uuids:
            yield f"the warehouse has {rows} events, {uuids} of them different"


def _exported(ground: Ground, done: Done) -> Iterator[str]:
    path = ground.folder / "warehouse.duckdb"
    for run in done.get("export_to_warehouse", []):
        start, end = run.start.isoformat(), run.end.isoformat()
        there = ground.posthog.count_events(start, end)
        with duckdb.connect(str(path), read_only=True) as warehouse:
            found = warehouse.execute(
                'SELECT count(*) FROM events WHERE "timestamp" >= ? AND "timestamp" < ?', [start, end]
            ).fetchone()
        if found != (there,):
            yield f"export_to_warehouse of {start}: PostHog has {there} events, DuckDB {found}"


def _persons(ground: Ground, done: Done) -> Iterator[str]:
    if not done.get("load_persons"):
        return
    there = {str(row[0]) for row in ground.query("SELECT id FROM persons LIMIT 50000")}
    here = [str(row[0]) for row in ground.warehouse.rows("SELECT id FROM persons WHERE deleted_at IS NULL")]
    # Persons whom orders made after the last load are not there yet; nobody is there twice, or was made up.
    if len(here) != len(set(here)) or not set(here) <= there:
        yield f"load_persons: {len(here)} rows of {len(set(here))} persons, {len(set(here) - there)} of them unknown"
    if there - set(here) - _buyers(ground):
        yield f"load_persons: {len(there - set(here))} persons are missing"


def _buyers(ground: Ground) -> set[str]:
    return {str(row[0]) for row in ground.query("SELECT DISTINCT person_id FROM events WHERE event = 'order placed'")}


def _sent(ground: Ground, done: Done) -> Iterator[str]:
    hours = {run.start for run in done.get("orders_to_posthog", [])}
    if not hours:
        return
    ((rows, uuids),) = ground.query(
        "SELECT count(), count(DISTINCT uuid) FROM events WHERE event = 'order placed' LIMIT 1"
    )
    wanted = 0
    for hour in hours:
        within = f"placed_at >= '{hour.isoformat()}' AND placed_at < '{(hour + timedelta(hours=1)).isoformat()}'"
        wanted += int(ground.warehouse.rows(f"SELECT count(*) FROM orders WHERE {within}")[0][0])
    if uuids != wanted:
        yield f"orders_to_posthog: {wanted} orders, and PostHog has {uuids} ({rows} with copies, which it merges)"


def _jobs(ground: Ground, done: Done, again: Counter[str]) -> Iterator[str]:
    exports = list(listed(ground.posthog, "exports/"))
    wanted = len(done.get("export_to_warehouse", []))
    if not wanted <= len(exports) <= wanted + again["export_to_warehouse"]:
        yield f"{len(exports)} exports for {wanted} runs"
    if pending := [each["id"] for each in exports if not each["has_content"] and not each.get("exception")]:
        yield f"exports that never ended: {pending}"
    lake = next(listed(ground.posthog, "batch_exports/"))
    backfills = list(listed(ground.posthog, f"batch_exports/{lake['id']}/backfills/"))
    wanted = BACKFILLS * len(done.get("batch_export_backfill", []))
    if not wanted <= len(backfills) <= wanted + BACKFILLS * again["batch_export_backfill"]:
        yield f"{len(backfills)} backfills for {wanted} days"
    if running := [each["status"] for each in backfills if each["status"] in ("Running", "Starting")]:
        yield f"{len(running)} backfills still run"
    if going := ground.posthog.stats()["calculations"]["running"]:
        yield f"{going} queries still run"


def _left(ground: Ground) -> Iterator[str]:
    parts = [str(path.relative_to(ground.folder)) for path in ground.folder.rglob("*.part*")]
    if parts:
        yield f"part files: {', '.join(parts[:5])}"
    names = [
        row[0] for row in ground.warehouse.rows("SELECT tablename FROM pg_tables WHERE tablename LIKE '%\\_\\_load%'")
    ]
    if names:
        yield f"tables of loads that have ended: {', '.join(names[:5])}"


def _leaks(ground: Ground, home: Path) -> Iterator[str]:
    canaries = {
        "the key": ground.posthog.api_key,
        "the salt": SALT,
        "an e-mail address": EMAIL,
        "a distinct id": CANARY,
    }
    for path in _logs(home):
        held = path.read_bytes()
        for name, secret in canaries.items():
            if secret.encode() in held:
                yield f"{name} is in {path.relative_to(home)}"


def _logs(home: Path) -> Iterable[Path]:
    return [path for path in [*home.glob("*.log"), *(home / "logs").rglob("*")] if path.is_file()]
