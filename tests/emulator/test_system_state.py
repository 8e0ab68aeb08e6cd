"""``system.*`` shows what the server's other addresses show, and has the columns of PostHog's own source."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import Client, hogql
from tests.support.waiting import wait_for

DAY = {"start_at": "2026-11-01T00:00:00Z", "end_at": "2026-11-02T00:00:00Z"}


def rows(api: Client, sql: str) -> list[list[object]]:
    answer = api.query(sql)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def test_a_cohort_that_the_api_makes_is_found_by_queries(api: Client, posthog: EmulatorProcess) -> None:
    some = "SELECT id AS person_id FROM persons WHERE properties.plan = 'pro'"
    made = api.post("cohorts/", {"name": "Payers", "is_static": True, "query": hogql(some)}).json()
    ((count,),) = rows(api, f"SELECT count() FROM ({some} LIMIT 50000)")
    for wish in (str(made["id"]), "'Payers'"):
        assert rows(api, f"SELECT count() FROM persons WHERE id IN COHORT {wish}") == [[count]] != [[0]]
    assert api.get(f"cohorts/{made['id']}/").json()["count"] == count
    shown = "SELECT id, name, is_static, count FROM system.cohorts"
    assert rows(api, shown) == [[made["id"], "Payers", 1, count]]


def test_a_cohort_that_a_test_makes_is_listed_by_the_api(api: Client, posthog: EmulatorProcess) -> None:
    number = posthog.add_cohort("Friends", distinct_ids=["user-1", "user-2"], is_static=True)
    (listed,) = api.get("cohorts/").json()["results"]
    assert (listed["id"], listed["name"], listed["count"]) == (number, "Friends", 2)
    ((first,), _) = rows(api, f"SELECT person_id FROM static_cohort_people WHERE cohort_id = {number}")
    taken = api("PATCH", f"cohorts/{number}/remove_person_from_static_cohort/", json={"person_id": first})
    assert taken.status_code == 200
    assert rows(api, "SELECT count() FROM persons WHERE id IN COHORT 'Friends'") == [[1]]
    assert api.post("cohorts/", {"name": "Next", "is_static": True}).json()["id"] == number + 1


def test_cohort_people_has_nobody_of_a_static_cohort(api: Client, posthog: EmulatorProcess) -> None:
    posthog.add_cohort("Static", distinct_ids=["user-1"], is_static=True)
    posthog.add_cohort("Dynamic", distinct_ids=["user-2", "user-3"])
    assert rows(api, "SELECT count() FROM cohort_people") == [[2]]
    assert rows(api, "SELECT count() FROM static_cohort_people") == [[1]]


@pytest.mark.parametrize(
    ("path", "body", "shown"),
    [
        ("annotations/", {"content": "Deploy", "scope": "project"}, "content, scope, created_by_id, deleted"),
        ("feature_flags/", {"key": "beta", "name": "Beta"}, "key, name, created_by_id, deleted"),
        ("experiments/", {"name": "Price", "feature_flag_key": "beta"}, "name, archived, created_by_id"),
        ("surveys/", {"name": "Why?"}, "name, type, created_by_id"),
    ],
)
def test_a_record_of_the_api_is_a_row(api: Client, path: str, body: dict[str, object], shown: str) -> None:
    made = api.post(path, body).json()
    table = f"system.{path.strip('/')}"
    (row,) = rows(api, f"SELECT toString(id), {shown} FROM {table}")
    known = {**made, "created_by_id": made["created_by"]["id"]}
    assert row == [str(made["id"]), *(_as_stored(known[name]) for name in shown.split(", "))]


def _as_stored(value: object) -> object:
    return int(value) if isinstance(value, bool) else value


def test_a_file_download_is_a_batch_export_on_demand_and_its_run(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(file_download_seconds=0, file_listing_seconds=0)
    window = {"data_interval_start": DAY["start_at"], "data_interval_end": DAY["end_at"]}
    made = api.post("file_download_batch_exports/", {"model": "events", "file_format": "Parquet", **window})
    assert made.status_code == 202, made.text
    number = made.json()["id"]
    wait_for(lambda: api.get(f"file_download_batch_exports/{number}/").json()["status"] == "Completed")
    runs = "SELECT status, batch_export_id, data_interval_end FROM system.batch_export_runs"
    joined = f"{runs} AS r JOIN system.batch_export_on_demands AS d ON d.id = r.batch_export_on_demand_id"
    assert rows(api, f"{joined} WHERE d.id = '{number}'") == [["Completed", None, DAY["end_at"]]]


def test_sources_and_views_of_the_warehouse_are_rows(api: Client) -> None:
    (source,) = api.get("external_data_sources/").json()["results"]
    schemas = "SELECT name, source_id, should_sync FROM system.source_schemas ORDER BY name"
    expected = sorted([each["name"], source["id"], each["should_sync"]] for each in source["schemas"])
    assert rows(api, schemas) == expected
    assert rows(api, "SELECT id, source_type FROM system.data_warehouse_sources") == [[source["id"], "Postgres"]]
    views = sorted(each["name"] for each in api.get("warehouse_saved_queries/").json()["results"])
    assert rows(api, "SELECT name FROM system.data_modeling_views ORDER BY name") == [[name] for name in views]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("batch_export_on_demands", "id, team_id, destination_id, source_id, model, filters, deleted"),
        ("dashboards", "id, team_id, name, description, created_by_id"),
        ("data_warehouse_sources", "id, status, access_method, direct_query_enabled, is_live_queryable"),
        ("error_tracking_severity_rules", "id, severity, order_key"),
        ("session_recordings", "session_id, distinct_id, duration, retention_period_days"),
        ("property_definitions", "id, team_id, name, type, property_type, is_numerical, group_type_index"),
        ("tasks", "id, title, repository"),
        ("score_definitions", "id, name, kind, archived"),
    ],
)
def test_tables_have_the_columns_of_posthog_s_source(api: Client, table: str, columns: str) -> None:
    answer = api.query(f"SELECT {columns} FROM system.{table} LIMIT 1").json()
    assert answer["columns"] == columns.split(", ")


def test_runs_do_not_show_whose_they_are(api: Client) -> None:
    assert "team_id" not in api.query("SELECT * FROM system.batch_export_runs LIMIT 1").json()["columns"]
    assert "team_id" in api.query("SELECT * FROM system.batch_exports LIMIT 1").json()["columns"]


def test_there_is_no_table_that_posthog_s_source_does_not_have(api: Client) -> None:
    answer = api.query("SELECT name FROM system.event_definitions")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input")
    assert "Unknown table" in answer.json()["detail"]


def test_basic_lists_of_insights_know_of_no_result(api: Client) -> None:
    assert api.get("insights/1/?refresh=force_blocking").json()["last_refresh"]
    listed = api.get("insights/?basic=true").json()["results"]
    assert {each["last_refresh"] for each in listed} == {None}
    assert {each["refreshing"] for each in listed} == {False}
