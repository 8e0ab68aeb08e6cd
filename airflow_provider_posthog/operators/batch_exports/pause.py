"""Pausing and resuming a batch export's schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import batch_exports
from airflow_provider_posthog.exceptions import (
    PostHogJobFailed,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.batch_export import find

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments


class PostHogPauseBatchExportOperator(PostHogOperator):
    """Pauses a batch export, so that no scheduled run begins. If it is already paused, nothing changes.

    ::

        PostHogPauseBatchExportOperator(task_id="pause", batch_export="Events to the lake")

    :param batch_export: the batch export's UUID or its name.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.base.PostHogOperator`.
    :returns: ``batch_export_id``, ``paused`` (bool), ``was_paused`` (bool).
    :raises PostHogSettingsError: if the export cannot be found.
    """

    template_fields: Sequence[str] = (*PostHogOperator.template_fields, "batch_export")
    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        batch_export: str,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.batch_export = batch_export

    def execute(self, context: Context) -> dict[str, Any]:
        """Pause it."""
        export = self._found(context)
        if not export.get("paused"):
            self.hook.client.send(batch_exports.pause(str(export["id"])))
        return self._proved(str(export["id"]), True, was=bool(export.get("paused")))

    def _found(self, context: Context) -> Mapping[str, Any]:
        export: Mapping[str, Any] = find(self.hook.client, self.batch_export)
        self.show(context, f"pipeline/batch-exports/{export['id']}")
        return export

    def _proved(self, export_id: str, paused: bool, *, was: bool) -> dict[str, Any]:
        now = bool(self.hook.client.send(batch_exports.retrieve(export_id)).get("paused"))
        if now is not paused:
            raise PostHogJobFailed(f"PostHog: batch export {export_id} is still {'' if now else 'not '}paused")
        self.concludes("Batch export %s is %spaused", export_id, "" if now else "not ")
        return {"batch_export_id": export_id, "paused": now, "was_paused": was}


class PostHogUnpauseBatchExportOperator(PostHogPauseBatchExportOperator):
    """Resumes the schedule of a paused batch export.

    Intervals that the pause skipped stay out unless you backfill them.

    ::

        PostHogUnpauseBatchExportOperator(task_id="go_on", batch_export="Events to the lake")

    :param batch_export: the batch export's UUID or its name.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.base.PostHogOperator`.
    :returns: ``batch_export_id``, ``paused`` (bool), ``was_paused`` (bool).
    :raises PostHogSettingsError: if the export cannot be found.
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Let it go on."""
        export = self._found(context)
        if export.get("paused"):
            self.hook.client.send(batch_exports.unpause(str(export["id"])))
        return self._proved(str(export["id"]), False, was=bool(export.get("paused")))
