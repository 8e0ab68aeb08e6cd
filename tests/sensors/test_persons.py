"""The sensor that proves an erasure: what ends it, in which mode, and what it needs for it."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogErasureError,
    PostHogJobError,
    PostHogServerError,
    PostHogSettingsError,
)
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor
from tests.erasure.support import DAY, Lab, new_lab, timeless
from tests.operators.support import (
    context,
    make_dag,
    outcome_errors,
    rows_of_database,
    run_trigger,
    task_deferred,
    task_states,
    xcoms,
)

MODES = pytest.mark.parametrize("mode", ["poke", "deferrable"])


@pytest.fixture(scope="module")
def tidied(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    return new_lab(tidied, monkeypatch, tmp_path)


class _Sweep(BaseOperator):
    """PostHog's weekend."""

    def __init__(self, *, url: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url

    def execute(self, context: Any) -> None:
        request = urllib.request.Request(f"{self.url}/__emulator__/sweep", b"{}", method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()


def run(lab: Lab, mode: str, ctx: dict[str, Any] | None = None, **options: Any) -> tuple[Any, int]:
    """Run the sensor as Airflow does; return its result and how often it was deferred."""
    ctx = ctx if ctx is not None else context()
    sensor = lab.sensor(deferrable=mode == "deferrable", **options)
    deferred = 0
    work = lambda: sensor.execute(ctx)  # noqa: E731 - replaced in each round
    while True:
        try:
            return work(), deferred
        except task_deferred() as told:
            deferred += 1
            event = run_trigger(told.trigger)  # type: ignore[attr-defined]
            assert lab.name not in json.dumps(event)
            method = told.method_name  # type: ignore[attr-defined]
            # A new process: nothing but the event is left.
            sensor = lab.sensor(deferrable=True, **options)
            work = lambda s=sensor, m=method, e=event: s.resume_execution(m, {"event": e}, ctx)  # type: ignore[misc]  # noqa: E731


def outcome(lab: Lab, mode: str, **options: Any) -> str:
    errors = outcome_errors()
    try:
        return str(run(lab, mode, **options)[0]["state"])
    except errors.skip:
        return "skipped"
    except errors.timeout as error:
        return "timed out" if "EVENTS_PENDING" in str(error) else str(error)
    except errors.task_timeout:
        return "task timed out"
    except PostHogErasureError:
        return "failed"


@MODES
def test_it_ends_when_nothing_is_left(lab: Lab, mode: str) -> None:
    lab.posthog.settings(person_deletion_seconds=2.5)
    lab.delete()
    lab.posthog.sweep()
    result, deferred = run(lab, mode)
    assert (result["state"], result["states"], result["verified_by"]) == ("VERIFIED", {"VERIFIED": 1}, "distinct_id")
    assert (result["events"], result["recordings"], result["request_id"]) == (0, 0, lab.request["request_id"])
    assert lab.readable() == []
    assert (deferred > 0) == (mode == "deferrable")
    json.dumps(result)


@MODES
def test_202_is_not_done(lab: Lab, mode: str) -> None:
    lab.delete()
    assert outcome(lab, mode, timeout=0.6) == "timed out"
    assert lab.readable()


@MODES
@pytest.mark.parametrize(
    ("flags", "pending", "surviving"),
    [
        ({}, "timed out", "failed"),
        ({"soft_fail": True}, "skipped", "failed"),
        ({"never_fail": True}, "timed out", "skipped"),
        ({"silent_fail": True}, "timed out", "timed out"),
    ],
)
def test_flags_mean_the_same_in_all_modes(
    lab: Lab, mode: str, flags: dict[str, bool], pending: str, surviving: str
) -> None:
    lab.delete()
    found = outcome(lab, mode, timeout=0.5, **flags)
    # Airflow 3.3 makes a skip of the timeout of a sensor that was deferred, if it may never fail.
    assert found == pending or (flags, mode, found) == ({"never_fail": True}, "deferrable", "skipped")
    lab.posthog.settings(sweep_outcome="verify_only")
    lab.posthog.advance(8 * DAY)
    if "silent_fail" not in flags:
        assert outcome(lab, mode, **flags) == surviving


@MODES
def test_the_error_names_the_state_and_the_person(lab: Lab, mode: str) -> None:
    other = lab.add(f"{lab.name}-other")
    lab.event(timestamp="2040-01-01T00:00:00Z")
    lab.delete()
    with pytest.raises(PostHogErasureError) as error:
        run(lab, mode)
    text = str(error.value)
    place = lab.named().index(lab.person) + 1
    assert f"SURVIVORS (person {place}): 1 events are dated after the request" in text
    assert lab.person not in text
    assert error.value.states == {"SURVIVORS": 1, "VERIFIED": 1}
    assert other not in text
    assert lab.name not in text


@MODES
def test_a_server_in_trouble_is_waited_out(lab: Lab, mode: str) -> None:
    lab.delete()
    lab.posthog.sweep()
    lab.posthog.faults(path="*/deletion_status/", status=500, count=2, body={"detail": "A server error occurred."})
    assert outcome(lab, mode, max_poll_failures=4) == "VERIFIED"
    lab.request = {}


@MODES
def test_a_server_that_stays_away_fails_the_task(lab: Lab, mode: str) -> None:
    lab.delete()
    lab.posthog.sweep()
    lab.posthog.faults(path="*/deletion_status/", status=501, count=-1, body={"detail": "A server error occurred."})
    with pytest.raises(PostHogServerError):
        run(lab, mode, max_poll_failures=1, poke_interval=0.05)


def test_the_work_file_goes_when_it_is_proved_and_a_retry_still_succeeds(lab: Lab) -> None:
    lab.delete()
    lab.posthog.sweep()
    first, _ = run(lab, "poke")
    assert not (lab.folder / "work.jsonl").exists()
    again, _ = run(lab, "poke")
    assert timeless(again) == timeless(first)
    left = "".join(path.read_text() for path in lab.folder.rglob("*.json"))
    assert lab.name not in left


def test_the_work_file_can_be_kept(lab: Lab) -> None:
    lab.delete()
    lab.posthog.sweep()
    run(lab, "poke", keep_work_file=True)
    assert lab.name in (lab.folder / "work.jsonl").read_text()


def test_a_lost_work_file_is_no_proof(lab: Lab) -> None:
    lab.delete()
    lab.posthog.sweep()
    (lab.folder / "work.jsonl").unlink()
    with pytest.raises(PostHogSettingsError, match="work_path"):
        run(lab, "poke")


def test_another_requests_work_file_is_refused(lab: Lab) -> None:
    lab.delete()
    path = lab.folder / "work.jsonl"
    path.write_text(path.read_text().replace(lab.request["request_id"], "f" * 32))
    with pytest.raises(PostHogSettingsError, match="another request"):
        run(lab, "poke")


def test_a_preview_is_skipped(lab: Lab) -> None:
    lab.delete(preview=True)
    assert outcome(lab, "poke") == "skipped"


@pytest.mark.parametrize("request_", [{}, {"work_path": "x"}, [], ["no uuid"], "text"])
def test_what_is_no_request_is_refused(monkeypatch: pytest.MonkeyPatch, request_: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", "{}")
    with pytest.raises(PostHogSettingsError, match="request"):
        PostHogPersonsErasedSensor(task_id="task", request=request_).execute(context())  # type: ignore[arg-type]


@pytest.mark.parametrize("generation", "ABC")
def test_plain_uuids_need_a_sign_that_they_were_deleted(lab: Lab, generation: str) -> None:
    lab.posthog.settings(generation=generation)
    lab.delete()
    plain: Any = [lab.person.upper()]
    assert lab.look(request=plain) == "EVENTS_PENDING"
    lab.posthog.advance(8 * DAY)
    assert lab.look(request=plain) == ("NOT_FOUND" if generation == "A" else "VERIFIED")
    assert lab.look(request=[str(uuid.uuid4())]) == "NOT_FOUND"


def test_plain_uuids_of_people_who_are_there(lab: Lab) -> None:
    assert lab.look(request=[lab.person]) == "REQUESTED"


def test_recordings_are_waited_for_and_then_missed(lab: Lab) -> None:
    lab.delete()
    lab.posthog.sweep()
    lab.recording()
    assert lab.look() == "PROFILE_GONE"
    lab.posthog.advance(3 * DAY)
    assert lab.look() == "PARTIAL"


def test_an_answer_from_the_cache_proves_nothing(lab: Lab) -> None:
    lab.delete()
    lab.posthog.faults(path="*/query/", status=200, body={"results": [], "is_cached": True}, count=-1)
    with pytest.raises(Exception, match="cache"):
        lab.sensor().look({})


def test_a_cut_answer_proves_nothing(lab: Lab) -> None:
    lab.delete()
    lab.posthog.faults(path="*/query/", status=200, body={"results": [], "hasMore": True}, count=-1)
    with pytest.raises(Exception, match="cut"):
        lab.sensor().look({})


def test_the_triggerer_learns_nothing_of_the_persons(lab: Lab) -> None:
    lab.delete()
    with pytest.raises(task_deferred()) as deferred:
        lab.sensor(deferrable=True, poke_interval=3600).execute(context())
    path, arguments = deferred.value.trigger.serialize()  # type: ignore[attr-defined]
    assert path.endswith("PostHogTimerTrigger")
    text = json.dumps(arguments)
    for secret in (lab.name, lab.person, "work.jsonl"):
        assert secret not in text


def test_an_event_of_an_earlier_try_begins_anew(lab: Lab) -> None:
    """Airflow 3.0 resumes a retry with the last event of the try before."""
    lab.delete()
    with pytest.raises(task_deferred()) as deferred:
        lab.sensor(deferrable=True, timeout=0.1).execute(context(try_number=1))
    event = run_trigger(deferred.value.trigger)  # type: ignore[attr-defined]
    sensor = lab.sensor(deferrable=True)
    with pytest.raises(task_deferred()) as again:
        sensor.resume_execution("execute_complete", {"event": event}, context(try_number=2))
    assert again.value.trigger.payload["deadline"] > event["deadline"]  # type: ignore[attr-defined]


def test_the_deadline_stays_while_it_is_deferred_again_and_again(lab: Lab) -> None:
    lab.delete()
    with pytest.raises(task_deferred()) as first:
        lab.sensor(deferrable=True).execute(context())
    event = run_trigger(first.value.trigger)  # type: ignore[attr-defined]
    with pytest.raises(task_deferred()) as second:
        lab.sensor(deferrable=True).resume_execution("execute_complete", {"event": event}, context())
    deadlines = [each.value.trigger.payload["deadline"] for each in (first, second)]  # type: ignore[attr-defined]
    assert deadlines[0] == deadlines[1]


@pytest.mark.parametrize("event", [None, {}, {"version": 1, "check": "insight_fresh", "outcome": "succeeded"}])
def test_an_event_that_is_none_of_ours_fails_the_task(lab: Lab, event: Any) -> None:
    lab.delete()
    with pytest.raises(PostHogJobError):
        lab.sensor(deferrable=True).resume_execution("execute_complete", {"event": event}, context())


def test_it_waits_a_month_by_itself_and_frees_the_worker() -> None:
    sensor = PostHogPersonsErasedSensor(task_id="task", request=[str(uuid.uuid4())], poll_interval=60)
    assert (sensor.timeout, sensor.poke_interval, sensor.mode) == (30 * DAY, 60, "reschedule")


def test_a_whole_dag(lab: Lab, run_dag: Callable[..., Any]) -> None:
    mode = "deferrable"
    lab.posthog.settings(person_deletion_seconds=2.5)
    secret = lab.email

    def fill() -> None:
        found = PostHogResolvePersonsOperator(task_id="resolve", emails=[secret], work_path=lab.work_path)
        asked = PostHogDeletePersonsOperator(task_id="delete", persons=found.output)
        sweep = _Sweep(task_id="sweep", url=lab.posthog.url)
        verify = PostHogPersonsErasedSensor(
            task_id="verify",
            request=asked.output,
            deferrable=mode == "deferrable",
            mode="poke",
            poke_interval=0.3,
            timeout=60,
            quiet_period=0,
        )
        asked >> sweep >> verify

    run = run_dag(make_dag(f"erasure_{mode}", fill))
    assert task_states(run) == dict.fromkeys(["resolve", "delete", "sweep", "verify"], "success")
    told = xcoms(run)
    assert told[("verify", -1, "return_value")]["state"] == "VERIFIED"
    assert lab.readable() == []
    rendered = rows_of_database(
        "SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = ?", run.dag_id
    )
    assert lab.work_path in str(rendered)
    for text in (str(told), str(rendered)):
        assert lab.name not in text
        assert lab.person not in text
