"""The tables and columns HogQL shows of a project, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import TypeAlias

from airflow_provider_posthog.emulator.hogql.ast import Column
from airflow_provider_posthog.emulator.hogql.replay import replay_tables
from airflow_provider_posthog.emulator.hogql.schema_types import ExpressionField, Link, Table, Through
from airflow_provider_posthog.emulator.hogql.sessions import FIRST_SOURCES, sessions_table
from airflow_provider_posthog.emulator.hogql.system import system_tables

__all__ = ["NUMBERS", "TABLES", "Link", "Table", "tables"]

_STRING = Column("string", nullable=False)
_JSON = Column("json", nullable=False)
_TIME = Column("datetime", nullable=False)
_UUID = Column("uuid", nullable=False)
_INTEGER = Column("integer", nullable=False)
_OTHER = Column("other", nullable=False)
_Fields: TypeAlias = dict[str, Column | Link | Through | ExpressionField]
# what persons and groups have paid, where a source of revenue is connected
_REVENUE: _Fields = {f"$virt_{name}": Through(("revenue_analytics", name)) for name in ("revenue", "mrr")}
# who sent an event, by two of its properties
_VISITORS: _Fields = {
    f"$virt_{name}": ExpressionField(kind, function, ("$raw_user_agent", "$ip"))
    for name, kind, function in (
        ("is_bot", _OTHER, "isLikelyBot"),
        ("traffic_type", _STRING, "getTrafficType"),
        ("traffic_category", _STRING, "getTrafficCategory"),
        ("bot_name", _STRING, "getBotName"),
        ("bot_operator", _STRING, "getBotOperator"),
    )
}


def _events() -> Table:
    fields: _Fields = {
        "uuid": _UUID,
        "event": _STRING,
        "properties": _JSON,
        "timestamp": _TIME,
        "team_id": _INTEGER,
        "distinct_id": _STRING,
        "elements_chain": _STRING,
        "created_at": _TIME,
        "$session_id": _STRING,
        "$window_id": _STRING,
        "person_mode": _STRING,
    }
    fields |= {f"$group_{index}": _STRING for index in range(5)}
    fields |= {
        "elements_chain_href": _STRING,
        "elements_chain_texts": _OTHER,
        "elements_chain_ids": _OTHER,
        "elements_chain_elements": _OTHER,
        # of the table itself, but not part of `*`: PostHog reads it through a join
        "person_id": _UUID,
        "person": Link("persons", "person_id", "id"),
        "pdi": Link("person_distinct_ids", "distinct_id", "distinct_id"),
        "session": Link("sessions", "$session_id", "session_id"),
    }
    fields |= {f"group_{index}": Link("groups", f"$group_{index}", "key") for index in range(5)}
    # what events say of the person and the groups by themselves; here it is what is known of them now
    fields |= {"poe": Through(("person",)), **{f"goe_{index}": Through((f"group_{index}",)) for index in range(5)}}
    # the name of the only type of groups, and what error tracking reads of its events
    fields |= {"company": Through(("group_0",)), "issue_id": Column("uuid")}
    return Table("events", fields | _VISITORS, frozenset({"team_id", "person_id", "issue_id"}))


def _heatmaps() -> Table:
    fields: _Fields = {"session_id": _STRING, "team_id": _INTEGER, "distinct_id": _STRING}
    fields |= {name: _INTEGER for name in ("x", "y", "scale_factor", "viewport_width", "viewport_height")}
    fields |= {"pointer_target_fixed": _OTHER, "current_url": _STRING, "timestamp": _TIME, "type": _STRING}
    return Table("heatmaps", fields)


def _flag_evaluations() -> Table:
    fields: _Fields = {
        "uuid": _UUID,
        "event": _STRING,
        "properties": _JSON,
        "timestamp": _TIME,
    }
    fields |= {"team_id": _INTEGER, "distinct_id": _STRING, "created_at": _TIME, "person_id": _UUID}
    fields |= {"flag_key": _STRING, "response": _STRING, "session_id": _STRING}
    return Table("flag_evaluations", fields)


def _of_people() -> Iterator[Table]:
    """Describe persons and what belongs to them; each also as PostHog stores it, in a ``raw_`` table."""
    owner: _Fields = {"person_id": _UUID, "person": Link("persons", "person_id", "id")}
    persons: _Fields = {"id": _UUID, "created_at": _TIME, "team_id": _INTEGER, "properties": _JSON}
    persons |= {"is_identified": _INTEGER, "pdi": Link("person_distinct_ids", "id", "person_id")}
    persons |= {name: Column("string") for name in FIRST_SOURCES}
    persons |= {"revenue_analytics": Link("persons_revenue_analytics", "id", "person_id"), **_REVENUE}
    ids: _Fields = {"team_id": _INTEGER, "distinct_id": _STRING, **owner}
    groups: _Fields = {"index": _INTEGER, "team_id": _INTEGER, "key": _STRING}
    groups |= {"created_at": _TIME, "updated_at": _TIME, "properties": _JSON}
    groups |= {"revenue_analytics": Link("groups_revenue_analytics", "key", "group_key"), **_REVENUE}
    members: _Fields = {"person_id": _UUID, "cohort_id": _INTEGER, "team_id": _INTEGER, **owner}
    deleted: _Fields = {"is_deleted": _INTEGER, "version": _INTEGER}
    hidden = frozenset({"team_id", *FIRST_SOURCES})
    yield Table("persons", persons, hidden)
    yield Table("raw_persons", {**persons, **deleted}, hidden)
    yield Table("person_distinct_ids", ids)
    yield Table("raw_person_distinct_ids", {**ids, **deleted})
    yield Table("person_distinct_id_overrides", ids)
    yield Table("raw_person_distinct_id_overrides", {**ids, **deleted})
    yield Table("groups", groups)
    yield Table("raw_groups", groups)
    yield Table("cohort_people", members)
    yield Table("raw_cohort_people", {**members, "sign": _INTEGER, "version": _INTEGER})
    yield Table("static_cohort_people", members)


# of those that show the server's own state, what servers before December 2025 have
_OLD = ("log_entries", "console_logs_log_entries", "batch_export_log_entries")
#: What servers before December 2025 do not have.
NEW_TABLES = frozenset({"flag_evaluations"})
TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _events(),
        *_of_people(),
        sessions_table(),
        *replay_tables(),
        _heatmaps(),
        _flag_evaluations(),
        Table("numbers", {"number": _INTEGER}),
    )
}


@cache
def tables(*, newer: bool) -> Mapping[str, Table]:
    """List the tables by name.

    :param newer: with those that servers of 2025 and later have
    """
    further = system_tables()
    if newer:
        return {**TABLES, **further}
    return {**{name: _older(table) for name, table in TABLES.items()}, **{name: further[name] for name in _OLD}}


def _older(table: Table) -> Table:
    """Take away what servers before 2025 do not work out."""
    newer = {"revenue_analytics", *_REVENUE, *_VISITORS}
    return replace(table, fields={name: kind for name, kind in table.fields.items() if name not in newer})


# The property definitions of the project: PostHog casts the properties it has seen as numbers
NUMBERS: dict[str, frozenset[str]] = {
    "events": frozenset(
        {"amount", "quantity", "$screen_height", "$screen_width", "$viewport_height", "$viewport_width"}
    ),
    "persons": frozenset({"seats"}),
    "groups": frozenset({"employees"}),
}
