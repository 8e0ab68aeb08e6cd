"""A bar chart as SVG, written by hand: no package for it, and it can be read as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT, ROW = 860, 250, 150, 26
#: The colour of each kind of bar, and what the legend calls it.
_KINDS = {
    "ours": ("#1d4aff", "this provider"),
    "limit": ("#7a8394", "a bare loop: no count, no proof, no retry"),
    "peer": ("#b7bdc9", "other tools"),
}


@dataclass(frozen=True)
class Bar:
    """One bar.

    :param name: at its left.
    :param value: its length.
    :param text: at its right.
    :param kind: ``ours``, ``limit`` or ``peer``.
    """

    name: str
    value: float
    text: str
    kind: str = "peer"


def chart(panels: Sequence[tuple[str, Sequence[Bar]]], notes: Sequence[str]) -> str:
    """Draw panels of bars, one below the other, under a legend of the colours.

    :param panels: each with its title.
    :param notes: the last lines.
    """
    parts, top = _legend(18), 40
    for title, bars in panels:
        parts.append(f'<text x="16" y="{top + 14}" class="title">{escape(title)}</text>')
        top += 30
        most = max((bar.value for bar in bars), default=1.0) or 1.0
        for bar in bars:
            parts.extend(_drawn(bar, top, (WIDTH - LEFT - RIGHT) * bar.value / most))
            top += ROW
        top += 18
    for note in notes:
        parts.append(f'<text x="16" y="{top + 6}" class="note">{escape(note)}</text>')
        top += 18
    height = top + 4
    style = (
        "text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1b2130}"
        ".title{font-weight:600;font-size:15px}.note{fill:#5b6475;font-size:12px}.ours{font-weight:600}"
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    title = escape(", ".join(title for title, _ in panels))
    lines = [
        f'{head} role="img" aria-label="{title}">',
        f"<style>{style}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _legend(top: int) -> list[str]:
    parts, left = [], 16
    for colour, name in _KINDS.values():
        parts.append(f'<rect x="{left}" y="{top - 2}" width="12" height="12" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{left + 18}" y="{top + 9}" class="note">{escape(name)}</text>')
        left += 50 + 6 * len(name)
    return parts


def _drawn(bar: Bar, top: int, width: float) -> list[str]:
    colour, _ = _KINDS[bar.kind]
    middle, mark = top + 13, ' class="ours"' if bar.kind == "ours" else ""
    width = max(width, 2.0)
    return [
        f'<text x="{LEFT - 10}" y="{middle + 4}" text-anchor="end"{mark}>{escape(bar.name)}</text>',
        f'<rect x="{LEFT}" y="{top + 3}" width="{width:.1f}" height="{ROW - 8}" rx="2" fill="{colour}"/>',
        f'<text x="{LEFT + width + 8:.1f}" y="{middle + 4}"{mark}>{escape(bar.text)}</text>',
    ]
