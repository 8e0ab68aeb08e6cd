"""Every verdict and every refusal that PostHog's capture has, and what becomes of the rows."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
)
from tests.capture.conftest import Lab, rows

V1 = "/i/v1/*"
#: What PostHog says of an event that it drops.
DROPS = (
    *("billing_limit_exceeded", "event_restriction_drop", "non_historical_import_drop", "invalid_options"),
    *("missing_event_name", "event_name_too_long", "missing_distinct_id", "distinct_id_too_large"),
    *("malformed_distinct_id", "invalid_event_timestamp", "malformed_event_properties", "dropped_performance_event"),
    "a_reason_that_nobody_knows_yet",
)
#: Why PostHog fails a batch for one of its events: the others are found by halves, and are taken.
OF_ONE = (
    *("missing_event_name", "event_name_too_long", "missing_distinct_id", "distinct_id_too_large"),
    *("malformed_distinct_id", "invalid_event_timestamp", "duplicate_event_uuid", "missing_event_uuid"),
    *("invalid_event_uuid", "invalid_options", "malformed_event_properties"),
)
#: What no half of a batch mends: the task fails. (429, which is waited out, is in test_load.py.)
OF_ALL: tuple[tuple[int, str, type[Exception]], ...] = (
    (400, "missing_required_headers", PostHogValidationError),
    (400, "request_parsing_error", PostHogValidationError),
    (400, "empty_body", PostHogValidationError),
    (401, "invalid_api_token", PostHogSettingsError),
    (415, "unsupported_content_type", PostHogAPIError),
)


def _reader() -> Any:
    from tests.capture.conftest import AT, COLUMNS, ORDERS

    return ORDERS.reader(COLUMNS, AT)


def uuids(lab: Lab, count: int) -> list[str]:
    """What the rows are called in PostHog."""
    from airflow_provider_posthog.capture.events import shown
    from tests.capture.conftest import AT

    reader = _reader()
    return [shown(reader.read(row, AT).uuid) for row in rows(count)]


@pytest.mark.parametrize("details", DROPS)
def test_a_drop_is_a_reject_with_posthogs_word_and_the_rest_is_kept(lab: Lab, details: str) -> None:
    bad, *good = uuids(lab, 3)
    told: dict[str, Any] = {uuid: {"result": "ok"} for uuid in good}
    lab.posthog.faults(path=V1, status=200, body={"results": {bad: {"result": "drop", "details": details}, **told}})
    found = lab.load(rows(3))
    assert found["rejected"] == {details: 1}
    assert lab.sent() == 1, "what is dropped is not sent again"


@pytest.mark.parametrize("details", ["no person ann@example.com", "Ann Smith", "ann@example.com", 7, ["x"]])
def test_a_reason_that_is_no_word_is_not_repeated(lab: Lab, details: object) -> None:
    (bad,) = uuids(lab, 1)
    lab.posthog.faults(path=V1, status=200, body={"results": {bad: {"result": "drop", "details": details}}})
    assert lab.load(rows(1))["rejected"] == {"dropped": 1}
    lab.posthog.faults(path=V1, status=400, body={"detail": details})
    assert lab.load(rows(1))["rejected"] == {"status_400": 1}


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 404, "body": {"detail": "Not found."}},
        {"status": 405},
        {"status": 501},
        {"status": 403, "body": "<html>CSRF verification failed</html>"},
        {"status": 302, "headers": {"Location": "/login?next=/i/v1/analytics/events"}},
        {"status": 200, "body": "<!doctype html><title>PostHog</title>"},
    ],
    ids=lambda answer: str(answer["status"]),
)
def test_where_posthog_s_app_answers_for_v1_events_go_to_batch(lab: Lab, answer: dict[str, Any]) -> None:
    lab.posthog.faults(path=V1, count=-1, **answer)
    found = lab.load(rows(3))
    assert (found["kept"], len(lab.posthog.calls("/batch/"))) == (3, 1)


def test_a_page_is_no_answer_of_a_server_that_has_v1(lab: Lab) -> None:
    assert lab.load(rows(1))["kept"] == 1
    sender = lab.sender()
    sender.has_verdicts = True
    lab.posthog.faults(path=V1, status=200, body="<html>", count=-1)
    with pytest.raises(PostHogTransportError, match="is a page"):
        lab.loading.send(_reader(), rows(3), sender)
    assert not lab.posthog.calls("/batch/")


def test_a_drop_without_a_word_is_one_too(lab: Lab) -> None:
    (bad,) = uuids(lab, 1)
    lab.posthog.faults(path=V1, status=200, body={"results": {bad: {"result": "drop"}}})
    assert lab.load(rows(1))["rejected"] == {"dropped": 1}


@pytest.mark.parametrize("details", ["person_processing_disabled", "a_warning_that_nobody_knows_yet", ""])
def test_a_warning_is_counted_and_the_event_proved_as_others_are(lab: Lab, details: str) -> None:
    (uuid,) = uuids(lab, 1)
    lab.posthog.faults(path=V1, status=200, body={"results": {uuid: {"result": "warning", "details": details}}})
    found = lab.load(rows(1))
    assert (found["warned"], found["kept"], found["rejected"]) == (1, 0, {}), "this server keeps nothing of it"


@pytest.mark.parametrize("tag", OF_ONE)
def test_a_batch_that_fails_for_one_event_loses_no_other(lab: Lab, tag: str) -> None:
    # Refused as a whole, as its first half, and at last as the one event that it is for.
    lab.posthog.faults(path=V1, status=400, body={"error": tag}, count=3)
    found = lab.load(rows(4))
    assert (found["kept"], found["rejected"]) == (3, {tag: 1})


@pytest.mark.parametrize(("status", "tag", "error"), OF_ALL, ids=lambda value: str(value))
def test_what_is_wrong_with_the_whole_request_fails_the_task(
    lab: Lab, status: int, tag: str, error: type[Exception]
) -> None:
    lab.posthog.faults(path=V1, status=status, body={"error": tag}, count=-1)
    with pytest.raises(error):
        lab.load(rows(4))
    assert lab.sent() == 1, "no half of it, and not again"
    lab.posthog.clear_faults()
    assert lab.load(rows(4))["kept"] == 4, "a retry of the task goes on"


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again_and_nothing_is_there_twice(lab: Lab, status: int) -> None:
    lab.posthog.faults(path=V1, status=status, body={"error": "service_unavailable"}, count=1)
    try:
        found = lab.load(rows(4))
    except PostHogServerError:  # what PostHog calls its own fault is the next try's
        assert status == 500
        found = lab.load(rows(4))
    assert found["kept"] == 4
    assert lab.there() == [4, 4]


def test_a_batch_of_which_parts_are_too_large_is_sent_in_parts_down_to_one_event(lab: Lab) -> None:
    lab.posthog.faults(path=V1, status=413, body={"error": "payload_too_large"}, count=3)
    found = lab.load(rows(4))
    assert (found["kept"], found["rejected"]) == (3, {"payload_too_large": 1})
