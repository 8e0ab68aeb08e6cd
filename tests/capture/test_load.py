"""Loads into PostHog: what it takes, what it wants again, what it drops, and what it says it took and does not have."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.capture import load, read_back, sender
from airflow_provider_posthog.capture.events import Recipe, shown
from airflow_provider_posthog.capture.ledger import Ledger
from airflow_provider_posthog.capture.load import Load, lines_of
from airflow_provider_posthog.capture.sender import Pace
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogQuotaError,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
)
from tests.capture.conftest import AT, COLUMNS, ORDERS, Lab, rows


def test_every_row_is_in_posthog_once(lab: Lab) -> None:
    found = lab.load(rows(500))
    assert (found["rows"], found["sent"], found["kept"], found["rejected"]) == (500, 500, 500, {})
    assert lab.there() == [500, 500]


def test_times_and_uuids_are_the_row_s_whatever_the_clocks_say(lab: Lab) -> None:
    lab.posthog.advance(7200)  # PostHog would correct times by the difference
    lab.load(rows(1))
    assert lab.there("timestamp")[0].startswith("2026-11-01T12:00:00")


def test_a_second_load_of_the_same_rows_changes_nothing(lab: Lab) -> None:
    lab.load(rows(20))
    with Ledger() as other:
        Load(other).send(ORDERS.reader(COLUMNS, AT), rows(20), lab.sender())
    assert lab.there() == [20, 20]


def test_a_later_try_sends_only_what_no_earlier_one_has_sent(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MOST_EVENTS", 10)
    lab.posthog.faults(path="/i/v1/*", status=402, skip=2, count=20)
    with pytest.raises(PostHogQuotaError):
        lab.load(rows(50))
    lab.posthog.clear_faults()
    found = lab.load(rows(50))
    assert (found["sent"], found["sent_before"], found["kept"]) == (30, 20, 50)


def test_a_row_that_has_changed_since_is_sent_again(lab: Lab) -> None:
    lab.load(rows(3))
    changed = rows(3)
    changed[1][3] = 99
    found = lab.load(changed)
    assert (found["sent"], found["sent_before"]) == (1, 2)
    assert lab.there() == [3, 3]


def test_the_same_row_twice_is_one_event_and_another_of_its_key_is_rejected(lab: Lab) -> None:
    some = rows(3)
    found = lab.load([*some, list(some[0]), [*some[1][:3], "other"]])
    assert (found["sent"], found["duplicates"], found["rejected"]) == (3, 1, {"repeated_key": 1})


def test_rejects_name_row_key_and_reason(lab: Lab) -> None:
    bad = [[7, "anonymous", AT, 1], [8, "b", AT.replace(tzinfo=None), 1]]
    found = lab.load([*rows(1), *bad])
    assert found["rejected"] == {"invalid_distinct_id": 1, "naive_timestamp": 1}
    lines = [json.loads(line) for line in lines_of(lab.ledger.rejects(), ["id"])]
    assert lines == [
        {"row": 2, "uuid": None, "key": {"id": 7}, "reason": "invalid_distinct_id"},
        {"row": 3, "uuid": None, "key": {"id": 8}, "reason": "naive_timestamp"},
    ]
    lab.loading.check(2, None)
    with pytest.raises(PostHogIncompleteError, match=r"2 rows .*1 invalid_distinct_id, 1 naive_timestamp"):
        lab.loading.check(1, None)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"restricted_events": ["order"]}, "event_restriction_drop"),
        ({"capture_quota": 0}, "billing_limit_exceeded"),
        ({"historical_only": True}, "non_historical_import_drop"),
    ],
)
def test_what_posthog_drops_is_rejected_and_tried_again_by_the_next_try(
    lab: Lab, settings: dict[str, Any], reason: str
) -> None:
    lab.posthog.settings(**settings)
    assert lab.load(rows(4))["rejected"] == {reason: 4}
    lab.posthog.settings(restricted_events=[], capture_quota=None, historical_only=False)
    found = lab.load(rows(4))
    assert (found["rejected"], found["kept"]) == ({}, 4)


def test_a_migration_says_that_it_is_one(lab: Lab) -> None:
    lab.posthog.settings(historical_only=True)
    assert lab.load(rows(4), historical=True)["kept"] == 4


def test_only_what_posthog_wants_again_is_sent_again(lab: Lab) -> None:
    lab.load(rows(5))
    before = lab.sent()
    lab.posthog.settings(capture_retries=2)
    found = lab.load(rows(8))
    assert (found["sent"], found["kept"], lab.sent() - before) == (3, 8, 3)


def test_what_is_wanted_again_for_ever_fails_and_the_rest_is_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "MOST_ATTEMPTS", 2)
    lab.posthog.settings(capture_retries=9)
    with pytest.raises(PostHogIncompleteError, match=r"again after 2 attempts \(not_persisted\)"):
        lab.load(rows(3))


def test_what_posthog_has_taken_is_noted_though_another_event_of_the_batch_fails(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "MOST_ATTEMPTS", 2)
    reader = ORDERS.reader(COLUMNS, AT)
    again, *taken = [shown(reader.read(row, AT).uuid) for row in rows(3)]
    told: dict[str, Any] = {again: {"result": "retry"}, **{uuid: {"result": "ok"} for uuid in taken}}
    lab.posthog.faults(path="/i/v1/*", status=200, body={"results": told})
    lab.posthog.settings(capture_retries=9)
    with pytest.raises(PostHogIncompleteError, match="What it took is noted"):
        lab.load(rows(3))
    lab.posthog.settings(capture_retries=0)
    found = lab.load(rows(3))
    assert (found["sent"], found["sent_before"]) == (1, 2)


@pytest.mark.parametrize("most", [2, 100])
def test_only_the_row_that_was_sent_is_sent_once_more_and_not_one_that_was_rejected(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(load, "MOST_EVENTS", most)
    some = [*rows(2), [*rows(1)[0][:3], "other"], *rows(2)]
    lab.posthog.settings(capture="lost")
    assert lab.load(some)["rejected"] == {"repeated_key": 1}
    lab.posthog.settings(capture="stored")
    assert lab.resend(some) == 2
    assert read_back.look(lab.client, lab.ledger) == 0
    assert lab.there("countIf(position(properties, 'other') > 0)") == [0]


def test_rows_that_are_others_in_a_later_try_are_counted(lab: Lab) -> None:
    lab.load(rows(4))
    changed = [[0, "buyer 0", AT + timedelta(days=1), 0], *rows(2, first=1)]
    found = lab.load(changed)
    assert (found["rows"], found["kept"], lab.loading.tally.changed, lab.ledger.without_row()) == (3, 3, 1, 1)


@pytest.mark.parametrize("damage", [b"garbage" * 999, b"", b"SQLite format 3\0" + b"x" * 5000])
def test_a_ledger_that_cannot_be_read_is_begun_anew(lab: Lab, damage: bytes) -> None:
    lab.load(rows(5))
    lab.ledger.close()
    for path in lab.path.glob("load.ledger*"):
        path.write_bytes(damage)
    with Ledger(lab.path / "load.ledger") as ledger:
        loading = Load(ledger)
        loading.send(ORDERS.reader(COLUMNS, AT), rows(5), lab.sender())
        assert read_back.look(lab.client, ledger) == 0
        assert loading.summary()["kept"] == 5
    assert lab.there() == [5, 5]


def test_times_before_1970_have_an_order_too(lab: Lab) -> None:
    old = [[number, "b", AT.replace(year=1950 + number), 1] for number in range(3)]
    assert lab.loading.check_order(ORDERS.reader(COLUMNS, AT), old) == 0
    assert lab.loading.check_order(ORDERS.reader(COLUMNS, AT), old[::-1]) == 2


def test_a_key_that_is_no_text_is_named_all_the_same(lab: Lab) -> None:
    found = lab.load([["half \ud83d", "b", AT, 1]])
    assert found["rejected"] == {"not_json": 1}
    (line,) = lines_of(lab.ledger.rejects(), ["id"])
    assert json.loads(line)["key"] == {"id": "half \ud83d"}


def test_warnings_are_counted(lab: Lab) -> None:
    lab.posthog.settings(capture_burst=1)
    same = [[number, "busy", AT + timedelta(minutes=number), 1] for number in range(3)]
    found = lab.load(same)
    assert (found["warned"], found["kept"]) == (2, 3)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(kind="persons", distinct_id="user", properties=["amount"]),
        Recipe(kind="groups", distinct_id="user", group_type="company", properties=["amount"]),
        Recipe(kind="aliases", distinct_id="user", key=["id"], properties=["amount"]),
    ],
    ids=lambda recipe: recipe.kind,
)
def test_a_change_of_a_person_or_group_that_posthog_does_not_make_is_rejected(lab: Lab, recipe: Recipe) -> None:
    some = [[n, f"b{n}", AT, f"other {n}"] for n in range(3)]
    reader = recipe.reader(COLUMNS, AT)
    warning = {"result": "warning", "details": "person_processing_disabled"}
    told = {shown(reader.read(row, AT).uuid): warning for row in some}
    lab.posthog.faults(path="/i/v1/*", status=200, body={"results": told})
    found = lab.load(some, recipe)
    assert (found["kept"], found["rejected"]) == (0, {"person_processing_disabled": 3})
    found = lab.load(some, recipe)
    assert (found["kept"], found["sent"], found["rejected"]) == (3, 3, {})


@pytest.mark.parametrize("v1", [True, False])
def test_one_bad_event_does_not_take_its_batch_with_it(lab: Lab, monkeypatch: pytest.MonkeyPatch, v1: bool) -> None:
    """A server may know more reasons than we do, and fail the batch for them."""
    monkeypatch.setattr("airflow_provider_posthog.capture.events.LONGEST", 300)
    lab.posthog.settings(capture_refusals="batch", capture_v1=v1)
    some = rows(40)
    some[17][1] = "x" * 250
    found = lab.load(some)
    assert (found["kept"], found["rejected"]) == (39, {"distinct_id_too_large": 1})


def test_a_batch_that_is_too_large_is_sent_in_parts(lab: Lab) -> None:
    lab.posthog.faults(path="/i/v1/*", status=413, body={"error": "payload_too_large"}, count=2)
    assert lab.load(rows(8))["kept"] == 8
    assert lab.sent() == 5


@pytest.mark.parametrize("tag", ["missing_required_headers", "invalid_batch", "request_parsing_error"])
def test_a_request_that_is_wrong_as_a_whole_is_not_halved(lab: Lab, tag: str) -> None:
    lab.posthog.faults(path="/i/v1/*", status=400, body={"error": tag}, count=-1)
    with pytest.raises(PostHogValidationError, match=tag):
        lab.load(rows(8))
    assert lab.sent() == 1


@pytest.mark.parametrize("said", [{}, {"result": "perhaps"}, {"result": None}])
def test_an_event_of_which_posthog_says_nothing_is_looked_for(lab: Lab, said: dict[str, Any]) -> None:
    uuid = shown(ORDERS.reader(COLUMNS, AT).read(rows(1)[0], AT).uuid)
    lab.posthog.faults(path="/i/v1/*", status=200, body={"results": {uuid: said}})
    assert lab.load(rows(2))["kept"] == 0
    assert lab.resend(rows(2)) == 2
    assert read_back.look(lab.client, lab.ledger) == 0


def test_an_answer_that_is_none_is_an_error(lab: Lab) -> None:
    lab.posthog.faults(path="/i/v1/*", status=200, body={"status": "Ok"}, count=-1)
    with pytest.raises(PostHogTransportError, match="results"):
        lab.load(rows(2))


def test_a_server_without_v1_is_sent_batches(lab: Lab) -> None:
    lab.posthog.settings(capture_v1=False)
    assert lab.load(rows(10))["kept"] == 10
    assert len(lab.posthog.calls("/i/v1/")) == 1


def test_batches_over_the_quota_are_found_out_by_looking(lab: Lab) -> None:
    lab.posthog.settings(capture_v1=False, capture_quota=6)
    some = rows(10)
    found = lab.load(some)
    assert (found["sent"], found["kept"]) == (10, 6)
    assert lab.resend(some) == 4
    assert read_back.look(lab.client, lab.ledger) == 4
    assert lab.loading.give_up() == 4
    assert lab.loading.summary()["rejected"] == {"not_there": 4}


def test_a_server_that_keeps_nothing_is_found_out(lab: Lab) -> None:
    lab.posthog.settings(capture="lost")
    found = lab.load(rows(10))
    assert (found["sent"], found["kept"]) == (10, 0)


def test_one_that_keeps_all_but_three_has_the_three_named(lab: Lab) -> None:
    some = rows(50)
    reader = ORDERS.reader(COLUMNS, AT)
    gone = [shown(reader.read(some[number], AT).uuid) for number in (7, 20, 49)]
    lab.posthog.settings(lost_uuids=gone)
    assert lab.load(some)["kept"] == 47
    assert lab.resend(some) == 3
    assert read_back.look(lab.client, lab.ledger) == 3
    lab.loading.give_up()
    lines = [json.loads(line) for line in lines_of(lab.ledger.rejects(), ["id"])]
    assert [(line["uuid"], line["key"]["id"], line["row"]) for line in lines] == [
        (gone[0], 7, 8),
        (gone[1], 20, 21),
        (gone[2], 49, 50),
    ]
    with pytest.raises(PostHogIncompleteError, match=gone[1]):
        lab.loading.check(0, None)


def test_what_was_lost_once_is_there_after_it_was_sent_once_more(lab: Lab) -> None:
    some = rows(10)
    lab.posthog.settings(capture="lost")
    lab.load(some)
    lab.posthog.settings(capture="stored")
    assert lab.resend(some) == 10
    assert read_back.look(lab.client, lab.ledger) == 0
    assert lab.loading.summary()["kept"] == 10


def test_what_takes_time_is_there_when_it_has_come(lab: Lab) -> None:
    lab.posthog.settings(ingestion_seconds=300)
    assert lab.load(rows(10))["kept"] == 0
    lab.posthog.advance(301)
    assert read_back.look(lab.client, lab.ledger) == 0


def test_copies_that_are_not_merged_yet_are_one(lab: Lab) -> None:
    lab.posthog.settings(merge_seconds=3600)
    for _ in range(2):
        with Ledger() as ledger:
            Load(ledger).send(ORDERS.reader(COLUMNS, AT), rows(5), lab.sender())
            assert read_back.look(lab.client, ledger) == 0
    assert lab.there() == [10, 5]


def test_looks_are_bounded_by_day_and_event_and_never_too_long(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_back, "MOST_UUIDS", 4)
    recipe = Recipe(event_column="amount", distinct_id="user", timestamp="at", key=["id"])
    some = [[n, f"b{n}", AT + timedelta(days=n % 2), "order" if n % 3 else "refund"] for n in range(18)]
    assert lab.load(some, recipe)["kept"] == 18
    asked = [call for call in lab.posthog.calls("/query/")]
    assert len(asked) == 6


def test_a_load_on_another_machine_is_remembered_and_not_sent_again(lab: Lab) -> None:
    lab.load(rows(10))
    before = lab.sent()
    with Ledger() as other:
        loading = Load(other)
        loading.remember(ORDERS.reader(COLUMNS, AT), rows(10))
        assert read_back.look(lab.client, other) == 0
        assert loading.summary()["kept"] == 10
    assert lab.sent() == before


def test_a_token_that_posthog_does_not_know_is_named_and_not_shown(lab: Lab) -> None:
    lab.token = "phc_another0000000000000000000000"
    with pytest.raises(PostHogSettingsError) as caught:
        lab.load(rows(1))
    assert caught.value.field == "project_token"
    assert "phc_another" not in str(caught.value)


@pytest.mark.parametrize("wait", ["1", "600", None])
@pytest.mark.parametrize(
    "body",
    [
        {"error": "billing_limit_exceeded", "error_description": "The team is over its billing limit"},
        {"type": "quota", "code": "billing_limit_exceeded", "detail": "Over."},
        "billing limit reached",
    ],
    ids=["V1", "envelope", "text"],
)
def test_a_quota_that_refuses_the_request_is_told_at_once_and_what_was_kept_is_noted(
    lab: Lab, body: object, wait: str | None
) -> None:
    assert lab.load(rows(2))["kept"] == 2
    before = lab.sent()
    headers = {"Retry-After": wait} if wait else {}
    lab.posthog.faults(path="/i/v1/*", status=429, body=body, count=-1, headers=headers)
    with pytest.raises(PostHogQuotaError, match="The team is over its billing limit"):
        lab.load(rows(4))
    assert lab.sent() == before + 1, "no wait brings it into the limit"
    lab.posthog.clear_faults()
    found = lab.load(rows(4))
    assert (found["kept"], found["sent"], found["sent_before"]) == (4, 2, 2)


def test_an_own_rate_is_kept() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(1000, clock=lambda: now[0], sleep=sleep)
    for _ in range(4):
        pace.go(2000)
    assert slept == [2.0, 2.0, 2.0]


def test_a_ledger_holds_nothing_of_a_row_that_was_taken(lab: Lab) -> None:
    lab.load([[1, "ann@example.com", AT, "secret"]])
    lab.ledger.close()
    held = b"".join(path.read_bytes() for path in lab.path.iterdir())
    assert b"ann@example" not in held
    assert b"secret" not in held
    assert (lab.path / "load.ledger").stat().st_mode & 0o077 == 0


def test_a_ledger_is_kept_in_no_folder_that_somebody_else_has_put_there(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ours").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PostHogSettingsError, match="somebody else's"):
        Ledger(tmp_path / "ours" / "load.ledger")


def test_a_ledger_that_is_done_leaves_no_file(lab: Lab) -> None:
    lab.load(rows(1))
    lab.ledger.remove()
    assert not [*lab.path.glob("load.ledger*")]
