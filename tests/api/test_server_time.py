"""The server's clock, and the times that PostHog writes."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import exports, queries
from airflow_provider_posthog.api.call import Answer
from airflow_provider_posthog.api.server_time import Timed, date_of, moment, timed
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogTransportError
from tests.support.scripted import ScriptedServer, error, ok
from tests.support.senders import Sender

#: What has no offset is UTC, and no local time.
pytestmark = pytest.mark.usefixtures("far_from_utc")

UTC = timezone.utc
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Sun, 22 Nov 2026 12:00:00 GMT", NOON),
        ("Sun, 22 Nov 2026 13:00:00 +0100", NOON),
        ("Sun, 22 Nov 2026 12:00:00 -0000", NOON),
        (None, None),
        ("", None),
        ("soon", None),
        ("Sun, 99 Nov 2026 12:00:00 GMT", None),
        ("\x00", None),
    ],
)
def test_the_server_s_date(header: str | None, expected: datetime | None) -> None:
    found = date_of(Answer(200, {} if header is None else {"date": header}))
    assert found == expected
    assert found is None or found.tzinfo is UTC


def test_a_timed_call_brings_both(sender: Sender, server: ScriptedServer) -> None:
    settings = ClientSettings(base_url=server.url, api_key="phx_key", project_id=1)
    server.script(ok({"id": 1}, Date="Sun, 22 Nov 2026 12:00:00 GMT"))
    assert sender.send(settings, timed(exports.retrieve(1))) == Timed({"id": 1}, NOON)
    server.script(ok({"id": 1}))
    assert sender.send(settings, timed(exports.retrieve(1))) == Timed({"id": 1}, None)


def test_a_timed_call_is_sent_and_fails_as_before(sender: Sender, server: ScriptedServer) -> None:
    settings = ClientSettings(base_url=server.url, api_key="phx_key", project_id=1)
    call, plain = timed(queries.status("x")), queries.status("x")
    for name in ("name", "method", "path", "repeatable", "scopes", "bucket", "reads_error", "read_timeout"):
        assert getattr(call, name) == getattr(plain, name)
    server.script(error(404))
    with pytest.raises(PostHogNotFoundError):
        sender.send(settings, call)
    server.script(ok([]))
    with pytest.raises(PostHogTransportError):
        sender.send(settings, call)
    server.script(ok({"query_status": {"error": True}}, 400, Date="Sun, 22 Nov 2026 12:00:00 GMT"))
    assert sender.send(settings, call) == Timed({"error": True}, NOON)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-22T12:00:00Z", NOON),
        ("2026-11-22T12:00:00.000000Z", NOON),
        ("2026-11-22T13:00:00+01:00", NOON),
        ("2026-11-22 12:00:00", NOON),
        (" 2026-11-22T12:00:00z ", NOON),
        ("2026-11-22T12:00:00.5Z", NOON + timedelta(seconds=0.5)),
        ("2026-11-22T12:00:00.123456789+00:00", NOON + timedelta(microseconds=123456)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("", None),
        ("null", None),
        ("0001-01-01T00:00:00+14:00", None),
        (None, None),
        (5, None),
        (True, None),
        ({}, None),
    ],
)
def test_a_time_of_posthog_s(text: Any, expected: datetime | None) -> None:
    assert moment(text) == expected


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-720, 720))
def test_every_time_is_read_as_it_was_written(when: datetime, minutes: int) -> None:
    aware = when.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    assert moment(aware.isoformat()) == aware
    assert moment(when.isoformat() + "Z") == when.replace(tzinfo=UTC)


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    found = moment(text)
    assert found is None or found.tzinfo is UTC
    date_of(Answer(200, {"date": text}))
