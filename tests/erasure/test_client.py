"""The client of an erasure: it counts its calls, its errors name nobody, and a stack trace of it can be read."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import airflow_provider_posthog
from airflow_provider_posthog.api import persons
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.queries import is_unknown_table
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogPermissionError, PostHogValidationError
from airflow_provider_posthog.results.heaviness import is_too_heavy
from tests.erasure.support import Lab
from tests.support.scripted import ScriptedServer, error, ok

PACKAGE = Path(airflow_provider_posthog.__file__).parent
DENIED = {
    "type": "authentication_error",
    "code": "permission_denied",
    "detail": "API key missing required scope 'query:read'",
    "attr": None,
}


def frames_of(error: BaseException) -> list[str]:
    """The functions of this package in a stack trace, without what every call and every task has in it."""
    files = [(Path(frame.filename), frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    shared = {PACKAGE / "api", PACKAGE / "tasks" / "guidance.py"}
    return [name for file, name in files if PACKAGE in file.parents and not shared & {file, *file.parents}]


@pytest.mark.parametrize("kind", ["distinct_ids", "emails", "uuids"])
def test_a_stack_trace_of_a_refusal_while_resolving_is_short(lab: Lab, kind: str) -> None:
    lab.posthog.faults(path="*/query/", status=403, body=DENIED, count=-1)
    given = {"distinct_ids": [lab.name], "emails": [lab.email], "uuids": [lab.person]}[kind]
    with pytest.raises(PostHogPermissionError, match="query:read") as caught:
        lab.resolve(**{kind: given})
    frames = frames_of(caught.value)
    assert frames[0] == "execute"
    assert frames[-1] == "send"
    assert len(frames) <= 8, frames


@pytest.fixture
def client(server: ScriptedServer) -> ErasureClient:
    return ErasureClient(Client(ClientSettings(server.url, "phx_0123456789abcdef", 1)))


def test_calls_are_counted_by_endpoint_also_those_that_fail(server: ScriptedServer, client: ErasureClient) -> None:
    server.script(ok({"results": []}), error(403, "No."), ok({"results": [[1]], "columns": ["x"]}))
    client.send(persons.list(limit=1))
    with pytest.raises(PostHogPermissionError):
        client.send(persons.list(limit=1))
    assert client.rows("SELECT 1 AS x", {}, int) == [[1]]
    assert client.calls == {"persons.list": 2, "queries.start": 1}


def test_bytes_that_clickhouse_read_are_counted_from_the_start(server: ScriptedServer) -> None:
    answer = {"results": [[1]], "columns": ["x"]}
    server.script(ok(answer, X_PostHog_Query_Bytes_Read="1000"), ok(answer, X_PostHog_Query_Bytes_Read="234"))
    settings = ClientSettings(server.url, "phx_0123456789abcdef", 1)
    ErasureClient(Client(settings)).rows("SELECT 1 AS x", {}, int)
    client = ErasureClient(Client(settings))
    assert client.bytes_read == 0
    client.rows("SELECT 1 AS x", {}, int)
    assert client.bytes_read == 234


@pytest.mark.parametrize(
    ("status", "detail", "unknown", "heavy", "most"),
    [
        (400, "Unknown table `secrets_of_ann`.", True, False, ""),
        (400, "ann@example.org: no such thing", False, False, ""),
        (400, "Query for ann-1 exceeded its memory limit", False, True, ""),
        (504, "ann-1 took too long", False, True, ""),
        (400, "You can only pass 250 ids in one call, ann-1", False, False, "only pass 250 "),
    ],
)
def test_an_error_says_of_which_kind_it_is_and_nothing_of_what_was_sent(
    server: ScriptedServer, status: int, detail: str, unknown: bool, heavy: bool, most: str
) -> None:
    server.script(error(status, detail))
    settings = ClientSettings(server.url, "phx_0123456789abcdef", 1, max_rate_limit_wait=0)
    with pytest.raises(PostHogAPIError) as caught:
        ErasureClient(Client(settings)).rows("SELECT 1", {}, int)
    found = caught.value
    assert "ann" not in str(found)
    assert (isinstance(found, PostHogValidationError) and is_unknown_table(found)) is unknown
    assert is_too_heavy(found) is heavy
    assert most in str(found)
