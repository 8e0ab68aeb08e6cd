"""What was altered is found, wherever; and only a certificate that proves it says that everybody was erased."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.records import canonical, hash_of, parse_record
from airflow_provider_posthog.audit.report import report, summary
from airflow_provider_posthog.audit.signing import PublicKey, Signer, read_public_key, read_signer, write_key_pair
from airflow_provider_posthog.audit.verify import Verdict, verify, verify_folder, verify_lines
from tests.audit.support import ANN, BEN, IDENTIFIERS, PSEUDONYMS, SALT, fill, name_of, stored, trail_in, who

Place = tuple[Any, str]


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """The records of a good certificate, by name."""
    fs = MemoryFileSystem(skip_instance_cache=True)
    trail = fill(trail_in(fs, "/module"))
    found = stored(fs, trail)
    fs.rm("/module", recursive=True)
    return found


def check(files: dict[str, bytes], **keys: Any) -> Verdict:
    return verify("here", sorted(files.items()), **keys)


@pytest.fixture
def key(tmp_path: Path) -> tuple[Signer, PublicKey]:
    write_key_pair(str(tmp_path / "private.pem"), str(tmp_path / "public.pem"))
    return read_signer("key", str(tmp_path / "private.pem")), read_public_key("key", str(tmp_path / "public.pem"))


def test_a_good_one_is_good(files: dict[str, bytes]) -> None:
    verdict = check(files, pseudonyms=PSEUDONYMS)
    assert (verdict.problems, verdict.doubts, verdict.state) == ([], [], "closed")
    assert verdict.proves_erasure
    assert verdict.request_id == "DSR-42"
    assert verdict.story.states == {name_of(ANN): "VERIFIED", name_of(BEN): "VERIFIED"}


def test_without_the_salt_nothing_is_proved(files: dict[str, bytes]) -> None:
    verdict = check(files)
    assert (verdict.problems, verdict.shortcomings, verdict.state) == ([], [], "closed")
    assert not verdict.origin_checked
    assert not verdict.proves_erasure


@settings(max_examples=300)
@given(data=st.data())
def test_a_changed_byte_is_found(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    raw = files[name]
    position = data.draw(st.integers(0, len(raw) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != raw[position]))
    verdict = check({**files, name: raw[:position] + bytes([byte]) + raw[position + 1 :]})
    assert not verdict.is_intact
    assert not verdict.proves_erasure
    assert name in {problem.record for problem in verdict.problems}, "it says which record"


def test_every_byte_of_a_record(files: dict[str, bytes]) -> None:
    """Each position once, with the smallest change there is."""
    name = min(files)
    raw = files[name]
    for position in range(len(raw)):
        altered = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        assert not check({**files, name: altered}).is_intact, position


@settings(max_examples=100)
@given(data=st.data())
def test_what_is_cut_or_added_is_found(files: dict[str, bytes], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(files)))
    raw = files[name]
    cut = data.draw(st.integers(0, len(raw) - 1))
    more = data.draw(st.binary(min_size=1, max_size=3))
    for altered in (raw[:cut], raw + more, more + raw, raw[:cut] + more + raw[cut:]):
        assert not check({**files, name: altered}).is_intact


def test_a_missing_record_is_found(files: dict[str, bytes]) -> None:
    for name in files:
        verdict = check({other: raw for other, raw in files.items() if other != name})
        assert not verdict.is_intact, name
        assert not verdict.proves_erasure
    rest = {name: raw for name, raw in files.items() if "closed" not in name}
    assert check(rest, pseudonyms=PSEUDONYMS).state == "open", "as one that is still going on; the ledger knows better"
    assert "There is no record" in check({}).problems[0].text


def test_a_record_that_is_there_twice_is_found(files: dict[str, bytes]) -> None:
    for name, raw in files.items():
        copy = "000009" + name[6:]
        problems = [problem.text for problem in check({**files, copy: raw}).problems if problem.record == copy]
        assert any("under another name" in text for text in problems)
        assert "is there twice" in problems
    lines = [("line", raw) for raw in files.values()]
    assert "is there twice" in str(verify("here", [*lines, lines[1]]).problems)


def test_another_order_is_found(files: dict[str, bytes]) -> None:
    raws = [files[name] for name in sorted(files)]
    for first in range(len(raws) - 1):
        swapped = list(raws)
        swapped[first], swapped[first + 1] = swapped[first + 1], swapped[first]
        assert not verify("here", [("line", raw) for raw in swapped]).is_intact
    names = sorted(files)
    renamed = {**files, names[1]: files[names[2]], names[2]: files[names[1]]}
    assert not check(renamed).is_intact


def forged(files: dict[str, bytes], change: Any) -> dict[str, bytes]:
    """Let a forger change records and calculate all hashes again, without having the salt."""
    made: dict[str, bytes] = {}
    renewed: dict[str, str] = {}
    for name in sorted(files):
        fields = json.loads(files[name])
        change(fields)
        old = fields["hash"]
        fields["previous"] = [renewed[one] for one in fields["previous"]]
        fields["hash"] = renewed[old] = hash_of(fields)
        raw = canonical(fields) + b"\n"
        made[parse_record(raw).name] = raw
    return made


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("request_id", "DSR-1", "belongs to another request"), ("sequence", 9, "does not have the number that follows")],
)
def test_records_that_do_not_go_together_are_found(
    files: dict[str, bytes], name: str, value: object, says: str
) -> None:
    """Also where the hashes are right."""

    def change(fields: dict[str, Any]) -> None:
        if fields["kind"] == "closed":
            fields[name] = value

    (problem,) = check(forged(files, change)).problems
    assert says in problem.text


def test_the_order_of_records_of_the_same_moment_counts_too(place: Place) -> None:
    fs, folder = place
    one, two = trail_in(fs, folder), trail_in(fs, folder)
    one._look = two._look = lambda: None  # type: ignore[method-assign] # neither sees the other
    one.append("note", key="1")
    two.append("note", key="2")
    trail = trail_in(fs, folder)
    trail.close("NOT_VERIFIED", states={})
    raws = [("line", raw) for raw in stored(fs, trail).values()]
    assert verify("here", raws).is_intact
    assert [problem.text for problem in verify("here", [raws[1], raws[0], raws[2]]).problems] == ["is out of order"]


def test_only_the_salt_finds_a_forgery_of_the_whole(files: dict[str, bytes]) -> None:
    def change(fields: dict[str, Any]) -> None:
        if fields["kind"] == "requested":
            fields["who"]["ticket"] = "DSR-1"

    assert check(forged(files, change)).is_intact
    problems = check(forged(files, change), pseudonyms=PSEUDONYMS).problems
    assert len(problems) == len(files)
    assert all("seal is wrong" in problem.text for problem in problems)


def test_a_forged_success_is_no_success(place: Place) -> None:
    """The records of an erasure that failed, rewritten by somebody without the salt: hashes fit, and nothing else."""
    fs, folder = place
    files = stored(fs, fill(trail_in(fs, folder), ("SURVIVORS", "SURVIVORS")))

    def change(fields: dict[str, Any]) -> None:
        text = json.dumps(fields["facts"]).replace("SURVIVORS", "VERIFIED").replace('"survivors": 4', '"survivors": 0')
        fields["facts"], fields["seal"] = json.loads(text.replace("NOT_VERIFIED", "VERIFIED")), "0" * 64

    verdict = check(forged(files, change))
    assert (verdict.state, verdict.shortcomings) == ("closed", []), "it tells a good story"
    assert not verdict.proves_erasure
    assert summary(verdict).count("unaltered") == 0
    assert "VERIFIED" not in summary(verdict)
    assert "<strong>ORIGIN NOT CHECKED</strong>" in report(verdict)
    assert check(forged(files, change), pseudonyms=PSEUDONYMS).state == "damaged"


def test_the_salt_of_each_certificate_is_chosen_by_its_id(place: Place) -> None:
    """Also a certificate of years ago verifies, when the connection's salt is another one by now."""
    fs, folder = place
    old, new = PSEUDONYMS, Pseudonyms(SALT[::-1])
    trails = [fill(trail_in(fs, folder, name, pseudonyms=salt)) for name, salt in (("DSR-1", old), ("DSR-2", new))]
    for trail in trails:
        assert verify_folder(trail.folder, fs, pseudonyms=[new, old]).proves_erasure
        assert not verify_folder(trail.folder, fs, pseudonyms=[Pseudonyms(SALT[1:] + "x")]).proves_erasure


