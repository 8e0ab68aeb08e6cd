"""Whoever lacks the salt cannot check a guess at an identifier: nothing depends on one without the salt."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_posthog.exceptions import PostHogErasureError
from airflow_provider_posthog.operators.erasure import PostHogCloseErasureOperator, PostHogFinishErasureOperator
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from tests.audit.support import SALT, Clock, trail_in, who
from tests.erasure.support import DAY, Lab
from tests.operators.support import connect

#: PostHog makes the UUID of a person out of the project and the distinct id with this constant.
NAMESPACE = uuid.UUID("932979b4-65c3-4424-8467-0b66ec27bc22")
#: The fields of a record that need the salt, or stand for all others.
SALTED = {"hmac", "person", "seal", "signature", "hash", "previous", "salt_id"}


def person_of(distinct_id: str, project: int = 1) -> str:
    return str(uuid.uuid5(NAMESPACE, f"{project}:{distinct_id}"))


def derived(distinct_id: str, keys: list[str]) -> Iterator[str]:
    """What somebody without the salt can calculate of a guess, as far as it would be worth writing down."""
    person = person_of(distinct_id)
    plain = [distinct_id, person, person.upper(), person.replace("-", "")]
    yield from plain
    for text in plain:
        forms = [text, json.dumps(text), json.dumps([text]), f"1:{text}", *(f"{key}{text}" for key in keys)]
        for form in forms:
            for digest in (hashlib.sha256, hashlib.sha1, hashlib.md5, hashlib.blake2b):
                yield digest(form.encode()).hexdigest()[:12]
        for key in ["", *keys]:
            yield hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:12]
            for kind in ("uuid", "distinct_id", "email"):
                told = f"identifier\0{kind}\0{text}".encode()
                yield hmac.new(key.encode(), told, hashlib.sha256).hexdigest()[:12]


def without_salted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_salted(inner) for name, inner in value.items() if name not in SALTED}
    return [without_salted(one) for one in value] if isinstance(value, list) else value


def told_of(distinct_id: str) -> list[Any]:
    """The records of an erasure of a person, without what the salt has made."""
    fs = MemoryFileSystem(skip_instance_cache=True)
    fs.store.clear()
    person = person_of(distinct_id)
    trail = trail_in(fs, "/guess", who=who(), now=Clock())
    names: Any = [("distinct_id", distinct_id), ("uuid", person)]
    trail.append("requested", identifiers=names, persons=[{"uuid": person, "identifiers": names}])
    trail.append("accepted", key=f"chunk-{person}", persons=[{"uuid": person, "note": f"{person} was asked for"}])
    trail.append("failed", error=f"PARTIAL: {person}: no; also {person.upper()} and {person.replace('-', '')}.")
    trail.append("note", notes=[f"of {person}", person], options={"a": person})
    trail.close("NOT_VERIFIED", states={"PARTIAL": 1}, notes=[f"{person} is left"])
    raws = [fs.cat_file(f"{trail.folder}/{record.name}") for record in trail.records()]
    assert person not in b"".join(raws).decode()
    return [without_salted(json.loads(raw)) for raw in raws]


def hidden_persons(records: list[Any]) -> str:
    """Take out the short forms of pseudonyms in texts."""
    return re.sub(r"<person [0-9a-f]{16}>", "<person>", json.dumps(records))


def test_what_the_salt_has_not_made_is_the_same_of_everybody() -> None:
    assert hidden_persons(told_of("ann@example.org")) == hidden_persons(told_of("user-4711"))


@pytest.fixture
def guessed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Somebody whose UUID PostHog has made of the distinct id."""
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    lab.name = f"ann-{uuid.uuid4().hex[:8]}"
    lab.names = [lab.name]
    lab.email = f"{lab.name}@example.org"
    lab.person = lab.add(lab.name, uuid=person_of(lab.name, lab.posthog.project_id))
    lab.persons = [lab.person]
    lab.event()
    lab.asked = {"emails": [lab.email]}
    return lab


