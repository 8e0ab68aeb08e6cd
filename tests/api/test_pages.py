"""Reading lists to their end while they change, and servers that lead round in circles."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.api import batch_exports, events, persons
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.pages import MAX_BARREN_PAGES, Pages
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import (
    PostHogDeprecatedEndpointWarning,
    PostHogIncompleteError,
    PostHogSettingsError,
    PostHogTransportError,
)
from tests.support.scripted import ScriptedServer, ok

HOST = ClientSettings(base_url="https://ph.example", api_key="phx_k", project_id=1)
PATH = "https://ph.example/api/projects/1/persons/"


class People:
    """A list of persons as PostHog pages it, which anything may happen to between two pages."""

    def __init__(self, count: int, *, cap: int = 1000, ghosts: int = 0) -> None:
        self.ids = [f"p{number}" for number in range(count)]
        self.cap = cap
        self.ghosts = ghosts  # so many of every page are filtered out after the LIMIT
        self.asked = 0

    def answer(self, call: Call[Any]) -> dict[str, Any]:
        self.asked += 1
        query = {key: value[0] for key, value in parse_qs(call.query_string()).items()}
        limit, offset = min(self.cap, int(query["limit"])), int(query.get("offset", 0))
        page = self.ids[offset : offset + limit]
        more = offset + limit < len(self.ids)
        return {
            "next": f"{PATH}?limit={limit}&offset={offset + limit}" if more else None,
            "results": [{"uuid": name} for name in page[self.ghosts :]],
        }


def read(people: People, *, limit: int, between: Any = lambda: None, max_items: int | None = None) -> list[str]:
    pages = Pages(persons.list(limit=limit), HOST, max_items)
    found: list[str] = []
    while pages.next is not None:
        found += [item["uuid"] for item in pages.receive(people.answer(pages.next))]
        between()
    return found


def test_all_of_a_list_that_stands_still() -> None:
    people = People(1234)
    assert read(people, limit=100) == people.ids
    assert people.asked <= 1234 / 90 + 2  # a tenth of overlap, no more


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11, 1000])
def test_every_size_of_page(limit: int) -> None:
    people = People(25)
    assert read(people, limit=limit) == people.ids


def test_a_server_that_cuts_the_limit_silently() -> None:
    people = People(950, cap=50)
    assert read(people, limit=1000) == people.ids


def test_a_short_page_is_not_the_last() -> None:
    people = People(1000, ghosts=3)
    assert len(read(people, limit=100)) >= 1000 - 3 * 12


def test_a_hundred_thousand_persons_while_some_are_deleted() -> None:
    people = People(100_000)
    dice = random.Random(7)
    deleted: set[str] = set()

    def delete() -> None:
        for _ in range(dice.choice([0, 1, 5, 90, 150, 700])):
            deleted.add(people.ids.pop(dice.randrange(len(people.ids))))

    found = read(people, limit=1000, between=delete)
    assert len(found) == len(set(found))
    assert set(people.ids) <= set(found)
    assert len(deleted) > 5000


@settings(max_examples=200)
@given(
    st.integers(0, 60),
    st.integers(2, 12),
    st.lists(st.tuples(st.sampled_from(["delete", "insert"]), st.integers(0, 70), st.integers(1, 25)), max_size=40),
)
def test_whatever_happens_in_between(count: int, limit: int, changes: list[tuple[str, int, int]]) -> None:
    people = People(count)
    there_all_the_time = set(people.ids)
    waiting = iter(changes)
    fresh = iter(range(10**6))

    def change() -> None:
        kind, place, number = next(waiting, ("none", 0, 0))
        if kind == "delete":
            there_all_the_time.difference_update(people.ids[place : place + number])
            del people.ids[place : place + number]
        elif kind == "insert":
            people.ids[0:0] = [f"new{next(fresh)}" for _ in range(number)]  # newest first, as PostHog lists

    found = read(people, limit=limit, between=change)
    assert len(found) == len(set(found))
    assert there_all_the_time <= set(found)


@pytest.mark.parametrize("max_items", [1, 99, 100, 101, 250])
def test_no_more_than_asked_for(max_items: int) -> None:
    people = People(1000)
    assert read(people, limit=100, max_items=max_items) == people.ids[:max_items]
    assert people.asked <= max_items // 90 + 1


def test_what_can_not_be_paged_is_refused() -> None:
    with pytest.raises(PostHogSettingsError, match="has no pages"):
        Pages(persons.retrieve("018f0000-0000-0000-0000-000000000000"), HOST)
    with pytest.raises(PostHogSettingsError, match="max_items"):
        Pages(persons.list(), HOST, 0)


def page(names: list[str], address: str | None) -> dict[str, Any]:
    return {"results": [{"uuid": name} for name in names], "next": address}


@pytest.mark.parametrize(
    "address",
    [f"{PATH}?limit=100&offset=0", f"{PATH}?limit=100", f"{PATH}?limit=100&offset=nonsense"],
)
def test_a_next_page_that_is_no_further_on(address: str) -> None:
    pages = Pages(persons.list(limit=100), HOST)
    with pytest.raises(PostHogIncompleteError, match="no further on"):
        pages.receive(page(["a"], address))


def test_a_server_that_never_ends() -> None:
    pages = Pages(persons.list(limit=100), HOST)
    addresses = (f"{PATH}?limit=100&offset={offset}" for offset in itertools.count(100, 100))
    for _ in range(MAX_BARREN_PAGES):
        pages.receive(page(["a"], next(addresses)))
    with pytest.raises(PostHogIncompleteError, match="nothing new"):
        pages.receive(page(["a"], next(addresses)))


def test_a_cursor_that_comes_twice() -> None:
    batch_export = "018f0000-0000-0000-0000-000000000000"
    path = f"https://ph.example/api/projects/1/batch_exports/{batch_export}/backfills/"
    pages = Pages(batch_exports.backfills(batch_export), HOST)
    pages.receive(page(["a"], f"{path}?cursor=x"))
    assert pages.next is not None
    assert pages.next.query_string() == "cursor=x"
    with pytest.raises(PostHogIncompleteError, match="same next page twice"):
        pages.receive(page(["b"], f"{path}?cursor=x"))


def test_a_list_of_cursors_is_read_to_its_last_page() -> None:
    batch_export = "018f0000-0000-0000-0000-000000000000"
    path = f"https://ph.example/api/projects/1/batch_exports/{batch_export}/backfills/"
    pages = Pages(batch_exports.backfills(batch_export), HOST)
    found: list[str] = []
    for names, address in ((["a", "b"], f"{path}?cursor=x"), (["c"], f"{path}?cursor=y"), (["d"], None)):
        assert pages.next is not None
        found += [item["uuid"] for item in pages.receive(page(names, address))]
    assert pages.next is None
    assert found == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/api/projects/1/persons/?offset=100",
        "https://ph.example/api/projects/1/exports/?offset=100",
    ],
)
def test_another_host_or_another_list_gets_no_key(address: str) -> None:
    pages = Pages(persons.list(limit=100), HOST)
    with pytest.raises(PostHogTransportError):
        pages.receive(page(["a"], address))


@pytest.mark.parametrize("base", ["http://ph.example", "https://ph.example:8443", "http://ph.example:8000"])
def test_the_same_host_behind_a_proxy(base: str) -> None:
    with pytest.warns(PostHogDeprecatedEndpointWarning):
        call = events.list(after="2026-01-01T00:00:00Z", before="2026-01-02T00:00:00Z")
    pages = Pages(call, HOST)
    pages.receive(page(["a"], f"{base}/api/projects/1/events/?after=b&limit=100"))
    assert pages.next is not None
    assert pages.next.path == "/api/projects/1/events/"


def test_both_clients_read_all_pages(server: ScriptedServer) -> None:
    mine = ClientSettings(base_url=server.url, api_key="phx_k", project_id=1)
    path = f"{server.url}/api/projects/1/persons/"

    def script() -> None:
        server.script(
            ok(page(["a", "b"], f"{path}?limit=2&offset=2")),
            ok(page(["b", "c"], f"{path}?limit=2&offset=3")),
            ok(page(["c"], None)),
        )

    async def read_async() -> list[str]:
        async with AsyncClient(mine) as client:
            return [item["uuid"] async for item in client.pages(persons.list(limit=2))]

    script()
    with Client(mine) as client:
        assert [item["uuid"] for item in client.pages(persons.list(limit=2))] == ["a", "b", "c"]
    asked = [urlsplit(request.path).query for request in server.requests]
    assert asked == ["limit=2", "limit=2&offset=1", "limit=2&offset=2"]
    script()
    assert asyncio.run(read_async()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "address", ["http://[::1/x", "https://other.example/api/?search=jane@example.com", "//[", "\ud800"]
)
def test_a_next_page_that_can_not_be_asked_for_is_told_so(address: str) -> None:
    pages = Pages(persons.list(limit=5), HOST)
    with pytest.raises(PostHogTransportError, match="the next page") as caught:
        pages.receive({"results": [{"id": 1}], "next": address})
    assert "jane" not in str(caught.value)
