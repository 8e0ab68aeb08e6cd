"""What waiting costs: no call is made for what PostHog has said already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_posthog.api import exports, insights
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobFailed
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from airflow_provider_posthog.sensors.exports import PostHogExportSensor
from airflow_provider_posthog.sensors.insights import PostHogInsightFreshSensor, PostHogInsightThresholdSensor
from tests.operators.support import context, export_operator, run_trigger, task_deferred
from tests.support.waiting import wait_for

PAST = "2020-01-01T00:00:00+00:00"
SENSOR: dict[str, Any] = {"task_id": "task", "poke_interval": 0.1, "timeout": 20}


def export(**options: Any) -> Any:
    return export_operator(**options)


def query(**options: Any) -> Any:
    given = {"task_id": "task", "query": "SELECT 1 AS one", "poll_interval": 0.1, "timeout": 20}
    return PostHogQueryOperator(**given, on_retention="ignore", **options)


def export_sensor(**options: Any) -> Any:
    made = export_operator(wait_for_completion=False, filename="watched").execute({})
    return PostHogExportSensor(export_id=made["id"], **SENSOR, **options)


def fresh(**options: Any) -> Any:
    return PostHogInsightFreshSensor(insight=1, fresher_than=PAST, **SENSOR, **options)


def threshold(**options: Any) -> Any:
    return PostHogInsightThresholdSensor(insight=2, condition="< 1e12", refresh="force_cache", **SENSOR, **options)


def asked(sensor: PostHogExportSensor) -> Any:
    return PostHogHook().send(exports.retrieve(int(sensor.job_id)))


def deferred(operator: Any) -> Any:
    with pytest.raises(task_deferred()) as wait:
        operator.execute(context())
    return wait.value


def after(operator: Any, wait: Any) -> Any:
    event = run_trigger(wait.trigger)
    return event, lambda: operator.resume_execution(
        wait.method_name, {**(wait.kwargs or {}), "event": event}, context()
    )


#: What makes the task, the thing that it waits for take a while, and the calls that the task makes after the event.
ENDS: dict[str, tuple[Callable[..., Any], Callable[[EmulatorProcess], Any], int]] = {
    "export": (export, lambda posthog: posthog.next_exports("succeed", export_seconds=0.5), 0),
    "export sensor": (export_sensor, lambda posthog: posthog.next_exports("succeed", export_seconds=0.5), 0),
    "query": (query, lambda posthog: posthog.settings(query_seconds=0.5), 1),  # whose rows are in no event
}


@pytest.mark.parametrize("name", ENDS)
def test_after_the_event_no_call_is_made_for_what_it_tells(connected: EmulatorProcess, name: str) -> None:
    make, slow, calls = ENDS[name]
    slow(connected)
    operator = make(deferrable=True)
    wait = deferred(operator)
    before_trigger = len(connected.calls())
    event, go_on = after(operator, wait)
    assert event["outcome"] == "succeeded"
    before = len(connected.calls())
    assert before > before_trigger
    assert go_on()
    assert len(connected.calls()) - before == calls


@pytest.mark.parametrize("make", [fresh, threshold])
def test_after_the_event_a_sensor_of_an_insight_asks_nothing(connected: EmulatorProcess, make: Any) -> None:
    operator = make(deferrable=True)
    wait = deferred(operator)
    for number in (1, 2):
        PostHogHook().send(insights.retrieve(number, refresh="force_blocking"))
    _, go_on = after(operator, wait)
    before = len(connected.calls())
    assert go_on()["last_refresh"]
    assert len(connected.calls()) == before


@pytest.mark.parametrize("deferrable", [False, True])
def test_what_the_start_was_answered_is_the_result(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(create_blocks=True)
    connected.next_exports("succeed", export_seconds=0.1)
    assert export(deferrable=deferrable).execute(context())["has_content"]
    assert [call["method"] for call in connected.calls()] == ["POST"]


@pytest.mark.parametrize("make", [export, query])
def test_what_a_worker_saw_last_is_the_result(connected: EmulatorProcess, make: Any) -> None:
    connected.next_exports("succeed", export_seconds=0.3)
    connected.settings(query_seconds=0.3)
    operator = make(deferrable=False)
    looks: list[Any] = []
    look = operator._look

    def counted(*given: Any) -> Any:
        looks.append(look(*given))
        return looks[-1]

    operator._look = counted
    assert operator.execute(context())
    assert looks[-1].state == "succeeded"
    assert len(connected.calls()) == 1 + len(looks)


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("make", [export_sensor, fresh, threshold])
def test_a_sensor_whose_first_look_says_yes_is_done(connected: EmulatorProcess, make: Any, deferrable: bool) -> None:
    for number in (1, 2):
        PostHogHook().send(insights.retrieve(number, refresh="force_blocking"))
    connected.next_exports("succeed", export_seconds=0.0)
    operator = make(deferrable=deferrable)
    if make is export_sensor:
        wait_for(lambda: asked(operator)["has_content"] is True)
    before = len(connected.calls())
    assert operator.execute(context())
    assert len(connected.calls()) - before == 1


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_sensor_whose_first_look_says_never_has_failed(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.next_exports("exception", export_seconds=0.0, exception_text="Unknown table 'x'")
    failed = export_sensor(deferrable=deferrable)
    unknown = PostHogExportSensor(export_id=999, deferrable=deferrable, **SENSOR)
    gone = PostHogInsightFreshSensor(insight=999, fresher_than=PAST, deferrable=deferrable, **SENSOR)
    wait_for(lambda: bool(asked(failed)["exception"]))
    for operator, calls in ((failed, 1), (unknown, 1), (gone, 2)):  # 999 may be a short id, too
        before = len(connected.calls())
        with pytest.raises(PostHogJobFailed):
            operator.execute(context())
        assert len(connected.calls()) - before == calls


@pytest.mark.parametrize("make", [export, query])
def test_the_trigger_does_not_ask_for_what_the_start_was_just_answered(connected: EmulatorProcess, make: Any) -> None:
    connected.next_exports("succeed", export_seconds=0.3)
    connected.settings(query_seconds=0.3)
    wait = deferred(make(deferrable=True))
    before = len(connected.calls())
    run_trigger(wait.trigger)
    assert len(connected.calls()) - before == 1, "after its first wait it has ended"
