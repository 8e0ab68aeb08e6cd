"""Only what belongs into a record gets in, and no personal data."""

from __future__ import annotations

import hashlib
import hmac
import json
import traceback
from datetime import datetime, timezone
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.audit.facts import read_time, tell
from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.audit.verify import verify_folder
from airflow_provider_posthog.exceptions import PostHogSettingsError
from tests.audit.support import ANN, IDENTIFIERS, PSEUDONYMS, SALT, trail_in, who

SECRET = "Ann Example, born 1990"


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"email": SECRET}, "facts"),
        ({"persons": [{"uuid": ANN, "email": SECRET}]}, "persons"),
        ({"persons": [{"uuid": SECRET}]}, "uuid"),
        ({"persons": [{"state": "VERIFIED"}]}, "persons"),
        ({"persons": [{"uuid": ANN, "state": SECRET}]}, "state"),
        ({"persons": [{"uuid": ANN}] * 1001}, "persons"),
        ({"persons": SECRET}, "persons"),
        ({"persons": {"uuid": ANN}}, "persons"),
        ({"persons": [{"uuid": ANN, "before": {"email": SECRET}}]}, "before"),
        ({"persons": [{"uuid": ANN, "before": {"events": SECRET}}]}, "events"),
        ({"persons": [{"uuid": ANN, "before": {"events": -1}}]}, "events"),
        ({"persons": [{"uuid": ANN, "before": {"events": True}}]}, "events"),
        ({"persons": [{"uuid": ANN, "before": {"events": 1.5}}]}, "events"),
        ({"before": {"newest_event": SECRET}}, "newest_event"),
        ({"identifiers": [SECRET]}, "identifiers"),
        ({"identifiers": {"email": SECRET}}, "identifiers"),
        ({"identifiers": [(SECRET, "x")]}, "kind"),
        ({"identifiers": [{"kind": "email", "hmac": SECRET}]}, "identifiers"),
        ({"identifiers": [("email", None)]}, "identifiers"),
        ({"calls": {"persons.list?email=" + SECRET: 1}}, "calls"),
        ({"states": {SECRET: 1}}, "states"),
        ({"outcome": SECRET}, "outcome"),
        ({"server": {"generation": SECRET}}, "generation"),
        ({"error": 5}, "error"),
        ({"notes": SECRET}, "notes"),
        ({"cannot_erase": {"exports": [{"id": [SECRET]}]}}, "exports"),
        ({"options": {"x": {"y": SECRET}}}, "options"),
    ],
)
def test_refused_facts_are_not_shown_and_not_written(facts: dict[str, Any], field: str) -> None:
    fs = MemoryFileSystem(skip_instance_cache=True)
    trail = trail_in(fs, "/refused")
    with pytest.raises(PostHogSettingsError) as caught:
        trail.append("note", **facts)
    assert caught.value.field == field
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert list(trail.records()) == []


def test_identifiers_are_hmacs() -> None:
    told = tell({"identifiers": [("email", "ann@example.org"), ("email", "ann@example.org")]}, PSEUDONYMS)
    expected = hmac.new(SALT.encode(), b"identifier\0email\0ann@example.org", hashlib.sha256).hexdigest()
    assert told == {"identifiers": [{"kind": "email", "hmac": expected}]}
    assert tell(told, PSEUDONYMS) == told, "what is an HMAC already stays one"


def test_the_kind_and_the_salt_count() -> None:
    other = Pseudonyms(SALT[::-1])
    macs = {one.of(kind, "x")["hmac"] for one in (PSEUDONYMS, other) for kind in ("email", "distinct_id")}
    assert len(macs) == 4
    assert PSEUDONYMS.salt_id != other.salt_id
    assert SALT not in repr(PSEUDONYMS)


def test_texts_are_cleaned_of_what_looks_personal_and_of_the_identifiers_they_came_with() -> None:
    told = tell(
        {
            "identifiers": IDENTIFIERS,
            "error": "PostHogNotFoundError: no user-of-ann-1, ann@example.org",
            "notes": ["asked for by ben@example.org with phx_0123456789abcdef", "user-of-ann-1"],
            "persons": [
                {"uuid": ANN, "note": "merged with cookie-of-ann", "identifiers": [("distinct_id", "cookie-of-ann")]}
            ],
            "options": {"reason": "user-of-ann-1 wishes it"},
            "cannot_erase": {"batch_exports": [{"name": "for ann@example.org"}, {"name": "user-of-ann-1"}]},
        },
        PSEUDONYMS,
    )
    shown = json.dumps(told)
    for text in ("ann@", "ben@", "user-of-ann", "cookie-of-ann", "phx_"):
        assert text not in shown


@settings(max_examples=150)
@given(
    identifiers=st.lists(
        st.tuples(
            st.sampled_from(["email", "distinct_id"]),
            st.one_of(
                st.emails(), st.uuids().map(str), st.text(st.characters(codec="utf-8"), min_size=12, max_size=40)
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    data=st.data(),
)
def test_no_record_holds_personal_data(identifiers: list[tuple[str, str]], data: st.DataObject) -> None:
    identifiers = [(kind, value.strip() or "nobody-at-all") for kind, value in identifiers]
    fs = MemoryFileSystem(skip_instance_cache=True)
    fs.store.clear()
    known = data.draw(st.sampled_from(identifiers))[1]
    trail = trail_in(fs, "/personal", who=who(ticket="for ann@example.org"))
    trail.append(
        "requested",
        identifiers=identifiers,
        not_found=identifiers[:1],
        persons=[{"uuid": ANN, "identifiers": identifiers, "note": f"is {known}"}],
        error=f"ValueError: {known} is wrong",
        notes=[f"a note about {known}"],
    )
    trail.close("NOT_VERIFIED", states={"SURVIVORS": 1})
    shown = "".join(record.as_bytes().decode() for record in trail.records())
    assert "ann@example.org" not in shown
    for _, value in identifiers:
        written = json.dumps(value)[1:-1]
        assert len(value) < 5 or written not in shown
    assert not verify_folder(trail.folder, fs).problems


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        ("2026-11-22T10:00:00Z", "2026-11-22T10:00:00.000Z"),
        ("2026-11-22T10:00:00.5+02:00", "2026-11-22T08:00:00.500Z"),
        ("2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.123Z"),
        (datetime(2026, 11, 22, tzinfo=timezone.utc), "2026-11-22T00:00:00.000Z"),
    ],
)
def test_times(value: Any, written: str | None) -> None:
    assert read_time("at", value) == written


@pytest.mark.parametrize("value", ["yesterday", "", 5, datetime(2026, 11, 22)])
def test_refused_times(value: Any) -> None:
    with pytest.raises(PostHogSettingsError):
        read_time("at", value)


@pytest.mark.parametrize("salt", ["", "short", "a" * 64, " ", "***", f"{SALT}\n{SALT}"])
def test_refused_salts(salt: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        Pseudonyms(salt)
    assert "secrets.token_hex(32)" in str(caught.value)
