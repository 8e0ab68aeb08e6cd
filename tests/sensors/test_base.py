"""What all sensors that make a check share: the three modes end alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogError, PostHogJobError, PostHogJobFailed, PostHogSettingsError
from airflow_provider_posthog.tasks.sensor import BAD_POKES_KEY, PostHogSensor
from tests.operators.support import Store, context, finish, outcome_errors, task_deferred
from tests.sensors.modes import MODES, ended, first_poke, see_through
from tests.support.checks import says, scripted_check, use
from tests.support.scripted import Reply, ScriptedServer, error

__all__ = ["first_poke", "scripted_check"]

ALL_MODES = pytest.mark.parametrize("mode", MODES)


class ScriptedSensor(PostHogSensor):
    check = "scripted"
    unmet = "is not there"
    template_fields = (*PostHogSensor.template_fields, "number")

    def __init__(self, *, number: Any = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number

    def subject(self) -> str:
        return f"thing {self.number}"

    def link(self, settings: Any, facts: Mapping[str, Any]) -> str:
        return f"{settings.base_url}/things/{facts.get('name', '')}"

    def check_arguments(self, context: Any) -> dict[str, Any]:
        if self.number == "wrong":
            raise PostHogSettingsError("number", "is wrong.", "Write another.")
        return {"number": self.number}


def _maker(**options: Any) -> Callable[..., ScriptedSensor]:
    given: dict[str, Any] = {"task_id": "task", "poke_interval": 0.1, "timeout": 20, "failure_grace": 0.2}
    return lambda **mode: ScriptedSensor(**{**given, **options, **mode})


@ALL_MODES
def test_it_waits_and_returns_the_facts(scripted_check: ScriptedServer, mode: str, first_poke: SimpleNamespace) -> None:
    scripted_check.script(says("pending", "p"), says("pending", "p"), says("succeeded", n=3, name="x"))
    result = see_through(_maker(), mode, first_poke)
    assert json.loads(json.dumps(result)) == {"n": 3, "name": "x"}
    assert len(scripted_check.requests) == 3


FLAGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "soft_fail": {"soft_fail": True},
    "never_fail": {"never_fail": True},
    "silent_fail": {"silent_fail": True},
    "backoff": {"exponential_backoff": True, "max_wait": 0.2},
}
FAILED = {**dict.fromkeys(FLAGS, "failed"), "never_fail": "skipped", "silent_fail": "timed out"}
OUTCOMES: dict[str, tuple[Reply, dict[str, str]]] = {
    "succeeds": (says("succeeded", n=1), dict.fromkeys(FLAGS, "succeeded")),
    "pending": (says("pending", "p"), {**dict.fromkeys(FLAGS, "timed out"), "soft_fail": "skipped"}),
    "fails": (says("failed", "never more"), FAILED),
    "gone": (error(404), FAILED),
    "refused": (error(403), FAILED),
}


def _resumed_never_fail_skips() -> bool:
    """Whether this Airflow turns a resumed sensor's AirflowException into a skip under ``never_fail``."""
    import inspect

    from airflow_provider_posthog.compat import BaseSensorOperator

    return "never_fail" in inspect.getsource(BaseSensorOperator.resume_execution)


@ALL_MODES
@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_mode_ends_alike(
    scripted_check: ScriptedServer, mode: str, flag: str, outcome: str, first_poke: SimpleNamespace
) -> None:
    reply, table = OUTCOMES[outcome]
    expected = table[flag]
    if (mode, outcome, flag) == ("deferrable", "pending", "never_fail") and _resumed_never_fail_skips():
        expected = "skipped"
    scripted_check.script(reply)
    waits = outcome == "pending" or expected == "timed out"
    make = _maker(timeout=0.4 if waits else 20, **FLAGS[flag])
    began = time.monotonic()
    assert ended(make, mode, first_poke) == expected
    assert time.monotonic() - began < 5


@ALL_MODES
def test_a_failure_that_may_pass_is_waited_out(
    scripted_check: ScriptedServer, mode: str, first_poke: SimpleNamespace
) -> None:
    hiccup = says("failed", "a hiccup", final=False)
    scripted_check.script(hiccup, hiccup, says("succeeded"))
    assert ended(_maker(failure_grace=10), mode, first_poke) == "succeeded"
    scripted_check.script(hiccup)
    assert ended(_maker(), mode, first_poke) == "failed"


