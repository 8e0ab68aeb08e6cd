"""Count the rows of an XLSX file without loading it."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from typing import IO

_EMPTY_TEXT = b"No data available or unable to format for export."
_ROW = re.compile(rb"<row[\s/>]")  # not <rowBreaks>
_ROW_SIZE = 5
_RECORD = re.compile(rb"<row[\s>](?:(?!</row>).)*</row>|<row(?:\s[^>]*)?/>", re.DOTALL)
#: A cell that holds something: a value, or a text in place.
_CELL_TEXT = re.compile(rb"<v>\s*[^<\s]|<t(?:\s[^>]*)?>[^<]")
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


def emptied(file: IO[bytes], *, has_columns: bool) -> bytes | None:
    """Return a workbook without the row that PostHog writes where there is none; ``None`` if it has rows.

    :param file: the workbook, with one row under its header at the most; must be seekable.
    :param has_columns: whether columns were asked for: then the header stays, and the row is one of empty cells;
        otherwise both are PostHog's substitute.
    :raises zipfile.BadZipFile: if it is not a whole workbook.
    """
    with zipfile.ZipFile(file) as book:
        sheet = _sheet_of(book)
        xml = book.read(sheet)
        records = _RECORD.findall(xml)
        is_substitute = len(records) == 2 and (_EMPTY_TEXT in xml or _says_empty(book))
        is_blank = has_columns and len(records) == 2 and not _CELL_TEXT.search(records[1])
        if not is_substitute and not is_blank:
            return None
        rows = records[:1] if is_blank and not is_substitute else []
        begin, end = xml.index(records[0]), xml.rindex(records[-1]) + len(records[-1])
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as copy:
            for entry in book.infolist():
                content = xml[:begin] + b"".join(rows) + xml[end:] if entry.filename == sheet else book.read(entry)
                copy.writestr(zipfile.ZipInfo(entry.filename), content, zipfile.ZIP_DEFLATED)
        return made.getvalue()


def _sheet_of(book: zipfile.ZipFile) -> str:
    sheets = sorted(name for name in book.namelist() if name.startswith("xl/worksheets/sheet"))
    if not sheets:
        raise zipfile.BadZipFile("the workbook has no sheet")
    return sheets[0]


def _count(book: zipfile.ZipFile) -> int:
    records, says_empty = _scan(book, _sheet_of(book))
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
