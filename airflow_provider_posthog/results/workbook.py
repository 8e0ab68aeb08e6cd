"""A table as an XLSX workbook with one sheet, written by hand: no library that does so is needed."""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape

#: The limits of a sheet.
MAX_ROWS, MAX_COLUMNS, MAX_TEXT = 1_048_576, 16_384, 32_767
#: Excel's numbers are floats: larger integers lose digits.
_EXACT = 2**53
#: What XML cannot hold; Excel has a way of its own to write it, and so for a text that only looks like that.
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\r]|_(?=x[0-9A-Fa-f]{4}_)")
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_PARTS = {
    "[Content_Types].xml": (
        f'<Types xmlns="{_PACKAGE}/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
    ),
    "xl/workbook.xml": (
        f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets><sheet name="Result" sheetId="1" r:id="rId1"/></sheets>'
        "</workbook>"
    ),
    "xl/_rels/workbook.xml.rels": (
        f'<Relationships xmlns="{_PACKAGE}/relationships">'
        f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>'
    ),
}


def workbook(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Write a workbook: a header, and a line for each row. The same table makes the same bytes.

    Integers beyond 2**53 and numbers that are not finite are written as text, as a cell could not hold them.

    :param columns: the header.
    :param rows: cells: text, numbers, booleans and ``None``.
    :raises ValueError: if a sheet cannot hold that much; the text says what it can.
    """
    if len(rows) >= MAX_ROWS or len(columns) > MAX_COLUMNS:
        raise ValueError(f"A sheet holds {MAX_ROWS - 1:,} rows and {MAX_COLUMNS:,} columns.")
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as book:
        for name, text in _PARTS.items():
            book.writestr(_entry(name), _HEAD + text)
        with book.open(_entry("xl/worksheets/sheet1.xml"), "w") as sheet:
            for part in _sheet(columns, rows):
                sheet.write(part.encode("utf-8", "replace"))  # half of a pair of surrogates is not text
    return sink.getvalue()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)  # of the year 1980 always
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _sheet(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    yield f'{_HEAD}<worksheet xmlns="{_MAIN}"><sheetData>'
    yield _row(columns)
    for row in rows:
        yield _row(row)
    yield "</sheetData></worksheet>"


def _row(cells: Sequence[Any]) -> str:
    return f"<row>{''.join(map(_cell, cells))}</row>"


def _cell(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return "<c/>"
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)) and math.isfinite(value) and (isinstance(value, float) or abs(value) <= _EXACT):
        return f"<c><v>{value!r}</v></c>"
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > MAX_TEXT:
        raise ValueError(f"A cell holds {MAX_TEXT:,} characters.")
    shown = escape(_UNFIT.sub(lambda match: f"_x{ord(match[0]):04X}_", text))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{shown}</t></is></c>'
