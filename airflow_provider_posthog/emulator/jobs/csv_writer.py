"""Files of exports: CSV and XLSX as PostHog writes them, and a picture."""

from __future__ import annotations

import io
import itertools
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

Row = dict[str, object]
EMPTY_HEADER = "error"
EMPTY_TEXT = "No data available or unable to format for export."
EXCEL_COLUMNS = 18_278
_SPECIAL = re.compile('[",\r\n]').search
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")


class TooManyColumns(Exception):
    """An XLSX file cannot hold so many columns."""


@dataclass
class Table:
    """The rows of an export before they are written.

    :param rows: names to values; values may be lists and objects.
    """

    rows: list[Row] = field(default_factory=list)


def flatten(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Yield the cells of a row: ``{"a": {"b": [1]}}`` becomes ``a.b.0``. An empty list or object has no cell.

    :param value: a value, a list or an object.
    :param name: the column's name so far.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flatten(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flatten(item, f"{name}.{index}" if name else str(index))
    else:
        yield name, value


def _flat_rows(rows: Sequence[Row]) -> list[Row]:
    if not any(isinstance(value, (dict, list, tuple)) for row in rows for value in row.values()):
        return list(rows)
    return [dict(flatten(row)) for row in rows]


def _header(rows: Iterable[Row]) -> list[str]:
    """All columns of all rows, those with the same first part side by side, in the order they were first seen."""
    groups: dict[str, dict[str, None]] = {}
    known: set[tuple[str, ...]] = set()
    for row in rows:
        # rows of one shape are the rule: look at each shape once
        shape = tuple(row)
        if shape in known:
            continue
        known.add(shape)
        for name in shape:
            groups.setdefault(name.split(".", 1)[0], {})[name] = None
    return [name for group in groups.values() for name in group]


def _chosen(header: Sequence[str], columns: Sequence[str]) -> list[str]:
    chosen: dict[str, None] = {}
    for column in columns:
        fitting = [name for name in header if name == column or name.startswith(f"{column}.")]
        chosen.update(dict.fromkeys(fitting or [column]))
    return list(chosen)


def layout(table: Table, columns: Sequence[str] | None = None) -> tuple[list[str], Iterator[list[object]]]:
    """Turn a table into a header and lines of cells.

    :param table: the rows.
    :param columns: ``export_context.columns``: which columns in which order; a name takes its dotted children along,
        and a name that no row has becomes an empty column.
    """
    rows = _flat_rows(table.rows)
    header = _chosen(_header(rows), columns) if columns else _header(rows)
    if not rows:
        return (header, iter([[""] * len(header)])) if columns else ([EMPTY_HEADER], iter([[EMPTY_TEXT]]))
    return header, ([row.get(name) for name in header] for row in rows)


def _defused(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell


def write_csv(table: Table, columns: Sequence[str] | None = None, *, sanitize: bool = False) -> bytes:
    """Write a CSV file: UTF-8 without a mark, CRLF, a header always.

    :param table: the rows.
    :param columns: which columns, or None for all.
    :param sanitize: put a quote before cells that a spreadsheet would take for a formula.
    """
    header, lines = layout(table, columns)
    every: Iterable[Iterable[object]] = itertools.chain([header], lines)
    if sanitize:
        every = (map(_defused, line) for line in every)
    # csv.writer looks at each character of a cell and takes three times as long for events' properties
    text = "\r\n".join([",".join(map(_quoted, line)) or '""' for line in every])
    return (text + "\r\n").encode("utf-8", "surrogatepass")


def _quoted(cell: object) -> str:
    if cell is None:
        return ""
    text = cell if isinstance(cell, str) else str(cell)
    return '"' + text.replace('"', '""') + '"' if _SPECIAL(text) else text


def write_xlsx(table: Table, columns: Sequence[str] | None = None) -> bytes:
    """Write an XLSX workbook with one sheet.

    :param table: the rows.
    :param columns: which columns, or None for all.
    :raises TooManyColumns: when a sheet cannot hold them.
    """
    from openpyxl import Workbook

    header, lines = layout(table, columns)
    if len(header) > EXCEL_COLUMNS:
        raise TooManyColumns(f"Export exceeds the maximum of {EXCEL_COLUMNS:,} columns.")
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(header)
    for line in lines:
        sheet.append([_cell(value) for value in line])
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None or isinstance(value, (int, float)):
        # Excel's numbers are floats: bigger integers would lose digits
        return str(value) if isinstance(value, int) and abs(value) > 2**53 else value
    return _ILLEGAL.sub("", str(value))


# the beginnings by which players and libraries tell these formats; there is no recording to show
RECORDINGS = {
    "image/gif": bytes.fromhex("474946383961010001008000000000 00ffffff2c00000000010001000002024401003b"),
    "video/mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42\x00\x00\x00\x08mdat",
    "video/webm": b"\x1aE\xdf\xa3\x8bB\x86\x81\x01B\x82\x84webm",
}


def write_png(text: str = "", width: int = 320, height: int = 200) -> bytes:
    """Return a real, if dull, PNG picture.

    :param text: what it would show; it is in the file as its description.
    :param width: in pixels.
    :param height: in pixels.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    line = b"\x00" + bytes(255 - (x * 64 // width) for x in range(width))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(line * height)) + chunk(b"IEND", b"")
    note = chunk(b"tEXt", b"Description\x00" + text.encode("latin-1", "replace")) if text else b""
    return b"\x89PNG\r\n\x1a\n" + body[:25] + note + body[25:]
