"""Erasing the same persons in a warehouse: under every UUID they ever had, nobody else's, and out of its files."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import pyarrow.parquet as pq
import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure.files.file import Wanted
from airflow_provider_posthog.erasure.files.folder import FolderErasure
from airflow_provider_posthog.erasure.progress import Progress
from airflow_provider_posthog.erasure.work_file import WorkFile
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.hooks.databases import SqlDatabase
from airflow_provider_posthog.operators.erasure import PostHogEraseFromFilesOperator, PostHogEraseFromSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.erasure.support import Lab, ago, new_lab
from tests.load.databases import Database, DuckDB, SQLite, postgres_database
from tests.load.mariadb import MariaDB, mariadb_database
from tests.load.test_hashed_removal import Warehouse
from tests.operators.support import connect, context
from tests.support.s3 import BUCKET

SPACE = uuid.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")
STRANGER = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def tidied(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    return new_lab(tidied, monkeypatch, tmp_path)


@pytest.fixture(params=["duckdb", "sqlite", "postgres", "mariadb"])
def warehouse(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    if request.param == "postgres":
        with postgres_database() as found:
            monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", found.airflow_connection())
            yield found
        return
    if request.param == "mariadb":
        with mariadb_database() as maria:
            hook = SimpleNamespace(get_conn=maria.connect, insert_rows=None, placeholder="%s")
            monkeypatch.setattr(SqlDatabase, "_hook", lambda self: hook)
            monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "mysql"}')
            yield maria
        return
    folder = tmp_path / "warehouse"
    folder.mkdir()
    database: Any = DuckDB(folder / "w.duckdb") if request.param == "duckdb" else SQLite(folder / "w.sqlite")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    yield database


def quarantine(database: Database, *rows: dict[str, str]) -> None:
    columns = ("rejected_at", "task", "run", "interval_start", "interval_end", "reason", "data")
    database.run(
        f"CREATE TABLE persons__rejected ({', '.join(f'{one} TEXT' for one in columns)})",
        *(f"INSERT INTO persons__rejected (data) VALUES ('{json.dumps(row)}')" for row in rows),
    )


def fill(database: Database, *rows: tuple[str, str], table: str = "persons") -> None:
    database.run(
        f"CREATE TABLE {table} (id TEXT, email TEXT)",
        *(f"INSERT INTO {table} VALUES ('{one}', '{other}')" for one, other in rows),
    )


def first_uuid(lab: Lab, name: str, more: str = "") -> str:
    return str(uuid.uuid5(SPACE, f"{lab.posthog.project_id}:{name}{more}"))


def erase(request: Any, **given: Any) -> dict[str, Any]:
    options = {"sql_conn_id": "warehouse", "table": "persons", "person_id_column": "id", **given}
    return PostHogEraseFromSqlOperator(task_id="erase", request=request, **options).execute(context())


def partly(lab: Lab, request: Any, unverified: dict[str, str]) -> dict[str, Any]:
    """What a sensor leaves that has proved it for some."""
    work = WorkFile(fsspec.filesystem("file"), str(lab.folder / "work.jsonl"))
    Progress(work.fs, f"{work.path}.progress", work.header().request_id).unverified = unverified
    states = {"VERIFIED": 1, "PARTIAL": len(unverified)}
    names = ("request_id", "host", "project_id")
    return {**{name: request[name] for name in names}, "state": "PARTIAL", "states": states}


def ids(database: Database, table: str = "persons") -> set[str]:
    return {str(row[0]) for row in database.rows(f"SELECT id FROM {table}")}


@pytest.mark.parametrize("more", ["", ":split"])
def test_rows_under_a_uuid_from_before_a_merge_go_too(lab: Lab, warehouse: Database, more: str) -> None:
    old = first_uuid(lab, lab.names[1], more)
    assert old != lab.person
    fill(warehouse, (lab.person, "new"), (old.upper(), "old"), (STRANGER, "nobody"))
    done = erase(lab.resolve())
    assert (done["deleted"], done["left"], ids(warehouse)) == (2, 0, {STRANGER})


@pytest.mark.parametrize("kind", ["TEXT", "CHAR(32)"])
def test_rows_under_a_uuid_without_dashes_go_too(lab: Lab, warehouse: Database, kind: str) -> None:
    """As other tools and databases write it; a capital or not."""
    old = first_uuid(lab, lab.names[1])
    warehouse.run(f"CREATE TABLE persons (id {kind})")
    for text in (lab.person, old.upper(), STRANGER):
        warehouse.run(f"INSERT INTO persons VALUES ('{text.replace('-', '')}')")
    assert erase(lab.resolve())["deleted"] == 2
    assert ids(warehouse) == {STRANGER.replace("-", "")}


@pytest.mark.parametrize("kind", ["mssql", "trino", "vertica"])
def test_a_database_of_another_kind_is_refused_with_those_that_will_do(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "{kind}"}}')
    with pytest.raises(PostHogSettingsError, match=f"type {kind}, where .* SQLite, MySQL, MariaDB, Snowflake or"):
        erase(lab.resolve())


def test_rows_in_the_quarantine_of_a_table_go_with_it_and_the_certificate_is_told(
    lab: Lab, warehouse: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, lab.posthog, audit_secret="5b0e7c41a9d84f2e86c3b7f0d1a2e394")
    fill(warehouse, (lab.person, "ann"), (STRANGER, "nobody"))
    quarantine(warehouse, {"id": lab.person.upper(), "email": "ann"}, {"id": STRANGER, "email": "nobody"})
    request = lab.resolve(emails=[lab.email], audit_path=f"file://{tmp_path}/certificates")
    done = erase(request)
    assert (done["deleted"], done["rejected"], done["left"]) == (1, 1, 0)
    assert [json.loads(row[0])["id"] for row in warehouse.rows("SELECT data FROM persons__rejected")] == [STRANGER]
    (folder,) = (tmp_path / "certificates").glob("[!_]*")
    records = "".join(one.read_text() for one in folder.iterdir())
    assert "erased 1 rows (1 by id) and 1 rows in quarantine of 1 person from the table persons" in records


def test_rows_of_who_has_an_old_uuid_now_stay(lab: Lab, warehouse: Database) -> None:
    """After a split, one of the two keeps the UUID that the other one's distinct id began with."""
    other = first_uuid(lab, lab.names[1])
    lab.posthog.add_persons([{"uuid": other, "distinct_ids": [f"{lab.name}-other"], "properties": {}}])
    lab.posthog.settings(person_lag_seconds=0)
    fill(warehouse, (lab.person, "ann"), (other, "another one"))
    assert erase(lab.resolve())["deleted"] == 1
    assert ids(warehouse) == {other}


