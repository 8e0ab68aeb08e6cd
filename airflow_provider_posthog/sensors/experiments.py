"""Waiting for experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.tasks.lists import number_of
from airflow_provider_posthog.tasks.sensor import PostHogSensor

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import WaitingSensorArguments


class PostHogExperimentResultSensor(PostHogSensor):
    """Waits until the result of an experiment's metric is significant, by its latest day.

    .. code-block:: python

        PostHogExperimentResultSensor(task_id="decided", experiment_id=7, metric="signup", poke_interval=3600)

    :param experiment_id: its number.
    :param metric: the metric's name or ``uuid``; default: the first primary one.
    :param variant: the variant to look at; default: any but the baseline.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor` and Airflow's
        ``BaseSensorOperator``. The key needs ``experiment:read``.
    :returns: ``experiment_id``, ``metric`` (its ``uuid``), ``results``: a list with ``variant``, ``day``, ``samples``,
        ``significant``, ``chance_to_win``, ``p_value``, ``interval_low`` and ``interval_high`` of each significant one.
    :raises PostHogJobFailed: if the experiment has no such metric, or ended without a significant result.
    """

    check: ClassVar[str] = "experiment_result"
    unmet: ClassVar[str] = "has no significant result"
    met: ClassVar[str] = "has a significant result"
    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "experiment_id", "metric", "variant")

    def __init__(
        self,
        *,
        experiment_id: int | str,
        metric: str | None = None,
        variant: str | None = None,
        **kwargs: Unpack[WaitingSensorArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.experiment_id = experiment_id
        self.metric = metric
        self.variant = variant

    def subject(self) -> str:
        """Name the experiment."""
        return f"experiment {str(self.experiment_id)[:20]}"

    def link(self, settings: ClientSettings, facts: Mapping[str, Any]) -> str:
        """Return the experiment's address.

        :param settings: where PostHog is.
        :param facts: not used.
        """
        return f"{settings.base_url}/project/{settings.project_id}/experiments/{self.experiment_id}"

    def check_arguments(self, context: Context) -> dict[str, Any]:
        """Return the check's arguments.

        :raises PostHogSettingsError: if one of the task's cannot be used.
        """
        return {
            "experiment_id": number_of("experiment_id", self.experiment_id),
            "metric": self.metric or None,
            "variant": self.variant or None,
        }
