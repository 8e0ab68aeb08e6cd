"""Handing out a person's data: all of it, counted, nobody else's, and nowhere else."""

from __future__ import annotations

import hashlib
import json
import logging
import stat
import uuid
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import fsspec
import pytest

from airflow_provider_posthog.audit.ledger import read_ledger, requests_of
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.report import summary
from airflow_provider_posthog.audit.verify import verify_folder
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.erasure.access_folder import AccessFolder
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.operators.access import PostHogExportPersonDataOperator, PostHogFinishAccessOperator
from tests.erasure.support import Lab, ago, new_lab
from tests.operators.support import connect, context
from tests.storage.crashing import Crash, CrashingFs, FlatFs, memory

SALT = "3f1c9a7e5b2d8046af91c3e7d5b20846"
NASTY = '<script>alert("x")</script><img src=x onerror=y>&amp;'


@pytest.fixture(scope="module")
def tidied(posthog_emulator: EmulatorProcess) -> EmulatorProcess:
    posthog_emulator.reset()
    return posthog_emulator


@pytest.fixture
def lab(tidied: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    return new_lab(tidied, monkeypatch, tmp_path)


def export(lab: Lab, persons: Any = None, **given: Any) -> dict[str, Any]:
    options = {"path": f"file://{lab.folder}/access/ann", "persons": persons or lab.resolve(), **given}
    return PostHogExportPersonDataOperator(task_id="access", **options).execute(context())


def folder(lab: Lab) -> Path:
    return lab.folder / "access" / "ann"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def events(lab: Lab) -> list[dict[str, Any]]:
    return [row for path in sorted((folder(lab) / "events").iterdir()) for row in lines(path)]


def fill(lab: Lab, count: int, name: str, person: str, start: datetime) -> list[str]:
    """Add events; return their uuids."""
    made = [
        {
            "uuid": str(uuid.uuid4()),
            "event": f"event {number % 7}",
            "distinct_id": name,
            "person_id": person,
            "timestamp": (start + timedelta(seconds=37 * number)).isoformat(),
            "created_at": (start + timedelta(seconds=37 * number)).isoformat(),
            "properties": {"n": number},
        }
        for number in range(count)
    ]
    for first in range(0, count, 20_000):
        lab.posthog.add_events(made[first : first + 20_000])
    return [str(one["uuid"]) for one in made]


@pytest.mark.parametrize("is_static", [True, False])
def test_cohorts_of_both_kinds_are_told(lab: Lab, is_static: bool) -> None:
    number = lab.posthog.add_cohort("Friends", persons=[lab.person], is_static=is_static)
    assert export(lab)["counts"]["cohorts"] == 1
    (cohort,) = lines(folder(lab) / "cohorts.jsonl")
    assert cohort["cohort_id"] == number


def test_all_there_is_of_a_person_and_nothing_of_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    caplog.set_level(logging.DEBUG)
    lab.event(lab.names[1], properties={"note": NASTY, "$groups": {"company": "acme"}})
    lab.recording()
    lab.old_event(lab.person, f"{lab.name}-of-before")
    stranger = f"{lab.name}-stranger"
    lab.event(stranger, properties={"note": "strange"})
    lab.event(f"{lab.name}-of-before", properties={"note": "strange, of the same distinct id"})
    ahead = (datetime.now(timezone.utc) + timedelta(days=40)).isoformat()
    lab.event(timestamp=ahead, created_at=ago(minutes=10), event="ahead")
    persons = lab.resolve(emails=[lab.email], audit_path=f"file://{lab.folder}/certificates")
    done = export(lab, persons)
    found = events(lab)
    assert done["counts"] == {
        "profiles": 1, "distinct_ids": 3, "groups": 0, "cohorts": 0, "recordings": 1, "events": 4
    }  # fmt: skip
    assert sorted(one["event"] for one in found) == ["ahead", "bought", "bought", "bought"]
    assert "strange" not in json.dumps(found)
    assert {"properties", "elements_chain", "$session_id", "created_at", "person_id"} <= set(found[0])
    (profile,) = lines(folder(lab) / "profiles.jsonl")
    assert (profile["uuid"], profile["properties"]["email"]) == (lab.person, lab.email)
    manifest = json.loads((folder(lab) / "manifest.json").read_text())
    for file in manifest["files"]:
        content = (folder(lab) / file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    rows = {file["path"].partition("/")[0].removesuffix(".jsonl"): 0 for file in manifest["files"]}
    for file in manifest["files"]:
        rows[file["path"].partition("/")[0].removesuffix(".jsonl")] += file["rows"] or 0
    assert {name: rows[name] for name in manifest["counts"]} == manifest["counts"]
    # Personal data is there, for nobody else to read, and nowhere else.
    for path in [folder(lab), *folder(lab).rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    assert [one.name for one in (lab.folder / "access").iterdir()] == ["ann"]
    records = "".join(one.read_text() for one in (lab.folder / "certificates").rglob("*.json"))
    assert '"kind":"exported"' in records
    for text in (json.dumps(done), caplog.text, records):
        assert lab.name not in text


def test_groups_are_those_that_the_events_name(lab: Lab) -> None:
    sql = "select distinct_id from events where `$group_0` != '' order by uuid limit 1"
    name = lab.raw.query(sql).json()["results"][0][0]
    export(lab, lab.resolve(distinct_ids=[name]))
    counted: dict[str, int] = {}
    for one in events(lab):
        if one["$group_0"]:
            counted[one["$group_0"]] = counted.get(one["$group_0"], 0) + 1
    assert counted
    rows = lines(folder(lab) / "groups.jsonl")
    assert {row["key"]: row["events"] for row in rows if row["group_type_index"] == 0} == counted


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_runs_nothing_that_somebody_sent(lab: Lab) -> None:
    lab.event(event=NASTY, properties={NASTY: NASTY})
    lab.posthog.control("POST", "persons", {"persons": [{"distinct_ids": [f"{lab.name}{NASTY}"], "properties": {
        "email": lab.email, NASTY: NASTY}}]})  # fmt: skip
    export(lab)
    page = _Tags()
    page.feed((folder(lab) / "index.html").read_text())
    assert not page.tags & {"script", "img", "a", "iframe", "link"}
    assert NASTY in page.text
    assert "default-src 'none'" in (folder(lab) / "index.html").read_text()


def test_a_person_with_120_000_events(lab: Lab) -> None:
    """More than twice what PostHog answers at once; by count and by uuid."""
    start = datetime.now(timezone.utc) - timedelta(days=60)
    mine = fill(lab, 80_000, lab.name, lab.person, start) + fill(lab, 40_000, lab.names[1], lab.person, start)
    fill(lab, 500, f"{lab.name}-stranger", str(uuid.uuid4()), start)
    done = export(lab)
    found = events(lab)
    assert done["counts"]["events"] == len(found) == 120_001
    assert {one["uuid"] for one in found} >= set(mine)
    assert {one["distinct_id"] for one in found} == set(lab.names)
    assert "of them are in the folder" in (folder(lab) / "index.html").read_text()


def test_a_retry_reads_no_events_again_and_a_published_folder_is_left(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    persons = lab.resolve()

    def dies(self: AccessFolder, parts: Any) -> None:
        raise Crash

    def readings() -> int:
        return sum("elements_chain" in json.dumps(call["body"]) for call in lab.posthog.calls("/query/", "POST"))

    with monkeypatch.context() as patch:
        patch.setattr(AccessFolder, "page", dies)
        with pytest.raises(Crash):
            export(lab, persons)
    assert not folder(lab).exists()
    assert stat.S_IMODE((lab.folder / "access" / ".ann.part").stat().st_mode) == 0o700
    before = readings()
    assert before
    first = export(lab, persons)
    assert readings() == before
    calls = len(lab.posthog.calls("/query/", "POST"))
    assert export(lab, persons) == first
    assert len(lab.posthog.calls("/query/", "POST")) == calls
    with pytest.raises(PostHogSettingsError, match="another request"):
        export(lab, lab.resolve())


def test_a_profile_that_queries_do_not_show_is_an_error_and_leaves_no_folder(lab: Lab) -> None:
    operator = PostHogExportPersonDataOperator(
        task_id="access", path=f"file://{lab.folder}/access/ann", persons=lab.resolve()
    )
    rows = operator.client.rows

    def lagging(sql: str, values: Any, *kinds: Any) -> Any:
        return [] if "is_identified" in sql else rows(sql, values, *kinds)

    operator.client.rows = lagging  # type: ignore[method-assign]  # a replica that is behind
    with pytest.raises(PostHogIncompleteError, match="PostHog shows 0 of 1 profiles"):
        operator.execute(context())
    assert not list((lab.folder / "access").iterdir())


def test_events_that_are_not_all_are_an_error_and_leave_no_folder(lab: Lab) -> None:
    operator = PostHogExportPersonDataOperator(
        task_id="access", path=f"file://{lab.folder}/access/ann", persons=lab.resolve()
    )
    rows = operator.client.rows

    def others(sql: str, values: Any, *kinds: Any) -> Any:
        found = rows(sql, values, *kinds)
        return [[found[0][0] + 1, found[0][1]]] if "uniqExact" in sql else found

    operator.client.rows = others  # type: ignore[method-assign]  # a server that counts more than it shows
    with pytest.raises(PostHogIncompleteError, match="PostHog counts 2 events"):
        operator.execute(context())
    assert not list((lab.folder / "access").iterdir())
    assert export(lab)["counts"]["events"] == 1


def test_a_distinct_id_that_is_somebody_elses_by_now_hands_out_nothing(lab: Lab) -> None:
    """After a split, the work file still has the distinct id, whose events are another person's."""
    persons = lab.resolve()
    lab.event(lab.split_off(), properties={"note": "strange"})
    with pytest.raises(PostHogIncompleteError, match="look them up again"):
        export(lab, persons)
    assert not [one for one in lab.folder.rglob("*.jsonl") if one.name != "work.jsonl"]


def test_several_persons_are_refused_unless_they_are_one(lab: Lab) -> None:
    other = f"{lab.name}-other"
    lab.add(other)
    persons = lab.resolve()
    with pytest.raises(PostHogSettingsError, match="has 2 persons"):
        export(lab, persons, max_persons=1)
    assert export(lab, persons)["counts"]["profiles"] == 2


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"path": "s3://bucket"}, "path"),
        ({"path": ""}, "path"),
        ({"max_persons": 0}, "max_persons"),
        ({"persons": "text"}, "persons"),
        ({"persons": None, "work_path": None}, "work_path"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(lab: Lab, given: dict[str, Any], field: str) -> None:
    options = {"path": f"file://{lab.folder}/access/ann", "persons": lab.resolve(), **given}
    with pytest.raises(PostHogSettingsError) as error:
        PostHogExportPersonDataOperator(task_id="access", **options).execute(context())
    assert error.value.field == field
    assert not (lab.folder / "access").exists()


def test_something_else_at_the_path_stays(lab: Lab) -> None:
    folder(lab).mkdir(parents=True)
    (folder(lab) / "mine.txt").write_text("mine")
    with pytest.raises(PostHogSettingsError, match="something else"):
        export(lab)
    assert [one.name for one in folder(lab).iterdir()] == ["mine.txt"]


def test_a_folder_gets_its_name_as_a_whole_wherever_it_is_killed() -> None:
    for after in range(60):
        fs, root = memory()
        dying, whole = FlatFs(fs, after), FlatFs(fs)
        killed = False
        try:
            _write_folder(dying, root)
        except Crash:
            killed = True
            if fs.exists(f"{root}/ann/manifest.json"):
                assert fs.exists(f"{root}/ann/a.jsonl")
        manifest = _write_folder(whole, root)
        assert [file["path"] for file in manifest["files"]] == ["a.jsonl", "index.html"]
        assert sorted(fs.find(root)) == [f"{root}/ann/{name}" for name in ("a.jsonl", "index.html", "manifest.json")]
        if not killed:
            return
    raise AssertionError("it never got to its end")


def _write_folder(fs: CrashingFs, root: str) -> dict[str, Any]:
    made = AccessFolder(fs, f"{root}/ann")
    there = made.published()
    if there is not None:
        return there
    if not made.is_whole:
        made.begin("r", {"until": "now"})
        made.lines("a", [{"x": 1}])
        made.page(["<p>"])
        made.finish({"request_id": "r"})
    return made.publish()


# -- the end -------------------------------------------------------------------------------------------------------


def finish(persons: Any, access: Any, **given: Any) -> dict[str, Any]:
    options = {"request": persons, "access": access, **given}
    return PostHogFinishAccessOperator(task_id="finish", **options).execute(context())


def test_the_end_of_a_request_for_access_closes_its_certificate_and_keeps_no_identifiers(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    (lab.folder / "who.csv").write_text(f"email\n{lab.email}\n")
    who = f"file://{lab.folder}/who.csv"
    persons = lab.resolve(identifiers_path=who, audit_path=f"file://{lab.folder}/certificates")
    done = export(lab, persons)
    for _ in range(2):  # a retry of one that was killed after it had removed the file
        ended = finish(persons, done, also_remove=[who])
        assert (ended["state"], ended["request_id"]) == ("EXPORTED", persons["request_id"])
    certificates = lab.folder / "certificates"
    verdict = verify_folder(
        str(certificates / persons["request_id"]), fsspec.filesystem("file"), pseudonyms=Pseudonyms(SALT)
    )
    assert (verdict.state, verdict.proves_erasure) == ("closed", False)
    assert "DATA EXPORTED" in summary(verdict)
    listed = requests_of(read_ledger(str(certificates), fsspec.filesystem("file"), [Pseudonyms(SALT)]))
    assert [(one.is_open, one.outcome) for one in listed.values()] == [(False, "EXPORTED")]
    assert {path.name for path in lab.folder.iterdir()} == {"access", "certificates"}


def test_a_request_of_which_nothing_was_handed_out_does_not_end_so(lab: Lab) -> None:
    persons = lab.resolve()
    for wrong in (None, {}, {"request_id": "another", "counts": {"events": 1}}, {"request_id": persons["request_id"]}):
        with pytest.raises(PostHogSettingsError) as refused:
            finish(persons, wrong)
        assert refused.value.field == "access"
    assert (lab.folder / "work.jsonl").exists()


def test_an_erasure_that_has_begun_does_not_end_as_an_access(lab: Lab) -> None:
    persons = lab.resolve()
    done = export(lab, persons)
    lab.delete(persons)
    with pytest.raises(PostHogErasureError, match="has begun"):
        finish(persons, done)
    assert (lab.folder / "work.jsonl").exists()