def test_one_survivor_does_not_hold_up_the_others(lab: Lab, warehouse: Database) -> None:
    survivor = lab.add(f"{lab.name}-survivor")
    fill(warehouse, (lab.person, "ann"), (survivor, "bob"), (first_uuid(lab, lab.names[1]), "ann"))
    request = lab.resolve()
    proof = partly(lab, request, {survivor.upper(): "SURVIVORS"})
    done = erase(request, proof=proof)
    assert (done["persons"], done["left_out"], done["deleted"]) == (1, 1, 2)
    assert ids(warehouse) == {survivor}
    assert erase(request, proof={**proof, "state": "VERIFIED", "states": {"VERIFIED": 2}})["deleted"] == 1


@pytest.mark.parametrize("warehouse", ["sqlite"], indirect=True)  # none is asked
@pytest.mark.parametrize("change", [{"request_id": "another"}, {"states": {"PARTIAL": 2}}, {"states": {"VERIFIED": 2}}])
@pytest.mark.parametrize("unverified", [{}, {STRANGER: "PARTIAL"}])
def test_a_proof_that_does_not_say_who_erases_nobody(
    lab: Lab, warehouse: Database, change: dict[str, Any], unverified: dict[str, str]
) -> None:
    fill(warehouse, (lab.person, "ann"))
    request = lab.resolve()
    with pytest.raises(PostHogSettingsError, match=r"proves nobody of this request|is not the last one"):
        erase(request, proof={**partly(lab, request, unverified), **change})
    with pytest.raises(PostHogSettingsError, match="proves nobody of this request"):
        erase(request, proof={})
    assert ids(warehouse) == {lab.person}


def test_addresses_go_by_the_request_s_file(lab: Lab, warehouse: Database) -> None:
    fill(warehouse, ("1", lab.email.upper()), ("2", "stranger@example.org"), ("3", lab.email))
    path = lab.folder / "request.csv"
    path.write_text(f"email\n{lab.email}\n")
    request = lab.resolve()
    given = {"person_id_column": None, "email_column": "email"}
    with pytest.raises(PostHogSettingsError, match="identifiers_path"):
        erase(request, **given)
    assert erase(request, **given, identifiers_path=f"file://{path}")["deleted_by"] == {"email": 2}
    assert ids(warehouse) == {"2"}


