"""Persons who were erased and came again: their rows are dropped, counted, or an error, as one asks for."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.suppression import SuppressionList
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure.progress import Progress
from airflow_provider_posthog.erasure.work_file import WorkFile
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.extract import sources
from airflow_provider_posthog.extract.suppressor import Suppressor
from airflow_provider_posthog.operators.erasure import PostHogSuppressPersonsOperator
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.erasure.support import Lab, ago, new_lab
from tests.load.databases import DuckDB
from tests.operators.support import connect, context
from tests.storage.crashing import memory

SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"
OTHER_SALT = "0a1c9a7e5b2d8046af91c3e7d5b20899"
UUID = "3dc16883-e41d-573c-94ce-5d5370469f17"


@pytest.fixture(scope="module")
def tidied(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    made = new_lab(tidied, monkeypatch, tmp_path)
    connect(monkeypatch, tidied, audit_secret=SALT)
    made.posthog.settings(person_lag_seconds=0)
    return made


def suppress(lab: Lab, **given: Any) -> dict[str, Any]:
    request = given.pop("request", None) or lab.resolve()
    options = {"request": request, "suppress_path": f"file://{lab.folder}/erased", **given}
    return PostHogSuppressPersonsOperator(task_id="suppress", **options).execute(context())


def to_files(lab: Lab, **given: Any) -> tuple[dict[str, Any], set[str]]:
    lake = lab.folder / "lake" / uuid.uuid4().hex
    options = {
        "source": "events",
        "path": f"file://{lake}",
        "suppress_path": f"file://{lab.folder}/erased",
        "start": ago(hours=2),
        "end": ago(seconds=1),
        "settle": timedelta(0),
        "on_retention": "ignore",
        **given,
    }
    done = PostHogQueryToObjectStorageOperator(task_id="files", **options).execute(context())
    files = list(lake.rglob("*.parquet"))
    assert sum(pq.read_metadata(one).num_rows for one in files) == done["rows"]
    return done, {name for one in files for name in pq.read_table(one).column("distinct_id").to_pylist()}


def to_sql(lab: Lab, monkeypatch: pytest.MonkeyPatch, **given: Any) -> tuple[dict[str, Any], set[str]]:
    database = DuckDB(lab.folder / "w.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    options = {
        "sql_conn_id": "warehouse",
        "table": "events",
        "source": "events",
        "suppress_path": f"file://{lab.folder}/erased",
        "start": ago(hours=2),
        "end": ago(seconds=1),
        "settle": timedelta(0),
        "on_retention": "ignore",
        **given,
    }
    done = PostHogToSqlOperator(task_id="sql", **options).execute(context())
    return done, {str(row[0]) for row in database.rows("SELECT distinct_id FROM events")}


def test_erased_persons_do_not_come_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    other = f"{lab.name}-other"
    lab.event(other)
    assert suppress(lab)["entries"] >= 3
    lab.event(lab.names[1])
    for done, names in (to_files(lab), to_sql(lab, monkeypatch)):
        assert done["suppressed"] == 2
        assert names & {*lab.names, other} == {other}
    for done, names in (to_files(lab, suppressed="count"), to_sql(lab, monkeypatch, suppressed="count")):
        assert done["suppressed"] == 2
        assert names >= {*lab.names, other}
    assert to_files(lab, suppress_path=None)[0]["suppressed"] is None


def test_they_are_an_error_and_nothing_is_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    suppress(lab)
    with pytest.raises(PostHogErasureError, match="are of persons who were erased") as error:
        to_files(lab, suppressed="fail")
    assert lab.name not in str(error.value)
    assert not [one for one in (lab.folder / "lake").rglob("*") if one.is_file()]
    with pytest.raises(PostHogErasureError):
        to_sql(lab, monkeypatch, suppressed="fail")
    assert DuckDB(lab.folder / "w.duckdb").rows("SELECT * FROM duckdb_tables() WHERE estimated_size > 0") == []


def test_a_snapshot_of_persons_lacks_them_too(lab: Lab) -> None:
    other = lab.add(f"{lab.name}-other", properties={})
    suppress(lab, request=lab.resolve(uuids=[lab.person]))
    PostHogQueryToObjectStorageOperator(
        task_id="files",
        source="persons",
        path=f"file://{lab.folder}/lake",
        suppress_path=f"file://{lab.folder}/erased",
        settle=timedelta(0),
    ).execute(context())
    files = list((lab.folder / "lake").rglob("*.parquet"))
    ids = {name for one in files for name in pq.read_table(one).column("id").to_pylist()}
    assert (lab.person in ids, other in ids) == (False, True)


def test_only_those_who_are_verified_are_listed(lab: Lab) -> None:
    survivor = lab.add(f"{lab.name}-survivor")
    request = lab.resolve()
    work = WorkFile(fsspec.filesystem("file"), str(lab.folder / "work.jsonl"))
    Progress(work.fs, f"{work.path}.progress", request["request_id"]).unverified = {survivor: "SURVIVORS"}
    states = {"VERIFIED": 1, "SURVIVORS": 1}
    which = {name: request[name] for name in ("request_id", "host", "project_id")}
    proof = {**which, "state": "PARTIAL", "states": states}
    done = suppress(lab, request=request, proof=proof)
    assert (done["persons"], done["left_out"]) == (1, 1)
    (path,) = (lab.folder / "erased").iterdir()
    text = path.read_text()
    assert suppress(lab, request=request, proof=proof) == done
    assert path.read_text() == text, "a retry writes the same"
    for secret in (*lab.names, lab.email, lab.person, SALT):
        assert secret not in text


def test_a_list_of_another_salt_or_a_damaged_one_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    suppress(lab)
    (path,) = (lab.folder / "erased").iterdir()
    whole = path.read_text()
    for damaged in (whole[:-40], "", "{}\n", whole.replace("entries", "others"), whole + "xyz\n"):
        path.write_text(damaged)
        with pytest.raises(PostHogSettingsError, match="is damaged"):
            to_files(lab)
    path.write_text(whole)
    connect(monkeypatch, lab.posthog, audit_secret=OTHER_SALT)
    with pytest.raises(PostHogSettingsError, match="another audit_secret"):
        to_files(lab)
    connect(monkeypatch, lab.posthog)
    with pytest.raises(PostHogSettingsError, match="audit_secret"):
        to_files(lab)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"suppressed": "maybe"}, "suppressed"),
        ({"suppress_path": None, "suppressed": "drop"}, "suppressed"),
        ({"suppress_path": None, "suppress_object_storage_conn_id": "aws"}, "suppress_object_storage_conn_id"),
        ({"verify_back": timedelta(days=1)}, "verify_back"),
        ({"columns": ["uuid", "created_at"]}, "suppress_path"),
    ],
)
def test_wrong_arguments_are_named(lab: Lab, given: dict[str, Any], field: str) -> None:
    suppress(lab)
    with pytest.raises(PostHogSettingsError) as error:
        to_files(lab, **given)
    assert error.value.field == field


def test_renamed_columns_and_queries_are_known() -> None:
    fs, root = memory()
    SuppressionList(fs, root, Pseudonyms(SALT)).add("r", [("distinct_id", "ann"), ("uuid", UUID.upper())])
    listed = SuppressionList(fs, root, Pseudonyms(SALT)).load()
    assert (len(listed), listed.files) == (2, 1)
    table = pa.table({"who": ["ann", "Ann", None, "bob"], "n": [1, 2, 3, 4]})
    kept = Suppressor(listed, sources.events({"who": "distinct_id", "n": "1"}), "drop")
    assert kept(table).column("n").to_pylist() == [2, 3, 4]
    query = sources.hogql("SELECT person_id FROM x", key="person_id", name="q")
    table = pa.table({"person_id": [UUID, str(uuid.uuid4())]})
    assert Suppressor(listed, query, "drop")(table).num_rows == 1
    head = json.loads(fs.cat_file(f"{root}/r.suppressed").splitlines()[0])
    assert head["entries"] == 2
