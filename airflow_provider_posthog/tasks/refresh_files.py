"""Where a refresh writes the results of its insights."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_provider_posthog.api.freshness import Target
from airflow_provider_posthog.api.insights import Insight
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.result_file import Output
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.tasks.identity import Identity

log = logging.getLogger(__name__)

_NAMES = ("{short_id}", "{id}")


@dataclass(frozen=True)
class Files:
    """Where the results of insights go.

    :param path: a folder, or a file with ``{short_id}`` or ``{id}`` in it, if there are several; ``None`` for nowhere.
    :param overwrite: replace files of those names.
    :param conn_id: Airflow's connection for the object storage.
    :param falls_back: whether a result that has no table becomes JSON.
    :param format: of files in a folder; ``None`` for CSV there, and where the path names a file.
    """

    path: str | ObjectStoragePath | None
    overwrite: bool = False
    conn_id: str | None = None
    falls_back: bool = False
    format: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the path is a folder; an ``ObjectStoragePath`` forgets that."""
        return isinstance(self.path, str) and self.path.strip().endswith("/")

    @property
    def pattern(self) -> str | ObjectStoragePath:
        """The path of a file, with the names of insights still in it."""
        if self.is_folder:
            return f"{str(self.path).strip()}{{short_id}}.{self.format or 'csv'}"
        return self.path if self.path is not None else ""

    def check(self, *, several: bool) -> None:
        """Refuse a path that cannot be written to.

        :param several: whether there may be several insights.
        :raises PostHogSettingsError: if it names no file, tells no format, or one file for several insights.
        """
        from airflow_provider_posthog.results.files import FORMATS, format_of, require_format

        if self.format not in (None, "", *FORMATS):
            raise PostHogSettingsError("format", f"{self.format!r} is none.", f"Write one of {', '.join(FORMATS)}.")
        if self.path is None:
            if self.format:
                raise PostHogSettingsError("format", "is of no file.", "Write path, too, or leave it out.")
            return
        path = str(self.pattern)
        if self.is_folder:
            storage_path("path", self.path, self.conn_id, example="s3://bucket/{{ ds }}/", folder=True)
        Output("path", path).check("s3://bucket/{{ ds }}/{short_id}.csv")
        made = format_of(path)
        if self.format and self.format != made:
            raise PostHogSettingsError(
                "format", f"is {self.format}, and the path ends with .{made}.", "Leave it out, or write a folder."
            )
        require_format(made)
        if several and not any(name in path for name in _NAMES):
            raise PostHogSettingsError(
                "path",
                "is one file for several insights.",
                "Write {short_id} or {id} in it, such as 's3://bucket/{{ ds }}/{short_id}.csv'.",
            )

    def refuse(self, targets: Sequence[Target], identity: Identity) -> None:
        """Fail before anything is calculated if a result could not be written.

        :param targets: the insights, as they were seen before.
        :param identity: the task's.
        :raises PostHogSettingsError: if a kind has no table, two insights have one file, or a file is in the way.
        """
        if self.path is None:
            return
        paths: dict[str, int] = {}
        for target in targets:
            saved: Insight = target.saved or {}
            output = self._output(target, saved, as_json=self._becomes_json(saved, target))
            path = str(output.target)
            if path in paths:
                raise _same_file(paths[path], target.insight_id)
            paths[path] = target.insight_id
            output.refuse_if_there(identity)

    def _becomes_json(self, saved: Insight, target: Target) -> bool:
        from airflow_provider_posthog.results.files import format_of
        from airflow_provider_posthog.results.insight_tables import no_table

        if format_of(str(self.pattern)) == "json" or not saved:
            return False
        reason = no_table(saved)
        if reason is None:
            return False
        if not self.falls_back:
            raise PostHogSettingsError(
                "path",
                f"there is no table for insight {target.insight_id}: {reason}",
                "Write the result as JSON: end the path with .json or .json.gz.",
            )
        return True

    def write(self, target: Target, insight: Insight, identity: Identity) -> str | None:
        """Write a result.

        :param target: the insight.
        :param insight: PostHog's answer.
        :param identity: the task's: its retry may replace the file.
        :returns: where it is; ``None`` if results go nowhere.
        :raises PostHogSettingsError: if there is no table for it, or another file is in the way.
        :raises OSError: if the file system fails.
        """
        if self.path is None:
            return None
        from airflow_provider_posthog.results.insight_tables import TABLELESS

        as_json = self._becomes_json(insight, target)
        try:
            return self._written(target, insight, identity, as_json=as_json)
        except PostHogSettingsError as error:
            if as_json or not self.falls_back or error.remedy != TABLELESS:
                raise
            log.warning("Insight %s becomes JSON: %s", target.insight_id, error.problem)
            return self._written(target, insight, identity, as_json=True)

    def _written(self, target: Target, insight: Insight, identity: Identity, *, as_json: bool) -> str:
        from airflow_provider_posthog.results.files import compression_of, format_of, write_result
        from airflow_provider_posthog.results.insight_tables import table_of

        output = self._output(target, insight, as_json=as_json)
        path = str(output.path)
        with output.atomic_file(identity, compression=compression_of(path)) as atomic:
            write_result(atomic, insight.get("result"), lambda: table_of(insight), format_of(path))
            output.commit(atomic, own=True)
        return str(output.target)

    def settle(self, done: Iterable[str | None], identity: Identity) -> None:
        """Forget that the files are this task's: it has succeeded.

        :param done: where they are.
        :param identity: the task's.
        """
        for path in done:
            if path is not None:
                Output("path", path, self.overwrite, self.conn_id).settle(identity)

    def _output(self, target: Target, insight: Insight, *, as_json: bool) -> Output:
        path = self.pattern
        if as_json or any(name in str(path) for name in _NAMES):
            path = str(path).replace("{short_id}", str(insight.get("short_id"))).replace("{id}", str(target.insight_id))
        if as_json:
            path = re.sub(r"\.(csv|jsonl|parquet|xlsx)(\.gz)?$", r".json\2", str(path), flags=re.IGNORECASE)
        return Output("path", path, self.overwrite, self.conn_id)


def _same_file(first: int, other: int) -> PostHogSettingsError:
    return PostHogSettingsError(
        "path",
        f"names one file for insights {first} and {other}.",
        "Refresh them in two tasks, or take two paths.",
    )
