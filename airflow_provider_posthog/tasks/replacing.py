"""Which rows of a table a load replaces: those that it reads again, and no others."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.load.target import WriteDisposition

Replaces = Literal["own", "all"]
_MODES = ("replace_interval", "replace")
#: The ways of writing that look whether rows have changed, and whether they are gone.
COMPARES = ("merge", "scd2")
_OTHERWISE = "Write write_disposition='merge', or replaces='all' if the table holds nothing but what this task reads."
#: Arguments that make mapped tasks read other rows, and those that make them write to another place.
_READ = frozenset(
    {
        "source", "query", "events", "exclude_events", "cohort_id", "where", "values", "posthog_conn_id", "project_id",
    }
)  # fmt: skip
_APART = ("table", "sql_conn_id", "start", "end")


def mode_of(write_disposition: str | None, source: Source, deleted: str | None = None) -> WriteDisposition:
    """Return how rows get into the table.

    :param write_disposition: what the task says; ``None`` for the source's default.
    :param source: what is read.
    :param deleted: what becomes of rows that are gone, if the task says it.
    :raises PostHogSettingsError: if it would delete rows that are not read, or has no interval to replace.
    """
    if source.time is not None and (write_disposition == "scd2" or deleted not in (None, "keep")):
        argument, value = (
            ("write_disposition", write_disposition) if write_disposition == "scd2" else ("deleted", deleted)
        )
        raise PostHogSettingsError(
            argument,
            f"{value!r} would take the {source.name} of other intervals for gone.",
            "Leave time_column out, if everything can be read, or leave this out.",
        )
    if write_disposition is None and deleted is not None:
        return "merge"
    if write_disposition is None:
        return "replace_interval" if source.time else "replace"
    if write_disposition == "replace_interval" and source.time is None:
        raise PostHogSettingsError(
            "write_disposition",
            f"{source.name} has no time, so no interval of it can be replaced.",
            "Write time_column=..., its column of time, or leave write_disposition out: then the whole table is "
            "replaced.",
        )
    if write_disposition == "replace" and source.time is not None:
        raise PostHogSettingsError(
            "write_disposition",
            f"would replace the whole table by the {source.name} of one interval.",
            "Write 'replace_interval', or leave time_column out, if everything can be read.",
        )
    return write_disposition  # type: ignore[return-value] # the target knows the others


def covered(source: Source, write_disposition: str, replaces: str) -> Mapping[str, tuple[str, ...] | tuple[int, ...]]:
    """Return the values by column that tell the rows which this load may delete; empty for all rows.

    :param source: what is read.
    :param write_disposition: how rows get into the table.
    :param replaces: ``own`` for the rows that the filter covers, ``all`` for those of others, too.
    :raises PostHogSettingsError: if the table's columns do not tell which rows the filter covers.
    """
    if write_disposition not in _MODES:
        if replaces == "all":
            raise PostHogSettingsError(
                "replaces", f"is not for write_disposition={write_disposition!r}.", "Leave it out."
            )
        return {}
    if replaces == "all":
        return {}
    if source.filtered:
        what = "exclude_events" if "posthog_left_out" in source.values else "where"
        raise PostHogSettingsError(
            what,
            f"does not tell which rows of the table write_disposition={write_disposition!r} may delete.",
            _OTHERWISE,
        )
    facts: dict[str, Any] = {}
    for expression, values in source.only.items():
        names = [name for name, column in source.columns.items() if column == expression]
        if not names:
            raise PostHogSettingsError(
                "columns",
                f"has no {expression!r}, so that the rows of other values would be replaced, too.",
                f"Select {expression!r}. {_OTHERWISE}",
            )
        facts[names[0]] = values
    return facts


def check_mapped(
    context: Mapping[str, Any], task_id: str, only: Mapping[str, Any], write_disposition: str, deleted: str = "keep"
) -> None:
    """Refuse mapped tasks that would replace one another's rows.

    :param task_id: the task.
    :param only: what tells this task's rows from others'.
    :param write_disposition: how rows get into the table.
    :param deleted: what becomes of rows that are gone.
    :raises PostHogSettingsError: if they read different rows, and delete the same.
    """
    deletes = write_disposition in _MODES or deleted != "keep"
    if not deletes or getattr(context.get("ti"), "map_index", -1) in (None, -1):
        return
    tasks = getattr(context.get("dag"), "task_dict", None) or {}
    mapped = getattr(getattr(tasks.get(task_id), "expand_input", None), "value", None)
    allowed = {"events"} if "event" in only else {"cohort_id"} if only else set()
    if reads := _different(mapped, _READ - allowed):
        raise PostHogSettingsError(
            "write_disposition",
            f"{write_disposition!r} of tasks that are mapped over {', '.join(sorted(reads))} replaces the rows of one "
            "another.",
            "Write write_disposition='merge', or give each a table of its own by expand_kwargs. (Tasks that are mapped "
            "over events alone replace each its own events.)",
        )


def _different(mapped: object, names: Set[str]) -> set[str]:
    """Return which arguments differ between tasks that delete the same rows, as far as the DAG tells.

    :param mapped: what the task is mapped over: lists by argument, of which all combinations run, or a list of
        arguments.
    :param names: the arguments that are looked at.
    """
    if isinstance(mapped, Mapping):
        return {name for name in mapped if name in names}
    different: set[str] = set()
    seen: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for arguments in mapped if isinstance(mapped, list | tuple) else ():
        if isinstance(arguments, Mapping):
            first = seen.setdefault(tuple(repr(arguments.get(name)) for name in _APART), arguments)
            different |= {name for name in names if arguments.get(name) != first.get(name)}
    return different
