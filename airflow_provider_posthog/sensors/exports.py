"""Waiting for an export's file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api import exports, jobs
from airflow_provider_posthog.api.checks import Finding
from airflow_provider_posthog.exceptions import PostHogError, PostHogJobFailed, PostHogNotFoundError
from airflow_provider_posthog.tasks.arguments import UnhurriedSensorArguments, WaitingArguments
from airflow_provider_posthog.tasks.sensor import PostHogWaitingSensor
from airflow_provider_posthog.tasks.shared_polls import TOGETHER, SharedWait, in_step, sharing

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.triggers.watching import Waiting, WatchEvent


class _ExportSensorRest(WaitingArguments, UnhurriedSensorArguments, total=False):
    """What :class:`PostHogExportSensor` takes beside its own arguments."""


class PostHogExportSensor(PostHogWaitingSensor):
    """Waits until an export's file is there.

    Succeeds only if PostHog says ``has_content``. Fails if PostHog reports a lasting exception, or does not know the
    export (unknown, expired, or made with another user's key: PostHog answers all three with 404). Servers before 2025
    never report a failure; there ``timeout`` ends the wait.

    .. code-block:: python

        PostHogExportSensor(task_id="made", export_id="{{ params.export_id }}", deferrable=True)

    :param export_id: the export's id, or what ``PostHogCreateExportOperator`` returned.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor`: ``posthog_conn_id``,
        ``project_id``, ``deferrable``, ``failure_grace``, ``max_poll_failures``; and as Airflow's
        ``BaseSensorOperator``: ``poke_interval``, ``timeout``, ``mode``, ``soft_fail``, ...
    :returns: the export's summary, as ``PostHogCreateExportOperator`` returns it.
    :raises PostHogJobFailed: if the export failed, or PostHog does not know it.
    """

    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "export_id")
    unmet: ClassVar[str] = "has no file"
    met: ClassVar[str] = "has a file"
    last_poll: ClassVar[float] = jobs.LAST_POLL

    def __init__(
        self,
        *,
        export_id: int | str | Mapping[str, Any],
        poke_interval: float | timedelta = 10.0,
        **kwargs: Unpack[_ExportSensorRest],
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.export_id = export_id
        self._shared: SharedWait | None = None

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as BaseSensorOperator's
        """Wait, in the worker or in the triggerer; in a worker beside all others that wait for exports there."""
        if self.deferrable or self.reschedule:
            return super().execute(context)
        settings = self.hook.settings()
        with sharing(jobs.EXPORT, self.job_id, self.poke_interval, settings) as self._shared:
            try:
                return super().execute(context)
            finally:
                self._shared = None

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:  # noqa: ANN401 - as Airflow's
        """Return how long to sleep: with others in step, so that one list answers for all."""
        seconds: float = super()._get_next_poke_interval(*args, **kwargs)
        together = self._shared is not None and self._shared.is_shared and not self.exponential_backoff
        return in_step(seconds) if together else seconds

    def subject(self) -> str:
        """Name the export."""
        return f"export {self._id()}"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the address of the project's exports.

        :param settings: where PostHog is.
        :param facts: the export's summary.
        """
        return f"{settings.base_url}/project/{settings.project_id}/exports"

    def prepare(self, context: Context) -> None:
        """Check that ``export_id`` is one."""
        self._id()

    def look(self, context: Context) -> Finding:
        """Ask for the export once."""
        settings = self.hook.settings()
        if self._shared is None or not self._shared.is_shared:
            export = self._ask()
            return Finding(jobs.EXPORT.judge(export), exports.summary(export, settings))
        seen = self._shared.look(TOGETHER, max(self._ends - time.time(), self.last_poll))
        if isinstance(seen.verdict, PostHogNotFoundError):
            raise self._unknown() from seen.verdict
        if isinstance(seen.verdict, PostHogError):
            raise seen.verdict
        facts: Any = seen.facts
        return Finding(seen.verdict, exports.summary(facts, settings))

    def new_trigger(self, context: Context, waiting: Waiting, *, looked: bool) -> BaseTrigger:
        """Make the trigger that goes on asking.

        :param waiting: its arguments that say how to wait.
        :param looked: whether the worker has just asked.
        """
        from airflow_provider_posthog.triggers.jobs import PostHogJobTrigger

        return PostHogJobTrigger(kind=jobs.EXPORT.name, job_id=self.job_id, looked=looked, **waiting)

    def read_event(self, event: Mapping[str, Any] | None) -> WatchEvent:
        """Read the trigger's event.

        :param event: its payload.
        """
        from airflow_provider_posthog.triggers.jobs import JobEvent

        return JobEvent.parse(event, jobs.EXPORT.name, self.job_id)

    def result(self, event: WatchEvent, context: Context) -> dict[str, Any]:
        """Return the export's summary.

        :param event: the trigger's event.
        """
        facts: Any = event.facts  # what the trigger has seen needs no other call
        export = facts if facts.get("has_content") is True else self._ask()
        return exports.summary(export, self.hook.settings())

    @property
    def job_id(self) -> str:
        """The export's id."""
        return str(self._id())

    def _id(self) -> int:
        return exports.id_of(self.export_id, self.hook.settings())

    def _ask(self) -> exports.Export:
        try:
            export: exports.Export = self.hook.client.send(jobs.EXPORT.poll(self.job_id))
        except PostHogNotFoundError as error:
            raise self._unknown() from error
        return export

    def _unknown(self) -> PostHogJobFailed:
        return PostHogJobFailed(
            f"PostHog knows no {self.subject()}: it never was, has expired, or was made with another user's key.",
            job_id=self.job_id,
        )
