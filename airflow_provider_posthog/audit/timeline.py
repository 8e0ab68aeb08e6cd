"""A small time line of the records: SVG inside the report's HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from airflow_provider_posthog.api.server_time import moment

WIDTH = 720
_LEFT, _RIGHT = 40, 680
_AXIS = 96
#: Labels stand in rows above each other, so that those of one moment can be read.
_ROWS = (84, 66, 48, 30)
_ROOM = 108  # pixels that a label takes
_COLOURS = {
    "verified": "#1a7f37",
    "closed": "#1a7f37",
    "failed": "#b42318",
    "accepted": "#0b5cad",
    "dry_run": "#6b6b6b",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Mark:
    """A moment in the picture.

    :param at: when: ISO text.
    :param kind: what: the record's kind.
    :param good: whether it is good news, as a closing record that says VERIFIED.
    """

    at: str
    kind: str
    good: bool = True


def text(value: object) -> str:
    """Escape anything for HTML, as text and in quoted attributes.

    :param value: what is to be shown.
    """
    return escape(_NOT_XML.sub("\ufffd", str(value)), quote=True)


def timeline(marks: Sequence[Mark]) -> str:
    """Draw moments on a line, in proportion to the time between them; each kind is labelled where it comes first.

    :param marks: the moments, in order.
    :returns: an ``<svg>`` element; nothing without moments that can be read.
    """
    placed = [(when, mark) for mark in marks for when in [moment(mark.at)] if when is not None]
    if not placed:
        return ""
    first, last = min(when for when, _ in placed), max(when for when, _ in placed)
    parts = [f'<line x1="{_LEFT}" y1="{_AXIS}" x2="{_RIGHT}" y2="{_AXIS}" stroke="#8c8c8c" stroke-width="2"/>']
    row_ends = [-float(_ROOM)] * len(_ROWS)
    labelled: set[str] = set()
    for when, mark in placed:
        x = _place(when, first, last)
        parts.append(f'<circle cx="{x:.1f}" cy="{_AXIS}" r="5" fill="{_colour(mark)}"/>')
        if mark.kind not in labelled:
            labelled.add(mark.kind)
            parts.append(_label(x, mark, row_ends))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 130" width="100%" role="img" '
        f'aria-label="Time line from {text(_day(first))} to {text(_day(last))}">{"".join(parts)}'
        f'<text x="{_LEFT}" y="120" font-size="12">{text(_day(first))}</text>'
        f'<text x="{_RIGHT}" y="120" font-size="12" text-anchor="end">{text(_day(last))}</text></svg>'
    )


def _place(when: datetime, first: datetime, last: datetime) -> float:
    whole = (last - first).total_seconds()
    share = (when - first).total_seconds() / whole if whole else 0.5
    return _LEFT + share * (_RIGHT - _LEFT)


def _label(x: float, mark: Mark, row_ends: list[float]) -> str:
    """Write a label into the lowest row that has room for it, or else into the emptiest one."""
    row = next((number for number, end in enumerate(row_ends) if x - end >= _ROOM), row_ends.index(min(row_ends)))
    row_ends[row] = x
    anchor = "start" if x < 100 else "end" if x > WIDTH - 100 else "middle"
    y = _ROWS[row]
    return (
        f'<line x1="{x:.1f}" y1="{y + 3}" x2="{x:.1f}" y2="{_AXIS - 5}" stroke="#c8c8c8"/>'
        f'<text x="{x:.1f}" y="{y}" font-size="12" text-anchor="{anchor}">{text(mark.kind.replace("_", " "))}</text>'
    )


def _colour(mark: Mark) -> str:
    return _COLOURS.get(mark.kind, "#4a4a4a") if mark.good else _COLOURS["failed"]


def _day(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")
