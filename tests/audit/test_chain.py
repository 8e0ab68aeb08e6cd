"""Records are written whole, in order, once, whoever writes and whenever it is killed."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fsspec.implementations.local import LocalFileSystem

from airflow_provider_posthog.audit.chain import request_folder
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import AuditError, AuditRecord, hash_of, parse_record
from airflow_provider_posthog.audit.signing import KEY_VARIABLE, Signer, signer_of_environment, write_key_pair
from airflow_provider_posthog.audit.verify import verify_folder
from airflow_provider_posthog.exceptions import PostHogSettingsError
from tests.audit.support import ANN, BEN, IDENTIFIERS, PSEUDONYMS, SALT, fill, stored, trail_in, who

Place = tuple[Any, str]


def test_each_record_follows_the_one_before(place: Place) -> None:
    trail = fill(trail_in(*place))
    records = list(trail.records())
    assert [record.kind for record in records] == ["requested", "accepted", "residue", "verified", "closed"]
    assert [record.sequence for record in records] == [1, 2, 3, 4, 5]
    assert records[0].previous == ()
    for before, after in pairwise(records):
        assert after.previous == (before.hash,)
        assert before.at < after.at
    assert records[-1].facts["records"] == 5
    assert records[0].who == {
        "dag_id": "erasure",
        "run_id": "manual__2026-11-22",
        "task_id": "erase",
        "try_number": 1,
        "map_index": -1,
        "ticket": "DSR-42",
    }
    assert trail.is_closed


def test_making_a_trail_touches_nothing() -> None:
    trail = trail_in(None, "/nowhere/")
    assert trail.folder == "/nowhere/DSR-42"


def test_a_record_holds_what_was_told(place: Place) -> None:
    trail = trail_in(*place)
    when = datetime(2026, 11, 22, 10, tzinfo=timezone(timedelta(hours=2)))
    record = trail.append("note", key="k", server_at=when, notes=["all well"], before={"events": 1})
    assert (record.kind, record.key, record.server_at) == ("note", "k", "2026-11-22T08:00:00.000Z")
    assert record.facts == {"notes": ["all well"], "before": {"events": 1}}
    assert trail.find("note", "k") == record
    assert trail.find("note") is None
    assert parse_record(record.as_bytes()) == record


def test_a_retry_writes_nothing_twice(place: Place) -> None:
    first = fill(trail_in(*place))
    files = stored(place[0], first)
    fill(trail_in(*place, who=who(try_number=2)))
    fill(first)
    assert stored(place[0], first) == files


def test_a_retry_that_has_something_else_to_tell_hides_nothing(place: Place) -> None:
    trail = trail_in(*place)
    for count in (5, 5, 6, 5):
        trail.append("requested", before={"events": count})
    assert [record.facts["before"]["events"] for record in trail.records()] == [5, 6, 5]


def test_keys_tell_records_of_one_kind_apart(place: Place) -> None:
    trail = trail_in(*place)
    for key in ("chunk-1", "chunk-2", "chunk-1"):
        trail.append("accepted", key=key, calls={"persons.bulk_delete": 1})
    assert [record.key for record in trail.records()] == ["chunk-1", "chunk-2"]


def test_nothing_follows_the_closing_record(place: Place) -> None:
    trail = fill(trail_in(*place))
    files = stored(place[0], trail)
    with pytest.raises(AuditError, match="is closed"):
        trail.append("note", notes=["late"])
    with pytest.raises(AuditError, match="is closed"):
        trail_in(*place).close("NOT_VERIFIED", states={"SURVIVORS": 1})
    assert stored(place[0], trail) == files


@pytest.mark.parametrize("states", [{}, {"VERIFIED": 0}, {"VERIFIED": 9, "SURVIVORS": 1}, {"NOT_FOUND": 1}])
def test_it_can_not_be_closed_as_verified_if_it_is_not(place: Place, states: dict[str, int]) -> None:
    trail = trail_in(*place)
    with pytest.raises(PostHogSettingsError, match="NOT_VERIFIED"):
        trail.close("VERIFIED", states=states)
    assert list(trail.records()) == []
    trail.close("NOT_VERIFIED", states=states)


def test_two_tasks_at_the_same_moment(place: Place) -> None:
    """Both follow the same record, and the next one follows both; nothing is lost or overwritten."""
    start = trail_in(*place)
    start.append("requested", identifiers=IDENTIFIERS)
    one, two = trail_in(*place), trail_in(*place)
    one._look()
    two._look()
    one._look = two._look = lambda: None  # type: ignore[method-assign] # neither sees the other
    one.append("accepted", key="chunk-1", persons=[{"uuid": ANN}])
    two.append("accepted", key="chunk-2", persons=[{"uuid": BEN}])
    start.append("verified", persons=[{"uuid": ANN, "state": "VERIFIED"}, {"uuid": BEN, "state": "VERIFIED"}])
    start.close("VERIFIED", states={"VERIFIED": 2})
    records = list(start.records())
    assert [record.sequence for record in records] == [1, 2, 2, 3, 4]
    assert set(records[3].previous) == {records[1].hash, records[2].hash}
    assert verify_folder(start.folder, place[0], pseudonyms=PSEUDONYMS).proves_erasure


def test_many_tasks_at_once(place: Place) -> None:
    fs, folder = place

    def work(task: int) -> None:
        trail = trail_in(fs, folder, who=who(f"task-{task}"))
        for number in range(5):
            trail.append("note", key=f"{task}-{number}", notes=["done"])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    trail = trail_in(fs, folder)
    trail.close("NOT_VERIFIED", states={})
    records = list(trail.records())
    assert len({record.key for record in records if record.kind == "note"}) == 20
    assert verify_folder(trail.folder, fs).problems == []


def test_any_number_of_persons_goes_into_records_of_a_thousand(place: Place) -> None:
    def persons() -> Any:
        for number in range(2500):
            yield {"uuid": f"01900000-0000-5000-8000-{number:012d}", "state": "VERIFIED"}

    trail = trail_in(*place)
    for _ in range(2):
        told = trail.append_persons("verified", persons(), identifiers=IDENTIFIERS, options={"dry_run": False})
        assert told == 2500
    records = list(trail.records())
    assert [(record.key, len(record.facts["persons"])) for record in records] == [
        ("part-1", 1000),
        ("part-2", 1000),
        ("part-3", 500),
    ]
    assert ["identifiers" in record.facts for record in records] == [True, False, False]
    assert all(record.facts["options"] == {"dry_run": False} for record in records)
    trail.close("VERIFIED", states={"VERIFIED": 2500})
    assert verify_folder(trail.folder, place[0], pseudonyms=PSEUDONYMS).proves_erasure


def test_nobody_at_all_is_told_too(place: Place) -> None:
    trail = trail_in(*place)
    assert trail.append_persons("dry_run", []) == 0
    assert [record.facts["persons"] for record in trail.records()] == [[]]


def test_a_damaged_record_is_not_built_on(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder), close=False)
    name, raw = next(iter(stored(fs, trail).items()))
    fs.pipe_file(f"{trail.folder}/{name}", raw.replace(b"DSR-42", b"DSR-43"))
    with pytest.raises(AuditError, match=f"{name} does not have its hash"):
        trail_in(fs, folder).append("note", notes=["more"])
    with pytest.raises(AuditError, match=name):
        list(trail_in(fs, folder).records())


def test_a_record_under_another_name_is_not_built_on(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder), close=False)
    name, raw = next(iter(stored(fs, trail).items()))
    fs.pipe_file(f"{trail.folder}/000009{name[6:]}", raw)
    with pytest.raises(AuditError, match=f"it should be {name}"):
        trail_in(fs, folder).append("note", notes=["more"])


def test_a_record_that_disappears_is_noticed(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder), close=False)
    fs.rm_file(f"{trail.folder}/{min(stored(fs, trail))}")
    with pytest.raises(AuditError, match="has disappeared"):
        trail.append("note", notes=["more"])


@pytest.mark.parametrize("request_id", ["", " ", "erase ann@example.org", "phx_0123456789abcdef0123", "x" * 600])
def test_refused_names_of_requests(request_id: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        trail_in(None, "/x", request_id)
    assert caught.value.field == "request_id"
    assert "ann@" not in str(caught.value)


def test_folders_of_requests() -> None:
    assert request_folder("DSR-42") == "DSR-42"
    names = ["a/b", "a_b", "a:b", "..", "../x", "scheduled__2026-11-22T00:00:00+00:00", "ä", "x" * 400, ".hidden"]
    folders = [request_folder(name) for name in names]
    assert len(set(folders)) == len(names)
    for folder in folders:
        assert len(folder) < 140
        assert os.path.normpath(f"/c/{folder}") == f"/c/{folder}"
        assert not folder.startswith(".")


def test_kinds_are_known(place: Place) -> None:
    for kind in ("closed", "nonsense"):
        with pytest.raises(PostHogSettingsError):
            trail_in(*place).append(kind)  # type: ignore[arg-type]
        with pytest.raises(PostHogSettingsError):
            trail_in(*place).append_persons(kind, [])  # type: ignore[arg-type]


def test_another_salt_is_refused_until_the_request_is_closed(place: Place) -> None:
    """Else no salt would fit the certificate, and nobody could be found in it again."""
    trail = fill(trail_in(*place), close=False)
    files = stored(place[0], trail)
    for other in ({"pseudonyms": Pseudonyms(SALT[::-1])}, {"signer": Signer(Ed25519PrivateKey.generate())}):
        with pytest.raises(PostHogSettingsError, match="certificate of request DSR-42 was begun with") as caught:
            trail_in(*place, **other).close("VERIFIED", states={"VERIFIED": 2})
        assert caught.value.field == ("audit_secret" if "pseudonyms" in other else KEY_VARIABLE)
        assert SALT[::-1] not in str(caught.value)
    assert stored(place[0], trail) == files
    fill(trail_in(*place, "DSR-43", pseudonyms=Pseudonyms(SALT[::-1])))


def test_a_forged_record_is_not_built_on(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder), close=False)
    fields = json.loads(list(stored(fs, trail).values())[-1])
    fields["facts"] = {}
    record = AuditRecord(**{**fields, "previous": tuple(fields["previous"]), "hash": hash_of(fields)})
    fs.pipe_file(f"{trail.folder}/{record.name}", record.as_bytes())
    with pytest.raises(AuditError, match="it was forged"):
        trail.append("note", notes=["more"])


def test_a_key_is_never_shown_and_never_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private.pem"
    key_id = write_key_pair(str(private), str(tmp_path / "public.pem"))
    assert private.stat().st_mode & 0o077 == 0
    with pytest.raises(FileExistsError):
        write_key_pair(str(private), str(tmp_path / "another.pem"))
    assert signer_of_environment() is None
    for given in (str(private), private.read_text(), private.read_text().replace("\n", "\\n")):
        monkeypatch.setenv(KEY_VARIABLE, given)
        signer = signer_of_environment()
        assert signer is not None
        assert (signer.key_id, repr(signer)) == (key_id, f"<Signer {key_id}>")
        with pytest.raises(TypeError):
            pickle.dumps(signer)
    secret = "".join(private.read_text().splitlines()[1:-1])
    for wrong in (secret, f"-----BEGIN PRIVATE KEY-----\n{secret[5:]}\n", (tmp_path / "public.pem").read_text()):
        monkeypatch.setenv(KEY_VARIABLE, wrong)
        with pytest.raises(PostHogSettingsError) as caught:
            signer_of_environment()
        assert caught.value.field == KEY_VARIABLE
        assert secret[5:] not in "".join(traceback.format_exception(caught.value))


def test_seals_need_the_salt(place: Place) -> None:
    trail = fill(trail_in(*place, pseudonyms=Pseudonyms(SALT[::-1])))
    assert verify_folder(trail.folder, place[0]).is_intact
    assert not verify_folder(trail.folder, place[0], pseudonyms=PSEUDONYMS).is_intact
    assert verify_folder(trail.folder, place[0], pseudonyms=Pseudonyms(SALT[::-1])).is_intact


# ---- kills

WRITER = """
import os, sys
from fsspec.implementations.local import LocalFileSystem
from tests.audit.support import trail_in, who