def test_an_address_of_the_request_is_found_in_the_warehouse_in_any_spelling(lab: Lab, warehouse: Database) -> None:
    texts = {"1": "JÖRG@BÜCHER.EXAMPLE", "2": " jo\u0308rg@xn--bcher-kva.example", "3": "joerg@bücher.example"}
    fill(warehouse, *texts.items())
    path = lab.folder / "request.csv"
    path.write_text("email\nJörg@bücher.example\n", encoding="utf-8")
    given = {"person_id_column": None, "email_column": "email", "identifiers_path": f"file://{path}"}
    assert erase(lab.resolve(), **given)["deleted_by"] == {"email": 2}
    assert ids(warehouse) == {"3"}


def test_erased_values_are_not_in_the_database_s_files_or_it_is_said(lab: Lab, warehouse: Database) -> None:
    names = [f"secret-{number}" for number in range(300)]
    fill(warehouse, *((lab.person, name) for name in names), (STRANGER, "somebody"))
    if isinstance(warehouse, DuckDB):
        warehouse.run("CREATE INDEX by_email ON persons (email)", "CREATE VIEW them AS SELECT * FROM persons")
        warehouse.path.chmod(0o640)
    done = erase(lab.resolve())
    assert done["deleted"] == 300
    if isinstance(warehouse, (DuckDB, SQLite)):
        assert done["old_pages"] is None
        for path in warehouse.path.parent.iterdir():
            assert b"secret-" not in path.read_bytes()
    elif isinstance(warehouse, MariaDB):
        assert "OPTIMIZE TABLE `persons`" in done["old_pages"]
    else:
        assert 'VACUUM (FULL) "persons"' in done["old_pages"]
    assert ids(warehouse) == {STRANGER}
    if isinstance(warehouse, DuckDB):
        assert warehouse.rows("SELECT id FROM them") == [(STRANGER,)]
        assert warehouse.rows("SELECT index_name FROM duckdb_indexes()") == [("by_email",)]
        assert (warehouse.path.stat().st_mode & 0o777, len(list(warehouse.path.parent.iterdir()))) == (0o640, 1)


