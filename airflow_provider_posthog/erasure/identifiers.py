"""Identifiers of persons: distinct ids, e-mail addresses and person UUIDs, from arguments and from files."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, get_args

from airflow_provider_posthog.api.arguments import is_uuid
from airflow_provider_posthog.erasure.addresses import problem_of
from airflow_provider_posthog.exceptions import PostHogErasureError, PostHogSettingsError
from airflow_provider_posthog.storage.atomic_file import FileSystem

Kind = Literal["distinct_id", "email", "uuid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Names for them in files, as they are without blanks, lines, capitals and a plural's s.
_COLUMNS: Mapping[str, Kind] = {
    "distinctid": "distinct_id",
    "email": "email",
    "mail": "email",
    "emailaddress": "email",
    "uuid": "uuid",
    "personid": "uuid",
    "personuuid": "uuid",
}
_MAX_LINE = 64 * 1024
_HALF = re.compile("[\ud800-\udfff]")
#: The first bytes of files that are not UTF-8 text.
_NO_TEXT = (
    (b"\x1f\x8b", "compressed (gzip)"),
    (b"PK\x03\x04", "an Excel workbook, or another ZIP file"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
)


@dataclass(frozen=True)
class Identifier:
    """One identifier. Its ``repr`` holds no personal data, so that it may be logged.

    :param kind: what it is.
    :param value: the identifier itself.
    :param position: which one it is of those that were given, from 1.
    :param line: the line of the file, from 1; 0 for one from an argument.
    """

    kind: Kind
    value: str
    position: int = 0
    line: int = 0

    def __repr__(self) -> str:
        return f"<{self.kind} {self.place}>"

    @property
    def place(self) -> str:
        """Where it was given."""
        return f"in line {self.line}" if self.line else f"number {self.position}"


def from_arguments(
    *,
    distinct_ids: Sequence[str] | None = None,
    emails: Sequence[str] | None = None,
    uuids: Sequence[str] | None = None,
) -> Iterator[Identifier]:
    """Yield the identifiers of arguments.

    :param distinct_ids: distinct ids.
    :param emails: e-mail addresses.
    :param uuids: person UUIDs.
    :raises PostHogSettingsError: for one that is empty or of the wrong form; it is not shown.
    """
    given: tuple[tuple[str, Kind, Sequence[str] | None], ...] = (
        ("distinct_ids", "distinct_id", distinct_ids),
        ("emails", "email", emails),
        ("uuids", "uuid", uuids),
    )
    for field, kind, values in given:
        if isinstance(values, (str, Mapping)) or not isinstance(values or (), (list, tuple, set, frozenset)):
            raise PostHogSettingsError(field, "is not a list.", "Write a list of texts.")
        for position, value in enumerate(values or (), 1):
            yield _checked(kind, value, field, position, 0)


def from_file(fs: FileSystem, path: str) -> Iterator[Identifier]:
    """Yield the identifiers of a file, one line in memory at a time.

    The name decides its kind: ``.jsonl``, ``.ndjson`` and ``.json`` are JSON lines, others CSV in UTF-8 with a header
    (separated by comma, semicolon or tab). Columns or keys are ``distinct_id``, ``email`` and ``uuid``; others are
    ignored, and so are empty cells. Each filled cell is an identifier of its own.

    :param fs: the file system.
    :param path: the file.
    :raises PostHogSettingsError: if it cannot be read so, holds no identifier, or one of the wrong form.
    """
    try:
        raw = fs.open(path, "rb")
    except FileNotFoundError:
        raise PostHogSettingsError(
            "identifiers_path", f"is {path}, where there is no file.", "Write one that exists."
        ) from None
    with raw, io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        lines = _lines(text)
        rows = _json_rows(lines) if path.lower().endswith((".jsonl", ".ndjson", ".json")) else _csv_rows(lines)
        position = 0
        for line, row in rows:
            for kind, value in row:
                position += 1
                yield _checked(kind, value, "identifiers_path", position, line)
    if not position:
        raise _unreadable("holds no identifier.")


def _lines(text: IO[str]) -> Iterator[str]:
    """Yield the lines of a file; bytes that are not UTF-8 come as lone surrogates."""
    for number in itertools.count(1):
        line = text.readline(_MAX_LINE + 1)
        if not line:
            return
        if number == 1:
            _refuse_what_is_no_text(line)
        if len(line) > _MAX_LINE:
            raise _unreadable(f"has a line {number} of more than {_MAX_LINE:,} characters.")
        if _HALF.search(line):
            raise _unreadable(f"is not UTF-8 text in line {number}.")
        yield line


def _refuse_what_is_no_text(first: str) -> None:
    begins = first[:8].encode("utf-8", "surrogateescape")
    for start, what in _NO_TEXT:
        if begins.startswith(start):
            raise _unreadable(f"is {what}.")
    if "\0" in first:
        raise _unreadable("is UTF-16 text.")


def _csv_rows(text: Iterator[str]) -> Iterator[tuple[int, list[tuple[Kind, str]]]]:
    first = next(text, "")
    if first.lower().startswith("sep="):
        raise _unreadable("begins with Excel's line 'sep='.")
    separator = max(",;\t", key=first.count)
    names = next(csv.reader([first], delimiter=separator), [])
    columns = [_kind_of(name) for name in names]
    if not any(columns):
        raise _unreadable("has no column named distinct_id, email or uuid in its first line.")
    # Strict: a quote that is not closed would swallow all lines behind it.
    reader = csv.reader(text, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 2  # where the row begins: the first line is read already
        try:
            row = next(reader, None)
        except csv.Error:
            problem = f"has a quote in line {line} that is not closed, or stands in the middle of a cell."
            raise _unreadable(problem) from None
        if row is None:
            return
        if len(row) > len(columns):
            # A distinct id with a separator in it, and no quotes, would be cut there: to somebody else's.
            raise _unreadable(f"has more cells in line {line} than names in its first line.")
        filled = zip(columns, row, strict=False)
        yield line, [(kind, value) for kind, value in filled if kind and value.strip()]


def _json_rows(text: Iterator[str]) -> Iterator[tuple[int, list[tuple[Kind, str]]]]:
    for number, line in enumerate(text, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, _Pairs):
            raise _unreadable(f"has something else than a JSON object in line {number}.")
        named = [(_kind_of(name), value) for name, value in row]
        if not any(kind for kind, _ in named):
            raise _unreadable(f"has none of distinct_id, email and uuid in line {number}.")
        yield number, [(kind, value) for kind, value in named if kind and value not in (None, "")]


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with all of its keys: of one that is there twice, an object in Python keeps the last value only."""


