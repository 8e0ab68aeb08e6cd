"""What OpenLineage is told of transfers: as its own provider for Airflow extracts and sends it."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.assets import convert_asset_to_openlineage, create_asset
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobFailed
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.hooks.databases import SqlDatabase
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.tasks.lineage import (
    Thing,
    dataset_of_path,
    of_export,
    statement_of,
    tables_of,
    without_values,
)
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator
from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.load.databases import DuckDB, SQLite, postgres_database
from tests.operators.support import context, finish

MIDNIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)


def day(ago: float) -> str:
    return (MIDNIGHT - timedelta(days=ago)).isoformat()


INTERVAL: dict[str, Any] = {"start": day(4), "end": day(3)}
READING: dict[str, Any] = {"source": "events", **INTERVAL, "settle": timedelta(0)}
SECRETS = ("jane@example.com", "phx_", "properties.email = '", "sesame")


@pytest.fixture
def lineage_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Switch OpenLineage's provider on, with a file to send its events to."""
    from airflow.providers.openlineage import conf

    # While it is off: else it would listen to the runs of all later tests of this process, and fork for each task.
    importlib.import_module("airflow.providers.openlineage.plugins.openlineage")
    file = tmp_path / "lineage.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    _read_again(conf)
    yield file
    monkeypatch.undo()
    _read_again(conf)


def _read_again(conf: Any) -> None:
    for setting in vars(conf).values():
        if hasattr(setting, "cache_clear"):
            setting.cache_clear()


def extracted(task: Any, *, failed: bool = False) -> Any:
    """Let the provider extract what it tells of a task that has ended."""
    from airflow.providers.openlineage.extractors.manager import ExtractorManager
    from airflow.utils.state import TaskInstanceState

    state = TaskInstanceState.FAILED if failed else TaskInstanceState.SUCCESS
    found = ExtractorManager().extract_metadata(SimpleNamespace(run_id="run"), task, state, SimpleNamespace())
    text = repr(found)
    assert not [secret for secret in SECRETS if secret in text]
    return found


def done(task: Any) -> Any:
    """Run a task to its end, deferred or not, and extract its lineage; returns that and what the task returned."""
    found = finish(task, {**context(), "task": task})
    return extracted(task), found


def names(datasets: Any) -> list[tuple[str, str]]:
    return [(each.namespace, each.name) for each in datasets]


def thing(posthog: EmulatorProcess, *parts: object) -> tuple[str, str]:
    return posthog.url.replace("http://", "posthog://"), "/".join(str(part) for part in (posthog.project_id, *parts))


def counts(dataset: Any) -> dict[str, int]:
    statistics = dataset.outputFacets["outputStatistics"]
    return {
        name: getattr(statistics, name)
        for name in ("rowCount", "size", "fileCount")
        if getattr(statistics, name) is not None
    }


def columns(dataset: Any) -> dict[str, str]:
    return {field.name: field.type for field in dataset.facets["schema"].fields}


# Into a database.


def test_a_table_of_postgresql(
    connection: EmulatorProcess, lineage_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"columns": ["uuid", "created_at", "properties"], "column_types": {"properties": "jsonb"}}
    where = {
        "replaces": "all",
        "where": "properties.email != 'jane@example.com' AND event != {word} -- sesame",
        "values": {"word": "sesame"},
    }
    with postgres_database() as database:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
        for table in ("Events", "public.events"):
            task = PostHogToSqlOperator(
                task_id="task", sql_conn_id="warehouse", table=table, **options, **where, **READING
            )
            found, result = done(task)
            assert names(found.inputs) == [thing(connection, "events")]
            assert names(found.outputs) == [(_airflows_own_namespace(), "postgres.public.events")]
            assert counts(found.outputs[0]) == {"rowCount": result["rows"]}
            assert columns(found.outputs[0]) == {
                "uuid": "text",
                "created_at": "timestamp with time zone",
                "properties": "jsonb",
            }
            assert found.job_facets["sql"].query == (
                "SELECT uuid, created_at, properties FROM events "
                "WHERE (properties.email != '...' AND event != {word}  \n)"
            )


def _airflows_own_namespace() -> str:
    """What Airflow's operators for SQL call the connection ``warehouse``."""
    from airflow.providers.openlineage.sqlparser import SQLParser
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    hook = PostgresHook("warehouse")
    return SQLParser.create_namespace(hook.get_openlineage_database_info(hook.get_connection("warehouse")))


