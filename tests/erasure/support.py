"""A person of the emulator, what is done to it, and what can still be read of it, asked for by another way."""

from __future__ import annotations

import json
import urllib.request
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor
from tests.emulator.client import Client as Raw
from tests.operators.support import connect

HOUR = 3600
DAY = 86_400


def client_of(posthog: EmulatorProcess) -> Client:
    return Client(ClientSettings(base_url=posthog.url, api_key=posthog.api_key, project_id=posthog.project_id))


def ago(**units: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(**units)).isoformat()


def tidy(posthog: EmulatorProcess) -> None:
    """Take back what a test has ordered. Persons and the clock stay, as putting them back takes a second."""
    if posthog not in _DEFAULTS:
        posthog.reset()
        _DEFAULTS[posthog] = posthog.settings()
    posthog.settings(**_DEFAULTS[posthog])
    posthog.clear_faults()
    posthog.fail_deletions([])
    posthog.control("DELETE", "calls")


_DEFAULTS: WeakKeyDictionary[EmulatorProcess, dict[str, Any]] = WeakKeyDictionary()


@pytest.fixture(scope="module")
def tidied(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    """The session's emulator as it was at its start; whoever changes it in this module puts it right again."""
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    return new_lab(tidied, monkeypatch, tmp_path)


def new_lab(posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Lab:
    tidy(posthog)
    _begin_the_week(posthog)
    connect(monkeypatch, posthog)
    return Lab(posthog, folder)


def _begin_the_week(posthog: EmulatorProcess) -> None:
    """Let no deletion of a Sunday, 05:00, come into the hours and days of a test that does not wait for one."""
    now = datetime.fromisoformat(posthog.control("POST", "clock", {"advance": 0})["now"].replace("Z", "+00:00"))
    since = (now - timedelta(hours=6)).weekday() + 1  # days since a Sunday, 06:00
    if since % 7 > 2:
        posthog.advance((7 - since) * 86_400)


class Lab:
    """One person with two distinct ids, an e-mail address and an event of an hour ago."""

    def __init__(self, posthog: EmulatorProcess, folder: Path, *, events: bool = True) -> None:
        self.posthog = posthog
        self.raw = Raw(posthog.url, posthog.api_key)
        self.folder = folder
        self.name = f"id-{uuid.uuid4()}"
        self.names = [self.name, f"{self.name}-too"]
        self.email = f"{self.name}@example.org"
        self.wish: dict[str, Any] = {}
        self.asked: dict[str, Any] = {"emails": [self.email]}
        self.persons: list[str] = []
        self.person = self.add(*self.names)
        if events:
            self.event()
        self.request: dict[str, Any] = {}

    @property
    def work_path(self) -> str:
        return f"file://{self.folder}/work.jsonl"

    def add(self, *names: str, **given: Any) -> str:
        person = {"distinct_ids": [*names], "properties": {"email": self.email}, "created_at": ago(days=30), **given}
        self.persons += self.posthog.add_persons([person])
        return self.persons[-1]

    def event(self, name: str | None = None, **given: Any) -> None:
        when = ago(hours=1)
        event = {"event": "bought", "distinct_id": name or self.name, "timestamp": when, "created_at": when, **given}
        self.posthog.capture([event])

    def old_event(self, person: str, name: str) -> None:
        """An event that carries another person's UUID, as those of merged persons do until PostHog's squash."""
        when = ago(hours=1)
        event = {"uuid": str(uuid.uuid4()), "event": "bought", "distinct_id": name, "person_id": person}
        self.posthog.add_events([{**event, "timestamp": when, "created_at": when, "properties": {}}])

    def recording(self) -> None:
        self.posthog.add_recordings(
            [{"session_id": str(uuid.uuid4()), "distinct_id": self.name, "timestamp": ago(hours=1)}]
        )

    def split_off(self) -> str:
        """Give one of the distinct ids in the work file to somebody else, as a split does; return it."""
        name = f"{self.name}-stranger"
        self.posthog.add_persons([{"distinct_ids": [name], "properties": {"email": "ben@example.org"}}])
        path, known = self.folder / "work.jsonl", json.dumps(self.names[1])
        path.write_text(path.read_text().replace(known, f"{known},{json.dumps(name)}"))
        return name

    def named(self) -> list[str]:
        """The UUIDs of the persons in the work file, in their order."""
        return [json.loads(line)["uuid"] for line in (self.folder / "work.jsonl").read_text().splitlines()[1:]]

    def resolve(self, **given: Any) -> dict[str, Any]:
        given = given or self.asked
        operator = PostHogResolvePersonsOperator(task_id="resolve", work_path=self.work_path, **given)
        return operator.execute({})

    def delete(self, persons: Any = None, ctx: Any = None, **given: Any) -> dict[str, Any]:
        found = self.resolve() if persons is None else persons
        options = {**self.wish, **given}
        operator = PostHogDeletePersonsOperator(task_id="delete", persons=found, **options)
        self.request = operator.execute(ctx or {})
        return self.request

    def sensor(self, **given: Any) -> PostHogPersonsErasedSensor:
        options: dict[str, Any] = {
            "request": self.request,
            "poke_interval": 0.2,
            "timeout": 20,
            "mode": "poke",
            "deferrable": False,
            "failure_grace": 0.0,
            "quiet_period": 0.0,
        }
        return PostHogPersonsErasedSensor(task_id="verify", **{**options, **given})

    def look(self, **given: Any) -> str:
        """Look once; return the worst state. Green is checked against what another client can read."""
        sensor = self.sensor(keep_work_file=True, **given)
        found = sensor.look({})
        if found.verdict.state == "pending" and not set(found.facts["states"]) - {"VERIFIED"}:
            assert "second look" in found.verdict.reason
            found = sensor.look({})
        if found.verdict.state == "succeeded":
            assert found.facts["states"] == {"VERIFIED": found.facts["states"]["VERIFIED"]}
            assert self.readable() == []
            return "VERIFIED"
        states = {state for state, n in found.facts["states"].items() if n} - {"VERIFIED"}
        pending = {"REQUESTED", "PROFILE_GONE", "EVENTS_PENDING"}
        assert found.verdict.state == ("pending" if states <= pending else "failed")
        return sorted(states, key=lambda state: state in pending)[0]

    def readable(self) -> list[str]:
        """What of the persons another client can read."""
        found = []
        for person in self.persons:
            if not self.wish.get("keep_person") and self.raw.get(f"persons/{person}/").status_code == 200:
                found.append("profile")
            found += ["events by uuid"] * self._count("person_id = {v}", person)
        for name in self.names:
            found += ["events by distinct id"] * self._count("distinct_id = {v}", name)
        return found

    def _count(self, where: str, value: str) -> int:
        rows = self.raw.query(f"select count() from events where {where}", v=value).json()["results"]
        return int(rows[0][0])


class Weekend(BaseOperator):
    """PostHog's weekend, between the request and the proof of a DAG."""

    def __init__(self, *, url: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.url = url

    def execute(self, context: Any) -> None:
        request = urllib.request.Request(f"{self.url}/__emulator__/sweep", b"{}", method="POST")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()


def timeless(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out of a proof what moves with the clock: when it was made, and the floor of what PostHog shows."""
    retention = {**facts["retention"], "floor": None} if "retention" in facts else None
    return {**facts, "checked_at": None, "retention": retention}