def _kind_of(name: str) -> Kind | None:
    """Return the kind of a column; a slightly misspelt name must not be ignored silently."""
    plain = re.sub(r"[\s_-]", "", name).lower()
    return _COLUMNS.get(plain) or _COLUMNS.get(plain.removesuffix("s")) or _COLUMNS.get(plain.removesuffix("es"))


def _unreadable(problem: str) -> PostHogSettingsError:
    return PostHogSettingsError(
        "identifiers_path",
        f"names a file that {problem}",
        "Write CSV with a header, or JSON lines, with distinct_id, email or uuid in each; in Excel, save as CSV UTF-8.",
    )


def _checked(kind: Kind, value: object, field: str, position: int, line: int) -> Identifier:
    text = value.strip(" \t\r\n") if isinstance(value, str) and kind != "distinct_id" else value
    place = f"a line {line}" if line else f"an entry {position}"
    if not isinstance(text, str) or not text.strip():
        raise PostHogSettingsError(
            field, f"has {place} that is empty or not text.", "Leave it out, or write it as text."
        )
    if _HALF.search(text):
        raise PostHogSettingsError(field, f"has {place} with a lone surrogate.", "Write it as UTF-8 text.")
    if kind == "uuid":
        if not is_uuid(text):
            raise PostHogSettingsError(
                field, f"has {place} that is not a UUID.", "Write a person's UUID, or use distinct_ids."
            )
        text = text.lower()
    problem = problem_of(text) if kind == "email" else ""
    if problem:
        raise PostHogSettingsError(
            field,
            f"has {place} that {problem}.",
            "Write one address, such as ann@example.org, in each; or use distinct_ids.",
        )
    return Identifier(kind, text, position, line)