def test_records_of_two_salts_are_no_certificate(files: dict[str, bytes]) -> None:
    """Both salts are known, and each seal is right: nobody changes the salt on the way."""
    other = Pseudonyms(SALT[::-1])

    def reseal(fields: dict[str, Any]) -> None:
        if fields["kind"] == "verified":
            fields["salt_id"] = other.salt_id

    verdict = check(
        resealed(files, reseal, {PSEUDONYMS.salt_id: PSEUDONYMS, other.salt_id: other}), pseudonyms=[PSEUDONYMS, other]
    )
    assert [problem.text for problem in verdict.problems] == ["was made with another salt or key than the first record"]


def resealed(files: dict[str, bytes], change: Any, salts: dict[str, Pseudonyms]) -> dict[str, bytes]:
    """Let somebody who has the salts change records: seals and hashes are right afterwards."""
    made: dict[str, bytes] = {}
    renewed: dict[str, str] = {}
    for name in sorted(files):
        fields = json.loads(files[name])
        old = fields.pop("hash")
        change(fields)
        fields["previous"] = [renewed[one] for one in fields["previous"]]
        body = {name: value for name, value in fields.items() if name not in ("seal", "signature")}
        fields["seal"] = salts[fields["salt_id"]].seal(canonical(body))
        fields["hash"] = renewed[old] = hash_of(fields)
        made[parse_record(canonical(fields) + b"\n").name] = canonical(fields) + b"\n"
    return made


