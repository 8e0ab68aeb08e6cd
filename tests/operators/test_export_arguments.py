"""What an export is asked for: the body of the POST, and what is refused before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.api.queries import hogql
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from tests.operators.support import connect, export_operator, finish, posts

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"export_context": {}}, "query"),
    "no_target_xlsx": ({"export_format": XLSX, "export_context": {"filename": "x"}}, "query"),
    "pdf": ({"export_format": "application/pdf", "insight": 1}, "export_format"),
    "json": ({"export_format": "application/json", "insight": 1}, "export_format"),
    "jsonl": ({"export_format": "application/x-ndjson", "query": "SELECT 1"}, "export_format"),
    "pdf_in_short": ({"export_format": "pdf", "insight": 1}, "export_format"),
    "json_in_short": ({"export_format": "json", "insight": 1}, "export_format"),
    "jpg_in_short": ({"export_format": "jpg", "insight": 1}, "export_format"),
    "no_text": ({"export_format": ["csv"], "insight": 1}, "export_format"),
    "xlsx_in_short_of_dashboard": ({"export_format": "xlsx", "dashboard": 1}, "dashboard"),
    "png_in_short_of_query": ({"export_format": "png", "query": "SELECT 1"}, "query"),
    "mp4_in_short_of_insight": ({"export_format": "mp4", "insight": 1}, "export_context"),
    "jpeg": ({"export_format": "image/jpeg", "insight": 1}, "export_format"),
    "csv_of_dashboard": ({"dashboard": 1}, "dashboard"),
    "csv_of_dashboard_and_query": ({"dashboard": 1, "query": "SELECT 1"}, "dashboard"),
    "xlsx_of_dashboard": ({"export_format": XLSX, "dashboard": 1}, "dashboard"),
    "query_and_insight": ({"query": "SELECT 1", "insight": 1}, "query"),
    "query_and_source": ({"query": "SELECT 1", "export_context": {"source": {"kind": "HogQLQuery"}}}, "query"),
    "png_of_query": ({"export_format": "image/png", "query": "SELECT 1"}, "query"),
    "png_with_columns": ({"export_format": "image/png", "insight": 1, "columns": ["a"]}, "columns"),
    "png_of_nothing": ({"export_format": "image/png", "export_context": {}}, "insight"),
    "video_of_insight": ({"export_format": "video/mp4", "insight": 1}, "export_context"),
    "gif_of_nothing": ({"export_format": "image/gif", "export_context": {}}, "export_context"),
    "empty_query": ({"query": "  "}, "query"),
    "two_statements": ({"query": "SELECT 1 LIMIT 1; SELECT 2"}, "query"),
    "only_a_comment": ({"query": "-- SELECT 1;"}, "query"),
    "except": ({"query": "SELECT 1 LIMIT 5 EXCEPT SELECT 2 LIMIT 5"}, "query"),
    "union": ({"query": "SELECT 1 UNION SELECT 2 LIMIT 300000"}, "query"),
    "limit_of_a_union": ({"query": "(SELECT 1) UNION ALL (SELECT 2) LIMIT 5"}, "query"),
    "two_in_node": ({"query": {"kind": "HogQLQuery", "query": "SELECT 1; SELECT 2"}}, "query"),
    "intersect_in_context": ({"export_context": {"source": hogql("SELECT 1 INTERSECT SELECT 2")}}, "query"),
    "values_of_a_node": ({"query": {"kind": "EventsQuery"}, "values": {"x": 1}}, "values"),
    "values_without_names": ({"query": "SELECT {x}", "values": ["x"]}, "values"),
    "values_of_an_insight": ({"insight": 1, "values": {"x": 1}}, "values"),
    "empty_node": ({"query": {}}, "query"),
    "empty_wrapper": ({"query": {"kind": "DataTableNode", "source": {}}}, "query"),
    "list": ({"query": ["SELECT 1"]}, "query"),
    "our_own_key": ({"query": "SELECT 1", "export_context": {"airflow_marker": "x"}}, "export_context"),
    "dashboard_by_name": ({"export_format": "image/png", "dashboard": "main"}, "dashboard"),
    "not_json": ({"query": {"kind": "HogQLQuery", "query": "SELECT 1 LIMIT 1", "values": {"a": {1}}}}, "query"),
    "columns_of_letters": ({"query": "SELECT 1", "columns": "event"}, "columns"),
    "columns_as_text": ({"query": "SELECT 1", "columns": "event,uuid"}, "columns"),
    "columns_of_a_template": ({"query": "SELECT 1", "columns": "['event', 'uuid']"}, "columns"),
    "columns_by_name": ({"query": "SELECT 1", "columns": {"event": "event"}}, "columns"),
    "a_column_without_a_name": ({"query": "SELECT 1", "columns": ["event", ""]}, "columns"),
    "a_column_that_is_no_name": ({"query": "SELECT 1", "columns": ["event", 7]}, "columns"),
    "context_of_text": ({"query": "SELECT 1", "export_context": "filename"}, "export_context"),
    "no_interval": ({"query": "SELECT 1", "poll_interval": 0}, "poll_interval"),
    "endless": ({"query": "SELECT 1", "timeout": float("inf")}, "timeout"),
    "no_time": ({"query": "SELECT 1", "timeout": -1}, "timeout"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
@pytest.mark.parametrize("deferrable", [False, True])
def test_what_can_never_be_a_file_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, case: str, deferrable: bool
) -> None:
    arguments, field = IMPOSSIBLE[case]
    with pytest.raises(PostHogSettingsError) as refused:
        export_operator(deferrable=deferrable, **arguments).execute({})
    assert refused.value.field == field
    assert refused.value.remedy
    assert connected.calls() == []


def test_a_connection_without_a_project_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, connected, project_id=None)
    with pytest.raises(PostHogSettingsError, match="project_id"):
        export_operator().execute({})
    assert connected.calls() == []


def _sent(posthog: EmulatorProcess, **arguments: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    result = finish(export_operator(**arguments))
    assert result["has_content"] is True
    (post,) = posts(posthog)
    body = dict(post["body"])
    body["export_context"] = dict(body["export_context"])
    assert body["export_context"].pop("airflow_marker").count(".") == 3
    return body, result


def test_hogql_text_with_columns_and_a_name(connected: EmulatorProcess) -> None:
    query = "SELECT event, uuid FROM events LIMIT 5"
    body, result = _sent(connected, query=query, columns=["uuid", "event"], filename="My file")
    assert body == {
        "export_format": "text/csv",
        "export_context": {
            "source": {"kind": "HogQLQuery", "query": query},
            "columns": ["uuid", "event"],
            "filename": "My file",
        },
    }
    assert result["filename"].startswith("my-file-")


@pytest.mark.parametrize(
    ("short", "of", "name"),
    [
        ("csv", {"query": "SELECT 1 AS a LIMIT 5"}, "text/csv"),
        ("xlsx", {"query": "SELECT 1 AS a LIMIT 5"}, XLSX),
        ("png", {"insight": 1}, "image/png"),
        ("mp4", {"export_context": {"session_recording_id": "r"}}, "video/mp4"),
        ("webm", {"export_context": {"session_recording_id": "r"}}, "video/webm"),
        ("gif", {"export_context": {"session_recording_id": "r"}}, "image/gif"),
    ],
)
def test_a_format_may_be_written_short(connected: EmulatorProcess, short: str, of: dict[str, Any], name: str) -> None:
    made = [PostHogCreateExportOperator(task_id="t", export_format=each, **of) for each in (short, name)]
    assert made[0].prepare() == made[1].prepare()
    assert made[0].prepare()["export_format"] == name
    assert (
        made[0].default_timeout() == made[1].default_timeout() == (80 * 60.0 if "recording" in str(of) else 40 * 60.0)
    )


def test_a_query_node_goes_as_it_is(connected: EmulatorProcess) -> None:
    node = {"kind": "HogQLQuery", "query": "SELECT {x} AS x LIMIT 1", "values": {"x": "it's"}}
    assert _sent(connected, query=node)[0]["export_context"] == {"source": node}


def test_values_go_beside_the_text(connected: EmulatorProcess) -> None:
    body, _ = _sent(connected, query="SELECT {x} AS x LIMIT 1", values={"x": "it's"})
    node = {"kind": "HogQLQuery", "query": "SELECT {x} AS x LIMIT 1", "values": {"x": "it's"}}
    assert body["export_context"] == {"source": node}


def test_a_wrapped_node_goes_without_its_wrapper(connected: EmulatorProcess) -> None:
    node = {"kind": "EventsQuery", "select": ["event", "uuid"], "limit": 3}
    body, _ = _sent(connected, query={"kind": "DataTableNode", "source": node})
    assert body["export_context"] == {"source": node}


@pytest.mark.parametrize("export_format", ["text/csv", XLSX])
@pytest.mark.parametrize("by", ["id", "text", "short_id"])
def test_a_table_of_an_insight_sends_the_insights_own_query(
    connected: EmulatorProcess, export_format: str, by: str
) -> None:
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    saved = PostHogHook().find_insight(1)
    name: object = {"id": saved["id"], "text": str(saved["id"]), "short_id": saved["short_id"]}[by]
    body, _ = _sent(connected, insight=name, export_format=export_format)
    assert body["insight"] == saved["id"]
    assert body["export_context"] == {"source": (saved["query"] or {})["source"]}


def test_an_insight_of_the_old_kind_can_not_be_a_table(connected: EmulatorProcess) -> None:
    from airflow_provider_posthog.api.call import Call, json_object
    from airflow_provider_posthog.hooks.posthog import PostHogHook

    call = Call("insights.create", "POST", "insights/", json_object, json={"name": "old", "filters": {"events": []}})
    made = PostHogHook().send(call)
    with pytest.raises(PostHogSettingsError, match="filters of the old kind"):
        export_operator(insight=made["id"]).execute({})
    assert posts(connected) == []


def test_an_insight_that_is_not_there_is_refused_before_the_export(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="'nowhere1', and the project has no such insight"):
        export_operator(insight="nowhere1").execute({})
    assert posts(connected) == []


def test_pictures_of_insights_and_dashboards(connected: EmulatorProcess) -> None:
    assert finish(export_operator(insight=2, export_format="image/png"))["export_format"] == "image/png"
    assert finish(export_operator(dashboard="1", export_format="image/png"))["has_content"] is True
    first, second = (post["body"] for post in posts(connected))
    assert (first["insight"], "source" in first["export_context"]) == (2, False)
    assert second["dashboard"] == 1


def test_a_query_without_limit_is_warned_about(
    connected: EmulatorProcess, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    export_operator(query="SELECT 1 LIMIT 1", wait_for_completion=False).execute({})
    assert "no LIMIT" not in caplog.text + capfd.readouterr().out
    export_operator(query="SELECT 1", wait_for_completion=False).execute({})
    assert "no LIMIT" in caplog.text + capfd.readouterr().out


def test_templates_are_rendered(connected: EmulatorProcess) -> None:
    operator = PostHogCreateExportOperator(
        task_id="t",
        query={"kind": "HogQLQuery", "query": "SELECT {d} AS d LIMIT 1", "values": {"d": "{{ ds }}"}},
        filename="of-{{ ds }}",
        columns=["{{ ds }}"],
        insight="{{ ds }}",
        dashboard="{{ ds }}",
        project_id="{{ ds }}",
        posthog_conn_id="c{{ ds }}",
        export_context={"note": "{{ ds }}"},
        export_format="f{{ ds }}",
    )
    operator.render_template_fields({"ds": "1"})
    assert operator.query == {"kind": "HogQLQuery", "query": "SELECT {d} AS d LIMIT 1", "values": {"d": "1"}}
    assert (operator.filename, operator.columns, operator.insight, operator.dashboard) == ("of-1", ["1"], "1", "1")
    assert (operator.project_id, operator.posthog_conn_id, operator.export_format) == ("1", "c1", "f1")
    assert operator.export_context == {"note": "1"}


def test_making_an_operator_reads_nothing(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT")
    export_operator(deferrable=True)
    assert connected.calls() == []


@pytest.mark.parametrize(
    "query", ["SELECT 1 LIMIT 300000;; -- x;", {"kind": "HogQLQuery", "query": "SELECT 1 LIMIT 300000 ; // x"}]
)
def test_a_semicolon_at_the_end_is_dropped(connected: EmulatorProcess, query: Any) -> None:
    operator = export_operator(query=query)
    assert operator.prepare()["export_context"]["source"]["query"] == "SELECT 1 LIMIT 300000"


def test_values_of_a_node_are_exported_with_it(connected: EmulatorProcess) -> None:
    node = hogql("SELECT {a} LIMIT {n}", {"a": 1, "n": 2})
    assert export_operator(query=node).prepare()["export_context"]["source"] == node


@pytest.mark.parametrize(
    ("query", "warned"),
    [
        ("SELECT 1", True),
        ("SELECT 1 LIMIT 300000 UNION ALL SELECT 2", True),
        ("(SELECT 1) UNION ALL (SELECT 2 LIMIT 5)", True),
        ("SELECT 1 // LIMIT 5", True),
        ("(SELECT 1 LIMIT 300000)", False),
        ("SELECT x AS union FROM t LIMIT 1000*300", False),
        ("SELECT 1 LIMIT 5 UNION ALL SELECT 2 LIMIT 5", False),
        ("SELECT * FROM (SELECT 1 EXCEPT SELECT 2) LIMIT 300000", False),
    ],
)
def test_a_select_without_limit_is_warned_of(
    connected: EmulatorProcess,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    query: str,
    warned: bool,
) -> None:
    export_operator(query=query).prepare()
    assert ("has no LIMIT" in caplog.text + capsys.readouterr().out) is warned
