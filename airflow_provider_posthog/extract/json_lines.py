"""Write Arrow tables as JSON lines, column by column: no row becomes a Python object."""

from __future__ import annotations

from collections.abc import Collection

import orjson  # noqa: TID253 - this module is imported when a task runs
import pyarrow as pa  # noqa: TID253
import pyarrow.compute as pc  # noqa: TID253

#: What JSON writes with a backslash; the backslash itself first. All other signs below a space follow.
_ESCAPES = [("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")]
_ESCAPES += [(chr(code), f"\\u{code:04x}") for code in range(32) if chr(code) not in "\n\r\t"]
_CONTROL = r"[\x00-\x1f]"
#: Signs that JSON leaves alone, but that many readers take for the end of a line.
_LINE_ENDS = ("\u0085", "\u2028", "\u2029")


def lines_of(table: pa.Table, nested: Collection[str], unchecked: Collection[str] = ()) -> pa.Buffer:
    """Write a table as JSON lines, in UTF-8.

    Times are ISO text in UTC with six digits, dates ISO text, decimals numbers; NaN and infinity, which JSON lacks, are
    null.

    :param table: the rows.
    :param nested: columns of JSON text that become JSON within the line; a text in them that is neither an object nor
        a list stays a text, and an empty one is null.
    :param unchecked: those of them that PostHog itself has written as JSON. Texts of all others may only look like it
        (``[sic]``), or be made to look like it by whoever sends events: ``{}, "distinct_id": "forged", "x": {}``.
    """
    # Made here: the first scalar of a process imports pandas, if it is there.
    null = pa.scalar("null", pa.large_string())
    parts: list[pa.Scalar | pa.Array] = []
    for number, field in enumerate(table.schema):
        lead = ("," if number else "{") + _quoted(pa.array([field.name], pa.large_string()))[0].as_py() + ":"
        column = table.column(number).combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # of no rows at all
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], field.type)
        parts += [
            pa.scalar(lead, pa.large_string()),
            pc.fill_null(_json(column, field.name in nested, field.name in unchecked), null),
        ]
    if not parts or not table.num_rows:
        return pa.py_buffer(b"")
    lines = pc.binary_join_element_wise(*parts, pa.scalar("}\n", pa.large_string()), pa.scalar("", pa.large_string()))
    for sign in _LINE_ENDS:
        if _holds(lines, sign):
            lines = pc.replace_substring(lines, sign, f"\\u{ord(sign):04x}")
    return _bytes(lines)


def iso_times(column: pa.Array) -> pa.Array:
    """Return times as ISO text in UTC, such as ``2026-11-01T00:00:00.000000Z``.

    :param column: of a type ``timestamp``; without a time zone it is UTC.
    """
    text = column.cast(pa.timestamp("us")).cast(pa.large_string())
    return pc.binary_join_element_wise(
        pc.replace_substring(text, " ", "T", max_replacements=1),
        pa.scalar("Z", pa.large_string()),
        pa.scalar("", pa.large_string()),
    )


def _json(column: pa.Array, is_nested: bool, is_json: bool) -> pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _wrapped(iso_times(column))
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, kind)).cast(pa.large_string())
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
        return column.cast(pa.large_string())
    text = column.cast(pa.large_string())
    if not is_nested:
        return _quoted(text)
    # A line break in valid JSON is only ever a space between its parts.
    flat = pc.replace_substring_regex(text, r"[\r\n]", " ") if _has(text, r"[\r\n]") else text
    fits = pc.match_substring_regex(flat, r"(?s)^\s*(\{.*\}|\[.*\])\s*$")
    if not is_json:  # as it came: what breaks a line within a text is not JSON, and must not become it
        fits = pc.and_(fits, pa.array(map(_is_json, text.to_pylist()), pa.bool_()))
    if pc.all(fits, min_count=0).as_py() is True and not fits.null_count:
        return flat
    empty = pc.equal(pc.utf8_trim_whitespace(flat), pa.scalar("", pa.large_string()))
    return pc.if_else(fits, flat, pc.if_else(empty, pa.scalar(None, pa.large_string()), _quoted(text)))


def _is_json(text: str | None) -> bool:
    try:
        orjson.loads(text or "")
    except ValueError:
        return False
    return True


def _quoted(text: pa.Array) -> pa.Array:
    controls = _has(text, _CONTROL)
    for sign, escaped in _ESCAPES[: len(_ESCAPES) if controls else 2]:
        if _holds(text, sign):
            text = pc.replace_substring(text, sign, escaped)
    return _wrapped(text)


def _wrapped(text: pa.Array) -> pa.Array:
    quote = pa.scalar('"', pa.large_string())
    return pc.binary_join_element_wise(quote, text, quote, pa.scalar("", pa.large_string()))


def _has(text: pa.Array, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(text, pattern)).as_py())


def _holds(text: pa.Array, sign: str) -> bool:
    return bool(pc.any(pc.match_substring(text, sign)).as_py())


def _bytes(lines: pa.Array) -> pa.Buffer:
    """Return the text of an array, which Arrow stores without gaps."""
    _, offsets, data = lines.buffers()
    ends = pa.Array.from_buffers(pa.int64(), len(lines) + 1, [None, offsets], offset=lines.offset)
    first, last = ends[0].as_py(), ends[len(lines)].as_py()
    return data.slice(first, last - first)
