"""What the assets of a task, and OpenLineage, learn when it has succeeded."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from airflow_provider_posthog.assets import openlineage_namespace
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.partition import key_of

log = logging.getLogger(__name__)


def tell_outlets(context: Mapping[str, Any], outlets: Collection[Any], extra: Mapping[str, Any]) -> None:
    """Put counts into the events of the task's assets, for the DAGs that they start, and keep them for OpenLineage.

    :param outlets: the task's outlets.
    :param extra: JSON, small, without personal data.
    """
    with suppress(Exception):  # the work is done: a connection that cannot be read now must not fail it
        _warn_of_other_projects(context.get("task"), outlets)
    # OpenLineage asks the task of the task instance; in Airflow 3.0 the context has the one that was copied for it.
    for task in (getattr(context.get("ti"), "task", None), context.get("task")):
        note_lineage = getattr(task, "note_lineage", None)
        if note_lineage is not None:
            note_lineage(extra)
            break
    events = context.get("outlet_events")
    if events is None:
        return
    for outlet in outlets:
        if hasattr(outlet, "uri"):  # an asset (Airflow 2: a dataset); aliases and references by name have none
            accessor = events[outlet]
            accessor.extra.update(extra)
            key = key_of(context)
            if key is not None and hasattr(accessor, "add_partitions"):  # a run of a partition tells of that one
                accessor.add_partitions(key)


def _warn_of_other_projects(task: object, outlets: Collection[Any]) -> None:
    """Say which outlets are of another project than the task's: a DAG that waits for the task's own never starts.

    :param task: the task.
    :param outlets: its outlets.
    """
    ours = [uri for outlet in outlets if (uri := str(getattr(outlet, "uri", ""))).startswith("posthog://")]
    if not ours or not isinstance(task, PostHogOperator):
        return
    settings = task.hook.settings()
    if settings.project_id is None:
        return
    project = f"{openlineage_namespace(settings.base_url)}/{settings.project_id}"
    for uri in ours:
        if not f"{uri}/".startswith(f"{project}/"):
            log.warning("The outlet %s is not of this task's project, whose assets begin with %s", uri, project)
