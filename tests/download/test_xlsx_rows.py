"""Counting rows of workbooks that openpyxl makes."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from typing import IO, cast

import pytest
from openpyxl import Workbook
from openpyxl.worksheet.pagebreak import Break

from airflow_provider_posthog.download.xlsx_rows import count_rows

TEXT = "No data available or unable to format for export."


def workbook(*rows: list[object], streamed: bool = True, breaks: int = 0) -> io.BytesIO:
    book = Workbook(write_only=streamed)
    sheet = book.create_sheet() if streamed else book.active
    for row in rows:
        sheet.append(row)
    for number in range(breaks):
        sheet.row_breaks.append(Break(id=number + 1))
    out = io.BytesIO()
    book.save(out)
    out.seek(0)
    return out


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 2, 500])
def test_rows(rows: int, streamed: bool) -> None:
    body = [[number, "<row> </row><row r='1'>", "line\nend", None] for number in range(rows)]
    assert count_rows(workbook(["a", "b", "c", "d"], *body, streamed=streamed)) == rows


def test_more_than_is_read_at_once() -> None:
    """Tags are found where two reads meet, too."""
    cells = random.Random(3)
    body: list[list[object]] = [[cells.random(), "x" * cells.randrange(40)] for _ in range(15_000)]
    assert count_rows(workbook(["a", "b"], *body)) == 15_000


@pytest.mark.parametrize("streamed", [True, False])
def test_posthogs_substitute_for_nothing(streamed: bool) -> None:
    assert count_rows(workbook(["error"], [TEXT], streamed=streamed)) == 0
    assert count_rows(workbook(["error"], ["another"], streamed=streamed)) == 1
    assert count_rows(workbook(["error"], [TEXT], [TEXT], streamed=streamed)) == 2


def test_page_breaks_are_no_rows() -> None:
    assert count_rows(workbook(["a"], [1], [2], streamed=False, breaks=2)) == 2


def test_nothing_at_all() -> None:
    assert count_rows(workbook()) == 0


def test_inside_gzip() -> None:
    packed = io.BytesIO(gzip.compress(workbook(["a"], [1], [2]).getvalue()))
    with gzip.open(packed) as file:
        assert count_rows(cast("IO[bytes]", file)) == 2


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_workbook(share: float) -> None:
    whole = workbook(["a"], *([number] for number in range(5000))).getvalue()
    with pytest.raises(zipfile.BadZipFile):
        count_rows(io.BytesIO(whole[: int(len(whole) * share)]))


@pytest.mark.parametrize("where", ["start", "middle"])
def test_a_damaged_workbook(where: str) -> None:
    whole = bytearray(workbook(["a"], *([random.Random(n).random()] for n in range(5_000))).getvalue())
    with zipfile.ZipFile(io.BytesIO(whole)) as book:
        sheet = book.getinfo("xl/worksheets/sheet1.xml")
    start = sheet.header_offset + 30 + len(sheet.filename)
    damage = start if where == "start" else start + sheet.compress_size // 2
    whole[damage : damage + 64] = b"\xff" * 64
    with pytest.raises(zipfile.BadZipFile):
        count_rows(io.BytesIO(whole))


def test_a_zip_that_is_no_workbook() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        book.writestr("other.xml", "<row>")
    with pytest.raises(zipfile.BadZipFile, match="no sheet"):
        count_rows(out)
