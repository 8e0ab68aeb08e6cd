"""Loads into PostHog that are tried again, and arguments as templates and mistakes make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.emulator.project import EmulatorProject
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogLoadError, PostHogSettingsError
from airflow_provider_posthog.tasks import into_posthog
from tests.operators.support import connect, context, run_trigger, task_deferred
from tests.transfers.test_into_posthog import AT, Shop, connected, from_files, ledgers, shop, task, there

__all__ = ["connected", "ledgers", "shop"]


def test_a_retry_sends_what_was_dropped_or_refused_before(
    connected: EmulatorProcess, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_posthog.capture.load.MOST_EVENTS", 4)
    connected.settings(capture_quota=12)
    shop.run("INSERT INTO orders VALUES (100, 'guest', ?, 1)", (AT.isoformat(),))
    with pytest.raises(PostHogIncompleteError, match="8 billing_limit_exceeded, 1 invalid_distinct_id"):
        task().execute(context())
    connected.settings(capture_quota=None)
    shop.run("UPDATE orders SET customer = 'c100' WHERE id = 100")
    found = task().execute(context(try_number=2))
    assert (found["rows"], found["sent"], found["sent_before"], found["kept"]) == (21, 9, 12, 21)
    assert there() == [21, 21]


def test_a_try_begins_anew_where_the_notes_of_the_one_before_are_broken(
    connected: EmulatorProcess, shop: Shop, ledgers: Path
) -> None:
    connected.settings(capture="lost")
    with pytest.raises(PostHogIncompleteError):
        task().execute(context())
    connected.settings(capture="stored")
    for path in ledgers.rglob("*.ledger*"):
        path.write_bytes(b"a disk that was full")
    assert task().execute(context(try_number=2))["kept"] == 20


def test_what_is_missing_is_named_by_its_key_on_whatever_machine_the_wait_ends(
    connected: EmulatorProcess, shop: Shop, ledgers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(into_posthog, "WORTH", 0.0)
    connected.settings(capture="lost")
    path = tmp_path / "rejects.jsonl"
    waits = {"quiet_period": 0.1, "timeout": 0, "deferrable": True, "rejects_path": str(path)}

    def go(event: Any) -> Any:
        made = task(**waits)
        with pytest.raises(task_deferred()) as deferred:
            made.execute(context()) if event is None else made.execute_complete(context(), event)
        for noted in ledgers.rglob("*.ledger*"):
            noted.unlink()
        return run_trigger(deferred.value.trigger)

    with pytest.raises(PostHogIncompleteError, match="20 not_there"):
        task(**waits).execute_complete(context(), go(go(None)))
    assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == [{"id": n} for n in range(20)]
    assert len(connected.calls("/i/v1/")) == 2


@pytest.mark.parametrize(("said", "kept"), [("False", 0), ("false", 0), (False, 0), ("True", 20), (True, 20)])
def test_a_template_may_say_whether_events_are_a_migration(
    connected: EmulatorProcess, shop: Shop, said: Any, kept: int
) -> None:
    connected.settings(historical_only=True)
    found = task(historical_migration=said, max_rejects=99).execute(context())
    assert found["kept"] == kept


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_rejects": "many"}, "max_rejects"),
        ({"max_rejects": None}, "max_rejects"),
        ({"max_rejects": 1.5}, "max_rejects"),
        ({"max_rejects": True}, "max_rejects"),
        ({"historical_migration": "perhaps"}, "historical_migration"),
        ({"historical_migration": True, "oldest_first": "maybe"}, "oldest_first"),
        ({"key": None}, "key"),
        ({"key": [1]}, "key"),
        ({"key": {"id": 1}}, "key"),
        ({"distinct_id": None}, "distinct_id"),
        ({"properties": "total"}, "properties"),
        ({"properties": {"$set": "total"}}, "properties"),
        ({"event": ["order"]}, "event"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, shop: Shop, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        task(**options).execute(context())
    assert caught.value.field == field
    assert not connected.calls("/i/v1/")


def groups(connected: EmulatorProcess, group_type: str) -> dict[str, Any]:
    options = {"event": None, "timestamp": None, "key": (), "properties": ["total"], "group_type": group_type}
    return task(kind="groups", **options).execute(context())


def test_a_sixth_type_of_groups_is_refused_for_posthog_would_keep_none_of_it(
    connected: EmulatorProcess, shop: Shop
) -> None:
    types = [{"group_type": name, "group_type_index": index} for index, name in enumerate("abcd")]
    five = [*types, {"group_type": "company", "group_type_index": 4}]
    connected.faults(path="*/groups_types/", status=200, body=five, count=-1)
    with pytest.raises(PostHogSettingsError, match="has its 5 types already") as caught:
        groups(connected, "supplier")
    assert caught.value.field == "group_type"
    assert not connected.calls("/i/v1/")
    assert groups(connected, "company")["kept"] == 20


def test_a_key_that_may_not_see_the_types_of_groups_is_enough(connected: EmulatorProcess, shop: Shop) -> None:
    connected.faults(path="*/groups_types/", status=403, body={"detail": "No."}, count=-1)
    assert groups(connected, "company")["kept"] == 20


def test_events_go_to_no_project_but_the_task_s(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    other = EmulatorProject(connected)
    found = task(project_id=other.project_id).execute(context())
    assert found["kept"] == 20, "the connection's token is of the connection's project"
    assert there() == [0, 0]
    connect(monkeypatch, connected, project_token=other.project_token)
    with pytest.raises(PostHogSettingsError, match="is not the token of project") as caught:
        task().execute(context())
    assert caught.value.field == "project_token"
    assert other.project_token not in str(caught.value)
    connected.faults(path=f"/api/projects/{connected.project_id}/", status=403, body={"detail": "No."}, count=-1)
    connect(monkeypatch, connected, project_token=connected.project_token)
    assert task().execute(context(run_id="other"))["kept"] == 20


def test_a_statement_that_breaks_off_late_is_not_quoted(
    connected: EmulatorProcess, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_posthog.hooks.sql_rows.ROWS", 5)
    late = "SELECT *, CASE WHEN id > 12 THEN json('ann@example.com' || id) END AS more FROM orders"
    with pytest.raises(PostHogLoadError, match="broke off the statement of sql") as caught:
        task(sql=late).execute(context())
    assert "ann@" not in str(caught.value)
    assert caught.value.__cause__ is None
    found = task().execute(context(try_number=2))
    assert found["kept"] == 20


def test_a_folder_among_the_files_is_passed_over(connected: EmulatorProcess, tmp_path: Path) -> None:
    line = '{"id": 1, "customer": "c1", "placed_at": "2026-11-01T12:00:00Z"}'
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "part-0").write_text(line)
    (tmp_path / "lake" / "part-1").mkdir()
    found = from_files(f"{tmp_path}/lake/part-*", format="jsonl").execute(context())
    assert (found["kept"], found["files"]) == (1, 1)


def test_an_empty_source_is_a_load_of_nothing(connected: EmulatorProcess, shop: Shop, tmp_path: Path) -> None:
    found = task(sql="SELECT * FROM orders WHERE id < 0").execute(context())
    assert (found["rows"], found["sent"], found["kept"], found["rejected"]) == (0, 0, 0, {})
    (tmp_path / "empty.csv").write_text("")
    assert from_files(str(tmp_path / "empty.csv"), format="csv").execute(context())["rows"] == 0
