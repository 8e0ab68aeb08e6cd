"""What every operator of this provider has: its connection, and a hook made when the task runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api.jobs import LAST_POLL
from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import PostHogJobTimeout, PostHogSettingsError, PostHogTransportError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.arguments import TaskArguments
from airflow_provider_posthog.tasks.guidance import GuidedTask

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.hooks.posthog import PostHogHook

#: The most things that a task does at once.
MOST_AT_ONCE = 32


def check_at_once(max_in_flight: object) -> None:
    """Refuse what is not a number of things at once.

    :param max_in_flight: the argument; ``None`` for the connection's.
    :raises PostHogSettingsError: if it is none from 1 to 32.
    """
    if max_in_flight is None:
        return
    if isinstance(max_in_flight, bool) or not isinstance(max_in_flight, int) or not 1 <= max_in_flight <= MOST_AT_ONCE:
        raise PostHogSettingsError(
            "max_in_flight",
            f"{max_in_flight!r:.60} is not a whole number from 1 to {MOST_AT_ONCE}.",
            "Write one, or leave it out for the connection's.",
        )


def at_once(max_in_flight: int | None, settings: ClientSettings) -> int:
    """Return how many things are done at once.

    :param max_in_flight: a task's argument; ``None`` for the connection's.
    :param settings: of the connection.
    :raises PostHogSettingsError: if it is none from 1 to 32.
    """
    check_at_once(max_in_flight)
    return min(settings.max_in_flight, MOST_AT_ONCE) if max_in_flight is None else max_in_flight


class PostHogOperator(GuidedTask, BaseOperator):
    """A task on one PostHog project. Subclasses say what it does.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    """

    template_fields: Sequence[str] = ("posthog_conn_id", "project_id")
    ui_color = "#f9e8d2"
    #: The page of the project that shows what the task is about; empty where the task itself knows more, or none does.
    page: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init_subclass__(**kwargs)
        if cls.page:
            cls.operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        **kwargs: Unpack[TaskArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id

    @cached_property
    def hook(self) -> PostHogHook:
        """The hook; made when a task runs, as it brings the HTTP libraries."""
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        return PostHogHook(self.posthog_conn_id, self.project_id)

    def begins(self, context: Context) -> None:
        """Show the page of what the task is about, if there is one that is known before."""
        if self.page:
            self.show(context, self.page)

    def show(self, context: Context, page: str) -> None:
        """Let the button open a page of the project.

        :param page: its path, relative to the project.
        """
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/{page}")

    @contextmanager
    def in_time(self, deadline: float) -> Iterator[None]:
        """Let the calls of a block not outlast the task's time, though PostHog holds one open.

        :param deadline: when that ends, in seconds since 1970; a few seconds are given in any case.
        :raises PostHogJobTimeout: if it ends before PostHog has answered.
        """
        end = max(deadline, time.time() + LAST_POLL)
        try:
            with self.hook.client.until(end):
                yield
        except PostHogTransportError as error:
            if time.time() < end:
                raise
            raise PostHogJobTimeout(f"PostHog did not answer within the timeout: {error}") from error
