"""The ledger of all requests: a certificate that is missing as a whole is missed, and nothing is lost beside others."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.audit.__main__ import DAMAGED, NOT_CHECKED, OPEN, SALT_VARIABLE, main
from airflow_provider_posthog.audit.chain import request_folder
from airflow_provider_posthog.audit.deadline import Deadline, today
from airflow_provider_posthog.audit.ledger import Ledger, due, ledger_folder, read_ledger, requests_of
from airflow_provider_posthog.audit.ledger_check import LedgerVerdict, verify_ledger
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import AuditError, AuditRecord, canonical, hash_of
from airflow_provider_posthog.audit.verify import keys_of
from tests.audit.support import PSEUDONYMS, SALT, Clock, fill, trail_in, who

Place = tuple[Any, str]
OTHER = Pseudonyms(SALT[::-1])


def ledger_in(place: Place, **changes: Any) -> Ledger:
    given = {"who": who(), "pseudonyms": PSEUDONYMS, "now": Clock(), **changes}
    return Ledger(place[1], place[0], **given)


def write(place: Place, name: str, *, end: bool = True, **changes: Any) -> str:
    """A request with its certificate, as the tasks write them; return the ledger's head."""
    trail = fill(trail_in(*place, name, **changes), close=end)
    records = list(trail.records())
    ledger = ledger_in(place, **changes)
    deadline = Deadline(date(2026, 12, 29)).as_facts()
    head = ledger.enter("begun", name, head=records[0].hash, deadline=deadline)
    return ledger.enter("ended", name, head=records[-1].hash, outcome="VERIFIED") if end else head


def checked(place: Place, head: str | None = None, salts: Any = PSEUDONYMS) -> LedgerVerdict:
    verdict = verify_ledger(place[1], place[0], keys_of(salts), head)
    assert verdict is not None
    return verdict


def problems(verdict: LedgerVerdict) -> str:
    return "; ".join(map(str, verdict.problems))


def names(place: Place) -> list[str]:
    return [record.name for record in read_ledger(place[1], place[0])]


def test_it_lists_all_requests(place: Place) -> None:
    heads = [write(place, "DSR-1"), write(place, "DSR-2", end=False)]
    verdict = checked(place, heads[0])
    assert (verdict.problems, verdict.notes, verdict.entries) == ([], [], 3)
    assert verdict.heads == heads[1:]
    assert {name: one.is_open for name, one in verdict.requests.items()} == {"DSR-1": False, "DSR-2": True}
    assert "complete and unaltered; 3 entries; 2 requests, 1 of them open" in verdict.summary()
    assert f"head: {heads[1]}" in verdict.summary()


def test_without_a_ledger_there_is_nothing_to_check(place: Place) -> None:
    fill(trail_in(*place))
    assert verify_ledger(place[1], place[0], keys_of(PSEUDONYMS)) is None
    assert "The head" in problems(checked(place, "0" * 64)), "somebody knows of one"


def test_a_retry_enters_nothing_twice(place: Place) -> None:
    head = write(place, "DSR-1")
    assert write(place, "DSR-1") == head
    assert len(names(place)) == 2


@pytest.mark.parametrize("gone", ["the whole certificate", "its closing record", "its first record"])
def test_what_is_gone_is_missed(place: Place, gone: str) -> None:
    fs, folder = place
    write(place, "DSR-1")
    write(place, "DSR-2")
    if gone == "the whole certificate":
        fs.rm(f"{folder}/DSR-1", recursive=True)
    else:
        files = sorted(str(path) for path in fs.ls(f"{folder}/DSR-1", detail=False))
        fs.rm_file(files[0] if "first" in gone else files[-1])
    assert "request DSR-1 is missing" in problems(checked(place))


def test_a_certificate_that_was_written_anew_is_found(place: Place) -> None:
    """By somebody who has the salt, and could close it as something else."""
    write(place, "DSR-1")
    place[0].rm(f"{place[1]}/DSR-1", recursive=True)
    trail = trail_in(*place, "DSR-1", who=who("another"))
    trail.append("requested", persons=[])
    trail.close("NOT_VERIFIED", states={})
    assert "record of request DSR-1 is missing, or was replaced" in problems(checked(place))


