"""The work file and the progress behind it: on a disk and on flat storage, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.erasure.progress import Done, Progress, key_of
from airflow_provider_posthog.erasure.queries import batched, packed
from airflow_provider_posthog.erasure.work_file import Header, Person, WorkFile, WorkFileWriter
from airflow_provider_posthog.exceptions import PostHogSettingsError

HEADER = Header("0123456789abcdef", "2026-01-01T00:00:00+00:00", "B", "asked", "https://posthog.example", "1")
ANN = Person("00000000-0000-4000-8000-000000000001", ("ann", "line\nbreak\u2028"), True, 3, "2026-01-01", 1, 2, 1)
BOB = Person("00000000-0000-4000-8000-000000000002", ("bob",), False)


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, str]:
    fs = fsspec.filesystem(request.param)
    return fs, str(tmp_path / "work.jsonl")


def write(fs: Any, path: str, *persons: Person, header: Header = HEADER) -> WorkFile:
    with WorkFileWriter(fs, path, header) as file:
        file.add(persons)
        file.commit()
    return WorkFile(fs, path)


def test_persons_come_back_as_they_were(place: tuple[Any, str]) -> None:
    work = write(*place, ANN, BOB)
    assert [*work.persons()] == [ANN, BOB]
    assert work.header() == HEADER
    totals = work.totals()
    assert (totals.persons, totals.profiles, totals.personless, totals.events, totals.others) == (2, 1, 1, 3, 1)
    work.remove()
    work.remove()
    assert not work.exists()


def test_a_file_that_was_not_finished_is_not_there(place: tuple[Any, str]) -> None:
    fs, path = place
    with WorkFileWriter(fs, path, HEADER) as file:
        file.add([ANN])
    with pytest.raises(PostHogSettingsError, match="there is no file"):
        WorkFile(fs, path).header()
    assert not [name for name in fs.find(path.rpartition("/")[0]) if "work" in name]


@pytest.mark.parametrize("text", ["", "x\n", "[]\n", '{"version": 99}\n', '{"version": 1}\n'])
def test_another_file_is_refused(place: tuple[Any, str], text: str) -> None:
    fs, path = place
    fs.makedirs(path.rpartition("/")[0], exist_ok=True)
    with fs.open(path, "w") as file:
        file.write(text)
    with pytest.raises(PostHogSettingsError, match="not written by"):
        WorkFile(fs, path).header()


def test_without_distinct_ids_the_file_has_none(place: tuple[Any, str]) -> None:
    work = write(*place, ANN, header=Header(**{**vars(HEADER), "verify_by": "uuid"}))
    assert [person.distinct_ids for person in work.persons()] == [()]
    assert work.totals().distinct_ids == 0
    assert b"ann" not in place[0].cat_file(place[1])


def test_a_person_does_not_show_its_ids() -> None:
    assert "ann" not in repr(ANN)


def test_progress_is_what_was_noted(place: tuple[Any, str]) -> None:
    fs, path = place
    done = Done("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00", 2, {"x": "why"}, ["y"], ["z"], "C")
    key = key_of(0, ["a", "b"])
    first = Progress(fs, f"{path}.progress", "request")
    assert (first.has_begun, first.asked(key), first.done(key), first.size, first.verified) == (
        False,
        None,
        None,
        None,
        None,
    )
    first.ask(key, "2026-01-01T00:00:00+00:00")
    first.finish(key, done)
    first.size = 100
    again = Progress(fs, f"{path}.progress", "request")
    assert (again.has_begun, again.asked(key), again.done(key), again.size) == (
        True,
        "2026-01-01T00:00:00+00:00",
        done,
        100,
    )
    again.verified = {"state": "VERIFIED"}
    assert Progress(fs, f"{path}.progress", "request").verified == {"state": "VERIFIED"}
    other = Progress(fs, f"{path}.progress", "another request")
    assert (other.has_begun, other.done(key)) == (False, None)


def test_a_chunk_is_named_by_its_place_and_its_persons() -> None:
    assert key_of(0, ["a", "b"]) == key_of(0, ["b", "a"])
    assert len({key_of(0, ["a", "b"]), key_of(0, ["a"]), key_of(1, ["a"])}) == 3


@settings(max_examples=50)
@given(st.lists(st.text(max_size=40_000), max_size=30), st.integers(1, 10))
def test_values_are_packed_whole_and_in_order(values: list[str], most: int) -> None:
    packs = [*packed(values, most)]
    assert [value for pack in packs for value in pack] == values
    assert all(0 < len(pack) <= most for pack in packs)
    assert all(sum(map(len, pack)) <= 100_000 or len(pack) == 1 for pack in packs)


@given(st.lists(st.integers()), st.integers(1, 7))
def test_items_are_batched_whole_and_in_order(items: list[int], size: int) -> None:
    batches = [*batched(items, size)]
    assert [item for batch in batches for item in batch] == items
    assert all(len(batch) == size for batch in batches[:-1])
