"""ClickHouse's rows -> the JSON values PostHog answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

Convert = Callable[[object], object]
_TIME64 = re.compile(r"DateTime64\((\d)(?:, '([^']*)')?\)")


def read_rows(payload: bytes, zone: str) -> tuple[list[str], list[list[object]]]:
    """Read an answer in ``JSONCompactEachRowWithNamesAndTypes`` with ISO times.

    :param payload: what ClickHouse wrote
    :param zone: the project's time zone, for DateTime64 columns that name none
    :returns: the columns' types as PostHog reports them, and the rows
    """
    _, kinds, body = payload.split(b"\n", 2)
    types: list[str] = json.loads(kinds)
    # line breaks inside of text are escaped: each one left ends a row
    listed = b"[" + body.rstrip(b"\n").replace(b"\n", b",") + b"]"
    rows: list[list[object]] = json.loads(listed.decode(errors="replace"))
    for place, kind in enumerate(types):
        convert = converter(kind, zone)
        if convert is not None:
            for row in rows:
                row[place] = convert(row[place])
    return [reported_type(kind) for kind in types], rows


def reported_type(kind: str) -> str:
    """Write a type as PostHog reports it: a DateTime says nothing of its zone.

    :param kind: ClickHouse's type
    """
    return re.sub(r"DateTime\('[^']*'\)", "DateTime", kind)


def converter(kind: str, zone: str) -> Convert | None:
    """Give the conversion of one column's values, None if they are right as they are.

    :param kind: ClickHouse's type
    :param zone: the project's time zone
    """
    name, inner = _split(kind)
    if name == "Nullable":
        convert = converter(inner[0], zone)
        return None if convert is None else lambda value: None if value is None else convert(value)
    if name == "LowCardinality":
        return converter(inner[0], zone)
    if name == "Array":
        return _array(converter(inner[0], zone))
    if name == "Tuple":
        return _tuple([converter(item, zone) for item in inner])
    if name == "DateTime":
        return lambda value: str(value).removesuffix("Z")
    if name == "DateTime64":
        return _time(kind, zone)
    if name in ("Float64", "Float32", "BFloat16"):
        return lambda value: float(value) if isinstance(value, int) else value
    if name.startswith("Decimal"):
        return str
    return None


def _split(kind: str) -> tuple[str, list[str]]:
    """``Map(String, Array(T))`` -> ``Map``, its two parts; the names of a named tuple's parts fall away."""
    name, _, rest = kind.partition("(")
    depth, parts = 0, [""]
    for sign in rest[:-1]:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    stripped = [part.strip() for part in parts]
    return name, [re.sub(r"^(?:[A-Za-z_]\w*|`[^`]*`) (?=[A-Z])", "", part) for part in stripped]


def _array(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda value: [convert(item) for item in _items(value)]


def _tuple(converts: list[Convert | None]) -> Convert | None:
    if not any(converts):
        return None
    return lambda value: [
        item if convert is None else convert(item) for convert, item in zip(converts, _items(value), strict=True)
    ]


def _items(value: object) -> Iterator[object]:
    return iter(value) if isinstance(value, list) else iter(())


def _time(kind: str, project_zone: str) -> Convert:
    match = _TIME64.match(kind)
    digits = int(match.group(1)) if match else 6
    zone = (match.group(2) if match else None) or project_zone
    if zone == "UTC":
        return _utc if digits == 6 else lambda value: _utc(_six_digits(str(value)))
    info = ZoneInfo(zone)

    def shift(value: object) -> object:
        moment = datetime.fromisoformat(_six_digits(str(value))[:-1] + "+00:00")
        return moment.astimezone(info).isoformat()

    return shift


def _utc(value: object) -> object:
    text = str(value)
    return text[:-8] + "Z" if text.endswith(".000000Z") else text


def _six_digits(text: str) -> str:
    """``...:00.5Z`` and ``...:00Z`` -> ``...:00.500000Z``, which every Python reads."""
    whole, _, fraction = text[:-1].partition(".")
    return f"{whole}.{fraction[:6]:<06}Z" if fraction else f"{whole}.000000Z"
