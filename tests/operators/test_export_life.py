"""The life of an export's task, without the task runner: in the worker, deferred, and not waited for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogJobError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogServerError,
    PostHogTransportError,
)
from airflow_provider_posthog.operators.queries import PostHogQueryOperator
from tests.operators.support import (
    EXPORTS,
    SUMMARY,
    Store,
    airflows_timer,
    connect,
    context,
    created,
    export_operator,
    finish,
    in_threads,
    outcome_errors,
    posts,
    run_trigger,
    task_deferred,
)
from tests.support.checks import use
from tests.support.scripted import ScriptedServer, ok
from tests.support.waiting import wait_for

MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["worker", "deferred"])


@MODES
def test_it_waits_and_returns_the_summary(connected: EmulatorProcess, deferrable: bool) -> None:
    result = finish(export_operator(deferrable=deferrable))
    assert list(result) == SUMMARY
    assert json.loads(json.dumps(result)) == result
    assert (result["has_content"], result["export_format"]) == (True, "text/csv")
    assert (result["project_id"], result["host"]) == (connected.project_id, connected.url)
    assert isinstance(result["id"], int)
    assert datetime.fromisoformat(result["created_at"].replace("Z", "+00:00"))
    assert datetime.fromisoformat(result["expires_after"].replace("Z", "+00:00"))
    assert created(connected) == 1


@MODES
def test_without_waiting_it_hands_on_the_id_at_once(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.next_exports("slow")
    result = export_operator(deferrable=deferrable, wait_for_completion=False).execute({})
    assert list(result) == SUMMARY
    assert result["has_content"] is False
    assert [call["method"] for call in connected.calls("/exports/")] == ["POST"]


def test_a_server_that_answers_at_the_end_needs_no_deferral(connected: EmulatorProcess) -> None:
    connected.settings(create_blocks=True)
    assert export_operator(deferrable=True).execute({})["has_content"] is True


@MODES
def test_a_failed_export_fails_the_task_with_posthogs_reason(connected: EmulatorProcess, deferrable: bool) -> None:
    store = Store()
    operator = export_operator(deferrable=deferrable, query="SELECT nope FROM nowhere LIMIT 1")
    with pytest.raises(PostHogJobFailed, match="nowhere") as failed:
        finish(operator, context(store=store))
    assert failed.value.job_id == "1"
    assert store.kept == {}


@MODES
def test_an_exception_that_posthog_mends_itself_is_waited_out(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(retry_seconds=0.6)
    connected.next_exports("exception_then_success")
    assert finish(export_operator(deferrable=deferrable, failure_grace=10.0))["has_content"] is True


@MODES
def test_an_exception_that_lasts_fails_the_task_after_the_grace(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.next_exports("exception", exception_text="Something odd.")
    began = time.monotonic()
    with pytest.raises(PostHogJobFailed, match="Something odd"):
        finish(export_operator(deferrable=deferrable, failure_grace=0.5))
    assert 0.5 <= time.monotonic() - began < 8


@MODES
def test_an_old_servers_silent_failure_ends_by_timeout(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(exceptions_reported=False, export_outcome="silent_failure")
    with pytest.raises(PostHogJobTimeout, match=r"did not end within its timeout of 0\.8 s") as late:
        finish(export_operator(deferrable=deferrable, timeout=0.8))
    assert late.value.job_id == "1"


@MODES
def test_an_export_that_vanishes_fails_the_task(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.next_exports("slow")
    connected.faults(method="GET", path="*/exports/1/", status=404, skip=1, count=-1)
    with pytest.raises(PostHogJobFailed, match="gone"):
        finish(export_operator(deferrable=deferrable))


@MODES
@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"status": 500}, {"cut": "before"}, {"cut": "after"}, {"status": 429}]
)
def test_a_few_failed_polls_do_no_harm(connected: EmulatorProcess, deferrable: bool, fault: dict[str, Any]) -> None:
    connected.faults(method="GET", path="*/exports/1/", count=3, **fault)
    assert finish(export_operator(deferrable=deferrable, max_poll_failures=4))["has_content"] is True


@MODES
def test_too_many_failed_polls_in_a_row_lose_sight_of_it(connected: EmulatorProcess, deferrable: bool) -> None:
    store = Store()
    connected.next_exports("slow")
    connected.faults(method="GET", path="*/exports/1/", status=503, count=-1)
    with pytest.raises(PostHogJobError, match=r"Lost sight of export 1 \(unreachable"):
        finish(export_operator(deferrable=deferrable, max_poll_failures=3), context(store=store))
    assert store.kept, "the next try must be able to take it up"


@MODES
def test_a_key_that_is_refused_ends_it_at_once(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.next_exports("slow")
    connected.faults(method="GET", path="*/exports/1/", status=401, count=-1)
    with pytest.raises(PostHogJobError, match="refused"):
        finish(export_operator(deferrable=deferrable))
    assert len(connected.calls("/exports/1/")) == 1


def test_deferring_keeps_no_secret_and_stands_behind_the_deadline(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    with pytest.raises(task_deferred()) as deferred:
        export_operator(deferrable=True, timeout=50, poll_interval=7).execute({})
    trigger, backstop = deferred.value.trigger, deferred.value.timeout  # type: ignore[attr-defined]
    assert 45 < trigger.deadline - time.time() <= 50
    assert 50 + 2 * 7 < backstop.total_seconds() < 50 + 2 * 7 + 120
    assert connected.api_key not in json.dumps(trigger.serialize())


@pytest.mark.parametrize("slow_post", [0.0, 1.2])
def test_a_deferred_export_is_done_before_its_execution_timeout(
    connected: EmulatorProcess, slow_post: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Airflow 2.11 counts it from the task's start and fails the task without a word to it.
    connected.next_exports("slow")
    connected.faults(method="POST", path=EXPORTS, delay=slow_post)
    began = time.time()
    operator = export_operator(deferrable=True, timeout=60, execution_timeout=timedelta(seconds=10))
    with pytest.raises(task_deferred()) as deferred:
        operator.execute({})
    trigger = deferred.value.trigger  # type: ignore[attr-defined]
    assert trigger.deadline <= began + 9.5
    assert trigger.limit == "execution_timeout"


def test_the_execution_timeout_of_a_deferred_export_is_airflows_own_error(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    operator = export_operator(deferrable=True, timeout=60, execution_timeout=timedelta(seconds=1))
    with pytest.raises(outcome_errors().task_timeout, match="did not end within its execution_timeout"):
        finish(operator)


def test_the_execution_timeout_in_a_worker_names_the_export(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    operator = export_operator(deferrable=False, timeout=60, execution_timeout=timedelta(seconds=1))
    text = r"^export (\d+) did not end within its execution_timeout of 1 s\. It may still go on"
    with pytest.raises(outcome_errors().task_timeout, match=text) as ended, airflows_timer(1.0):
        operator.execute({})
    assert ended.value.job_id in str(ended.value)
    assert created(connected) == 1
    assert "Timeout, PID" in str(ended.value.__cause__)


def test_the_execution_timeout_in_a_worker_names_the_query_and_cancels_it_once(connected: EmulatorProcess) -> None:
    connected.settings(query_seconds=60.0, async_seconds=0.0)
    operator = PostHogQueryOperator(
        task_id="query", query="SELECT 1 AS a LIMIT 1", timeout=60, execution_timeout=timedelta(seconds=2)
    )
    with pytest.raises(outcome_errors().task_timeout, match="It was cancelled") as ended, airflows_timer(2.0):
        operator.execute({})
    operator.on_kill()  # as Airflow does after its timeout
    assert ended.value.job_id
    assert len(connected.calls(f"/query/{ended.value.job_id}", "DELETE")) == 1


def test_a_timeout_before_anything_was_started_is_airflows(connected: EmulatorProcess) -> None:
    connected.faults(method="POST", path=EXPORTS, delay=30.0)
    with pytest.raises(outcome_errors().task_timeout, match="Timeout, PID"), airflows_timer(0.5):
        export_operator(execution_timeout=timedelta(seconds=1)).execute({})
    connected.clear_faults()


def test_default_timeouts_are_longer_than_posthog_tries() -> None:
    assert export_operator(timeout=None).default_timeout() == 2400
    assert (
        export_operator(export_format="video/mp4", export_context={"session_recording_id": "x"}).default_timeout()
        == 4800
    )


# A POST whose answer is lost.

LOST = {
    "cut": {"cut": "after"},
    "502": {"status": 502, "work": True, "body": "<html>Bad gateway</html>"},
    "503": {"status": 503, "work": True},
    "504": {"status": 504, "work": True},
    "500": {"status": 500, "work": True},
    "login_page": {"status": 200, "work": True, "body": "<html>Log in</html>"},
    "cut_in_the_answer": {"cut": "middle", "cut_bytes": 10},
}


@pytest.mark.parametrize("fault", LOST)
def test_an_export_whose_answer_was_lost_is_found_again(connected: EmulatorProcess, fault: str) -> None:
    connected.faults(method="POST", path=EXPORTS, **LOST[fault])
    store = Store()
    result = finish(export_operator(), context(store=store))
    assert (result["id"], result["has_content"]) == (1, True)
    assert created(connected) == len(posts(connected)) == 1


def test_an_export_that_is_made_after_the_read_timeout_is_found_again(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, connected, read_timeout=0.6)
    connected.faults(method="POST", path=EXPORTS, delay=1.5)
    assert finish(export_operator(deferrable=True))["has_content"] is True
    assert created(connected) == len(posts(connected)) == 1


def test_a_post_that_did_nothing_is_sent_again_once_that_is_proved(connected: EmulatorProcess) -> None:
    # An export of the run's life before it was deleted and made again: never to be taken for one of the new ones.
    assert finish(export_operator(), context())["id"] == 1
    for fault in ({"cut": "before"}, {"status": 503}, {"status": 502}, {"cut": "before"}, {"status": 500}):
        connected.faults(method="POST", path=EXPORTS, **fault)

    def attempt(_: int) -> Any:
        try:
            return finish(export_operator(), context())["id"]
        except PostHogServerError as error:
            return error.status

    # each looks for its export for a quarter of a minute, so they look together
    ended = in_threads(attempt, 5)
    assert sorted(ended) == [2, 3, 4, 5, 500], "a 500 of PostHog's own is not tried again"
    assert (created(connected), len(posts(connected))) == (5, 1 + 5 + 4)


def test_a_server_that_is_not_there_is_not_searched(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, make_server: Any
) -> None:
    server = make_server(listen=False)
    conn = {"conn_type": "posthog", "host": server.url, "password": "phx_abcdefgh", "extra": {"project_id": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    with pytest.raises(PostHogTransportError) as failed:
        finish(export_operator())
    assert failed.value.sent is False


# Taking up what an earlier try started.


def _first_try_dies(posthog: EmulatorProcess, store: Store | None, **options: Any) -> None:
    """Try 1 starts an export and then loses sight of it."""
    posthog.faults(method="GET", path="*/exports/1/", status=503, count=1)
    with pytest.raises(PostHogJobError):
        finish(export_operator(max_poll_failures=1, **options), context(store=store))
    assert created(posthog) == 1


STORES = pytest.mark.parametrize("stored", [True, False], ids=["store", "no_store"])


@MODES
@STORES
def test_a_retry_takes_the_running_export_up(connected: EmulatorProcess, deferrable: bool, stored: bool) -> None:
    store = Store() if stored else None
    connected.next_exports("succeed", export_seconds=1.5)
    _first_try_dies(connected, store)
    result = finish(export_operator(deferrable=deferrable), context(try_number=2, store=store))
    assert (result["id"], created(connected)) == (1, 1)
    assert store is None or store.kept == {}


@pytest.mark.parametrize("strange", [["path"], "path", 7])
def test_an_export_of_somebody_with_another_context_does_not_hold_up_a_retry(
    connected: EmulatorProcess, strange: Any
) -> None:
    from airflow_provider_posthog.api.call import Call, json_object
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    body = {"export_format": "text/csv", "export_context": strange}  # a server of 2024 took a text
    PostHogHook().send(Call("make", "POST", "exports/", json_object, json=body))
    assert export_operator().execute(context(try_number=2))["has_content"]


def test_a_retry_that_airflow_resumes_with_the_event_before_starts_anew(connected: EmulatorProcess) -> None:
    """As Airflow 3.0 does with each retry of a task that deferred."""

    def deferred(retry: bool, work: Callable[..., Any], *args: Any) -> dict[str, Any]:
        with pytest.raises(task_deferred()) as caught:
            work(context(try_number=2 if retry else 1), *args)
        return run_trigger(caught.value.trigger)  # type: ignore[attr-defined]

    connected.next_exports("succeed", export_seconds=2.5)
    connected.faults(method="GET", path="*/exports/1/", status=503, count=1)
    operator = export_operator(deferrable=True, max_poll_failures=1)
    event = deferred(False, operator.execute)
    with pytest.raises(PostHogJobError, match="503"):
        operator.execute_complete(context(), event)
    event = deferred(True, operator.execute_complete, event)
    assert operator.execute_complete(context(try_number=2), event)["id"] == created(connected) == 1


@MODES
@STORES
def test_a_retry_takes_up_what_ended_meanwhile(connected: EmulatorProcess, deferrable: bool, stored: bool) -> None:
    store = Store() if stored else None
    _first_try_dies(connected, store)
    finish(export_operator(), context(run_id="other"))  # takes longer than export 1 still needs
    result = finish(export_operator(deferrable=deferrable), context(try_number=2, store=store))
    assert (result["id"], result["has_content"], created(connected)) == (1, True, 2)


@STORES
def test_a_retry_after_a_failed_export_makes_a_new_one(connected: EmulatorProcess, stored: bool) -> None:
    store = Store() if stored else None
    connected.next_exports("exception", exception_text="Unknown table 'x'")
    with pytest.raises(PostHogJobFailed):
        finish(export_operator(), context(store=store))
    assert finish(export_operator(), context(try_number=2, store=store))["id"] == 2


@STORES
def test_clearing_a_finished_task_makes_a_new_export(connected: EmulatorProcess, stored: bool) -> None:
    store = Store() if stored else None
    assert finish(export_operator(), context(store=store))["id"] == 1
    assert finish(export_operator(), context(try_number=2, max_tries=3, store=store))["id"] == 2


@STORES
def test_clearing_a_running_task_goes_on_with_the_very_same_request(connected: EmulatorProcess, stored: bool) -> None:
    store = Store() if stored else None
    connected.next_exports("succeed", export_seconds=2)
    _first_try_dies(connected, store)
    assert finish(export_operator(), context(try_number=2, max_tries=3, store=store))["id"] == 1
    assert created(connected) == 1


@STORES
def test_clearing_a_running_task_with_another_query_makes_a_new_export(
    connected: EmulatorProcess, stored: bool
) -> None:
    store = Store() if stored else None
    connected.next_exports("slow")
    _first_try_dies(connected, store)
    other = export_operator(query="SELECT 2 LIMIT 1")
    assert finish(other, context(try_number=2, max_tries=3, store=store))["id"] == 2


def test_a_mapped_task_does_not_take_up_its_neighbours_export(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    _first_try_dies(connected, None)
    assert finish(export_operator(), context(try_number=2, map_index=1))["id"] == 2


def test_durable_off_starts_anew(connected: EmulatorProcess) -> None:
    store = Store()
    connected.next_exports("slow")
    _first_try_dies(connected, store, durable=False)
    assert store.kept == {}
    assert finish(export_operator(durable=False), context(try_number=2, store=store))["id"] == 2


def test_a_stored_export_that_is_gone_is_replaced(connected: EmulatorProcess) -> None:
    store = Store()
    connected.next_exports("slow")
    _first_try_dies(connected, store)
    connected.advance(8 * 86400)
    assert finish(export_operator(timeout=700_000), context(try_number=2, store=store))["id"] == 2


def test_a_retry_finds_what_a_worker_started_and_could_not_store(connected: EmulatorProcess) -> None:
    store = Store()
    connected.next_exports("exception", exception_text="Unknown table 'x'", export_seconds=0.1)
    _first_try_dies(connected, store)  # export 1 is stored, and fails later
    wait_for(lambda: connected.stats()["exports"]["failed"] == 1)
    connected.next_exports("slow")
    second = export_operator(wait_for_completion=False)
    assert second.execute(context(try_number=2))["id"] == 2  # no store: as if the worker died before it stored
    third = export_operator(wait_for_completion=False)
    assert third.execute(context(try_number=3, store=store))["id"] == 2
    assert created(connected) == 2


def test_a_run_that_was_deleted_and_made_again_gets_no_old_file(connected: EmulatorProcess) -> None:
    assert finish(export_operator(), context())["id"] == 1
    again = context(try_number=2, began=datetime.now(timezone.utc) + timedelta(hours=1))
    assert finish(export_operator(), again)["id"] == 2


def test_a_lost_post_is_not_mistaken_for_an_earlier_export_of_the_same_task(connected: EmulatorProcess) -> None:
    connected.next_exports("exception", exception_text="Unknown table 'x'")
    with pytest.raises(PostHogJobFailed):
        finish(export_operator(), context())
    connected.faults(method="POST", path=EXPORTS, status=504, work=True)
    result = finish(export_operator(), context(try_number=2))
    assert (result["id"], created(connected)) == (2, 2)


def test_a_retry_finds_its_export_behind_many_others(connected: EmulatorProcess) -> None:
    connected.settings(max_page=3)
    connected.next_exports("slow")
    _first_try_dies(connected, None)
    in_threads(lambda n: finish(export_operator(), context(run_id=f"other{n}")), 7)
    assert export_operator(wait_for_completion=False).execute(context(try_number=2))["id"] == 1


# Being killed.


def test_killing_the_task_does_nothing_to_the_export(connected: EmulatorProcess) -> None:
    operator = export_operator(wait_for_completion=False)
    operator.on_kill()
    operator.execute({})
    before = len(connected.calls())
    operator.on_kill()
    assert len(connected.calls()) == before


def test_the_id_is_stored_and_the_link_pushed_before_waiting(connected: EmulatorProcess) -> None:
    connected.next_exports("slow")
    store = Store()
    ctx = context(store=store)
    with pytest.raises(task_deferred()):
        export_operator(deferrable=True).execute(ctx)
    assert store.get("posthog_job")["id"] == "1"
    assert ctx["ti"].pushed == {"_link_PostHogLink": f"{connected.url}/project/{connected.project_id}/exports"}


@pytest.mark.parametrize(
    ("what", "path"), [({"insight": 1}, "insights/{}"), ({"dashboard": 1, "export_format": "image/png"}, "dashboard/1")]
)
def test_the_link_shows_what_is_exported(connected: EmulatorProcess, what: dict[str, Any], path: str) -> None:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    ctx = context()
    export_operator(wait_for_completion=False, **what).execute(ctx)
    short_id = PostHogHook().find_insight(1)["short_id"]
    root = f"{connected.url}/project/{connected.project_id}/"
    assert ctx["ti"].pushed["_link_PostHogLink"] == root + path.format(short_id)


def test_a_deferred_export_needs_no_call_after_its_event(connected: EmulatorProcess) -> None:
    expected = finish(export_operator())
    operator = export_operator(deferrable=True)
    connected.next_exports("succeed", export_seconds=0.3)
    with pytest.raises(task_deferred()) as deferred:
        operator.execute({})
    event = run_trigger(deferred.value.trigger)  # type: ignore[attr-defined]
    before = len(connected.calls())
    found = export_operator(deferrable=True).execute_complete({}, event)
    assert len(connected.calls()) == before
    assert found.keys() == expected.keys()
    assert (found["id"], found["has_content"], found["host"]) == (2, True, expected["host"])


def test_an_export_that_has_failed_for_good_when_it_is_created_is_not_waited_for(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server)
    server.script(ok({"id": 7, "has_content": False, "exception": "Unknown table 'x'"}, 201))
    with pytest.raises(PostHogJobFailed, match="Unknown table"):
        export_operator(deferrable=True).execute({})
