"""The tables of session recordings: what HogQL shows of them, and how they are made."""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.ast import Column
from airflow_provider_posthog.emulator.hogql.schema_types import Link, Table, Through

_STRING = Column("string", nullable=False)
_INTEGER = Column("integer", nullable=False)
_TIME = Column("datetime", nullable=False)
_COUNTERS = (
    *("click_count", "keypress_count", "mouse_activity_count", "active_milliseconds", "console_log_count"),
    *("console_warn_count", "console_error_count", "size", "event_count", "message_count"),
)
_LINKS: dict[str, Column | Link | Through] = {
    "events": Link("events", "session_id", "$session_id", "INNER JOIN"),
    "properties": Through(("events", "properties")),
    "pdi": Link("person_distinct_ids", "distinct_id", "distinct_id"),
    "console_logs": Link("console_logs_log_entries", "session_id", "log_source_id"),
    "person": Through(("pdi", "person")),
    "person_id": Through(("pdi", "person_id")),
    "session": Link("sessions", "session_id", "session_id"),
}


def replay_tables() -> tuple[Table, Table]:
    """Describe both tables to HogQL: the parts in which recordings arrive, and the recordings."""
    common: dict[str, Column | Link | Through] = {"session_id": _STRING, "team_id": _INTEGER, "distinct_id": _STRING}
    times: dict[str, Column | Link | Through] = {"min_first_timestamp": _TIME, "max_last_timestamp": _TIME}
    rest: dict[str, Column | Link | Through] = {"first_url": Column("string"), "all_urls": Column("other")}
    rest |= {name: _INTEGER for name in _COUNTERS}
    rest |= {"snapshot_source": Column("string"), "retention_period_days": Column("integer")}
    parts = Table(
        "raw_session_replay_events",
        {**common, **times, **rest, "is_deleted": _INTEGER, "_timestamp": _TIME, **_LINKS},
        frozenset({"team_id", "first_url"}),
    )
    whole = {**common, "start_time": _TIME, "end_time": _TIME, **rest, **_LINKS}
    return parts, Table("session_replay_events", whole)


def replay_statements() -> list[str]:
    """Write the statements that make the tables; ``{db}`` stands for the project's database."""
    counters = ", ".join(f"{name} Int64" for name in _COUNTERS)
    sums = ", ".join(f"sum(part.{name}) AS {name}" for name in _COUNTERS)
    return [
        f"""CREATE TABLE {{db}}.raw_session_replay_events (
            session_id String, team_id Int64 DEFAULT {{team}}, distinct_id String,
            min_first_timestamp DateTime64(6, 'UTC'), max_last_timestamp DateTime64(6, 'UTC'),
            first_url Nullable(String), all_urls Array(String), {counters},
            snapshot_source Nullable(String) DEFAULT 'web', retention_period_days Nullable(Int64) DEFAULT 30,
            is_deleted UInt8, _timestamp DateTime64(6, 'UTC') DEFAULT max_last_timestamp
        ) ENGINE = MergeTree ORDER BY (min_first_timestamp, session_id)""",
        f"""CREATE VIEW {{db}}.session_replay_events AS SELECT
            session_id, any(team_id) AS team_id, any(part.distinct_id) AS distinct_id,
            min(min_first_timestamp) AS start_time, max(max_last_timestamp) AS end_time,
            argMin(part.first_url, min_first_timestamp) AS first_url, groupUniqArrayArray(part.all_urls) AS all_urls,
            {sums}, any(part.snapshot_source) AS snapshot_source,
            max(part.retention_period_days) AS retention_period_days
        FROM (SELECT * FROM {{db}}.raw_session_replay_events WHERE NOT is_deleted) AS part GROUP BY session_id""",  # noqa: S608
    ]
