"""Queries as jobs: fresh rows, few enough, and none that goes on unseen."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogJobTimeout,
    PostHogRateLimitError,
    PostHogSettingsError,
)
from tests.operators.support import Store, context, finish, in_threads, run_trigger, task_deferred
from tests.support.scripted import Reply, ScriptedServer, error, ok

BY_EVENT = "select event, count() as n, max(timestamp) as newest from events group by event order by event limit 50"
MODES = pytest.mark.parametrize("deferrable", [False, True], ids=["waiting", "deferred"])


def query(**options: Any) -> Any:
    from airflow_provider_posthog.operators.queries import PostHogQueryOperator

    given: dict[str, Any] = {"task_id": "task", "poll_interval": 0.05, "timeout": 20, "deferrable": False}
    given["on_retention"] = "ignore"  # which is asked for by a call of its own
    given["query"] = BY_EVENT
    return PostHogQueryOperator(**{**given, **options})


def started(posthog: EmulatorProcess) -> list[dict[str, Any]]:
    return [call for call in posthog.calls("/query/", "POST")]


def running(posthog: EmulatorProcess) -> int:
    return int(posthog.stats()["calculations"]["running"])


@MODES
def test_few_rows_are_handed_on_with_their_types(connected: EmulatorProcess, deferrable: bool) -> None:
    done = finish(query(deferrable=deferrable))
    assert [column["name"] for column in done["columns"]] == ["event", "n", "newest"]
    assert done["columns"][0]["type"] == "String"
    assert "DateTime" in done["columns"][2]["type"]
    assert done["row_count"] == len(done["rows"]) > 1
    assert isinstance(done["rows"][0][1], int)
    assert done["path"] is None
    assert json.loads(json.dumps(done)) == done


@MODES
def test_rows_are_fresh_although_posthog_has_a_cache(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(cache_seconds=3600.0)
    before = finish(query(deferrable=deferrable))["rows"]
    connected.capture([{"event": "aaa_new", "distinct_id": "x"}])
    after = finish(query(deferrable=deferrable))["rows"]
    assert ["aaa_new", 1] in [row[:2] for row in after]
    assert len(after) == len(before) + 1


@MODES
def test_values_are_sent_as_values(connected: EmulatorProcess, deferrable: bool) -> None:
    text = "it's \\ \" {y} 💥"
    done = finish(query(query="select {x} as x", values={"x": text}, deferrable=deferrable))
    assert done["rows"] == [[text]]
    assert text not in started(connected)[0]["body"]["query"]["query"]


def test_variables_are_filled_in(connected: EmulatorProcess) -> None:
    variables = {"v1": {"code_name": "who", "value": "ann"}}
    assert finish(query(query="select {variables.who} as who", variables=variables))["rows"] == [["ann"]]


@MODES
def test_a_broken_statement_fails_with_posthogs_reason(connected: EmulatorProcess, deferrable: bool) -> None:
    with pytest.raises(PostHogError, match="nope"):
        finish(query(query="select nope from events", deferrable=deferrable))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "json", "parquet"])
@MODES
def test_rows_are_written_as_the_suffix_says(
    connected: EmulatorProcess, tmp_path: Path, suffix: str, deferrable: bool
) -> None:
    path = tmp_path / f"events.{suffix}"
    done = finish(query(path=f"file://{path}", max_rows=1, deferrable=deferrable))
    assert done["rows"] is None
    assert done["row_count"] > 1
    assert done["bytes"] == path.stat().st_size > 0
    assert done["path"].endswith(str(path))
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    if suffix == "parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        assert table.num_rows == done["row_count"]
        assert [str(field.type) for field in table.schema] == ["string", "uint64", "timestamp[us, tz=UTC]"]


def test_too_many_rows_for_an_xcom_are_an_error(connected: EmulatorProcess) -> None:
    with pytest.raises(PostHogSettingsError, match="path") as caught:
        finish(query(max_rows=1))
    assert caught.value.field == "path"


@MODES
def test_a_statement_without_a_limit_that_posthog_cuts_is_an_error(
    connected: EmulatorProcess, deferrable: bool
) -> None:
    with pytest.raises(PostHogIncompleteError, match="LIMIT"):
        finish(query(query="select uuid from events", deferrable=deferrable))


SET = {"kind": "HogQLQuery", "query": "(select 1) union all (select 2) limit 5"}


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"query": ""}, "query"),
        ({"query": "select 1; select 2"}, "query"),
        ({"query": " -- select 1"}, "query"),
        ({"query": "select 1 union all select 2"}, "query"),
        ({"query": "select 1 limit 5 except select 2"}, "query"),
        ({"query": SET}, "query"),
        ({"query": {"kind": "HogQLQuery", "query": "select 1; select 2"}}, "query"),
        ({"query": {"kind": "DataVisualizationNode", "source": SET}}, "query"),
        ({"query": None}, "query"),
        ({"values": ["x"]}, "values"),
        ({"values": {1: "x"}}, "values"),
        ({"query": {"kind": "TrendsQuery"}, "variables": {"v": {"code_name": "n", "value": 1}}}, "variables"),
        ({"query": {"no": "kind"}}, "query"),
        ({"query": {"kind": "TrendsQuery"}, "values": {"x": 1}}, "values"),
        ({"variables": {"v1": {"value": 1}}}, "variables"),
        ({"max_rows": -1}, "max_rows"),
        ({"max_rows": True}, "max_rows"),
        ({"max_rows": 0}, "path"),
        ({"path": "memory://x/rows.doc"}, "path"),
        ({"path": "memory://x/"}, "path"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"poll_interval": timedelta(seconds=-1)}, "poll_interval"),
        ({"poll_interval": "10 s"}, "poll_interval"),
        ({"poll_interval": float("nan")}, "poll_interval"),
        ({"failure_grace": -1}, "failure_grace"),
        ({"max_bytes_read": 0}, "max_bytes_read"),
        ({"max_bytes_read": 10**9, "wait_for_completion": False}, "max_bytes_read"),
        ({"path": "file:///tmp/rows.csv", "wait_for_completion": False}, "path"),
        ({"max_bytes_read": "20 GB"}, "max_bytes_read"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(
    connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        query(**options).execute({})
    assert caught.value.field == field
    assert connected.calls() == []


@MODES
def test_lengths_of_time_may_be_timedeltas(connected: EmulatorProcess, deferrable: bool) -> None:
    lengths = {"poll_interval": timedelta(milliseconds=50), "timeout": timedelta(seconds=20)}
    operator = query(**lengths, failure_grace=timedelta(seconds=1), deferrable=deferrable)
    assert (operator.poll_interval, operator.failure_grace) == (0.05, 1.0)
    assert finish(operator)["row_count"] > 0


def test_a_file_in_the_way_is_found_before_the_query_runs(connected: EmulatorProcess, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("mine")
    with pytest.raises(PostHogSettingsError, match="already exists"):
        finish(query(path=f"file://{tmp_path}/rows.csv"), context())
    assert started(connected) == []


def test_a_query_node_of_another_kind_runs(connected: EmulatorProcess) -> None:
    node = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview"}]}
    done = finish(query(query={"kind": "InsightVizNode", "source": node}))
    assert done["row_count"] == 1
    assert done["rows"][0]["data"]


# The life cycle.


@MODES
def test_a_retry_takes_up_the_running_query(connected: EmulatorProcess, deferrable: bool) -> None:
    """The first worker was killed, nothing was stored: PostHog knows the query by a name that follows from the try."""
    connected.settings(async_seconds=1.5)
    with pytest.raises(task_deferred()):
        query(deferrable=True).execute(context(try_number=1))
    done = finish(query(deferrable=deferrable), context(try_number=2))
    assert done["row_count"] > 1
    assert len(started(connected)) == 1


def test_a_retry_after_a_success_runs_no_second_query(connected: EmulatorProcess) -> None:
    first = finish(query(), context(try_number=1))
    assert finish(query(), context(try_number=2)) == first
    assert len(started(connected)) == 1


def test_a_clear_runs_it_again(connected: EmulatorProcess) -> None:
    finish(query(), context(try_number=1))
    finish(query(), context(try_number=2, retries=2, max_tries=3))
    assert len(started(connected)) == 2


def test_an_edited_statement_is_another_query(connected: EmulatorProcess) -> None:
    connected.settings(async_seconds=1.0)
    with pytest.raises(task_deferred()):
        query(deferrable=True).execute(context(try_number=1))
    done = finish(query(query="select 1 as one"), context(try_number=2))
    assert done["rows"] == [[1]]


def begun_late(posthog: EmulatorProcess, statement: str = "") -> None:
    """Let a start that was lost on its way reach PostHog: the same request, or one that asks for something else."""
    body = started(posthog)[0]["body"]
    if statement:
        body = {**body, "query": {**body["query"], "query": statement}}
    path = f"{posthog.url}/api/projects/{posthog.project_id}/query/"
    requests.post(
        path, json=body, headers={"Authorization": f"Bearer {posthog.api_key}"}, timeout=10
    ).raise_for_status()


def test_a_query_that_its_late_twin_begins_again_is_waited_for(connected: EmulatorProcess) -> None:
    task = query(deferrable=True, poll_interval=0.05)
    with pytest.raises(task_deferred()) as deferred:
        task.execute(context())
    event = run_trigger(deferred.value.trigger)
    connected.settings(async_seconds=0.3)
    begun_late(connected)
    done = task.execute_complete(context(), event)
    assert done["row_count"] == len(done["rows"]) > 1
    assert running(connected) == 0


def test_a_late_twin_that_fails_fails_the_task_with_posthogs_reason(connected: EmulatorProcess) -> None:
    task = query(deferrable=True)
    with pytest.raises(task_deferred()) as deferred:
        task.execute(context())
    event = run_trigger(deferred.value.trigger)
    begun_late(connected, "select nope from events")
    with pytest.raises(PostHogJobFailed, match="nope"):
        task.execute_complete(context(), event)


@pytest.mark.parametrize("status", [408, 425])
def test_a_start_that_was_not_begun_is_looked_for_and_asked_for_once_more(
    scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("airflow_provider_posthog.api.jobs.LOST_WAITS", (0.01,))
    done = {"id": "q", "complete": True, "results": ROWS, "start_time": "2026-11-22T00:00:00Z"}
    scripted.script(error(status), error(404), ok({"query_status": done}))
    assert query().execute(context())["rows"] == [[1]]
    assert [call.method for call in scripted.requests] == ["POST", "GET", "POST"]


@MODES
def test_a_store_is_emptied_on_success(connected: EmulatorProcess, deferrable: bool) -> None:
    store = Store()
    finish(query(deferrable=deferrable), context(store=store))
    assert store.kept == {}


def test_a_kill_cancels_the_query(connected: EmulatorProcess) -> None:
    connected.settings(query_seconds=20.0, async_seconds=0.0)
    operator = query(timeout=5)

    def work(number: int) -> None:
        if number == 0:
            with pytest.raises(PostHogJobFailed, match="gone"):
                operator.execute(context())
            return
        end = time.monotonic() + 10
        while not running(connected):
            assert time.monotonic() < end
            time.sleep(0.02)
        operator.on_kill()

    in_threads(work, 2)
    assert running(connected) == 0


@MODES
def test_out_of_time_it_is_cancelled(connected: EmulatorProcess, deferrable: bool) -> None:
    connected.settings(query_seconds=20.0, async_seconds=0.0)
    with pytest.raises(PostHogJobTimeout, match="cancelled"):
        finish(query(timeout=0.5, deferrable=deferrable), context())
    assert running(connected) == 0


def test_without_waiting_only_the_id_is_handed_on(connected: EmulatorProcess) -> None:
    done = query(wait_for_completion=False).execute(context())
    assert set(done) == {"query_id"}
    assert connected.calls(f"/query/{done['query_id']}/") == []


def test_the_trigger_holds_no_values(connected: EmulatorProcess) -> None:
    operator = query(query="select {who} as who", values={"who": "ann@example.com"}, deferrable=True)
    with pytest.raises(task_deferred()) as deferred:
        operator.execute(context())
    trigger = deferred.value.trigger  # type: ignore[attr-defined]
    assert "ann@example.com" not in json.dumps(trigger.serialize())
    assert "ann@example.com" not in json.dumps(run_trigger(trigger))


def plain_query(**options: Any) -> Any:
    """A query that asks for nothing else, so that each answer of the script is for it."""
    return query(on_retention="ignore", **options)


@pytest.fixture
def scripted(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    return server


def status(**fields: Any) -> Reply:
    return ok({"query_status": {"id": "q", "complete": False, "error": False, **fields}})


ROWS = {"results": [[1]], "columns": ["n"], "types": [["n", "UInt8"]], "is_cached": False}


def test_a_lost_answer_to_the_start_is_looked_for_and_not_repeated(scripted: ScriptedServer) -> None:
    done = {"complete": True, "results": ROWS, "start_time": "2026-11-22T00:00:00Z"}
    scripted.script(Reply(cut="after"), status(), status(**done))
    assert plain_query().execute(context())["rows"] == [[1]]
    assert [call.method for call in scripted.requests] == ["POST", "GET", "GET"], "the poll that ends it is the answer"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"complete": True, "results": {**ROWS, "error": "Memory limit exceeded"}}, "Memory limit"),
        ({"complete": True, "results": {**ROWS, "is_cached": True}}, "cache"),
        ({"complete": True, "results": None}, "no 'results'"),
        ({"complete": True, "results": {"columns": ["n"]}}, "no 'results'"),
        ({"complete": False, "error": True, "error_message": "Unknown table x"}, "Unknown table"),
        ({"complete": True, "results": {**ROWS, "hasMore": True}}, "LIMIT"),
    ],
)
def test_no_lie_of_a_finished_query_is_believed(scripted: ScriptedServer, answer: Any, reason: str) -> None:
    scripted.script(status(), status(**answer))
    with pytest.raises(PostHogError, match=reason):
        plain_query().execute(context())


def test_a_query_that_posthog_forgot_fails(scripted: ScriptedServer) -> None:
    scripted.script(status(), error(404, code="not_found"))
    with pytest.raises(PostHogJobFailed, match="gone"):
        plain_query().execute(context())


def test_an_answer_that_is_there_at_once_is_taken(scripted: ScriptedServer) -> None:
    scripted.script(ok({**ROWS, "query_status": None}))
    assert plain_query().execute(context())["rows"] == [[1]]
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    ("node", "rows", "more", "whole"),
    [
        ({"kind": "EventsQuery", "limit": 2}, 2, True, True),
        ({"kind": "EventsQuery", "limit": 3}, 2, True, False),
        ({"kind": "EventsQuery"}, 2, True, False),
        ({"kind": "EventsQuery"}, 2, False, True),
        ({"kind": "HogQLQuery", "query": "select 1"}, 50_000, None, False),
    ],
)
def test_rows_that_posthog_cut_are_an_error_unless_so_many_were_asked_for(
    scripted: ScriptedServer, node: Any, rows: int, more: bool | None, whole: bool
) -> None:
    scripted.script(ok({**ROWS, "results": [[1]] * rows, "hasMore": more}))
    operator = plain_query(query=node, max_rows=100_000)
    if whole:
        assert operator.execute(context())["row_count"] == rows
    else:
        with pytest.raises(PostHogIncompleteError, match="cut"):
            operator.execute(context())


def test_a_success_that_was_none_is_not_taken_up(scripted: ScriptedServer) -> None:
    """A retry that read the same answer again would fail as long as PostHog remembers it."""
    failed = status(complete=True, results={**ROWS, "error": "Memory limit"}, start_time="2026-11-22T00:00:00Z")
    store = Store()
    scripted.script(status(), failed)
    with pytest.raises(PostHogJobFailed, match="Memory limit"):
        plain_query().execute(context(store=store))
    assert store.kept == {}
    scripted.script(failed, ok({**ROWS, "query_status": None}))
    assert plain_query().execute(context(try_number=2, store=store))["rows"] == [[1]]
    assert [call.method for call in scripted.requests] == ["GET", "POST"]


def test_the_name_to_cancel_by_is_known_before_the_query_is_sent(scripted: ScriptedServer) -> None:
    scripted.script(error(400, "no"))
    operator = plain_query()
    with pytest.raises(PostHogError):
        operator.execute(context())
    name = scripted.requests[0].json["client_query_id"]
    scripted.script(ok({}))
    operator.on_kill()
    assert [(call.method, name in call.path) for call in scripted.requests] == [("DELETE", True)]


@pytest.mark.parametrize("text", ["select 1 as one;; -- all;", "select 1 as one; # x"])
@pytest.mark.parametrize("node", [False, True])
def test_a_semicolon_at_the_end_is_dropped(scripted: ScriptedServer, text: str, node: bool) -> None:
    scripted.script(ok({**ROWS, "query_status": None}))
    options: dict[str, Any] = {"query": {**SET, "query": text} if node else text}
    assert query(**options).execute(context())["rows"] == [[1]]
    assert scripted.requests[0].json["query"]["query"] == "select 1 as one"


def test_a_limit_of_each_select_is_what_was_asked_for(scripted: ScriptedServer) -> None:
    scripted.script(ok({**ROWS, "results": [[1]] * 7}))
    variables = {"v1": {"code_name": "n", "value": 5}}
    operator = query(query="select 1 limit {variables.n} union all select 2 limit 9", variables=variables)
    assert operator.execute(context())["row_count"] == 7


@pytest.mark.parametrize("types", [[1], 7, [[]], {"n": "UInt8"}, None])
def test_types_that_can_not_be_read_are_null(scripted: ScriptedServer, types: Any) -> None:
    scripted.script(ok({**ROWS, "types": types, "query_status": None}))
    assert query().execute(context())["columns"] == [{"name": "n", "type": None}]


@pytest.mark.parametrize(
    "results",
    [
        {**ROWS, "columns": 5},
        {**ROWS, "columns": [5]},
        {**ROWS, "results": {"a": 1}},
        {**ROWS, "results": [1]},
        {**ROWS, "results": [[1, 2]]},
        {**ROWS, "results": "rows"},
        {"results": 0},
        [1],
        "rows",
    ],
)
def test_results_of_another_shape_are_an_error_of_ours(scripted: ScriptedServer, results: Any) -> None:
    scripted.script(status(), status(complete=True, results=results))
    with pytest.raises(PostHogError):
        query().execute(context())


@pytest.mark.parametrize("wrong", [[1], "queued", 5, True])
def test_a_start_that_was_answered_with_nonsense_is_looked_for(scripted: ScriptedServer, wrong: Any) -> None:
    done = {"complete": True, "results": ROWS, "start_time": "2026-11-22T00:00:00Z"}
    scripted.script(ok({"query_status": wrong}), status(**done))
    assert query().execute(context())["rows"] == [[1]]
    assert [call.method for call in scripted.requests].count("POST") == 1


def test_a_query_that_can_not_be_looked_for_is_cancelled(scripted: ScriptedServer) -> None:
    scripted.script(ok({"query_status": [1]}))
    with pytest.raises(PostHogError, match="query_status"):
        query().execute(context())
    assert [call.method for call in scripted.requests] == ["POST", "GET", "DELETE"]
    assert scripted.requests[0].json["client_query_id"] in scripted.requests[-1].path


# The bytes that PostHog meters.

SCAN = "select count() as n from events where properties like '%no such text%' limit 5"


@MODES
def test_bytes_read_are_handed_on_and_logged_once(
    connected: EmulatorProcess, deferrable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    done = finish(query(query=SCAN, deferrable=deferrable))
    assert done["bytes_read"] > 1_000_000
    assert caplog.text.count("for the query; ") == 1
    connected.settings(query_budget_headers=False)
    assert finish(query(query=SCAN, deferrable=deferrable), context(try_number=5))["bytes_read"] is None


@MODES
def test_a_query_that_read_more_than_it_may_fails_and_leaves_no_file(
    connected: EmulatorProcess, tmp_path: Path, deferrable: bool
) -> None:
    path = tmp_path / "rows.csv"
    with pytest.raises(PostHogSettingsError, match="max_bytes_read"):
        finish(query(query=SCAN, max_bytes_read=1_000_000, path=f"file://{path}", deferrable=deferrable))
    assert list(tmp_path.iterdir()) == []


def test_a_retry_after_too_many_bytes_reads_them_not_again(connected: EmulatorProcess) -> None:
    for number in (1, 2):
        with pytest.raises(PostHogSettingsError, match="max_bytes_read"):
            finish(query(query=SCAN, max_bytes_read=1_000_000), context(try_number=number))
    assert [call["body"]["query"]["query"] for call in started(connected)].count(SCAN) == 1


def test_no_query_begins_that_the_rest_of_the_budget_does_not_cover(connected: EmulatorProcess) -> None:
    connected.query_budget(1_000_000)
    with pytest.raises(PostHogRateLimitError, match=r"max_bytes_read=20\.00 MB"):
        finish(query(query=SCAN, max_bytes_read=20_000_000))
    assert SCAN not in [call["body"]["query"]["query"] for call in started(connected)]
    connected.query_budget(10**9)


@MODES
def test_a_guard_that_is_kept_changes_nothing(connected: EmulatorProcess, deferrable: bool) -> None:
    assert finish(query(query=SCAN, max_bytes_read=10**9, deferrable=deferrable))["rows"] == [[0]]


# What hasMore means, and other kinds of answers.


@MODES
def test_more_values_of_a_breakdown_are_told_and_no_cut(
    server: ScriptedServer, deferrable: bool, monkeypatch: Any
) -> None:
    extra = {"project_id": 1, "rate_limit_share": 0}
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_" + "a" * 43, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    results = {"results": [{"label": "Chrome", "data": [1]}, {"label": "Other", "data": [2]}], "hasMore": True}
    status = {"id": "q", "complete": True, "error": False, "results": results}
    server.script(ok({"query_status": status}), ok({"query_status": status}))
    node = {"kind": "TrendsQuery", "series": [], "breakdownFilter": {"breakdown": "$browser", "breakdown_limit": 1}}
    done = finish(query(query=node, deferrable=deferrable), context())
    assert (done["row_count"], done["has_more"]) == (2, True)


def test_the_types_of_columns_are_those_of_their_places(connected: EmulatorProcess) -> None:
    from airflow_provider_posthog.results.answer import Answer

    done = query(query="select 1 as a, 'y' as S limit 1").execute(context())
    assert [column["type"] for column in done["columns"]] == ["UInt8", "String"]
    assert Answer([], ["a", "a"], [["a", "UInt8"], ["a", "String"]]).kinds() == ["UInt8", "String"]
    node = {"kind": "EventsQuery", "select": ["event", "timestamp"], "after": "all", "limit": 3}
    kinds = [column["type"] for column in query(query=node).execute(context(run_id="manual__2"))["columns"]]
    assert kinds[0] == "String"
    assert "DateTime" in kinds[1]


@pytest.mark.parametrize("node", [["SELECT 1"], 7, {}, {"kind": ""}])
def test_what_is_no_query_node_is_refused(connected: EmulatorProcess, node: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        query(query=node).execute({})
    assert refused.value.field == "query"


@pytest.mark.parametrize("variables", ["v", [1], {"v": 5}, {"v": {"code_name": "n"}}])
def test_variables_that_say_no_value_are_refused(connected: EmulatorProcess, variables: Any) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        query(query="select 1 limit 1", variables=variables).execute({})
    assert refused.value.field == "variables"


def test_a_limit_that_is_a_variable_is_read(connected: EmulatorProcess) -> None:
    from airflow_provider_posthog.api.queries import placeholders
    from airflow_provider_posthog.results.answer import ask

    node = {"variables": {"id": {"code_name": "n", "value": 5}}}
    assert ask("select number from numbers(10) limit {variables.n}", placeholders(node)).limits.arms[0].limit == 5
