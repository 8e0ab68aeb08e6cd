"""Syncs, views, linked tables and endpoints as tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api import system_poll
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogSettingsError,
    PostHogValidationError,
)
from airflow_provider_posthog.operators.endpoints import PostHogRunEndpointOperator
from airflow_provider_posthog.operators.warehouse import (
    PostHogLinkTableOperator,
    PostHogRunViewOperator,
    PostHogSyncSourceOperator,
)
from tests.emulator.client import Client
from tests.operators.support import Store, context, run_trigger, task_deferred


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_poll, "_missing", {})


@pytest.fixture
def api(connected: EmulatorProcess) -> Client:
    connected.settings(warehouse_job_seconds=0.3)
    return Client(connected.url, connected.api_key)


@pytest.fixture(params=["C", "A"], ids=["with system tables", "without"])
def generation(request: pytest.FixtureRequest, connected: EmulatorProcess) -> str:
    connected.settings(generation=request.param, warehouse_job_seconds=0.3)
    return str(request.param)


@pytest.fixture(params=[False, True], ids=["worker", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def sync(**options: Any) -> PostHogSyncSourceOperator:
    given = {"task_id": "task", "source": "Postgres", "poll_interval": 0.2, "deferrable": False, "timeout": 30}
    return PostHogSyncSourceOperator(**{**given, **options})


def view(**options: Any) -> PostHogRunViewOperator:
    given = {"task_id": "task", "view": "daily_orders", "poll_interval": 0.2, "deferrable": False, "timeout": 30}
    return PostHogRunViewOperator(**{**given, **options})


def to_the_end(task: Any, ctx: dict[str, Any] | None = None) -> tuple[Any, int]:
    """Run a task through all its deferrals; returns its result, and how many there were."""
    ctx, event, count = ctx or context(), None, 0
    while True:
        try:
            return (task.execute(ctx) if event is None else task.execute_complete(ctx, event)), count
        except task_deferred() as deferred:
            count += 1
            assert count < 10
            event = run_trigger(deferred.trigger)  # type: ignore[attr-defined]


def source_of(api: Client) -> dict[str, Any]:
    return dict(api.get("external_data_sources/").json()["results"][0])


def test_a_source_is_synced_and_each_table_told(api: Client, generation: str, deferrable: bool) -> None:
    result, _ = to_the_end(sync(deferrable=deferrable))
    assert [one["schema"] for one in sorted(result["syncs"], key=lambda one: one["schema"])] == ["customers", "orders"]
    assert [one["status"] for one in result["syncs"]] == ["Completed"] * 2
    assert result["rows"] == 200


def test_one_table_is_synced_alone(api: Client, generation: str) -> None:
    result, _ = to_the_end(sync(schema="orders"))
    assert [(one["schema"], one["rows"]) for one in result["syncs"]] == [("orders", 100)]
    again, _ = to_the_end(sync(schema="orders"))
    assert again["syncs"][0]["id"] != result["syncs"][0]["id"]


def test_a_sync_that_was_begun_before_is_waited_for_and_is_not_the_task_s(
    api: Client, connected: EmulatorProcess, generation: str, deferrable: bool
) -> None:
    connected.settings(warehouse_job_seconds=1.5)
    source = source_of(api)
    orders = next(one for one in source["schemas"] if one["name"] == "orders")
    assert api.post(f"external_data_schemas/{orders['id']}/reload/").status_code == 200
    theirs = api.get(f"external_data_sources/{source['id']}/jobs/").json()[0]["id"]
    connected.settings(warehouse_job_seconds=0.2)
    result, deferrals = to_the_end(sync(schema="orders", deferrable=deferrable))
    assert result["syncs"][0]["id"] != theirs
    assert deferrals == (2 if deferrable else 0)


def test_a_failed_sync_fails_with_posthogs_reason(
    api: Client, connected: EmulatorProcess, generation: str, deferrable: bool
) -> None:
    connected.settings(warehouse_outcome="Failed")
    with pytest.raises(PostHogJobFailed, match=r"2 of 2 syncs failed\. Failed: it failed\. could not connect"):
        to_the_end(sync(deferrable=deferrable))


def test_a_request_that_begins_nothing_is_no_success(
    api: Client, connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_posthog.api.watched.START_SECONDS", 1.0)
    connected.settings(warehouse_starts=False)
    with pytest.raises(PostHogJobFailed, match="PostHog has not begun 1 of 1 syncs"):
        to_the_end(sync(schema="orders"))


def test_out_of_time_a_sync_is_cancelled(api: Client, connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(warehouse_job_seconds=600)
    with pytest.raises(PostHogJobTimeout, match="It was cancelled"):
        to_the_end(sync(timeout=1.2, deferrable=deferrable))
    jobs = api.get(f"external_data_sources/{source_of(api)['id']}/jobs/").json()
    assert [job["status"] for job in jobs] == ["Cancelled"] * 2


def test_a_killed_task_cancels_the_syncs_that_go_on_though_others_have_ended(
    api: Client, connected: EmulatorProcess
) -> None:
    connected.settings(warehouse_job_seconds=600)
    task = sync(deferrable=True)
    with pytest.raises(task_deferred()):
        task.execute(context())
    source = source_of(api)
    first = min(one["id"] for one in source["schemas"] if one["should_sync"])
    assert api.post(f"external_data_schemas/{first}/cancel/").status_code == 200
    task.on_kill()
    jobs = api.get(f"external_data_sources/{source['id']}/jobs/").json()
    assert [job["status"] for job in jobs] == ["Cancelled"] * 2


def test_a_retry_takes_up_its_own_sync(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(warehouse_job_seconds=2)
    store = Store()
    with pytest.raises(task_deferred()):
        sync(schema="orders", deferrable=True).execute(context(store=store))
    result, _ = to_the_end(sync(schema="orders"), context(try_number=2, store=store))
    jobs = api.get(f"external_data_sources/{source_of(api)['id']}/jobs/").json()
    assert [job["id"] for job in jobs] == [result["syncs"][0]["id"]]


def test_a_lost_answer_begins_no_second_sync(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(warehouse_job_seconds=2)
    connected.faults(method="POST", path="*/reload/", status=502, work=True)
    result, _ = to_the_end(sync(schema="orders"))
    jobs = api.get(f"external_data_sources/{source_of(api)['id']}/jobs/").json()
    assert [job["id"] for job in jobs] == [result["syncs"][0]["id"]]


def test_what_posthog_refuses_is_forgotten(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(warehouse_unpaid=True)
    store = Store()
    with pytest.raises(PostHogValidationError):
        to_the_end(sync(), context(store=store))
    assert store.kept == {}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"resync": True}, "confirm: is not True, and resync drops what PostHog has loaded"),
        ({"resync": True, "confirm": "yes"}, "confirm: is not True"),
        ({"resync": "false", "confirm": True}, "resync: is not True or False"),
        ({"schema": "order"}, "Did you mean 'orders'"),
        ({"source": "Stripe"}, "has no such sources, but: Postgres"),
        ({"source": "01a200ca-b698-0000-24c1-84e2ab7ef77e"}, "PostHog knows no"),
    ],
)
def test_bad_arguments_begin_nothing(
    api: Client, connected: EmulatorProcess, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(PostHogSettingsError, match=text):
        to_the_end(sync(**options))
    assert not connected.calls("/external_data", "POST")


def test_a_confirmed_resync_cancels_what_goes_on(api: Client, connected: EmulatorProcess) -> None:
    connected.settings(warehouse_job_seconds=600)
    orders = next(one for one in source_of(api)["schemas"] if one["name"] == "orders")
    api.post(f"external_data_schemas/{orders['id']}/reload/")
    connected.settings(warehouse_job_seconds=0.2)
    result, _ = to_the_end(sync(schema="orders", resync=True, confirm=True))
    assert result["syncs"][0]["status"] == "Completed"
    assert connected.calls("/resync/", "POST")


def test_a_view_is_run_and_waited_for(api: Client, generation: str, deferrable: bool) -> None:
    result, _ = to_the_end(view(deferrable=deferrable))
    assert result["view"] == "daily_orders"
    assert result["rows"] == (100 if generation == "C" else None), "older servers do not tell"
    to_the_end(view(deferrable=deferrable))


def test_a_view_that_is_skipped_has_failed(
    api: Client, connected: EmulatorProcess, generation: str, deferrable: bool
) -> None:
    connected.settings(warehouse_outcome="Skipped")
    with pytest.raises(PostHogJobFailed, match="Skipped: PostHog skipped it"):
        to_the_end(view(deferrable=deferrable))


@pytest.mark.parametrize(
    ("name", "text"), [("scratch", "is not materialized"), ("daily_order", "Did you mean"), ("", "is empty")]
)
def test_a_view_that_cannot_be_run_is_refused(api: Client, connected: EmulatorProcess, name: str, text: str) -> None:
    with pytest.raises(PostHogSettingsError, match=text):
        to_the_end(view(view=name))
    assert not connected.calls("/run/", "POST")


def test_a_text_is_no_full_refresh(api: Client, connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="full_refresh: is not True or False"):
        to_the_end(view(full_refresh="false"))
    assert not connected.calls("/run/", "POST")


def test_files_are_linked_once_and_then_refreshed(
    api: Client, connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "aws", "login": "AKIA", "password": "s3cret"}))
    url = "https://lake.s3.eu-central-1.amazonaws.com/orders/*.parquet"

    def link(**options: Any) -> PostHogLinkTableOperator:
        given = {"task_id": "link", "name": "orders_lake", "url_pattern": url, "bucket_conn_id": "lake"}
        return PostHogLinkTableOperator(**{**given, **options})

    first, second = (to_the_end(link())[0] for _ in range(2))
    assert (first["created"], second["created"], first["table_id"]) == (True, False, second["table_id"])
    assert second["columns"] == ["id"]
    assert "s3cret" not in json.dumps([first, second])
    with pytest.raises(PostHogSettingsError, match="has other files"):
        to_the_end(link(url_pattern=url.replace("orders", "other")))
    with pytest.raises(PostHogSettingsError, match="is not an https"):
        to_the_end(link(url_pattern="s3://lake/orders/*.parquet"))
    connected.settings(warehouse_no_files=True)
    with pytest.raises(PostHogValidationError, match="no files match"):
        to_the_end(link(name="another"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"name": " "}, "name: is empty"),
        ({"name": None}, "name: is empty"),
        ({"format": "parquet"}, "format: is none of PostHog's"),
        ({"url_pattern": "https://"}, "url_pattern: is not an https"),
        ({"url_pattern": "https://key:secret@lake.example.com/*.parquet"}, "url_pattern: .* without a key in it"),
    ],
)
def test_files_that_cannot_be_linked_are_refused_before_anything_is_sent(
    api: Client, connected: EmulatorProcess, options: dict[str, Any], text: str
) -> None:
    given = {"name": "orders", "url_pattern": "https://lake.example.com/*.parquet", "bucket_conn_id": "lake"}
    with pytest.raises(PostHogSettingsError, match=text) as caught:
        to_the_end(PostHogLinkTableOperator(task_id="link", **{**given, **options}))
    assert "secret" not in str(caught.value)
    assert not connected.calls("/warehouse_tables/")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"endpoint": None}, "endpoint: is not an endpoint's name"),
        ({"endpoint": "../query"}, "endpoint: is not an endpoint's name"),
        ({"endpoint": ".."}, "endpoint: is not an endpoint's name"),
        ({"limit": "0"}, "limit: is not a number from 1 on"),
        ({"limit": True}, "limit: is not a number from 1 on"),
        ({"max_rows": -1}, "max_rows: is not a number of rows"),
        ({"variables": {1: "NL"}}, "variables: are not values by the names"),
        ({"variables": {"since": {1, 2}}}, "variables: cannot be sent as JSON"),
    ],
)
def test_an_endpoint_s_bad_arguments_are_refused_by_their_names(
    api: Client, connected: EmulatorProcess, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(PostHogSettingsError, match=text):
        to_the_end(PostHogRunEndpointOperator(**{"task_id": "numbers", "endpoint": "events-by-day", **options}))
    assert not connected.calls("/endpoints/", "POST")


def test_a_template_s_text_is_a_number_of_rows(api: Client, connected: EmulatorProcess) -> None:
    to_the_end(PostHogRunEndpointOperator(task_id="numbers", endpoint="events-by-day", limit="40"))
    (call,) = connected.calls("/endpoints/", "POST")
    assert call["body"]["limit"] == 40


def test_an_endpoint_hands_on_fresh_rows(api: Client, connected: EmulatorProcess, generation: str) -> None:
    task = PostHogRunEndpointOperator(task_id="numbers", endpoint="events-by-day")
    result, _ = to_the_end(task)
    assert [one["name"] for one in result["columns"]] == ["day", "n"]
    assert result["row_count"] == len(result["rows"]) > 10
    assert result["is_cached"] is False


def test_an_endpoint_gets_the_values_of_its_variables(api: Client, generation: str) -> None:
    def of(**options: Any) -> Any:
        task = PostHogRunEndpointOperator(task_id="numbers", endpoint="days-of-an-event", **options)
        return to_the_end(task)[0]["rows"]

    views, nothing = (of(variables={"event": event}) for event in ("$pageview", "nothing at all"))
    assert views
    assert not nothing
    with pytest.raises(PostHogError, match="event is missing"):
        of()


def test_more_rows_than_the_limit_are_an_error_unless_a_cut_is_allowed(api: Client) -> None:
    task = PostHogRunEndpointOperator(task_id="numbers", endpoint="events-by-day", limit=3)
    with pytest.raises(PostHogIncompleteError, match="has more rows than the 3 of its answer"):
        to_the_end(task)
    task.allow_cut = True
    assert to_the_end(task)[0]["row_count"] == 3


def test_an_endpoint_s_rows_go_into_a_file(api: Client, connected: EmulatorProcess, tmp_path: Path) -> None:
    path = tmp_path / "numbers.jsonl"
    task = PostHogRunEndpointOperator(task_id="numbers", endpoint="events-by-day", path=f"file://{path}")
    result, _ = to_the_end(task)
    assert result["rows"] is None
    assert len(path.read_text().splitlines()) == result["row_count"]


def test_an_endpoint_that_is_not_there_says_so(api: Client, connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="endpoint: is 'nothing', and the project has no such endpoint"):
        to_the_end(PostHogRunEndpointOperator(task_id="numbers", endpoint="nothing"))
