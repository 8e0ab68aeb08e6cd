"""An HTML page of a person's data for that person; all of it is untrusted, so everything is escaped."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

#: How many events the page shows, the newest ones; the files have all.
SHOWN = 500
_HEAD = (
    "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><meta http-equiv='Content-Security-Policy' "
    "content=\"default-src 'none'; style-src 'unsafe-inline'\"><meta name='viewport' content='width=device-width'>"
    "<title>Personal data in PostHog</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:70em;margin:2em "
    "auto;padding:0 1em}table{border-collapse:collapse;width:100%}th,td{border:1px solid #ccc;padding:.3em .6em;"
    "text-align:left;vertical-align:top;overflow-wrap:anywhere}pre{white-space:pre-wrap;margin:0}</style></head><body>"
)


class Events:
    """The events on the page: how many of each name, and the newest ones."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.newest: deque[Mapping[str, Any]] = deque(maxlen=SHOWN)

    def add(self, event: Mapping[str, Any]) -> None:
        """Take an event, in the order of time.

        :param event: the event.
        """
        self.names[str(event.get("event"))] += 1
        self.newest.append(event)


def page(facts: Mapping[str, Any], parts: Mapping[str, Sequence[Mapping[str, Any]]], events: Events) -> Iterator[str]:
    """Yield the page's HTML.

    :param facts: what the manifest says: ``host``, ``project_id``, ``until``, ``counts``, ``not_looked_at``.
    :param parts: rows by what they are about.
    :param events: of the events.
    """
    yield _HEAD
    yield "<h1>Personal data in PostHog</h1>"
    yield _table(
        ("", ""),
        [
            ("PostHog", f"{facts['host']}, project {facts['project_id']}"),
            ("As of", facts["until"]),
            *((name.replace("_", " ").capitalize(), f"{count:,}") for name, count in facts["counts"].items()),
        ],
    )
    yield from (f"<p>Not looked at: {_text(name)} ({_text(why)}).</p>" for name, why in facts["not_looked_at"].items())
    for title, rows in parts.items():
        yield f"<h2>{_text(title.replace('_', ' ').capitalize())}</h2>"
        yield _rows(rows)
    yield "<h2>Events</h2>"
    yield _table(("Event", "How many"), [(name, f"{count:,}") for name, count in events.names.most_common()])
    yield f"<h2>The newest {len(events.newest):,} events</h2><p>All of them are in the folder <code>events</code>.</p>"
    yield _rows(list(reversed(events.newest)))
    yield "</body></html>\n"


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "<p>None.</p>"
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _table(names, [[row.get(name) for name in names] for row in rows])


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    titles = "".join(f"<th>{_text(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"


def _cell(value: Any) -> str:  # noqa: ANN401 - JSON
    if isinstance(value, (dict, list)):
        return f"<pre>{_text(json.dumps(value, indent=1, ensure_ascii=False))}</pre>"
    return "" if value is None else _text(value)


def _text(value: object) -> str:
    return escape(str(value), quote=True)