@pytest.mark.parametrize("kind", ["duckdb", "sqlite"])
def test_a_table_in_a_file(
    connection: EmulatorProcess, lineage_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / f"lake.{kind}"
    database = DuckDB(path) if kind == "duckdb" else SQLite(path)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    sql = (
        "SELECT e.uuid AS id, p.id AS person FROM events e JOIN persons p ON p.id = e.person_id WHERE 'sesame' != '{x}'"
    )
    task = PostHogToSqlOperator(
        task_id="task",
        sql_conn_id="warehouse",
        table="visits",
        query=sql,
        key="id",
        write_disposition="merge",
        settle=timedelta(0),
    )
    found, result = done(task)
    assert names(found.inputs) == [thing(connection, "events"), thing(connection, "persons")]
    assert names(found.outputs) == [(f"{kind}://{path}", "lake.main.visits" if kind == "duckdb" else "main.visits")]
    assert counts(found.outputs[0]) == {"rowCount": result["rows"]}
    assert set(columns(found.outputs[0])) == {"id", "person"}
    assert found.job_facets["sql"].query == sql.replace("'sesame' != '{x}'", "'...' != '...'")


def test_a_failure_is_told_without_counts(
    connection: EmulatorProcess, lineage_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", DuckDB(tmp_path / "lake.duckdb").airflow_connection())
    task = PostHogToSqlOperator(task_id="task", sql_conn_id="warehouse", table="events", **READING)
    finish(task, {**context(), "task": task})
    connection.faults(method="POST", path="*/query/", status=400, body={"detail": "no"}, count=-1)
    with pytest.raises(PostHogError):
        finish(task, {**context(), "task": task})
    found = extracted(task, failed=True)
    assert names(found.inputs) == [thing(connection, "events")]
    assert names(found.outputs) == [(f"duckdb://{tmp_path}/lake.duckdb", "lake.main.events")]
    assert found.outputs[0].outputFacets == {}


@pytest.mark.parametrize(
    ("given", "table", "expected"),
    [
        ({"conn_type": "postgres", "host": "db", "schema": "w"}, "a.events", ("postgres://db:5432", "w.a.events")),
        ({"conn_type": "postgresql", "host": "db", "schema": "w"}, '"A".b', ("postgres://db:5432", "w.A.b")),
        ({"conn_type": "postgres", "host": "db", "port": 5433}, "A.events", ("postgres://db:5433", "a.events")),
        ({"conn_type": "duckdb", "host": "/x/lake.db"}, "other.a.events", ("duckdb:///x/lake.db", "other.a.events")),
        ({"conn_type": "duckdb", "password": "sesame", "schema": "w"}, "events", ("duckdb://md:w", "w.main.events")),
        ({"conn_type": "sqlite", "host": "/x/lake.db"}, "events", ("sqlite:///x/lake.db", "main.events")),
    ],
)
def test_names_of_tables(
    lineage_file: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], table: str, expected: tuple[str, str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"login": "jane", **given}))
    assert SqlDatabase("warehouse").openlineage_name(table) == expected


# Into files.


def test_rows_in_files(connection: EmulatorProcess, lineage_file: Path, tmp_path: Path) -> None:
    path = f"file://{tmp_path}/lake/"
    for _ in range(2):
        task = PostHogQueryToObjectStorageOperator(task_id="task", path=path, partition_by="event", **READING)
        result = finish(task, {**context(), "task": task})
        shutil.rmtree(tmp_path / "lake")  # nothing is read when OpenLineage asks, in a process without file systems
        found = extracted(task)
        assert names(found.inputs) == [thing(connection, "events")]
        assert names(found.outputs) == [("file", f"{tmp_path}/lake")]
        rows, size, files = result["rows"], result["bytes"], result["files"]
        assert counts(found.outputs[0]) == {"rowCount": rows, "size": size, "fileCount": files}
        assert files > 1
        assert columns(found.outputs[0])["created_at"] == "timestamp[us, tz=UTC]"
        assert found.job_facets["sql"].query.startswith("SELECT uuid, event, distinct_id")


def test_members_of_a_cohort(connection: EmulatorProcess, lineage_file: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"source": "cohort_members", "cohort_id": 7, "path": str(tmp_path / "lake")}
    found, _ = done(PostHogQueryToObjectStorageOperator(task_id="task", **{**READING, **options}))
    assert names(found.inputs) == [thing(connection, "cohort", 7)]


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_file_download(connection: EmulatorProcess, lineage_file: Path, tmp_path: Path, deferrable: bool) -> None:
    connection.settings(file_download_seconds=0, file_listing_seconds=0)
    options: dict[str, Any] = {"model": "sessions", "poll_interval": 0.1, "timeout": 20, "deferrable": deferrable}
    task = PostHogFileDownloadOperator(task_id="task", path=str(tmp_path / "lake"), **options, **INTERVAL)
    found, result = done(task)
    assert names(found.inputs) == [thing(connection, "sessions")]
    assert names(found.outputs) == [("file", f"{tmp_path}/lake")]
    told = {"rowCount": result["rows"], "size": result["bytes"], "fileCount": len(result["files"])}
    assert counts(found.outputs[0]) == told
    assert result["rows"] > 0


