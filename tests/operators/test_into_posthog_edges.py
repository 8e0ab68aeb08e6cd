"""Cohorts, marks, flags and single events where inputs are odd, somebody else is at work, or PostHog does not do it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
)
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.notifications.posthog import PostHogNotifier
from airflow_provider_posthog.operators.annotations import PostHogAnnotationOperator
from airflow_provider_posthog.operators.capture import PostHogCaptureOperator
from airflow_provider_posthog.operators.flags import PostHogFeatureFlagOperator
from airflow_provider_posthog.storage import shrink_guard
from airflow_provider_posthog.tasks.cohort_members import packs_of
from tests.operators.support import Store, connect, connected, context
from tests.operators.test_into_posthog import annotations, audience, flag, members, people, records, set_flag

__all__ = ["connected", "flag", "people"]


# -- cohorts -----------------------------------------------------------------------------------------------------


def test_rows_without_an_id_are_counted_and_listed(people: list[str], tmp_path: Path) -> None:
    sql = "SELECT user_id FROM scores UNION ALL SELECT NULL UNION ALL SELECT ' ' UNION ALL SELECT 'nobody'"
    rejects = tmp_path / "rejects.jsonl"
    with pytest.raises(PostHogIncompleteError, match="2 rows have no id, and 1 ids have no person"):
        audience(sql=sql, sql_conn_id="shop", rejects_path=str(rejects))
    reasons = sorted(json.loads(line)["reason"] for line in rejects.read_text().splitlines())
    assert reasons == ["missing_distinct_id", "missing_distinct_id", "no_person"]
    found = audience(sql=sql, sql_conn_id="shop", max_rejects="3")
    assert (found["ids"], found["members"], found["rejected"]) == (31, 30, 3)


@pytest.mark.parametrize("column", ["1.0 * {}", "CAST({} AS TEXT)", "{}"])
def test_a_number_is_the_same_id_in_each_type(connected: EmulatorProcess, people: list[str], column: str) -> None:
    connected.add_persons([{"distinct_ids": [str(number)]} for number in (41, 42)])
    sql = f"SELECT {column.format(41)} UNION SELECT {column.format(42)}"
    assert audience(sql=sql, sql_conn_id="shop")["members"] == 2


def test_a_load_that_fails_removes_nobody(people: list[str]) -> None:
    number = audience()["cohort_id"]
    with pytest.raises(PostHogIncompleteError, match="1 ids have no person"):
        audience(sql="SELECT 'p1' UNION SELECT 'nobody'", sql_conn_id="shop", replace=True)
    assert members(number) == set(people)


@pytest.mark.parametrize("fault", [{"cut": "after"}, {"status": 500, "work": True}, {"cut": "middle", "cut_bytes": 9}])
def test_what_was_before_is_told_though_the_answer_to_the_change_was_lost(
    connected: EmulatorProcess, flag: int, fault: dict[str, Any]
) -> None:
    connected.faults(method="PATCH", path="*/feature_flags/*", **fault)
    found = set_flag(rollout_percentage=50)
    assert (found["changed"], found["before"]["rollout_percentage"]) == (True, 10)


def test_what_was_before_is_told_though_the_try_that_changed_it_was_killed(
    connected: EmulatorProcess, flag: int
) -> None:
    def half(**life: Any) -> dict[str, Any]:
        task = PostHogFeatureFlagOperator(task_id="task", flag="checkout", rollout_percentage=50)
        return dict(task.execute(context(store=store, **life)))

    store = Store()
    half()  # and the worker is killed before the result is kept
    found = half(try_number=2)
    assert (found["changed"], found["before"]["rollout_percentage"]) == (True, 10)
    cleared = half(try_number=3, max_tries=4)
    assert (cleared["changed"], cleared["before"]["rollout_percentage"]) == (False, 50)


@pytest.mark.parametrize("status", [400, 403])
def test_a_change_that_was_refused_is_not_taken_for_this_task_s_when_somebody_else_makes_it(
    connected: EmulatorProcess, flag: int, status: int
) -> None:
    def half(**life: Any) -> dict[str, Any]:
        task = PostHogFeatureFlagOperator(task_id="task", flag="checkout", rollout_percentage=50)
        return dict(task.execute(context(store=store, **life)))

    store = Store()
    connected.faults(method="PATCH", path="*/feature_flags/*", status=status, count=3)
    with pytest.raises(PostHogError):
        half()
    connected.clear_faults()
    set_flag(rollout_percentage=50)  # somebody else
    found = half(try_number=2)
    assert (found["changed"], found["before"]["rollout_percentage"]) == (False, 50)


def test_a_source_of_nobody_does_not_empty_a_cohort(people: list[str]) -> None:
    number = audience()["cohort_id"]
    nobody = {"sql": "SELECT 'p1' WHERE 1 = 2", "sql_conn_id": "shop", "replace": True}
    with pytest.raises(PostHogIncompleteError, match="30 persons would be removed, and 0 would be in it") as raised:
        audience(**nobody)
    assert raised.value.lasting
    assert members(number) == set(people)
    assert audience(**nobody, allow_shrink="True")["members"] == 0


def test_nor_does_a_source_of_few(monkeypatch: pytest.MonkeyPatch, people: list[str]) -> None:
    number = audience()["cohort_id"]
    monkeypatch.setattr(shrink_guard, "MIN_ROWS", 10)
    few = {"sql": "SELECT user_id FROM scores LIMIT 14", "sql_conn_id": "shop", "replace": True}
    with pytest.raises(PostHogIncompleteError, match="16 persons would be removed, and 14 would be in it"):
        audience(**few)
    assert members(number) == set(people)
    assert audience(**few, max_shrink=0.6)["removed"] == 16


def test_whom_posthog_does_not_remove_fails_the_task(connected: EmulatorProcess, people: list[str]) -> None:
    number = audience()["cohort_id"]
    connected.faults(path="*/remove_person_from_static_cohort/", status=200, body={"success": True}, count=-1)
    with pytest.raises(PostHogIncompleteError, match=f"still shows 29 persons in cohort {number}"):
        audience(sql="SELECT 'p1'", sql_conn_id="shop", replace=True, timeout=0.3)


def test_who_is_said_to_be_no_member_any_more_is_looked_for(connected: EmulatorProcess, people: list[str]) -> None:
    audience()
    path, body = "*/remove_person_from_static_cohort/", {"detail": "Person does not exist in the cohort"}
    connected.faults(path=path, status=404, body=body, count=1)
    with pytest.raises(PostHogIncompleteError, match="still shows 1 persons"):
        audience(sql="SELECT 'p1'", sql_conn_id="shop", replace=True, timeout=0.3)
    assert audience(sql="SELECT 'p1'", sql_conn_id="shop", replace=True)["members"] == 1


@pytest.mark.parametrize(
    ("content", "format"),
    [("distinct_id,name\np1,A\np2\n", "csv"), ('{"distinct_id": "p1"}\nnope\n', "jsonl")],
)
def test_a_file_with_a_row_that_cannot_be_read_fills_nothing(
    connected: EmulatorProcess, people: list[str], tmp_path: Path, content: str, format: str
) -> None:
    path = tmp_path / f"ids.{format}"
    path.write_text(content)
    with pytest.raises(PostHogSettingsError) as caught:
        audience(path=str(path), format=format)
    assert caught.value.field == "path"
    assert not connected.calls("/cohorts/", "POST")


def test_statements_are_bounded_by_bytes() -> None:
    ids = ["\N{GRINNING FACE}" * 190 + str(number) for number in range(1_000)] + ["'" * 200, "\\" * 200]
    packs = list(packs_of(ids))
    assert [name for pack in packs for name in pack] == ids
    assert max(sum(len(name.encode()) for name in pack) for pack in packs) < 110_000


# -- marks ---------------------------------------------------------------------------------------------------------


def test_a_mark_of_the_past_is_found_again_behind_a_thousand_others(connected: EmulatorProcess) -> None:
    made = PostHogAnnotationOperator(task_id="task", content="Backfilled", date_marker="2020-01-01T00:00:00Z")
    first = made.execute(context())
    noise = [{"content": f"note {n}", "date_marker": "2026-11-01T00:00:00Z"} for n in range(1_001)]
    connected.add_records("annotations", noise)
    assert made.execute(context(try_number=2)) == {"id": first["id"], "created": False}


def test_a_mark_is_moved_where_the_task_says_another_time(connected: EmulatorProcess) -> None:
    made = PostHogAnnotationOperator(task_id="task", content="Loaded", date_marker="2026-11-01T00:00:00Z")
    made.execute(context())
    made.date_marker = "2026-11-02T01:00:00+01:00"
    assert made.execute(context(try_number=2))["created"] is False
    (found,) = annotations()
    assert found["date_marker"].startswith("2026-11-02T00:00:00")


@pytest.mark.parametrize("content", ["x" * 8_170, "", 7, None])
def test_a_content_that_would_not_fit_with_its_mark_is_refused(connected: EmulatorProcess, content: Any) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        PostHogAnnotationOperator(task_id="task", content=content).execute(context())
    assert caught.value.field == "content"
    assert not connected.calls("/annotations/")


def test_the_longest_content_is_kept_whole(connected: EmulatorProcess) -> None:
    PostHogAnnotationOperator(task_id="task", content="\N{GRINNING FACE}" * 8_169).execute(context())
    (found,) = annotations()
    assert found["content"].startswith("\N{GRINNING FACE}" * 8_169 + " [airflow ")


# -- notifiers -----------------------------------------------------------------------------------------------------


def alert(run: str, hour: int = 1) -> dict[str, Any]:
    """What Airflow gives a deadline alert: plain dictionaries."""
    dag_run = {"dag_id": "dag", "run_id": run, "logical_date": "2026-11-01T00:00:00Z", "state": "running"}
    return {"dag_run": dag_run, "deadline": {"id": "1", "deadline_time": f"2026-11-01T0{hour}:00:00Z"}}


@pytest.mark.skipif(not hasattr(PostHogNotifier, "__await__"), reason="Airflow has deadline alerts since 3.1")
def test_a_deadline_alert_is_told_once_for_each_run_and_deadline(connected: EmulatorProcess) -> None:
    async def told(run: str, hour: int) -> None:
        # Airflow's triggerer passes the context to a callable that takes one, and awaits what that returns.
        await PostHogNotifier(content="late", context=alert(run, hour))  # type: ignore[misc]

    for run, hour in (("a", 1), ("a", 1), ("b", 1), ("a", 2)):
        asyncio.run(told(run, hour))
    found = annotations()
    assert len(found) == 3
    assert {mark["date_marker"][:10] for mark in found} == {"2026-11-01"}


def test_a_notifier_without_a_text_names_the_dag_and_the_run(connected: EmulatorProcess) -> None:
    PostHogNotifier().notify(alert("manual__7"))  # type: ignore[arg-type]
    PostHogNotifier()({**context(), "dag": None})
    assert sorted(mark["content"].partition(" [")[0] for mark in annotations()) == ["dag: manual__1", "dag: manual__7"]


def test_a_notifier_that_is_told_of_two_runs_has_each_run_s_text(connected: EmulatorProcess) -> None:
    told = PostHogNotifier(content="{{ run_id }} failed")
    for run in ("one", "two"):
        told({**context(run_id=run), "run_id": run, "dag": None})
    assert sorted(mark["content"].partition(" ")[0] for mark in annotations()) == ["one", "two"]


@pytest.mark.parametrize("kind", ["annotation", "event"])
def test_a_notifier_does_not_fail_the_task_that_it_is_about(
    connected: EmulatorProcess, kind: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.faults(path="*", status=400, body={"detail": "no, ann@example.com"}, count=-1)
    PostHogNotifier(content="failed", kind=kind)({**context(), "dag": None})
    assert "ann@example.com" not in caplog.text + "".join(capfd.readouterr())


def test_a_notifier_whose_event_is_dropped_says_so(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, posthog, project_token=posthog.project_token)
    posthog.settings(capture_quota=0)
    with pytest.raises(PostHogIncompleteError, match="billing_limit_exceeded"):
        PostHogNotifier(content="failed", kind="event").notify(context())


# -- feature flags -------------------------------------------------------------------------------------------------


def test_a_template_may_name_a_flag_by_its_number_and_say_whether_it_is_on(flag: int) -> None:
    assert set_flag(flag=str(flag), active="True")["active"] is True
    assert set_flag(active=" false ")["active"] is False
    assert set_flag(rollout_percentage="30", condition="0", active="")["rollout_percentage"] == 30


@pytest.mark.parametrize("percentage", [0, 100, "0", 12.5, "100.0"])
def test_each_share_can_be_set(flag: int, percentage: Any) -> None:
    assert set_flag(rollout_percentage=percentage)["rollout_percentage"] == float(percentage)


def test_variants_payloads_and_groups_of_a_flag_stay_as_they_are(connected: EmulatorProcess) -> None:
    variants = [{"key": "a", "rollout_percentage": 50}, {"key": "b", "rollout_percentage": 50}]
    filters = {
        "groups": [{"properties": [], "rollout_percentage": 1, "variant": "a"}],
        "multivariate": {"variants": variants},
        "payloads": {"a": "1"},
        "aggregation_group_type_index": 0,
    }
    (made,) = connected.add_records("feature_flags", [{"key": "many", "filters": filters}])
    set_flag(flag="many", rollout_percentage=50)
    from airflow_provider_posthog.api import feature_flags

    shown: Any = PostHogHook().send(feature_flags.retrieve(made["id"]))
    groups = [{"properties": [], "rollout_percentage": 50, "variant": "a"}]
    assert shown["filters"] == {**filters, "groups": groups}


def test_a_change_of_somebody_else_at_the_same_time_is_not_undone(connected: EmulatorProcess, flag: int) -> None:
    body = {"type": "invalid_request", "code": "conflict", "detail": "Somebody else.", "attr": None}
    connected.faults(method="PATCH", path="*/feature_flags/*", status=409, body=body, count=1)
    assert set_flag(rollout_percentage=50)["rollout_percentage"] == 50
    reads = [call for call in connected.calls("/feature_flags/") if call["method"] == "GET"]
    assert len(reads) == 5, "the list and the flag, before each try; and what it is then"
    connected.faults(method="PATCH", path="*/feature_flags/*", status=409, body=body, count=-1)
    with pytest.raises(PostHogJobFailed, match="Somebody else changes the feature flag"):
        set_flag(rollout_percentage=60)


def test_posthog_is_told_what_was_seen_of_a_flag(connected: EmulatorProcess, flag: int) -> None:
    from airflow_provider_posthog.api import feature_flags
    from airflow_provider_posthog.exceptions import PostHogAPIError

    seen: Any = PostHogHook().send(feature_flags.retrieve(flag))
    set_flag(rollout_percentage=20)
    lost = {"groups": [{"properties": [], "rollout_percentage": 99}]}
    with pytest.raises(PostHogAPIError, match="updated by another user"):
        PostHogHook().send(feature_flags.update(flag, filters=lost, seen=seen))
    PostHogHook().send(feature_flags.update(flag, active=True, seen=seen))  # nobody has changed that


@pytest.mark.parametrize("options", [{"condition": "first"}, {"condition": 1}, {"condition": -1}])
def test_a_condition_that_is_not_there_is_refused(flag: int, options: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        set_flag(rollout_percentage=50, **options)
    assert caught.value.field == "condition"


# -- one event -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"distinct_id": None}, "distinct_id"),
        ({"distinct_id": [1, "1"]}, "distinct_id"),
        ({"distinct_id": ["a", None]}, "distinct_id"),
        ({"distinct_id": "a\0"}, "distinct_id"),
        ({"event": "a\0"}, "event"),
        ({"event": None}, "event"),
        ({"properties": "rows=7"}, "properties"),
        ({"properties": {"a": "half \ud83d"}}, "properties"),
        ({"timestamp": "0001-01-01T00:00:00Z"}, "timestamp"),
        ({"timestamp": 1_700_000_000}, "timestamp"),
    ],
)
def test_an_odd_event_is_refused_by_the_argument_that_is_odd(
    connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        PostHogCaptureOperator(task_id="task", **{"event": "e", "distinct_id": "x", **options}).execute({})
    assert caught.value.field == field
    assert not connected.calls("/i/v1/")


def test_an_id_may_be_a_number(connected: EmulatorProcess) -> None:
    PostHogCaptureOperator(task_id="task", event="e", distinct_id=[41, "42"]).execute({})
    assert sorted(records("SELECT distinct_id FROM events WHERE event = 'e' LIMIT 9")) == [["41"], ["42"]]