def test_who_holds_the_salt_and_not_the_key_cannot_forge(place: Place, key: tuple[Signer, PublicKey]) -> None:
    fs, folder = place
    signer, public = key
    files = stored(fs, fill(trail_in(fs, folder, signer=signer), ("VERIFIED", "SURVIVORS")))
    assert check(files, public_keys=[public]).state == "closed"
    assert check(files, pseudonyms=PSEUDONYMS).notes == [
        "It is signed, and the signatures were not checked: no public key was given."
    ]

    def change(fields: dict[str, Any]) -> None:
        fields["facts"] = json.loads(json.dumps(fields["facts"]).replace("SURVIVORS", "VERIFIED"))

    def strip(fields: dict[str, Any]) -> None:
        change(fields)
        fields["key_id"] = fields["signature"] = None

    salts = {PSEUDONYMS.salt_id: PSEUDONYMS}
    for forgery, says in ((change, "its signature is wrong"), (strip, "it is not signed")):
        changed = resealed(files, forgery, salts)
        assert check(changed, pseudonyms=PSEUDONYMS).state == "closed", "the salt alone does not tell"
        verdict = check(changed, pseudonyms=PSEUDONYMS, public_keys=[public])
        assert verdict.state == "damaged"
        assert any(says in problem.text for problem in verdict.problems)


