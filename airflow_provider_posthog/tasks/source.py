"""What a transfer reads: one of PostHog's tables, or a query, from a task's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.extract.sources import Source

#: PostHog's lists, which are read from its API as a whole (:mod:`airflow_provider_posthog.extract.lists`).
LISTS = (
    "actions",
    "annotations",
    "cohorts",
    "dashboards",
    "event_definitions",
    "experiments",
    "feature_flags",
    "insights",
    "property_definitions",
    "surveys",
)
#: The arguments that each table takes.
_TAKES: Mapping[str, frozenset[str]] = {
    "events": frozenset({"columns", "events", "exclude_events", "where", "values", "time_column", "scan_back"}),
    "persons": frozenset({"columns", "where", "values", "time_column"}),
    "sessions": frozenset({"columns", "where", "values", "time_column", "complete_after"}),
    "groups": frozenset({"columns", "where", "values"}),
    "person_distinct_ids": frozenset({"columns", "where", "values"}),
    "cohort_members": frozenset({"cohort_id"}),
    "session_replays": frozenset({"columns", "where", "values", "time_column"}),
    "feature_flag_calls": frozenset({"columns", "where", "values", "time_column", "scan_back"}),
    "query": frozenset({"key", "time_column", "values"}),
    **dict.fromkeys(LISTS, frozenset()),
}
_NEEDS = {"query": "key"}
_TABLES = ", ".join(table for table in _TAKES if table != "query")


def check_one(source: object, query: object) -> None:
    """Refuse what names nothing to read, or two things.

    :param source: one of PostHog's tables, if it is given.
    :param query: a query in its place, if it is given.
    :raises PostHogSettingsError: unless it is one of the two.
    """
    if source is not None and query is not None:
        raise PostHogSettingsError("source", "and query are both given.", "Write one of the two.")
    if source is None and query is None:
        raise PostHogSettingsError(
            "source", "is not given, and neither is query.", f"Write one of {_TABLES}, or a query, with its key."
        )


def source_of(table: str | None, query: str | None, name: str | None, **arguments: Any) -> Source:  # noqa: ANN401
    """Return what is read.

    :param table: ``events``, ``persons``, ``sessions``, ``groups``, one of
        :mod:`airflow_provider_posthog.extract.named_sources`, or one of :data:`LISTS`.
    :param query: a query in its place.
    :param name: what to call the query.
    :param arguments: of the table's function in :mod:`airflow_provider_posthog.extract.sources`; ``None`` for those
        that are not given.
    :raises PostHogSettingsError: if an argument is not one of the table's, or cannot be used.
    """
    from airflow_provider_posthog.extract import named_sources, sources
    from airflow_provider_posthog.extract.conditions import check_condition

    check_one(table, query)
    kind = "query" if query is not None else table
    if not isinstance(kind, str) or kind not in _TAKES or table == "query":
        raise PostHogSettingsError(
            "source", f"{table!r:.60} is not known.", f"Write one of {_TABLES}, or give a query as query, with its key."
        )
    chosen = {field: value for field, value in arguments.items() if value is not None}
    for field in chosen:
        if field not in _TAKES[kind]:
            takes = ", ".join(sorted(_TAKES[kind]))
            raise PostHogSettingsError(field, f"is not for {kind}.", f"Leave it out: {kind} takes {takes}.")
    check_condition(chosen.get("where"), chosen.get("values"))
    needed = _NEEDS.get(kind)
    if needed and needed not in chosen:
        raise PostHogSettingsError(needed, f"is needed for {kind}.", f"Write {needed}=... .")
    if kind == "query":
        return sources.hogql(str(query), name=name or "query", **chosen)
    if kind in LISTS:
        from airflow_provider_posthog.extract.lists import list_source

        return list_source(kind)
    made: Source = getattr(sources if hasattr(sources, kind) else named_sources, kind)(**chosen)
    return made
