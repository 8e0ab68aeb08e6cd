"""Sensors that look in a worker, even if the triggerer waits in between."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.jobs import Ended
from airflow_provider_posthog.compat import AirflowSensorTimeout, AirflowSkipException
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.tasks.deadline import Deadline
from airflow_provider_posthog.tasks.sensor import PostHogWaitingSensor
from airflow_provider_posthog.tasks.timeouts import PostHogTaskTimeout

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import WaitingSensorArguments
    from airflow_provider_posthog.triggers.watching import Waiting, WatchEvent


class PostHogPokeSensor(PostHogWaitingSensor):
    """Looks in a worker, and waits for the next look in the triggerer, which learns nothing of what is looked at.

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
        """Look, and wait for the next look."""
        try:
            return super().execute(context)
        except (AirflowSensorTimeout, AirflowSkipException):
            self.note_timeout(context)
            raise

    def note_timeout(self, context: Context) -> None:
        """Tell that nobody looks any more, where somebody has to know."""

    def _too_long(self) -> str:
        return (
            f"{self.subject()} {self.unmet} in time: {self._text}" if self._text else f"{self.subject()} {self.unmet}"
        )

    def _defer(self, context: Context, *, looked: bool) -> None:
        self._defer_until(context, self._deadline(), looked=looked)

    def _defer_until(self, context: Context, end: Deadline, *, looked: bool) -> None:
        at = min(time.time() + (self.poke_interval if looked else 0.0), end.at)
        waiting: Waiting = {
            "posthog_conn_id": self.posthog_conn_id,
            "deadline": end.at,
            "poll_interval": self.poke_interval,
            "first_wait": max(0.0, at - time.time()),
            "limit": end.limit,
            "try_number": getattr(context.get("ti"), "try_number", None) or 0,
        }
        self.defer(
            trigger=self.new_trigger(context, waiting, looked=looked),
            method_name="execute_complete",
            # Behind the timer's own end, for a triggerer that is gone.
            timeout=timedelta(seconds=waiting["first_wait"] + 3600.0),
        )

    def new_trigger(self, context: Context, waiting: Waiting, *, looked: bool) -> BaseTrigger:
        """Make the timer until the next look, which brings back what that look has to know.

        :param waiting: how to wait.
        :param looked: whether a look has just said "not yet".
        """
        from airflow_provider_posthog.triggers.timer import PostHogTimerTrigger

        payload = {name: waiting[name] for name in ("deadline", "limit", "try_number")}
        return PostHogTimerTrigger(
            until=time.time() + waiting["first_wait"], payload={**payload, "bad_looks": self._bad_pokes}
        )

    def read_event(self, event: Mapping[str, Any] | None) -> WatchEvent:
        """Read the timer's event.

        :param event: its payload.
        """
        from airflow_provider_posthog.triggers.timer import read_timer
        from airflow_provider_posthog.triggers.watching import WatchEvent, untrusted

        payload = read_timer(event)
        if payload is None or not {"deadline", "limit", "bad_looks"} <= payload.keys():
            raise untrusted(event if isinstance(event, Mapping) else {}, "the next poll", self.job_id)
        return WatchEvent(Ended("succeeded"), str(payload["limit"]), int(payload.get("try_number") or 0), payload)

    def result(self, event: WatchEvent, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Look again, now that it is time to.

        :param event: the timer's event.
        """
        self._bad_pokes = int(event.facts["bad_looks"])
        return self._look_again(context, Deadline(float(event.facts["deadline"]), event.limit))

    def _look_again(self, context: Context, end: Deadline) -> Any:  # noqa: ANN401 - JSON
        self.prepare(context)
        try:
            poked = self.poke(context)
            if poked.is_done:
                return poked.xcom_value
        except PostHogError:
            if not self.silent_fail:
                raise
            self.log.warning("silent_fail goes on", exc_info=True)
        if time.time() >= end.at:
            text = self._too_long()
            self.note_timeout(context)
            if end.limit == "execution_timeout":
                raise PostHogTaskTimeout(text, job_id=self.job_id)
            raise AirflowSkipException(text) if self.soft_fail else AirflowSensorTimeout(text)
        self._defer_until(context, end, looked=True)
        return None
