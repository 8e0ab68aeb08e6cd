"""Every endpoint: the request that arrives at a server, and what becomes of good and of odd answers."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_posthog.api.async_clients import AsyncClient
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.catalog import CATALOG, build
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.exchange import Done, Exchange
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogDeprecatedEndpointWarning, PostHogError, PostHogTransportError
from tests.api.cases import KEY, settings_for
from tests.api.endpoint_cases import CASES, Case
from tests.api.test_answers import BODIES, HEADERS, STATUSES
from tests.support.scripted import Reply, ScriptedServer, html, ok
from tests.support.senders import Sender

ROWS = list(csv.DictReader((Path(__file__).parents[1] / "contract" / "endpoints.tsv").open(), delimiter="\t"))
ONE_TRY = RetryPolicy(max_attempts=1, max_rate_limit_wait=0.0)
#: What the case of an endpoint cannot have in it, as it excludes the rest; test_endpoint_rules.py has it.
ELSEWHERE = {
    "batch_exports.runs": {"start", "end", "ordering"},
    "persons.bulk_delete": {"distinct_ids"},
    "dashboards.run_insights": {"refresh", "output_format"},
}

pytestmark = pytest.mark.filterwarnings("ignore::airflow_provider_posthog.exceptions.PostHogDeprecatedEndpointWarning")


def made(case: Case) -> Call[Any]:
    return build(case.name, case.arguments)


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


#: Modules of endpoints that are younger than the table.
NEWER = {
    *("warehouse", "data_quality", "query_endpoints"),
    *("cohorts", "annotations", "feature_flags", "experiments"),
}


def test_all_rows_are_there() -> None:
    """Each endpoint that PostHog documents is there once, with its method and its path."""
    of_table = [endpoint for name, endpoint in CATALOG.items() if name.split(".")[0] not in NEWER]
    documented = [(endpoint.documented, endpoint.path) for endpoint in of_table if endpoint.documented]
    header = "path (under /api/projects/{project_id}/)"
    assert sorted(documented) == sorted((row["method"], row[header]) for row in ROWS)
    assert len(documented) == 74
    assert {name for name, endpoint in CATALOG.items() if not endpoint.documented} == {
        "insights.restore",
        "dashboards.restore",
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['method']} {list(row.values())[2]}")
def test_area_and_scope(row: dict[str, str]) -> None:
    area, method, path, scope = list(row.values())[:4]
    (endpoint,) = [one for one in CATALOG.values() if (one.documented, one.path) == (method, path)]
    assert endpoint.name.startswith({"users": "projects"}.get(area, area) + ".")
    assert endpoint.scopes[0] == scope.split()[0]
    assert endpoint.method == (method if "405" not in row["what it does"] else "PATCH")


def test_every_endpoint_and_argument_has_a_case() -> None:
    assert set(CASES) == set(CATALOG)
    for name, endpoint in CATALOG.items():
        assert set(CASES[name].arguments) | ELSEWHERE.get(name, set()) == set(endpoint.parameters)


def test_request(sender: Sender, server: ScriptedServer, case: Case) -> None:
    server.script(ok(case.reply, case.status) if case.reply is not None else Reply(case.status))
    value = sender.send(settings_for(server), made(case))
    (received,) = server.requests
    address = urlsplit(received.path)
    assert received.method == case.method
    assert address.path == (case.path if case.path.startswith("/") else f"/api/projects/7/{case.path}")
    assert tuple(parse_qsl(address.query, keep_blank_values=True, strict_parsing=bool(address.query))) == case.query
    if case.body is None:
        assert received.body == b""
    else:
        assert received.json == case.body
        assert received.headers["content-type"] == "application/json"
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert value == (case.reply if case.value is ... else case.value)


def test_the_call_says_what_the_endpoint_says(case: Case) -> None:
    endpoint, call = CATALOG[case.name], made(case)
    assert call.name == case.name
    assert (call.method, call.bucket, call.paging) == (endpoint.method, endpoint.bucket, endpoint.paging)
    assert call.scopes[: len(endpoint.scopes)] == endpoint.scopes
    assert call.repeatable == (endpoint.repeatable or case.name == "persons.bulk_delete")


def test_what_may_be_repeated() -> None:
    """Reading, and changes that are the same twice; not what creates something."""
    assert {name for name, endpoint in CATALOG.items() if not endpoint.repeatable} == {
        "exports.create",
        "insights.create",
        "elements.create",
        "persons.bulk_delete",
        "dashboards.create_from_template_json",
        "batch_exports.unpause",
        "batch_exports.retry_run",
        "batch_exports.start_backfill",
        "file_downloads.start",
        "warehouse.reload_source",
        "warehouse.reload_schema",
        "warehouse.resync_schema",
        "warehouse.run_view",
        "cohorts.create_static",
        "annotations.create",
    }


def test_paging() -> None:
    styles: dict[str, set[str]] = {}
    for name, endpoint in CATALOG.items():
        styles.setdefault(endpoint.paging, set()).add(name)
    del styles["none"]
    assert styles == {
        "offset": {
            "exports.list",
            "insights.list",
            "elements.list",
            "elements.stats",
            "persons.list",
            "persons.deletion_status",
            "dashboards.list",
            "batch_exports.list",
            "file_downloads.list",
            "warehouse.sources",
            "warehouse.views",
            "warehouse.tables",
            "data_quality.table_checks",
            "data_quality.view_checks",
            "cohorts.list",
            "annotations.list",
            "feature_flags.list",
            "experiments.list",
        },
        "cursor": {"groups.list", "batch_exports.runs", "batch_exports.backfills"},
        "next": {"events.list", "insights.activity", "insights.activity_of_all", "persons.activity"},
    }


def test_buckets() -> None:
    """PostHog counts persons, events and insights as analytics, and the deletion of persons by itself."""
    for name, endpoint in CATALOG.items():
        area = name.split(".")[0]
        wanted = "analytics" if area in ("persons", "events", "insights") else "crud"
        special = {
            "persons.delete": "deletion",
            "persons.bulk_delete": "deletion",
            "queries.start": "query",
            "query_endpoints.run": "query",
            "dashboards.run_insights": "analytics",
            "insights.sharing": "crud",
        }
        assert endpoint.bucket == special.get(name, wanted), name


def test_the_list_of_events_warns_at_its_caller() -> None:
    case = CASES["events.list"]
    with pytest.warns(PostHogDeprecatedEndpointWarning, match="deprecated") as caught:
        CATALOG["events.list"](**case.arguments)
    assert [warning.filename for warning in caught] == [__file__]


#: Answers that are none, and whether an endpoint may make a value of each.
ODD: dict[str, Reply] = {
    "html": html(200),
    "html, created": html(201, "<html>Welcome to the proxy</html>"),
    "cut JSON": Reply(200, {"Content-Type": "application/json"}, b'{"results": [{"id": 1}'),
    "text": Reply(200, {"Content-Type": "text/plain"}, b"OK"),
    "bytes": Reply(200, {"Content-Type": "application/octet-stream"}, b"\xff\xfe\x00"),
    "a number": ok(5),
    "null": ok(None),
    "a list of numbers": ok([1, 2]),
    "an empty object": ok({}),
    "an empty list": ok([]),
    "null results": ok({"results": None, "next": None}),
    "results of another type": ok({"results": {"a": 1}}),
    "results of numbers": ok({"results": [1], "next": 5}),
    "unknown keys": ok({"results": [{"new": {"er": 1}}], "next": None, "brand": "new"}),
    "nothing": Reply(200),
    "nothing, 204": Reply(204),
    "a redirect": Reply(302, {"Location": "https://storage.example.com/x?signature=secret"}),
    "html, 502": html(502),
    "an unknown envelope": ok({"error": ["x"], "detail": {"a": 1}, "code": 5, "attr": []}, 400),
    "a list of errors": ok([{"detail": "x"}], 400),
    "5 MB": Reply(500, {"Content-Type": "text/html"}, b"<p>" * 1_700_000),
    "an empty 405": Reply(405),
}


@pytest.fixture(scope="module")
def odd_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.mark.parametrize("reply", ODD.values(), ids=ODD)
def test_odd_answers(odd_server: ScriptedServer, reply: Reply) -> None:
    """All endpoints, through both clients: a value or one of our errors, and the same of both."""
    reach = settings_for(odd_server)
    outcomes = [asyncio.run(_outcomes(reach, odd_server, reply)), _outcomes_blocking(reach, odd_server, reply)]
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == len(CASES)
    if reply.status >= 300:
        assert all(isinstance(outcome, type) for outcome in outcomes[0].values())
    if reply.headers.get("Content-Type") in ("text/plain", "text/html; charset=utf-8") and reply.status < 300:
        raw = {"exports.content", "file_downloads.download", "queries.cancel"}
        made_of_html = {name for name, outcome in outcomes[0].items() if not isinstance(outcome, type)}
        assert made_of_html == raw


async def _outcomes(reach: ClientSettings, server: ScriptedServer, reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = {}
    async with AsyncClient(reach) as client:
        for name, case in CASES.items():
            server.script(reply)
            try:
                found[name] = await client.send(made(case), policy=ONE_TRY)
            except PostHogError as error:
                found[name] = _told(error)
    return found


def _outcomes_blocking(reach: ClientSettings, server: ScriptedServer, reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with Client(reach) as client:
        for name, case in CASES.items():
            server.script(reply)
            try:
                found[name] = client.send(made(case), policy=ONE_TRY)
            except PostHogError as error:
                found[name] = _told(error)
    return found


def _told(error: PostHogError) -> type[PostHogError]:
    assert KEY not in str(error)
    assert "signature" not in str(error)
    assert "example.com" not in str(error).replace("storage.example.com", "")
    assert len(str(error)) < 2000
    return type(error)


@settings(max_examples=300)
@given(st.sampled_from(sorted(CASES)), STATUSES, HEADERS, BODIES)
def test_any_answer(name: str, status: int, headers: dict[str, str], body: bytes) -> None:
    exchange = Exchange(made(CASES[name]), ClientSettings(base_url="http://127.0.0.1:9", project_id=7), ONE_TRY)
    try:
        step = exchange.receive(Answer(status, {key.lower(): value for key, value in headers.items()}, body))
    except PostHogError as error:
        str(error).encode()
    else:
        assert isinstance(step, Done)


@pytest.mark.parametrize(
    ("name", "body", "value"),
    [
        ("persons.bulk_delete", b"", {}),
        ("persons.bulk_delete", b'{"persons_found": 1}', {"persons_found": 1}),
        ("persons.delete", b'{"detail": "x"}', None),
        ("groups.property_values", b'[{"name": "x"}]', [{"name": "x"}]),
        ("groups.types", b'{"results": [{"group_type": "company"}]}', [{"group_type": "company"}]),
        ("file_downloads.list", b'[{"id": "x"}]', {"results": [{"id": "x"}], "next": None}),
        ("batch_exports.pause", b"", {}),
    ],
)
def test_what_servers_of_other_ages_answer(name: str, body: bytes, value: Any) -> None:
    assert made(CASES[name]).read(Answer(202, {}, body)) == value


@pytest.mark.parametrize("name", ["persons.delete", "persons.bulk_delete", "elements.delete", "insights.cancel"])
def test_a_page_of_a_proxy_is_no_success(name: str) -> None:
    with pytest.raises(PostHogTransportError, match="not JSON"):
        made(CASES[name]).read(Answer(200, {"content-type": "text/html"}, b"<html>Sign in</html>"))


def test_nothing_personal_in_names_and_paths() -> None:
    """What logs and errors show of a call."""
    for case in CASES.values():
        call = made(case)
        assert "@" not in call.path.replace("/@me/", "")
        assert call.name in CATALOG
        assert "example.com" not in json.dumps([call.name, call.path])
