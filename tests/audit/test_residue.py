"""What PostHog cannot erase is listed, or said not to have been looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.steps import run, run_async
from airflow_provider_posthog.audit.facts import tell
from airflow_provider_posthog.audit.residue import MAX_LISTED, residue, static_cohorts
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogAuthenticationError
from tests.audit.support import PSEUDONYMS
from tests.support.scripted import ScriptedServer, error, ok

SCOPES = ["export:read", "export:write", "query:read", "batch_export:read", "group:read", "cohort:read"]


def settings_of(posthog: EmulatorProcess, key: str | None = None) -> ClientSettings:
    return ClientSettings(posthog.url, key or posthog.api_key, posthog.project_id)


def look(settings: ClientSettings) -> Any:
    with Client(settings) as client:
        return run(residue(settings), client)


def test_it_lists_what_there_is(posthog: EmulatorProcess) -> None:
    settings = settings_of(posthog)
    with Client(settings) as client:
        source = {"kind": "HogQLQuery", "query": "SELECT 1 LIMIT 1"}
        made = client.send(exports.create(export_format="text/csv", export_context={"source": source}))
    found = look(settings)
    (export,) = found["exports"]
    assert export["id"] == made["id"]
    assert set(export) == {"id", "export_format", "created_at", "expires_after"}
    assert {row["group_type"] for row in found["group_types"]}
    assert isinstance(found["batch_exports"], list)
    assert tell({"cannot_erase": found}, PSEUDONYMS)["cannot_erase"]["exports"] == [export], "a record can hold it"


@pytest.mark.parametrize(
    ("scope", "name"),
    [("export:read", "exports"), ("batch_export:read", "batch_exports"), ("group:read", "group_types")],
)
def test_a_missing_scope_is_told(posthog: EmulatorProcess, scope: str, name: str) -> None:
    scopes = [one for one in SCOPES if one.split(":")[0] != scope.split(":")[0]]
    found = look(settings_of(posthog, posthog.create_key(scopes)))
    assert found[name] is None
    assert found["not_looked_at"][name] == f"missing scope {scope}"
    others = {"exports", "batch_exports", "group_types"} - {name}
    assert all(isinstance(found[other], list) for other in others)


def test_the_same_in_the_triggerer(posthog: EmulatorProcess) -> None:
    settings = settings_of(posthog)

    async def looked() -> Any:
        async with AsyncClient(settings) as client:
            return await run_async(residue(settings), client)

    assert asyncio.run(looked()) == look(settings)


def test_a_key_that_is_refused_is_an_error(posthog: EmulatorProcess) -> None:
    with pytest.raises(PostHogAuthenticationError):
        look(settings_of(posthog, "phx_nobody0000000000000000"))


def page(*rows: dict[str, Any], after: str | None = None) -> Any:
    return ok({"count": len(rows), "next": after, "previous": None, "results": list(rows)})


def test_static_cohorts(server: ScriptedServer) -> None:
    settings = ClientSettings(server.url, "phx_0123456789abcdef", 1)
    rows = [
        {"id": 1, "name": "by hand", "is_static": True, "count": 3, "deleted": False, "created_by": {"email": "a@b.c"}},
        {"id": 2, "name": "dynamic", "is_static": False, "count": 9},
        {"id": 3, "name": "deleted", "is_static": True, "count": 9, "deleted": True},
        {"id": 4, "name": {"odd": 1}, "is_static": True, "count": -1},
    ]
    server.script(page(*rows))
    with Client(settings) as client:
        found = run(static_cohorts(settings), client)
    assert found == [{"id": 1, "name": "by hand", "count": 3}, {"id": 4, "name": "?", "count": "?"}]
    assert server.requests[0].path.startswith("/api/projects/1/cohorts/?limit=100")


def test_more_than_can_be_listed_is_told(make_server: Callable[..., ScriptedServer]) -> None:
    server = make_server()
    settings = ClientSettings(server.url, "phx_0123456789abcdef", 1)
    replies = []
    for start in range(0, MAX_LISTED + 200, 100):
        rows = [
            {"id": number, "export_format": "text/csv"} for number in range(start - 10 if start else 0, start + 100)
        ]
        replies.append(page(*rows, after=f"{server.url}/api/projects/1/exports/?limit=100&offset={start + 100}"))
    empty = [page(), page(), ok([])]
    server.script(*replies[:11], *empty)
    with Client(settings) as client:
        found = run(residue(settings), client)
    assert len(found["exports"] or ()) == MAX_LISTED
    assert "there are more" in found["not_looked_at"]["exports"]


def test_a_server_that_can_not_answer_is_told(server: ScriptedServer) -> None:
    settings = ClientSettings(server.url, "phx_0123456789abcdef", 1, max_rate_limit_wait=1)
    refused = error(403, "This action does not support Personal API Key access", code="permission_denied")
    server.script(page(), error(404, "Not found.", code="not_found"), error(400, "No.", code="invalid_input"), refused)
    with Client(settings) as client:
        found = run(residue(settings), client)
    assert found["exports"] == []
    assert found["not_looked_at"] == {
        "batch_exports": "this server does not offer it",
        "static_cohorts": "PostHog answered 400",
        "group_types": "PostHog refuses it to this key",
    }
