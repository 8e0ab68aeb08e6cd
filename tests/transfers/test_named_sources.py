"""What can be loaded by its name beyond events and persons: each row once, with its key, and only when it is whole."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogValidationError
from airflow_provider_posthog.extract import named_sources, statements
from airflow_provider_posthog.extract.older_servers import of_older_server
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.windows import Piece, Window
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator
from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator
from tests.load.databases import DuckDB
from tests.operators.support import context

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
START = datetime(2018, 3, 4, tzinfo=timezone.utc)


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DuckDB:
    database = DuckDB(tmp_path / "lake.duckdb", held=True)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    return database


def load(source: Any, start: datetime = START, end: datetime | None = None, **options: Any) -> dict[str, Any]:
    given = {"sql_conn_id": "warehouse", "table": "t", "settle": timedelta(0), **options}
    operator = PostHogToSqlOperator(
        task_id="task", source=source, start=start.isoformat(), end=(end or start + DAY).isoformat(), **given
    )
    return operator.execute(context())


def happened(at: datetime, **more: Any) -> dict[str, Any]:
    moment = at.isoformat()
    made = {"uuid": str(uuid4()), "person_id": str(uuid4()), "distinct_id": "a", "event": "e", "properties": {}}
    return {**made, "timestamp": moment, "created_at": moment, **more}


def test_members_of_all_cohorts_static_ones_too_are_there_once(connection: EmulatorProcess, lake: DuckDB) -> None:
    dynamic = [{"person_id": str(uuid4()), "cohort_id": number} for number in (701, 701, 702)]
    static = [{"person_id": str(uuid4()), "cohort_id": 703}] * 2 + [
        {"person_id": dynamic[0]["person_id"], "cohort_id": 703}
    ]
    connection.add_rows("cohort_people", dynamic)
    connection.add_rows("static_cohort_people", static)
    assert load("cohort_members", page_rows=2)["rows"] >= 5
    ours = "SELECT cohort_id, count(*), count(DISTINCT person_id) FROM t WHERE cohort_id BETWEEN 701 AND 703 GROUP BY 1"
    assert lake.rows(f"{ours} ORDER BY 1") == [(701, 2, 2), (702, 1, 1), (703, 2, 2)]
    found = load("cohort_members", cohort_id=703, deleted="delete", allow_shrink=True)
    assert (found["rows"], found["unchanged"], found["gone"]) == (2, 2, 0)
    for wrong in ("all", True, 7.5):
        with pytest.raises(PostHogSettingsError, match="cohort_id: "):
            load("cohort_members", cohort_id=wrong)


def test_a_recording_is_one_row_in_the_interval_that_it_began_in(connection: EmulatorProcess, lake: DuckDB) -> None:
    ends = START + DAY
    pieces = {
        "over midnight": (ends - HOUR, ends + HOUR),
        "of the day before": (START - HOUR, START + HOUR),
        "of the next day": (ends, ends + 2 * HOUR),
    }
    connection.add_recordings(
        [
            {"session_id": name, "distinct_id": who, "timestamp": at.isoformat()}
            for name, times in pieces.items()
            for who, at in zip(("first", "second"), times, strict=True)
        ]
    )
    found = load("session_replays", look_back=timedelta(0))
    assert (found["rows"], found["deleted"]) == (1, 0)
    assert lake.rows("SELECT session_id, distinct_id, epoch(end_time - start_time) FROM t") == [
        ("over midnight", "first", 7200)
    ]
    assert load("session_replays")["rows"] == 2, "a day is read again, as recordings go on"
    assert load("session_replays", write_disposition="merge")["unchanged"] == 2


PIECES = "raw_session_replay_events"


@pytest.mark.parametrize("lacking", [["is_deleted"], ["message_count"], ["is_deleted", "size", "click_count"]])
def test_an_older_server_gives_recordings_without_the_columns_that_it_lacks(
    connection: EmulatorProcess, lake: DuckDB, lacking: list[str]
) -> None:
    pieces = [(START + HOUR, "a"), (START + 2 * HOUR, "b")]
    connection.add_recordings(
        [{"session_id": "s", "distinct_id": who, "timestamp": at.isoformat()} for at, who in pieces]
    )
    options: dict[str, Any] = {"verify_back": DAY, "look_back": timedelta(0)}
    whole = load("session_replays", **options)
    before = lake.rows("SELECT * FROM t")
    connection.settings(unknown_columns=[f"{PIECES}.{name}" for name in lacking])
    found = load("session_replays", START, write_disposition="merge", allow_shrink=True)
    connection.control("DELETE", "calls")
    assert load("session_replays", **options)["verified"] == whole["verified"], "counted again without them, too"
    columns = lake.columns("t")
    expected = [None if name in lacking else value for name, value in zip(columns, before[0], strict=True)]
    assert (found["rows"], lake.rows("SELECT * FROM t")) == (1, [tuple(expected)])


@pytest.mark.parametrize(
    ("source", "lacking"), [("persons", "is_identified"), ("groups", "updated_at"), ("groups", "created_at")]
)
def test_a_column_that_an_older_server_lacks_is_null_and_of_its_type(
    connection: EmulatorProcess, lake: DuckDB, source: str, lacking: str
) -> None:
    load(source, settle=timedelta(0))
    kinds = lake.rows("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't' ORDER BY 1")
    connection.settings(unknown_columns=[f"{source}.{lacking}"])
    assert load(source)["rows"] == lake.count("t")
    assert lake.count("t", f"{lacking} IS NOT NULL") == 0
    assert kinds == lake.rows(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 't' ORDER BY 1"
    )


def test_a_column_of_your_own_that_a_server_lacks_is_an_error(connection: EmulatorProcess, lake: DuckDB) -> None:
    connection.settings(unknown_columns=["persons.is_identified"])
    with pytest.raises(PostHogValidationError, match="Unable to resolve field"):
        load("persons", columns=["id", "is_identified"])
    with pytest.raises(PostHogValidationError):
        load("session_replays", where="nowhere = 1", write_disposition="merge")


@pytest.mark.parametrize("names", [True, False])
def test_which_columns_are_lacking_is_found_out_whatever_the_refusal_says(
    connection: EmulatorProcess, names: bool
) -> None:
    connection.settings(unknown_columns=[f"{PIECES}.size", f"{PIECES}.is_deleted"])
    source = named_sources.session_replays()
    if not names:
        body = {"type": "validation_error", "code": "invalid", "detail": "There is no such column", "attr": None}
        connection.faults(path="*/query/", status=400, body=body, count=1)
    asker = Asker(PostHogHook().settings(), 1)
    found = of_older_server(asker, source)
    asker.close()
    assert found is not None
    assert set(source.newer) - set(found.newer) == {"size", "is_deleted"}
    assert "is_deleted" not in found.table
    assert "sum(size)" not in found.table


def test_only_pieces_around_a_window_are_looked_at() -> None:
    page = statements.page(named_sources.session_replays(), Piece(Window(START, START + DAY), 5), 6, None)
    assert "min_first_timestamp >= toDateTime({window_start}) - toIntervalDay(2)" in page.sql
    assert "min_first_timestamp < toDateTime({window_end}) + toIntervalDay(2)" in page.sql


def test_calls_of_flags_have_the_flag_and_what_it_answered(connection: EmulatorProcess, lake: DuckDB) -> None:
    at = START + HOUR
    answers = {"on": True, "off": False, "variant": "blue", "none": None}
    connection.add_events(
        [
            happened(
                at, event="$feature_flag_called", properties={"$feature_flag": key, "$feature_flag_response": value}
            )
            for key, value in answers.items()
        ]
        + [happened(at, event="other", properties={"$feature_flag": "not called"})]
    )
    assert load("feature_flag_calls")["rows"] == 4
    assert lake.rows("SELECT flag_key, response FROM t ORDER BY 1") == [
        ("none", "null"), ("off", "false"), ("on", "true"), ("variant", "blue")
    ]  # fmt: skip
    again = load("feature_flag_calls")
    assert (again["rows"], again["deleted"]) == (4, 4)


@pytest.mark.parametrize("write", ["replace_interval", "append"])
def test_a_session_is_loaded_when_it_is_complete_and_once(
    connection: EmulatorProcess, lake: DuckDB, write: str
) -> None:
    day, session = START + 30 * DAY, str(uuid4())
    begins, ends = day + 23 * HOUR, day + 23 * HOUR + timedelta(minutes=30)
    connection.add_events([happened(at, **{"properties": {"$session_id": session}}) for at in (begins, ends)])
    options: dict[str, Any] = {"complete_after": HOUR, "write_disposition": write}
    assert load("sessions", day, **options)["rows"] == 0, "its last event is half an hour old"
    assert load("sessions", day + DAY, **options)["rows"] == 1
    load("sessions", day + DAY, **options)
    assert lake.rows('SELECT session_id, "$session_duration" FROM t') == [(session, 1800)]


def test_sessions_in_files_are_complete_too(connection: EmulatorProcess, tmp_path: Path) -> None:
    day, session = START + 60 * DAY, str(uuid4())
    times = (day + 23 * HOUR, day + 23.5 * HOUR)
    connection.add_events([happened(at, **{"properties": {"$session_id": session}}) for at in times])
    rows = []
    for start in (day, day + DAY):
        operator = PostHogQueryToObjectStorageOperator(
            task_id="task", path=str(tmp_path / "lake"), source="sessions", complete_after=HOUR,
            start=start.isoformat(), end=(start + DAY).isoformat(), settle=timedelta(0),
        )  # fmt: skip
        found = operator.execute(context())
        rows.append((found["rows"], found["again"]))
    assert rows == [(0, 0), (0, 1)], "the first day is read again, and has it now"


@pytest.mark.parametrize(
    ("source", "options", "field"),
    [
        ("sessions", {"complete_after": timedelta(0)}, "complete_after"),
        ("sessions", {"complete_after": 3600}, "complete_after"),
        ("events", {"complete_after": HOUR}, "complete_after"),
        ("distinct_ids", {}, "source"),
        ("session_replays", {"time_column": "timestamp"}, "time_column"),
        ("cohort_members", {"where": "cohort_id = 7"}, "where"),
    ],
)
def test_what_is_not_for_a_source_is_refused_before_anything_is_sent(
    connection: EmulatorProcess, lake: DuckDB, source: str, options: dict[str, Any], field: str
) -> None:
    before = len(connection.calls())
    with pytest.raises(PostHogSettingsError) as refused:
        load(source, **options)
    assert (refused.value.field, len(connection.calls())) == (field, before)
