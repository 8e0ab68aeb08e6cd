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
    "events": frozenset({"columns", "event", "where", "values", "by", "scan_back"}),
    "persons": frozenset({"columns", "where", "values", "by"}),
    "sessions": frozenset({"columns", "where", "values"}),
    "groups": frozenset({"columns", "where", "values"}),
    "distinct_ids": frozenset({"columns", "where", "values"}),
    "cohort_members": frozenset({"cohort_id"}),
    "hogql": frozenset({"key", "time", "values"}),
    **dict.fromkeys(LISTS, frozenset()),
}
_NEEDS = {"cohort_members": "cohort_id", "hogql": "key"}


def source_of(table: str | None, hogql: str | None, name: str | None, **arguments: Any) -> Source:  # noqa: ANN401
    """Return what is read.

    :param table: ``events`` (the default), ``persons``, ``sessions``, ``groups``, ``distinct_ids``
        or ``cohort_members``, or one of :data:`LISTS`.
    :param hogql: a query in its place.
    :param name: what to call the query.
    :param arguments: of the table's function in :mod:`airflow_provider_posthog.extract.sources`; ``None`` for those
        that are not given.
    :raises PostHogSettingsError: if an argument is not one of the table's, or cannot be used.
    """
    from airflow_provider_posthog.extract import sources

    if table is not None and hogql is not None:
        raise PostHogSettingsError("table", "and hogql are both given.", "Write one of the two.")
    kind = "hogql" if hogql is not None else "events" if table is None else table
    if kind not in _TAKES or table == "hogql":
        tables = ", ".join(each for each in _TAKES if each != "hogql")
        raise PostHogSettingsError(
            "table", f"{kind!r} is not known.", f"Write one of {tables}, or give a query as hogql, with its key."
        )
    given = {field: value for field, value in arguments.items() if value is not None}
    for field in given:
        if field not in _TAKES[kind]:
            takes = ", ".join(sorted(_TAKES[kind]))
            raise PostHogSettingsError(field, f"is not for {kind}.", f"Leave it out: {kind} takes {takes}.")
    needed = _NEEDS.get(kind)
    if needed and needed not in given:
        raise PostHogSettingsError(needed, f"is needed for {kind}.", f"Write {needed}=... .")
    if kind == "hogql":
        return sources.hogql(str(hogql), name=name or "query", **given)
    if kind in LISTS:
        from airflow_provider_posthog.extract.lists import list_source

        return list_source(kind)
    made: Source = getattr(sources, kind)(**given)
    return made
