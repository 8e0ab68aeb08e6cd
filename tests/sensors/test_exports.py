"""The export sensor: poke, reschedule and deferrable tell the same things apart."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobError,
    PostHogJobFailed,
    PostHogServerError,
    PostHogSettingsError,
)
from airflow_provider_posthog.sensors.exports import PostHogExportSensor
from tests.operators.support import (
    SUMMARY,
    airflows_timer,
    connect,
    context,
    export_operator,
    finish,
    outcome_errors,
    posts,
    run_trigger,
    task_deferred,
)

MODES = pytest.mark.parametrize("mode", ["poke", "deferrable"])


def _sensor(mode: str = "poke", **options: Any) -> PostHogExportSensor:
    given: dict[str, Any] = {
        "task_id": "task",
        "export_id": 1,
        "poke_interval": 0.2,
        "timeout": 20,
        "failure_grace": 0.3,
        "deferrable": mode == "deferrable",
    }
    return PostHogExportSensor(**{**given, **options})


def _export(posthog: EmulatorProcess, outcome: str = "succeed", **plan: Any) -> dict[str, Any]:
    posthog.next_exports(outcome, **plan)
    made: dict[str, Any] = export_operator(wait_for_completion=False).execute({})
    return made


def _ended(operator: PostHogExportSensor) -> str:
    errors = outcome_errors()
    try:
        result = finish(operator)
    except errors.skip:
        return "skipped"
    except errors.timeout:
        return "timed out"
    except PostHogError:
        return "failed"
    assert result["has_content"] is True
    return "succeeded"


@MODES
def test_it_waits_for_the_file_and_returns_its_summary(connected: EmulatorProcess, mode: str) -> None:
    made = _export(connected, export_seconds=0.5)
    assert made["has_content"] is False
    result = finish(_sensor(mode, export_id=made))
    assert list(result) == SUMMARY
    assert json.loads(json.dumps(result)) == {**made, "has_content": True}
    assert len(posts(connected)) == 1


@MODES
def test_created_is_not_done(connected: EmulatorProcess, mode: str) -> None:
    _export(connected, "slow")
    assert _ended(_sensor(mode, timeout=0.6)) == "timed out"


@MODES
def test_a_failed_export_fails_the_task_with_posthogs_reason(connected: EmulatorProcess, mode: str) -> None:
    _export(connected, "exception", exception_text="Unknown table 'x'")
    with pytest.raises(PostHogJobFailed, match="Unknown table 'x'"):
        finish(_sensor(mode))


@MODES
def test_an_exception_that_posthog_mends_itself_is_waited_out(connected: EmulatorProcess, mode: str) -> None:
    connected.settings(retry_seconds=0.6)
    _export(connected, "exception_then_success", export_seconds=0)
    assert _ended(_sensor(mode, failure_grace=10)) == "succeeded"


@MODES
def test_an_exception_that_lasts_fails_the_task(connected: EmulatorProcess, mode: str) -> None:
    _export(connected, "exception", exception_text="Something odd.")
    with pytest.raises(PostHogJobFailed, match="Something odd"):
        finish(_sensor(mode))


@MODES
def test_an_unknown_export_fails_the_task(connected: EmulatorProcess, mode: str) -> None:
    with pytest.raises(PostHogJobFailed, match="99"):
        finish(_sensor(mode, export_id="99"))


@MODES
def test_an_expired_export_fails_the_task(connected: EmulatorProcess, mode: str) -> None:
    made = _export(connected)
    connected.advance(8 * 86400)
    with pytest.raises(PostHogJobFailed, match=str(made["id"])):
        finish(_sensor(mode))


@MODES
def test_another_users_export_fails_the_task(
    connected: EmulatorProcess, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _export(connected)
    key = connected.create_key(user=2)
    conn = {**json.loads(connected.airflow_connection_json()), "password": key}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    with pytest.raises(PostHogJobFailed):
        finish(_sensor(mode))


@MODES
def test_an_old_servers_silent_failure_ends_by_timeout(connected: EmulatorProcess, mode: str) -> None:
    connected.settings(exceptions_reported=False, export_outcome="silent_failure")
    _export(connected, "silent_failure")
    assert _ended(_sensor(mode, timeout=0.6)) == "timed out"


@MODES
@pytest.mark.parametrize("export_id", ["x", "", None, -1, True, {"id": None}, {"name": 1}, "1.0"])
def test_what_is_no_id_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, mode: str, export_id: Any
) -> None:
    with pytest.raises(PostHogSettingsError, match="export_id"):
        finish(_sensor(mode, export_id=export_id))
    assert connected.calls() == []


@MODES
@pytest.mark.parametrize("other", [{"project_id": 99}, {"host": "https://eu.posthog.com"}])
def test_an_export_of_another_project_is_refused(connected: EmulatorProcess, mode: str, other: dict[str, Any]) -> None:
    made = _export(connected)
    before = len(connected.calls())
    with pytest.raises(PostHogSettingsError, match="export_id"):
        finish(_sensor(mode, export_id={**made, **other}))
    assert len(connected.calls()) == before


# What is the same in both modes, by outcome and flag. Where Airflow's own modes differ, the table says so:
# - never_fail and the timeout: poke mode raises AirflowSensorTimeout on every version, and so does deferrable mode
#   on 2.11; from 3.3 on, Airflow itself turns any AirflowException of a resumed sensor into a skip.
FLAGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "soft_fail": {"soft_fail": True},
    "never_fail": {"never_fail": True},
    "silent_fail": {"silent_fail": True},
    "backoff": {"exponential_backoff": True, "max_wait": 0.4},
}
OUTCOMES: dict[str, dict[str, str]] = {
    "succeed": dict.fromkeys(FLAGS, "succeeded"),
    "running": {**dict.fromkeys(FLAGS, "timed out"), "soft_fail": "skipped"},
    "fails": {**dict.fromkeys(FLAGS, "failed"), "never_fail": "skipped", "silent_fail": "timed out"},
    "unknown": {**dict.fromkeys(FLAGS, "failed"), "never_fail": "skipped", "silent_fail": "timed out"},
    "refused": {**dict.fromkeys(FLAGS, "failed"), "never_fail": "skipped", "silent_fail": "timed out"},
}


def _resumed_never_fail_skips() -> bool:
    """Whether this Airflow turns a resumed sensor's AirflowException into a skip under ``never_fail``."""
    import inspect

    from airflow_provider_posthog.compat import BaseSensorOperator

    return "never_fail" in inspect.getsource(BaseSensorOperator.resume_execution)