def test_an_entry_that_is_gone_is_missed(place: Place) -> None:
    fs, _ = place
    heads = [write(place, f"DSR-{number}") for number in range(3)]
    whole = names(place)
    for name in whole[:-1]:
        raw = fs.cat_file(f"{ledger_folder(place[1])}/{name}")
        fs.rm_file(f"{ledger_folder(place[1])}/{name}")
        assert "missing, altered or out of order" in problems(checked(place)), name
        fs.pipe_file(f"{ledger_folder(place[1])}/{name}", raw)
    fs.rm_file(f"{ledger_folder(place[1])}/{whole[-1]}")
    assert checked(place).problems == [], "nothing in it knows of its end"
    assert checked(place).unended == ["DSR-2"], "but the certificate does"
    assert "The head" in problems(checked(place, heads[-1])), "a task's log does"


@pytest.mark.parametrize("salts", [PSEUDONYMS, [OTHER, PSEUDONYMS]])
def test_a_forged_entry_is_found(place: Place, salts: Any) -> None:
    fs, folder = place
    write(place, "DSR-1", end=False)
    fields = json.loads(fs.cat_file(f"{ledger_folder(folder)}/{names(place)[0]}"))
    previous, fields["facts"] = fields["hash"], {**fields["facts"], "outcome": "VERIFIED"}
    fields.update(kind="ended", sequence=2, previous=[previous])
    fields["hash"] = hash_of(fields)
    record = AuditRecord(**{**fields, "previous": (previous,)})
    fs.pipe_file(f"{ledger_folder(folder)}/{record.name}", canonical(vars(record)) + b"\n")
    assert "its seal is wrong" in problems(checked(place, salts=salts))
    with pytest.raises(AuditError, match="forged"):
        list(read_ledger(folder, fs, [PSEUDONYMS]))
    with pytest.raises(AuditError, match="forged"):
        write(place, "DSR-2")


def test_it_outlives_a_change_of_the_salt(place: Place) -> None:
    write(place, "DSR-1")
    write(place, "DSR-2", pseudonyms=OTHER)
    assert checked(place, salts=[PSEUDONYMS, OTHER]).problems == []
    assert "another salt" in problems(checked(place, salts=OTHER))


def test_many_tasks_at_once_lose_nothing(place: Place) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda number: write(place, f"DSR-{number}"), range(12)))
    verdict = checked(place)
    assert (verdict.problems, len(verdict.requests), verdict.entries) == ([], 12, 24)
    write(place, "DSR-12")
    assert len(checked(place).heads) == 1, "the next entry follows all of those"


def test_a_request_cannot_be_called_as_the_ledger(place: Place) -> None:
    assert request_folder("_ledger") != "_ledger"
    assert trail_in(*place, "_ledger").folder != ledger_folder(place[1])


def test_what_is_due(place: Place) -> None:
    ledger, day = ledger_in(place), date(2026, 11, 29)
    for name, left in (("over", -3), ("soon", 7), ("later", 8), ("ended", 1), ("extended", 2)):
        deadline = Deadline(day + timedelta(days=left)).as_facts()
        ledger.enter("begun", name, head="0" * 64, deadline=deadline)
    ledger.enter("begun", "unknown", head="0" * 64)
    ledger.enter("ended", "ended", head="1" * 64, outcome="VERIFIED")
    ledger.enter("extended", "extended", deadline=Deadline(day + timedelta(days=60), extended=True).as_facts())
    records = list(read_ledger(place[1], place[0], [PSEUDONYMS]))
    assert [one.request_id for one in due(records, 7, day)] == ["unknown", "over", "soon"]
    assert due(records, 7, day)[1].as_json(day) == {
        "request_id": "over",
        "ticket": "DSR-42",
        "due_at": "2026-11-26",
        "days_left": -3,
    }
    assert len(requests_of(records)) == 6


# The command.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(SALT_VARIABLE, SALT)
    write((LocalFileSystem(), str(tmp_path)), "DSR-1")
    return tmp_path


def test_the_command_checks_the_ledger_with_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    head = write((LocalFileSystem(), str(folder)), "DSR-2")
    assert main(["verify", str(folder), "--ledger-head", head]) == 0
    shown = capsys.readouterr().out
    assert "ledger: complete and unaltered; 4 entries; 2 requests, 0 of them open" in shown
    assert shown.count("request: DSR-") == 2, "the ledger is not a certificate"
    assert main(["verify", str(folder), "--ledger-head", "f" * 64]) == DAMAGED
    fill(trail_in(LocalFileSystem(), str(folder), "by hand"))
    assert main(["verify", str(folder)]) == 0
    assert "1 certificates are not in the ledger, such as by_hand" in capsys.readouterr().out
    shutil.rmtree(folder / "DSR-1")
    assert main(["verify", str(folder)]) == DAMAGED
    assert "The certificate of request DSR-1 is missing." in capsys.readouterr().out
    monkeypatch.delenv(SALT_VARIABLE)
    write((LocalFileSystem(), str(folder)), "DSR-1")
    assert main(["verify", str(folder)]) == NOT_CHECKED
    assert "ledger: internally consistent; origin not checked" in capsys.readouterr().out
    for path in folder.iterdir():
        if path.name != "_ledger":
            shutil.rmtree(path)
    assert main(["verify", str(folder)]) == DAMAGED, "nothing is there but the ledger, which knows of them"


