"""Counting rows, against Python's own reader."""

from __future__ import annotations

import csv
import io
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.download.csv_rows import CsvRows

CELLS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
    st.lists(st.sampled_from(['"', '""', ",", "\r", "\n", "\r\n", "é", "🦔", "a", " "]), max_size=8).map("".join),
    st.none(),
)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1, max_size=8)
)


def written(table: list[list[str | None]], end: str = "\r\n") -> bytes:
    out = io.StringIO(newline="")
    # With line ends of its own, Python's writer leaves a lone CR unquoted, which its reader takes for a line end.
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    csv.writer(out, lineterminator=end, quoting=quoting).writerows(table)
    return out.getvalue().encode()


def fed(*chunks: bytes) -> CsvRows:
    rows = CsvRows()
    for chunk in chunks:
        rows.feed(chunk)
    return rows


@given(TABLES, st.lists(st.integers(0, 300)), st.booleans(), st.sampled_from(["\r\n", "\n"]))
def test_as_many_as_pythons_reader_finds(
    table: list[list[str | None]], cuts: list[int], last_end: bool, end: str
) -> None:
    data = written(table, end)
    data = data if last_end else data.removesuffix(end.encode())
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    rows = fed(*(data[start:stop] for start, stop in itertools.pairwise(places)))
    assert rows.rows == len(list(csv.reader(io.StringIO(data.decode(), newline="")))) - 1


@given(TABLES, st.data())
def test_a_cut_inside_quotes_is_seen(table: list[list[str | None]], data: st.DataObject) -> None:
    whole = written(table)
    part = whole[: data.draw(st.integers(0, len(whole)))]
    if part.count(b'"') % 2:
        with pytest.raises(ValueError, match="quoted"):
            _ = fed(part).rows
    else:
        assert fed(part).rows <= len(table) - 1


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"", 0),
        (b"a,b\r\n", 0),
        (b"a,b", 0),
        (b"a\r\n1\r\n", 1),
        (b"a\r\n1", 1),
        (b'a\r\n"1\r\n2"\r\n', 1),
        (b"\r\n", 0),
    ],
)
def test_rows(data: bytes, rows: int) -> None:
    assert fed(data).rows == rows
    assert fed(*(data[n : n + 1] for n in range(len(data)))).rows == rows


def test_header() -> None:
    assert fed(b"a,", b"b\r\n1,2\r\n").header == b"a,b"


TEXT = b"No data available or unable to format for export."


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"error\r\n" + TEXT + b"\r\n", True),
        (b'error\r\n"' + TEXT + b'"\r\n', True),
        (b"error\r\nanother text\r\n", False),
        (b"errors\r\n" + TEXT + b"\r\n", False),
        (b"error\r\n" + TEXT + b"\r\n" + TEXT + b"\r\n", False),
        (b"error\r\n", False),
        (b"", False),
    ],
)
def test_posthogs_substitute_for_nothing(data: bytes, expected: bool) -> None:
    assert fed(data).is_empty_marker is expected
    assert fed(data[:9], data[9:]).is_empty_marker is expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a,b\r\n,\r\n", True),
        (b'a\r\n""\r\n', True),
        (b"a,b\r\n,1\r\n", False),
        (b"a,b\r\n,\r\n,\r\n", False),
        (b"a,b\r\n", False),
        (b"a" * 70_000 + b",b\r\n,\r\n", False),
        (b"", False),
    ],
)
def test_a_row_of_commas(data: bytes, expected: bool) -> None:
    assert fed(data).is_blank_row is expected


def test_quotes_do_not_slow_it_down() -> None:
    """Linear and quick: not a benchmark, but a reader that looks at every quote would take ten times as long."""
    row = b'1,"{' + b",".join(b'""key %d"": ""value""' % n for n in range(20)) + b'}"\r\n'
    data = row * (8_000_000 // len(row))
    best = 9.0
    for _ in range(3):
        start = time.process_time()
        rows = fed(*(data[n : n + 65536] for n in range(0, len(data), 65536)))
        best = min(best, time.process_time() - start)
    assert rows.rows == len(data) // len(row) - 1
    assert best < 0.16  # 50 MB/s, a tenth of what it does
