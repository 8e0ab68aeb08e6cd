"""The ClickHouse tables behind what HogQL shows: :mod:`hogql_schema` decides which of their columns are seen."""

from __future__ import annotations

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
CREATE TABLE {db}.raw_session_replay_events (
    session_id String, team_id Int64 DEFAULT 1, distinct_id String, min_first_timestamp DateTime64(6, 'UTC'),
    max_last_timestamp DateTime64(6, 'UTC'), first_url Nullable(String), click_count Int64, keypress_count Int64,
    mouse_activity_count Int64, active_milliseconds Int64, console_log_count Int64, console_warn_count Int64,
    console_error_count Int64, size Int64, event_count Int64, message_count Int64, is_deleted UInt8
) ENGINE = MergeTree ORDER BY (min_first_timestamp, session_id);
CREATE VIEW {db}.sessions AS SELECT
    `$session_id` AS id, `$session_id` AS session_id, any(team_id) AS team_id, any(distinct_id) AS distinct_id,
    min(timestamp) AS `$start_timestamp`, max(timestamp) AS `$end_timestamp`,
    groupUniqArray(JSONExtractString(properties, '$current_url')) AS `$urls`,
    uniq(JSONExtractString(properties, '$current_url')) AS `$num_uniq_urls`,
    argMin(JSONExtractString(properties, '$current_url'), timestamp) AS `$entry_current_url`,
    argMax(JSONExtractString(properties, '$current_url'), timestamp) AS `$exit_current_url`,
    countIf(event = '$pageview') AS `$pageview_count`, countIf(event = '$autocapture') AS `$autocapture_count`,
    dateDiff('second', min(timestamp), max(timestamp)) AS `$session_duration`
FROM {db}.events WHERE `$session_id` != '' GROUP BY `$session_id`
"""


def create_statements(database: str) -> list[str]:
    """Write the statements that make a project's tables.

    :param database: the project's ClickHouse database
    """
    return [f"CREATE DATABASE {database}", *TABLES.format(db=database).split(";\n")]
