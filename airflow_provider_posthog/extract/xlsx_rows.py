"""Counts the rows of an XLSX file without loading it."""

from __future__ import annotations

import re
import zipfile
import zlib
from typing import IO

_EMPTY_TEXT = b"No data available or unable to format for export."
_ROW = re.compile(rb"<row[\s/>]")  # not <rowBreaks>
_ROW_SIZE = 5
_CHUNK = 1024 * 1024


def count_rows(file: IO[bytes]) -> int:
    """Return how many rows the first sheet has under its header; 0 for PostHog's substitute for an empty result.

    :param file: the workbook; must be seekable.
    :raises zipfile.BadZipFile: if it is not a whole workbook.
    """
    try:
        with zipfile.ZipFile(file) as book:
            return _count(book)
    except (zlib.error, EOFError) as error:
        raise zipfile.BadZipFile(f"the workbook cannot be unpacked: {error}") from error


def _count(book: zipfile.ZipFile) -> int:
    sheets = sorted(name for name in book.namelist() if name.startswith("xl/worksheets/sheet"))
    if not sheets:
        raise zipfile.BadZipFile("the workbook has no sheet")
    records, says_empty = _scan(book, sheets[0])
    if records == 2 and (says_empty or _says_empty(book)):
        return 0
    return max(0, records - 1)


def _scan(book: zipfile.ZipFile, sheet: str) -> tuple[int, bool]:
    records, says_empty, tail = 0, False, b""
    with book.open(sheet) as xml:
        while chunk := xml.read(_CHUNK):
            # Text in cells is escaped, so "<row" can only be the tag; the tail finds one that was cut in two.
            window = tail + chunk
            records += sum(1 for _ in _ROW.finditer(window))
            says_empty = says_empty or _EMPTY_TEXT in window
            tail = window[-(_ROW_SIZE - 1) :]
    return records, says_empty


def _says_empty(book: zipfile.ZipFile) -> bool:
    try:
        with book.open("xl/sharedStrings.xml") as strings:
            return _EMPTY_TEXT in strings.read(_CHUNK)
    except KeyError:
        return False
