"""Personal data stays in the work file: not in logs, XComs, the database, errors, triggers or certificates."""

from __future__ import annotations

import logging
import os
import pickle
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from airflow_provider_posthog.sensors.persons import PostHogPersonsErasedSensor
from tests.erasure.support import DAY, Lab
from tests.operators.support import connect, make_dag, task_states, xcoms

SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"


@pytest.fixture
def marked(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Somebody whose identifiers and properties hold a mark that stands nowhere else."""
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    mark = f"mark{uuid.uuid4().hex}"
    lab.name, lab.email = f"id-{mark}", f"{mark}@example.org"
    lab.names = [lab.name, f"{lab.name}-too"]
    lab.persons = [lab.add(*lab.names, properties={"email": lab.email, "name": f"Ann {mark}"})]
    lab.person = lab.persons[0]
    lab.event(properties={"$set": {"name": f"Ann {mark}"}})
    lab.asked = {"emails": [lab.email], "distinct_ids": [lab.name]}
    return lab


def found_in(folder: Path, mark: str) -> list[str]:
    """The files that hold a mark, as it is or in another encoding of text."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and mark in path.read_bytes().decode("latin-1")
    ]


def mark_of(lab: Lab) -> str:
    return lab.email.split("@")[0]


def test_a_whole_dag_tells_nobody(
    marked: Lab, run_dag: Callable[..., Any], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    lab, mark = marked, mark_of(marked)
    caplog.set_level(logging.DEBUG)
    (lab.folder / "who.csv").write_text(f"email,distinct_id\n{lab.email},{lab.names[1]}\n")
    echo = {"detail": f"Illegal value '{lab.name}' of {lab.email} ({mark})", "attr": mark, "code": mark}
    lab.posthog.faults(path="*/query/", status=400, body=echo, count=1)  # for whoever comes first: it is retried

    def fill() -> None:
        paths: dict[str, Any] = {"work_path": lab.work_path, "audit_path": f"file://{lab.folder}/certificates"}
        failing = PostHogResolvePersonsOperator(task_id="failing", emails=[lab.email], **paths)
        resolve = PostHogResolvePersonsOperator(
            task_id="resolve",
            emails=[lab.email],
            identifiers_path=f"file://{lab.folder}/who.csv",
            trigger_rule="all_done",
            **paths,
        )
        delete = PostHogDeletePersonsOperator(task_id="delete", persons=resolve.output)
        verify = PostHogPersonsErasedSensor(
            task_id="verify", request=delete.output, mode="poke", poke_interval=0.2, timeout=1
        )
        failing >> resolve >> delete >> verify

    run = run_dag(make_dag("erasure_of_somebody_marked", fill))
    states = task_states(run)
    assert states == {"failing": "failed", "resolve": "success", "delete": "success", "verify": "failed"}
    told = capfd.readouterr()
    assert "could name a person" in told.out + told.err + caplog.text
    assert "EVENTS_PENDING" in told.out + told.err + caplog.text
    for text in (told.out, told.err, caplog.text, str(xcoms(run))):
        assert mark not in text
        assert lab.person not in "".join(line for line in text.splitlines(keepends=True) if "[emulator]" not in line)
    home = Path(os.environ["AIRFLOW_HOME"])
    assert found_in(home, "erasure_of_somebody_marked") != [], "the database is among the files"
    for secret in (mark, lab.person):
        assert found_in(home, secret) == []
    assert found_in(lab.folder, mark) == ["who.csv", "work.jsonl"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("*/query/", 400),
        ("*/query/", 404),
        ("*/batch_by_distinct_ids/", 400),
        ("*/bulk_delete/", 400),
        ("*/bulk_delete/", 500),
        ("*/deletion_status/", 400),
    ],
)
def test_errors_do_not_repeat_what_posthog_quotes(
    marked: Lab, caplog: pytest.LogCaptureFixture, path: str, status: int
) -> None:
    lab, mark = marked, mark_of(marked)
    caplog.set_level(logging.DEBUG)
    echo = {"type": mark, "detail": f"No '{lab.name}', {lab.email}", "attr": lab.name, "code": mark}
    audit_path = f"file://{lab.folder}/certificates"
    steps: list[Callable[[], object]] = [
        lambda: lab.resolve(**lab.asked, audit_path=audit_path),
        lambda: lab.delete(lab.resolve(**lab.asked, audit_path=audit_path)),
        lambda: lab.sensor().execute({}),
    ]
    failed = 0
    for number, step in enumerate(steps):
        if number == 2:
            lab.folder /= "again"
            lab.folder.mkdir()
            lab.delete(lab.resolve(**lab.asked, audit_path=audit_path), work_path=lab.work_path)
            lab.posthog.advance(8 * DAY)
        lab.posthog.faults(path=path, status=status, body=echo, count=-1)
        try:
            step()
        except Exception as error:
            failed += 1
            shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            for text in (str(error), repr(error), repr(vars(error)), shown, repr(pickle.dumps(error))):
                assert mark not in text
        lab.posthog.clear_faults()
    assert failed
    assert mark not in caplog.text
    assert {*found_in(lab.folder.parent, mark)} <= {"work.jsonl", "again/work.jsonl"}


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 429, "headers": {"Retry-After": "3600"}},  # more than anybody waits for
        {"status": 200, "body": "<html>"},
        {"cut": "middle"},
    ],
)
def test_no_log_and_no_error_has_the_address_of_a_person(
    lab: Lab, caplog: pytest.LogCaptureFixture, fault: dict[str, Any]
) -> None:
    """Old servers are asked for each person; others for those with many distinct ids."""
    caplog.set_level(logging.DEBUG)
    lab.posthog.settings(generation="A")
    lab.resolve()
    assert "/persons/***/" in caplog.text
    lab.posthog.faults(path=f"*/persons/{lab.person}/", count=-1, **{"body": {"detail": "x"}, **fault})
    with pytest.raises(PostHogError, match="/persons/<uuid>/") as caught:
        lab.resolve()
    shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    assert lab.person not in shown + repr(vars(caught.value)) + caplog.text


@pytest.mark.parametrize(
    ("status", "detail", "shown"),
    [
        (401, "Personal API key found in request Authorization header is invalid.", True),
        (401, "Authentication credentials were not provided.", True),
        (401, "Who is jane@example.com, called Jane Doe?", False),
        (401, "Personal API key found in request of Jane Doe: it is invalid.", False),
        (402, "Jane Doe has used up the quota.", False),
        (429, "Request was throttled. Expected available in 37 seconds.", True),
        (429, "Jane Doe was throttled. Expected available in 37 seconds.", False),
        (400, "Illegal value 'Jane Doe'", False),
        (503, "Jane Doe is not there", False),
    ],
)
def test_of_every_error_only_what_posthog_says_to_everybody_is_shown(status: int, detail: str, shown: bool) -> None:
    from airflow_provider_posthog.erasure.redaction import redacted
    from airflow_provider_posthog.exceptions import PostHogAPIError, error_for_status

    with pytest.raises(PostHogAPIError) as caught, redacted():
        raise error_for_status(status)(status=status, method="GET", path="/x/", detail=detail, retry_after=37.0)
    assert (detail in str(caught.value)) is shown
    assert "Doe" not in str(caught.value)
    assert "Doe" not in repr(caught.value)
    if status in (429, 503):
        assert "asked to wait 37 s" in str(caught.value)
