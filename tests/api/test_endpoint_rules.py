"""What PostHog would read wrongly, cut or ignore is refused before anything is sent."""

from __future__ import annotations

import copy
import pickle
from datetime import date, datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import (
    batch_exports,
    dashboards,
    elements,
    events,
    exports,
    file_downloads,
    groups,
    insights,
    persons,
    queries,
)
from airflow_provider_posthog.api.catalog import CATALOG, build, find
from airflow_provider_posthog.api.endpoint import Endpoint
from airflow_provider_posthog.exceptions import PostHogSettingsError
from tests.api.endpoint_cases import CASES, NOON, OTHER, PLAN, UUID
from tests.api.test_states import JSON

pytestmark = pytest.mark.filterwarnings("ignore::airflow_provider_posthog.exceptions.PostHogDeprecatedEndpointWarning")
DAY = "2026-11-01T00:00:00Z"
FILES = {"model": "events", "data_interval_start": DAY, "data_interval_end": "2026-11-02T00:00:00Z"}
FLAGS = ["delete_events", "delete_recordings", "keep_person"]


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        # read by presence, or by truth
        ("persons.delete", {"delete_events": "false"}, "delete_events"),
        ("persons.delete", {"keep_person": 0}, "keep_person"),
        ("persons.delete", {"delete_recordings": None}, "delete_recordings"),
        ("persons.bulk_delete", {"delete_events": "false"}, "delete_events"),
        ("persons.bulk_delete", {"keep_person": 1}, "keep_person"),
        ("dashboards.soft_delete", {"delete_insights": "false"}, "delete_insights"),
        ("batch_exports.unpause", {"backfill": "no"}, "backfill"),
        ("queries.cancel", {"dequeue_only": "false"}, "dequeue_only"),
        # cut silently
        ("persons.list", {"limit": 1001}, "limit"),
        ("persons.list", {"limit": 0}, "limit"),
        ("persons.list", {"limit": -1}, "limit"),
        ("persons.list", {"limit": "100"}, "limit"),
        ("persons.list", {"limit": True}, "limit"),
        ("persons.list", {"offset": -1}, "offset"),
        ("events.list", {"limit": 1001}, "limit"),
        ("persons.batch_by_distinct_ids", {"distinct_ids": ["x"] * 201}, "distinct_ids"),
        ("persons.batch_by_distinct_ids", {"distinct_ids": []}, "distinct_ids"),
        ("persons.batch_by_distinct_ids", {"distinct_ids": "user-1"}, "distinct_ids"),
        ("persons.batch_by_uuids", {"uuids": [UUID] * 201}, "uuids"),
        ("persons.batch_by_uuids", {"uuids": ["user-1"]}, "uuids"),
        ("persons.bulk_delete", {"ids": [UUID] * 1001}, "ids"),
        ("persons.bulk_delete", {"ids": []}, "ids"),
        ("persons.bulk_delete", {"ids": [5]}, "ids"),
        ("persons.bulk_delete", {"distinct_ids": ["x"]}, "ids"),
        # taken for no filter, or for another
        ("persons.list", {"email": ""}, "email"),
        ("persons.list", {"email": " "}, "email"),
        ("persons.list", {"distinct_id": ""}, "distinct_id"),
        ("persons.list", {"search": ""}, "search"),
        ("persons.list", {"properties": []}, "properties"),
        ("persons.list", {"properties": {"type": "AND", "values": PLAN}}, "properties"),
        ("persons.list", {"properties": [{"value": "x"}]}, "properties"),
        ("persons.list", {"properties": [{"key": "x", "value": NOON}]}, "properties"),
        ("persons.deletion_status", {"status": "done"}, "status"),
        ("persons.deletion_status", {"person_uuid": "user-1"}, "person_uuid"),
        ("events.list", {"event": ""}, "event"),
        ("events.list", {"person_id": "user-1"}, "person_id"),
        ("insights.retrieve", {"refresh": "forceblocking"}, "refresh"),
        ("insights.retrieve", {"refresh": True}, "refresh"),
        ("insights.list", {"refresh": "true"}, "refresh"),
        ("insights.list", {"short_id": ""}, "short_id"),
        ("dashboards.retrieve", {"refresh": "forced"}, "refresh"),
        ("dashboards.run_insights", {"refresh": ""}, "refresh"),
        ("dashboards.run_insights", {"output_format": "csv"}, "output_format"),
        ("queries.start", {"refresh": "force"}, "refresh"),
        ("groups.list", {"group_type_index": 5}, "group_type_index"),
        ("groups.list", {"group_type_index": "0"}, "group_type_index"),
        ("groups.find", {"group_key": ""}, "group_key"),
        ("elements.stats", {"include": ["$pageview"]}, "include"),
        ("elements.stats", {"include": []}, "include"),
        ("elements.values", {"key": "selector"}, "key"),
        ("insights.list", {"created_by": []}, "created_by"),
        ("persons.list", {"email": "\ud800"}, "arguments"),
        ("insights.trend", {"filters": {"date_from": "\ud800"}}, "arguments"),
        # ids that are names of other endpoints, or other things' ids
        ("persons.retrieve", {"person_id": "user-1"}, "person_id"),
        ("persons.retrieve", {"person_id": "deletion_status"}, "person_id"),
        ("persons.delete", {"person_id": "u1@example.com"}, "person_id"),
        ("persons.delete", {"person_id": 0}, "person_id"),
        ("insights.retrieve", {"insight_id": "trend"}, "insight_id"),
        ("insights.retrieve", {"insight_id": "activity"}, "insight_id"),
        ("insights.soft_delete", {"insight_id": True}, "insight_id"),
        ("dashboards.retrieve", {"dashboard_id": ".."}, "dashboard_id"),
        ("events.retrieve", {"event_id": "values"}, "event_id"),
        ("batch_exports.backfill", {"backfill_id": f"{UUID}-Backfill-2026-11-01"}, "backfill_id"),
        ("batch_exports.retrieve", {"batch_export_id": "test"}, "batch_export_id"),
        ("file_downloads.download", {"file": "../../x"}, "file"),
        ("dashboards.move_tile", {"tile_id": "9"}, "tile_id"),
        ("dashboards.update", {"restriction_level": 1}, "restriction_level"),
        ("dashboards.update", {"pinned": "maybe"}, "pinned"),
        # times
        ("events.list", {"after": "2026-11-01T00:00:00"}, "after"),
        ("events.list", {"after": datetime(2026, 11, 1)}, "after"),
        ("events.list", {"after": "yesterday"}, "after"),
        ("events.list", {"after": "2999-01-01T00:00:00Z"}, "before"),
        ("batch_exports.runs", {"after": None, "before": None}, "after"),
        ("batch_exports.runs", {"start": "-7d"}, "after"),
        ("batch_exports.runs", {"ordering": "data_interval_start"}, "after"),
        ("batch_exports.runs", {"after": None, "before": None, "end": DAY}, "start"),
        ("batch_exports.runs", {"after": "7 days"}, "after"),
        ("batch_exports.start_backfill", {"end_at": DAY}, "end_at"),
        ("batch_exports.start_backfill", {"start_at": "2026-11-01T00:00:00", "end_at": DAY}, "start_at"),
        ("batch_exports.start_backfill", {"start_at": "2026-11-03"}, "end_at"),
        ("batch_exports.start_backfill", {"start_at": "2026-13-01"}, "start_at"),
        ("file_downloads.start", {"data_interval_start": "2026-10-01T00:00:00Z"}, "data_interval_end"),
        ("file_downloads.start", {"data_interval_start": "2026-11-03T00:00:00Z"}, "data_interval_end"),
        ("file_downloads.start", {"compression": "zstd"}, "compression"),
        ("file_downloads.start", {"model": "persons"}, "include"),
        ("file_downloads.start", {"model": "hogql"}, "model"),
        ("file_downloads.start", {"include": []}, "include"),
        ("file_downloads.start", {"max_size_mb": -1}, "max_size_mb"),
        # nothing to do
        ("persons.update", {"properties": {}}, "properties"),
        ("persons.delete_property", {"key": ""}, "key"),
        ("insights.create", {"query": {}}, "query"),
        ("insights.cancel", {"client_query_id": ""}, "client_query_id"),
        ("insights.trend", {"filters": {"events": [NOON]}}, "filters"),
    ],
)
def test_refused(name: str, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        build(name, CASES[name].arguments | changes)
    assert caught.value.field == field
    assert caught.value.problem
    assert caught.value.remedy
    assert "example.com" not in str(caught.value)


def test_nothing_to_change() -> None:
    for change in (dashboards.update, insights.update, elements.update):
        with pytest.raises(PostHogSettingsError, match="nothing to change"):
            change(5)  # type: ignore[operator]
    with pytest.raises(PostHogSettingsError, match="nothing to change"):
        elements.create()


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flag_is_sent_only_when_it_is_true(flag: str) -> None:
    assert persons.delete(UUID).query_string() == ""
    assert persons.delete(UUID, **dict.fromkeys(FLAGS, False)).query_string() == ""
    assert build("persons.delete", {"person_id": UUID, flag: True}).query_string() == f"{flag}=true"
    assert build("persons.bulk_delete", {"ids": [UUID], flag: True}).json == {"ids": [UUID], flag: True}
    assert build("persons.bulk_delete", {"ids": [UUID], flag: False}).json == {"ids": [UUID]}


def test_which_ids_are_deleted() -> None:
    assert persons.bulk_delete(distinct_ids=["a"]).json == {"distinct_ids": ["a"]}
    assert len(persons.bulk_delete(ids=[UUID] * 1000).json["ids"]) == 1000  # type: ignore[index]
    with pytest.raises(PostHogSettingsError, match="but not both"):
        persons.bulk_delete()
    with pytest.raises(PostHogSettingsError, match="but not both"):
        persons.bulk_delete(ids=[UUID], distinct_ids=["a"])


def test_deletions_that_may_be_repeated() -> None:
    """Persons who are kept are found again; of those who are gone the second answer says that there were none."""
    assert persons.delete(UUID).repeatable
    assert not persons.bulk_delete(ids=[UUID], delete_events=True).repeatable
    assert persons.bulk_delete(ids=[UUID], delete_events=True, keep_person=True).repeatable
    assert batch_exports.unpause(UUID).repeatable
    assert not batch_exports.unpause(UUID, backfill=True).repeatable


def test_restoring_needs_a_false_that_is_json() -> None:
    assert insights.restore(7).json == {"deleted": False}
    assert dashboards.restore(7).json == {"deleted": False}
    assert dashboards.soft_delete(7).json == {"deleted": True}


def test_runs_by_their_interval() -> None:
    call = batch_exports.runs(UUID, start=NOON, end="2026-11-02T00:00:00Z")
    assert call.query == {
        "after": None,
        "before": None,
        "ordering": "-data_interval_start",
        "start": NOON.isoformat(),
        "end": "2026-11-02T00:00:00Z",
        "cursor": None,
    }
    assert batch_exports.runs(UUID, start="-30d", ordering="data_interval_start").query["ordering"] == (
        "data_interval_start"
    )


def test_times_are_sent_whole() -> None:
    start = datetime(2026, 11, 1, 0, 0, 0, 123456, tzinfo=timezone.utc)
    call = file_downloads.start(model="sessions", data_interval_start=start, data_interval_end="2026-11-08T00:00:00Z")
    assert call.json == {
        "model": "sessions",
        "file": {"format": "Parquet"},
        "data_interval_start": "2026-11-01T00:00:00.123456+00:00",
        "data_interval_end": "2026-11-08T00:00:00Z",
    }
    backfill = batch_exports.start_backfill(UUID, start_at=date(2026, 11, 1), end_at="2026-11-02")
    assert backfill.json == {"start_at": "2026-11-01", "end_at": "2026-11-02"}
    assert events.list(after=start, before="2026-11-02T00:00:00+02:00").query["limit"] == 1000


def test_only_what_is_given_is_sent() -> None:
    assert persons.list().query_string() == "limit=100"
    assert elements.stats().query_string() == ""
    assert groups.list(group_type_index=0).query_string() == "group_type_index=0"
    assert insights.update(7, name="n").json == {"name": "n"}
    assert exports.list().query_string() == "limit=100"
    assert insights.list(created_by=3, basic=False).query_string() == "created_by=3"
    assert dashboards.retrieve("12").path == "dashboards/12/"


def test_names_of_arguments_are_python_s() -> None:
    with pytest.raises(TypeError, match="emial"):
        persons.list(emial="x")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dashboards.move_tiles", "dashboards.move_tile"),
        ("person.list", "persons.list"),
        ("bulk_delete", "persons.bulk_delete"),
        ("move_tile", "dashboards.move_tile"),
        ("insight.softdelete", "insights.soft_delete"),
    ],
)
def test_the_nearest_name(name: str, near: str) -> None:
    with pytest.raises(PostHogSettingsError, match=f"Did you mean '{near}'") as caught:
        find(name)
    assert caught.value.field == "call"