def from_rows(rows: Iterable[Sequence[Any]]) -> Iterator[Identifier]:
    """Yield the person UUIDs in the first column of a query's rows, each once.

    :param rows: the rows.
    :raises PostHogSettingsError: for a row that begins with something else; it is not shown.
    """
    chosen: dict[str, None] = {}
    for position, row in enumerate(rows, 1):
        if not row or not is_uuid(row[0]):
            raise PostHogSettingsError(
                "query",
                f"has no person's UUID in the first column of row {position}.",
                "Select it first, as in: SELECT person_id FROM ... LIMIT 1000.",
            )
        chosen[str(row[0]).lower()] = None
    for position, uuid in enumerate(sorted(chosen), 1):
        yield Identifier("uuid", uuid, position)


def of_persons(rows: Iterable[Mapping[str, Any]], properties: Sequence[Mapping[str, Any]]) -> Iterator[Identifier]:
    """Yield the UUIDs of persons that PostHog lists for a filter, after checking that each really fits.

    :param rows: the persons that PostHog listed.
    :param properties: the filter.
    :raises PostHogErasureError: for a person who does not fit: PostHog lists everybody for a filter it does not read.
    """
    for position, row in enumerate(rows, 1):
        held = row.get("properties")
        held = held if isinstance(held, Mapping) else {}
        if not all(fits(held, wanted) for wanted in properties):
            raise PostHogErasureError(
                "PostHog listed a person for the filter in 'properties' whom it does not fit. "
                "Nothing was deleted: a filter that PostHog does not understand lists everybody."
            )
        yield Identifier("uuid", str(row.get("uuid")).lower(), position)


def check_filter(properties: object) -> None:
    """Refuse a filter whose answer cannot be checked here.

    :param properties: what was given.
    :raises PostHogSettingsError: if it is not a list of objects, or uses an operator that is not known here.
    """
    if not isinstance(properties, (list, tuple)) or not properties:
        raise PostHogSettingsError("properties", "is not a list of filters.", "Write [{'key': ..., 'value': ...}].")
    for entry in properties:
        if not isinstance(entry, Mapping) or not entry.get("key"):
            raise PostHogSettingsError("properties", "has an entry without 'key'.", "Give each its 'key' and 'value'.")
        if entry.get("operator", "exact") not in _OPERATORS or entry.get("type", "person") != "person":
            raise PostHogSettingsError(
                "properties",
                "has an operator or type whose answer cannot be checked.",
                f"Write type 'person' and one of {', '.join(_OPERATORS)}; or write query.",
            )
        if entry.get("operator", "exact") != "is_set" and not _has_value(entry.get("value")):
            raise PostHogSettingsError(
                "properties",
                "has an entry whose 'value' is missing or empty, which would fit everybody or nobody.",
                "Write the value that the persons have; or operator 'is_set' for all who have any.",
            )


def _has_value(value: object) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return bool(values) and all(item is not None and str(item).strip() for item in values)


_OPERATORS = ("exact", "icontains", "is_set")


def fits(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a person's properties fit one entry of a filter.

    :param held: the properties.
    :param wanted: the entry, whose operator :func:`check_filter` has let pass.
    """
    value, operator = held.get(str(wanted["key"])), wanted.get("operator", "exact")
    if operator == "is_set":
        return value is not None
    expected = wanted.get("value")
    options = expected if isinstance(expected, (list, tuple)) else [expected]
    texts = [_text(option) for option in options]
    if operator == "icontains":
        return any(text.lower() in _text(value).lower() for text in texts) and value is not None
    return value is not None and _text(value) in texts


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