def export(make_export: Callable[..., int], tmp_path: Path, *query: Any, **more: Any) -> Any:
    return PostHogExportToObjectStorageOperator(
        task_id="task",
        export_id=make_export(*query, **more),
        path=f"{tmp_path}/export.csv",
        on_truncation="ignore",
    )


def test_an_export_of_a_query(
    connection: EmulatorProcess, lineage_file: Path, make_export: Callable[..., int], tmp_path: Path
) -> None:
    task = export(make_export, tmp_path, "SELECT event, distinct_id FROM events WHERE event != 'sesame' LIMIT 5")
    found, result = done(task)
    assert names(found.inputs) == [thing(connection, "events")]
    assert names(found.outputs) == [("file", f"{tmp_path}/export.csv")]
    assert counts(found.outputs[0]) == {"rowCount": 5, "size": result["bytes"], "fileCount": 1}
    assert found.job_facets["sql"].query == "SELECT event, distinct_id FROM events WHERE event != '...' LIMIT 5"


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ({"kind": "EventsQuery", "select": ["event"], "limit": 3}, "events"),
        ({"kind": "DataTableNode", "source": {"kind": "EventsQuery", "select": ["event"], "limit": 3}}, "events"),
    ],
)
def test_an_export_of_a_node(
    connection: EmulatorProcess,
    lineage_file: Path,
    make_export: Callable[..., int],
    tmp_path: Path,
    query: dict[str, Any],
    kind: str,
) -> None:
    task = export(make_export, tmp_path, query)
    found, _ = done(task)
    assert names(found.inputs) == [thing(connection, kind)]
    assert found.job_facets == {}


@pytest.mark.parametrize("refused", [False, True])
def test_an_export_of_an_insight_or_a_dashboard(
    connection: EmulatorProcess, lineage_file: Path, tmp_path: Path, refused: bool
) -> None:
    from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator

    short_id = PostHogHook().find_insight(1)["short_id"]
    for what, expected in (({"insight": 1}, ("insight", short_id)), ({"dashboard": 1}, ("dashboard", 1))):
        options: dict[str, Any] = {"export_format": "image/png", "poll_interval": 0.1, "deferrable": False}
        made = PostHogCreateExportOperator(task_id="made", **options, **what).execute(context())
        path = f"{tmp_path}/{expected[0]}.png"
        task = PostHogExportToObjectStorageOperator(task_id="task", export_id=made, path=path)
        if refused:  # a key that may read exports only
            connection.faults(method="GET", path="*/insights/*", status=403, body={"detail": "scope"}, count=-1)
            expected = ("export", made["id"]) if "insight" in what else expected
        found, _ = done(task)
        assert names(found.inputs) == [thing(connection, *expected)]
        assert counts(found.outputs[0])["fileCount"] == 1
        assert "rowCount" not in counts(found.outputs[0])


def test_the_assets_of_an_export_are_told_of_its_rows(
    connection: EmulatorProcess, make_export: Callable[..., int], tmp_path: Path
) -> None:
    task = export(make_export, tmp_path, "SELECT event FROM events LIMIT 5")
    task.outlets = [SimpleNamespace(uri="file:///lake/export.csv")]
    told = SimpleNamespace(extra={})
    found = finish(task, {**context(), "outlet_events": type("Events", (), {"__getitem__": lambda self, key: told})()})
    assert (told.extra["rows"], told.extra) == (5, found)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({"source": {"kind": "ActorsQuery"}}, Thing("persons")),
        ({"source": {"kind": "InsightVizNode", "source": {"kind": "TrendsQuery"}}}, Thing("events")),
        ({"source": {"kind": "SomeNewQuery"}}, Thing("export", 7)),
        ({"source": {"kind": "HogQLQuery", "query": "SELECT 1"}}, Thing("export", 7)),
        ({"path": "/x"}, Thing("export", 7)),
        (None, Thing("export", 7)),
    ],
)
def test_what_an_export_reads(context: Any, expected: Thing) -> None:
    export = {"id": 7, "insight": None, "dashboard": None, "export_context": context}
    assert of_export(ClientSettings(), export, dataset_of_path("/x"), {}).read == [expected]


