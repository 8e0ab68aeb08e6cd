"""A picture, or a table, of what was refreshed: it shows those numbers or newer ones, or there is no file."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator
from airflow_provider_posthog.tasks.refresh_shown import Refreshed
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator
from tests.operators.support import connected, context, export_operator
from tests.support.scripted import Reply, ScriptedServer, ok

__all__ = ["connected"]

TREND = 2
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(60)
NOW = datetime(2026, 11, 29, 6, tzinfo=timezone.utc)


def export(**what: Any) -> dict[str, Any]:
    made: dict[str, Any] = export_operator(**{"export_format": "image/png", **what}).execute({})
    return made


def fetch(made: dict[str, Any], refreshed: Any, path: Path) -> dict[str, Any]:
    options = {"task_id": "task", "export_id": made, "path": f"file://{path}", "refreshed": refreshed}
    found: dict[str, Any] = PostHogExportToObjectStorageOperator(**options).execute(context())
    return found


def shown(picture: Path) -> dict[int, datetime]:
    """When what a picture of the emulator shows was calculated: it says so in its description."""
    data = picture.read_bytes()
    start = data.index(b"tEXtDescription\0") + 16
    text = data[start : start + int.from_bytes(data[start - 20 : start - 16], "big") - 12].decode()
    pairs = (each.split(" ", 1) for each in text.split("; "))
    return {int(number): datetime.fromisoformat(at.replace("Z", "+00:00")) for number, at in pairs}


@pytest.mark.parametrize("kind", ["dashboard", "insight", "insight on a dashboard"])
def test_a_picture_shows_what_was_refreshed_or_newer(connected: EmulatorProcess, tmp_path: Path, kind: str) -> None:
    target: dict[str, Any] = {"dashboard": 1} if kind == "dashboard" else {"insight": TREND}
    more = {"from_dashboard": 1} if kind == "insight on a dashboard" else {}
    refresh: Any = PostHogRefreshDashboardOperator if kind == "dashboard" else PostHogRefreshInsightOperator
    done = refresh(task_id="refresh", poll_interval=0.1, **target, **more).execute(context())
    made = export(**target, **({"dashboard": 1} if more else {}))
    found = fetch(made, done, tmp_path / "board.png")
    seen = shown(tmp_path / "board.png")
    refreshed = {each["id"]: each["last_refresh"] for each in done.get("insights", [done])}
    assert seen.keys() == refreshed.keys()
    assert all(seen[number] >= Refreshed.parse(done).times[number] for number in seen)
    assert found["shows"]["recalculated"] == len(seen)
    assert datetime.fromisoformat(found["shows"]["last_refresh"]) <= max(seen.values())
    assert json.loads(json.dumps(found)) == found


def test_an_export_from_before_the_refresh_becomes_no_file(connected: EmulatorProcess, tmp_path: Path) -> None:
    made = export(dashboard=1)
    connected.advance(60)
    done = PostHogRefreshDashboardOperator(task_id="refresh", dashboard=1).execute(context())
    with pytest.raises(PostHogIncompleteError, match="upstream"):
        fetch(made, done, tmp_path / "board.png")
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_the_bare_insight_is_calculated_behind_the_refresh(
    connected: EmulatorProcess, tmp_path: Path
) -> None:
    done = PostHogRefreshInsightOperator(task_id="refresh", insight=TREND).execute(context())
    found = fetch(export(insight=TREND, export_format="text/csv"), done, tmp_path / "trend.csv")
    assert found["rows"] == 1
    connected.advance(60)
    later = PostHogRefreshInsightOperator(task_id="refresh", insight=TREND).execute(context())
    with pytest.raises(PostHogIncompleteError, match="older"):
        fetch(export(insight=TREND, export_format="text/csv"), {**later, "last_refresh": "2126-01-01"}, tmp_path / "b")


@pytest.mark.parametrize(
    ("output", "made"),
    [
        ({"dashboard_id": 2, "insights": [{"id": 7, "last_refresh": str(NOW)}]}, {"dashboard": 1}),
        ({"dashboard_id": None, "id": 7, "last_refresh": str(NOW)}, {"insight": 8}),
        ({"dashboard_id": 1, "id": 7, "last_refresh": str(NOW)}, {"insight": 7}),  # the bare insight
        ({"dashboard_id": None, "id": 7, "last_refresh": str(NOW)}, {"insight": 7, "dashboard": 1}),
        ({"dashboard_id": 1, "id": 7, "last_refresh": str(NOW)}, {"insight": 7, "export_format": "text/csv"}),
    ],
)
def test_an_export_of_something_else_is_refused(output: Any, made: Any) -> None:
    export = {"export_format": "image/png", "created_at": "2026-11-29T07:00:00Z", **made}
    with pytest.raises(PostHogSettingsError) as refused:
        Refreshed.parse(output).check(export)
    assert refused.value.field == "refreshed"


@pytest.mark.parametrize("output", ["text", [], None, {}, {"id": 7}, {"insights": []}, {"insights": [1]}, 7])
def test_what_no_refresh_returned_is_refused(output: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        Refreshed.parse(output)
    assert refused.value.field == "refreshed"


def _tile(number: int, seconds: float | None, **fields: Any) -> dict[str, Any]:
    at = None if seconds is None else (NOW + timedelta(seconds=seconds)).isoformat()
    return {"id": number, "insight": {"id": number, "result": [1], "last_refresh": at, "query_status": None, **fields}}


FAILED = {"id": "", "complete": False, "error": True, "error_message": "no such column", "error_code": None}
#: The picture's export was created a minute behind the refresh.
TILES: dict[str, tuple[list[dict[str, Any]], str | None]] = {
    "calculated again": ([_tile(7, 70), _tile(8, 75)], None),
    "as refreshed": ([_tile(7, 0), _tile(8, 0)], None),
    "older": ([_tile(7, 70), _tile(8, -1)], "insight 8"),
    "no result": ([_tile(7, 70), _tile(8, None)], "insight 8"),
    "failed": ([_tile(7, 70), _tile(8, 75, query_status=FAILED)], "no such column"),
    "not there": ([_tile(7, 70)], "insight 8"),
    "an error of a tile": ([_tile(7, 70), {**_tile(8, 75), "error": {"type": "x"}}], "insight 8"),
    "one of two": ([_tile(7, 70), _tile(8, 0)], "1 of 2"),
}


@pytest.mark.parametrize("case", TILES)
def test_what_posthog_has_behind_the_picture_decides(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: str
) -> None:
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43}
    monkeypatch.setenv(
        "AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps({**connection, "extra": {"project_id": 1, "rate_limit_share": 0}})
    )
    tiles, wrong = TILES[case]
    created = (NOW + timedelta(seconds=60)).isoformat()
    made = {"id": 5, "dashboard": 3, "insight": None, "export_format": "image/png", "has_content": True}
    content = Reply(200, {"Content-Type": "image/png"}, PICTURE)
    server.script(ok({**made, "created_at": created, "filename": "x.png"}), content, ok({"id": 3, "tiles": tiles}))
    output = {"dashboard_id": 3, "insights": [{"id": number, "last_refresh": str(NOW)} for number in (7, 8)]}
    if wrong is None:
        assert fetch({"id": 5}, output, tmp_path / "x.png")["shows"]["recalculated"] in (0, 2)
    else:
        with pytest.raises(PostHogError, match=wrong):
            fetch({"id": 5}, output, tmp_path / "x.png")
        assert list(tmp_path.iterdir()) == []
