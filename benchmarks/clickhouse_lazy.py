"""PostHog's groups, distinct ids and sessions in ClickHouse, and HogQL over them as its printer writes it."""

from __future__ import annotations

import re

_AT = "fromUnixTimestamp(intDiv(toUInt64(bitShiftRight(session_id_v7, 80)), 1000))"
TABLES = (
    """CREATE TABLE groups (
    group_type_index UInt8, group_key String, created_at DateTime64(3, 'UTC'), team_id Int64, group_properties String,
    _timestamp DateTime('UTC')
) ENGINE = ReplacingMergeTree(_timestamp) ORDER BY (team_id, group_type_index, group_key)""",
    """CREATE TABLE person_distinct_id2 (
    team_id Int64, distinct_id String, person_id UUID, is_deleted Int8, version Int64
) ENGINE = ReplacingMergeTree(version) ORDER BY (team_id, distinct_id) SETTINGS index_granularity = 512""",
    f"""CREATE TABLE raw_sessions (
    team_id Int64, session_id_v7 UInt128, distinct_id AggregateFunction(argMax, String, DateTime64(6, 'UTC')),
    min_timestamp SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    max_timestamp SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    entry_url AggregateFunction(argMin, String, DateTime64(6, 'UTC')),
    end_url AggregateFunction(argMax, String, DateTime64(6, 'UTC')), pageview_uniq AggregateFunction(uniq, UUID)
) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM({_AT})
ORDER BY (team_id, toStartOfHour({_AT}), cityHash64(session_id_v7), session_id_v7)""",
)

#: What fills them, by the name of what is read: with so many rows, of which one in ten has a second version.
FILLS = {
    "groups": (
        "INSERT INTO groups SELECT 0, concat('org-', hex(cityHash64(number))), now() - 1000, 1,"
        " concat('{{\"pad\":\"', repeat(hex(rand(4) % 1000), 60), '\"}}'), now() - 500 FROM numbers({count})",
        "INSERT INTO groups SELECT group_type_index, group_key, created_at, 1, group_properties, now() FROM groups"
        " WHERE cityHash64(group_key) % 10 = 0",
    ),
    "distinct_ids": (
        "INSERT INTO person_distinct_id2 SELECT 1, toString(generateUUIDv4()), generateUUIDv4(), 0, 1"
        " FROM numbers({count})",
        "INSERT INTO person_distinct_id2 SELECT 1, distinct_id, person_id, 0, 2 FROM person_distinct_id2"
        " WHERE cityHash64(distinct_id) % 10 = 0",
    ),
    # So many a day, for fifteen days around the one that is read.
    "sessions": (
        "INSERT INTO raw_sessions SELECT 1, bitOr(bitShiftLeft(toUInt128({start} + number * intDiv(86400000, {count})),"
        " 80), toUInt128(cityHash64(number))) AS id, argMaxState(concat('user-', toString(number)), at),"
        " min(at), max(at + 600), argMinState(concat('https://example.com/', repeat('a', number % 60)), at),"
        " argMaxState(concat('https://example.com/', repeat('b', number % 60)), at), uniqState(generateUUIDv4())"
        " FROM (SELECT number, toDateTime64(({start} + number * intDiv(86400000, {count})) / 1000, 6, 'UTC') AS at"
        " FROM numbers({count} * 15)) GROUP BY number",
    ),
}

_LAZY = re.compile(
    r"(?P<head>.*) FROM (?P<table>groups|person_distinct_ids|sessions)(?: WHERE (?P<where>.*?))?"
    r"(?P<tail>\)? (?:GROUP|ORDER|LIMIT) .*)"
)
_GROUPS = (
    "SELECT argMax(toTimeZone(groups.created_at, 'UTC'), groups._timestamp) AS created_at,"
    " argMax(groups.group_properties, groups._timestamp) AS properties,"
    " argMax(groups._timestamp, groups._timestamp) AS updated_at,"
    " groups.group_type_index AS `index`, groups.group_key AS key FROM groups WHERE groups.team_id = 1"
    " GROUP BY groups.group_type_index, groups.group_key"
)
_DISTINCT_IDS = (
    "SELECT argMax(person_distinct_id2.person_id, person_distinct_id2.version) AS person_id,"
    " person_distinct_id2.distinct_id AS distinct_id FROM person_distinct_id2 WHERE person_distinct_id2.team_id = 1"
    " GROUP BY person_distinct_id2.distinct_id"
    " HAVING ifNull(argMax(person_distinct_id2.is_deleted, person_distinct_id2.version) = 0, 0)"
)
_SESSIONS = (
    "SELECT toString(reinterpretAsUUID(bitOr(bitShiftLeft(session_id_v7, 64), bitShiftRight(session_id_v7, 64)))) AS"
    " session_id, nullIf(argMaxMerge(raw_sessions.distinct_id), 'null') AS distinct_id,"
    " min(toTimeZone(raw_sessions.min_timestamp, 'UTC')) AS `$start_timestamp`,"
    " max(toTimeZone(raw_sessions.max_timestamp, 'UTC')) AS `$end_timestamp`,"
    " nullIf(argMinMerge(entry_url), 'null') AS `$entry_current_url`,"
    " nullIf(argMaxMerge(end_url), 'null') AS `$exit_current_url`,"
    " uniqMerge(pageview_uniq) AS `$pageview_count`"
    " FROM raw_sessions WHERE and(raw_sessions.team_id = 1, 1{pushed}) GROUP BY session_id_v7"
)
_TIMED = re.compile(r"\$start_timestamp (>=|<|<=|>) (parseDateTime64BestEffortOrNull\([^)]*\))")


def printed(sql: str) -> str | None:
    """Write a statement over one of these tables as ClickHouse SQL; ``None`` if it is over another.

    :param sql: HogQL, its values written in.
    """
    found = _LAZY.fullmatch(sql)
    if found is None:
        return None
    inner = {"groups": _GROUPS, "person_distinct_ids": _DISTINCT_IDS}.get(found["table"], "")
    if not inner:
        # PostHog takes bounds of the start with three days around them into the table.
        signs = {">=": "+ toIntervalDay(3) >=", ">": "+ toIntervalDay(3) >="}
        pushed = [
            f", {_AT} {signs.get(sign, '- toIntervalDay(3) <=')} {at}"
            for sign, at in dict.fromkeys(_TIMED.findall(sql))
        ]
        inner = _SESSIONS.format(pushed="".join(pushed))
    where = f" WHERE {found['where']}" if found["where"] else ""
    text = f"{found['head']} FROM ({inner}) AS {found['table']}{where}{found['tail']}"
    return re.sub(r"(?<![`\w])\$(\w+)", r"`$\1`", text) if found["table"] == "sessions" else text