@pytest.mark.parametrize("name", ["", "zzz", "list ", "__class__", None, 5, ["persons.list"]])
def test_a_name_like_none(name: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="which is no endpoint"):
        find(name)


def test_argument_names() -> None:
    with pytest.raises(PostHogSettingsError, match=r"takes no 'emial'\. Did you mean 'email'\?"):
        build("persons.list", {"emial": "x@example.com"})
    with pytest.raises(PostHogSettingsError, match="It takes nothing"):
        build("projects.me", {"zzz": 1})
    with pytest.raises(PostHogSettingsError, match="needs: tile_id, to_dashboard"):
        build("dashboards.move_tile", {"dashboard_id": 1})
    assert build("projects.me").path == "/api/users/@me/"


def test_find() -> None:
    for name, endpoint in CATALOG.items():
        assert find(name) is endpoint
        assert endpoint.__doc__


def test_endpoints_are_what_their_modules_hold() -> None:
    for endpoint in CATALOG.values():
        assert copy.deepcopy(endpoint) is endpoint
        assert pickle.loads(pickle.dumps(endpoint)) is endpoint
        assert endpoint.name in repr(endpoint)
    assert CATALOG["persons.list"] is persons.list


@given(st.sampled_from(sorted(CATALOG)), st.data())
def test_any_value_fits_or_is_refused(name: str, data: st.DataObject) -> None:
    """No value ends in anything but a call or a PostHogSettingsError."""
    endpoint: Endpoint[..., Any] = CATALOG[name]
    arguments = dict(CASES[name].arguments)
    if endpoint.parameters:
        argument = data.draw(st.sampled_from(sorted(endpoint.parameters)))
        arguments[argument] = data.draw(
            JSON | st.sampled_from([NOON, date(2026, 1, 1), UUID, OTHER, b"x", object(), float("nan"), [{}], {1: 2}])
        )
    try:
        call = build(name, arguments)
    except PostHogSettingsError as error:
        str(error).encode()
    else:
        call.query_string()
        assert call.name == name


def test_queries_check_refresh() -> None:
    with pytest.raises(PostHogSettingsError, match="Did you mean 'force_blocking'"):
        queries.start(queries.hogql("SELECT 1"), refresh="forceblocking")  # type: ignore[arg-type]
