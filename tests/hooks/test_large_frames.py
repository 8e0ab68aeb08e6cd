"""Data frames of more rows than PostHog gives out at once, and those of polars."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.hooks.posthog import PostHogHook
from airflow_provider_posthog.hooks.sql import PostHogSqlHook
from tests.operators.support import make_dag, task_states, when

TYPES = """
SELECT number AS n, toString(number) AS word, number / 2 AS half, toDate('2026-01-02') AS day,
toDateTime('2026-01-02T03:00:00Z') AS moment, number = 1 AS one FROM numbers({count})
"""


def hooks() -> list[PostHogHook]:
    return [PostHogHook(), PostHogSqlHook()]


@pytest.mark.parametrize("at", [0, 1])
def test_more_rows_than_posthog_gives_out_at_once_are_read_by_key(connected: EmulatorProcess, at: int) -> None:
    frame = hooks()[at].get_df(TYPES, {"count": 60_000}, key="n")
    assert sorted(frame["n"].tolist()) == list(range(60_000))
    small = hooks()[at].get_df(TYPES + " LIMIT 5", {"count": 5})
    assert frame.dtypes.to_dict() == small.dtypes.to_dict()
    assert str(frame.dtypes["day"]) == "datetime64[s]"
    first = frame[frame["n"] == 3].iloc[0]
    assert (first["word"], first["half"], first["one"]) == ("3", 1.5, 0)
    assert first["moment"] == datetime(2026, 1, 2, 3, tzinfo=timezone.utc)


def test_a_frame_of_no_rows_has_the_types_of_a_full_one(connected: EmulatorProcess) -> None:
    empty = PostHogHook().get_df(f"SELECT * FROM ({TYPES}) WHERE n < 0", {"count": 1}, key="n")
    assert empty.dtypes.to_dict() == PostHogHook().get_df(TYPES + " LIMIT 1", {"count": 1}).dtypes.to_dict()


@pytest.mark.parametrize("at", [0, 1])
def test_a_frame_of_polars_has_real_dates_and_times(connected: EmulatorProcess, at: int) -> None:
    import polars as pl

    for key in (None, "n"):
        hogql = TYPES if key else TYPES + " LIMIT 3"
        frame = hooks()[at].get_df(hogql, {"count": 3}, df_type="polars", key=key).sort("n")
        assert isinstance(frame, pl.DataFrame)
        assert frame.schema["day"] == pl.Date
        assert frame.schema["moment"] == pl.Datetime("us", "UTC")
        assert frame["n"].to_list() == [0, 1, 2]
        assert frame["day"].to_list() == [date(2026, 1, 2)] * 3


def test_frames_of_polars_come_in_chunks_too(connected: EmulatorProcess) -> None:
    hook = PostHogSqlHook()
    chunks = hook.get_df_by_chunks(TYPES + " LIMIT 4", {"count": 4}, chunksize=3, df_type="polars")
    assert [len(chunk) for chunk in chunks] == [3, 1]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"df_type": "arrow"}, "df_type"),
        ({"df_type": None}, "df_type"),
        ({"key": "n", "max_bytes_read": 1_000}, "max_bytes_read"),
        ({"key": ""}, "key"),
        ({"key": []}, "key"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_sent(
    connected: EmulatorProcess, options: dict[str, Any], field: str
) -> None:
    before = len(connected.calls("/query/"))
    with pytest.raises(PostHogSettingsError) as refused:
        PostHogHook().get_df(TYPES, {"count": 3}, **options)
    assert refused.value.field == field
    assert len(connected.calls("/query/")) == before


# Airflow's own ways out.


def test_generic_transfer_copies_rows(
    connected: EmulatorProcess, run_dag: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.sql.operators.generic_transfer import GenericTransfer

    path = tmp_path / "rows.sqlite"
    monkeypatch.setenv("AIRFLOW_CONN_ROWS", f'{{"conn_type": "sqlite", "host": "{path}"}}')
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (n integer, word text)")

    def tasks() -> None:
        GenericTransfer(
            task_id="copy",
            source_conn_id="posthog_default",
            destination_conn_id="rows",
            destination_table="t",
            sql="SELECT number AS n, toString(number) AS word FROM numbers(250) ORDER BY n LIMIT 250",
        )

    run = run_dag(make_dag("generic_transfer", tasks), **when(datetime(2026, 1, 2, tzinfo=timezone.utc)))
    assert task_states(run) == {"copy": "success"}
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*), sum(n), max(word) FROM t").fetchone() == (250, 31125, "99")


def test_the_decorator_task_sql_asks_posthog(connected: EmulatorProcess, run_dag: Callable[..., Any]) -> None:
    decorators = pytest.importorskip("airflow.providers.common.sql.decorators.sql")

    def tasks() -> None:
        @decorators.sql_task(conn_id="posthog_default")  # type: ignore[untyped-decorator,unused-ignore]
        def numbers() -> str:
            return "SELECT number AS n FROM numbers(3) LIMIT 3"

        numbers()

    run = run_dag(make_dag("task_sql", tasks), **when(datetime(2026, 1, 2, tzinfo=timezone.utc)))
    assert task_states(run) == {"numbers": "success"}


@pytest.mark.parametrize("df_type", ["pandas", "polars"])
def test_operators_that_write_a_frame_to_storage_get_it_from_the_connections_hook(
    connected: EmulatorProcess, df_type: str
) -> None:
    """What ``SqlToS3Operator`` does with a connection, without the provider of Amazon, and those that are like it."""
    from airflow.models import Connection

    hook = Connection.get_connection_from_secrets("posthog_default").get_hook(hook_params=None)
    assert callable(hook.get_df)
    for sql, read_kwargs in (
        ("SELECT number AS n FROM numbers(3) LIMIT 3", {}),
        ("SELECT number AS n FROM numbers(3)", {"key": "n"}),
    ):
        frame = hook.get_df(sql=sql, parameters=None, df_type=df_type, **read_kwargs)
        assert sorted(frame["n"].to_list()) == [0, 1, 2]
