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
    *(
        f"""CREATE TABLE {name} (
    team_id Int64, session_id_v7 UInt128,{more} distinct_id AggregateFunction(argMax, String, DateTime64(6, 'UTC')),
    min_timestamp SimpleAggregateFunction(min, DateTime64(6, 'UTC')),
    max_timestamp SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    entry_url AggregateFunction(argMin, String, DateTime64(6, 'UTC')),
    end_url AggregateFunction(argMax, String, DateTime64(6, 'UTC')), pageview_uniq AggregateFunction({uniq}, UUID)
) ENGINE = AggregatingMergeTree PARTITION BY toYYYYMM({at}) ORDER BY (team_id, {key})"""
        for name, more, uniq, at, key in (
            ("raw_sessions", "", "uniq", _AT, f"toStartOfHour({_AT}), cityHash64(session_id_v7), session_id_v7"),
            (
                "raw_sessions_v3",
                " session_timestamp DateTime64 MATERIALIZED"
                " fromUnixTimestamp64Milli(toUInt64(bitShiftRight(session_id_v7, 80))),",
                "uniqExact",
                "session_timestamp",
                "session_timestamp, session_id_v7",
            ),
        )
    ),
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
    # So many a day, for fifteen days around the one that is read. An id is made up to two seconds before the first
    # event, or {wrong} in a hundred thousand by a clock that is wrong by up to two and a half days.
    **{
        name: (
            f"INSERT INTO {table} (team_id, session_id_v7, distinct_id, min_timestamp, max_timestamp, entry_url,"
            " end_url, pageview_uniq) SELECT 1, bitOr(bitShiftLeft(toUInt128({start} + intDiv(number * 86400000,"
            " {count}) - if(rand(number) % 100000 < {wrong}, rand(1) % 432000000 - 216000000, rand(2) % 2000)), 80),"
            " toUInt128(cityHash64(number))) AS"
            " id, argMaxState(concat('user-', toString(number)), at), min(at), max(at + 600),"
            " argMinState(concat('https://example.com/', repeat('a', number % 60)), at),"
            f" argMaxState(concat('https://example.com/', repeat('b', number % 60)), at), {uniq}State(generateUUIDv4())"
            " FROM (SELECT number, toDateTime64(({start} + number * 86400000 / {count}) / 1000, 6, 'UTC') AS at"
            " FROM numbers({count} * 15)) GROUP BY number",
        )
        for name, table, uniq in (
            ("sessions", "raw_sessions", "uniq"),
            ("sessions_v3", "raw_sessions_v3", "uniqExact"),
        )
    },
}

_LAZY = re.compile(
    r"(?P<head>.*) FROM (?P<table>groups|person_distinct_ids|sessions)(?: WHERE (?P<where>.*?))?"
    r"(?P<tail>(?:\) | )(?:GROUP|ORDER|LIMIT) .*)"
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
    " session_id, nullIf(argMaxMerge({table}.distinct_id), 'null') AS distinct_id,"
    " min(toTimeZone({table}.min_timestamp, 'UTC')) AS `$start_timestamp`,"
    " max(toTimeZone({table}.max_timestamp, 'UTC')) AS `$end_timestamp`,"
    " nullIf(argMinMerge(entry_url), 'null') AS `$entry_current_url`,"
    " nullIf(argMaxMerge(end_url), 'null') AS `$exit_current_url`,"
    " {uniq}Merge(pageview_uniq) AS `$pageview_count`, {table}.session_id_v7 AS session_id_v7"
    " FROM {table} WHERE and({table}.team_id = 1, {pushed}) GROUP BY {table}.session_id_v7"
)
#: How each age of PostHog's sessions calls its table, counts, and writes the time that an id begins with.
_AGES = {
    "old": ("raw_sessions", "uniq", _AT),
    "new": ("raw_sessions", "uniq", _AT),
    "v3": ("raw_sessions_v3", "uniqExact", "raw_sessions_v3.session_timestamp"),
}
_MOMENT = r"parseDateTime64BestEffortOrNull\([^)]*\)"
_TIMED = re.compile(rf"\$start_timestamp (>=|<=|>|<) ({_MOMENT})")


def _looked_up(where: str, age: str) -> str:
    """Write what PostHog takes of a condition into its table: comparisons of the start, with three days around them.

    What it cannot take is true there; since the end of 2024 it is so behind NOT, too, and not the whole of it.
    """
    at = _AGES[age][2]

    def padded(found: re.Match[str]) -> str:
        sign, by = (">=", ("+", "minus")) if found[1].startswith(">") else ("<=", ("-", "plus"))
        if age == "old":  # the index does not see through ifNull
            return f"ifNull({at} {by[0]} toIntervalDay(3) {sign} {found[2]}, 0)"
        return f"{at} {sign} {by[1]}({found[2]}, toIntervalDay(3))"

    text = re.sub(rf"\(\$start_timestamp, [^=]*?\) > \({_MOMENT}, '[^']*'\)", "1", where)
    text = text.replace("NOT (session_id_v7 < 0)", "1" if age == "old" else "not(1)")
    return _TIMED.sub(padded, text)


def printed(sql: str, age: str) -> str | None:
    """Write a statement over one of these tables as ClickHouse SQL; ``None`` if it is over another.

    :param sql: HogQL, its values written in.
    :param age: of the server: ``old``, ``new``, or ``v3``, which has its sessions in a table of another order.
    """
    match = _LAZY.fullmatch(sql)
    if match is None:
        return None
    found = match.groupdict()
    if (found["where"] or "").count("(") > (found["where"] or "").count(")"):  # its own, not that of a query around it
        found |= {"where": f"{found['where']})", "tail": found["tail"][1:]}
    inner = {"groups": _GROUPS, "person_distinct_ids": _DISTINCT_IDS}.get(found["table"], "")
    if not inner:
        table, uniq, _ = _AGES[age]
        inner = _SESSIONS.format(table=table, uniq=uniq, pushed=_looked_up(found["where"] or "1", age))
    where = f" WHERE {found['where']}" if found["where"] else ""
    text = f"{found['head']} FROM ({inner}) AS {found['table']}{where}{found['tail']}"
    text = text.replace(
        "toInt(bitShiftRight(session_id_v7, 80))", "accurateCastOrNull(bitShiftRight(session_id_v7, 80), 'Int64')"
    )
    return re.sub(r"(?<![`\w])\$(\w+)", r"`$\1`", text) if found["table"] == "sessions" else text