def test_a_key_of_somebody_else_is_told(place: Place, key: tuple[Signer, PublicKey], tmp_path: Path) -> None:
    fs, folder = place
    write_key_pair(str(tmp_path / "other.pem"), str(tmp_path / "other.pub"))
    files = stored(fs, fill(trail_in(fs, folder, signer=key[0])))
    verdict = check(files, public_keys=[read_public_key("key", str(tmp_path / "other.pub"))])
    assert {"signed with another key" in problem.text for problem in verdict.problems} == {True}
    assert check(files, public_keys=[key[1], read_public_key("key", str(tmp_path / "other.pub"))]).proves_erasure


def test_another_salt_is_told_apart_from_a_forgery(files: dict[str, bytes]) -> None:
    problems = check(files, pseudonyms=Pseudonyms(SALT[::-1])).problems
    assert len(problems) == len(files)
    assert all("another salt" in problem.text for problem in problems)
    assert SALT not in str(problems)


@pytest.mark.parametrize(
    "facts",
    [{"persons": 5}, {"persons": [5]}, {"persons": [{}]}, {"calls": "x"}, {"identifiers": 1}, {"persons": None}],
)
def test_facts_that_this_package_does_not_write_are_a_problem_and_no_crash(
    files: dict[str, bytes], facts: dict[str, Any]
) -> None:
    verdict = check(forged(files, lambda fields: fields.update(facts=facts)))
    assert not verdict.is_intact
    assert not verdict.proves_erasure


@settings(max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=5,
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_no_file_crashes_it(raw: bytes) -> None:
    assert not verify("here", [("line 1", raw)]).is_intact


def test_deeply_nested_json_is_no_crash() -> None:
    assert not verify("here", [("line 1", b"[" * 100_000)]).is_intact


def test_a_record_of_another_request_is_found(files: dict[str, bytes]) -> None:
    fs = MemoryFileSystem(skip_instance_cache=True)
    other = stored(fs, fill(trail_in(fs, "/other", "DSR-43")))
    fs.rm("/other", recursive=True)
    name = min(other)
    assert not check({**files, name: other[name]}).is_intact


def test_a_record_beside_the_closing_one_is_found(place: Place) -> None:
    fs, folder = place
    late = trail_in(fs, folder)
    trail = fill(trail_in(fs, folder), close=False)
    late._look()
    trail.close("VERIFIED", states={"VERIFIED": 2})
    late._look = lambda: None  # type: ignore[method-assign] # it does not see the closing record
    record = late.append("note", notes=["late"])
    (problem,) = verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS).problems
    assert (problem.record, "not covered" in problem.text) == (record.name, True)


def test_two_tries_that_close_at_the_same_moment(place: Place) -> None:
    """That is no damage if they say the same, and a retry of either still finds it closed."""
    fs, folder = place
    fill(trail_in(fs, folder), close=False)
    tries = [trail_in(fs, folder, who=who(try_number=number)) for number in (1, 2)]
    for one in tries:
        one._look()
        one._look = lambda: None  # type: ignore[method-assign] # neither sees the other
    for one in tries:
        one.close("VERIFIED", states={"VERIFIED": 2})
    verdict = verify_folder(tries[0].folder, fs, pseudonyms=PSEUDONYMS)
    assert verdict.proves_erasure, verdict.doubts
    assert len(verdict.story.records) == 6
    trail_in(fs, folder).close("VERIFIED", states={"VERIFIED": 2})
    assert len(stored(fs, tries[0])) == 6


def test_two_closing_records_that_differ_are_found(place: Place) -> None:
    fs, folder = place
    fill(trail_in(fs, folder), close=False)
    tries = [trail_in(fs, folder) for _ in range(2)]
    for one in tries:
        one._look()
        one._look = lambda: None  # type: ignore[method-assign]
    tries[0].close("VERIFIED", states={"VERIFIED": 2})
    tries[1].close("NOT_VERIFIED", states={"SURVIVORS": 2})
    verdict = verify_folder(tries[0].folder, fs, pseudonyms=PSEUDONYMS)
    assert ["says something else" in problem.text for problem in verdict.problems] == [True]
    assert not verdict.proves_erasure


