"""Waiting until an erasure is due, so that you can alert somebody in time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.audit.pseudonyms import Pseudonyms
from airflow_provider_posthog.compat import BaseSensorOperator, ObjectStoragePath, PokeReturnValue
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.tasks.arguments import BaseSensorArguments
from airflow_provider_posthog.tasks.guidance import GuidedTask
from airflow_provider_posthog.tasks.lengths import length_of
from airflow_provider_posthog.tasks.storage_path import storage_path

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context


class _ErasuresDueSensorRest(BaseSensorArguments, total=False):
    """What :class:`PostHogErasuresDueSensor` takes beside its own arguments."""

    timeout: float | timedelta | None


class PostHogErasuresDueSensor(GuidedTask, BaseSensorOperator):
    """Waits until open erasures are due soon or overdue, as the ledger beside their certificates says.

    Sends nothing to PostHog. Let a downstream task alert somebody; ``soft_fail=True`` skips a day without any.

    ::

        PostHogErasuresDueSensor(
            task_id="due", audit_path="s3://our-certificates", within=timedelta(days=7), timeout=60
        )

    :param audit_path: the folder of certificates, in object storage.
    :param within: how long before they are due; seconds or a timedelta.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param posthog_conn_id: the connection whose ``audit_secret`` the ledger's seals are checked with.
    :param kwargs: as Airflow's ``BaseSensorOperator``; by default it looks once an hour, in ``reschedule`` mode.
    :returns: the requests, the first due first: ``request_id``, ``ticket``, ``due_at`` (a day, or null if unknown),
        ``days_left`` (negative if overdue). No personal data.
    :raises AuditError: if the ledger is damaged or forged.
    """

    template_fields: Sequence[str] = ("audit_path", "object_storage_conn_id", "posthog_conn_id")
    ui_color = "#f9e8d2"

    def __init__(
        self,
        *,
        audit_path: str | ObjectStoragePath,
        within: float | timedelta = timedelta(days=7),
        object_storage_conn_id: str | None = None,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        poke_interval: float | timedelta = 3600.0,
        mode: str = "reschedule",
        **kwargs: Unpack[_ErasuresDueSensorRest],
    ) -> None:
        super().__init__(poke_interval=poke_interval, mode=mode, **kwargs)
        self.audit_path = audit_path
        self.within = within
        self.object_storage_conn_id = object_storage_conn_id
        self.posthog_conn_id = posthog_conn_id

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as BaseSensorOperator's
        """Wait."""
        return super().execute(context)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look into the ledger."""
        from airflow_provider_posthog.audit.deadline import today
        from airflow_provider_posthog.audit.ledger import due, read_ledger
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        within = length_of("within", self.within)
        example = "s3://private/certificates/"
        path = storage_path("audit_path", self.audit_path, self.object_storage_conn_id, example=example, folder=True)
        salt = Pseudonyms(PostHogHook(self.posthog_conn_id).audit_secret())
        day = today()
        requests = [request.as_json(day) for request in due(read_ledger(path.path, path.fs, [salt]), within.days, day)]
        for request in requests:
            self.log.warning(
                "Erasure %s (%s) is due on %s", request["request_id"], request["ticket"], request["due_at"]
            )
        return PokeReturnValue(bool(requests), requests or None)
