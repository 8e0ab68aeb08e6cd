"""The ClickHouse tables behind what HogQL shows: ``hogql.schema`` decides which of their columns are seen.

Sessions are gathered from events when these come in, in a table of their own, which no deletion of a person reaches.
"""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.schema import TABLES as SHOWN

TABLES = """
CREATE TABLE {db}.events (
    uuid UUID, event String, properties String, timestamp DateTime64(6, 'UTC'), team_id Int64 DEFAULT 1,
    distinct_id String, elements_chain String, created_at DateTime64(6, 'UTC'), `$session_id` String,
    `$window_id` String, person_mode Enum8('full' = 0, 'propertyless' = 1, 'force_upgrade' = 2), `$group_0` String,
    `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, elements_chain_href String,
    elements_chain_texts Array(String), elements_chain_ids Array(String),
    elements_chain_elements Array(Enum8('a' = 1, 'button' = 2, 'form' = 3, 'input' = 4, 'select' = 5, 'textarea' = 6,
        'label' = 7)),
    person_id UUID
) ENGINE = MergeTree ORDER BY (toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid))
SAMPLE BY cityHash64(distinct_id);
CREATE TABLE {db}.persons (
    id UUID, created_at DateTime64(3, 'UTC'), team_id Int64 DEFAULT 1, properties String, is_identified Int8
) ENGINE = MergeTree ORDER BY id;
CREATE TABLE {db}.person_distinct_ids (team_id Int64 DEFAULT 1, distinct_id String, person_id UUID)
ENGINE = MergeTree ORDER BY distinct_id;
CREATE TABLE {db}.groups (
    `index` UInt8, team_id Int64 DEFAULT 1, key String, created_at DateTime64(6, 'UTC'),
    updated_at DateTime64(6, 'UTC'), properties String
) ENGINE = MergeTree ORDER BY (`index`, key);
CREATE TABLE {db}.cohort_people (person_id UUID, cohort_id Int64, team_id Int64 DEFAULT 1)
ENGINE = MergeTree ORDER BY (cohort_id, person_id);
CREATE TABLE {db}.static_cohort_people (person_id UUID, cohort_id Int64, team_id Int64 DEFAULT 1)
ENGINE = MergeTree ORDER BY (cohort_id, person_id);
CREATE TABLE {db}.raw_session_replay_events (
    session_id String, team_id Int64 DEFAULT 1, distinct_id String, min_first_timestamp DateTime64(6, 'UTC'),
    max_last_timestamp DateTime64(6, 'UTC'), first_url Nullable(String), click_count Int64, keypress_count Int64,
    mouse_activity_count Int64, active_milliseconds Int64, console_log_count Int64, console_warn_count Int64,
    console_error_count Int64, size Int64, event_count Int64, message_count Int64, is_deleted UInt8
) ENGINE = MergeTree ORDER BY (min_first_timestamp, session_id);
CREATE TABLE {db}.heatmaps (
    session_id String, team_id Int64 DEFAULT 1, distinct_id String, x Int16, y Int16, scale_factor Int16 DEFAULT 16,
    viewport_width Int16, viewport_height Int16, pointer_target_fixed Bool, current_url String,
    timestamp DateTime64(6, 'UTC'), type String DEFAULT 'click'
) ENGINE = MergeTree ORDER BY timestamp;
CREATE TABLE {db}.flag_evaluations (
    uuid UUID DEFAULT generateUUIDv4(), event String DEFAULT '$feature_flag_called', properties String,
    timestamp DateTime64(6, 'UTC'), team_id Int64 DEFAULT 1, distinct_id String, created_at DateTime64(6, 'UTC'),
    person_id UUID, flag_key String, response String, session_id String
) ENGINE = MergeTree ORDER BY timestamp;
CREATE TABLE {db}.raw_sessions (
    uuid UUID, session_id String, distinct_id String, timestamp DateTime64(6, 'UTC'), event String, url String
) ENGINE = ReplacingMergeTree ORDER BY uuid;
CREATE MATERIALIZED VIEW {db}.raw_sessions_filler TO {db}.raw_sessions AS SELECT
    uuid, `$session_id` AS session_id, distinct_id, timestamp, event,
    JSONExtractString(properties, '$current_url') AS url
FROM {db}.events WHERE `$session_id` != '';
CREATE VIEW {db}.sessions AS SELECT
    session_id AS id, session_id, 1 AS team_id, any(distinct_id) AS distinct_id,
    min(timestamp) AS `$start_timestamp`, max(timestamp) AS `$end_timestamp`, groupUniqArray(url) AS `$urls`,
    uniq(url) AS `$num_uniq_urls`, argMin(url, timestamp) AS `$entry_current_url`,
    argMax(url, timestamp) AS `$exit_current_url`, countIf(event = '$pageview') AS `$pageview_count`,
    countIf(event = '$autocapture') AS `$autocapture_count`,
    dateDiff('second', min(timestamp), max(timestamp)) AS `$session_duration`
FROM {db}.raw_sessions FINAL GROUP BY session_id;
CREATE TABLE {db}.system__information_schema__columns (
    team_id Int64 DEFAULT 1, table_name String, column_name String
) ENGINE = MergeTree ORDER BY table_name
"""


def create_statements(database: str) -> list[str]:
    """Write the statements that make a project's tables.

    :param database: the project's ClickHouse database
    """
    columns = ", ".join(f"('{name}', '{column}')" for name, table in SHOWN.items() for column in table.fields)
    catalog = f"INSERT INTO {database}.system__information_schema__columns (table_name, column_name) VALUES {columns}"  # noqa: S608 - of our own making
    return [f"CREATE DATABASE {database}", *TABLES.format(db=database).split(";\n"), catalog]
