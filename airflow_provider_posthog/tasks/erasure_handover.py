"""What the tasks of an erasure return to each other: which request it is, and where it keeps its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.certificate import open_certificate
from airflow_provider_posthog.tasks.storage_path import is_bucket, storage_path

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.erasure.work_file import WorkFile
    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from airflow_provider_posthog.tasks.certificate import Certificate

_EXAMPLE = "s3://private/erasures/{{ run_id }}.jsonl"
_NO_DEADLINE: Mapping[str, Any] = {"received_at": None, "due_at": None}


@dataclass(frozen=True)
class Handover:
    """Where a request keeps its files. An operator's own arguments make one; what an earlier task returned fills it.

    :param work_path: the work file; ``None`` if nobody has named it.
    :param conn_id: Airflow's connection for all of the paths.
    :param audit_path: the folder of certificates; ``None`` if none are wanted.
    :param ticket: what the request is called where it was made.
    :param request_id: the request; empty before its persons are resolved.
    :param due: ``received_at`` and ``due_at``: until when it has to be answered.
    """

    work_path: str | ObjectStoragePath | None = None
    conn_id: str | None = None
    audit_path: str | ObjectStoragePath | None = None
    ticket: str | None = None
    request_id: str = ""
    due: Mapping[str, Any] = field(default_factory=lambda: _NO_DEADLINE)

    def of(self, earlier: Mapping[str, Any]) -> Handover:
        """Take over what an earlier task returned; this task's own arguments come first.

        :param earlier: what that task returned.
        :raises PostHogSettingsError: if this task's own work file is not that of the request.
        """
        path = earlier.get("work_path")
        if self.work_path is not None and str(self.work_path) != str(path):
            raise PostHogSettingsError(
                "work_path", "is not the work file of the task before.", "Leave it out: that task names it."
            )
        return replace(
            self,
            work_path=path,
            conn_id=self.conn_id or earlier.get("object_storage_conn_id"),
            audit_path=self.audit_path or earlier.get("audit_path"),
            ticket=self.ticket or earlier.get("ticket"),
            request_id=str(earlier.get("request_id") or ""),
            due={name: earlier.get(name) for name in _NO_DEADLINE},
        )

    def file(self) -> WorkFile:
        """Return the work file, whether or not it is there.

        :raises PostHogSettingsError: if nobody has named one.
        """
        from airflow_provider_posthog.erasure.work_file import WorkFile

        text = str(self.work_path or "").strip()
        if not text or text.endswith("/") or is_bucket(text):
            raise PostHogSettingsError(
                "work_path",
                "names no file.",
                "Write what the task before returned, or one in object storage that few may read, such as "
                f"{_EXAMPLE!r}: it keeps the distinct ids, which cannot be asked for once the profiles are gone, until "
                "the erasure is proved. verify_by='uuid' keeps them out of it, and proves less.",
            )
        target = self.storage(self.work_path or "", "work_path")
        return WorkFile(target.fs, target.path)

    def work(self, field: str, *, may_be_gone: bool = False) -> WorkFile:
        """Return the work file of the request.

        :param field: the argument that the request came in, for the error.
        :param may_be_gone: whether an earlier try may have removed it.
        :raises PostHogSettingsError: if it is not there, or is another request's by now.
        """
        work = self.file()
        if may_be_gone and not work.exists():
            return work
        if work.header().request_id != self.request_id:
            raise PostHogSettingsError(
                field,
                f"its work file {self.work_path} was written anew for another request.",
                "Write a path for each request, such as one with {{ run_id }} in it.",
            )
        return work

    def storage(self, path: str | ObjectStoragePath, field: str, conn_id: str | None = None) -> ObjectStoragePath:
        """Return a path with the file system behind it.

        :param path: the path.
        :param field: the argument that it came in, for errors.
        :param conn_id: Airflow's connection for it; by default the request's.
        :raises PostHogSettingsError: if it leads elsewhere.
        """
        return storage_path(field, path, conn_id or self.conn_id, example=_EXAMPLE)

    def certificate(self, hook: PostHogHook, context: Context) -> Certificate | None:
        """Return the certificate of the request; ``None`` if none is wanted.

        :param hook: whose connection has the salt.
        """
        return open_certificate(hook, self.audit_path, self.conn_id, context, self.request_id, self.ticket)

    def check_certificate(self, hook: PostHogHook, context: Context) -> None:
        """Refuse what would keep the certificate from being written, before anything is sent.

        :param hook: whose connection has the salt.
        :raises PostHogSettingsError: if the salt or the key is missing, or another one than before.
        """
        replace(self, request_id=self.request_id or "new").certificate(hook, context)

    def as_json(self) -> dict[str, Any]:
        """Return it as tasks return it."""
        return {
            "request_id": self.request_id,
            "work_path": str(self.work_path),
            "object_storage_conn_id": self.conn_id,
            "audit_path": str(self.audit_path) if self.audit_path else None,
            "ticket": self.ticket,
            **self.due,
        }
