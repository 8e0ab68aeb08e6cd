"""PostHogHook."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.connection import form as connection_form
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
)
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.operators.support import connect


def _use(monkeypatch: pytest.MonkeyPatch, posthog: EmulatorProcess, **changes: Any) -> None:
    conn = {**json.loads(posthog.airflow_connection_json()), **changes}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))


def test_making_a_hook_reads_and_sends_nothing(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", "no connection at all: {")
    PostHogHook()
    PostHogHook("nowhere", project_id="x")
    assert connected.calls() == []


def test_airflow_knows_it_by_its_connection_type() -> None:
    assert (PostHogHook.conn_type, PostHogHook.conn_name_attr) == ("posthog", "posthog_conn_id")
    assert (PostHogHook.default_conn_name, PostHogHook.hook_name) == ("posthog_default", "PostHog")
    assert PostHogHook.get_ui_field_behaviour() == connection_form.python_ui_field_behaviour()


def test_the_form_has_widgets_where_flask_is_there() -> None:
    if importlib.util.find_spec("flask_appbuilder"):
        assert set(PostHogHook.get_connection_form_widgets()) == set(connection_form.conn_fields())
        return
    with pytest.raises(ImportError) as caught:
        PostHogHook.get_connection_form_widgets()
    # Airflow 3 takes these two for "no form here".
    assert caught.value.name in ("flask_appbuilder", "wtforms")


def test_the_connection_is_read_once(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = PostHogHook()
    first = hook.settings()
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT")
    assert hook.settings() is first
    assert hook.get_conn() is hook.client
    hook.close()


def test_a_block_closes_its_connections(connected: EmulatorProcess) -> None:
    with PostHogHook() as hook:
        client = hook.client
        assert hook.query("SELECT 1 AS n") == [{"n": 1}]
    assert hook.client is not client, "the next call opens new ones"
    hook.close()


def test_a_tasks_project_wins(connected: EmulatorProcess) -> None:
    assert PostHogHook(project_id="42").settings().project_id == 42


@pytest.mark.parametrize(
    "conn",
    [
        "posthog://:{key}@{address}/http?project_id={project}",
        json.dumps(
            {"conn_type": "posthog", "host": "{url}", "password": " {key}\n", "extra": '{"project_id": "{project}"}'}
        ),
    ],
)
def test_connections_of_every_spelling(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, conn: str) -> None:
    values = {
        "{key}": connected.api_key,
        "{address}": connected.url.removeprefix("http://"),
        "{url}": connected.url,
        "{project}": str(connected.project_id),
    }
    for name, value in values.items():
        conn = conn.replace(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", conn)
    assert PostHogHook().get_records("SELECT 1 LIMIT 1") == [[1]]


def test_the_asynchronous_client(connected: EmulatorProcess) -> None:
    async def name() -> Any:
        async with await PostHogHook().async_client() as client:
            return await client.send(Call("me", "GET", "/api/users/@me/", json_object))

    assert asyncio.run(name())["distinct_id"]


def test_a_lookup_on_a_running_loop_does_not_read_the_connection_there(connected: EmulatorProcess) -> None:
    """Masking waits for Airflow's supervisor, which on the event loop's own thread may be a deadlock."""
    import threading

    class Watched(PostHogHook):
        def _parse(self, connection: Any) -> Any:
            threads.append(threading.get_ident())
            return super()._parse(connection)

    threads: list[int] = []

    async def look() -> int:
        async with await Watched().async_client():
            return threading.get_ident()

    assert asyncio.run(look()) not in threads
    assert len(threads) == 1


# test_connection


def test_it_names_the_project(connected: EmulatorProcess) -> None:
    good, text = PostHogHook().test_connection()
    assert good is True, text
    assert str(connected.project_id) in text
    assert connected.url in text
    assert "all scopes" in text
    assert connected.api_key not in text


ALL_SCOPES = [
    "project:read",
    "export:read",
    "export:write",
    "insight:read",
    "dashboard:read",
    "person:read",
    "query:read",
]


@pytest.mark.parametrize(
    # a key that may write may read, too
    "missing",
    [
        ["export:write"],
        ["export:read", "export:write"],
        ["query:read", "insight:read"],
        ["project:read"],
        ["dashboard:read"],
    ],
)
def test_it_names_the_scopes_that_are_missing(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, missing: list[str]
) -> None:
    key = connected.create_key([scope for scope in ALL_SCOPES if scope not in missing])
    _use(monkeypatch, connected, password=key)
    good, text = PostHogHook().test_connection()
    assert good is True
    lacking = text.split("lacks: ")[1].split(". Tasks")[0].split(", ")
    assert sorted(lacking) == sorted(missing)
    assert key not in text


def test_it_changes_nothing(connected: EmulatorProcess) -> None:
    PostHogHook().test_connection()
    others = [call for call in connected.calls() if call["method"] != "GET" and not call["path"].endswith("/query/")]
    assert [(call["path"], call["status"]) for call in others] == [("/api/projects/1/exports/", 400)]
    assert connected.stats()["exports"]["created"] == 0


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "wrong_key": ({"password": "phx_wrongwrongwrongwrong"}, "401"),
    "no_key": ({"password": ""}, "password"),
    "project_token": ({"password": "phc_tokentokentoken"}, "phc_"),
    "no_project": ({"extra": {}}, "project_id"),
    "current": ({"extra": {"project_id": "@current"}}, "project_id"),
    "unknown_project": ({"extra": {"project_id": 4242}}, "404"),
    "bad_verify": ({"extra": {"project_id": 1, "verify": "/nowhere/ca.pem"}, "host": "https://127.0.0.1:1"}, "verify"),
    "nobody_there": ({"host": "http://127.0.0.1:1", "extra": {"project_id": 1, "connect_timeout": 1}}, "no connection"),
    "secret_proxy": ({"extra": {"project_id": 1, "proxy": "http://u:proxysecret@"}}, "proxy"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_never_raises_and_shows_no_secret(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    changes, word = REFUSED[case]
    _use(monkeypatch, connected, **changes)
    good, text = PostHogHook().test_connection()
    assert good is False
    assert word in text
    for secret in (connected.api_key, "wrongwrong", "tokentoken", "proxysecret"):
        assert secret not in text


def test_an_extra_that_is_no_json_is_told(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_posthog.compat import BaseHook

    _use(monkeypatch, connected, extra="{")
    try:
        BaseHook.get_connection("posthog_default")
        word = "project_id"
    except Exception as refused:  # 3.0 and 3.1: outside a task Airflow refuses it and says, in the log, why
        word = f"{type(refused).__name__} (see the log)"
        assert "NotFound" in word
    good, text = PostHogHook().test_connection()
    assert good is False
    assert word in text
    assert connected.api_key not in text


def test_a_connection_that_is_not_there_is_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], airflow_db: None
) -> None:
    with caplog.at_level(logging.WARNING):
        good, text = PostHogHook("nowhere_at_all").test_connection()
    assert good is False
    assert "NotFound" in text
    assert "nowhere_at_all" in caplog.text + capfd.readouterr().out


def test_a_test_that_fails_is_logged_with_the_connection_and_the_reason(
    connected: EmulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _use(monkeypatch, connected, password="phx_wrong")
    with caplog.at_level(logging.WARNING):
        _, text = PostHogHook().test_connection()
    logged = caplog.text + capfd.readouterr().out
    assert "posthog_default" in logged
    assert text[:60] in logged


def test_a_key_of_another_project_is_no_success(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, connected, password=connected.create_key(projects=[connected.project_id + 1]))
    good, text = PostHogHook().test_connection()
    assert good is False
    assert "project" in text


@pytest.mark.parametrize("body", ["<html>Log in</html>", {"results": 3}, [], None])
def test_another_server_than_posthog_is_no_success(connected: EmulatorProcess, body: Any) -> None:
    connected.faults(path="*", status=200, body=body, count=-1)
    assert PostHogHook().test_connection()[0] is False


def test_an_endpoint_that_a_server_does_not_have_is_no_failure(connected: EmulatorProcess) -> None:
    connected.faults(method="GET", path="*/dashboards/", status=404, body={"code": "not_found"})
    assert PostHogHook().test_connection()[0] is True


# find_insight


def test_an_insight_is_found_by_each_of_its_names(connected: EmulatorProcess) -> None:
    hook = PostHogHook()
    saved = hook.find_insight(1)
    for name in ("1", " 1 ", saved["short_id"]):
        assert hook.find_insight(name)["id"] == saved["id"]


def test_a_short_id_of_digits_only(
    connected: EmulatorProcess, make_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.support.scripted import error, ok

    found = {"id": 7, "short_id": "12345678"}
    server = make_server(error(404, "Not found."), ok({"count": 1, "next": None, "results": [found]}))
    _use(monkeypatch, connected, host=server.url)
    assert PostHogHook().find_insight("12345678") == found
    assert [request.path.split("/")[-2] for request in server.requests] == ["12345678", "insights"]


@pytest.mark.parametrize("short_id", ["01234567", "00000001", "\u0661\u0662\u0663", "\u00b2"])
def test_digits_that_are_no_number_are_a_short_id(
    connected: EmulatorProcess, make_server: Any, monkeypatch: pytest.MonkeyPatch, short_id: str
) -> None:
    from tests.support.scripted import ok

    found = {"id": 7, "short_id": short_id}
    server = make_server(ok({"count": 1, "next": None, "results": [found]}))
    _use(monkeypatch, connected, host=server.url)
    assert PostHogHook().find_insight(short_id) == found, "insight 1 is not what short id 00000001 means"
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["nowhere1", 4242, "", "AAAAAAAA"])
def test_an_insight_that_is_not_there_is_said_so(connected: EmulatorProcess, name: Any) -> None:
    with pytest.raises(PostHogSettingsError, match="insight"):
        PostHogHook().find_insight(name)


# get_records


def test_rows_and_values(connected: EmulatorProcess) -> None:
    hook = PostHogHook()
    text = "it's \\ \" {y} \U0001f4a5"
    assert hook.get_records("SELECT {x} AS x, 1 AS one LIMIT 1", {"x": text}) == [[text, 1]]
    assert hook.get_first("SELECT count() AS n FROM events WHERE event = {e}", {"e": "no such event"}) == [0]
    assert hook.get_first("SELECT 1 FROM events WHERE event = 'no such event' LIMIT 1") is None
    assert hook.get_records("SELECT 1 FROM events WHERE event = 'no such event' LIMIT 1") == []


def test_rows_are_freshly_calculated(connected: EmulatorProcess) -> None:
    hook = PostHogHook()
    for _ in range(2):
        hook.get_records("SELECT 1 LIMIT 1")
    assert {call["body"]["refresh"] for call in connected.calls("/query/", "POST")} == {"force_blocking"}


@pytest.mark.parametrize("query", ["SELECT uuid FROM events", "SELECT number FROM numbers(60000) LIMIT 60000"])
def test_rows_that_posthog_cut_are_refused(connected: EmulatorProcess, query: str) -> None:
    with pytest.raises(PostHogIncompleteError, match="cut the answer"):
        PostHogHook().get_records(query)


def _reads(hook: PostHogHook) -> dict[str, Callable[[str], Any]]:
    return {"query": hook.query, "records": hook.get_records, "df": hook.get_df, "first": hook.get_first}


READS = pytest.mark.parametrize("read", ["query", "records", "df", "first"])
N = "SELECT number FROM numbers(500)"


@READS
@pytest.mark.parametrize(
    "sql",
    [
        f"{N} UNION ALL {N} LIMIT 500",
        f"({N}) UNION ALL ({N})",
        f"{N} LIMIT 500 EXCEPT {N}",
        f"WITH a AS ({N}) SELECT number FROM a INTERSECT {N} // LIMIT 5",
        "SELECT 1; SELECT 2",
        "-- SELECT 1;",
    ],
)
def test_what_no_answer_could_prove_is_never_sent(connected: EmulatorProcess, read: str, sql: str) -> None:
    with pytest.raises(PostHogSettingsError, match="^query: " if read == "query" else "^sql: "):
        _reads(PostHogHook())[read](sql)
    assert connected.calls("/query/", "POST") == []


def test_in_brackets_no_select_is_cut(connected: EmulatorProcess) -> None:
    rows = PostHogHook().get_records(f"SELECT * FROM ({N} UNION ALL {N}) LIMIT 5000;")
    assert sorted(rows) == sorted([[number] for number in range(500)] * 2)


def test_a_limit_of_each_select_is_what_was_asked_for(connected: EmulatorProcess) -> None:
    hook = PostHogHook()
    assert len(hook.get_records(f"{N} LIMIT 2000 UNION ALL {N} LIMIT 5000")) == 1000
    assert len(hook.get_records(f"{N} LIMIT 300 UNION ALL {N} LIMIT 5000")) == 800


@READS
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"is_cached": True}, PostHogJobFailed),
        ({"error": "Memory limit"}, PostHogJobFailed),
        ({"results": {}}, PostHogTransportError),
        ({"results": [1]}, PostHogTransportError),
        ({"results": [[1, 2]]}, PostHogTransportError),
        ({"columns": [5]}, PostHogTransportError),
    ],
)
def test_answers_that_prove_nothing_are_errors(
    connected: EmulatorProcess, read: str, change: dict[str, Any], kind: type[Exception]
) -> None:
    answer = {"results": [[1]], "columns": ["n"], "types": [["n", "UInt8"]], "is_cached": False, **change}
    connected.faults(path="*/query/", status=200, body=answer, count=-1)
    with pytest.raises(kind):
        _reads(PostHogHook())[read]("SELECT 1 AS n")


def test_a_limit_that_is_asked_for_is_no_cut(connected: EmulatorProcess) -> None:
    assert len(PostHogHook().get_records("SELECT uuid FROM events LIMIT 150")) == 150


def test_wrong_hogql_is_posthogs_own_error(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogValidationError):
        PostHogHook().get_records("SELECT nope FROM nowhere")


def test_another_connection_id(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", connected.airflow_connection_json())
    connect(monkeypatch, connected, project_id=None)
    assert PostHogHook("other").get_first("SELECT 1") == [1]
