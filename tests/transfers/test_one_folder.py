"""Several tasks and projects that write into one folder: none takes another's rows away silently."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError
from tests.operators.support import context
from tests.transfers.test_query_to_object_storage import day, everything, operator, table_of


def test_two_tasks_of_a_run_with_one_name(connection: EmulatorProcess, tmp_path: Path) -> None:
    """As a task that is mapped over names of events, all of which are called ``events``."""
    first = operator(tmp_path, events="$pageview").execute(context(map_index=0))
    with pytest.raises(PostHogSettingsError, match="the task 'task' of this run has written events_") as refused:
        operator(tmp_path, events="purchase").execute(context(map_index=1))
    assert refused.value.field == "name"
    assert set(table_of(tmp_path)["event"].to_pylist()) == {"$pageview"}
    other = operator(tmp_path, events="purchase", name="purchases").execute(context(map_index=1))
    assert table_of(tmp_path).num_rows == first["rows"] + other["rows"]
    written = json.loads(Path(other["manifest"]).read_text())["written_by"]
    assert (written["dag_id"], written["task_id"], written["map_index"]) == ("dag", "task", 1)


def test_two_iterations_of_a_loop_with_one_name(connection: EmulatorProcess, tmp_path: Path) -> None:
    """On Airflow 3.4: they have one task and one map index."""

    def iteration(index: int, try_number: int = 1) -> dict[str, Any]:
        return {**context(try_number=try_number), "loop": SimpleNamespace(index=index)}

    operator(tmp_path, events="$pageview").execute(iteration(0))
    with pytest.raises(PostHogSettingsError, match="of this run has written events_"):
        operator(tmp_path, events="purchase").execute(iteration(1))
    operator(tmp_path, events="$pageview").execute(iteration(0, 2))
    assert set(table_of(tmp_path)["event"].to_pylist()) == {"$pageview"}


@pytest.mark.parametrize(
    ("options", "ctx"),
    [
        ({"events": "purchase", "allow_shrink": True}, {}),  # the same task, changed and cleared
        ({}, {"map_index": 1}),  # another one that asks for the same
        ({"events": "purchase", "allow_shrink": True}, {"map_index": 1, "run_id": "a later one"}),
    ],
)
def test_who_may_replace(
    connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any], ctx: dict[str, Any]
) -> None:
    operator(tmp_path).execute(context())
    found = operator(tmp_path, **options).execute(context(**ctx))
    assert found["rows"] == table_of(tmp_path).num_rows
    assert len(everything(tmp_path)) == 2


def test_look_back_of_mapped_tasks(connection: EmulatorProcess, tmp_path: Path) -> None:
    """The second one reads the first one's interval again, which the first one has asked for."""
    for index, ago in enumerate((4, 3)):
        span = {"start": day(ago), "end": day(ago - 1), "time_column": "timestamp", "look_back": timedelta(days=2)}
        found = operator(tmp_path, **span).execute(context(map_index=index))
        assert found["again"] == index
    assert table_of(tmp_path).num_rows == connection.count_events(day(4), day(2))


def test_another_project(connection: EmulatorProcess, tmp_path: Path) -> None:
    found = operator(tmp_path).execute(context())
    path = Path(found["manifest"])
    manifest = {**json.loads(path.read_text()), "project_id": 77}
    path.write_text(json.dumps(manifest))
    before = path.read_bytes()
    with pytest.raises(PostHogSettingsError, match=f"of project 77, not of {connection.project_id}") as refused:
        operator(tmp_path).execute(context(run_id="next"))
    assert refused.value.field == "path"
    assert path.read_bytes() == before
    del manifest["project_id"], manifest["written_by"]  # of an older version
    path.write_text(json.dumps(manifest))
    assert operator(tmp_path).execute(context(run_id="next"))["rows"] == found["rows"]


def test_a_broken_manifest_is_found_before_anything_is_read(connection: EmulatorProcess, tmp_path: Path) -> None:
    path = Path(operator(tmp_path).execute(context())["manifest"])
    path.write_text("{")
    asked = len(connection.calls("/query/", "POST"))
    with pytest.raises(PostHogError, match="is not a manifest"):
        operator(tmp_path).execute(context(run_id="next"))
    assert len(connection.calls("/query/", "POST")) == asked


def test_what_a_newer_version_has_left_unfinished(connection: EmulatorProcess, tmp_path: Path) -> None:
    """It may have moved files to their places, of which only that version knows."""
    found = operator(tmp_path).execute(context())
    folder = tmp_path / ".posthog" / Path(found["manifest"]).stem
    folder.mkdir()
    (folder / "progress.json").write_text('{"version": 2}')
    with pytest.raises(PostHogError, match="another version of the provider"):
        operator(tmp_path).execute(context(run_id="next"))
    for broken in ("{", "[]", '{"version": 1}', "null"):
        (folder / "progress.json").write_text(broken)
        operator(tmp_path).execute(context(run_id=f"next {broken}"))
        assert len(everything(tmp_path)) == 2
        folder.mkdir(exist_ok=True)
