"""The ClickHouse tables behind what HogQL shows: ``hogql.schema`` decides which of their columns are seen."""

from __future__ import annotations

from airflow_provider_posthog.emulator.hogql.replay import replay_statements
from airflow_provider_posthog.emulator.hogql.sessions import first_sources, session_statements

TABLES = """
CREATE TABLE {db}.events (
    uuid UUID, event String, properties String, timestamp DateTime64(6, 'UTC'), team_id Int64 DEFAULT {team},
    distinct_id String, elements_chain String, created_at DateTime64(6, 'UTC'), `$session_id` String,
    `$window_id` String, person_mode Enum8('full' = 0, 'propertyless' = 1, 'force_upgrade' = 2), `$group_0` String,
    `$group_1` String, `$group_2` String, `$group_3` String, `$group_4` String, elements_chain_href String,
    elements_chain_texts Array(String), elements_chain_ids Array(String),
    elements_chain_elements Array(Enum8('a' = 1, 'button' = 2, 'form' = 3, 'input' = 4, 'select' = 5, 'textarea' = 6,
        'label' = 7)),
    person_id UUID, issue_id Nullable(UUID) ALIAS toUUIDOrNull(JSONExtractString(properties, '$exception_issue_id'))
) ENGINE = MergeTree ORDER BY (toDate(timestamp), event, cityHash64(distinct_id), cityHash64(uuid))
SAMPLE BY cityHash64(distinct_id);
CREATE TABLE {db}.persons (
    id UUID, created_at DateTime64(3, 'UTC'), team_id Int64 DEFAULT {team}, properties String, is_identified Int8
) ENGINE = MergeTree ORDER BY id;
CREATE TABLE {db}.person_distinct_ids (team_id Int64 DEFAULT {team}, distinct_id String, person_id UUID)
ENGINE = MergeTree ORDER BY distinct_id;
CREATE TABLE {db}.groups (
    `index` UInt8, team_id Int64 DEFAULT {team}, key String, created_at DateTime64(6, 'UTC'),
    updated_at DateTime64(6, 'UTC'), properties String
) ENGINE = MergeTree ORDER BY (`index`, key);
CREATE TABLE {db}.cohort_people (person_id UUID, cohort_id Int64, team_id Int64 DEFAULT {team})
ENGINE = MergeTree ORDER BY (cohort_id, person_id);
CREATE TABLE {db}.static_cohort_people (person_id UUID, cohort_id Int64, team_id Int64 DEFAULT {team})
ENGINE = MergeTree ORDER BY (cohort_id, person_id);
CREATE TABLE {db}.heatmaps (
    session_id String, team_id Int64 DEFAULT {team}, distinct_id String, x Int16, y Int16,
    scale_factor Int16 DEFAULT 16,
    viewport_width Int16, viewport_height Int16, pointer_target_fixed Bool, current_url String,
    timestamp DateTime64(6, 'UTC'), type String DEFAULT 'click'
) ENGINE = MergeTree ORDER BY timestamp;
CREATE TABLE {db}.flag_evaluations (
    uuid UUID DEFAULT generateUUIDv4(), event String DEFAULT '$feature_flag_called', properties String,
    timestamp DateTime64(6, 'UTC'), team_id Int64 DEFAULT {team}, distinct_id String, created_at DateTime64(6, 'UTC'),
    person_id UUID, flag_key String, response String, session_id String
) ENGINE = MergeTree ORDER BY timestamp;
CREATE TABLE {db}.person_distinct_id_overrides (team_id Int64 DEFAULT {team}, distinct_id String, person_id UUID)
ENGINE = MergeTree ORDER BY distinct_id
"""

# Persons with where they first came from, for queries that ask for it: as columns of the table itself they would make
# each query of persons several times as slow, also those that do not name them.
PERSONS_AND_SOURCES = "persons_and_sources"

# what PostHog's own rows have besides what is seen of them
_DELETED = ("toInt8(0) AS is_deleted", "toInt64(0) AS version")
_RAW: dict[str, tuple[str, ...]] = {
    "persons": _DELETED,
    "person_distinct_ids": _DELETED,
    "person_distinct_id_overrides": _DELETED,
    "groups": (),
    "cohort_people": ("toInt8(1) AS sign", "toInt64(0) AS version"),
}


def _persons_and_sources() -> str:
    return f"CREATE VIEW {{db}}.{PERSONS_AND_SOURCES} AS SELECT *, {first_sources()} FROM {{db}}.raw_persons"  # noqa: S608 - of our own making


def _raw(table: str) -> str:
    columns = ", ".join(["*", *_RAW[table]])
    return f"CREATE VIEW {{db}}.raw_{table} AS SELECT {columns} FROM {{db}}.{table}"  # noqa: S608 - of our own making


def create_statements(database: str, team: int = 1) -> list[str]:
    """Write the statements that make a project's tables.

    :param database: the project's ClickHouse database
    :param team: the project's id, which its rows carry
    """
    tables = [
        *TABLES.split(";\n"),
        *map(_raw, _RAW),
        _persons_and_sources(),
        *session_statements(),
        *replay_statements(),
    ]
    return [f"CREATE DATABASE {database}", *(table.format(db=database, team=team) for table in tables)]
