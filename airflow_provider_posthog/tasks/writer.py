"""Who wrote an interval into a folder, as its manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import iteration_of
from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.storage.manifest import Interval
    from airflow_provider_posthog.storage.staging import Owner


def writer_of(
    context: Mapping[str, Any], interval: Interval, owner: Owner, before: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the manifest says of who writes, unless the files there are not ours to replace.

    :param interval: the interval.
    :param owner: who writes.
    :param before: the interval's manifest, empty for none.
    :raises PostHogSettingsError: if the files are those of another task of the same run that has asked for something
        else: two tasks with one ``name``, of which only the last one's rows would be left.
    """
    ti = context.get("ti")
    run = {field: getattr(ti, field, None) for field in ("dag_id", "run_id")} if ti else {}
    task = {field: getattr(ti, field, None) for field in ("task_id", "map_index")} if ti else {}
    if iteration := iteration_of(context):  # of a loop, in which task and map index are the same
        task["iteration"] = " ".join(iteration)
    there = before.get("written_by") or {}
    is_others = bool(run) and run.items() <= there.items() and not task.items() <= there.items()
    if is_others and there.get("request") != owner.request:
        raise PostHogSettingsError(
            "name",
            f"the task {there.get('task_id')!r} of this run has written {interval.stem} here, of other rows, which "
            "would be replaced.",
            "Give each task, and each map index, a name or a folder of its own.",
        )
    return {**run, **task, "request": owner.request} if ti else {}