def test_a_file_that_is_not_rewritten_is_said_with_its_remedy(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = DuckDB(tmp_path / "w.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    fill(database, (lab.person, "secret"), (STRANGER, "other"))
    with closing(database.connect()) as reader:
        pages = erase(lab.resolve())["old_pages"]
        assert "COPY FROM DATABASE" in pages
        assert "another connection" in pages
        assert reader.execute("SELECT id FROM persons").fetchall() == [(STRANGER,)]
    (tmp_path / ".w.duckdb.erasure.part").write_bytes(b"left by a kill")
    assert "not asked for" in erase(lab.resolve(), rewrite_file=False)["old_pages"]
    assert erase(lab.resolve())["old_pages"] is None, "a retry rewrites it, too, though no rows are left to erase"
    assert b"secret" not in database.path.read_bytes()
    assert not (tmp_path / ".w.duckdb.erasure.part").exists()


# Files.


def erase_files(request: Any, path: str, **given: Any) -> dict[str, Any]:
    options = {"path": path, "distinct_id_column": "distinct_id", **given}
    return PostHogEraseFromFilesOperator(task_id="files", request=request, **options).execute(context())


def test_files_that_a_transfer_has_written(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, lab.posthog, audit_secret="5b0e7c41a9d84f2e86c3b7f0d1a2e394")
    path = f"file://{tmp_path}/lake"
    lab.event()
    written = PostHogQueryToObjectStorageOperator(
        task_id="write",
        source="events",
        path=path,
        partition_by="day",
        start=ago(hours=2),
        end=ago(seconds=1),
        settle=timedelta(0),
        on_retention="ignore",
    ).execute(context())
    request = lab.resolve(emails=[lab.email], audit_path=f"file://{tmp_path}/certificates")
    done = erase_files(request, path, person_id_column="person_id")
    counts = {"persons": 1, "left_out": 0, "deleted": 2, "left": 0, "rows": written["rows"]}
    assert {name: done[name] for name in counts} == counts
    assert done["deleted_by"] == {"distinct_id": 2, "person_id": 0}
    files = [one for one in (tmp_path / "lake").rglob("*.parquet")]
    names = {name for one in files for name in pq.read_table(one).column("distinct_id").to_pylist()}
    assert not names & set(lab.names)
    assert sum(pq.read_metadata(one).num_rows for one in files) == written["rows"] - 2
    (folder,) = (tmp_path / "certificates").glob("[!_]*")
    records = "".join(one.read_text() for one in folder.iterdir())
    assert "erased 2 rows (2 by distinct_id) of 1 person from the files in" in records
    assert lab.name not in records
    assert not list((tmp_path / "lake" / ".posthog").rglob("erasure*"))


def test_a_folder_in_which_nobody_can_tell_is_an_error(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.csv").write_text(f"who,id\n{lab.name},x\nanother,{lab.person.replace('-', '')}\n")
    request = lab.resolve()
    with pytest.raises(PostHogIncompleteError, match=r"a\.csv has no column 'distinct_id'"):
        erase_files(request, f"file://{tmp_path}/lake")
    with pytest.raises(PostHogSettingsError, match="is not a folder"):
        erase_files(request, f"file://{tmp_path}/nowhere")
    with pytest.raises(PostHogSettingsError, match="is empty"):
        erase_files(request, f"file://{tmp_path}/lake", name=" ")
    columns = {"distinct_id_column": "who", "person_id_column": "id"}
    assert erase_files(request, f"file://{tmp_path}/lake", **columns)["deleted_by"] == {"who": 1, "id": 1}


def test_files_in_s3(s3: tuple[Any, Any]) -> None:
    fs, root = s3[0], f"{BUCKET}/{uuid.uuid4().hex}"
    fs.pipe_file(f"{root}/events/one=1/a.jsonl", b'{"distinct_id": "ann"}\n{"distinct_id": "x"}\n')
    fs.pipe_file(f"{root}/eventsmore/b.txt", b"of another folder")
    job = FolderErasure(fs, f"{root}/events", [Wanted.of("distinct_id", iter(["ann"]))], "r" * 32)
    assert job.run().deleted == 1
    job.finish()
    assert fs.cat_file(f"{root}/events/one=1/a.jsonl") == b'{"distinct_id": "x"}\n'
    assert len(fs.find(f"{root}/events")) == 1


# Warehouses that are reached by Airflow's hooks.


@pytest.mark.parametrize("kind", ["snowflake", "gcpbigquery"])
def test_warehouses_by_their_hooks(lab: Lab, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    made = Warehouse(kind)
    bare = lab.person.replace("-", "")
    made.fill((lab.name, "x"), ("stranger", lab.person.upper()), ("stranger", STRANGER), ("stranger", bare))
    hook = SimpleNamespace(get_conn=lambda: made, use_legacy_sql=True)
    monkeypatch.setattr(SqlDatabase, "_hook", lambda self: hook)
    monkeypatch.setattr(Warehouse, "close", lambda self: None)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", f'{{"conn_type": "{kind}"}}')
    columns = {"distinct_id_column": '"distinct-id"', "person_id_column": "person_id"}
    done = erase(lab.resolve(), table="events", **columns)
    assert (done["deleted"], done["left"], made.numbers()) == (3, 0, [2])
    assert "time travel" in done["old_pages"].lower()
    assert hook.use_legacy_sql is False
    assert lab.name not in "".join(made.statements)


def test_a_warehouse_whose_provider_is_not_installed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "snowflake"}')
    monkeypatch.setattr(SqlDatabase, "_hook", lambda self: None)
    with pytest.raises(PostHogSettingsError, match="no installed provider"):
        erase(lab.resolve())


@pytest.mark.parametrize("name", [None, "query"])
def test_rows_that_were_kept_aside_go_out_of_their_files_too(lab: Lab, tmp_path: Path, name: str | None) -> None:
    path, names = f"file://{tmp_path}/lake", [lab.name, "stranger", "fits"]
    for hours, column in ((2, "1"), (1, "if(distinct_id = 'fits', '1', concat('of ', distinct_id))")):
        PostHogQueryToObjectStorageOperator(
            task_id="write",
            query=f"SELECT distinct_id, {column} AS n FROM (SELECT arrayJoin({{names}}) AS distinct_id)",
            values={"names": names},
            key="distinct_id",
            path=path,
            start=ago(hours=hours),
            end=ago(hours=hours - 1, seconds=1),
            settle=timedelta(0),
            schema_policy="quarantine",
        ).execute(context())
    (aside,) = (tmp_path / "lake" / "_rejected").iterdir()
    assert aside.read_text().count("distinct_id") == 2
    done = erase_files(lab.resolve(), path, name=name)
    assert (done["deleted"], done["left"]) == (2, 0)
    assert [json.loads(line)["distinct_id"] for line in aside.open()] == ["stranger"]
    assert not [
        one for one in (tmp_path / "lake").rglob("*") if one.is_file() and lab.name.encode() in one.read_bytes()
    ]
