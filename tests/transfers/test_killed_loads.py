"""Loads into databases that are killed at random points, again and again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from tests.load.databases import Database, DuckDB, postgres_database
from tests.transfers.killing import Tries

pytestmark = pytest.mark.reliability

KILLS = 20
MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
START, END = (MIDNIGHT - timedelta(days=ago) for ago in (4, 3))


@pytest.fixture(params=["postgres", "duckdb"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Each database in turn, behind the Airflow connection ``warehouse``."""
    if request.param == "duckdb":
        lake = DuckDB(tmp_path / "lake.duckdb")
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", lake.airflow_connection())
        yield lake
        return
    with postgres_database() as postgres:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgres.airflow_connection())
        yield postgres


def test_twenty_kills_at_random_points_end_with_every_row_once(
    connection: EmulatorProcess, warehouse: Database, tmp_path: Path
) -> None:
    """Each leaves the rows of before or those of now, and nothing between."""
    options = {
        "sql_conn_id": "warehouse", "table": "events", "source": "events", "page_rows": 200,
        "start": START.isoformat(), "end": END.isoformat(),
    }  # fmt: skip
    with Tries(PostHogToSqlOperator, connection.airflow_connection_json(read_timeout=10), tmp_path) as tries:
        first = tries.run(options)
        assert first is not None
        began = time.monotonic()
        tries.run(options)
        took = time.monotonic() - began
        before = first["rows"]
        name = f"late {uuid4()}"  # the emulator keeps what other tests add
        late = {"event": name, "timestamp": START.isoformat(), "created_at": START.isoformat()}
        connection.add_events(
            [
                {**late, "uuid": str(uuid4()), "distinct_id": "jane", "person_id": str(uuid4()), "properties": {}}
                for _ in range(7)
            ]
        )

        def check() -> None:
            rows = warehouse.count()
            assert rows in (before, before + 7)
            assert warehouse.count(where=f"event = '{name}'") == rows - before

        last = tries.kill_often(options, took, KILLS, check)
    assert last["rows"] == before + 7 == warehouse.count() == len(set(warehouse.uuids())) > 400
