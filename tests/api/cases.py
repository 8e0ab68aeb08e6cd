"""What the tests of the API layer send."""

from __future__ import annotations

from typing import Any

from airflow_provider_posthog.api import exports, insights, projects, queries
from airflow_provider_posthog.api.call import Answer, Call, json_object
from airflow_provider_posthog.api.settings import ClientSettings
from tests.support.scripted import ScriptedServer

KEY = "phx_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
EXPORT = {"id": 42, "export_format": "text/csv", "has_content": False}

GET = exports.retrieve(42)
LIST = exports.list(export_format="text/csv", limit=5)
CREATE = exports.create(export_format="text/csv", export_context={"source": queries.hogql("SELECT 1")})
QUERY = queries.start(queries.hogql("SELECT {a}", {"a": "x"}))
STATUS = queries.status("abc")
CANCEL = queries.cancel("abc")
#: Every call of the package, by name.
CALLS: dict[str, Call[Any]] = {
    call.name: call
    for call in (
        GET,
        LIST,
        CREATE,
        exports.content(42),
        QUERY,
        STATUS,
        CANCEL,
        insights.list(short_id="abc"),
        insights.retrieve(7),
        projects.retrieve(7),
        projects.me(),
    )
}


def settings_for(server: ScriptedServer, **changes: Any) -> ClientSettings:
    """Settings that reach the server, and lose patience soon."""
    given: dict[str, Any] = {
        "base_url": server.url,
        "api_key": KEY,
        "project_id": 7,
        "connect_timeout": 2.0,
        "read_timeout": 5.0,
        "verify": False,
    }
    return ClientSettings(**(given | changes))


def simple(path: str, **changes: Any) -> Call[dict[str, Any]]:
    """A GET of any path."""
    return Call("test.simple", "GET", path, json_object, **changes)


def answer(status: int = 200, body: bytes = b"", **headers: str) -> Answer:
    """An answer; underscores in the names of headers stand for hyphens."""
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