class Slow(LocalFileSystem):
    def mv(self, *paths, **options):
        # killed between writing a record and giving it its name, or just after that
        print("moving", flush=True)
        sys.stdin.readline()
        super().mv(*paths, **options)
        print("moved", flush=True)
        sys.stdin.readline()

trail = trail_in(Slow(), sys.argv[1], who=who(try_number=int(sys.argv[2])))
for number in range(4):
    trail.append("accepted", key=f"chunk-{number}", calls={"persons.bulk_delete": 1})
trail.close("NOT_VERIFIED", states={"REQUESTED": 4})
"""


def write_until(folder: str, attempt: int, lines: int | None) -> None:
    """Write a certificate in a process of its own, and kill it after it has said so many lines."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, str(attempt)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        said = 0
        while process.stdout.readline():
            said += 1
            if said == lines:
                process.send_signal(signal.SIGKILL)
                break
            process.stdin.write(b"\n")
            process.stdin.flush()
        process.stdin.close()
        code = process.wait(30)
    assert code == (0 if lines is None else -signal.SIGKILL)


def test_kills_between_and_within_records(tmp_path: Path) -> None:
    for attempt, lines in enumerate((1, 2, 3, 4, None), 1):
        write_until(str(tmp_path), attempt, lines)
    trail = trail_in(LocalFileSystem(), str(tmp_path))
    records = list(trail.records())
    assert [record.key for record in records] == ["chunk-0", "chunk-1", "chunk-2", "chunk-3", ""]
    # The first try was killed before its only move, the third before its second one; nothing is written twice.
    assert [record.who["try_number"] for record in records] == [2, 3, 4, 4, 5]
    assert verify_folder(trail.folder, LocalFileSystem()).problems == []
