"""One proof for many intervals: the files that mapped tasks have written in parallel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import BaseOperator, ObjectStoragePath
from airflow_provider_posthog.tasks.guidance import GuidedTask
from airflow_provider_posthog.tasks.interval import folder_of, interval_of
from airflow_provider_posthog.tasks.outlets import tell_outlets

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import TaskArguments


class PostHogRangeCheckOperator(GuidedTask, BaseOperator):
    """Checks that the intervals in a folder together cover a range of time, and sums up what they hold.

    Put it after mapped tasks that write an interval each: it fails if one is missing or two overlap, and returns one
    summary of all. It reads their manifests, and sends nothing to PostHog. It writes what it has proved as one manifest
    of the range, which lists the files of all intervals, and which is removed as soon as one of the intervals is
    written again (docs: *files.md*).

    ::

        PostHogRangeCheckOperator(
            task_id="whole", path="s3://lake/posthog/events/", start="2026-01-01T00:00:00Z", end="2026-11-01T00:00:00Z"
        )

    :param path: the folder, as an ``ObjectStoragePath`` or text such as ``s3://lake/events/``.
    :param start: the range's first moment, as a time with an offset or ISO text; default: the run's data interval.
    :param end: the first moment after it.
    :param name: what the files' names begin with, as the writing tasks have it.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :returns: ``path``, ``manifest`` (the range's), ``interval`` (``start``, ``end``), ``intervals`` (how many),
        ``files``, ``rows`` (null where nobody counted), ``bytes``, ``duplicates``, ``left_out`` (by ``scan_back``; null
        where nobody counted).
    :raises PostHogIncompleteError: if a part of the range is in no interval, or in several.
    :raises PostHogSettingsError: if an argument is wrong, or the intervals do not belong together.
    """

    template_fields: Sequence[str] = ("path", "start", "end", "name", "object_storage_conn_id")
    ui_color = "#f9e8d2"

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        name: str = "events",
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.start = start
        self.end = end
        self.name = name
        self.object_storage_conn_id = object_storage_conn_id

    def execute(self, context: Context) -> Mapping[str, Any]:
        """Check the range."""
        from airflow_provider_posthog.storage.manifest import Interval
        from airflow_provider_posthog.storage.tiling import summary

        whole = Interval(self.name, *interval_of(context, self.start, self.end))
        folder = folder_of(self.path, self.object_storage_conn_id)
        held = asdict(summary(folder.fs, str(folder.path).rstrip("/"), whole))
        result = {"interval": whole.as_json(), **held, "manifest": f"{folder}/{held['manifest']}"}
        tell_outlets(context, self.outlets, result)
        self.concludes("%s holds %s rows of %s in %d intervals", folder, held["rows"], whole, held["intervals"])
        return {"path": str(folder), **result}
