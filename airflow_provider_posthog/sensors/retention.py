"""Waiting until old events are about to be hidden."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.arguments import UnhurriedSensorArguments, WaitingArguments
from airflow_provider_posthog.tasks.sensor import PostHogSensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context


class _RetentionSensorRest(WaitingArguments, UnhurriedSensorArguments, total=False):
    """What :class:`PostHogRetentionSensor` takes beside its own arguments."""


class PostHogRetentionSensor(PostHogSensor):
    """Waits until PostHog is about to hide the events before a given moment, so that you can archive them first.

    PostHog shows a project's events for some months (``event_retention_months``, by the plan). They are hidden only
    where that is enforced; the sensor goes by the months in either case, and says which it is. Events that are already
    hidden count as well: ``days_left`` is negative then, and a task that reads them fails by ``on_retention``. The key
    needs the scope ``project:read``.

    ::

        PostHogRetentionSensor(task_id="soon_hidden", before="{{ data_interval_end }}", mode="reschedule")

    :param before: the moment: a time (UTC, if it has no offset) or ISO text, such as ``{{ data_interval_end }}``.
    :param within: how long before the events are hidden. A timedelta.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor` and Airflow's
        ``BaseSensorOperator``.
    :returns: ``event_retention_months`` (int), ``events_retention_enforced`` (bool or null), ``floor`` (events up to it
        are hidden, or would be), ``before``, ``hidden_from`` (when PostHog hides what is from before), ISO text in UTC;
        ``days_left`` (float) until then.
    :raises PostHogJobFailed: if this PostHog does not tell how long it shows events.
    """

    check: ClassVar[str] = "events_expiring"
    unmet: ClassVar[str] = "are not about to be hidden"
    met: ClassVar[str] = "will be hidden soon"
    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "before")

    def __init__(
        self,
        *,
        before: datetime | str,
        within: timedelta = timedelta(days=60),
        poke_interval: float | timedelta = 21_600.0,
        **kwargs: Unpack[_RetentionSensorRest],
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.before = before
        self.within = within

    def subject(self) -> str:
        """Name the events."""
        return f"the events before {str(self.before)[:40]}"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the address of the project's settings.

        :param settings: where PostHog is.
        :param facts: not used.
        """
        return f"{settings.base_url}/project/{settings.project_id}/settings"

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the check's arguments.

        :raises PostHogSettingsError: if one of the task's cannot be used.
        """
        if not isinstance(self.within, timedelta) or self.within < timedelta(0):
            raise PostHogSettingsError("within", "is not a length of time.", "Write timedelta(days=60).")
        settings = self.hook.settings()
        settings.project_path()  # says how to write the project's number
        before = self._before().isoformat().replace("+00:00", "Z")
        return {"project_id": settings.project_id, "before": before, "within": self.within.total_seconds()}

    def _before(self) -> datetime:
        before = self.before
        at = moment(before) if isinstance(before, str) else before
        if not isinstance(at, datetime):
            raise PostHogSettingsError("before", "is not a time.", "Write ISO 8601, such as '2026-11-01T00:00:00Z'.")
        if at.tzinfo is None:
            at = at.replace(tzinfo=timezone.utc)
        utc = at.astimezone(timezone.utc)
        return datetime.combine(utc.date(), utc.time(), timezone.utc)  # Airflow's own times are of another class