def test_an_export_that_is_not_there(connection: EmulatorProcess, lineage_file: Path, tmp_path: Path) -> None:
    task = PostHogExportToObjectStorageOperator(task_id="task", export_id=999_999, path=f"{tmp_path}/export.csv")
    with pytest.raises(PostHogJobFailed):
        finish(task, {**context(), "task": task})
    found = extracted(task, failed=True)
    assert (found.inputs, found.outputs) == ([], [])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/lake/events/", ("file", "/lake/events")),
        ("file:///lake/events/", ("file", "/lake/events")),
        ("s3://bucket/lake/events/", ("s3://bucket", "lake/events")),
        ("s3://aws_default@bucket/lake/x.csv", ("s3://bucket", "lake/x.csv")),
        ("s3a://bucket/", ("s3://bucket", "/")),
        ("gs://bucket/a", ("gs://bucket", "a")),
        ("gcs://bucket/a", ("gs://bucket", "a")),
        ("abfs://container/a/b", ("abfss://container", "a/b")),
        ("hdfs://name:8020/a", ("hdfs://name:8020", "a")),
        ("s3://bucket/a#1?x=2", ("s3://bucket", "a#1?x=2")),
        ("lake/events", ("file", f"{os.getcwd()}/lake/events")),
    ],
)
def test_names_of_files(path: str, expected: tuple[str, str]) -> None:
    assert dataset_of_path(path) == expected


class InAzure:
    """A folder in Azure, where only the file system knows the account."""

    fs = SimpleNamespace(account_name="acme")

    def __str__(self) -> str:
        return "abfs://container/a"


def test_a_container_of_azure_is_named_with_its_account() -> None:
    path: Any = InAzure()
    assert dataset_of_path(path) == ("abfss://container@acme.dfs.core.windows.net", "a")


# HogQL.


@pytest.mark.parametrize(
    ("hogql", "shown"),
    [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 'it''s', 'a\\'b', '--', x -- jane@example.com\nFROM t", "SELECT '...', '...', '...', x  \nFROM t"),
        ("SELECT /* 'a */ `it's`, \"it's\", 'b'", "SELECT   `it's`, \"it's\", '...'"),
        ("SELECT f'{email} x'", "SELECT f'...'"),
        ("SELECT {name}, 'it''s jane@example.com", "SELECT {name}, '...'"),
        ("SELECT 'jane\\", "SELECT '...'"),
        ("SELECT '', '''', x /* jane", "SELECT '...', '...', x"),
        ("SELECT 1 // jane@example.com asked for it\nFROM events", "SELECT 1  \nFROM events"),
        ("SELECT a, -- it's Jane\r'b' // don't show 'jane@example.com'\n, c", "SELECT a,  \r'...'  \n, c"),
        ("SELECT a # Jane's\nFROM t", "SELECT a  \nFROM t"),
        ("SELECT <a href='jane'>Jane Doe, {upper('Jane')} <b>it's</b></a>, x", "SELECT <...>, x"),
        ("SELECT <a to='jane' />, x < y, 'z'", "SELECT <...>, x < y, '...'"),
        ("SELECT f'Jane {concat('Doe', f'{x} Jane')} Doe', y", "SELECT f'...', y"),
        ("SELECT f'''{x}''', {who}", "SELECT f'...', {who}"),
        ("SELECT F'Jane {x}", "SELECT '...'"),
        ('SELECT "a""b", `c``d`, "Jane', 'SELECT "a""b", `c``d`,'),
    ],
)
def test_texts_and_comments_are_left_out(hogql: str, shown: str) -> None:
    assert without_values(hogql) == shown


SIGNS = [
    "'",
    '"',
    "`",
    "--",
    "//",
    "#",
    "/*",
    "*/",
    "\n",
    "\r",
    "{",
    "}",
    "f'",
    "F'",
    "\\",
    " x ",
    "<b>",
    "</b>",
    "<",
    ",",
]


@given(st.lists(st.sampled_from(SIGNS), max_size=12).map("".join))
def test_texts_and_comments_are_hidden_wherever_they_stand(before: str) -> None:
    """Whatever came before them, if it has an end."""
    shown = without_values(f"SELECT {before}\n seen, 'jane' // jane\n # jane's\r 'jane'")
    assert "seen" not in shown or "jane" not in shown.partition("seen")[2]


