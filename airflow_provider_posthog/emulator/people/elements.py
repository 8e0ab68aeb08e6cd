"""Elements: what was clicked, as text in events and as objects of the API."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field

from airflow_provider_posthog.emulator.http.envelopes import Json

# a tag with its classes, then attributes: a.nav-link:href="/x"nth-child="1"
_ELEMENT = re.compile(r'(?P<tag>[^.:;"]*)(?P<classes>(?:\.[^:;"]*)?):?(?P<rest>(?:[^;"]|"(?:\\.|[^"\\])*")*)(?:;|$)')
_ATTRIBUTE = re.compile(r'([\w$:.-]+?)="((?:\\.|[^"\\])*)"')
FIELDS = ("text", "tag_name", "attr_class", "href", "attr_id", "nth_child", "nth_of_type", "attributes", "order")


def parse_chain(chain: str) -> list[Json]:
    """Return the elements of an event, the one that was clicked first.

    :param chain: the column ``elements_chain`` of the event.
    """
    matches = [match for match in _ELEMENT.finditer(chain) if match.group(0)]
    return [_element(match, order) for order, match in enumerate(matches)]


def _element(match: re.Match[str], order: int) -> Json:
    values = {name: value.replace('\\"', '"') for name, value in _ATTRIBUTE.findall(match["rest"])}
    return {
        "event": None,
        "text": values.get("text"),
        "tag_name": match["tag"] or None,
        "attr_class": [name for name in match["classes"].split(".") if name] or None,
        "href": values.get("href"),
        "attr_id": values.get("attr_id"),
        "nth_child": int(values.get("nth-child") or 0),
        "nth_of_type": int(values.get("nth-of-type") or 0),
        "attributes": {name: value for name, value in values.items() if name.startswith("attr__")},
        "order": order,
    }


@dataclass
class ElementStore:
    """The table behind ``elements/``, which PostHog has not filled for years: only the API puts something there."""

    elements: dict[int, Json] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, values: Json) -> Json:
        """Keep a new element and return it.

        :param values: its fields, all optional.
        """
        element = {name: values.get(name) for name in FIELDS}
        element["attributes"] = element["attributes"] or {}
        self.elements[next(self._numbers)] = element
        return element
