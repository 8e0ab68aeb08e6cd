"""Every example that has no story of its own runs on real Airflow, and does what its first line says.

They share one emulator, which is put right only where a story needs it: each takes a second or two.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import pyarrow.parquet as parquet
import pytest
from airflow.triggers import base

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from demo.shop import CUSTOMERS, furnish
from tests.emulator.client import Client
from tests.erasure.support import Lab, Weekend, tidy
from tests.load.databases import DuckDB, SQLite
from tests.operators.support import connect, context, task_states, when, xcoms

SPACE = UUID("932979b4-65c3-4424-8467-0b66ec27bc22")  # PostHog's, for the persons of distinct ids
SALT = "5b0e7c41a9d84f2e86c3b7f0d1a2e394"
TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
#: What is quick with a server on this machine.
HURRY: dict[str, Any] = {
    "retries": 0,
    "poll_interval": 0.1,
    "quiet_period": 0,
    "settle": timedelta(0),
    "failure_grace": 0,
}
HURRY |= {"poke_interval": 0.1, "timeout": 60}
NEEDED: dict[str, dict[str, Any]] = {
    "PostHogRefreshInsightOperator": {"insight": 1},
    "PostHogQueryToObjectStorageOperator": {"source": "events", "path": "file:///tmp"},
}
NO_WATCHERS = not hasattr(base, "BaseEventTrigger")


def _taken_by(operator: type) -> set[str]:
    """Return which of :data:`HURRY` a mapped operator takes."""
    made = operator(**NEEDED[operator.__name__], task_id="task")
    return set(vars(made)) & {*HURRY}


class Place:
    """The module's emulator, a folder for all files, and a way to run an example there."""

    def __init__(self, posthog: EmulatorProcess, folder: Path, run_dag: Callable[..., Any]) -> None:
        self.posthog, self.folder, self._run = posthog, folder, run_dag
        self.api = Client(posthog.url, posthog.api_key)

    def hurry(self, **more: Any) -> None:
        """Let the emulator's jobs take no time."""
        quick = dict.fromkeys(("backfill_hidden", "batch_jitter", "file_download", "file_listing"), 0)
        quick |= dict.fromkeys(("batch_run", "warehouse_job"), 0.1)
        self.posthog.settings(**{f"{name}_seconds": value for name, value in quick.items()}, **more)

    def example(self, name: str, dag: str = "dag", **changes: Any) -> Any:
        """Import an example, as if for the first time, and let its tasks wait for less."""
        made = getattr(importlib.reload(importlib.import_module(f"dags_examples.{name}")), dag)
        for task in made.tasks:
            mapped = hasattr(task, "partial_kwargs")
            takes = _taken_by(task.operator_class) if mapped else set(vars(task))
            for field in takes & {*HURRY, *changes}:
                value = {**HURRY, **changes}[field]
                task.partial_kwargs.update({field: value}) if mapped else setattr(task, field, value)
        return made

    def run(self, dag: Any, at: datetime = TODAY, **options: Any) -> tuple[dict[str, str], dict[Any, Any]]:
        """Run it; return its tasks' states, and what each has returned, by its id and, if mapped, its index."""
        run = self._run(dag, **when(at), **options)
        returned = {(task, n): value for (task, n, key), value in xcoms(run).items() if key == "return_value"}
        return task_states(run), {task if n < 0 else (task, n): value for (task, n), value in returned.items()}

    def files(self, pattern: str) -> list[Path]:
        return [path for path in self.folder.rglob(pattern) if path.is_file()]