def test_a_file_of_lines(place: Place, files: dict[str, bytes]) -> None:
    fs, folder = place
    fs.makedirs(folder, exist_ok=True)
    path = f"{folder}/trail.jsonl"
    fs.pipe_file(path, b"".join(files[name] for name in sorted(files)))
    assert verify_lines(path, fs, pseudonyms=PSEUDONYMS).proves_erasure
    fs.pipe_file(path, b"".join(files[name] for name in sorted(files, reverse=True)))
    assert not verify_lines(path, fs).is_intact


def test_other_files_are_named(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder))
    fs.pipe_file(f"{trail.folder}/report.html", b"x")
    fs.pipe_file(f"{trail.folder}/.left.part", b"x")
    verdict = verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS)
    assert verdict.problems == []
    assert verdict.notes == ["1 other files are in the folder, such as report.html."]


# ---- what it proves


@pytest.mark.parametrize(
    "states",
    [
        ("VERIFIED", "SURVIVORS"),
        ("SURVIVORS", "SURVIVORS"),
        ("EVENTS_PENDING", "VERIFIED"),
        ("RECREATED", "VERIFIED"),
        ("NOT_FOUND", "VERIFIED"),
        ("SWALLOWED", "PARTIAL"),
        ("REQUESTED", "PROFILE_GONE"),
    ],
)
def test_anything_but_verified_proves_nothing(place: Place, states: tuple[str, str]) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder), states)
    verdict = verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS)
    assert verdict.is_intact
    assert not verdict.proves_erasure
    for state in set(states) - {"VERIFIED"}:
        assert any(state in doubt for doubt in verdict.doubts)


def test_a_person_who_was_asked_for_and_forgotten_is_a_doubt(place: Place) -> None:
    """Even where the closing record says VERIFIED."""
    fs, folder = place
    trail = trail_in(fs, folder)
    trail.append("requested", identifiers=IDENTIFIERS, persons=[{"uuid": ANN}, {"uuid": BEN}])
    trail.append("verified", persons=[{"uuid": ANN, "state": "VERIFIED"}])
    trail.close("VERIFIED", states={"VERIFIED": 1})
    verdict = verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS)
    assert verdict.is_intact
    assert "How it ended for 1 person is not in the records." in verdict.doubts
    assert not verdict.proves_erasure


def test_a_closing_record_that_counts_others_is_a_doubt(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder), close=False)
    trail.close("VERIFIED", states={"VERIFIED": 3})
    assert any(
        "counts other states" in doubt for doubt in verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS).doubts
    )


def test_nobody_named_is_a_doubt(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder)
    trail.close("VERIFIED", states={"VERIFIED": 1})
    assert "No person is named." in verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS).doubts


def test_a_request_that_goes_on_is_a_doubt(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder, who=who("wait")), close=False)
    verdict = verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS)
    assert any("not closed" in doubt for doubt in verdict.doubts)
    assert (verdict.state, verdict.problems, verdict.is_intact) == ("open", [], False)


def test_the_last_word_on_a_person_counts(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder)
    trail.append("state_changed", key="1", persons=[{"uuid": ANN, "state": "SURVIVORS", "survivors": 4}])
    trail.append("verified", persons=[{"uuid": ANN, "state": "VERIFIED"}])
    trail.close("VERIFIED", states={"VERIFIED": 1})
    assert verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS).proves_erasure
    again = trail_in(fs, folder, "DSR-43")
    again.append("verified", persons=[{"uuid": ANN, "state": "VERIFIED"}])
    again.append("state_changed", persons=[{"uuid": ANN, "state": "SURVIVORS", "survivors": 4}])
    again.close("VERIFIED", states={"VERIFIED": 1})
    doubts = verify_folder(again.folder, fs, pseudonyms=PSEUDONYMS).doubts
    assert any("4 events were still readable" in doubt for doubt in doubts)
