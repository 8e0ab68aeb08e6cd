"""Sensors whose looks are made in a worker, also where the triggerer waits in between."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_posthog.compat import (
    AirflowSensorTimeout,
    AirflowSkipException,
    is_of_earlier_try,
)
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.tasks.sensor import PostHogSensor
from airflow_provider_posthog.tasks.timeouts import PostHogTaskTimeout

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import WaitingSensorArguments
    from airflow_provider_posthog.triggers.checks import CheckEvent


class PostHogLookSensor(PostHogSensor):
    """Looks in a worker, and waits for the next look in the triggerer, which is told nothing of what is looked at.

    :param kwargs: as :class:`~airflow_provider_posthog.tasks.sensor.PostHogWaitingSensor`.
    """

    def __init__(
        self,
        **kwargs: Unpack[WaitingSensorArguments],
    ) -> None:
        super().__init__(**kwargs)
        #: What the last look found, in words.
        self._text = ""

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as BaseSensorOperator's
        """Look, and wait for the next look.

        :param context: the task's context.
        """
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException):
            self.note_timeout(context)
            raise

    def note_timeout(self, context: Context) -> None:
        """Tell that nobody looks any more, where somebody has to know.

        :param context: the task's context.
        """

    def _too_long(self) -> str:
        return (
            f"{self.subject()} {self.unmet} in time: {self._text}" if self._text else f"{self.subject()} {self.unmet}"
        )

    def _defer(self, context: Context, *, looked: bool) -> None:
        end = self._deadline()
        self._defer_until(context, time.time() + (self.poke_interval if looked else 0.0), end.at, end.limit)

    def _defer_until(self, context: Context, at: float, deadline: float, limit: str) -> None:
        at = min(at, deadline)
        self.defer(
            trigger=self._wait_trigger(context, at, deadline, limit),
            method_name="execute_complete",
            # Behind the trigger's own end, for a triggerer that is gone.
            timeout=timedelta(seconds=max(0.0, at - time.time()) + 3600.0),
        )

    def _wait_trigger(self, context: Context, at: float, deadline: float, limit: str) -> BaseTrigger:
        from airflow_provider_posthog.triggers.checks import PostHogCheckTrigger

        arguments = {"at": at, "deadline": deadline, "limit": limit, "bad_looks": self._bad_pokes}
        return PostHogCheckTrigger(
            check=self.check,
            arguments=arguments,
            posthog_conn_id=self.posthog_conn_id,
            project_id=self.project_id,
            deadline=at + 600.0,
            poll_interval=60.0,
            try_number=getattr(context.get("ti"), "try_number", None) or 0,
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Look again, now that it is time to.

        :param context: the task's context.
        :param event: the trigger's event.
        """
        try:
            told = cast("CheckEvent", self.read_event(event))
            if is_of_earlier_try(told.try_number, context):
                return self._wait(context)
            if told.ended.outcome != "succeeded":
                return self._conclude(told)
            facts = told.facts
            self._bad_pokes = int(facts["bad_looks"])
            return self._look_again(context, float(facts["deadline"]), str(facts["limit"]))
        except PostHogError as error:
            if self.never_fail:  # as poke mode does for any error
                raise AirflowSkipException(f"Skipping due to never_fail is set to True: {error}") from error
            raise

    def _look_again(self, context: Context, deadline: float, limit: str) -> Any:  # noqa: ANN401 - JSON
        self.prepare(context)
        try:
            seen = self.poke(context)
            if seen.is_done:
                return seen.xcom_value
        except PostHogError:
            if not self.silent_fail:
                raise
            self.log.warning("silent_fail goes on", exc_info=True)
        if time.time() >= deadline:
            text = self._too_long()
            self.note_timeout(context)
            if limit == "execution_timeout":
                raise PostHogTaskTimeout(text, job_id=self.job_id)
            raise AirflowSkipException(text) if self.soft_fail else AirflowSensorTimeout(text)
        self._defer_until(context, time.time() + self.poke_interval, deadline, limit)
        return None
