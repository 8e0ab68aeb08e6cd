"""Erasing the rows of the same persons from files that were written from PostHog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.erasure_elsewhere import EraseElsewhereOperator
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.erasure.files.folder import Erased, FolderErasure
    from airflow_provider_posthog.tasks.erasure_elsewhere import EraseElsewhereArguments


class PostHogEraseFromFilesOperator(EraseElsewhereOperator):
    """Rewrites the files of a folder without the rows of an erasure's persons, and proves that none is left.

    Parquet, JSON lines and CSV, also compressed, in folders of partitions, too: what this package has written, and
    files like them. All files are read first; only then those with such rows are replaced, one by one, each as a whole,
    and the manifests say how many rows and which checksum they have now. All other rows stay as they are. A killed try
    leaves nothing half-written, and the next one continues. Memory does not grow with the files.

    Versioned object storage keeps the old files until they expire; so do backups and snapshots.

    ::

        PostHogEraseFromFilesOperator(
            task_id="files", path="s3://lake/events/", distinct_id_column="distinct_id", request=delete.output
        )

    :param path: the folder that the files were written into, the one with ``_manifests``, if there is one.
    :param name: only the files of this name, where several tables are in one folder.
    :param object_storage_conn_id: Airflow's connection for ``path``; that of the work file comes with ``request``.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.erasure_elsewhere.EraseElsewhereOperator`: ``request``,
        ``proof``, ``distinct_id_column``, ``person_id_column``, ``email_column``, ``identifiers_path``.
    :returns: ``path``; ``persons``, whose rows went, and ``left_out``, how many are not ``VERIFIED``; ``files``, how
        many were read, ``rewritten``, ``removed`` (in a partition of one of these persons); ``rows``, how many there
        were; ``deleted``, how many went, ``deleted_by``, the same by column; ``left`` (0).
    :raises PostHogIncompleteError: if a file cannot be read, lacks a column, has other rows than its manifest says, or
        is unfinished; then no file was changed. Holds nothing of the rows.
    :raises PostHogSettingsError: if an argument is wrong, the work file has no distinct ids to look for, or the proof
        is another request's or not the last one.
    """

    conn_is_for_path: ClassVar[bool] = True
    template_fields: Sequence[str] = (*EraseElsewhereOperator.template_fields, "path", "name")

    def __init__(
        self,
        *,
        path: str | ObjectStoragePath,
        name: str | None = None,
        **kwargs: Unpack[EraseElsewhereArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.name = name

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the files anew."""
        from airflow_provider_posthog.tasks.bulk import need_arrow

        need_arrow(type(self).__name__)
        job = self._job()
        certificate = self.handover.certificate(self.hook, context)
        task = getattr(context.get("ti"), "task_id", "files")
        where = f"the files in {self.path}"

        def begin(plan: Erased) -> None:
            if certificate is not None:  # before the first file is replaced, so that no kill leaves it untold
                certificate.noted(f"{task}-begun", f"about to erase {_as_text(plan)} {self.describe()} from {where}")

        done = job.run(begin)
        text = f"erased {_as_text(done)} {self.describe()} from {where}; 0 are left"
        if certificate is not None:
            certificate.noted(f"{task}-done", text)
        job.finish()
        self.concludes("E%s. %s, %d of them written anew", text[1:], counted(done.files, "file"), done.rewritten)
        counts = {name: getattr(done, name) for name in ("files", "rewritten", "removed", "rows", "deleted")}
        return {
            "path": str(self.path),
            "persons": self.persons,
            "left_out": self.left_out,
            **counts,
            "deleted_by": {column.name: done.by[column.name] for column in self.columns},
            "left": 0,
        }

    def _job(self) -> FolderErasure:
        from airflow_provider_posthog.erasure.files.file import Wanted
        from airflow_provider_posthog.erasure.files.folder import FolderErasure, check_root

        if self.name is not None and not str(self.name).strip():
            raise PostHogSettingsError("name", "is empty.", "Write what the files' names begin with, or leave it out.")
        target = storage_path(
            "path",
            self.path,
            self.object_storage_conn_id,
            example="s3://lake/events/",
            folder=True,
        )
        root = str(target.path).rstrip("/")
        check_root(target.fs, root)
        work = self.whose()
        wanted = [Wanted.of(column.name, self.spelt(work, column), any_case=column.any_case) for column in self.columns]
        return FolderErasure(target.fs, root, wanted, work.header().request_id, self.name)


def _as_text(erased: Erased) -> str:
    by = ", ".join(f"{n:,} by {column}" for column, n in erased.by.items())
    return f"{erased.deleted:,} rows{f' ({by})' if by else ''}"