def test_a_ledger_whose_end_is_cut_off_is_no_success(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sorted((folder / "_ledger").iterdir())[-1].unlink()
    assert main(["verify", str(folder)]) == OPEN
    assert "such as DSR-1, and their end is not in the ledger" in capsys.readouterr().out
    shutil.rmtree(folder / "_ledger")
    assert main(["verify", str(folder)]) == 0
    assert "ledger: there is none" in capsys.readouterr().out


@pytest.mark.parametrize("cut", ["its last two entries", "all of it"])
def test_a_certificate_misses_the_ledger_that_it_was_entered_in(
    folder: Path, capsys: pytest.CaptureFixture[str], cut: str
) -> None:
    place = (LocalFileSystem(), str(folder))
    trail, ledger = fill(trail_in(*place, "DSR-2"), close=False), ledger_in(place)
    trail.append("note", key="ledger", head=ledger.enter("begun", "DSR-2", head=next(trail.records()).hash))
    end = trail.close("VERIFIED", states={"VERIFIED": 2})
    ledger.enter("ended", "DSR-2", head=end.hash, outcome="VERIFIED")
    assert main(["verify", str(folder)]) == 0
    for path in sorted((folder / "_ledger").iterdir())[2 if cut == "its last two entries" else 0 :]:
        path.unlink()
    assert main(["verify", str(folder)]) == DAMAGED
    assert "The entries of 1 certificates are not in it, such as of DSR-2" in capsys.readouterr().out
    assert main(["verify", str(folder / "DSR-2")]) == 0, "of itself it is whole"


@pytest.mark.parametrize("name", ["DSR-2", "9b1d4c0f2a7e4d6f8c3b5a1e0d9f7c2b"])
def test_a_certificate_does_not_stand_in_anothers_place(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Somebody puts one that is VERIFIED where the one of a survivor was."""
    shutil.copytree(folder / "DSR-1", folder / name)
    assert main(["verify", str(folder / "DSR-1")]) == 0
    for where in (folder, folder / name):
        assert main(["verify", str(where)]) == DAMAGED
        assert "not called as that of request DSR-1" in capsys.readouterr().out
    shutil.rmtree(folder / "_ledger")
    assert main(["verify", str(folder / name)]) == (0 if name == "DSR-2" else DAMAGED), "a copy may be called otherwise"
    assert "not called as that of request DSR-1" in capsys.readouterr().out


def test_a_good_record_beside_the_certificates_hides_none_of_them(folder: Path) -> None:
    for path in (folder / "DSR-1").iterdir():
        shutil.copy(path, folder / path.name)
    fill(trail_in(LocalFileSystem(), str(folder), "_ledger"), close=False)
    shutil.rmtree(folder / "_ledger")
    assert main(["verify", str(folder)]) == OPEN
    (broken,) = (folder / "DSR-1").glob("*-accepted-*")
    broken.write_bytes(broken.read_bytes()[:-1])
    assert main(["verify", str(folder)]) == DAMAGED


def test_the_command_lists_what_is_due(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = (LocalFileSystem(), str(folder))
    assert main(["due", str(folder)]) == 0
    trail = fill(trail_in(*place, "DSR-2"), close=False)
    facts = Deadline(today() + timedelta(days=3)).as_facts()
    ledger_in(place).enter("begun", "DSR-2", head=next(trail.records()).hash, deadline=facts)
    capsys.readouterr()
    assert main(["due", str(folder), "--within", "2"]) == 0
    assert main(["due", str(folder)]) == 1
    assert f"DSR-2 (DSR-42): The request is due on {facts['due_at']}" in capsys.readouterr().out
    assert main(["verify", str(folder)]) == OPEN
    assert main(["due", str(folder / "DSR-2")]) == 2, "there is no ledger"


def test_find_does_not_look_into_the_ledger(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("DSR-42\n"))
    assert main(["find", str(folder), "--kind", "ticket"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "DSR-1")]
