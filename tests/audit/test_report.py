"""The page says plainly what is proved, and is safe to open."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.audit.report import MAX_ROWS, report, summary
from airflow_provider_posthog.audit.timeline import Mark, timeline
from airflow_provider_posthog.audit.verify import Verdict, verify, verify_folder
from tests.audit.support import AFTER, ANN, BEN, IDENTIFIERS, PSEUDONYMS, fill, name_of, stored, trail_in, who

Place = tuple[Any, str]
EVIL = "<script>alert('x')</script>\"&\x00\x1b"


def parsed(page: str) -> ET.Element:
    """Read the page as XML, which minds every tag that is not closed."""
    head, rest = page.split("\n", 1)
    assert head == "<!DOCTYPE html>"
    return ET.fromstring(rest)


def words(page: str) -> str:
    return " ".join(" ".join(parsed(page).itertext()).split())


def headline(page: str) -> str:
    (strong,) = parsed(page).iter("strong")
    return strong.text or ""


def verdict_of(place: Place, *states: str, **options: Any) -> Verdict:
    fs, folder = place
    trail = fill(trail_in(fs, folder), states or ("VERIFIED", "VERIFIED"), **options)
    return verify_folder(trail.folder, fs, pseudonyms=PSEUDONYMS)


def checked(trail: Any, place: Place) -> Verdict:
    return verify_folder(trail.folder, place[0], pseudonyms=PSEUDONYMS)


def test_a_proved_erasure(place: Place) -> None:
    page = report(verdict_of(place))
    assert headline(page) == "VERIFIED"
    shown = words(page)
    for text in (
        "Each of 2 persons was erased: PostHog shows no profile, no events up to the request and no session recordings",
        "DSR-42",
        "DAG erasure, run manual__2026-11-22, task erase",
        "complete and unaltered",
        "seals checked",
        "merged into the same persons: they went along 3",
        "Exports made earlier: 1",
        "id: 5",
        "name: to the warehouse, paused: no, type: S3",
        "Static cohorts: not looked at (missing scope cohort:read)",
        "Groups: 0",
        "Destinations and webhooks: 1",
        "enabled: yes, id: h, name: to the CRM, type: destination",
        "Subscriptions: not looked at (missing scope subscription:read)",
        "persons.bulk_delete: 1",
        "Events 7 0",
        "Newest event 2026-11-01 none",
        name_of(ANN)[:16],
    ):
        assert text in shown, text
    assert "NOT VERIFIED" not in shown
    assert ANN not in page


@pytest.mark.parametrize(
    ("options", "left", "claimed"),
    [
        (
            {"keep_person": True},
            "the profile was kept (keep_person=True)",
            "Of the person PostHog shows no events up to the request and no session recordings any more.",
        ),
        (
            {"delete_events": False},
            "the events were left (delete_events=False)",
            "Of the person PostHog shows no profile and no session recordings any more.",
        ),
        (
            {"delete_recordings": False, "delete_events": True},
            "the session recordings were left (delete_recordings=False)",
            "Of the person PostHog shows no profile and no events up to the request any more.",
        ),
        (
            {"delete_events": False, "delete_recordings": False},
            "the events were left (delete_events=False)",
            "Of the person PostHog shows no profile any more.",
        ),
        ({"keep_groups": True}, "something was left (keep_groups=True)", "The person was erased"),
        ({"verify_by": "uuid"}, "only the person's UUID was looked for", "The person was erased"),
    ],
)
def test_what_is_left_on_purpose_stands_at_the_top(
    place: Place, options: dict[str, Any], left: str, claimed: str
) -> None:
    fs, folder = place
    trail = trail_in(fs, folder)
    trail.append("requested", persons=[{"uuid": ANN}])
    trail.append("note", options=options)
    trail.append("note", key="a later try", options=dict.fromkeys(options, None))
    trail.append("verified", persons=[{"uuid": ANN, "state": "VERIFIED"}], after=AFTER)
    trail.close("VERIFIED", states={"VERIFIED": 1})
    verdict = checked(trail, place)
    shown, page = summary(verdict), report(verdict)
    assert headline(page) == "VERIFIED, BUT NOT ALL WAS ERASED"
    for text in (shown, words(page)):
        assert claimed in text
        assert text.index(f"{left}") < text.index(claimed)
    if not claimed.startswith("The person"):
        assert "was erased:" not in shown


def test_no_more_is_claimed_than_was_counted(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder)
    trail.append("verified", persons=[{"uuid": ANN, "state": "VERIFIED"}], after={"events": 0})
    trail.close("VERIFIED", states={"VERIFIED": 1})
    shown = words(report(checked(trail, place)))
    assert "Of the person PostHog shows no profile and no events up to the request any more." in shown
    assert "no session recordings" not in shown


def test_who_approved_and_what_went_elsewhere_stands_at_the_top(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder, who=who(ticket="DSR-7"))
    trail.append("requested", identifiers=IDENTIFIERS, persons=[{"uuid": ANN}])
    trail.append("note", key="approved", notes=["approved by Airflow's user ann at noon"])
    trail.append("note", key="delete-1", notes=["erased 3 rows of 1 person from the table events; 0 are left"])
    page = words(report(checked(trail, place)))
    top = page[: page.index("The records")]
    assert "by Airflow's user ann at noon" in top
    assert "3 rows of 1 person from the table events; 0 are left" in top
    assert "(ticket DSR-7)" in summary(checked(trail, place))


def test_without_the_salt_the_page_says_nothing_of_the_erasure(place: Place) -> None:
    fs, folder = place
    verdict = verify_folder(fill(trail_in(fs, folder)).folder, fs)
    page = report(verdict)
    assert headline(page) == "ORIGIN NOT CHECKED"
    assert "unaltered" not in page + summary(verdict)
    assert "VERIFIED" not in summary(verdict)
    assert "internally consistent; 5 records; origin not checked" in summary(verdict)


def test_a_survivor_is_told(place: Place) -> None:
    verdict = verdict_of(place, "VERIFIED", "SURVIVORS")
    page = report(verdict)
    assert headline(page) == "NOT VERIFIED"
    shown = words(page)
    assert "1 person is in the state SURVIVORS." in shown
    assert "4 events were still readable." in shown
    assert f"{name_of(BEN)[:16]} SURVIVORS 4" in shown
    assert name_of(ANN)[:16] not in shown, "who is proved to be gone is not among those who are not"
    assert "erasure: NOT VERIFIED" in summary(verdict)
    assert "complete and unaltered" in summary(verdict)


def test_an_altered_certificate_is_never_verified(place: Place) -> None:
    fs, folder = place
    trail = fill(trail_in(fs, folder))
    files = stored(fs, trail)
    name = max(files)
    files[name] = files[name].replace(b"VERIFIED", b"VERIFLED", 1)
    verdict = verify(trail.folder, sorted(files.items()))
    page = report(verdict)
    assert headline(page) == "NOT VERIFIED"
    assert f"{name}: does not have its hash" in words(page)
    assert "ALTERED OR INCOMPLETE" in words(page)
    assert "ALTERED OR INCOMPLETE" in summary(verdict)
    assert name in summary(verdict)


def test_a_request_that_goes_on(place: Place) -> None:
    page = report(verdict_of(place, close=False))
    assert headline(page) == "NOT VERIFIED"
    assert "not closed" in words(page)


def test_a_dry_run_is_no_erasure(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder)
    trail.append("dry_run", identifiers=IDENTIFIERS, persons=[{"uuid": ANN}])
    trail.close("DRY_RUN", states={})
    verdict = checked(trail, place)
    assert headline(report(verdict)) == "DRY RUN"
    assert "Nothing was erased" in words(report(verdict))
    assert not verdict.proves_erasure


def test_identifiers_that_led_to_nobody_are_told(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder)
    trail.append("note", not_found=IDENTIFIERS[:2])
    fill(trail)
    verdict = verify_folder(trail.folder, fs)
    assert "2 identifiers matched no person: nothing was erased for them." in words(report(verdict))
    assert "identifiers that matched no person: 2" in summary(verdict)


def test_no_record_at_all() -> None:
    page = report(verify("nowhere", []))
    assert headline(page) == "NOT VERIFIED"
    assert "There is no record." in words(page)


def test_nothing_that_was_written_can_become_markup(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder, who=who(EVIL, ticket=EVIL))
    trail.append("note", key=EVIL, notes=[EVIL], error=EVIL, server={"host": EVIL}, options={"x": EVIL})
    trail.append("residue", cannot_erase={"exports": [{"id": EVIL}], "not_looked_at": {"batch_exports": EVIL}})
    trail.close("NOT_VERIFIED", states={})
    page = report(verify_folder(trail.folder, fs))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x00" not in page
    parsed(page)


def test_it_needs_nothing_from_elsewhere(place: Place) -> None:
    page = report(verdict_of(place))
    root = parsed(page)
    assert {element.tag for element in root.iter()}.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not [name for element in root.iter() for name in element.attrib if name in ("src", "href")]
    assert page.count("http://") == 2, "the picture's namespace, and PostHog's host as a text"
    assert "@media print" in page
    assert 'charset="utf-8"' in page


def test_long_lists_are_cut_and_say_so(place: Place) -> None:
    fs, folder = place
    trail = trail_in(fs, folder)
    count = MAX_ROWS + 7
    persons: Any = [{"uuid": f"01900000-0000-5000-8000-{i:012d}", "state": "SURVIVORS"} for i in range(count)]
    trail.append("verified", persons=persons)
    trail.close("NOT_VERIFIED", states={"SURVIVORS": count})
    assert "and 7 more, who are in the records" in words(report(verify_folder(trail.folder, fs)))


TIMES = st.one_of(st.datetimes().map(lambda time: time.isoformat() + "Z"), st.text(max_size=8))


@settings(max_examples=100)
@given(st.lists(st.builds(Mark, TIMES, st.text(max_size=6), st.booleans()), max_size=12))
def test_the_picture_is_always_well_formed(marks: list[Mark]) -> None:
    picture = timeline(marks)
    if not picture:
        return
    root = ET.fromstring(picture)
    for element in root.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 < float(element.attrib["cx"]) < 720


def test_the_picture_keeps_the_proportions() -> None:
    marks = [Mark(f"2026-11-{day:02d}T00:00:00Z", f"k{day}") for day in (1, 2, 11)]
    root = ET.fromstring(timeline(marks))
    first, second, last = (float(one.attrib["cx"]) for one in root.iter("{http://www.w3.org/2000/svg}circle"))
    assert (second - first) / (last - first) == pytest.approx(0.1)
    assert timeline([]) == ""
    assert "circle" in timeline(marks[:1])


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), min_size=3, max_size=3))
def test_any_text_makes_a_page(texts: list[str]) -> None:
    fs = MemoryFileSystem(skip_instance_cache=True)
    fs.store.clear()
    trail = trail_in(fs, "/page")
    trail.append("note", notes=texts, error=texts[0], options={"x": texts[1]})
    trail.close("NOT_VERIFIED", states={"SURVIVORS": 1})
    parsed(report(verify_folder(trail.folder, fs)))
