"""Which rows are not in PostHog stands in a table; and a migration is sent oldest first, or not at all."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.transfers.object_storage_to_posthog import PostHogFromObjectStorageOperator
from tests.operators.support import context
from tests.transfers.test_into_posthog import AT_ONCE, EVENTS, Shop, connected, ledgers, shop, task, there

__all__ = ["connected", "ledgers", "shop"]
TABLE: dict[str, Any] = {"rejects_table": "rejects"}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "lake.db")}))
    return tmp_path / "lake.db"


def rejects(path: Path, what: str = "row, reason, key, uuid", where: str = "1 = 1") -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(f"SELECT {what} FROM rejects WHERE {where} ORDER BY row").fetchall()


def sent(posthog: EmulatorProcess) -> int:
    routes = posthog.stats()["routes"]
    return sum(count for route, count in routes.items() if route.startswith("POST /i/v1/") or "POST /batch/" in route)


def test_rows_that_are_refused_stand_in_a_table_of_the_source_s_database(
    connected: EmulatorProcess, shop: Shop
) -> None:
    shop.run("INSERT INTO orders VALUES (98, '', '2026-11-01T12:00:00Z', 1), (99, 'guest', '2026-11-01T12:00:00Z', 1)")
    with pytest.raises(PostHogIncompleteError, match=r"The table rejects names each\."):
        task(**TABLE).execute(context())
    found = rejects(shop.path)
    assert [(row, reason) for row, reason, _, _ in found] == [
        (21, "missing_distinct_id"),
        (22, "invalid_distinct_id"),
    ]
    assert [json.loads(key) for _, _, key, _ in found] == [{"id": 98}, {"id": 99}]
    assert {found[0] for found in rejects(shop.path, "task || ' ' || run")} == {"dag.task manual__1"}


def test_a_retry_replaces_the_rows_of_its_run_and_no_others(connected: EmulatorProcess, shop: Shop, lake: Path) -> None:
    shop.run("INSERT INTO orders VALUES (98, '', '2026-11-01T12:00:00Z', 1)")
    options = {**TABLE, "rejects_sql_conn_id": "lake", "max_rejects": 1}
    for run, number in (("a", 1), ("b", 1), ("b", 2)):
        task(**options).execute(context(run_id=run, try_number=number))
    assert rejects(lake, "run") == [("a",), ("b",)]
    shop.run("DELETE FROM orders WHERE id = 98")
    task(**options).execute(context(run_id="b", try_number=3))
    assert rejects(lake, "run") == [("a",)]


def test_dropped_and_lost_events_stand_in_it_with_their_uuid(connected: EmulatorProcess, shop: Shop) -> None:
    connected.settings(restricted_events=["order"])
    with pytest.raises(PostHogIncompleteError):
        task(**TABLE).execute(context())
    found = rejects(shop.path, "reason, uuid")
    assert {reason for reason, _ in found} == {"event_restriction_drop"}
    assert len({uuid for _, uuid in found}) == 20
    connected.reset()
    connected.settings(capture="lost")
    with pytest.raises(PostHogIncompleteError):
        task(**TABLE).execute(context(run_id="other"))
    lost = rejects(shop.path, "reason", "run = 'other'")
    assert lost == [("not_there",)] * 20


def test_a_file_and_a_table_may_both_name_them(connected: EmulatorProcess, shop: Shop, tmp_path: Path) -> None:
    shop.run("INSERT INTO orders VALUES (98, '', '2026-11-01T12:00:00Z', 1)")
    task(**TABLE, rejects_path=str(tmp_path / "rejects.jsonl"), max_rejects=1).execute(context())
    line = json.loads((tmp_path / "rejects.jsonl").read_text())
    ((row, reason, key, _),) = rejects(shop.path)
    assert (line["row"], line["reason"], line["key"]) == (row, reason, json.loads(key))


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    folder = tmp_path / "orders"
    folder.mkdir()
    return folder


def files(folder: Path, **options: Any) -> PostHogFromObjectStorageOperator:
    given = {"path": f"{folder}/*.jsonl", "format": "jsonl", **EVENTS, **AT_ONCE, **options}
    return PostHogFromObjectStorageOperator(task_id="task", **given)


def line(number: int, day: int) -> str:
    return json.dumps({"id": number, "customer": f"c{number}", "placed_at": f"2026-11-{day:02}T12:00:00Z"}) + "\n"


def test_files_have_their_rejects_in_a_table_whose_connection_is_named(
    connected: EmulatorProcess, orders: Path, lake: Path
) -> None:
    (orders / "a.jsonl").write_text(line(1, 1) + "no json\n")
    with pytest.raises(PostHogSettingsError) as caught:
        files(orders, **TABLE).execute(context())
    assert caught.value.field == "rejects_sql_conn_id"
    files(orders, **TABLE, rejects_sql_conn_id="lake", max_rejects=1).execute(context())
    assert rejects(lake, "row, reason, key") == [(2, "not_json", None)]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rejects_sql_conn_id": "shop"}, "rejects_table"),
        ({"rejects_table": "a; DROP TABLE b"}, "table"),
        ({"rejects_table": " "}, "rejects_table"),
    ],
)
def test_a_table_that_cannot_be_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, shop: Shop, options: dict[str, Any], error: str
) -> None:
    with pytest.raises(PostHogSettingsError, match=error):
        task(**options).execute(context())
    assert not sent(connected)


def test_a_database_that_takes_no_table_is_found_out_before_anything_is_sent(
    connected: EmulatorProcess, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = {"conn_type": "sqlite", "host": str(tmp_path / "no" / "such" / "folder.db")}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps(nowhere))
    with pytest.raises(sqlite3.OperationalError):
        task(**TABLE, rejects_sql_conn_id="lake").execute(context())
    assert not sent(connected)


# -- oldest first ------------------------------------------------------------------------------------------------


def test_a_migration_whose_rows_are_not_in_order_sends_nothing(connected: EmulatorProcess, shop: Shop) -> None:
    shop.run("INSERT INTO orders VALUES (77, 'c', '2026-10-01T12:00:00Z', 1)")
    with pytest.raises(PostHogSettingsError, match="gives row 21 of an earlier day") as caught:
        task(historical_migration=True).execute(context())
    assert caught.value.field == "sql"
    assert not sent(connected)
    ordered = task(historical_migration=True, sql="SELECT * FROM orders ORDER BY placed_at")
    assert ordered.execute(context())["kept"] == 21


def test_the_user_may_send_them_as_they_come(
    connected: EmulatorProcess, shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.run("INSERT INTO orders VALUES (77, 'c', '2026-10-01T12:00:00Z', 1)")
    assert task(historical_migration=True, oldest_first=False).execute(context())["kept"] == 21
    assert there() == [21, 21]


def test_what_is_no_migration_may_come_in_any_order(connected: EmulatorProcess, shop: Shop) -> None:
    shop.run("INSERT INTO orders VALUES (77, 'c', '2026-10-01T12:00:00Z', 1)")
    assert task().execute(context())["kept"] == 21


def test_files_of_a_migration_are_in_order_by_their_names(connected: EmulatorProcess, orders: Path) -> None:
    (orders / "2026-11-02.jsonl").write_text(line(2, 2))
    (orders / "2026-11-01.jsonl").write_text(line(1, 1))
    assert files(orders, historical_migration=True).execute(context())["kept"] == 2
    (orders / "2026-11-03.jsonl").write_text(line(3, 1))
    with pytest.raises(PostHogSettingsError, match="gives row 3 of an earlier day") as caught:
        files(orders, historical_migration=True).execute(context(run_id="other"))
    assert caught.value.field == "path"


def test_rows_that_posthog_would_not_take_have_no_place_in_the_order(connected: EmulatorProcess, shop: Shop) -> None:
    shop.run("INSERT INTO orders VALUES (77, '', '2026-10-01T12:00:00Z', 1)")
    assert task(historical_migration=True, max_rejects=1).execute(context())["kept"] == 20
