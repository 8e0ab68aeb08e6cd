"""Where a task runs: an emulator with canaries in it, a folder, and databases; and what is counted there afterwards."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from tests.operators.test_scopes import Place

SALT = "ca9a5a1700d157a79031e1c40f85931829bc5fc5528f3c1e0a7d24b6a90e5f4d"
EMAIL = "canary.mail@example.org"
PERSON = "canary-person"
_NUMBERS = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|[0-9a-f]{8,}|\d+")
#: What a call that changes something is counted by: the list that shows it, and what of each item counts.
_LISTS: dict[str, tuple[str, tuple[str, ...]]] = {
    r"/exports/$": ("exports/", ("export_format",)),
    r"/annotations/": ("annotations/", ("content",)),
    r"/cohorts/": ("cohorts/", ("name", "count")),
    r"/warehouse_tables/": ("warehouse_tables/", ("name",)),
    r"/backfills/$": ("batch_exports/{lake}/backfills/", ("status",)),
    r"/retry/$": ("batch_exports/{lake}/runs/", ("status",)),
    r"/pause/$": ("batch_exports/", ("name", "paused")),
    r"/unpause/$": ("batch_exports/", ("name", "paused")),
    r"/reload/$": ("external_data_sources/{source}/jobs/", ("status",)),
    r"/warehouse_saved_queries/.*/run/$": ("warehouse_saved_queries/{view}/run_history/", ("status",)),
    r"/feature_flags/": ("feature_flags/", ("key", "active")),
    r"/file_download_batch_exports/$": ("file_download_batch_exports/", ("status",)),
}
#: What is counted by a query.
_QUERIES = {
    r"/i/v1/": "SELECT count(DISTINCT uuid) FROM events WHERE event IN ('loaded', 'order')",
    r"/persons/": f"SELECT count() FROM persons WHERE properties.email = '{EMAIL}'",
}


@dataclass
class FaultyPlace(Place):
    """As :class:`~tests.operators.test_scopes.Place`, with canaries where others have somebody."""

    def person(self) -> tuple[str, str]:
        name = f"{PERSON}-{next(self.numbers)}"
        return self.posthog.add_persons([{"distinct_ids": [name], "properties": {"email": EMAIL}}])[0], name

    # The books.

    def books(self, changed: list[str]) -> dict[str, Any]:
        """Count everything that a task may leave: files, rows of tables, and what it began in PostHog.

        :param changed: the paths of the calls with which it changes something.
        """
        found: dict[str, Any] = {"files": self.files(), "tables": self.tables()}
        for pattern, (path, fields) in _LISTS.items():
            if any(re.search(pattern, each) for each in changed):
                found[path] = self._listed(path, fields)
        for pattern, query in _QUERIES.items():
            if any(re.search(pattern, each) for each in changed):
                found[query] = self.api.query(query).json()["results"]
        return found

    def files(self) -> dict[str, int]:
        """Return how many rows the files of each name have, numbers in names aside."""
        found: Counter[str] = Counter()
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.name.endswith((".db", ".db-journal")):
                name = _NUMBERS.sub("#", str(path.relative_to(self.folder)))
                found[name] += _rows(path)
        return dict(found)

    def holding(self, secret: str) -> list[str]:
        """Return the names of the files that hold a text."""
        return [path.name for path in self.folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]

    def tables(self) -> dict[str, int]:
        """Return how many rows each table has."""
        found = {}
        for path in sorted(self.folder.glob("*.db")):
            with closing(sqlite3.connect(path)) as connection:
                names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
                for name in names:
                    found[f"{path.stem}.{name}"] = connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
        return found

    def _listed(self, path: str, fields: tuple[str, ...]) -> list[tuple[Any, ...]]:
        for name, kind in (("lake", "batch_exports/"), ("source", "external_data_sources/")):
            if f"{{{name}}}" in path:
                path = path.replace(f"{{{name}}}", str(self.api.get(kind).json()["results"][0]["id"]))
        if "{view}" in path:
            path = path.replace("{view}", str(self.api.get("warehouse_saved_queries/").json()["results"][0]["id"]))
        answer = self.api.get(path)
        assert answer.status_code == 200, (path, answer.status_code)
        items = answer.json()
        rows = items if isinstance(items, list) else items.get("results") or items.get("run_history") or []
        return sorted((tuple(_plain(row.get(name)) for name in fields) for row in rows), key=repr)


def _plain(value: Any) -> Any:
    return _NUMBERS.sub("#", value) if isinstance(value, str) else value


def _rows(path: Path) -> int:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        with suppress(Exception):
            return int(pyarrow.parquet.read_metadata(path).num_rows)
        return -1
    if path.suffix in (".csv", ".jsonl", ".json"):
        return path.read_bytes().count(b"\n")
    return 1


def prepare(place: FaultyPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reset the emulator, make jobs quick, and lay the connections of tasks."""
    posthog = place.posthog
    posthog.reset()
    quick = ("export", "batch_run", "warehouse_job", "async", "file_download", "file_listing")
    posthog.settings(
        **{f"{name}_seconds": 0.02 for name in quick}, backfill_hidden_seconds=0.02, batch_jitter_seconds=0
    )
    monkeypatch.setattr(system_poll, "_missing", {})
    monkeypatch.setenv("AIRFLOW_CONN_EVERYTHING", posthog.airflow_connection_json())
    for name in ("shop", "lake"):
        described = {"conn_type": "sqlite", "host": str(place.folder / f"{name}.db")}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(described))
    with closing(sqlite3.connect(place.folder / "lake.db")) as connection, connection:
        connection.execute("CREATE TABLE events (distinct_id TEXT, person_id TEXT)")
    bucket = {"conn_type": "aws", "login": "AKIA", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_BUCKET", json.dumps(bucket))
