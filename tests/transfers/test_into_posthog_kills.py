"""A load into PostHog that is killed again and again: every event is there, once."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.transfers.sql_to_posthog import PostHogFromSqlOperator
from tests.operators.support import connect
from tests.transfers.killing import Tries

pytestmark = pytest.mark.reliability

AT = datetime(2026, 11, 1, tzinfo=timezone.utc)
ROWS = 10_000


def test_five_kills_leave_every_event_there_once(
    posthog: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE orders (id INTEGER, customer TEXT, placed_at TEXT)")
        made = ((n, f"c{n % 500}", (AT + timedelta(seconds=n)).isoformat()) for n in range(ROWS))
        connection.executemany("INSERT INTO orders VALUES (?, ?, ?)", made)
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    connect(monkeypatch, posthog, project_token=posthog.project_token)
    options = {
        "sql_conn_id": "shop",
        "sql": "SELECT * FROM orders ORDER BY id",
        "event": "order",
        "distinct_id": "customer",
        "timestamp": "placed_at",
        "key": ["id"],
        "quiet_period": 0,
    }
    posthog.faults(path="/i/v1/*", delay=0.2, count=-1)
    connection_text = posthog.airflow_connection_json(project_token=posthog.project_token)
    with Tries(PostHogFromSqlOperator, connection_text, tmp_path) as tries:
        found = tries.kill_often(options, 1.5, 5, lambda: None)
    assert (found["rows"], found["kept"], found["rejected"]) == (ROWS, ROWS, {})
    assert found["sent"] + found["sent_before"] == ROWS
    assert PostHogHook().get_records("SELECT count(), count(DISTINCT uuid) FROM events WHERE event = 'order'") == [
        [ROWS, ROWS]
    ]
