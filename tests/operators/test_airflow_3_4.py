"""What Airflow 3.4 brought: loops, whose iterations share their names, and tasks that run again within a try.

No 3.4 is needed: its contexts are imitated, as far as this provider reads them.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobError, PostHogSettingsError
from airflow_provider_posthog.tasks.identity import Identity
from tests.operators.support import (
    Store,
    context,
    created,
    export_operator,
    finish,
    task_deferred,
)
from tests.operators.test_queries import ROWS, query, scripted, started, status
from tests.support.scripted import ScriptedServer, error, ok

__all__ = ["scripted"]

STORES = pytest.mark.parametrize("stored", [True, False], ids=["store", "no_store"])
NO_REGION = uuid.UUID(int=0)
REGION = uuid.UUID(int=7)


def in_loop(index: int = 0, region: uuid.UUID | None = REGION, **options: Any) -> dict[str, Any]:
    """The context of a task in a loop."""
    made = context(**options)
    made["loop"] = SimpleNamespace(index=index, group_id="refine", max_iterations=9, previous_result={"a": index})
    made["ti"].region_id = region
    made["ti"].id = uuid.uuid4()  # another one in each try
    return made


def rescheduled(count: int = 1, **options: Any) -> dict[str, Any]:
    """The context of a task that runs again with the same try number."""
    return {**context(**options), "task_reschedule_count": count}


def test_each_iteration_of_a_loop_has_an_owner_of_its_own() -> None:
    owners = [Identity.of(in_loop(index)).owner for index in range(4)]
    owners.append(Identity.of(in_loop(0, uuid.UUID(int=8))).owner)  # the loop was cleared, or is another mapped one's
    owners.append(Identity.of(context()).owner)
    assert len(set(owners)) == len(owners)


def test_the_tries_of_an_iteration_share_an_owner() -> None:
    assert Identity.of(in_loop(3)).owner == Identity.of(in_loop(3, try_number=2)).owner


def test_a_loop_is_read_as_a_mapping_too_and_without_a_region() -> None:
    plain = context()
    plain["loop"] = {"index": 2}
    assert Identity.of(plain).owner == Identity.of(in_loop(2, None)).owner != Identity.of(context()).owner


@pytest.mark.parametrize("nothing", [None, NO_REGION, str(NO_REGION), ""])
def test_what_is_in_no_loop_keeps_the_owner_that_it_had_before_airflow_3_4(nothing: object) -> None:
    plain = context()
    plain["ti"].region_id = nothing
    assert Identity.of(plain).owner == Identity.of(context()).owner


def test_an_iteration_does_not_take_the_finished_export_of_another(connected: EmulatorProcess) -> None:
    """Iteration 2's first try died before it submitted anything, so that its second one looks for an export."""
    assert finish(export_operator(), in_loop(1))["id"] == 1
    assert finish(export_operator(), in_loop(2, try_number=2))["id"] == 2


def test_an_iteration_does_not_take_what_another_has_stored(connected: EmulatorProcess) -> None:
    store = Store()
    connected.next_exports("slow")
    with pytest.raises(task_deferred()):
        export_operator(deferrable=True).execute(in_loop(1, store=store))
    done = finish(export_operator(), in_loop(2, store=store))
    assert done["id"] == 2
    assert [call["method"] for call in connected.calls("/exports/1/")] == []


def test_an_iteration_does_not_take_the_query_of_another(connected: EmulatorProcess) -> None:
    finish(query(), in_loop(1))
    finish(query(), in_loop(2, try_number=2))
    assert len(started(connected)) == 2
    assert len({call["body"]["client_query_id"] for call in started(connected)}) == 2


def test_an_iteration_calculates_an_insight_of_its_own(connected: EmulatorProcess) -> None:
    from airflow_provider_posthog.operators.insights import PostHogRefreshInsightOperator

    def names(ctx: dict[str, Any]) -> set[str]:
        before = len(connected.calls())
        operator = PostHogRefreshInsightOperator(task_id="task", insight=1, poll_interval=0.05, deferrable=False)
        finish(operator, ctx)
        asked = [call["path"] + str(call.get("query")) for call in connected.calls()[before:]]
        return {name for name in asked if "client_query_id" in name}

    assert names(in_loop(1)).isdisjoint(names(in_loop(2)))


# Running again within a try.


