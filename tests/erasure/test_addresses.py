"""E-mail addresses: what is not a plain one is refused with its place; a plain one is found however it is spelt."""

from __future__ import annotations

import unicodedata
import uuid
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.erasure.addresses import folded, problem_of, spellings
from airflow_provider_posthog.erasure.identifiers import from_arguments, from_file
from airflow_provider_posthog.exceptions import PostHogSettingsError
from tests.erasure.support import DAY, Lab

PLAIN = [
    "ann@example.org",
    "Ann.O'Neil+news@Sub.Example.co.uk",
    "root@localhost",
    "ann@[192.0.2.1]",
    '"ann q"@example.org',
    '"ann@home"@example.org',
    'ann"q@example.org',
    "ann\\q@example.org",
    "jörg@bücher.example",
    "jo\u0308rg@example.org",
    "用户@例子.广告",
    "a=b@example.org",
]
NOT_PLAIN = [
    "Ann <ann@example.org>",
    "<ann@example.org>",
    "ann@example.org (Ann)",
    '"Ann" ann@example.org',
    "mailto:ann@example.org",
    "MAILTO:ann@example.org?subject=x",
    "ann@example.org; ben@example.org",
    "ann@example.org,ben@example.org",
    "ann@example.org ben@example.org",
    "ann@example.org|ben@example.org",
    "ann@example.org/ben@example.org",
    "ann@example.org\nben@example.org",
    "\u200bann@example.org",
    "ann@example.org\ufeff",
    "ann\u00a0@example.org",
    "\u00a0ann@example.org",
    "ann@exam\u00adple.org",
    "ann@example.org\u2003",
    "ann\u3164@example.org",
    "ann\u2060@example.org",
    "ann\ufe0f@example.org",
    "ann\t@example.org",
    "\u2018ann@example.org\u2019",
    "\u201cann@example.org",
    "•ann@example.org",
    "'ann@example.org'",
    '"ann@example.org"',
    "ann@example.org.",
    "ann@example..org",
    ".ann@example.org",
    "ann@",
    "@example.org",
    "ann",
    "ann\uff20example.org",
    "ann%40example.org",
    "[ann@example.org](mailto:ann@example.org)",
]


@pytest.mark.parametrize("address", PLAIN)
def test_a_plain_address_is_taken(address: str) -> None:
    assert problem_of(address) == ""
    assert folded(address.upper()) == folded(address) or "ß" in address
    assert address in spellings(address)
    assert {folded(each) for each in spellings(address)} == {folded(address)}


@pytest.mark.parametrize("address", NOT_PLAIN)
def test_what_is_no_plain_address_is_refused_with_its_place(address: str, tmp_path: Path) -> None:
    with pytest.raises(PostHogSettingsError, match="entry 2") as told:
        [*from_arguments(emails=["good@example.org", address])]
    assert "ann" not in str(told.value).replace("such as ann@example.org", "")
    path = tmp_path / "a.jsonl"
    escaped = address.encode("unicode_escape").decode().replace("\\x", "\\u00").replace('"', '\\"')
    path.write_text('{"email": "good@example.org"}\n\n{"email": "' + escaped + '"}\n', encoding="utf-8")
    with pytest.raises(PostHogSettingsError, match="line 3"):
        [*from_file(fsspec.filesystem("file"), str(path))]


@given(st.characters(), st.integers(0, 15))
def test_an_unseen_character_anywhere_is_refused(char: str, place: int) -> None:
    address = f"{'ann@example.org'[:place]}{char}{'ann@example.org'[place:]}"
    if unicodedata.category(char)[0] in "CZ":
        assert problem_of(address)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("jörg@example.org", "JO\u0308RG@EXAMPLE.ORG"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@BÜCHER.example", "Ann@XN--BCHER-KVA.example"),
        ("jörg@bücher.example", "JO\u0308RG@bücher.example"),
        ("jörg@bücher.example", "jo\u0308rg@xn--bcher-kva.example"),
    ],
)
def test_two_spellings_of_an_address_are_one(one: str, other: str) -> None:
    assert folded(one) == folded(other)
    assert other.lower() in {each.lower() for each in spellings(one)}


@pytest.mark.parametrize(
    ("one", "other"), [("a@straße.de", "a@strasse.de"), ("straße@a.de", "strasse@a.de"), ("a.b@c.de", "ab@c.de")]
)
def test_two_mailboxes_stay_two(one: str, other: str) -> None:
    assert folded(one) != folded(other)
    assert not spellings(one) & spellings(other)


# -- on a server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ['ann"q', '"ann q"', "ann\\q", "jörg", "JÖRG", "JO\u0308RG", "o'neil"])
def test_an_address_of_a_profile_is_found_however_hogql_prints_it(lab: Lab, odd: str) -> None:
    email = f"{odd}@{uuid.uuid4()}.example"
    person = lab.add(f"{lab.name}-odd", properties={"email": email})
    lab.resolve(emails=[email.lower()])
    assert lab.named() == [person]
    assert lab.resolve(emails=[email, lab.email])["profiles"] == 2


@pytest.mark.parametrize("spelt", ["{}", "ID-{}", "{} caps"])
def test_personless_events_under_the_address_are_not_left_when_it_leads_to_a_profile(lab: Lab, spelt: str) -> None:
    name = lab.email.upper() if "caps" in spelt else lab.email.replace("id-", "ID-") if "ID" in spelt else lab.email
    lab.names.append(name)
    lab.event(name, properties={"$process_person_profile": False})
    found = lab.resolve()
    assert (found["profiles"], found["personless"], found["events"]) == (1, 1, 2)
    lab.delete(found)
    lab.posthog.advance(8 * DAY)
    assert lab.look() == "SURVIVORS", "PostHog can only be asked to delete persons"


def test_events_of_a_profile_are_counted_once_where_the_address_is_its_id(lab: Lab) -> None:
    person = lab.add(f"mail-{lab.email}", properties={})
    lab.event(f"mail-{lab.email}")
    found = lab.resolve(emails=[f"MAIL-{lab.email}"])
    assert (lab.named(), found["events"], found["personless"], found["not_found"]["count"]) == ([person], 1, 0, 0)
