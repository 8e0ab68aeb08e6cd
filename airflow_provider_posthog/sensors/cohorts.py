"""Waiting for cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.tasks.lists import number_of
from airflow_provider_posthog.tasks.moments import instant_of
from airflow_provider_posthog.tasks.sensor import PostHogSensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import WaitingSensorArguments


class PostHogCohortCalculatedSensor(PostHogSensor):
    """Waits until PostHog has calculated a cohort, and more recently than a given moment.

    PostHog shows a ``last_calculation`` even while it is still calculating, so that alone is not enough.

    .. code-block:: python

        PostHogCohortCalculatedSensor(task_id="ready", cohort_id=42, newer_than="{{ data_interval_end }}")

    :param cohort_id: its number.
    :param newer_than: the moment: a time with an offset, or ISO text with one; default: any calculation.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor` and Airflow's
        ``BaseSensorOperator``. The key needs ``cohort:read``.
    :returns: ``cohort_id``, ``count`` (persons), ``last_calculation`` (ISO text), ``is_calculating`` (false).
    :raises PostHogJobFailed: if its calculations fail, or it was deleted.
    """

    check: ClassVar[str] = "cohort_calculated"
    unmet: ClassVar[str] = "was not calculated"
    met: ClassVar[str] = "was calculated"
    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "cohort_id", "newer_than")

    def __init__(
        self,
        *,
        cohort_id: int | str,
        newer_than: datetime | str | None = None,
        **kwargs: Unpack[WaitingSensorArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.cohort_id = cohort_id
        self.newer_than = newer_than

    def subject(self) -> str:
        """Name the cohort."""
        return f"cohort {str(self.cohort_id)[:20]}"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the cohort's address.

        :param settings: where PostHog is.
        :param facts: not used.
        """
        return f"{settings.base_url}/project/{settings.project_id}/cohorts/{self.cohort_id}"

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the check's arguments.

        :raises PostHogSettingsError: if one of the task's cannot be used.
        """
        return {"cohort_id": number_of("cohort_id", self.cohort_id), "newer_than": self._newer_than()}

    def _newer_than(self) -> str | None:
        newer_than = self.newer_than
        if newer_than is None or newer_than == "":
            return None
        return instant_of("newer_than", newer_than).isoformat()
