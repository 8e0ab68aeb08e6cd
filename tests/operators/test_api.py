"""Any endpoint as a task."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_posthog.api import insights
from airflow_provider_posthog.api.catalog import CATALOG
from airflow_provider_posthog.compat import ObjectStoragePath
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.operators.api import PostHogApiOperator, shape_of
from airflow_provider_posthog.tasks.result_file import MAX_XCOM_BYTES
from tests.api.endpoint_cases import CASES, UUID, Case
from tests.operators.support import context, export_operator, finish, make_dag, task_states, xcoms
from tests.support.scripted import Reply, ScriptedServer, cut, error, html, ok

pytestmark = pytest.mark.filterwarnings("ignore::airflow_provider_posthog.exceptions.PostHogDeprecatedEndpointWarning")
PEOPLE = [
    {"id": number, "properties": {"email": f"p{number}@example.com", "note": "a\u2028b\n\u20ac"}}
    for number in range(250)
]


def operator(call: str, arguments: dict[str, Any] | None = None, **options: Any) -> PostHogApiOperator:
    return PostHogApiOperator(task_id="task", call=call, arguments=arguments, **options)


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """A scripted server, and an Airflow connection to it with project 7."""
    conn = {"conn_type": "posthog", "host": server.url, "password": "phx_0123456789", "extra": {"project_id": 7}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    return server


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def fits(found: dict[str, Any], path: Path, rows: int | None) -> None:
    """Check what the task returned against the file that is there, and that no other is left."""
    data = path.read_bytes()
    assert found["path"].endswith(path.name)
    assert found == {
        "path": found["path"],
        "bytes": len(data),
        "rows": rows,
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert [each.name for each in path.parent.iterdir()] == [path.name]


# all endpoints


def test_shapes() -> None:
    shapes: dict[str, set[str]] = {}
    for name, endpoint in CATALOG.items():
        shapes.setdefault(shape_of(endpoint), set()).add(name)
    assert shapes["file"] == {"exports.content", "file_downloads.download"}
    assert shapes["rows"] == {
        "elements.values",
        "groups.property_values",
        "groups.types",
        "insights.suggestions",
        "insights.post_suggestions",
    }
    assert shapes["pages"] == {name for name, endpoint in CATALOG.items() if endpoint.paging != "none"}
    assert len(shapes["value"]) > 50


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_endpoint_is_a_task(scripted: ScriptedServer, tmp_path: Path, case: Case) -> None:
    shape = shape_of(CATALOG[case.name])
    value = case.reply if case.value is ... else case.value
    scripted.script(ok(case.reply, case.status) if case.reply is not None else Reply(case.status))
    if shape == "file":
        scripted.script(Reply(200, {"Content-Type": "application/octet-stream"}, value))
    options: dict[str, Any] = {"max_items": 100} if shape in ("pages", "rows") else {}
    if shape != "file":
        found = operator(case.name, case.arguments, **options).execute({})
        assert found == (value["results"] if shape == "pages" else value)
        (received,) = scripted.requests
        assert received.method == case.method
        path = urlsplit(received.path).path
        assert path == (case.path if case.path.startswith("/") else f"/api/projects/7/{case.path}")
        if case.body is not None:
            assert received.json == case.body
    target = tmp_path / "answer"
    found = operator(case.name, case.arguments, path=f"file://{target}", **options).execute({})
    if shape == "file":
        assert target.read_bytes() == value
    elif shape == "value":
        assert json.loads(target.read_bytes()) == value
    else:
        assert lines(target) == found_items(value)
    fits(found, target, len(found_items(value)) if shape in ("pages", "rows") else None)


def found_items(value: Any) -> list[Any]:
    return list(value["results"] if isinstance(value, dict) else value)


# what is refused before anything is sent

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown_call": ({"call": "dashboards.move_tiles"}, "call", "Did you mean 'dashboards.move_tile'?"),
    "unknown_area": ({"call": "move_tile"}, "call", "Did you mean 'dashboards.move_tile'?"),
    "no_call": ({"call": ""}, "call", "docs/api.md"),
    "call_of_another_kind": ({"call": 5}, "call", "docs/api.md"),
    "unknown_argument": (
        {"call": "insights.retrieve", "arguments": {"insight_ids": 1}},
        "arguments",
        "Did you mean 'insight_id'?",
    ),
    "missing_argument": ({"call": "insights.retrieve"}, "arguments", "needs: insight_id"),
    "list_of_arguments": ({"call": "insights.retrieve", "arguments": [1]}, "arguments", "by name"),
    "text_for_a_number": (
        {"call": "dashboards.move_tile", "arguments": {"dashboard_id": 1, "tile_id": "5", "to_dashboard": 2}},
        "tile_id",
        "whole number",
    ),
    "text_for_a_flag": (
        {"call": "persons.delete", "arguments": {"person_id": UUID, "delete_events": "false"}},
        "delete_events",
        "True or False",
    ),
    "list_without_path": ({"call": "insights.list"}, "path", "XCom"),
    "long_list_without_path": ({"call": "insights.list", "max_items": 101}, "path", "at most 100"),
    "rows_without_path": ({"call": "groups.types"}, "path", "XCom"),
    "file_without_path": (
        {"call": "exports.content", "arguments": {"export_id": 1}},
        "path",
        "PostHogExportToObjectStorageOperator",
    ),
    "max_items_of_one": (
        {"call": "insights.retrieve", "arguments": {"insight_id": 1}, "max_items": 5},
        "max_items",
        "is not a list",
    ),
    "max_items_of_nothing": ({"call": "insights.list", "max_items": 0}, "max_items", "1 or more"),
    "max_items_text": ({"call": "insights.list", "max_items": "5"}, "max_items", "1 or more"),
    "max_items_true": ({"call": "insights.list", "max_items": True}, "max_items", "1 or more"),
    "empty_path": ({"call": "insights.list", "path": " "}, "path", "names no file"),
    "folder": ({"call": "insights.list", "path": "file:///tmp/x/"}, "path", "names no file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_before_anything_is_sent(connected: EmulatorProcess, case: str) -> None:
    given, field, words = REFUSED[case]
    with pytest.raises(PostHogSettingsError) as refused:
        PostHogApiOperator(task_id="task", **given).execute({})
    assert refused.value.field == field
    assert words in str(refused.value)
    assert connected.calls() == []


def test_a_file_that_is_there_is_refused_before_anything_is_sent(connected: EmulatorProcess, tmp_path: Path) -> None:
    target = tmp_path / "a.jsonl"
    target.write_text("mine")
    with pytest.raises(PostHogSettingsError, match="already exists"):
        operator("insights.list", path=f"file://{target}").execute({})
    assert target.read_text() == "mine"
    assert connected.calls() == []


def test_a_folder_in_the_way_is_found_before_anything_is_sent(connected: EmulatorProcess, tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        operator("insights.list", path=f"file://{tmp_path}", overwrite=True).execute({})
    assert connected.calls() == []


def test_making_an_operator_reads_nothing(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT")
    operator("no such call", {"x": object()}, max_items=-1)
    assert connected.calls() == []


def test_templates_are_rendered() -> None:
    made = operator(
        "insights.{{ ds }}",
        {"a": ["{{ ds }}", 5], "b{{ ds }}": {"c": "{{ ds }}"}},
        path="file:///{{ ds }}",
        posthog_conn_id="c{{ ds }}",
        project_id="{{ ds }}",
        object_storage_conn_id="s{{ ds }}",
    )
    made.render_template_fields({"ds": "1"})
    assert (made.call, made.path) == ("insights.1", "file:///1")
    assert made.arguments == {"a": ["1", 5], "b{{ ds }}": {"c": "1"}}
    assert (made.posthog_conn_id, made.project_id, made.object_storage_conn_id) == ("c1", "1", "s1")


# answers


def test_a_value_comes_back_as_json(connected: EmulatorProcess) -> None:
    found = operator("insights.retrieve", {"insight_id": "1"}).execute({})
    assert found["id"] == 1
    assert found == json.loads(json.dumps(found)) == PostHogHook().send(insights.retrieve(1))


def test_a_short_list_comes_back_whole(connected: EmulatorProcess) -> None:
    every = operator("insights.list", {"basic": True, "limit": 2}, max_items=100).execute({})
    assert [one["id"] for one in every] == [one["id"] for one in PostHogHook().pages(insights.list())]
    assert len(every) > 2
    assert operator("insights.list", {"basic": True}, max_items=1).execute({}) == every[:1]


def test_a_list_goes_to_a_file_page_by_page(connected: EmulatorProcess, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "insights.jsonl"
    made = operator("insights.list", {"basic": True, "limit": 2}, path=f"file://{target}")
    found = made.execute({})
    every = [one["id"] for one in PostHogHook().pages(insights.list())]
    assert [one["id"] for one in lines(target)] == every
    fits(found, target, len(every))


def test_an_empty_list_is_an_empty_file(connected: EmulatorProcess, tmp_path: Path) -> None:
    found = operator("exports.list", path=f"file://{tmp_path}/none.jsonl").execute({})
    fits(found, tmp_path / "none.jsonl", 0)
    assert found["bytes"] == 0
    assert operator("exports.list", max_items=5).execute({}) == []


def test_an_exports_file(connected: EmulatorProcess, tmp_path: Path) -> None:
    export = finish(export_operator(query="SELECT event, uuid FROM events ORDER BY uuid LIMIT 400"))
    found = operator(
        "exports.content", {"export_id": export["id"]}, path=f"file://{tmp_path}/e.csv", overwrite=True
    ).execute({})
    fits(found, tmp_path / "e.csv", None)
    assert (tmp_path / "e.csv").read_bytes() == PostHogHook().get_conn().session.get(
        f"{connected.url}/api/projects/{connected.project_id}/exports/{export['id']}/content/",
        headers={"Authorization": f"Bearer {connected.api_key}"},
    ).content
    assert (tmp_path / "e.csv").read_bytes().count(b"\r\n") == 401


@pytest.mark.parametrize("call", ["exports.content", "file_downloads.download"])
def test_a_page_in_place_of_a_file_is_no_file(scripted: ScriptedServer, tmp_path: Path, call: str) -> None:
    scripted.script(html(200, "<html>Log in</html>"))
    arguments = dict(CASES[call].arguments)
    with pytest.raises(PostHogTransportError, match="text/html"):
        operator(call, arguments, path=f"file://{tmp_path}/f").execute({})
    assert list(tmp_path.iterdir()) == []


def test_rows_that_came_at_once_are_cut_at_max_items(scripted: ScriptedServer) -> None:
    scripted.script(ok([{"group_type": str(number)} for number in range(5)]))
    assert len(operator("groups.types", max_items=3).execute({})) == 3


def test_text_of_all_kinds_is_one_line_each(scripted: ScriptedServer, tmp_path: Path) -> None:
    people = [*PEOPLE[:2], {"id": 9, "properties": {"half": "\ud83d", "big": 2**64 + 1, "n\u2028": None}}]
    scripted.script(ok({"results": people, "next": None}))
    operator("persons.list", path=f"file://{tmp_path}/p.jsonl").execute({})
    text = (tmp_path / "p.jsonl").read_bytes()
    assert [json.loads(line) for line in text.decode("ascii").splitlines()] == people


def test_too_much_for_an_xcom_says_where_to_put_it(scripted: ScriptedServer, tmp_path: Path) -> None:
    large = {"id": 1, "result": ["x" * 100] * (MAX_XCOM_BYTES // 100)}
    scripted.script(ok(large))
    with pytest.raises(PostHogSettingsError, match=r"path: the answer to .* has [0-9,]* bytes"):
        operator("insights.retrieve", {"insight_id": 1}).execute({})
    operator("insights.retrieve", {"insight_id": 1}, path=f"file://{tmp_path}/i.json").execute({})
    assert json.loads((tmp_path / "i.json").read_bytes()) == large
    scripted.script(ok({"results": [large], "next": None}))
    with pytest.raises(PostHogSettingsError, match="smaller max_items"):
        operator("insights.list", max_items=1).execute({})


def test_just_not_too_much_for_an_xcom(scripted: ScriptedServer) -> None:
    padding = MAX_XCOM_BYTES - len('{"a":""}\n')
    scripted.script(ok({"a": "x" * padding}))
    assert len(operator("projects.me").execute({})["a"]) == padding
    scripted.script(ok({"a": "x" * (padding + 1)}))
    with pytest.raises(PostHogSettingsError, match="path"):
        operator("projects.me").execute({})


def test_what_was_created_is_not_created_again_for_its_large_answer(
    scripted: ScriptedServer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted.script(ok({"id": 5, "name": "n", "tiles": ["x" * 100] * 1000, "text": "y" * 9999, "__type": "x"}, 201))
    made = operator("dashboards.create_from_template_json", {"template": {"tiles": []}})
    assert made.execute({}) == {"id": 5, "name": "n"}
    assert "short fields" in caplog.text + capfd.readouterr().out


#: What Airflow makes objects of when a later task reads the XCom, or fails at.
AIRFLOWS_OWN = [
    {"__type": "airflow.models.dag.DAG", "__var": {}},
    {"a": 1, "__type": "dict", "__var": {}},
    {"__id__": 1},
    {"__classname__": "x", "__version__": 1},
]


@pytest.mark.parametrize("properties", AIRFLOWS_OWN)
def test_properties_do_not_become_objects_of_airflow(
    scripted: ScriptedServer, tmp_path: Path, properties: dict[str, Any]
) -> None:
    scripted.script(ok({"id": 1, "properties": properties}))
    with pytest.raises(PostHogSettingsError, match="takes for its own"):
        operator("persons.retrieve", {"person_id": UUID}).execute({})
    operator("persons.retrieve", {"person_id": UUID}, path=f"file://{tmp_path}/p").execute({})
    assert json.loads((tmp_path / "p").read_bytes())["properties"] == properties


def test_text_that_looks_like_such_a_key_is_text(scripted: ScriptedServer) -> None:
    person = {"a": ',"__type":', "b": '{"__id__":1}', "c": ["__type", "__var"], "my__type": 1}
    scripted.script(ok(person))
    assert operator("persons.retrieve", {"person_id": UUID}).execute({}) == person


@pytest.mark.parametrize("body", [b'{"a": NaN}', b'{"a": -Infinity}'])
def test_numbers_that_json_does_not_have(scripted: ScriptedServer, tmp_path: Path, body: bytes) -> None:
    scripted.script(Reply(200, {"Content-Type": "application/json"}, body))
    for options in ({}, {"path": f"file://{tmp_path}/x"}):
        with pytest.raises(PostHogTransportError, match="not JSON"):
            operator("projects.me", **options).execute({})
    assert list(tmp_path.iterdir()) == []


def test_another_object_storage(connected: EmulatorProcess) -> None:
    try:
        from airflow.sdk.io import attach
    except ImportError:
        from airflow.io.store import attach
    fs = MemoryFileSystem()
    fs.store.clear()  # all of them share it
    attach("memory", conn_id="lake", fs=fs)
    try:
        options: dict[str, Any] = {"path": "memory://lake/insights.jsonl", "object_storage_conn_id": "lake"}
        found = operator("insights.list", {"limit": 2}, **options).execute({})
        assert [len(fs.cat_file(path)) for path in fs.find("/")] == [found["bytes"]]
        with pytest.raises(PostHogSettingsError, match="already exists"):
            operator("insights.list", **options).execute({})
        options["path"] = ObjectStoragePath("memory://lake/insights.jsonl", conn_id="lake")
        assert operator("insights.list", {"limit": 3}, **options).execute(context(try_number=2)) == {
            **found,
            "path": str(options["path"]),
        }
    finally:
        fs.store.clear()


# failures leave no file


def _page(items: list[Any], next_: str | None) -> Reply:
    return ok({"results": items, "next": next_})


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (error(400), PostHogError),
        (error(403), PostHogError),
        (error(504), PostHogServerError),
        (html(200), PostHogTransportError),
        (ok({"results": None}), PostHogTransportError),
        (_page([], "http://elsewhere.example/api/projects/7/persons/?offset=200"), PostHogTransportError),
        (_page(PEOPLE[90:], "/api/projects/7/persons/?limit=100&offset=90"), PostHogIncompleteError),
    ],
)
def test_a_list_that_breaks_off_leaves_no_file(
    scripted: ScriptedServer, tmp_path: Path, last: Reply, kind: type[Exception]
) -> None:
    first = _page(PEOPLE[:100], f"{scripted.url}/api/projects/7/persons/?limit=100&offset=100")
    scripted.script(first, last)
    with pytest.raises(kind) as raised:
        operator("persons.list", {"limit": 100}, path=f"file://{tmp_path}/p.jsonl").execute({})
    assert "@example.com" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    assert len(scripted.requests) > 1


def test_a_page_that_was_cut_is_asked_for_again(scripted: ScriptedServer, tmp_path: Path) -> None:
    scripted.script(
        _page(PEOPLE[:100], f"{scripted.url}/api/projects/7/persons/?limit=100&offset=100"),
        cut("body"),
        _page(PEOPLE[90:190], None),
    )
    found = operator("persons.list", {"limit": 100}, path=f"file://{tmp_path}/p.jsonl").execute({})
    assert lines(tmp_path / "p.jsonl") == PEOPLE[:190]
    fits(found, tmp_path / "p.jsonl", 190)


def test_a_file_stays_as_it_was_when_its_successor_fails(connected: EmulatorProcess, tmp_path: Path) -> None:
    target = tmp_path / "i.jsonl"
    target.write_text("old")
    connected.faults(path="*/insights/", status=404, count=-1)
    with pytest.raises(PostHogNotFoundError):
        operator("insights.list", path=f"file://{target}", overwrite=True).execute({})
    assert target.read_text() == "old"
    connected.clear_faults()
    fits(
        operator("insights.list", path=f"file://{target}", overwrite=True).execute({}),
        target,
        len(lines(target)),
    )
    assert lines(target)


# later tries


def test_a_later_try_finds_the_same_bytes(connected: EmulatorProcess, tmp_path: Path) -> None:
    target = tmp_path / "i.json"
    path = f"file://{target}"
    first = operator("exports.list", {"export_format": "text/csv"}, path=path).execute(context())
    assert operator("exports.list", path=path).execute(context(try_number=2)) == first
    target.write_text("other")
    with pytest.raises(PostHogSettingsError, match="already exists"):
        operator("exports.list", path=path).execute(context(try_number=2))
    assert target.read_text() == "other"


def test_what_is_not_repeatable_is_not_sent_where_its_answer_has_no_place(
    connected: EmulatorProcess, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = {"name": "n", "query": {"kind": "HogQLQuery", "query": "SELECT 1"}}
    path = f"file://{tmp_path}/i.json"
    operator("insights.create", arguments, path=path).execute(context())
    with pytest.raises(PostHogSettingsError, match="already exists"):
        operator("insights.create", arguments, path=path).execute(context(try_number=2))
    assert len(connected.calls("/insights/", "POST")) == 1
    assert "may have done it" not in caplog.text + capfd.readouterr().out
    operator("insights.create", arguments).execute(context(try_number=2))
    assert "may have done it already" in caplog.text + capfd.readouterr().out


def test_nothing_personal_in_the_log(
    scripted: ScriptedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    scripted.script(error(503), ok({"results": PEOPLE[:5], "next": None}))
    arguments = {"email": "somebody@example.com", "distinct_id": "secretid", "search": "somename"}
    with caplog.at_level("DEBUG"):
        operator("persons.list", arguments, path=f"file://{tmp_path}/p").execute({})
        with pytest.raises(PostHogSettingsError) as refused:
            operator("persons.list", {"email": ["somebody@example.com"]}, max_items=5).execute({})
    said = caplog.text + capfd.readouterr().out + str(refused.value)
    assert "next attempt" in said
    for private in ("somebody", "secretid", "somename", "p1@", "phx_"):
        assert private not in said


# on Airflow


def test_a_dag_whose_tasks_hand_on_ids(connected: EmulatorProcess, run_dag: Callable[..., Any], tmp_path: Path) -> None:
    query = {"kind": "HogQLQuery", "query": "SELECT 1"}

    def fill() -> None:
        made = operator_named("make", "insights.create", {"name": "of {{ dag.dag_id }}", "query": query})
        made_id = "{{ ti.xcom_pull(task_ids='make')['id'] }}"
        made >> operator_named("change", "insights.update", {"insight_id": made_id, "favorited": True})
        # a whole number, which text is not, by the DAG's native rendering
        path = f"file://{tmp_path}/{{{{ dag.dag_id }}}}.jsonl"
        operator_named("list", "insights.list", {"limit": "{{ 1 + 1 }}"}, path=path)
        PostHogApiOperator.partial(task_id="each", call="insights.retrieve").expand(
            arguments=[{"insight_id": 1}, {"insight_id": "2"}]
        )

    run = run_dag(make_dag("any_endpoint", fill, render_template_as_native_obj=True))
    found = xcoms(run)
    assert task_states(run) == dict.fromkeys(["make", "change", "list", "each[0]", "each[1]"], "success")
    assert found["make", -1, "return_value"]["name"] == "of any_endpoint"
    changed = found["change", -1, "return_value"]
    assert (changed["id"], changed["favorited"]) == (found["make", -1, "return_value"]["id"], True)
    assert [found["each", index, "return_value"]["id"] for index in (0, 1)] == [1, 2]
    written = found["list", -1, "return_value"]
    assert written["rows"] == len(lines(tmp_path / "any_endpoint.jsonl")) >= 2


def operator_named(task_id: str, call: str, arguments: dict[str, Any], **options: Any) -> PostHogApiOperator:
    return PostHogApiOperator(task_id=task_id, call=call, arguments=arguments, **options)


# memory

_TASK = """
import json, sys
from airflow_provider_posthog.operators.api import PostHogApiOperator
from airflow_provider_posthog.api import catalog
from airflow_provider_posthog.storage import atomic_file as atomic

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

