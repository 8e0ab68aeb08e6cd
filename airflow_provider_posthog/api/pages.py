"""Read a list to its end, page by page, without sockets: what to request next, and which items are new.

PostHog's lists change while they are read. With ``limit`` and ``offset`` a deletion moves everything behind it one
place forward, over the edge of the page that was just read. So each page is requested with an overlap to the one
before: it must contain an item that was read already. If it does not, more was deleted than the overlap holds, and the
page is requested again from further back. An item that stays in the list comes exactly once. (Pages of one item cannot
overlap.)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogSettingsError,
    PostHogTransportError,
    clean,
)

#: How many pages in a row may hold nothing new before a list is taken to repeat without end.
MAX_BARREN_PAGES = 20
_DEFAULT_LIMIT = 100


class Pages:
    """The state of reading one list.

    :param call: the call of the first page.
    :param settings: whose host ``next`` must lead to.
    :param max_items: how many items to read at the most.
    :raises PostHogSettingsError: if the call is not a list.
    """

    def __init__(self, call: Call[Any], settings: ClientSettings, max_items: int | None = None) -> None:
        if call.paging == "none":
            raise PostHogSettingsError("call", f"is {call.name}, which has no pages.", "Send it with send().")
        if max_items is not None and max_items < 1:
            raise PostHogSettingsError(
                "max_items", f"is {max_items}, which is less than 1.", "Write 1 or more, or None."
            )
        self._first = call
        self._settings = settings
        self._left = max_items
        limit = call.query.get("limit")
        self._wanted_overlap = max(1, (limit if isinstance(limit, int) else _DEFAULT_LIMIT) // 10)
        self._overlap = 0  # of the page that `next` asks for
        self._start = self._offset = _int(call.query.get("offset"))
        self._back = self._wanted_overlap
        self._seen: set[int] = set()
        self._addresses: set[str] = set()
        self._barren = 0
        self.next: Call[Any] | None = call

    def receive(self, page: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - what Call.read made of an answer
        """Take the page that :attr:`next` brought; return its new items, and set :attr:`next` for the one after.

        :param page: the page, with ``results`` and ``next``.
        :raises PostHogIncompleteError: if the pages repeat without end.
        :raises PostHogTransportError: if ``next`` leads to another host.
        """
        items = [item for item in page.get("results") or [] if isinstance(item, dict)]
        keys = [_key(item) for item in items]
        if self._overlap and self._offset > self._start and self._seen.isdisjoint(keys):
            self._step_back()
            return []
        new = []
        for item, key in zip(items, keys, strict=True):
            if key not in self._seen:
                self._seen.add(key)
                new.append(item)
        self._barren = 0 if new else self._barren + 1
        self._go_on(page.get("next"))
        return self._within_limit(new)

    def _within_limit(self, new: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self._left is None:
            return new
        within = new[: self._left]
        self._left -= len(within)
        if self._left == 0:
            self.next = None
        return within

    def _go_on(self, address: object) -> None:
        self._back = self._wanted_overlap
        if not isinstance(address, str) or not address:
            self.next = None
            return
        if self._barren >= MAX_BARREN_PAGES:
            raise self._circle(f"{self._barren} pages in a row brought nothing new")
        query = self._checked(address)
        if self._first.paging == "offset":
            # Use the server's own count: a page may be shorter than its limit.
            after = _int(query.get("offset", [None])[0])
            if after <= self._offset:
                raise self._circle("the next page is no further on")
            self._overlap = min(self._wanted_overlap, after - self._offset - 1)
            self._ask_from(after - self._overlap)
            return
        if address in self._addresses:
            raise self._circle("PostHog named the same next page twice")
        self._addresses.add(address)
        self.next = replace(self._first, path=urlsplit(address).path, query=dict(query))

    def _step_back(self) -> None:
        self._back *= 2
        self._ask_from(max(self._start, self._offset - self._back))

    def _ask_from(self, offset: int) -> None:
        self._offset = offset
        self.next = replace(self._first, query={**self._first.query, "offset": offset or None})

    def _circle(self, why: str) -> PostHogIncompleteError:
        return PostHogIncompleteError(f"{self._first.name}: {why}, so the list cannot be read to its end.")

    def _checked(self, address: str) -> Mapping[str, list[str]]:
        """Return the query of ``next``, which must lead to the same list on the same host.

        Behind a proxy it may carry another scheme or port; only its path and query are used.
        """
        try:
            parts = urlsplit(address)
        except ValueError:
            raise PostHogTransportError(f"{self._first.name}: the address of the next page cannot be read") from None
        mine = urlsplit(self._settings.base_url).hostname
        if parts.hostname is not None and parts.hostname != mine:
            raise PostHogTransportError(
                f"{self._first.name}: the next page is on another host ({clean(parts.hostname)}), which gets no key"
            )
        if not parts.path.rstrip("/").endswith(self._first.path.rstrip("/")):
            raise PostHogTransportError(f"{self._first.name}: the next page is of another list ({clean(parts.path)})")
        return parse_qs(parts.query, keep_blank_values=True)


def _int(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        return 0


def _key(item: Mapping[str, Any]) -> int:
    """Return a key that identifies an item; a number, as a hundred thousand of them are kept."""
    for name in ("uuid", "id", "group_key", "hash"):
        if item.get(name) not in (None, ""):
            return hash((name, str(item[name]), item.get("group_type_index")))
    return hash(json.dumps(item, sort_keys=True, default=str))
