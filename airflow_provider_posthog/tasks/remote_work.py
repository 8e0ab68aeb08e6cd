"""The life cycle of work that PostHog does for a task: a job, or a refresh of insights.

start, or take up what an earlier try has started -> show its link -> wait (in the worker, or deferred) -> prove ->
result. Killed or out of time, the task cancels what it can.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.jobs import MAX_POLL_FAILURES
from airflow_provider_posthog.compat import default_deferrable, is_of_earlier_try
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.arguments import PostHogArguments
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.lengths import as_seconds, seconds_of
from airflow_provider_posthog.tasks.timeouts import naming

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.deadline import Deadline
    from airflow_provider_posthog.triggers.watching import Waiting, WatchEvent


class RemoteWorkOperator(PostHogOperator):
    """Has PostHog work on something, and waits for its end. Subclasses say on what.

    :param deferrable: wait in the triggerer instead of in a worker; default ``[operators] default_deferrable``.
    :param poll_interval: the longest wait between two polls: seconds, or a ``timedelta``.
    :param timeout: how long the work may take: seconds, or a ``timedelta``; ``None`` for :meth:`default_timeout`.
    :param cancel_on_kill: cancel the work, where PostHog can, when the task is killed or runs out of time.
    :param max_poll_failures: how many polls may fail in a row.
    """

    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = 10.0,
        timeout: float | timedelta | None = None,
        cancel_on_kill: bool = True,
        max_poll_failures: int = MAX_POLL_FAILURES,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval: float = as_seconds(poll_interval)
        self.timeout = timeout
        self.cancel_on_kill = cancel_on_kill
        self.max_poll_failures = max_poll_failures

    # What a subclass says of its work.

    @abstractmethod
    def run_to_completion(self, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Start the work, or take it up, and see it through; may defer."""

    @abstractmethod
    def read_event(self, event: Mapping[str, Any] | None) -> WatchEvent:
        """Read the trigger's event.

        :param event: its payload.
        :raises PostHogJobError: if it cannot be trusted.
        """

    @abstractmethod
    def resume(self, event: WatchEvent, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Prove how the work ended that the trigger has watched, and return the result.

        :param event: the trigger's event.
        """

    @abstractmethod
    def cancel(self) -> None:
        """Cancel what goes on, where PostHog can."""

    @abstractmethod
    def default_timeout(self) -> float:
        """Return how many seconds the work may take by default."""

    def out_of_execution_timeout(self) -> BaseException | None:
        """Return the error that names what did not end when Airflow's timer ends the task; ``None`` for Airflow's."""
        return None

    # The life cycle.

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Start the work, or take up what an earlier try started, and see it through."""
        with naming(self.out_of_execution_timeout):
            return self.run_to_completion(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Go on after the trigger fired.

        All that is needed comes in the event: ``dag.test()`` of Airflow 3 drops what else was deferred.

        :param event: the trigger's event.
        """
        fired = self.read_event(event)
        with naming(self.out_of_execution_timeout):
            if is_of_earlier_try(fired.try_number, context):
                return self.run_to_completion(context)
            return self.resume(fired, context)

    def on_kill(self) -> None:
        """Cancel what goes on, where PostHog can, when the task is killed."""
        self.cancel()

    # What subclasses wait with.

    @property
    def address(self) -> str:
        """The project's address in PostHog's interface."""
        settings = self.hook.settings()
        return f"{settings.base_url}/project/{settings.project_id}"

    def push_link(self, context: Context, path: str) -> None:
        """Show where the work is to be seen in PostHog.

        :param path: relative to the project.
        """
        PostHogLink.push(context, f"{self.address}/{path}")

    def check_waiting(self) -> None:
        """Refuse lengths of time that are none.

        :raises PostHogSettingsError: if one is not.
        """
        seconds_of("poll_interval", self.poll_interval)
        if self.timeout is not None:
            seconds_of("timeout", self.timeout)

    def timeout_seconds(self) -> float:
        """Return how many seconds the work may take."""
        return self.default_timeout() if self.timeout is None else as_seconds(self.timeout)

    def waiting(self, deadline: Deadline, try_number: int) -> Waiting:
        """Return the arguments of a trigger that say how to wait.

        :param deadline: when to give up.
        :param try_number: the try that waits.
        """
        return {
            "posthog_conn_id": self.posthog_conn_id,
            "project_id": self.project_id,
            "deadline": deadline.at,
            "limit": deadline.limit,
            "poll_interval": self.poll_interval,
            "max_poll_failures": self.max_poll_failures,
            "try_number": try_number,
        }

    def defer_to(self, trigger: BaseTrigger, deadline: Deadline) -> None:
        """Leave the wait to a trigger; raises Airflow's deferral.

        :param trigger: the trigger.
        :param deadline: when it gives up.
        """
        backstop = deadline.backstop(self.poll_interval)
        self.defer(trigger=trigger, method_name="execute_complete", timeout=backstop)
