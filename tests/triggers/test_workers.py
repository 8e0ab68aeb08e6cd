"""One poll for all that wait in the threads of one process: how often PostHog is asked, and what each learns."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_posthog.api.jobs import EXPORT
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogJobTimeout
from airflow_provider_posthog.sensors.exports import PostHogExportSensor
from airflow_provider_posthog.tasks.shared_polls import in_step, sharing
from tests.operators.support import airflows_timer, context, export_operator, in_threads, outcome_errors
from tests.support.scripted import Reply, ScriptedServer
from tests.support.waiting import wait_for

#: Seconds between two polls.
INTERVAL = 0.25


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "posthog-polls"]


def side_by_side(tasks: list[Callable[[], Any]]) -> list[Any]:
    """Do them at once; returns what came of each, be it an error."""

    def outcome(number: int) -> Any:
        try:
            return tasks[number]()
        except Exception as error:
            return error

    return in_threads(outcome, len(tasks))


def created(posthog: EmulatorProcess, count: int, seconds: float) -> list[int]:
    posthog.next_exports("succeed", count=count, export_seconds=seconds)
    return [export_operator(wait_for_completion=False).execute({})["id"] for _ in range(count)]


def looks(posthog: EmulatorProcess, before: int) -> tuple[int, int]:
    """How many lists were asked for, and how many single exports."""
    paths = [call["path"] for call in posthog.calls("/exports/", "GET")[before:]]
    return sum(path.endswith("/exports/") for path in paths), sum(not path.endswith("/exports/") for path in paths)


def sensor(export_id: int, **options: Any) -> PostHogExportSensor:
    given = {"poke_interval": INTERVAL, "timeout": 30, "deferrable": False, "mode": "poke"}
    return PostHogExportSensor(task_id="task", export_id=export_id, **{**given, **options})


def test_operators_that_wait_in_threads_cost_one_list_an_interval(connected: EmulatorProcess) -> None:
    connected.next_exports("succeed", count=12, export_seconds=2.0)
    operators = [export_operator(poll_interval=INTERVAL, timeout=60) for _ in range(12)]
    before, began = len(connected.calls("/exports/", "GET")), time.monotonic()
    results = side_by_side([lambda each=each: each.execute({}) for each in operators])  # type: ignore[misc]
    waited = time.monotonic() - began
    assert {result["has_content"] for result in results} == {True}
    assert len({result["id"] for result in results}) == 12
    lists, single = looks(connected, before)
    assert lists <= waited / (0.9 * INTERVAL) + 3
    assert single <= 12 + 2 * waited / INTERVAL, "the first look of each, and those of the last two; none for results"


def test_sensors_that_poke_in_threads_cost_one_list_an_interval(connected: EmulatorProcess) -> None:
    ids = created(connected, 10, 1.5)
    before, began = len(connected.calls("/exports/", "GET")), time.monotonic()
    results = side_by_side([lambda each=each: sensor(each).execute(context()) for each in ids])  # type: ignore[misc]
    waited = time.monotonic() - began
    assert [result["id"] for result in results] == ids
    lists, single = looks(connected, before)
    assert lists <= 1.5 * waited / INTERVAL + 3, "now and then one is late for the list of the others"
    assert single <= 10 + 2 * waited / INTERVAL, "a poke each would be 10 an interval"


def test_one_or_two_look_by_themselves_and_start_no_thread(connected: EmulatorProcess) -> None:
    ids = created(connected, 2, 1.0)
    before = len(connected.calls("/exports/", "GET"))
    names: set[str] = set()

    def watch(export_id: int) -> Any:
        made = sensor(export_id, poke_interval=0.2)
        poke = made.poke
        made.poke = lambda ctx: (names.update(thread.name for thread in threading.enumerate()), poke(ctx))[1]  # type: ignore[method-assign]
        return made.execute(context())["id"]

    assert side_by_side([lambda each=each: watch(each) for each in ids]) == ids  # type: ignore[misc]
    assert looks(connected, before)[0] == 0
    assert "posthog-polls" not in names


def test_each_learns_its_own_end(connected: EmulatorProcess) -> None:
    ids = created(connected, 3, 1.0)
    connected.next_exports("exception", exception_text="Unknown table 'x'")
    ids.append(export_operator(wait_for_completion=False).execute({})["id"])
    *good, failed, unknown = side_by_side(
        [lambda each=each: sensor(each, failure_grace=0.3).execute(context()) for each in [*ids, 999]]  # type: ignore[misc]
    )
    assert [result["id"] for result in good] == ids[:3]
    assert isinstance(failed, PostHogJobFailed)
    assert "Unknown table" in str(failed)
    assert isinstance(unknown, PostHogJobFailed)
    assert "never was" in str(unknown)


def test_a_list_that_hangs_keeps_no_worker_behind_its_deadline(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_posthog.tasks.shared_polls.LAST_POLL", 0.5)
    server.script(Reply(delay=60))
    settings = ClientSettings(base_url=server.url, api_key="phx_key", project_id=1, rate_limit_share=0)
    together = threading.Barrier(4)

    def wait(number: int) -> tuple[str, float]:
        with sharing(EXPORT, str(number + 1), 0.2, settings) as mine:  # 0 is no id
            together.wait(10)
            began = time.monotonic()
            state = getattr(mine.look(0.1, 0.3).verdict, "state", "an error")
            return state, time.monotonic() - began

    found = in_threads(wait, 4)
    assert {state for state, _ in found} == {"pending"}
    assert max(seconds for _, seconds in found) < 15.0


def test_a_task_that_airflow_ends_while_others_wait_leaves_them_their_poll(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = created(connected, 5, 2.0)
    others: list[Any] = []
    tasks = [lambda each=each: sensor(each).execute(context()) for each in ids]  # type: ignore[misc]
    thread = threading.Thread(target=lambda: others.extend(side_by_side(tasks)))
    thread.start()
    with pytest.raises(outcome_errors().task_timeout), airflows_timer(0.8):
        sensor(ids[0], timeout=60).execute(context())
    thread.join()
    assert [result["id"] for result in others] == ids


def test_a_wait_that_runs_out_of_its_time_says_so(connected: EmulatorProcess) -> None:
    connected.next_exports("succeed", count=4, export_seconds=60.0)
    operators = [export_operator(poll_interval=0.2, timeout=1.0) for _ in range(4)]
    ended = side_by_side([lambda each=each: each.execute({}) for each in operators])  # type: ignore[misc]
    assert {type(each) for each in ended} == {PostHogJobTimeout}
    assert all("timeout of 1 s" in str(each) for each in ended)


def test_all_that_wait_go_on_with_the_connections_new_key(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected.next_exports("succeed", count=4, export_seconds=2.5, content="uuid\n")
    old, new = connected.create_key(), connected.create_key()
    ids = [export_operator(wait_for_completion=False).execute({})["id"] for _ in range(4)]
    made = json.loads(os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"])
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps({**made, "password": old}))
    results: list[Any] = []
    sensors = [sensor(each) for each in ids]
    before = len(connected.calls())
    tasks = [lambda each=each: each.execute(context()) for each in sensors]  # type: ignore[misc]
    thread = threading.Thread(target=lambda: results.extend(side_by_side(tasks)))
    thread.start()
    wait_for(lambda: len(connected.calls()) > before + 4, what="the first looks")
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps({**made, "password": new}))
    connected.control("DELETE", "keys", {"api_key": old})
    thread.join()
    assert [result["id"] for result in results] == ids
    assert [call for call in connected.calls()[before:] if call["status"] == 401]


def test_a_forked_process_starts_anew(connected: EmulatorProcess) -> None:
    settings = ClientSettings(base_url=connected.url, api_key=connected.api_key, project_id=1)
    with ExitStack() as stack:
        waits = [stack.enter_context(sharing(EXPORT, str(each), 1.0, settings)) for each in range(3)]
        assert waits[2].is_shared
        waits[2].look(0.0, 5.0)
        child = os.fork()
        if child == 0:
            with sharing(EXPORT, "4", 1.0, settings) as other:
                os._exit(1 if other.is_shared else 0)
        assert os.waitpid(child, 0)[1] == 0


def test_those_that_sleep_alike_wake_together() -> None:
    assert 0 < in_step(7.0) <= 7.0
    assert abs(in_step(3600.0) - in_step(3600.0)) < 60.0