def whole(lab: Lab, caplog: Any, capfd: Any, step: Callable[[str], object]) -> str:
    """All that is left when everything is over: certificate, progress, XComs, logs."""
    caplog.set_level(logging.INFO)
    capfd.readouterr()
    told = step(f"file://{lab.folder}/certificates")
    files = [path for path in sorted(lab.folder.rglob("*")) if path.is_file()]
    assert files
    text = "".join(f"{path.name}\n{path.read_text()}" for path in files)
    logs = "\n".join(record.getMessage() for record in caplog.records if "emulator" not in record.name)
    shown = "\n".join(line for line in capfd.readouterr().out.splitlines() if '"GET /api/' not in line)
    return f"{text}\n{json.dumps(told, default=str)}\n{logs}\n{shown}"


def refuse_guesses(lab: Lab, left: str) -> None:
    request_id = str(lab.request.get("request_id") or "")
    keys = [request_id, lab.work_path]
    hits = [guess for name in (lab.name, lab.email) for guess in derived(name, keys) if guess in left]
    assert hits == []


def test_an_erasure_leaves_nothing_to_guess_by(
    guessed: Lab, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    lab = guessed

    def erase(certificates: str) -> object:
        found = PostHogResolvePersonsOperator(
            task_id="a", work_path=lab.work_path, audit_path=certificates, **lab.asked
        ).execute({})
        lab.request = PostHogDeletePersonsOperator(task_id="b", persons=found).execute({})
        lab.posthog.advance(8 * DAY)
        proof = lab.sensor(keep_work_file=True, close_certificate=False).execute({})
        end = PostHogFinishErasureOperator(task_id="c", request=lab.request, proof=proof).execute({})
        return [found, lab.request, proof, end]

    refuse_guesses(lab, whole(lab, caplog, capfd, erase))


def test_an_erasure_that_fails_leaves_nothing_to_guess_by_once_it_is_ended(
    guessed: Lab, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    lab = guessed
    lab.posthog.settings(generation="C", persons_queued=False)
    lab.event(timestamp="2040-01-01T00:00:00Z")
    lab.raw.post("persons/bulk_delete/", {"ids": [lab.person], "delete_events": True, "keep_person": True})
    lab.posthog.fail_deletions([lab.person])

    def fail(certificates: str) -> object:
        found = lab.resolve(**lab.asked, audit_path=certificates)
        lab.request = {"request_id": found["request_id"]}
        with pytest.raises(PostHogErasureError) as failed:
            lab.delete(found)
        lab.posthog.fail_deletions([])
        lab.delete(found)
        with pytest.raises(PostHogErasureError) as survived:
            lab.sensor().execute({})
        end = PostHogCloseErasureOperator(
            task_id="c", request=lab.request, reason="it survived", decision="it may", poll_interval=0
        ).execute({})
        errors = [text for error in (failed.value, survived.value) for text in (str(error), repr(error), vars(error))]
        return [found, lab.request, end, *errors]

    refuse_guesses(lab, whole(lab, caplog, capfd, fail))


def test_the_attack_finds_what_is_written_without_the_salt(guessed: Lab) -> None:
    """The attack of this test can find something: a UUID, and an unsalted digest of it."""
    for careless in (person_of(guessed.name), hashlib.sha256(person_of(guessed.name).encode()).hexdigest()):
        with pytest.raises(AssertionError):
            refuse_guesses(guessed, f"... {careless} ...")


def test_the_end_removes_what_names_persons(guessed: Lab) -> None:
    lab = guessed
    lab.delete()
    folder = Path(f"{lab.folder}/work.jsonl.progress")
    assert [path.name for path in folder.rglob("*.asked.json")] != []
    lab.posthog.advance(8 * DAY)
    lab.sensor().execute({})
    assert [path.name for path in folder.rglob("*.json")] == ["verified.json"]