@pytest.fixture(scope="module")
def fresh(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def place(
    fresh: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_dag: Callable[..., Any]
) -> Place:
    tidy(fresh)
    connect(monkeypatch, fresh, audit_secret=SALT)
    monkeypatch.setenv("POSTHOG_EXAMPLE_FILES", f"file://{tmp_path}")
    monkeypatch.setattr(system_poll, "_missing", {})
    made = Place(fresh, tmp_path, run_dag)
    made.hurry()
    return made


@pytest.fixture
def duck(place: Place, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(place.folder / "warehouse.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


@pytest.fixture
def sqlite(place: Place, monkeypatch: pytest.MonkeyPatch) -> SQLite:
    database = SQLite(place.folder / "warehouse.db")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def green(states: dict[str, str]) -> bool:
    return set(states.values()) == {"success"}


def test_one_call_each(place: Place) -> None:
    states, told = place.run(place.example("one_call_each"))
    assert green(states)
    assert told["top"]["row_count"] == len(told["top"]["rows"]) > 1
    assert told["days"]["row_count"] > 10
    assert len((place.folder / "insights.jsonl").read_text().splitlines()) >= 2
    asked = {"event": "numbers were read"}
    assert PostHogHook().get_records("SELECT distinct_id FROM events WHERE event = {event} LIMIT 2", asked)


def test_insights_side_by_side(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTHOG_EXAMPLE_INSIGHTS", "1,2")
    states, told = place.run(place.example("insights_side_by_side"))
    assert green(states)
    assert len(states) == 3
    assert {told["refresh", n]["id"] for n in (0, 1)} == {1, 2}


def test_files_of_years(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    edges = [TODAY - 9 * DAY, TODAY - 6 * DAY, TODAY - 2 * DAY]
    monkeypatch.setenv("POSTHOG_EXAMPLE_EDGES", ",".join(f"{one:%Y-%m-%d}" for one in edges))
    states, told = place.run(place.example("files_of_years"))
    assert green(states)
    there = place.posthog.count_events(edges[0].isoformat(), edges[-1].isoformat())
    assert told["check"]["rows"] == there > 1000
    assert told["check"]["intervals"] == 2


def test_posthogs_own_files(place: Place) -> None:
    day = TODAY - 2 * DAY
    states, told = place.run(place.example("posthogs_own_files"), day + DAY)
    assert states == {"events": "success"}
    there = place.posthog.count_events(day.isoformat(), (day + DAY).isoformat(), "created_at")
    rows = sum(parquet.read_metadata(path).num_rows for path in place.files("*.parquet"))
    assert rows == told["events"]["rows"] == there > 100


def test_export_of_somebody_else(place: Place) -> None:
    query = "SELECT event, count() AS n FROM events GROUP BY event LIMIT 70"
    theirs = PostHogCreateExportOperator(task_id="theirs", query=query, poll_interval=0.1).execute(context())
    states, told = place.run(place.example("export_of_somebody_else"), run_conf={"export_id": theirs["id"]})
    assert states == {"ready": "success", "fetch": "success"}
    lines = (place.folder / "exports" / f"{theirs['id']}.csv").read_text().splitlines()
    assert told["fetch"]["rows"] == len(lines) - 1 > 1


def test_batch_export_care_leaves_a_good_run_alone(place: Place) -> None:
    states, told = place.run(place.example("batch_export_care"), TODAY - DAY)
    assert states == {"arrived": "success", "pause": "skipped", "again": "skipped", "go_on": "skipped"}
    assert told["arrived"]["rows"] > 100


def test_batch_export_care_repeats_a_bad_run_while_no_other_one_begins(place: Place) -> None:
    dag = place.example("batch_export_care")
    place.posthog.reset()  # no run has been made yet
    place.hurry(batch_outcome="Failed")
    paused: list[bool] = []

    def good_again(context: Any) -> None:
        paused.append(bool(place.api.get("batch_exports/").json()["results"][0]["paused"]))
        place.posthog.settings(batch_outcome="Completed")

    dag.get_task("pause").on_success_callback = [good_again]
    states, told = place.run(dag, TODAY - 3 * DAY)
    assert states == {"arrived": "failed", "pause": "success", "again": "success", "go_on": "success"}
    assert told["again"]["retried"] is True
    assert paused == [True]
    assert not place.api.get("batch_exports/").json()["results"][0]["paused"]


def test_persons_of_today(place: Place, duck: DuckDB) -> None:
    names, old = [uuid4().hex, uuid4().hex], str(uuid4())
    (person,) = place.posthog.add_persons([{"distinct_ids": names}])
    duck.run(
        "CREATE TABLE events (distinct_id VARCHAR, person_id UUID)",
        f"INSERT INTO events VALUES ('{names[0]}', '{person}'), ('{names[1]}', '{old}')",
    )
    states, told = place.run(place.example("persons_of_today"))
    assert green(states)
    assert {str(one) for (one,) in duck.rows("SELECT person_id FROM events")} == {person}
    assert told["persons"]["remapped"] == {"events": 1}
    assert told["sync"]["rows"] > 0


def test_files_to_posthog(place: Place) -> None:
    (place.folder / "orders").mkdir()
    placed = (TODAY - DAY).isoformat()
    orders = [{"id": str(uuid4()), "customer": f"c{n}", "placed_at": placed, "total": n} for n in range(7)]
    for name, some in {"a": orders[:4], "b": orders[4:]}.items():
        path = place.folder / "orders" / f"{name}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in some))
    states, told = place.run(place.example("files_to_posthog"))
    assert states == {"orders": "success"}
    assert told["orders"]["kept"] == 7


METRIC = {"uuid": "m1", "name": "sign-up", "fingerprint": "f1"}


def test_experiment_results(place: Place) -> None:
    side = {"key": "control", "number_of_samples": 9, "sum": 5, "sum_squares": 5}
    variant = {**side, "key": "test", "significant": True, "chance_to_win": 0.97, "credible_interval": [0.1, 0.4]}
    made = {"name": "Checkout", "start_date": "2026-11-01T00:00:00Z", "metrics": [METRIC]}
    results = {"m1": {"2026-11-01": {"baseline": side, "variant_results": [variant]}}}
    (experiment,) = place.posthog.add_records("experiments", [{**made, "_results": results}])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTHOG_EXAMPLE_EXPERIMENT", str(experiment["id"]))
        states, told = place.run(place.example("experiment_results", mode="poke"))
    assert green(states)
    (path,) = place.files("experiments/*.jsonl")
    assert len(path.read_text().splitlines()) == told["rows"]["rows"] > 1


def test_profiles(place: Place) -> None:
    lab = Lab(place.posthog, place.folder)
    group = {"group_type_index": 0, "group_key": "acme", "group_properties": {"name": "Acme"}}
    assert place.api.post("groups/", group).status_code == 201
    (place.folder / "who.csv").write_text(f"email\n{lab.email}\n")
    states, told = place.run(place.example("profiles"), run_conf={"requests_path": f"file://{place.folder}/who.csv"})
    assert green(states)
    properties = place.api.get(f"persons/{lab.person}/").json()["properties"]
    assert "email" not in properties
    assert properties["plan"] == "none"
    assert told["company"]["properties"] == 1


def test_erase_step_by_step(place: Place, duck: DuckDB) -> None:
    lab = Lab(place.posthog, place.folder)
    old = str(uuid5(SPACE, f"{place.posthog.project_id}:{lab.names[1]}"))
    duck.run(
        "CREATE TABLE events (distinct_id VARCHAR, person_id UUID)",
        f"INSERT INTO events VALUES ('{lab.name}', '{lab.person}'), ('forgotten', '{old}'), ('else', '{uuid4()}')",
    )
    write_lake(place)
    (place.folder / "who.csv").write_text(f"email\n{lab.email}\n")
    dag = place.example("erase_step_by_step", mode="poke")
    with dag:
        dag.get_task("delete") >> Weekend(task_id="weekend", url=place.posthog.url) >> dag.get_task("verify")
    conf = {"approved": True, "requests_path": f"file://{place.folder}/who.csv"}
    states, told = place.run(dag, run_conf=conf)
    assert states.pop("discard") == "skipped"
    assert green(states)
    assert duck.rows("SELECT distinct_id FROM events") == [("else",)]
    assert (told["table"]["deleted"], told["files"]["deleted"]) == (2, 1)
    assert lab.readable() == []
    assert place.files("private/*") == []
    assert (place.files("sealed/*"), place.files("erased/*")) != ([], [])


def test_erase_step_by_step_deletes_nothing_that_is_not_approved(place: Place, duck: DuckDB) -> None:
    lab = Lab(place.posthog, place.folder)
    (place.folder / "who.csv").write_text(f"email\n{lab.email}\n")
    conf = {"requests_path": f"file://{place.folder}/who.csv"}
    states, _ = place.run(place.example("erase_step_by_step"), run_conf=conf)
    assert (states["gate"], states["delete"], states["discard"]) == ("failed", "upstream_failed", "success")
    assert lab.readable()


def write_lake(place: Place) -> None:
    span = {"start": TODAY - DAY, "end": datetime.now(timezone.utc), "settle": timedelta(0)}
    lake = f"file://{place.folder}/lake"
    PostHogQueryToObjectStorageOperator(task_id="lake", source="events", path=lake, **span).execute(context())


def test_erasure_care(place: Place) -> None:
    lab = Lab(place.posthog, place.folder)
    found = resolved(lab, received_at=(TODAY - 27 * DAY).date())
    (place.folder / "private").mkdir()  # where erase_persons has its work files
    states, told = place.run(place.example("erasure_care", mode="poke"))
    assert green(states)
    assert [one["request_id"] for one in told["due"]] == [found["request_id"]]
    assert told["look_again"]["looked_at"] == 0


def test_erasure_decisions(place: Place) -> None:
    lab = Lab(place.posthog, place.folder)
    found = resolved(lab, received_at=(TODAY - 27 * DAY).date())
    conf = {"request": found, "reason": "The last weekend's deletion failed"}
    states, told = place.run(place.example("erasure_care", "extension"), run_conf=conf)
    assert states == {"extend": "success"}
    assert told["extend"]["due_at"] > found["due_at"]
    # PostHog leaves what is dated after the request.
    lab.event(timestamp="2040-01-01T00:00:00Z")
    conf = {**conf, "request": lab.delete(found), "decision": "The officer accepts it, 2026-12-01"}
    states, _ = place.run(place.example("erasure_care", "ending"), run_conf=conf)
    assert states == {"close": "success"}


def resolved(lab: Lab, **given: Any) -> dict[str, Any]:
    return lab.resolve(**lab.asked, audit_path=f"file://{lab.folder}/certificates", ticket="DSR-42", **given)


@pytest.mark.skipif(NO_WATCHERS, reason="Airflow 3 brought watchers")
def test_watch_warehouse(place: Place) -> None:
    dag = place.example("watch_warehouse")
    place.posthog.add_view("daily_orders", "SELECT event FROM events LIMIT 1")
    place.posthog.add_view("no_orders", "SELECT event FROM events WHERE event = 'never'")
    assert place.run(dag)[0] == {"orders": "success"}
    dag.get_task("orders").sql = dag.get_task("orders").sql.replace("daily_orders", "no_orders")
    assert place.run(dag, TODAY + DAY)[0] == {"orders": "failed"}
    assets = importlib.import_module("dags_examples.watch_warehouse").NEWS
    triggers = [watcher.trigger for asset in assets for watcher in asset.watchers]
    assert [type(one).__name__ for one in triggers] == ["PostHogSourceSyncTrigger", "PostHogViewRunTrigger"]


@pytest.mark.parametrize(("failing", "state"), [([], "success"), (["whole"], "failed")])
def test_good_views(place: Place, failing: list[str], state: str) -> None:
    (view,) = [
        one for one in place.api.get("warehouse_saved_queries/").json()["results"] if one["name"] == "daily_orders"
    ]
    check = {"name": "whole", "check_type": "not_null", "column_name": "customer"}
    assert place.api.post(f"warehouse_saved_queries/{view['id']}/checks/", check).status_code == 201
    place.posthog.settings(checks_failing=failing)
    states, _ = place.run(place.example("good_views"))
    assert states == {"made": "success", "checks": state}


def test_make_ui_has_what_the_examples_name(place: Place) -> None:
    place.posthog.reset()  # of the customers of other tests
    place.hurry()
    furnish(place.posthog, place.folder)
    assert green(place.run(place.example("good_views"))[0])
    assert green(place.run(place.example("experiment_results", mode="poke"))[0])
    states, told = place.run(place.example("files_to_posthog"))
    assert green(states)
    assert told["orders"]["kept"] == CUSTOMERS
    assert "new-checkout" in [flag["key"] for flag in place.api.get("feature_flags/").json()["results"]]


def test_count_after_load(place: Place, sqlite: SQLite) -> None:
    day = TODAY - 2 * DAY
    states, told = place.run(place.example("count_after_load"), day + DAY)
    assert green(states)
    there = place.posthog.count_events(day.isoformat(), (day + DAY).isoformat(), "created_at")
    assert told["load"]["rows"] == sqlite.count() == there > 100


def test_a_row_that_went_after_the_load_turns_the_second_count_red(place: Place, sqlite: SQLite) -> None:
    dag = place.example("count_after_load")
    lose = "DELETE FROM events WHERE uuid = (SELECT min(uuid) FROM events)"
    dag.get_task("there").on_success_callback = [lambda context: sqlite.run(lose)]
    states, _ = place.run(dag, TODAY - DAY)
    assert states == {"load": "success", "there": "success", "same": "failed"}


def test_dashboard_digest(place: Place) -> None:
    states, _ = place.run(place.example("dashboard_digest"))
    assert states == {"mark": "success"}
    marks = place.api.get("annotations/").json()["results"]
    assert [one["content"].partition(" [")[0] for one in marks] == ["The dashboard was sent to those who read it"]
