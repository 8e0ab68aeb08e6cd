"""The files of exports, and the dates of queries."""

from __future__ import annotations

import csv
import io
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.emulator.insights.dates import buckets, parse_date
from airflow_provider_posthog.emulator.jobs.csv_writer import Table, TooManyColumns, write_csv, write_xlsx
from airflow_provider_posthog.emulator.jobs.exports import slugify
from airflow_provider_posthog.emulator.jobs.runner import spell

# the csv module of Python 3.10 cannot read NUL
CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=20)
NAMES = st.text(st.sampled_from("abc$ ü,\"'\n"), min_size=1, max_size=6)


def _read(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


@given(st.lists(st.dictionaries(NAMES, CELLS, min_size=1, max_size=5), min_size=1, max_size=8))
def test_every_cell_comes_back(rows: list[dict[str, str]]) -> None:
    header, *lines = _read(write_csv(Table([dict(row) for row in rows])))
    assert sorted(header) == sorted({name for row in rows for name in row})
    assert [dict(zip(header, line, strict=True)) for line in lines] == [
        {name: row.get(name, "") for name in header} for row in rows
    ]


@given(st.lists(st.lists(CELLS | st.none() | st.integers() | st.floats(), min_size=3, max_size=3), max_size=5))
def test_it_writes_what_pythons_csv_writes(cells: list[list[object]]) -> None:
    wanted = io.StringIO(newline="")
    csv.writer(wanted).writerows([["a", "b", "c"], *cells])
    if cells:
        assert write_csv(Table([dict(zip("abc", line, strict=True)) for line in cells])) == wanted.getvalue().encode()


def test_a_line_of_one_empty_cell_is_quoted() -> None:
    assert write_csv(Table([{"a": None}, {"a": "x"}])) == b'a\r\n""\r\nx\r\n'


def test_columns_of_one_prefix_stand_side_by_side() -> None:
    rows: list[dict[str, object]] = [
        {"id": 1, "person": {"a": True, "ids": ["x"]}, "chain": "", "elements": []},
        {"id": 2, "person": None, "chain": "", "elements": [{"t": None}], "new": 1.0},
    ]
    assert _read(write_csv(Table(rows))) == [
        ["id", "person.a", "person.ids.0", "person", "chain", "elements.0.t", "new"],
        ["1", "True", "x", "", "", "", ""],
        ["2", "", "", "", "", "", "1.0"],
    ]


def test_line_ends_and_encoding() -> None:
    assert write_csv(Table([{"ä": "x\ny"}])) == 'ä\r\n"x\ny"\r\n'.encode()


def test_too_many_columns_for_excel() -> None:
    with pytest.raises(TooManyColumns, match="18,278"):
        write_xlsx(Table([{"a": list(range(18_279))}]))


def test_xlsx_drops_what_excel_can_not_hold() -> None:
    from openpyxl import load_workbook

    rows: list[dict[str, object]] = [{"a": "x\x00y", "b": 2**63, "c": 1.5}]
    sheet = load_workbook(io.BytesIO(write_xlsx(Table(rows)))).active
    assert list(sheet.values) == [("a", "b", "c"), ("xy", "9223372036854775808", 1.5)]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2026-11-21T13:09:33.339419Z", "2026-11-21 13:09:33.339419+00:00"),
        ("2026-11-21T08:09:33-05:00", "2026-11-21 08:09:33-05:00"),
        ("2026-11-21T05:00:00", "2026-11-21 05:00:00"),
        (["2026-11-21T05:00:00Z", None], ["2026-11-21 05:00:00+00:00", None]),
        ("no time", "no time"),
        (None, None),
    ],
)
def test_times_are_written_as_python_does(value: object, text: object) -> None:
    assert spell(value) == text


@pytest.mark.parametrize(
    ("text", "slug"), [("My File", "my-file"), ("Größe (2)!", "groe-2"), ("a/b..c", "abc"), ("  x - y  ", "x-y")]
)
def test_slugs(text: str, slug: str) -> None:
    assert slugify(text) == slug


NOW = datetime(2026, 3, 31, 4, 30, 15, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("-7d", "2026-03-24T00:00:00-04:00"),
        ("-24h", "2026-03-30T00:30:15-04:00"),
        ("dStart", "2026-03-31T00:00:00-04:00"),
        ("dEnd", "2026-03-31T23:59:59.999999-04:00"),
        ("mStart", "2026-03-01T00:00:00-05:00"),
        ("-1mStart", "2026-02-01T00:00:00-05:00"),
        ("-1mEnd", "2026-02-28T23:59:59.999999-05:00"),
        ("-1m", "2026-02-28T00:00:00-05:00"),
        ("-1yStart", "2025-01-01T00:00:00-05:00"),
        ("qStart", "2026-01-01T00:00:00-05:00"),
        ("wStart", "2026-03-29T00:00:00-04:00"),
        ("2026-03-01", "2026-03-01T00:00:00-05:00"),
        ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00+00:00"),
    ],
)
def test_dates(text: str, moment: str) -> None:
    assert parse_date(text, NOW, ZoneInfo("America/New_York")).isoformat() == moment


def test_what_is_no_date() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        parse_date("yesterday", NOW, ZoneInfo("UTC"))


@pytest.mark.parametrize(
    ("interval", "starts"),
    [
        ("day", ["2026-03-28", "2026-03-29", "2026-03-30"]),
        ("week", ["2026-03-22", "2026-03-29"]),
        ("month", ["2026-03-01"]),
    ],
)
def test_buckets(interval: str, starts: list[str]) -> None:
    zone = ZoneInfo("Europe/Berlin")
    found = buckets(datetime(2026, 3, 28, 5, tzinfo=zone), datetime(2026, 3, 30, 5, tzinfo=zone), interval)
    assert [each.strftime("%Y-%m-%d") for each in found] == starts


def test_hours_through_a_change_of_the_clocks() -> None:
    zone = ZoneInfo("Europe/Berlin")
    found = buckets(datetime(2026, 3, 29, 0, 30, tzinfo=zone), datetime(2026, 3, 29, 5, tzinfo=zone), "hour")
    assert [each.strftime("%H:%M") for each in found] == ["00:00", "01:00", "03:00", "04:00", "05:00"]