def run(path, **arguments):
    operator = PostHogApiOperator(task_id="t", call="persons.list", arguments=arguments, path=path)
    return operator.execute({})

# A tenth of the list first: what is imported, and kept for the next time, is not what the list costs.
run(sys.argv[1] + ".tenth", limit=1000, offset=45_000)
before = peak()
found = run(sys.argv[1], limit=1000)
print(json.dumps({**found, "grown_kib": peak() - before}))
"""


@pytest.fixture
def many_people() -> Iterator[str]:
    """A server with 50,000 persons of 2 kB each, in pages."""
    count, padding = 50_000, "x" * 2000

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            start, limit = (int(query.get(name, ["0"])[0]) for name in ("offset", "limit"))
            end = min(start + limit, count)
            people = [{"id": number, "padding": padding} for number in range(start, end)]
            more = f"/api/projects/1/persons/?limit={limit}&offset={end}" if end < count else None
            body = json.dumps({"results": people, "next": more}).encode()
            self.send_response_only(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_memory_does_not_grow_with_the_list(many_people: str, tmp_path: Path) -> None:
    """100 MB of persons; a page of them is 2 MB."""
    connection = {"conn_type": "posthog", "host": many_people, "password": "phx_0123456789", "extra": {"project_id": 1}}
    environment = {
        **os.environ,
        "AIRFLOW_CONN_POSTHOG_DEFAULT": json.dumps(connection),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    target = tmp_path / "persons.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", _TASK, f"file://{target}"], env=environment, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["rows"] == 50_000
    assert found["bytes"] > 100_000_000
    with target.open() as file:
        assert [json.loads(line)["id"] for line in file] == list(range(50_000))
    assert found["grown_kib"] < 16 * 1024


@pytest.mark.parametrize("to_a_file", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        {"result": None, "query_status": {"complete": False, "error": True, "error_message": "Unknown table `x`"}},
        {"results": [], "error": "Unknown table `x`"},
    ],
)
def test_a_failure_that_is_answered_200_is_no_success(
    scripted: ScriptedServer, tmp_path: Path, answer: dict[str, Any], to_a_file: bool
) -> None:
    scripted.script(ok(answer))
    path = tmp_path / "out.json"
    arguments = {"query": {"kind": "HogQLQuery", "query": "SELECT 1"}}
    operator = PostHogApiOperator(
        task_id="call", call="queries.start", arguments=arguments, path=str(path) if to_a_file else None
    )
    with pytest.raises(PostHogJobFailed, match="Unknown table"):
        operator.execute({})
    assert list(tmp_path.iterdir()) == []
