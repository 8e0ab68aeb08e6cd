"""Removing the files of abandoned erasures."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_posthog.compat import BaseOperator, ObjectStoragePath
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.guidance import GuidedTask
from airflow_provider_posthog.tasks.lengths import length_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import TaskArguments


class PostHogSweepErasureFilesOperator(GuidedTask, BaseOperator):
    """Removes work files that are too old, and what killed tries left behind of them and of exports of a person's data.

    All of these hold personal data. The end of an erasure removes work files; this is for abandoned runs. Run it once a
    day, for the folder of the work files and for that of ``PostHogExportPersonDataOperator``. Nothing else in the
    folder is touched, and no export that is complete.

    .. code-block:: python

        PostHogSweepErasureFilesOperator(task_id="sweep", folder="s3://private/erasures/", max_age=timedelta(days=45))

    :param folder: where the work files are, such as ``s3://private/erasures/``; folders in it are not looked into,
        except hidden ones of exports that were begun.
    :param max_age: how old a work file may be; seconds or a timedelta. Part files go after a day.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :returns: the numbers ``parts`` and ``work_files`` (removed), ``kept`` (young), ``needed`` (their deletion has begun
        and is not proved, so they stay), ``unknown`` (the storage does not tell their age).
    :raises PostHogSettingsError: if an argument is wrong.
    """

    template_fields: Sequence[str] = ("folder", "object_storage_conn_id")
    ui_color = "#f9e8d2"

    def __init__(
        self,
        *,
        folder: str | ObjectStoragePath,
        max_age: float | timedelta = 45 * 86_400.0,
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.folder = folder
        self.max_age = max_age
        self.object_storage_conn_id = object_storage_conn_id

    def execute(self, context: Context) -> dict[str, int]:
        """Remove them."""
        from airflow_provider_posthog.erasure.sweep import sweep

        age = length_of("max_age", self.max_age)
        if age <= timedelta(0):
            raise PostHogSettingsError("max_age", "is not above 0.", "Write seconds or a timedelta, such as 45 days.")
        target = storage_path(
            "folder", self.folder, self.object_storage_conn_id, example="s3://private/erasures/", folder=True
        )
        if not target.fs.isdir(target.path):
            raise PostHogSettingsError("folder", "there is no such folder.", "Write where the work files are.")
        swept = sweep(target.fs, target.path, age)
        if swept.needed:
            self.log.warning(
                "%d work files are older and stay, since their deletion has begun and is not proved: %s",
                len(swept.needed),
                ", ".join(swept.needed[:20]),
            )
        words = (
            counted(swept.counts[name], what) for name, what in (("work_files", "work file"), ("parts", "part file"))
        )
        self.concludes("Removed %s and %s", *words)
        return dict(swept.counts)
