"""From rows to events: what PostHog would refuse is refused here, and the same row is the same event in each try."""

from __future__ import annotations

import json
import uuid
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.capture.events import ILLEGAL_IDS, Event, Recipe, shown
from airflow_provider_posthog.capture.values import RefusedError, moment, plain, written
from airflow_provider_posthog.exceptions import PostHogSettingsError

NOW = datetime(2026, 11, 29, 12, tzinfo=timezone.utc)
COLUMNS = ["id", "user", "at", "amount"]
ORDERS = Recipe(event="order", distinct_id="user", timestamp="at", key=["id"])


def read(recipe: Recipe = ORDERS, columns: list[str] = COLUMNS, **row: Any) -> Event:
    whole = {"id": 1, "user": "u1", "at": NOW, "amount": 5, **row}
    return recipe.reader(columns, NOW).read([whole.get(name) for name in columns], NOW)


def reason(recipe: Recipe = ORDERS, **row: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        read(recipe, [*COLUMNS, *(name for name in row if name not in COLUMNS)], **row)
    return caught.value.reason


def test_a_row_becomes_an_event_with_all_other_columns_as_properties() -> None:
    found = read(amount=Decimal("5.50"))
    assert json.loads(found.body) == {
        "event": "order",
        "uuid": shown(found.uuid),
        "distinct_id": "u1",
        "timestamp": "2026-11-29T12:00:00.000000Z",
        "properties": {"id": 1, "amount": 5.5},
    }
    assert uuid.UUID(bytes=found.uuid).version == 5
    assert found.day == (NOW.date() - date(1970, 1, 1)).days


def test_a_uuid_follows_from_the_key_and_the_event_and_from_nothing_else() -> None:
    assert read().uuid == read(amount=6, user="u2", at=NOW - timedelta(days=1)).uuid
    assert len({read().uuid, read(id=2).uuid, read(id="1").uuid}) == 3
    other = Recipe(event="refund", distinct_id="user", timestamp="at", key=["id"])
    assert read(other).uuid != read().uuid
    assert shown(read().uuid) == "b6740d61-94bb-521d-9bda-438bb79ee83c", "uuids of earlier releases stay as they are"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, Decimal("1.00")),
        (1.5, Decimal("1.50")),
        (-0.0, 0),
        (NOW, NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))),
        (uuid.UUID(int=7), str(uuid.UUID(int=7))),
        (frozenset({"a", "b"}), {"b", "a"}),
    ],
)
def test_a_key_is_the_same_whatever_type_a_database_gives_it(one: Any, other: Any) -> None:
    assert read(id=one).uuid == read(id=other).uuid


@pytest.mark.parametrize("value", [42, 42.0, Decimal("42"), Decimal("42.0"), "42"])
def test_a_whole_number_is_the_same_id_in_each_type(value: Any) -> None:
    assert json.loads(read(user=value).body)["distinct_id"] == "42"


@given(st.lists(st.one_of(st.integers(), st.text(), st.none(), st.booleans()), min_size=1, max_size=3))
def test_keys_that_differ_make_uuids_that_differ(key: list[Any]) -> None:
    columns = [*COLUMNS, *(f"k{number}" for number in range(len(key)))]
    recipe = Recipe(event="order", distinct_id="user", timestamp="at", key=["id", *columns[4:]])
    row = dict(zip(columns[4:], key, strict=True))
    assert read(recipe, columns, **row).uuid == read(recipe, columns, **row).uuid
    assert read(recipe, columns, **row).uuid != read(recipe, columns, **{**row, "k0": [key[0]]}).uuid


@pytest.mark.parametrize("word", sorted(ILLEGAL_IDS))
def test_each_illegal_id_is_refused_in_any_case(word: str) -> None:
    assert reason(user=word) == reason(user=f" {word.upper()} ") == "invalid_distinct_id"