@ALL_MODES
def test_the_reason_is_said(scripted_check: ScriptedServer, mode: str, first_poke: SimpleNamespace) -> None:
    scripted_check.script(says("failed", "never more"))
    with pytest.raises(PostHogJobFailed, match="thing 5 failed: never more"):
        see_through(_maker(), mode, first_poke)


@ALL_MODES
def test_a_server_in_trouble_is_waited_out_for_a_while(
    scripted_check: ScriptedServer, mode: str, first_poke: SimpleNamespace
) -> None:
    bad, ctx = error(501), context(store=Store())
    scripted_check.script(bad, bad, says("pending", "p"), bad, bad, says("succeeded"))
    assert ended(_maker(max_poll_failures=3), mode, first_poke, ctx) == "succeeded"
    scripted_check.script(says("pending", "p"), bad)
    assert ended(_maker(max_poll_failures=3), mode, first_poke, ctx) == "failed"
    assert len(scripted_check.requests) == 4


def test_a_retry_counts_the_trouble_anew(scripted_check: ScriptedServer, first_poke: SimpleNamespace) -> None:
    store = Store()
    scripted_check.script(error(501))
    for try_number in (1, 2):
        ctx = context(store=store, try_number=try_number)
        assert ended(_maker(max_poll_failures=2), "reschedule", first_poke, ctx) == "failed"
        assert store.get(BAD_POKES_KEY) == 0
    assert len(scripted_check.requests) == 4


def test_without_a_store_a_rescheduled_sensor_ends_by_its_timeout(
    scripted_check: ScriptedServer, first_poke: SimpleNamespace
) -> None:
    scripted_check.script(error(501))
    assert ended(_maker(max_poll_failures=2, timeout=0.5), "reschedule", first_poke) == "timed out"


@ALL_MODES
def test_a_rate_limit_is_no_trouble(
    scripted_check: ScriptedServer, mode: str, first_poke: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, scripted_check, max_rate_limit_wait=0)
    limited = error(429, Retry_After="0")
    scripted_check.script(limited, limited, says("succeeded"))
    assert ended(_maker(max_poll_failures=1), mode, first_poke) == "succeeded"


@ALL_MODES
def test_wrong_arguments_are_refused_before_anything_is_sent(
    scripted_check: ScriptedServer, mode: str, first_poke: SimpleNamespace
) -> None:
    with pytest.raises(PostHogSettingsError, match="number"):
        see_through(_maker(number="wrong"), mode, first_poke)
    assert scripted_check.requests == []


@ALL_MODES
def test_the_link_is_there_from_the_start_and_better_once_more_is_known(
    scripted_check: ScriptedServer, mode: str, first_poke: SimpleNamespace
) -> None:
    ctx = context()
    scripted_check.script(error(403))
    with pytest.raises(PostHogError):
        see_through(_maker(), mode, first_poke, ctx)
    assert ctx["ti"].pushed == {"_link_PostHogLink": f"{scripted_check.url}/things/"}
    scripted_check.script(says("succeeded", name="x"))
    see_through(_maker(), mode, first_poke, ctx)
    assert ctx["ti"].pushed == {"_link_PostHogLink": f"{scripted_check.url}/things/x"}


# Deferring.


def _deferral(make: Callable[..., ScriptedSensor]) -> Any:
    with pytest.raises(task_deferred()) as deferred:
        make(deferrable=True).execute(context(try_number=2))
    return deferred.value


def test_what_is_so_already_needs_no_deferral(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("succeeded", n=1))
    assert _maker()(deferrable=True).execute(context()) == {"n": 1}


def test_deferring_hands_on_how_it_is_to_wait(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("pending", "p"))
    trigger = _deferral(
        _maker(
            timeout=100, poke_interval=3, exponential_backoff=True, max_wait=50, silent_fail=True, max_poll_failures=7
        )
    ).trigger
    assert 95 < trigger.deadline - time.time() <= 100
    assert (trigger.check, trigger.arguments, trigger.looked) == ("scripted", {"number": 5}, True)
    assert (trigger.first_wait, trigger.growth, trigger.poll_interval) == (3, 2.0, 50)
    assert (trigger.silent_fail, trigger.max_poll_failures, trigger.failure_grace) == (True, 7, 0.2)
    assert (trigger.limit, trigger.try_number) == ("timeout", 2)
    assert _deferral(_maker(timeout=100)).timeout.total_seconds() > 100


