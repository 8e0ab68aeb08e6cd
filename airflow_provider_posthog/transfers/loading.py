"""How a task's rows get into a table: from its arguments to a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, get_args

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.load import own_columns
from airflow_provider_posthog.load.target import Target, WriteMode, check_deleted
from airflow_provider_posthog.results.shrink_guard import ShrinkGuard
from airflow_provider_posthog.transfers.replacing import COMPARES, covered, mode_of

if TYPE_CHECKING:
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.windows import Window
    from airflow_provider_posthog.load.target import Deleted
    from airflow_provider_posthog.transfers.posthog_to_sql import PostHogToSqlOperator


def check_arguments(task: PostHogToSqlOperator) -> None:
    """Refuse what can be refused before a task runs.

    :param task: the task.
    :raises PostHogSettingsError: if arguments are not known, or do not go together.
    """
    modes = get_args(WriteMode)
    if task.write is not None and task.write not in modes:
        raise PostHogSettingsError("write", f"{task.write!r:.40} is not known.", f"Write one of {', '.join(modes)}.")
    if task.deleted is not None:
        check_deleted(task.deleted, task.write or "merge")
        if task.event is not None or task.by:
            raise PostHogSettingsError(
                "deleted",
                f"{task.deleted!r} is for what is read as a whole, not for events or an interval.",
                "Leave it out, or leave event and by out.",
            )
    own_columns.chosen(task.load_columns)


def target_of(
    task: PostHogToSqlOperator,
    source: Source,
    window: Window,
    since: datetime | None,
    context: Mapping[str, Any],
) -> Target:
    """Return where a task's rows go, and how.

    :param task: the task.
    :param source: what is read.
    :param window: of which time; of a source without one, whatever it says.
    :param since: from when its rows are new.
    :param context: the task's context.
    :raises PostHogSettingsError: if its arguments do not go together.
    """
    write = mode_of(task.write, source, task.deleted)
    if task.column_types is not None and not isinstance(task.column_types, Mapping):
        raise PostHogSettingsError("column_types", "is no mapping.", "Write a dictionary: {'name': 'jsonb'}.")
    deleted: Deleted = task.deleted or ("mark" if write == "scd2" else "keep")
    only, whole = _rows_of_task(task, source, write, deleted)
    target = Target(
        task.table,
        write,
        key=task.key_of(source.table),
        by=source.time,
        start=window.start,
        end=window.end,
        since=since,
        only=only,
        guard=ShrinkGuard.of(task.max_shrink, task.allow_shrink),
        column_types=dict(task.column_types or {}),
        other_columns=task.other_columns,
        deleted=deleted,
        whole=whole,
        stamps=_stamps(task, window if source.time else None, context),
    )
    needed = {"by": (source.time,) if source.time else ()} if target.replaces else {"key": target.key}
    for argument, names in needed.items():
        for name in names:
            if source.columns and name not in source.columns:
                raise PostHogSettingsError(
                    argument, f"{name!r} is none of the columns: {', '.join(source.columns)}.", "Select it, too."
                )
    return target


def of_interval(target: Target, window: Window) -> Target:
    """Return a target for another interval.

    :param target: the task's.
    :param window: the interval.
    """
    edges = {own_columns.INTERVAL_START: window.start, own_columns.INTERVAL_END: window.end}
    stamps = {name: edges.get(name, value) for name, value in target.stamps.items()}
    return replace(target, start=window.start, end=window.end, since=None, stamps=stamps)


def _rows_of_task(
    task: PostHogToSqlOperator, source: Source, write: str, deleted: str
) -> tuple[Mapping[str, tuple[str, ...] | tuple[int, ...]], bool]:
    """Return the values that tell which rows of the table are this task's, and whether all of these are read."""
    if write not in COMPARES:
        return covered(source, write, task.replaces), False
    if deleted != "keep":
        return covered(source, "replace", task.replaces), True
    covered(source, write, task.replaces)  # refuses what is not for it
    try:
        return covered(source, "replace", "own"), source.time is None
    except PostHogSettingsError:  # nobody knows which rows of the table it reads, so none of them is gone
        return {}, False


def _stamps(
    task: PostHogToSqlOperator, window: Window | None, context: Mapping[str, Any]
) -> Mapping[str, datetime | str | None]:
    values: dict[str, datetime | str | None] = {
        own_columns.LOADED_AT: datetime.now(timezone.utc),
        own_columns.INTERVAL_START: window.start if window else None,
        own_columns.INTERVAL_END: window.end if window else None,
        own_columns.RUN: str(context.get("run_id") or getattr(context.get("ti"), "run_id", None) or ""),
    }
    return {name: values[name] for name in own_columns.chosen(task.load_columns)}
