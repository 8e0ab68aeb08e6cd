"""An erasure stays with the PostHog and project that were asked first: elsewhere nobody is found, and all is green."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.erasure.project import Project, spelt
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.access import PostHogExportPersonDataOperator
from airflow_provider_posthog.operators.erasure import (
    PostHogDiscardErasureOperator,
    PostHogEraseFromSqlOperator,
    PostHogFinishErasureOperator,
    PostHogSealErasureOperator,
)
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from tests.erasure.support import DAY, Lab
from tests.operators.support import connect, context

ELSEWHERE = pytest.mark.parametrize("way", ["another host", "another project", "nothing told"])
HOST = "https://posthog.example:8443"


def moved(told: dict[str, Any], way: str) -> dict[str, Any]:
    """What a task returned, as it would be had it asked elsewhere."""
    if way == "nothing told":
        return {name: value for name, value in told.items() if name not in ("host", "project_id")}
    return {**told, **({"host": HOST} if way == "another host" else {"project_id": told["project_id"] + 1})}


def certificates(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("[!_]*/*.json"))]


def later_tasks(lab: Lab, resolved: dict[str, Any], request: dict[str, Any], proof: dict[str, Any]) -> list[Any]:
    table = {"sql_conn_id": "none", "table": "t", "distinct_id_column": "d"}
    return [
        lambda: lab.delete(resolved),
        lambda: lab.sensor(request=request).execute({}),
        lambda: PostHogEraseFromSqlOperator(task_id="w", request=request, **table).execute({}),
        lambda: PostHogFinishErasureOperator(task_id="f", request=request, proof=proof).execute({}),
        lambda: PostHogDiscardErasureOperator(task_id="d", request=resolved).execute({}),
    ]


@ELSEWHERE
def test_no_later_task_goes_on_at_another_posthog(lab: Lab, way: str) -> None:
    resolved = lab.resolve()
    request = lab.delete(resolved)
    assert {request["host"], resolved["host"]} == {lab.posthog.url}
    proof = {**request, "state": "VERIFIED", "states": {"VERIFIED": 1}}
    lab.posthog.control("DELETE", "calls")
    for task in later_tasks(lab, *(moved(each, way) for each in (resolved, request, proof))):
        with pytest.raises(PostHogSettingsError, match=r"project \d|posthog\.example|does not say") as error:
            task()
        assert lab.name not in str(error.value)
    assert lab.posthog.calls() == [], "it was refused before anything was asked"
    assert (lab.folder / "work.jsonl").exists()


def test_the_work_file_is_bound_like_what_tasks_return(lab: Lab) -> None:
    resolved = lab.resolve()
    request = lab.delete(resolved)
    path = lab.folder / "work.jsonl"
    header, *people = path.read_text().splitlines(keepends=True)
    path.write_text("".join([json.dumps({**json.loads(header), "project_id": "2"}) + "\n", *people]))
    lab.posthog.control("DELETE", "calls")
    for task in later_tasks(lab, resolved, request, request)[:3]:
        with pytest.raises(PostHogSettingsError, match="project 2"):
            task()
    assert lab.posthog.calls() == []


def test_a_proof_of_another_posthog_ends_nothing(lab: Lab) -> None:
    request = lab.delete()
    lab.posthog.advance(8 * DAY)
    proof = lab.sensor(keep_work_file=True).execute({})
    assert (proof["host"], proof["project_id"]) == (lab.posthog.url, lab.posthog.project_id)
    with pytest.raises(PostHogSettingsError, match="proof"):
        PostHogFinishErasureOperator(task_id="f", request=request, proof={**proof, "project_id": 99}).execute({})


def test_an_address_that_has_changed_can_be_told(lab: Lab) -> None:
    resolved = moved(lab.resolve(), "another host")
    with pytest.raises(PostHogSettingsError, match=f"moved_from='{HOST}'"):
        lab.delete(resolved)
    request = lab.delete(resolved, moved_from="HTTPS://PostHog.Example:8443/")
    assert request["host"] == lab.posthog.url, "from here on the new address counts"
    lab.posthog.advance(8 * DAY)
    old = {**request, "host": HOST}
    assert lab.sensor(request=old, moved_from=[HOST]).execute({})["state"] == "VERIFIED"


SALT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def test_another_salt_is_refused_before_anything_is_sent_or_written(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    paths: dict[str, Any] = {"work_path": lab.work_path, "audit_path": f"file://{lab.folder}/certificates"}
    found = PostHogResolvePersonsOperator(task_id="r", emails=[lab.email], **paths).execute({})
    lab.request = PostHogDeletePersonsOperator(task_id="d", persons=found).execute({})
    proof = {**lab.request, "state": "VERIFIED", "states": {"VERIFIED": 1}}
    given: dict[str, Any] = {"task_id": "t", "request": lab.request, "proof": proof}
    place = f"file://{lab.folder}/private"

    def tasks() -> list[Any]:
        return [
            PostHogDeletePersonsOperator(task_id="t", persons=found),
            PostHogExportPersonDataOperator(task_id="t", persons=found, path=f"{place}/access"),
            PostHogSealErasureOperator(**given, sealed_path=f"{place}/sealed"),
            PostHogFinishErasureOperator(**given),
        ]

    before = {path: path.read_bytes() for path in lab.folder.rglob("*") if path.is_file()}
    for salt, problem in ((SALT[::-1], "is not the one that"), (None, "is not set")):
        connect(monkeypatch, lab.posthog, **({"audit_secret": salt} if salt else {}))
        resolve = PostHogResolvePersonsOperator(task_id="t", emails=[lab.email], **paths)
        lab.posthog.control("DELETE", "calls")
        for task in [*tasks(), *([] if salt else [resolve])]:
            with pytest.raises(PostHogSettingsError, match=problem):
                task.execute(context())
        with pytest.raises(PostHogSettingsError, match=problem):
            lab.sensor().look({})
        assert lab.posthog.calls() == []
    assert before == {path: path.read_bytes() for path in lab.folder.rglob("*") if path.is_file()}


def test_every_record_says_which_posthog_it_was(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    folder = lab.folder / "certificates"
    paths: dict[str, Any] = {"work_path": lab.work_path, "audit_path": f"file://{folder}"}
    found = PostHogResolvePersonsOperator(task_id="r", emails=[lab.email], **paths).execute({})
    lab.request = PostHogDeletePersonsOperator(task_id="d", persons=found).execute({})
    lab.sensor().look({})
    lab.posthog.advance(8 * DAY)
    lab.sensor().execute({})
    records = certificates(folder)
    assert {record["kind"] for record in records} >= {"requested", "accepted", "state_changed", "verified", "closed"}
    for record in records:
        assert record["facts"]["server"]["host"] == lab.posthog.url, record["kind"]
        assert record["facts"]["server"]["project_id"] == lab.posthog.project_id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://eu.posthog.com/", "HTTPS://EU.PostHog.com"),
        ("https://posthog.example:443", "posthog.example."),
        ("http://localhost:80/", "http://localhost"),
        ("http://[::1]:080", "http://[::1]"),
        ("http://[0:0:0:0:0:0:0:1]:8000", "http://[::1]:8000/"),
        ("https://[2001:DB8::0a]", "https://[2001:db8:0:0::a]:443"),
        ("https://app.posthog.com", "https://us.posthog.com/"),
    ],
)
def test_two_spellings_of_a_host_are_one(one: str, other: str) -> None:
    assert spelt(one) == spelt(other)
    settings = ClientSettings(base_url=one, project_id=7)
    Project.of(settings).check({"host": other, "project_id": "7"}, "request")


@pytest.mark.parametrize(
    "other", ["https://us.posthog.com", "http://eu.posthog.com", "https://eu.posthog.com:8443", "eu.posthog.com.evil"]
)
def test_another_host_is_another_one(other: str) -> None:
    with pytest.raises(PostHogSettingsError, match="moved_from"):
        Project("https://eu.posthog.com", 7).check({"host": other, "project_id": 7}, "request")
