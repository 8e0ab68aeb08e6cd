"""Queries for the author of a task: data frames, dictionaries and lists."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from airflow_provider_posthog.api import exports, insights, projects
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogIncompleteError,
    PostHogJobFailed,
    PostHogSettingsError,
    PostHogTransportError,
)
from airflow_provider_posthog.hooks.data_frames import data_frame
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.operators.support import connect, task_states
from tests.support.scripted import ScriptedServer, ok

DOCS = Path(__file__).parents[2] / "docs" / "hook.md"

#: HogQL, its column's type, its value.
COLUMNS: dict[str, tuple[str, str, Any]] = {
    "small": ("1", "Int64", 1),
    "negative": ("-5", "Int64", -5),
    "true": ("true", "Int64", 1),
    "equal": ("1 = 2", "Int64", 0),
    "odd_above_2_to_53": ("9007199254740993", "Int64", 9007199254740993),
    "nullable": ("toInt('9007199254740993')", "Int64", 9007199254740993),
    "no_integer": ("toInt('x')", "Int64", None),
    "above_int64": ("18446744073709551615", "UInt64", 18446744073709551615),
    "float": ("1.5", "float64", 1.5),
    "no_float": ("toFloat('x')", "float64", None),
    "whole_float": ("toFloat('2')", "float64", 2.0),
    "text": ("'it''s \U0001f4a5'", "string", "it's \U0001f4a5"),
    "no_text": ("properties.nothing_of_that_name", "string", None),
    "uuid": (
        "toUUID('01a1671f-c770-72d4-a3e8-917aebd615d9')",
        "string",
        "01a1671f-c770-72d4-a3e8-917aebd615d9",
    ),
    "time": (
        "toDateTime('2026-01-01T00:00:00.000001Z')",
        "datetime64[us, UTC]",
        datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc),
    ),
    "far_time": (
        "toDateTime('2290-01-01T00:00:00Z')",
        "datetime64[us, UTC]",
        datetime(2290, 1, 1, tzinfo=timezone.utc),
    ),
    # midnight in New York, which PostHog writes in UTC and without saying so
    "start_of_day": (
        "toStartOfDay(toDateTime('2026-01-02T03:00:00Z'))",
        "datetime64[us, UTC]",
        datetime(2026, 1, 1, 5, tzinfo=timezone.utc),
    ),
    "no_time": ("toDateTime('x')", "datetime64[us, UTC]", None),
    "day": ("toDate('2026-01-01')", "datetime64[s]", datetime(2026, 1, 1)),
    "no_day": ("toDate('x')", "datetime64[s]", None),
    "month": ("dateTrunc('month', toDateTime('2026-01-02T09:00:00Z'))", "datetime64[s]", datetime(2026, 1, 1)),
    "list": ("[1, 2]", "object", [1, 2]),
    "empty_list": ("[]", "object", []),
    "tuple": ("(1, 'a')", "object", [1, "a"]),
    "map": ("map('a', 1)", "object", {"a": 1}),
    "decimal": ("toDecimal('1.5', 6)", "object", "1.5"),
    "nothing": ("null", "object", None),
}


@pytest.fixture
def new_york(connected: EmulatorProcess) -> EmulatorProcess:
    connected.settings(timezone="America/New_York")
    return connected


def _select(where: str = "") -> str:
    named = ", ".join(f"{sql} AS c_{name}" for name, (sql, _, _) in COLUMNS.items())
    return f"SELECT {named} FROM events {where} LIMIT 3"


def test_columns_have_posthogs_types_and_exact_values(new_york: EmulatorProcess) -> None:
    frame = PostHogHook().get_df(_select())
    assert {str(name)[2:]: str(kind) for name, kind in frame.dtypes.items()} == {
        name: kind for name, (_, kind, _) in COLUMNS.items()
    }
    assert len(frame) == 3
    for name, (_, _, value) in COLUMNS.items():
        for found in frame[f"c_{name}"]:
            assert (value is None and pd.isna(found)) if value is None else found == value, name
    assert frame["c_day"].dt.year.tolist() == [2026] * 3
    assert isinstance(frame["c_odd_above_2_to_53"].tolist()[0], int)


def test_an_empty_result_keeps_names_and_types(new_york: EmulatorProcess) -> None:
    hook = PostHogHook()
    empty, full = hook.get_df(_select("WHERE event = 'no such event'")), hook.get_df(_select())
    assert empty.shape == (0, len(COLUMNS))
    assert list(empty.columns) == list(full.columns)
    # no rows, no number that needs more than Int64
    wide = {"c_above_int64"}
    assert all(empty.dtypes[name] == full.dtypes[name] for name in set(full.columns) - wide)
    assert str(empty.dtypes["c_above_int64"]) == "Int64"


def test_times_of_events_are_the_same_in_every_zone(connected: EmulatorProcess) -> None:
    query = "SELECT uuid, timestamp, properties FROM events ORDER BY toString(uuid) LIMIT 100"
    in_utc = PostHogHook().get_df(query)
    connected.settings(timezone="America/New_York")
    there = PostHogHook().get_df(query)
    assert str(there.dtypes["timestamp"]) == "datetime64[us, UTC]"
    assert in_utc.equals(there)
    assert in_utc["timestamp"].nunique() > 50
    assert isinstance(json.loads(there["properties"][0]), dict)


def test_values_are_passed_beside_the_statement(connected: EmulatorProcess) -> None:
    text = "it's \\ {y}"
    assert PostHogHook().get_df("SELECT {x} AS x, 1 AS one LIMIT 1", {"x": text}).to_dict("records") == [
        {"x": text, "one": 1}
    ]
    assert PostHogHook().query("SELECT {x} AS x, 1 AS one LIMIT 1", {"x": text}) == [{"x": text, "one": 1}]


def test_columns_of_one_name(connected: EmulatorProcess) -> None:
    frame = PostHogHook().get_df("SELECT event, event FROM events LIMIT 2")
    assert list(frame.columns) == ["event", "event"]
    with pytest.raises(PostHogSettingsError, match="two columns are named 'event'"):
        PostHogHook().query("SELECT event, event FROM events LIMIT 2")


@pytest.mark.parametrize("query", ["SELECT uuid FROM events", "SELECT number FROM numbers(60000) LIMIT 60000"])
@pytest.mark.parametrize("method", ["get_df", "query"])
def test_rows_that_posthog_cut_are_refused(connected: EmulatorProcess, method: str, query: str) -> None:
    with pytest.raises(PostHogIncompleteError, match="cut the answer"):
        getattr(PostHogHook(), method)(query)


def test_as_many_rows_as_there_may_be(connected: EmulatorProcess) -> None:
    frame = PostHogHook().get_df("SELECT number AS n FROM numbers(49999) LIMIT 50000")
    assert frame["n"].sum() == 49998 * 49999 // 2


def test_run_gives_what_an_xcom_takes(connected: EmulatorProcess) -> None:
    rows = PostHogHook().query("SELECT event, timestamp, [1] AS l FROM events LIMIT 5")
    assert len(rows) == 5
    assert list(rows[0]) == ["event", "timestamp", "l"]
    assert json.loads(json.dumps(rows)) == rows
    assert PostHogHook().query("SELECT event FROM events WHERE event = 'no such event' LIMIT 5") == []


def test_pages(connected: EmulatorProcess) -> None:
    hook = PostHogHook()
    everything = [one["id"] for one in hook.pages(insights.list(basic=True))]
    before = len(connected.calls("/insights/", "GET"))
    assert [one["id"] for one in hook.pages(insights.list(basic=True, limit=2))] == everything
    assert len(connected.calls("/insights/", "GET")) > before + 1
    assert [one["id"] for one in hook.pages(insights.list(basic=True, limit=2), 1)] == everything[:1]
    assert list(hook.pages(exports.list())) == []
    with pytest.raises(PostHogSettingsError, match="no pages"):
        list(hook.pages(projects.me()))


# answers of servers that are not as they should be


@pytest.fixture
def scripted(
    connected: EmulatorProcess, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    conn = json.loads(connected.airflow_connection_json()) | {"host": server.url}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(conn))
    return lambda **answer: server.script(ok(answer))


@pytest.mark.parametrize("types", [None, [], "x", [["a", "Int64"]], [1, 2], [["a"], ["b"]]])
def test_without_types_columns_are_objects(scripted: Callable[..., None], types: Any) -> None:
    scripted(results=[[1, "x"], [None, "y"]], columns=["a", "b"], types=types)
    frame = PostHogHook().get_df("SELECT 1")
    assert frame.dtypes.astype(str).tolist() == ["object", "object"]
    assert frame["a"].tolist() == [1, None]


def test_types_without_names_and_in_wrappers(scripted: Callable[..., None]) -> None:
    scripted(results=[[1, "x"]], columns=["a", "b"], types=["LowCardinality(Nullable(UInt8))", "Enum8('x' = 1)"])
    assert PostHogHook().get_df("SELECT 1").dtypes.astype(str).tolist() == ["Int64", "string"]


BROKEN: dict[str, dict[str, Any]] = {
    "no_results": {"columns": ["a"]},
    "null": {"results": None, "columns": ["a"]},
    "rows_of_dicts": {"results": [{"a": 1}], "columns": ["a"]},
    "no_columns": {"results": [[1]]},
    "columns_of_numbers": {"results": [[1]], "columns": [1]},
    "short_row": {"results": [[1, 2], [1]], "columns": ["a", "b"], "types": [["a", "Int8"], ["b", "Int8"]]},
    "long_row": {"results": [[1, 2, 3]], "columns": ["a", "b"]},
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("method", ["get_df", "query"])
def test_broken_answers_are_our_errors(scripted: Callable[..., None], method: str, case: str) -> None:
    scripted(**BROKEN[case])
    with pytest.raises(PostHogError):
        getattr(PostHogHook(), method)("SELECT 1")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Int64", "x"),
        ("Int64", 1.5),
        ("Int64", " 1_000 "),
        ("UInt8", [1]),
        ("Float64", "x"),
        ("Float64", 10**400),
        ("DateTime64(6, 'UTC')", "yesterday"),
        ("DateTime", 5),
        ("DateTime", "0000-00-00 00:00:00"),
        ("DateTime", "\u0662026-11-21 08:09:33"),
        ("Nullable(Date)", "x"),
        ("Date", 5),
        ("Date", "2026-11-21T08:09:33"),
        ("DateTime64(9)", "2026-11-21T13:09:33.339419123Z"),
    ],
)
def test_values_that_are_not_of_their_type(kind: str, value: Any) -> None:
    with pytest.raises(PostHogTransportError, match="the column 'a' holds what is no") as raised:
        data_frame([[value]], ["a"], [["a", kind]])
    assert str(value) not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2026-11-21T08:09:33.339419-05:00", 339419),
        ("2026-11-21T13:09:33.339Z", 339000),
        ("2026-11-21T13:09:33.3Z", 300000),
        ("2026-11-21 13:09:33.339419000", 339419),
        ("2026-11-21T13:09:33", 0),
        ("2026-11-21T18:39:33+05:30", 0),
        ("2026-11-21T14:03:01+00:53:28", 0),  # local mean time, as zones have it before 1900
    ],
)
def test_spellings_of_times(text: str, microseconds: int) -> None:
    (found,) = data_frame([[text]], ["t"], [["t", "DateTime64(9)"]])["t"]
    assert found == datetime(2026, 11, 21, 13, 9, 33, microseconds, tzinfo=timezone.utc)


def test_integers_with_nulls_and_of_every_size_are_exact() -> None:
    for numbers, kind in (
        ([2**63 - 1, None, -(2**63)], "Int64"),
        ([2**64 - 1, None, 0], "UInt64"),
        ([2**64, None], "object"),
        ([2**63, -1], "object"),
        ([-(2**255)], "object"),
    ):
        column = data_frame([[number] for number in numbers], ["n"], [["n", "Nullable(Int256)"]])["n"]
        assert str(column.dtype) == kind
        assert [None if pd.isna(number) else int(number) for number in column] == numbers


def test_half_a_character_is_kept() -> None:
    found = data_frame([["\ud83d"]], ["t"], [["t", "String"]])
    assert found["t"].tolist() == ["\ud83d"]


def test_without_pandas_it_says_what_to_install(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.util.find_spec("pandas") is not None
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PostHogSettingsError, match=r"airflow-provider-posthog\[pandas\]"):
        PostHogHook().get_df("SELECT 1")
    assert connected.calls() == []


# the page of examples


def _blocks() -> list[str]:
    """The page's examples; tasks outside a DAG are called in tests/airflow/test_code_blocks_run.py."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return [code for code in blocks if "@task" not in code or "with DAG" in code]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("number", range(len(_blocks())))