def test_there_are_twenty_illegal_ids() -> None:
    assert len(ILLEGAL_IDS) == 20


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"user": None}, "missing_distinct_id"),
        ({"user": "  "}, "missing_distinct_id"),
        ({"user": 0}, "invalid_distinct_id"),
        ({"user": "x" * 201}, "distinct_id_too_large"),
        ({"at": None}, "missing_timestamp"),
        ({"at": NOW.replace(tzinfo=None)}, "naive_timestamp"),
        ({"at": "2026-11-29T12:00:00"}, "naive_timestamp"),
        ({"at": date(2026, 11, 29)}, "naive_timestamp"),
        ({"at": "yesterday"}, "invalid_event_timestamp"),
        ({"at": 1_700_000_000}, "invalid_event_timestamp"),
        ({"at": NOW + timedelta(hours=23, seconds=1)}, "future_timestamp"),
        ({"id": None}, "missing_key"),
        ({"amount": b"bytes"}, "not_json"),
        ({"amount": {"deep": object()}}, "not_json"),
        ({"amount": "x" * 1_000_000}, "event_too_large"),
        ({"user": float("nan")}, "missing_distinct_id"),
        ({"user": True}, "invalid_distinct_id"),
        ({"user": 0.0}, "invalid_distinct_id"),
        ({"user": b"u1"}, "not_json"),
        ({"user": memoryview(b"u1")}, "not_json"),
        ({"user": ["u1"]}, "not_json"),
        ({"user": {"id": "u1"}}, "not_json"),
        ({"user": "u\ud83d"}, "not_json"),
        ({"user": "u\0"}, "null_character"),
        ({"at": "  "}, "missing_timestamp"),
        ({"at": float("nan")}, "missing_timestamp"),
        ({"at": Decimal("1700000000")}, "invalid_event_timestamp"),
        ({"at": "1700000000"}, "invalid_event_timestamp"),
        ({"at": datetime(1, 1, 1, tzinfo=timezone.utc)}, "invalid_event_timestamp"),
        ({"at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}, "invalid_event_timestamp"),
        ({"at": "1899-12-31T23:59:59Z"}, "invalid_event_timestamp"),
        ({"id": float("nan")}, "missing_key"),
        ({"amount": "half \ud83d of a pair"}, "not_json"),
        ({"amount": {b"bytes": 1}}, "not_json"),
        ({"amount": {1: "a", "1": "b"}}, "not_json"),
        ({"amount": Decimal("1e999")}, "not_json"),
        ({"$groups": "acme"}, "malformed_event_properties"),
        ({"$groups": "[1]"}, "malformed_event_properties"),
    ],
)
def test_what_posthog_would_not_take_is_refused_with_a_reason(row: dict[str, Any], expected: str) -> None:
    assert reason(**row) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "missing_event_name"),
        ("", "missing_event_name"),
        ("x" * 201, "event_name_too_long"),
        ("$performance_event", "dropped_performance_event"),
        (float("nan"), "missing_event_name"),
        (b"order", "not_json"),
        (["order"], "not_json"),
        ("or\0der", "null_character"),
        ("or\udfffder", "not_json"),
    ],
)
def test_names_from_a_column_are_checked_row_by_row(name: Any, expected: str) -> None:
    recipe = Recipe(event_column="name", distinct_id="user", timestamp="at", key=["id"])
    assert reason(recipe, name=name) == expected


def test_as_long_and_as_far_ahead_as_posthog_takes_is_fine() -> None:
    read(user="x" * 200, at=NOW + timedelta(hours=23))
    read(user=7, at="2026-11-29T13:00:00.5+01:00")
    read(user="\N{GRINNING FACE}" * 200, at="1900-01-01T00:00:00Z")
    assert len(read(amount="\N{GRINNING FACE}" * 249_000).body) < 1_000_000


@pytest.mark.parametrize(
    "text",
    [
        *("2026-11-29T12:00:00Z", "2026-11-29t12:00:00z", "2026-11-29 12:00:00+00", "2026-11-29 12:00:00.000+00:00"),
        *("2026-11-29 12:00:00 UTC", "2026-11-29T17:45:00+05:45", "2026-11-29T17:45:00+0545", "2026-11-29 07:00-05"),
        *(" 2026-11-29T12:00:00.123456789Z ".replace("123456789", "0"), "2026-11-29 12:00:00 +00:00"),
    ],
)
def test_a_time_is_read_as_databases_write_it(text: str) -> None:
    assert moment(text, NOW) == NOW


def test_what_is_no_time_to_pandas_is_none() -> None:
    pandas = pytest.importorskip("pandas")
    assert reason(at=pandas.NaT) == "missing_timestamp"
    assert plain([pandas.NaT, pandas.Timedelta("NaT"), pandas.Timestamp(NOW)]) == [None, None, NOW.isoformat()]


def test_arrays_of_numpy_become_lists_and_what_is_nested_without_end_is_refused() -> None:
    numpy = pytest.importorskip("numpy")
    assert plain({"a": numpy.array([1, 2]), "b": numpy.float32(0.5)}) == {"a": [1, 2], "b": 0.5}
    endless: list[Any] = []
    endless.append(endless)
    assert reason(amount=endless) == "not_json"


def test_persons_are_changed_by_set_set_once_and_unset() -> None:
    recipe = Recipe(
        kind="persons", distinct_id="user", properties={"$set": ["amount"], "$set_once": ["id"], "$unset": ["old"]}
    )
    found = json.loads(read(recipe).body)
    assert (found["event"], found["properties"]) == (
        "$set",
        {"$set": {"amount": 5}, "$set_once": {"id": 1}, "$unset": ["old"]},
    )
    everything = json.loads(read(Recipe(kind="persons", distinct_id="user")).body)
    assert everything["properties"] == {"$set": {"id": 1, "at": NOW.isoformat(), "amount": 5}}


