"""Many persons: memory stays flat, and a killed task goes on without asking for anybody twice."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import fsspec
import pytest

from airflow_provider_posthog.api.answers import Kind
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure import counts
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.delete import DeleteOptions
from airflow_provider_posthog.erasure.generation import detect
from airflow_provider_posthog.erasure.identifiers import Identifier
from airflow_provider_posthog.erasure.judge import Request
from airflow_provider_posthog.erasure.progress import Progress
from airflow_provider_posthog.erasure.project import Project
from airflow_provider_posthog.erasure.request import Outcome, delete_all
from airflow_provider_posthog.erasure.search import Limits, Search, new_header, search
from airflow_provider_posthog.erasure.verify import Report, verify
from airflow_provider_posthog.erasure.work_file import Person, WorkFile
from airflow_provider_posthog.exceptions import PostHogIncompleteError
from tests.erasure.support import client_of

pytestmark = pytest.mark.reliability

T = TypeVar("T")


class Killed(BaseException):
    """What happens to a worker in the middle of a step."""


class Worker(ErasureClient):
    """Sends calls until it is killed: just before a bulk deletion is sent, or just after it was answered."""

    def __init__(self, client: Client, *, kill_at: int = 0, after: bool = False) -> None:
        super().__init__(client)
        self._kill_at = kill_at
        self._after = after

    def send(self, call: Call[T], **options: Any) -> T:
        due = call.name == "persons.bulk_delete" and self.calls[call.name] + 1 == self._kill_at
        if due and not self._after:
            raise Killed
        value = super().send(call, **options)
        if due:
            raise Killed
        return value


def find(posthog: EmulatorProcess, client: Client, folder: Path, uuids: list[str]) -> tuple[Search, WorkFile]:
    fs, path = fsspec.filesystem("file"), str(folder / "work.jsonl")
    server = detect(ErasureClient(client))
    header, limits = (
        new_header(server, "asked", Project(posthog.url, posthog.project_id), "distinct_id"),
        Limits(len(uuids), 0),
    )
    identifiers = (Identifier("uuid", one, number) for number, one in enumerate(uuids, 1))
    found = search(Worker(client), identifiers, fs, path, header, server, limits)
    return found, WorkFile(fs, path)


def delete(work: WorkFile, client: Client, worker: Worker, chunk_size: int = 1000) -> Outcome:
    progress = Progress(work.fs, f"{work.path}.progress", work.header().request_id)
    return delete_all(worker, work, progress, DeleteOptions(), detect(ErasureClient(client)), chunk_size=chunk_size)


def look(work: WorkFile, outcome: Outcome, client: Client) -> Report:
    asked, accepted = moment(outcome.requested_at), moment(outcome.accepted_at)
    assert asked
    assert accepted
    request = Request(DeleteOptions(), outcome.generation, asked, accepted, quiet_period=timedelta(0))
    return verify(ErasureClient(client), work.persons(), request)


def accepted(posthog: EmulatorProcess) -> Counter[tuple[str, bool]]:
    """How often each person was asked for, with the profile kept and without."""
    found: Counter[tuple[str, bool]] = Counter()
    for call in posthog.calls("bulk_delete"):
        if call["status"] == 202:
            found.update((one, bool(call["body"].get("keep_person"))) for one in call["body"]["ids"])
    return found


@pytest.mark.parametrize("generation", "ABC")
def test_three_kills_and_nobody_is_asked_for_twice(posthog: EmulatorProcess, tmp_path: Path, generation: str) -> None:
    posthog.settings(generation=generation)
    uuids = posthog.add_persons(300)
    with client_of(posthog) as client:
        found, work = find(posthog, client, tmp_path, uuids)
        assert found.totals.profiles == 300
        for kill_at, after in ((3, True), (2, False), (2, True)):
            with pytest.raises(Killed):
                delete(work, client, Worker(client, kill_at=kill_at, after=after), chunk_size=50)
        outcome = delete(work, client, Worker(client), chunk_size=50)
        assert (outcome.persons, outcome.failed, outcome.swallowed) == (300, 0, 0)
        asked = accepted(posthog)
        assert set(asked.values()) == {1}
        assert {uuid for uuid, _ in asked} == set(uuids)
        assert len(asked) == (300 if generation == "A" else 600)
        idle = Worker(client)
        assert delete(work, client, idle, chunk_size=50) == outcome
        assert not idle.calls, "what is done is neither asked for nor read again"
        assert look(work, outcome, client).is_verified


def _peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_flat(posthog: EmulatorProcess, tmp_path: Path) -> None:
    with client_of(posthog) as client:
        peaks = []
        for count in (1000, 3000):
            uuids = posthog.add_persons(count)
            folder = tmp_path / str(count)
            folder.mkdir()
            _, work = find(posthog, client, folder, uuids)
            outcomes: list[Outcome] = []
            peaks.append(_peak(lambda: outcomes.append(delete(work, client, Worker(client)))))  # noqa: B023
            peaks[-1] = max(peaks[-1], _peak(lambda: look(work, outcomes[0], client)))  # noqa: B023
        assert peaks[1] < 1.5 * peaks[0]
        assert peaks[1] < 30_000_000


def test_a_look_at_a_thousand_persons_is_fourteen_calls(posthog: EmulatorProcess, tmp_path: Path) -> None:
    uuids = posthog.add_persons(1000)
    with client_of(posthog) as client:
        _, work = find(posthog, client, tmp_path, uuids)
        outcome = delete(work, client, Worker(client))
        posthog.control("DELETE", "calls")
        assert look(work, outcome, client).is_verified
        fixed = 1  # the server's time
        assert len(posthog.calls()) - fixed <= 14


class Narrow(ErasureClient):
    """Its answers hold no more than the rows of a few values; counts how often one did not."""

    most = 3
    cut = 0

    def rows(self, sql: str, values: Mapping[str, Any], *kinds: Kind) -> list[list[Any]]:
        if "min(timestamp)" in sql and sum(len(some) for some in values.values() if isinstance(some, list)) > self.most:
            self.cut += 1
            raise PostHogIncompleteError("cut")
        return super().rows(sql, values, *kinds)


def test_an_answer_that_would_be_cut_is_asked_for_fewer_persons_and_counts_each_event_once(
    posthog: EmulatorProcess,
) -> None:
    now = datetime.now(timezone.utc)
    uuids = posthog.add_persons(120)
    people = [Person(one, (f"narrow-{number}-{one}",)) for number, one in enumerate(uuids)]
    event = {"event": "e", "properties": {}, "timestamp": now.isoformat(), "created_at": now.isoformat()}
    posthog.add_events(
        [
            {**event, "uuid": str(uuid4()), "person_id": one.uuid, "distinct_id": name}
            for one in people
            for name in (*one.distinct_ids, "another")
        ]
    )
    until = now + timedelta(minutes=1)
    with client_of(posthog) as client:
        whole = counts.events(ErasureClient(client), people, until)
        narrow = Narrow(client)
        assert counts.events(narrow, people, until) == whole
        assert narrow.cut > 0
        assert {one.uuid: found.all for one, found in zip(people, whole.values(), strict=True)} == dict.fromkeys(
            uuids, 2
        )
        narrow.most = 0
        with pytest.raises(PostHogIncompleteError):
            counts.events(narrow, people, until)


def test_a_server_without_a_table_of_flags_is_asked_for_it_once(posthog: EmulatorProcess) -> None:
    posthog.settings(generation="A")
    people = [Person(str(uuid4()), (f"nobody-{number}",)) for number in range(300)]
    with client_of(posthog) as client:
        asker = ErasureClient(client)
        for some in (people[:150], people[150:]):
            assert counts.events(asker, some, datetime.now(timezone.utc)) == {}
        assert asker.unknown_tables == {"flag_evaluations"}
        assert sum(asker.calls.values()) == 3