def test_the_statement_of_a_source() -> None:
    source = sources.events({"browser": "properties.$browser", "uuid": "uuid"}, events=["a"], where="1 = {one}")
    assert statement_of(source) == (
        "SELECT properties.$browser AS `browser`, uuid FROM events "
        "WHERE (1 = {one}\n) AND (event IN {posthog_event_names}\n)"
    )
    assert statement_of(sources.hogql("SELECT 1 AS a", key="a")) == "SELECT 1 AS a"


def test_tables_of_a_statement() -> None:
    sql = "WITH x AS (SELECT * FROM sessions) SELECT a[1], {v} FROM x JOIN stripe.charges c ON c.id = x.id"
    assert tables_of(sql) == [Thing("sessions"), Thing("stripe.charges")]
    assert tables_of("SELECT ((") == []


# In Airflow.


def test_runs_of_airflow_are_told(
    connection: EmulatorProcess, lineage_file: Path, tmp_path: Path, airflow_db: None
) -> None:
    """Mapped, deferred, and failed tasks; the provider's plugin listens, forks, and asks the task in the child."""
    connection.settings(file_download_seconds=0, file_listing_seconds=0)
    # As xdist's worker, the process would get a database of its own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_XDIST_WORKER"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.transfers.lineage_flow", str(tmp_path), json.dumps([day(4), day(3), day(2)])],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()[-3000:]
    told: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in lineage_file.read_text().splitlines():
        event = json.loads(line)
        told.setdefault((event["job"]["name"], event["eventType"]), []).append(event)
    done = [*told["lineage.mapped", "COMPLETE"], *told["lineage.deferred", "COMPLETE"]]
    namespace, name = thing(connection, "events")
    rows = []
    for event in done:
        assert [(each["namespace"], each["name"]) for each in event["inputs"]] == [(namespace, name)]
        (output,) = event["outputs"]
        rows.append(output["outputFacets"]["outputStatistics"]["rowCount"])
    days = [connection.count_events(day(ago), day(ago - 1), "created_at") for ago in (4, 3)]
    assert (sorted(rows[:2]), rows[2:]) == (sorted(days), days[:1])
    for event in done[:2]:
        assert event["outputs"][0]["name"] == f"{tmp_path}/lake"
        assert len(event["outputs"][0]["facets"]["schema"]["fields"]) == 7
        assert event["job"]["facets"]["sql"]["query"].startswith("SELECT uuid")
    (failed,) = told["lineage.failed", "FAIL"]
    assert [each["name"] for each in (*failed["inputs"], *failed["outputs"])] == ["1/nowhere", f"{tmp_path}/no"]
    assert not failed["outputs"][0].get("outputFacets")


def test_assets_have_the_same_names(connection: EmulatorProcess, lineage_file: Path, tmp_path: Path) -> None:
    host = connection.url.removeprefix("http://")
    asset = create_asset(project_id=connection.project_id, kind="events", host=host)
    task = PostHogQueryToObjectStorageOperator(task_id="task", path=str(tmp_path / "lake"), **READING)
    found, _ = done(task)
    assert names(found.inputs) == names([convert_asset_to_openlineage(asset, None)])


class Unlucky(PostHogToSqlOperator):
    """Its lineage cannot be told."""

    lineage_reads_files = True

    def lineage(self, found: Any) -> Any:
        raise ValueError("jane@example.com")


def test_a_task_never_fails_for_want_of_lineage(
    connection: EmulatorProcess,
    lineage_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = DuckDB(tmp_path / "lake.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    task = Unlucky(task_id="task", sql_conn_id="warehouse", table="events", **READING)
    found = finish(task, {**context(), "task": task})
    assert found["rows"] == database.count()
    assert "jane@" not in caplog.text


class Nowhere:
    """Finds no OpenLineage, and remembers who looked for it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if is_openlineage(name):
            self.asked.append(name)
            raise ModuleNotFoundError(name)


def is_openlineage(module: str) -> bool:
    return module.startswith(("openlineage", "airflow.providers.openlineage"))


def test_without_the_provider_nothing_is_imported(
    connection: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if is_openlineage(name)]:
        monkeypatch.delitem(sys.modules, module)
    nowhere = Nowhere()
    monkeypatch.setattr(sys, "meta_path", [nowhere, *sys.meta_path])
    task = PostHogQueryToObjectStorageOperator(task_id="task", path=str(tmp_path / "lake"), **READING)
    found = finish(task, {**context(), "task": task})
    assert found["rows"] == connection.count_events(day(4), day(3), "created_at")
    assert nowhere.asked == ["airflow.providers.openlineage"], "it is looked for once, and not at all before that"
