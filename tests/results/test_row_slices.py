"""The rows of an answer, slice by slice: whatever its text is like, they are those of its JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.exceptions import PostHogTransportError
from airflow_provider_posthog.results.row_slices import RowSlices

texts = st.text(alphabet='],[ {}":\\a\n\U0001f600', max_size=12)
cells = st.recursive(st.none() | st.booleans() | st.integers(-5, 10**20) | texts, st.lists, max_leaves=5)
rows = st.lists(st.lists(cells, max_size=4), max_size=30)
keys = st.sampled_from(["columns", "types", "hasMore", "query", "timings"])
values = st.sampled_from([None, [["a", "String"], ["b", "results"]], {"results": [[1], [2]]}, '"results":[[1],[2]]', 3])


def chunks(text: bytes, length: int) -> list[bytes]:
    return [text[at : at + length] for at in range(0, len(text), length)]


def read(text: bytes, length: int, **options: Any) -> tuple[list[Any], Any, int]:
    slices = RowSlices(chunks(text, length), **options)
    found = list(slices)
    assert slices.bytes == len(text)
    return [row for part in found for row in part], slices.answer, len(found)


@given(rows, st.lists(st.tuples(keys, values)), st.lists(st.tuples(keys, values)), st.booleans(), st.integers(1, 90))
def test_rows_are_those_of_the_json(
    made: list[Any], before: list[Any], after: list[Any], compact: bool, length: int
) -> None:
    answer = {**dict(before), "results": made, **dict(after)}
    text = json.dumps(answer, separators=(",", ":") if compact else None, ensure_ascii=compact).encode()
    found, rest, _ = read(text, length, exact=True, size=40)
    assert found == made
    assert rest == {**answer, "results": []}


def test_an_answer_comes_in_slices() -> None:
    made = [[number, 'x],["y', ["],[", ["a"]]] for number in range(20_000)]
    found, rest, parts = read(json.dumps({"results": made, "types": []}).encode(), 4096, size=50_000)
    assert found == made
    assert rest == {"results": [], "types": []}
    assert parts > 10


def test_no_more_text_is_held_than_a_slice() -> None:
    made = [[number, "x" * 100] for number in range(10_000)]
    slices = RowSlices(chunks(json.dumps({"results": made}).encode(), 4096), size=50_000)
    assert max(len(slices._buffer) for _ in slices) < 60_000


def test_long_integers_stay_whole_where_they_are_expected() -> None:
    found, _, _ = read(b'{"results":[[170141183460469231731687303715884105727]]}', 9, exact=True)
    assert found == [[170141183460469231731687303715884105727]]


def test_what_orjson_cannot_read_is_read_in_slices_too() -> None:
    made = b",".join(b'[NaN,"\\ud83d"]' for _ in range(1000))
    found, _, parts = read(b'{"results":[' + made + b"]}", 512, size=2000)
    assert len(found) == 1000
    assert parts > 3


@pytest.mark.parametrize(
    "text", [b"[[1]]", b"null", b'"results"', b'{"results": null}', b'{"results": {"a": [1]}}', b"{}"]
)
def test_an_answer_without_rows_is_handed_over_as_it_is(text: bytes) -> None:
    found, answer, _ = read(text, 3)
    assert found == []
    assert answer == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [b"", b"<html>", b'{"results":[[1],[2]', b'{"results":[[1],[2]]', b'{"results":[1]]}', b'{"a":1,}', b"[" * 9999],
)
def test_what_is_cut_or_is_no_json_is_an_error(text: bytes) -> None:
    with pytest.raises(PostHogTransportError, match="not JSON"):
        read(text, 7, size=5)


NESTED = [[number, [["],[", '\\"],['], [[1], [2, [3]]]] * 8] for number in range(2_000)]


@pytest.mark.parametrize("made", [NESTED, [[json.dumps(row)] for row in NESTED]], ids=["lists", "texts of lists"])
def test_what_looks_like_the_end_of_a_row_everywhere_comes_in_slices_too(made: list[Any]) -> None:
    found, _, parts = read(json.dumps({"results": made}).encode(), 4096, size=20_000)
    assert found == made
    assert parts > 10


def test_a_row_that_is_longer_than_many_slices_is_not_parsed_again_for_each_piece_of_it() -> None:
    made = [[["x"] * 200_000], [1]]
    slices = RowSlices(chunks(json.dumps({"results": made}).encode(), 4096), size=20_000)
    tried = 0
    cut = slices._cut

    def counted() -> Any:
        nonlocal tried
        tried += 1
        return cut()

    slices._cut = counted  # type: ignore[method-assign]
    assert [row for part in slices for row in part] == made
    assert tried < 10


def test_lists_that_are_nested_too_deeply_are_an_error() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(PostHogTransportError):
        read(b'{"results":[' + b",".join([deep] * 3) + b"]}", 4096, size=20_000)


@pytest.mark.parametrize("again", ["null", "3", '{"a": 1}', '"text"'])
def test_results_that_come_twice_are_an_error(again: str) -> None:
    with pytest.raises(PostHogTransportError):
        read(b'{"results":[[1],[2]], "results": %s}' % again.encode(), 4096)