def test_a_change_of_another_time_is_another_event() -> None:
    recipe = Recipe(kind="persons", distinct_id="user")
    later = recipe.reader(["user"], NOW + timedelta(days=1)).read(["u1"], NOW)
    assert later.uuid != recipe.reader(["user"], NOW).read(["u1"], NOW).uuid


def test_groups_are_identified_by_type_and_key() -> None:
    recipe = Recipe(kind="groups", distinct_id="user", group_type="company", properties=["amount"])
    found = json.loads(read(recipe, user="acme").body)
    assert (found["event"], found["distinct_id"]) == ("$groupidentify", "company_acme")
    assert found["properties"] == {"$group_type": "company", "$group_key": "acme", "$group_set": {"amount": 5}}


@pytest.mark.parametrize(("kind", "event"), [("aliases", "$create_alias"), ("merges", "$merge_dangerously")])
def test_two_ids_become_one_person(kind: str, event: str) -> None:
    recipe = Recipe(kind=kind, distinct_id="user", key=["id"], properties=["amount"])
    found = json.loads(read(recipe, amount="u2").body)
    assert (found["event"], found["properties"]) == (event, {"alias": "u2"})
    assert reason(recipe, amount="guest") == "invalid_distinct_id"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"event": "order", "distinct_id": "user", "timestamp": "at"}, "key"),
        ({"event": "order", "event_column": "e", "distinct_id": "user", "timestamp": "at", "key": ["id"]}, "event"),
        ({"distinct_id": "user", "timestamp": "at", "key": ["id"]}, "event"),
        ({"event": "order", "distinct_id": "user", "key": ["id"]}, "timestamp"),
        ({"event": "x" * 201, "distinct_id": "user", "timestamp": "at", "key": ["id"]}, "event"),
        ({"kind": "people"}, "kind"),
        ({"kind": "persons", "event": "order"}, "event"),
        ({"kind": "groups"}, "group_type"),
        ({"kind": "persons", "group_type": "company"}, "group_type"),
        ({"kind": "persons", "properties": {"$sett": []}}, "properties"),
        ({"kind": "aliases", "key": ["id"]}, "properties"),
        ({"kind": "aliases", "key": ["id"], "properties": "x"}, "properties"),
        ({"kind": "persons", "properties": "plan"}, "properties"),
        ({"kind": "persons", "properties": {"$set": "plan"}}, "properties"),
        ({"kind": "persons", "properties": 5}, "properties"),
        ({"kind": "persons", "properties": [7]}, "properties"),
        ({"kind": "persons", "properties": []}, "properties"),
        ({"kind": "persons", "properties": {"$set": ["plan"], "$unset": ["plan"]}}, "properties"),
        ({"kind": "persons", "properties": {"$set": ["plan"], "$set_once": ["plan"]}}, "properties"),
        ({"kind": "groups", "group_type": "company", "properties": {"$set_once": ["plan"]}}, "properties"),
        ({"kind": "groups", "group_type": "company", "properties": {"$unset": ["plan"]}}, "properties"),
        ({"kind": "persons", "distinct_id": ""}, "distinct_id"),
        ({"kind": "persons", "distinct_id": None}, "distinct_id"),
        ({"kind": "persons", "key": [None]}, "key"),
        ({"event": 7, "distinct_id": "user", "timestamp": "at", "key": ["id"]}, "event"),
        ({"event": "order", "distinct_id": "user", "timestamp": "", "key": ["id"]}, "timestamp"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        Recipe(**arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("columns", [["id", "user", "at"], ["id", "user", "at", "amount", "amount"]])
def test_a_column_that_is_not_there_or_twice_is_named(columns: list[str]) -> None:
    recipe = Recipe(event="order", distinct_id="user", timestamp="at", key=["id"], properties=["amount"])
    with pytest.raises(PostHogSettingsError, match="amount"):
        recipe.reader(columns, NOW)


def test_values_become_json_and_keep_their_meaning() -> None:
    found = plain(
        [
            Decimal(3),
            Decimal("NaN"),
            float("inf"),
            timedelta(minutes=1),
            uuid.UUID(int=1),
            {1: (True, date(2026, 1, 1))},
        ]
    )
    assert found == [3, None, None, 60.0, str(uuid.UUID(int=1)), {"1": [True, "2026-01-01"]}]


@given(st.datetimes(timezones=st.timezones(), max_value=datetime(2026, 11, 1), min_value=datetime(1900, 1, 2)))
def test_a_time_is_the_same_moment_however_it_is_written(at: datetime) -> None:
    utc = moment(at, NOW)
    assert utc == at.astimezone(timezone.utc)  # not at: Python holds a time that clocks skip unequal to any
    assert moment(written(utc), NOW) == utc
