"""More sources with a name: distinct ids, members of cohorts, recordings, and feature flag calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from airflow_provider_posthog.extract.choices import Columns, check_time, cohort_number, columns_of
from airflow_provider_posthog.extract.sources import NO_NUMBER, Source, events

DISTINCT_ID_COLUMNS = ("distinct_id", "person_id")
MEMBER_COLUMNS = ("person_id", "cohort_id")
#: Counters of a recording: its rows in PostHog's table are pieces of it, which are added up.
_REPLAY_COUNTS = (
    "click_count",
    "keypress_count",
    "mouse_activity_count",
    "active_milliseconds",
    "console_log_count",
    "console_warn_count",
    "console_error_count",
    "size",
    "event_count",
    "message_count",
)
_PIECES, _NOT_DELETED = "raw_session_replay_events", " HAVING max(is_deleted) = 0"
REPLAY_COLUMNS = ("session_id", "distinct_id", "start_time", "end_time", *_REPLAY_COUNTS)
#: Days around a window in which pieces of its recordings are searched. A session ends after a day, but clocks are
#: wrong.
_REPLAY_DAYS = 2
_FLAG_CALL = "$feature_flag_called"
FLAG_CALL_COLUMNS: Mapping[str, str] = {
    "uuid": "uuid",
    "timestamp": "timestamp",
    "created_at": "created_at",
    "distinct_id": "distinct_id",
    "person_id": "person_id",
    # As JSON: if PostHog takes the property for a boolean, the name of a variant would be lost.
    "flag_key": "JSONExtractString(properties, '$feature_flag')",
    "response": "replaceRegexpAll(JSONExtractRaw(properties, '$feature_flag_response'), '^\"|\"$', '')",
}


def person_distinct_ids(
    columns: Columns = None, *, where: str | None = None, values: Mapping[str, Any] | None = None
) -> Source:
    """Return all distinct ids, each with the person that it belongs to now.

    :param columns: HogQL by column name, or names; ``None`` for ``distinct_id, person_id``.
    :param where: a HogQL condition.
    :param values: the values of its placeholders.
    """
    return Source(
        name="person_distinct_ids",
        table="person_distinct_ids",
        columns=columns_of(columns, DISTINCT_ID_COLUMNS),
        key="distinct_id",
        sort_key=("distinct_id",),
        where=where,
        filtered=bool(where),
        values=dict(values or {}),
    )


def cohort_members(cohort_id: int | str | None = None) -> Source:
    """Return the persons of a cohort, or of all cohorts: ``person_id, cohort_id``.

    PostHog keeps the members of static cohorts in a table of their own, which may have a member more than once.

    :param cohort_id: the cohort's number, for its members only.
    :raises PostHogSettingsError: if it is not a number.
    """
    members = "SELECT person_id, cohort_id FROM cohort_people"
    static = "SELECT DISTINCT person_id, cohort_id FROM static_cohort_people"
    source = Source(
        name="cohort_members",
        table=f"({members} UNION ALL {static}) AS members",
        columns={name: name for name in MEMBER_COLUMNS},
        key="cohort_id, person_id",
        keys=("cohort_id", "person_id"),
        row_key=("cohort_id", "person_id"),
        sort_key=("person_id",),
        is_uuid=True,
    )
    if cohort_id is None:
        return source
    number = cohort_number(cohort_id)
    return replace(
        source,
        name=f"cohort_{number}",
        where="cohort_id = {posthog_cohort_id}",
        only={"cohort_id": (number,)},
        values={"posthog_cohort_id": number},
    )


def session_replays(
    columns: Columns = None,
    *,
    time_column: Literal["start_time"] = "start_time",
    where: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> Source:
    """Return the session recordings that began in the range: whose, when, and their counters.

    PostHog's table has a row for each piece of a recording. It is sorted by the time of the pieces, so only those
    around a window are read. Recordings that were deleted are left out. Counters that an older server lacks are null.

    :param columns: HogQL by column name, or names; ``None`` for ``session_id, distinct_id, start_time, end_time`` and
        the counters ``click_count, keypress_count, mouse_activity_count, active_milliseconds, console_log_count,
        console_warn_count, console_error_count, size`` (bytes)``, event_count, message_count``.
    :param time_column: the only one there is.
    :param where: a HogQL condition on these columns.
    :param values: the values of its placeholders.
    :raises PostHogSettingsError: if an argument cannot be used.
    """
    check_time(time_column, "session_replays", ("start_time",))
    return Source(
        name="session_replays",
        table=f"({_replays()}) AS replays",
        # Servers that cannot delete recordings have no such column.
        newer={"is_deleted": (_NOT_DELETED, ""), **({name: _count(name) for name in _REPLAY_COUNTS})},
        newer_in=_PIECES,
        columns=columns_of(columns, REPLAY_COLUMNS),
        key="session_id",
        time=time_column,
        changes_for=timedelta(days=1),
        where=where,
        filtered=bool(where),
        values=dict(values or {}),
    )


def _replays() -> str:
    """Write the query that assembles recordings from their pieces; only pieces around a window are read."""
    counts = ", ".join(_count(name)[0] for name in _REPLAY_COUNTS)
    days = f"toIntervalDay({_REPLAY_DAYS})"
    around = (
        f"min_first_timestamp >= toDateTime({{window_start}}) - {days}"
        f" AND min_first_timestamp < toDateTime({{window_end}}) + {days}"
    )
    return (
        f"SELECT session_id, argMin(distinct_id, min_first_timestamp) AS distinct_id,"  # noqa: S608 - names of our own
        f" min(min_first_timestamp) AS start_time, max(max_last_timestamp) AS end_time, {counts}"
        f" FROM {_PIECES} WHERE {around} GROUP BY session_id{_NOT_DELETED}"
    )


def _count(name: str) -> tuple[str, str]:
    """Write a counter of a recording, and its replacement on servers without it."""
    return f"sum({name}) AS {name}", f"{NO_NUMBER} AS {name}"


def feature_flag_calls(
    columns: Columns = None,
    *,
    time_column: Literal["created_at", "timestamp"] = "created_at",
    where: str | None = None,
    values: Mapping[str, Any] | None = None,
    scan_back: timedelta | None = None,
) -> Source:
    """Return the events that SDKs send when a feature flag is evaluated.

    :param columns: HogQL of events by column name, or names; ``None`` for ``uuid, timestamp, created_at, distinct_id,
        person_id, flag_key, response``, which is ``true``, ``false`` or the name of a variant.
    :param time_column: as of :func:`~airflow_provider_posthog.extract.sources.events`.
    :param where: a HogQL condition.
    :param values: the values of its placeholders.
    :param scan_back: as of events.
    """
    chosen = FLAG_CALL_COLUMNS if columns is None else columns
    source = events(chosen, time_column=time_column, events=_FLAG_CALL, where=where, values=values, scan_back=scan_back)
    return replace(source, name="feature_flag_calls", only={})  # all that its table holds are calls