@pytest.mark.parametrize("reply", [error(403), error(501), says("failed", "no", final=False)])
def test_a_failure_at_the_first_look_is_looked_at_again_at_once(scripted_check: ScriptedServer, reply: Reply) -> None:
    """The trigger says what it means, for all flags alike, and does not keep the task waiting for that."""
    scripted_check.script(reply)
    assert _deferral(_maker(poke_interval=60)).trigger.looked is False


def test_what_never_will_be_so_is_not_deferred(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("failed", "no"))
    with pytest.raises(PostHogJobFailed, match="failed: no"):
        finish(_maker()(deferrable=True), context())
    with pytest.raises(outcome_errors().skip):
        finish(_maker(never_fail=True)(deferrable=True), context())
    assert len(scripted_check.requests) == 2
    assert _deferral(_maker(silent_fail=True, poke_interval=60)).trigger.looked is False


def test_the_execution_timeout_ends_a_deferred_wait_on_every_airflow(scripted_check: ScriptedServer) -> None:
    scripted_check.script(says("pending", "not yet"))
    make = _maker(execution_timeout=timedelta(seconds=0.6))
    with pytest.raises(outcome_errors().task_timeout, match=r"Thing 5 .* its execution_timeout of 0\.6 s"):
        finish(make(deferrable=True), context())


GOOD = {"version": 1, "check": "scripted", "facts": {"n": 9}, "outcome": "succeeded", "reason": "", "limit": "timeout"}


@pytest.mark.parametrize("event", [None, {}, {"status": "success"}, {**GOOD, "check": "x"}, {**GOOD, "version": 2}])
def test_an_unknown_event_is_no_success(scripted_check: ScriptedServer, event: Any) -> None:
    with pytest.raises(PostHogJobError):
        _maker()().execute_complete(context(), event=event)


@pytest.mark.parametrize(
    ("outcome", "kind", "text"),
    [
        ("failed", PostHogJobFailed, "thing 5 failed: why"),
        ("gone", PostHogJobFailed, "thing 5 gone: why"),
        ("unreachable", PostHogJobError, "Lost sight of thing 5"),
        ("refused", PostHogJobError, "Lost sight of thing 5"),
    ],
)
def test_each_bad_end_has_its_error(
    scripted_check: ScriptedServer, outcome: str, kind: type[Exception], text: str
) -> None:
    event = {**GOOD, "outcome": outcome, "reason": "why"}
    with pytest.raises(kind, match=text):
        _maker()().execute_complete(context(), event=event)
    with pytest.raises(outcome_errors().skip, match="why"):
        _maker(never_fail=True)().execute_complete(context(), event=event)
    assert scripted_check.requests == []


def test_its_own_timeout_is_a_skip_under_soft_fail(scripted_check: ScriptedServer) -> None:
    event = {**GOOD, "outcome": "timeout", "reason": "why"}
    with pytest.raises(outcome_errors().timeout, match="after 20 seconds"):
        _maker()().execute_complete(context(), event=event)
    with pytest.raises(outcome_errors().skip, match="after 20 seconds"):
        _maker(soft_fail=True)().execute_complete(context(), event=event)


def test_a_retry_that_airflow_resumes_with_the_event_before_looks_anew(scripted_check: ScriptedServer) -> None:
    """As Airflow 3.0 does with each retry of a task that deferred."""
    scripted_check.script(says("succeeded", n=1))
    event = {**GOOD, "outcome": "failed", "try_number": 1}
    make = _maker(deferrable=True)
    with pytest.raises(PostHogJobFailed):
        make().execute_complete(context(try_number=1), event)
    assert make().execute_complete(context(try_number=2), event) == {"n": 1}


def test_making_it_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT", raising=False)
    sensor = _maker(number="{{ ds }}", project_id="{{ ds }}", posthog_conn_id="c{{ ds }}")()
    sensor.render_template_fields({"ds": "5"})
    assert (sensor.number, sensor.project_id, sensor.posthog_conn_id) == ("5", "5", "c5")


def test_default_args_reach_the_base() -> None:
    sensor = _maker(default_args={"posthog_conn_id": "other", "max_poll_failures": 3, "deferrable": True})()
    assert (sensor.posthog_conn_id, sensor.max_poll_failures, sensor.deferrable) == ("other", 3, True)
