"""Choose rows of PostHog's tables: events by name, a time, a cohort. Choices that cannot be meant are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.extract.names import check_own

#: What a template makes of a list.
_LIST = re.compile(r"\s*[\[(]\s*['\"\])]")
_NUMBER = re.compile(r"[0-9]{1,18}")
#: Names, or HogQL by name.
Columns = Sequence[str] | Mapping[str, str] | None


def events_chosen(
    events: str | Sequence[str] | None,
    exclude_events: str | Sequence[str] | None,
    columns: Sequence[str] | Mapping[str, str] | None,
) -> tuple[list[str], dict[str, Any]]:
    """Return the condition that rows are events of some names, or of all others, and its value; none for all events.

    :param events: the name, or the names.
    :param exclude_events: the name, or the names, of those that are left out.
    :param columns: the columns that are read.
    :raises PostHogSettingsError: if one names no events, or both are given.
    """
    if events is None and exclude_events is None:
        return [], {}
    if isinstance(columns, Mapping):
        check_own(columns, {"event"})
    if exclude_events is None:
        return ["event IN {posthog_event_names}"], {"posthog_event_names": _names("events", events)}
    if events is not None:
        raise PostHogSettingsError("exclude_events", "is given together with events.", "Write one of the two.")
    return ["event NOT IN {posthog_left_out}"], {"posthog_left_out": _names("exclude_events", exclude_events)}


def _names(argument: str, given: str | Sequence[str] | None) -> list[str]:
    names = [given] if isinstance(given, str) else given
    # No event has an empty name: nothing would be read, and the existing rows would be replaced by nothing.
    if not names or not isinstance(names, Sequence) or not all(map(_is_name, names)):
        raise PostHogSettingsError(
            argument,
            f"is {given!r:.80}, which names no events.",
            "Leave it out, or write a name or a list of names (a template makes text of a list, unless the DAG has "
            "render_template_as_native_obj=True).",
        )
    return list(names)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and not _LIST.match(name)


def cohort_number(cohort_id: object) -> int:
    """Return a cohort's number.

    :param cohort_id: the number, or its text.
    :raises PostHogSettingsError: if it is none.
    """
    text = str(cohort_id).strip()
    if isinstance(cohort_id, bool) or not _NUMBER.fullmatch(text):
        raise PostHogSettingsError(
            "cohort_id", f"is {cohort_id!r:.60}, which is not a cohort's number.", "Write the number that its URL has."
        )
    return int(text)


def check_time_of_events(time_column: str, scan_back: timedelta | None) -> None:
    """Refuse a time column that events do not have, and a ``scan_back`` that does not fit it.

    :param time_column: the time.
    :param scan_back: how long before the range events may have happened; ``None`` for no limit.
    :raises PostHogSettingsError: if one cannot be used.
    """
    check_time(time_column, "events", ("created_at", "timestamp"))
    if scan_back is None:
        return
    if not isinstance(scan_back, timedelta) or scan_back <= timedelta(0):
        raise PostHogSettingsError(
            "scan_back", f"is {scan_back!r:.60}, which is not a length of time.", "Write timedelta(days=7)."
        )
    if time_column != "created_at":
        raise PostHogSettingsError(
            "scan_back",
            f"is not for time_column={time_column!r}: events that happened before the range are never in it.",
            "Leave it out, or write time_column='created_at'.",
        )


def check_time(time_column: object, name: str, known: Sequence[str | None]) -> None:
    """Refuse a time column that a table does not have.

    :param time_column: the time.
    :param name: the table.
    :param known: its times.
    :raises PostHogSettingsError: if it is none of them.
    """
    if time_column not in known:
        raise PostHogSettingsError(
            "time_column",
            f"is {time_column!r:.60}, a time that {name} do not have.",
            f"Write {' or '.join(filter(None, known))}.",
        )


def columns_of(given: Columns, default: Sequence[str]) -> dict[str, str]:
    """Return HogQL by column name.

    :param given: what the task says.
    :param default: names, for ``None``.
    :raises PostHogSettingsError: if it names nothing.
    """
    if given is None:
        return {name: name for name in default}
    if isinstance(given, str) or not given:
        raise PostHogSettingsError("columns", "names no columns.", "Write a list of names, or HogQL by name.")
    chosen = dict(given) if isinstance(given, Mapping) else {name: name for name in given}
    if odd := [part for part in (*chosen, *chosen.values()) if not isinstance(part, str) or not part.strip()]:
        raise PostHogSettingsError(
            "columns", f"have {odd[0]!r:.60}, which is neither a name nor HogQL.", "Write text: 'properties.$browser'."
        )
    return chosen