@MODES
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_mode_ends_alike(connected: EmulatorProcess, mode: str, flag: str, outcome: str) -> None:
    if outcome == "fails":
        _export(connected, "exception", exception_text="Unknown table 'x'")
    else:
        _export(connected, "slow" if outcome in ("running", "refused") else "succeed")
    if outcome == "refused":
        connected.faults(method="GET", path="*/exports/1/", status=403, count=-1)
    expected = OUTCOMES[outcome][flag]
    if (mode, outcome, flag) == ("deferrable", "running", "never_fail") and _resumed_never_fail_skips():
        expected = "skipped"
    ends_itself = expected == "succeeded" or (outcome not in ("running",) and flag != "silent_fail")
    sensor = _sensor(
        mode, export_id=2 if outcome == "unknown" else 1, timeout=20 if ends_itself else 0.7, **FLAGS[flag]
    )
    began = time.monotonic()
    assert _ended(sensor) == expected
    assert time.monotonic() - began < 5


@MODES
def test_a_short_fault_does_not_fail_it(connected: EmulatorProcess, mode: str) -> None:
    _export(connected)
    connected.faults(method="GET", path="*/exports/1/", status=503, count=2)
    assert _ended(_sensor(mode)) == "succeeded"


@MODES
def test_a_fault_that_stays_fails_it(connected: EmulatorProcess, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _export(connected, "slow")
    connected.faults(method="GET", path="*/exports/1/", status=503, count=-1)
    assert _ended(_sensor(mode, max_poll_failures=3)) == "failed"


@MODES
def test_a_rate_limit_is_waited_out(connected: EmulatorProcess, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, connected, max_rate_limit_wait=0)
    made = _export(connected)
    limit = {"status": 429, "headers": {"Retry-After": "0"}, "count": 4}
    connected.faults(method="GET", path="/api/projects/1/exports/*", **limit)
    assert finish(_sensor(mode, export_id=made, max_poll_failures=2))["has_content"] is True


def test_pokes_that_go_wrong_are_counted_only_in_a_row(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _export(connected, export_seconds=3600)
    sensor = _sensor(export_id=made, max_poll_failures=2)
    for _ in range(3):
        connected.faults(method="GET", path="/api/projects/1/exports/*", status=501, count=1)
        assert not sensor.poke({})
        assert not sensor.poke({})
    connected.faults(method="GET", path="/api/projects/1/exports/*", status=501, count=2)
    assert not sensor.poke({})
    with pytest.raises(PostHogServerError):
        sensor.poke({})


def test_the_execution_timeout_in_a_worker_names_the_export(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    made = export_operator(wait_for_completion=False).execute({})
    sensor = _sensor("poke", export_id=made, timeout=60, execution_timeout=timedelta(seconds=1))
    text = rf"Export {made['id']} .* within its execution_timeout of 1 s"
    with pytest.raises(outcome_errors().task_timeout, match=text) as ended, airflows_timer(1.0):
        sensor.execute({})
    assert ended.value.job_id == str(made["id"])


def test_the_execution_timeout_ends_a_deferred_wait_on_every_airflow(connected: EmulatorProcess) -> None:
    made = _export(connected, export_seconds=3600)
    sensor = _sensor("deferrable", export_id=made, execution_timeout=timedelta(seconds=1))
    with pytest.raises(outcome_errors().task_timeout, match="execution_timeout"):
        finish(sensor)


def test_deferring_hands_on_how_it_is_to_wait(connected: EmulatorProcess) -> None:
    _export(connected, "slow")
    options = {"timeout": 100, "poke_interval": 3, "exponential_backoff": True, "max_wait": 50, "silent_fail": True}
    with pytest.raises(task_deferred()) as deferred:
        _sensor("deferrable", **options).execute({})
    trigger = deferred.value.trigger  # type: ignore[attr-defined]
    assert 95 < trigger.deadline - time.time() <= 100
    assert (trigger.first_wait, trigger.growth, trigger.poll_interval, trigger.silent_fail) == (3, 2.0, 50, True)
    assert deferred.value.timeout.total_seconds() > 100  # type: ignore[attr-defined]
    with pytest.raises(task_deferred()) as deferred:
        _sensor("deferrable", timeout=100, poke_interval=3, max_wait=50).execute({})
    trigger = deferred.value.trigger  # type: ignore[attr-defined]
    assert (trigger.first_wait, trigger.growth, trigger.poll_interval) == (3, 1.0, 3)


def test_backoff_polls_less_often(connected: EmulatorProcess) -> None:
    _export(connected, "slow")
    _ended(_sensor("deferrable", timeout=2.5, poke_interval=0.1))
    even = len(connected.calls("/exports/1/"))
    _ended(_sensor("deferrable", timeout=2.5, poke_interval=0.1, exponential_backoff=True, max_wait=5))
    backing_off = len(connected.calls("/exports/1/")) - even
    assert backing_off <= even / 2


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {"outcome": "succeeded"}])
def test_an_unknown_event_is_no_success(connected: EmulatorProcess, event: Any) -> None:
    _export(connected)
    with pytest.raises(PostHogJobError):
        _sensor().execute_complete({}, event=event)


def test_an_event_of_another_export_is_no_success(connected: EmulatorProcess) -> None:
    _export(connected)
    event = {"version": 1, "kind": "export", "job_id": "5", "outcome": "succeeded", "reason": "", "limit": "timeout"}
    with pytest.raises(PostHogJobError):
        _sensor().execute_complete({}, event=event)


def test_a_retry_that_airflow_resumes_with_the_event_before_asks_anew(connected: EmulatorProcess) -> None:
    """As Airflow 3.0 does with each retry of a task that deferred."""
    finish(export_operator())
    event = {"version": 1, "kind": "export", "job_id": "1", "outcome": "failed", "reason": "", "try_number": 1}
    sensor = _sensor("deferrable")
    with pytest.raises(PostHogJobFailed):
        sensor.execute_complete(context(), event)
    assert sensor.execute_complete(context(try_number=2), event)["has_content"] is True


@MODES
def test_the_link_is_there_while_it_waits(connected: EmulatorProcess, mode: str) -> None:
    _export(connected, "slow")
    ctx = context()
    with pytest.raises((task_deferred(), outcome_errors().timeout)):
        _sensor(mode, timeout=0.3).execute(ctx)
    assert ctx["ti"].pushed["_link_PostHogLink"].endswith(f"/project/{connected.project_id}/exports")


def test_a_file_that_is_there_needs_no_deferral(connected: EmulatorProcess) -> None:
    finish(export_operator())
    assert _sensor("deferrable").execute({})["has_content"] is True


def test_making_it_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT", raising=False)
    sensor = _sensor(export_id="{{ ds }}", project_id="{{ ds }}")
    sensor.render_template_fields({"ds": "5"})
    assert (sensor.export_id, sensor.project_id) == ("5", "5")


def test_another_project_of_the_same_connection(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, connected, project_id=999)
    _ = connected.next_exports("succeed")
    made = export_operator(wait_for_completion=False, project_id=connected.project_id).execute({})
    assert finish(_sensor(export_id=made, project_id=str(connected.project_id)))["has_content"] is True


def test_an_unknown_export_ends_a_deferrable_sensor_at_its_first_look(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogJobFailed, match="knows no export 99: it never was") as failed:
        _sensor("deferrable", export_id=99).execute({})
    assert failed.value.job_id == "99"
    assert len(connected.calls("/exports/99/")) == 1


def test_never_fail_skips_an_unknown_export_at_once(connected: EmulatorProcess) -> None:
    with pytest.raises(outcome_errors().skip):
        _sensor("deferrable", export_id=99, never_fail=True).execute({})


def test_silent_fail_still_waits_for_an_unknown_export(connected: EmulatorProcess) -> None:
    with pytest.raises(task_deferred()):
        _sensor("deferrable", export_id=99, silent_fail=True).execute({})


def test_a_deferred_sensor_needs_no_call_after_its_event(connected: EmulatorProcess) -> None:
    connected.next_exports("succeed", export_seconds=0.4)
    number = export_operator(wait_for_completion=False).execute({})["id"]
    with pytest.raises(task_deferred()) as deferred:
        _sensor("deferrable", export_id=number).execute({})
    event = run_trigger(deferred.value.trigger)  # type: ignore[attr-defined]
    before = len(connected.calls())
    assert _sensor("deferrable", export_id=number).execute_complete({}, event)["has_content"] is True
    assert len(connected.calls()) == before
