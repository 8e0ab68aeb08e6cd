"""Consulting the list of those who were erased, while rows are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.arguments import PartOfArguments
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from airflow_provider_posthog.compat import ObjectStoragePath
    from airflow_provider_posthog.extract.sources import Source
    from airflow_provider_posthog.extract.suppressor import Suppressor


class SuppressingArguments(PartOfArguments, total=False):
    """The arguments of :class:`SuppressingMixin`, for an editor and a type checker."""

    suppress_path: str | ObjectStoragePath | None
    suppressed: str | None
    suppress_object_storage_conn_id: str | None


class SuppressingMixin:
    """Looks for rows of persons who were erased.

    :param suppress_path: the folder that ``PostHogSuppressPersonsOperator`` writes; needs the connection's
        ``audit_secret``.
    :param suppressed: what to do with rows of persons on that list: ``drop`` them (default), ``fail``, or ``count``.
    :param suppress_object_storage_conn_id: Airflow's connection for the folder.
    """

    log: Any
    hook: Any
    verify_back: Any

    def __init__(
        self,
        *,
        suppress_path: str | ObjectStoragePath | None = None,
        suppressed: str | None = None,
        suppress_object_storage_conn_id: str | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.suppress_path = suppress_path
        self.suppressed = suppressed
        self.suppress_object_storage_conn_id = suppress_object_storage_conn_id

    def suppressor(self, source: Source) -> Suppressor | None:
        """Return what looks for such rows; ``None`` if nobody asked for it.

        :param source: what is read.
        :raises PostHogSettingsError: if an argument is wrong, or the list cannot be read with this salt.
        """
        from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
        from airflow_provider_posthog.audit.suppression import SuppressionList
        from airflow_provider_posthog.extract.suppressor import Suppressor

        choice = self.check_suppressed()
        if choice is None:
            return None
        given = self.suppress_path or ""
        path = storage_path(
            "suppress_path", given, self.suppress_object_storage_conn_id, example="s3://private/erased/", folder=True
        )
        listed = SuppressionList(path.fs, path.path, Pseudonyms(self.hook.audit_secret())).load()
        if not listed.files:
            self.log.warning("There is no list of erased persons in %s (suppress_path) yet", self.suppress_path)
        return Suppressor(listed, source, choice)

    def check_suppressed(self) -> str | None:
        """Return what to do with rows of erased persons; ``None`` if nobody asked for it.

        :raises PostHogSettingsError: if an argument cannot be used.
        """
        if self.suppress_path is None or not str(self.suppress_path).strip():
            for field in ("suppressed", "suppress_object_storage_conn_id"):
                if getattr(self, field) is not None:
                    raise PostHogSettingsError(field, "needs suppress_path.", "Write the folder of the list, too.")
            return None
        from airflow_provider_posthog.extract.suppressor import CHOICES

        choice = "drop" if self.suppressed is None else self.suppressed
        if choice not in CHOICES:
            raise PostHogSettingsError(
                "suppressed", f"{choice!r:.60} is not known.", f"Write one of {', '.join(CHOICES)}."
            )
        if choice == "drop" and self.verify_back:
            raise PostHogSettingsError(
                "verify_back",
                "cannot compare PostHog's count with files or tables from which rows are dropped.",
                "Leave it out, or write suppressed='count' or 'fail'.",
            )
        return choice
