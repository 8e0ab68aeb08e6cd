"""PostHog's own data quality checks as a gate."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogPermissionError,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.operators.warehouse import PostHogRunDataQualityOperator
from tests.emulator.client import Client
from tests.operators.support import Store, context, finish, run_trigger, task_deferred


@pytest.fixture
def api(connected: EmulatorProcess) -> Client:
    return Client(connected.url, connected.api_key)


@pytest.fixture(params=["view", "table"])
def subject(request: pytest.FixtureRequest, api: Client) -> dict[str, str]:
    """The view or table whose checks are run, as the operator's argument."""
    if request.param == "table":
        files = {"name": "orders", "format": "Parquet", "url_pattern": "https://b.example.com/*.parquet"}
        made = api.post("warehouse_tables/", {**files, "credential": {"access_key": "a", "access_secret": "b"}})
        assert made.status_code == 201
    return {request.param: "daily_orders" if request.param == "view" else "orders"}


def add_check(api: Client, subject: dict[str, str], name: str, **more: Any) -> str:
    ((kind, of),) = subject.items()
    path = "warehouse_saved_queries" if kind == "view" else "warehouse_tables"
    found = next(one for one in api.get(f"{path}/").json()["results"] if one["name"] == of)
    made = api.post(f"{path}/{found['id']}/checks/", {"name": name, "check_type": "not_null", **more})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def operator(**options: Any) -> PostHogRunDataQualityOperator:
    given = {"task_id": "task", "poll_interval": 0.1, "deferrable": False, "timeout": 20}
    return PostHogRunDataQualityOperator(**{**given, **options})


def suites(posthog: EmulatorProcess) -> int:
    return sum(call["path"].endswith(("/run/", "/run_all/")) for call in posthog.calls("/checks/", "POST"))


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_good_checks_let_the_dag_go_on(
    api: Client, connected: EmulatorProcess, subject: dict[str, str], deferrable: bool
) -> None:
    connected.settings(checks_seconds=0.3)
    add_check(api, subject, "customer_there", column_name="customer")
    add_check(api, subject, "id_unique", check_type="unique", column_name="id", severity="warn")
    found = finish(operator(**subject, deferrable=deferrable), context())
    assert (found["passed"], found["failed"], found["errored"], found["skipped"]) == (2, 0, 0, 0)
    assert {(one["name"], one["column"]) for one in found["checks"]} == {
        ("customer_there", "customer"),
        ("id_unique", "id"),
    }


def test_a_check_that_finds_bad_rows_fails_with_its_name_and_how_many(
    api: Client, connected: EmulatorProcess, subject: dict[str, str]
) -> None:
    add_check(api, subject, "fine")
    add_check(api, subject, "customer_there", column_name="customer")
    connected.settings(checks_failing=["customer_there"])
    with pytest.raises(PostHogJobFailed, match=r"1 of 2 checks found bad rows\. customer_there of customer: 3 rows"):
        finish(operator(**subject), context())


def test_a_check_that_only_warns_does_not_fail(
    api: Client, connected: EmulatorProcess, caplog: pytest.LogCaptureFixture
) -> None:
    add_check(api, {"view": "daily_orders"}, "fresh", check_type="freshness", severity="warn")
    connected.settings(checks_failing=["fresh"])
    found = finish(operator(view="daily_orders"), context())
    assert (found["failed"], found["checks"][0]["severity"]) == (1, "warn")


def test_a_check_that_could_not_be_run_is_no_good_check(api: Client, connected: EmulatorProcess) -> None:
    add_check(api, {"view": "daily_orders"}, "broken", severity="warn")
    connected.settings(checks_erring=["broken"])
    with pytest.raises(PostHogJobFailed, match=r"1 could not be run\. broken: Unknown column"):
        finish(operator(view="daily_orders"), context())


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_fewer_results_than_the_run_has_counted_are_no_proof(
    api: Client, connected: EmulatorProcess, subject: dict[str, str], deferrable: bool
) -> None:
    add_check(api, subject, "id_there", column_name="id")
    add_check(api, subject, "customer_there", column_name="customer")
    connected.settings(checks_failing=["customer_there"])
    one = [{"id": "1", "check_name": "id_there", "check_type": "not_null", "status": "passed"}]
    connected.faults(method="GET", path="*/check_runs/", status=200, body=one, count=-1)
    with pytest.raises(PostHogIncompleteError, match="counted 2 checks in the run and returned the results of 1"):
        finish(operator(**subject, deferrable=deferrable), context())


