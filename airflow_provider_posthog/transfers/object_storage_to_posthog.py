"""Files in object storage into PostHog, each row proved to be there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.into_posthog import IntoPostHogOperator
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.capture.events import Recipe
    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.tasks.arguments import IntoPostHogArguments


class PostHogFromObjectStorageOperator(IntoPostHogOperator):
    """Loads the rows of files into PostHog as events, persons or groups, and proves that each is there.

    .. code-block:: python

        PostHogFromObjectStorageOperator(
            task_id="orders",
            path="s3://lake/orders/{{ ds }}/*.parquet",
            event="order placed",
            distinct_id="customer",
            timestamp="placed_at",
            key=["id"],
        )

    :param path: a file, or several by ``*``, ``?`` and ``[...]`` in the last part of the path. They are read in the
        order of their names.
    :param format: ``parquet``, ``jsonl`` or ``csv`` (UTF-8, with a header; ids, keys and times stay text; what else is
        written like ``7``, ``-1.5`` or ``true`` becomes that, and nothing becomes null; ``007`` stays text).
    :param object_storage_conn_id: Airflow's connection for the storage.
    :param kwargs: as :class:`~airflow_provider_posthog.transfers.sql_to_posthog.PostHogFromSqlOperator`.
    :returns: the same, and ``files`` (how many).
    :raises PostHogSettingsError: if an argument or a column is wrong, or there is no such file; nothing was sent.
    :raises PostHogIncompleteError: if more rows than ``max_rejects`` are not in PostHog.
    """

    template_fields: Sequence[str] = (
        *IntoPostHogOperator.template_fields,
        "path",
        "format",
        "object_storage_conn_id",
    )
    rows_of = "path"

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | ObjectStoragePath,
        format: str = "parquet",
        object_storage_conn_id: str | None = None,
        **kwargs: Unpack[IntoPostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.format = format
        self.object_storage_conn_id = object_storage_conn_id

    def execute(self, context: Any) -> dict[str, Any]:  # noqa: ANN401 - Context
        """Load the rows."""
        return {**super().execute(context), "files": len(self._files[1])}

    def execute_complete(self, context: Any, event: Mapping[str, Any] | None = None) -> dict[str, Any]:  # noqa: ANN401
        """Go on after a wait.

        :param event: the timer's event.
        """
        return {**super().execute_complete(context, event), "files": len(self._files[1])}

    @cached_property
    def _files(self) -> tuple[Any, list[str]]:
        """The file system and the files."""
        folder, slash, name = str(self.path).strip().rpartition("/")
        example = "s3://lake/orders/*.parquet"
        if not name:
            raise PostHogSettingsError("path", "names no file.", f"Write one such as {example!r}.")
        if not any(sign in name for sign in "*?["):
            place = storage_path("path", self.path, self.object_storage_conn_id, example=example)
            files = [place.path] if place.fs.isfile(place.path) else []
        else:
            place = storage_path("path", folder + slash, self.object_storage_conn_id, example=example, folder=True)
            found = place.fs.glob(f"{place.path.rstrip('/')}/{name}", detail=True)
            files = sorted(path for path, info in found.items() if info["type"] == "file")
        if not files:
            raise PostHogSettingsError("path", "is not a file that is there.", f"Write one such as {example!r}.")
        return place.fs, files

    def request(self) -> Mapping[str, Any]:
        """Return what is loaded: the files, as they are."""
        fs, paths = self._files
        return {"path": str(self.path), "format": self.format, "files": [[path, fs.size(path)] for path in paths]}

    def rows(self, recipe: Recipe, at: datetime) -> Any:  # noqa: ANN401 - a context manager of a reader and rows
        """Open the files.

        :param recipe: how their rows become events.
        :param at: the time of those that have none.
        """
        from airflow_provider_posthog.capture.rows import check_format, rows_of_files

        check_format(self.format)
        fs, paths = self._files
        return rows_of_files(fs, paths, self.format, recipe, at)