@STORES
@pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])
def test_a_rescheduled_task_takes_its_running_export_up(
    connected: EmulatorProcess, deferrable: bool, stored: bool
) -> None:
    store = Store() if stored else None
    connected.next_exports("succeed", export_seconds=1.0)
    connected.faults(method="GET", path="*/exports/1/", status=503, count=1)
    with pytest.raises(PostHogJobError):
        finish(export_operator(max_poll_failures=1), context(store=store))
    assert finish(export_operator(deferrable=deferrable), rescheduled(store=store))["id"] == 1
    assert created(connected) == 1


def test_a_stored_id_is_read_whatever_the_try_number_is_and_nobody_counted_reschedules(
    connected: EmulatorProcess,
) -> None:
    store = Store()
    connected.next_exports("slow")
    for _ in range(3):
        with pytest.raises(task_deferred()):
            export_operator(deferrable=True).execute(context(store=store))
    assert created(connected) == 1


@STORES
def test_a_first_try_asks_for_no_more_than_before(connected: EmulatorProcess, stored: bool) -> None:
    with pytest.raises(task_deferred()):
        export_operator(deferrable=True).execute(
            {**context(store=Store() if stored else None), "task_reschedule_count": 0}
        )
    assert [call["method"] for call in connected.calls("/exports/")] == ["POST"]


@STORES
def test_a_rescheduled_task_takes_its_running_query_up(connected: EmulatorProcess, stored: bool) -> None:
    store = Store() if stored else None
    connected.settings(async_seconds=1.0)
    with pytest.raises(task_deferred()):
        query(deferrable=True).execute(context(store=store))
    finish(query(), rescheduled(store=store))
    assert len(started(connected)) == 1


@pytest.mark.parametrize("again", [context, rescheduled], ids=["uncounted", "counted"])
def test_a_query_that_failed_is_run_again_under_another_name(scripted: ScriptedServer, again: Any) -> None:
    """Else what is asked of the name may be told of the run before."""

    store, failed = Store(), status(complete=True, error=True, error_message="Memory limit")
    scripted.script(status(), error(503, "later"))
    with pytest.raises(PostHogError, match="unreachable"):
        query(max_poll_failures=1).execute(context(store=store))
    first = scripted.requests[0].json["client_query_id"]
    store.set("posthog_job", {**store.get("posthog_job"), "id": first})  # the script calls all queries "q"
    scripted.script(*[failed] * (2 if again is rescheduled else 1), ok({**ROWS, "query_status": None}))
    assert query().execute(again(store=store))["rows"] == [[1]]
    assert [call.json["client_query_id"] for call in scripted.requests if call.method == "POST"] != [first]


def test_a_rescheduled_task_may_find_the_file_that_it_has_written(connected: EmulatorProcess, tmp_path: Path) -> None:
    path = f"file://{tmp_path}/rows.csv"
    hogql = "select event from events group by event order by event limit 50"
    finish(query(path=path, query=hogql), context())
    with pytest.raises(PostHogSettingsError, match="already exists"):
        finish(query(path=path, query=hogql), context())
    assert finish(query(path=path, query=hogql), rescheduled())["path"].endswith("rows.csv")


# Tries without the task's store.


def test_a_query_is_found_by_the_names_of_all_earlier_tries(connected: EmulatorProcess) -> None:
    """Six workers were killed, one after another, each while it watched the first one's query."""
    connected.settings(async_seconds=1000.0)
    for try_number in range(1, 13):
        with pytest.raises(task_deferred()):
            query(deferrable=True, timeout=600).execute(context(try_number=try_number, retries=20))
    assert len(started(connected)) == 1


def test_an_insight_is_found_by_the_names_of_all_earlier_tries() -> None:
    names = [name for name, _ in Identity.of(context(try_number=9)).earlier({"insight": 1})]
    assert names == [Identity.of(context()).name_of({"insight": 1}, number) for number in range(8, 0, -1)]


def test_the_names_of_tries_that_were_rescheduled_are_looked_for_too() -> None:
    first = Identity.of(context())
    names = [name for name, _ in Identity.of(rescheduled(2, try_number=2)).earlier({})]
    assert len(set(names)) == len(names)
    assert names[:2] == [first.name_of({}, 2, 1), first.name_of({}, 2)]
    assert {first.name_of({}, 1, 2), first.name_of({}, 1, 1), first.name_of({}, 1)} == set(names[2:])
    assert Identity.of(rescheduled(2, try_number=2)).own_name({}) not in names
