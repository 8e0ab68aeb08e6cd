"""Calls as values: paths, query strings, reading answers."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.call import Answer, Call, json_object, json_page, segment
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError
from tests.api.cases import answer


@given(st.text(min_size=1).filter(lambda text: text not in (".", "..")))
def test_a_segment_is_one_segment(text: str) -> None:
    quoted = segment(text)
    assert quoted.isascii()
    assert not set(quoted) & set("/?#\\ \r\n")
    assert unquote(quoted) == text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_segment_never_leads_elsewhere(value: str) -> None:
    """HTTP clients resolve ``..``: cancelling the query ``..`` would be ``DELETE /api/projects/7/``."""
    for make in (queries.cancel, queries.status):
        with pytest.raises(PostHogSettingsError, match="is not an id"):
            make(value)


def test_query_string() -> None:
    query = {"none": None, "yes": True, "no": False, "number": 1.5, "text": "a&b=c ü", "many": ["a", "b"], "empty": []}
    call = Call("x", "GET", "x/", json_object, query=query)
    assert parse_qsl(call.query_string()) == [
        ("yes", "true"),
        ("no", "false"),
        ("number", "1.5"),
        ("text", "a&b=c ü"),
        ("many", "a"),
        ("many", "b"),
    ]


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe\xff", b"{", b"[" * 200_000, b'{"a":' * 200_000, b"9" * 5000]
)
def test_what_is_no_json_object(body: bytes) -> None:
    with pytest.raises(PostHogTransportError) as caught:
        json_object(Answer(200, {"content-type": "text/html; charset=utf-8"}, body))
    assert "200" in str(caught.value)
    json_or_none = Answer(200, {}, body).json_or_none()
    assert json_or_none is None or isinstance(json_or_none, int)


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"x"', b"true"])
def test_json_that_is_no_object(body: bytes) -> None:
    with pytest.raises(PostHogTransportError, match="not an object"):
        json_object(answer(200, body))


@pytest.mark.parametrize("body", [b"{}", b'{"results": null}', b'{"results": {}}', b'{"results": [1]}', b"[]"])
def test_what_is_no_page(body: bytes) -> None:
    with pytest.raises(PostHogTransportError):
        json_page(answer(200, body))


def test_a_page() -> None:
    assert json_page(answer(200, b'{"results": [{"id": 1}], "next": null}')) == {"results": [{"id": 1}], "next": None}


def test_query_calls() -> None:
    call = queries.start(queries.hogql("SELECT 1"), client_query_id="id-1", name="n" * 200)
    assert call.json == {
        "query": {"kind": "HogQLQuery", "query": "SELECT 1"},
        "refresh": "force_blocking",
        "client_query_id": "id-1",
        "name": "n" * 128,
    }
    assert (call.bucket, call.repeatable, call.scopes) == ("query", True, ("query:read",))
    assert queries.status("id-1").bucket == "crud"
