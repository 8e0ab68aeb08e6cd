"""What PostHog cannot erase is listed, or said not to have been looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_posthog.api import exports
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.audit.facts import tell
from airflow_provider_posthog.audit.residue import MAX_LISTED, residue, static_cohorts
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogAuthenticationError
from tests.audit.support import PSEUDONYMS
from tests.support.scripted import ScriptedServer, error, ok

SCOPES = [
    *("export:read", "export:write", "query:read", "batch_export:read", "group:read", "cohort:read"),
    *("hog_function:read", "subscription:read", "external_data_source:read"),
]
#: Everything that is looked for, and the scope of it.
LISTS = {
    "exports": "export:read",
    "batch_exports": "batch_export:read",
    "static_cohorts": "cohort:read",
    "group_types": "group:read",
    "hog_functions": "hog_function:read",
    "subscriptions": "subscription:read",
    "warehouse_sources": "external_data_source:read",
    "elt_destinations": "external_data_source:read",
}
NOT_FOR_KEYS = {"managed_warehouse": "PostHog refuses it to this key"}


def settings_of(posthog: EmulatorProcess, key: str | None = None) -> ClientSettings:
    return ClientSettings(posthog.url, key or posthog.api_key, posthog.project_id)


def look(settings: ClientSettings) -> Any:
    with Client(settings) as client:
        return residue(client)


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
    ("scope", "name"), [(scope, name) for name, scope in LISTS.items() if name != "static_cohorts"]
)
def test_a_missing_scope_is_told(posthog: EmulatorProcess, scope: str, name: str) -> None:
    posthog.settings(generation="C")
    scopes = [one for one in SCOPES if one.split(":")[0] != scope.split(":")[0]]
    found = look(settings_of(posthog, posthog.create_key(scopes)))
    assert found[name] is None
    assert found["not_looked_at"][name] == f"missing scope {scope}"
    others = {other for other in LISTS if LISTS[other] != scope and other != "static_cohorts"}
    assert all(isinstance(found[other], list) for other in others)


def test_who_may_have_received_the_data_is_listed(posthog: EmulatorProcess) -> None:
    """And not to whom: a subscription's target is an address, a function's inputs may be keys."""
    posthog.settings(generation="C")
    secret = "ann@example.org"
    rows: dict[str, list[dict[str, Any]]] = {
        "hog_functions": [
            {"id": "a", "name": "to the CRM", "type": "destination", "enabled": True, "inputs": {"url": secret}},
            {"id": "b", "name": "old", "enabled": False},
            {"id": "c", "name": "only a filter", "type": "transformation", "enabled": True},
        ],
        "subscriptions": [
            {"id": 7, "title": "weekly", "target_type": "email", "target_value": secret, "deleted": False},
            {"id": 8, "title": "gone", "target_type": "slack", "deleted": True},
        ],
        "external_data_sources": [
            {"id": "d", "source_type": "Stripe", "prefix": None, "status": "Completed", "x": secret}
        ],
        "external_data_destinations": [
            {"id": "e", "name": "ours", "type": "Postgres", "is_posthog_warehouse": False, "config": {"host": secret}},
            {"id": "f", "name": "PostHog's", "type": "PostHogWarehouse", "is_posthog_warehouse": True},
        ],
    }
    for path, results in rows.items():
        body = {"count": len(results), "next": None, "previous": None, "results": results}
        posthog.faults(method="GET", path=f"*/{path}/", status=200, body=body, count=1)
    found = look(settings_of(posthog))
    assert found["hog_functions"] == [
        {"id": "a", "name": "to the CRM", "enabled": True, "type": "destination"},
        {"id": "b", "name": "old", "enabled": False, "type": "destination"},
    ]
    assert found["subscriptions"] == [{"id": 7, "title": "weekly", "target_type": "email"}]
    assert found["warehouse_sources"] == [{"id": "d", "source_type": "Stripe", "prefix": None, "status": "Completed"}]
    assert found["elt_destinations"] == [{"id": "e", "name": "ours", "type": "Postgres"}]
    assert found["managed_warehouse"] is None
    assert NOT_FOR_KEYS.items() <= found["not_looked_at"].items()
    assert secret not in str(tell({"cannot_erase": found}, PSEUDONYMS))


def test_a_managed_warehouse_is_told_where_the_key_may_see_it(posthog: EmulatorProcess) -> None:
    body = {"state": "ready", "has_backfill": True, "connection": {"host": "x.dw.us.postwh.com", "username": "root"}}
    posthog.faults(path="*/warehouse_status/", status=200, body=body, count=1)
    assert look(settings_of(posthog))["managed_warehouse"] == [{"state": "ready", "has_backfill": True}]
    posthog.faults(path="*/warehouse_status/", status=404, body={}, count=1)
    told = look(settings_of(posthog))["not_looked_at"]["managed_warehouse"]
    assert told == "there is none, or this server does not offer it"


@pytest.mark.parametrize(("generation", "told"), [("A", "does not offer it"), ("B", "does not offer it"), ("C", None)])
def test_older_servers_have_no_elt_destinations(posthog: EmulatorProcess, generation: str, told: str | None) -> None:
    posthog.settings(generation=generation)
    reason = look(settings_of(posthog))["not_looked_at"].get("elt_destinations")
    assert (reason or "").endswith(told) if told else reason is None


def test_what_the_plan_does_not_have_is_told(posthog: EmulatorProcess) -> None:
    body = {"type": "validation_error", "code": "payment_required", "detail": "Upgrade."}
    posthog.faults(path="*/subscriptions/", status=402, body=body, count=-1)
    assert look(settings_of(posthog))["not_looked_at"]["subscriptions"] == "PostHog answered 402"


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
        found = static_cohorts(client)
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
    empty = [page(), page(), ok([]), page(), page(), page(), page(), ok({"state": "ready"})]
    server.script(*replies[:11], *empty)
    with Client(settings) as client:
        found = residue(client)
    assert len(found["exports"] or ()) == MAX_LISTED
    assert "there are more" in found["not_looked_at"]["exports"]


def test_a_server_that_can_not_answer_is_told(server: ScriptedServer) -> None:
    settings = ClientSettings(server.url, "phx_0123456789abcdef", 1, max_rate_limit_wait=1)
    refused = error(403, "This action does not support Personal API Key access", code="permission_denied")
    missing = error(404, "Not found.", code="not_found")
    first = (page(), missing, error(400, "No.", code="invalid_input"), refused)
    server.script(*first, page(), page(), page(), missing, refused)
    with Client(settings) as client:
        found = residue(client)
    assert found["exports"] == []
    assert found["not_looked_at"] == {
        "batch_exports": "this server does not offer it",
        "static_cohorts": "PostHog answered 400",
        "group_types": "PostHog refuses it to this key",
        "elt_destinations": "this server does not offer it",
        **NOT_FOR_KEYS,
    }