def test_the_examples_of_the_page_run(
    connected: EmulatorProcess,
    run_dag: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
) -> None:
    connect(monkeypatch, connected)
    code = _blocks()[number].replace("s3://lake", tmp_path.as_uri())
    if importlib.util.find_spec("airflow.sdk") is None:  # Airflow 2, as the page says
        code = code.replace("from airflow.sdk import DAG", "from airflow import DAG\nfrom airflow.sdk import task")
        code = re.sub(r"from airflow\.sdk import task\b(, task)?", "from airflow.decorators import task", code)
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, f"{DOCS.name}, block {number + 1}", "exec"), names)
    if "dag" in names:
        states = task_states(run_dag(names["dag"]))
        assert states
        assert set(states.values()) == {"success"}
        assert [path for path in tmp_path.rglob("*") if path.is_file()] or "path=" not in code
    assert connected.calls(), "the example talks to PostHog"


def test_there_are_examples() -> None:
    text = "".join(_blocks())
    for name in (
        "send(",
        "pages(",
        "get_records(",
        "get_first(",
        "get_df(",
        ".query(",
        "async_client(",
        "PostHogApiOperator(",
    ):
        assert name in text


@pytest.mark.parametrize("method", ["get_records", "get_first", "get_df", "query"])
def test_a_failure_that_is_answered_200_brings_no_empty_result(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    server.script(ok({"results": [], "columns": [], "types": [], "error": "Unknown table `x`"}))
    connection = {"conn_type": "posthog", "host": server.url, "password": "phx_k", "extra": {"project_id": 7}}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    with pytest.raises(PostHogJobFailed, match="Unknown table"):
        getattr(PostHogHook(), method)("SELECT 1")
