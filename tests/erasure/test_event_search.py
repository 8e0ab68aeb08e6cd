"""Searches in events: whole, within the size of a statement, and along PostHog's key where that spares something."""

from __future__ import annotations

from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.erasure.event_search import MAX_HASHES, Search, Statement, of_ids, whole_history

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
#: PostHog's longest statement.
LONGEST = 262_144
BOTH = Statement("SELECT 1 FROM {table} WHERE {where}", ("events", "flag_evaluations"))
NAMES = st.lists(
    st.one_of(st.text("a\\'\n\u4f60\U0001f600", min_size=50, max_size=400), st.uuids().map(str)),
    max_size=300,
    unique=True,
)


def printed(search: Search) -> int:
    """The bytes of a statement with its values, as ClickHouse is sent it."""
    sql = BOTH.sql(search)
    length = len(sql)
    for name, value in search.bound(sql, NOW).items():
        values = value if isinstance(value, list) else [value]
        escaped = [each.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") for each in values]
        text = ", ".join(f"'{each}'" for each in escaped)
        length += sql.count(f"{{{name}}}") * len(text.encode())
    return length


@given(st.lists(st.uuids().map(str), max_size=1000, unique=True), NAMES)
def test_each_id_is_searched_once_and_each_statement_fits(uuids: list[str], ids: list[str]) -> None:
    searches = [*whole_history(uuids, ids)]
    assert [one for search in searches for one in search.uuids] == uuids
    assert [one for search in searches for one in search.ids] == ids
    along = [*of_ids(ids, ((None, NOW), (NOW, None)))]
    assert [one for search in along for one in search.ids] == ids
    assert all(printed(search) < LONGEST for search in (*searches, *along))


def test_few_ids_are_searched_along_the_key_and_many_beside_the_uuids() -> None:
    few = [*whole_history(["u"], [f"id-{number}" for number in range(MAX_HASHES)])]
    many = [*whole_history(["u"], [f"id-{number}" for number in range(MAX_HASHES + 1)])]
    assert ["cityHash64" in search.condition() for search in few] == [False, True]
    assert [search.condition() for search in many] == ["toString(person_id) IN {uuids} OR distinct_id IN {ids}"]


@given(st.lists(st.uuids().map(str), max_size=9), NAMES)
def test_fewer_persons_are_all_of_them_down_to_single_ones(uuids: list[str], ids: list[str]) -> None:
    left = [Search(uuids, ids)] if uuids or ids else []
    single = []
    while left:
        one = left.pop()
        parts = one.fewer()
        left += parts
        single += [] if parts else [one]
    assert sorted(each for search in single for each in search.uuids) == sorted(uuids)
    assert sorted(each for search in single for each in search.ids) == sorted(ids)
    assert all(len(search.uuids) + len(search.ids) == 1 for search in single)