@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_an_error_in_a_200_is_no_run(
    api: Client, connected: EmulatorProcess, subject: dict[str, str], deferrable: bool
) -> None:
    add_check(api, subject, "id_there", column_name="id")
    connected.faults(method="POST", path="*/run_all/", status=200, body={"error": "a bad day"}, count=-1)
    with pytest.raises(PostHogTransportError, match="'id'"):
        finish(operator(**subject, deferrable=deferrable), context())


def test_no_check_at_all_is_no_proof(api: Client, connected: EmulatorProcess, subject: dict[str, str]) -> None:
    with pytest.raises(PostHogJobFailed, match="there is no check to run"):
        finish(operator(**subject), context())
    add_check(api, subject, "off", enabled=False)
    with pytest.raises(PostHogJobFailed, match="there is no check to run"):
        finish(operator(**subject), context())


def test_a_worker_of_posthogs_that_was_lost_is_a_failure(api: Client, connected: EmulatorProcess) -> None:
    add_check(api, {"view": "daily_orders"}, "fine")
    connected.settings(checks_outcome="failed")
    with pytest.raises(PostHogJobFailed, match=r"The worker was lost"):
        finish(operator(view="daily_orders"), context())


def test_one_check_runs_alone_by_its_name_or_uuid(
    api: Client, connected: EmulatorProcess, subject: dict[str, str]
) -> None:
    add_check(api, subject, "bad")
    good = add_check(api, subject, "good")
    connected.settings(checks_failing=["bad"])
    for wish in ("good", good):
        found = finish(operator(**subject, check=wish), context())
        assert [one["id"] for one in found["checks"]] == [good]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "table"),
        ({"view": "daily_orders", "table": "orders"}, "table"),
        ({"view": "daily_order"}, "view"),
        ({"table": "nope"}, "table"),
        ({"view": "daily_orders", "check": "nope"}, "check"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_runs(
    connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        finish(operator(**options), context())
    assert caught.value.field == field
    assert not suites(connected)


def test_a_project_or_a_server_without_checks_is_told_so(connected: EmulatorProcess) -> None:
    connected.settings(checks_enabled=False)
    with pytest.raises(PostHogPermissionError, match="not enabled for this project"):
        finish(operator(view="daily_orders"), context())
    connected.settings(checks_enabled=True, generation="A")
    with pytest.raises(PostHogSettingsError, match="older than August 2026"):
        finish(operator(view="daily_orders"), context())


def test_a_retry_goes_on_with_the_run_of_the_try_before(api: Client, connected: EmulatorProcess) -> None:
    add_check(api, {"view": "daily_orders"}, "fine")
    connected.settings(checks_seconds=1.0)
    store = Store()
    with pytest.raises(task_deferred()) as deferred:
        operator(view="daily_orders", deferrable=True).execute(context(store=store))
    found = operator(view="daily_orders").execute(context(store=store, try_number=2))
    assert found["passed"] == 1
    assert suites(connected) == 1
    # a triggerer that comes back late tells the same
    assert run_trigger(deferred.value.trigger)["outcome"] == "succeeded"  # type: ignore[attr-defined]


def test_a_run_that_does_not_end_is_a_timeout(api: Client, connected: EmulatorProcess) -> None:
    add_check(api, {"view": "daily_orders"}, "fine")
    connected.settings(checks_seconds=600)
    with pytest.raises(PostHogJobTimeout, match="PostHog cannot cancel it"):
        finish(operator(view="daily_orders", timeout=0.3), context())
