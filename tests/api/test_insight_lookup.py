"""Finding an insight by its number, its short id or what a task handed on."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.api import insight_lookup, insights
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.steps import Steps, run
from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogPermissionError, PostHogSettingsError
from tests.support.scripted import ScriptedServer, error, ok

FOUND = {"id": 7, "short_id": "abCD1234"}


def _run(steps: Steps[Any], server: ScriptedServer) -> Any:
    with Client(ClientSettings(base_url=server.url, api_key="phx_key", project_id=1)) as client:
        return run(steps, client)


def _page(*items: dict[str, Any]) -> Any:
    return ok({"count": len(items), "next": None, "results": list(items)})


@pytest.mark.parametrize("insight", [7, "7", " 7 ", {"id": 7}, {"id": "7", "short_id": "x"}])
def test_a_number_takes_one_call(server: ScriptedServer, insight: Any) -> None:
    server.script(ok(FOUND))
    assert _run(insight_lookup.find(insight), server) == FOUND
    assert (
        _run(insight_lookup.ask(insight, lambda number: insights.retrieve(number, refresh="blocking")), server) == FOUND
    )
    paths = [request.path.removeprefix("/api/projects/1/") for request in server.requests]
    assert paths == ["insights/7/", "insights/7/?refresh=blocking"]


@pytest.mark.parametrize("insight", ["abCD1234", {"id": None, "short_id": "abCD1234"}, {"short_id": "abCD1234"}])
def test_a_short_id_is_looked_up_among_all(server: ScriptedServer, insight: Any) -> None:
    server.script(_page({"id": 6, "short_id": "abcd1234"}, FOUND))
    assert _run(insight_lookup.find(insight), server) == FOUND
    server.script(_page({"id": 6, "short_id": "abcd1234"}, FOUND), ok({"result": 1}))
    assert _run(insight_lookup.ask(insight, insights.retrieve), server) == {"result": 1}
    paths = [request.path.removeprefix("/api/projects/1/") for request in server.requests]
    assert paths == ["insights/?short_id=abCD1234", "insights/7/"]


def test_digits_that_are_no_number_of_an_insight_are_a_short_id(server: ScriptedServer) -> None:
    found = {"id": 7, "short_id": "12345678"}
    server.script(error(404), _page(found))
    assert _run(insight_lookup.find("12345678"), server) == found
    server.script(error(404), _page(found), ok({"result": 1}))
    assert _run(insight_lookup.ask("12345678", insights.retrieve), server) == {"result": 1}
    server.script(_page({"id": 7, "short_id": "00000007"}))
    assert _run(insight_lookup.find("00000007"), server)["id"] == 7


@pytest.mark.parametrize("make", [insight_lookup.find, lambda insight: insight_lookup.ask(insight, insights.retrieve)])
def test_one_that_is_not_there(server: ScriptedServer, make: Any) -> None:
    for insight, script in ((7, [error(404), _page()]), ("abCD1234", [_page({"id": 6, "short_id": "other"})])):
        server.script(*script)
        with pytest.raises(PostHogSettingsError, match="has no such insight"):
            _run(make(insight), server)


def test_other_errors_are_raised_as_they_are(server: ScriptedServer) -> None:
    server.script(error(403))
    with pytest.raises(PostHogPermissionError):
        _run(insight_lookup.find(7), server)
    server.script(_page(FOUND), error(404))  # deleted between the two
    with pytest.raises(PostHogNotFoundError):
        _run(insight_lookup.ask("abCD1234", insights.retrieve), server)


@pytest.mark.parametrize("insight", [None, "", "  ", True, 1.5, [], [7], {}, {"id": None}, {"id": True}, "x" * 65])
def test_what_names_no_insight_is_refused_before_anything_is_sent(server: ScriptedServer, insight: Any) -> None:
    for steps in (insight_lookup.find(insight), insight_lookup.ask(insight, insights.retrieve)):
        with pytest.raises(PostHogSettingsError, match="insight"):
            _run(steps, server)
    assert server.requests == []


def test_an_answer_without_a_number(server: ScriptedServer) -> None:
    server.script(_page({"short_id": "abCD1234"}))
    with pytest.raises(PostHogSettingsError, match="without its id"):
        _run(insight_lookup.ask("abCD1234", insights.retrieve), server)
