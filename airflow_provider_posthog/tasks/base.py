"""What every operator of this provider has: its connection, and a hook made when the task runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.jobs import LAST_LOOK
from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import PostHogJobTimeout, PostHogTransportError

if TYPE_CHECKING:
    from airflow_provider_posthog.hooks.posthog import PostHogHook


class PostHogOperator(BaseOperator):
    """A task on one PostHog project. Subclasses say what it does.

    :param posthog_conn_id: the connection.
    :param project_id: the project's number, in place of the connection's.
    """

    template_fields: Sequence[str] = ("posthog_conn_id", "project_id")
    ui_color = "#f9e8d2"

    def __init__(
        self,
        *,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id

    @cached_property
    def hook(self) -> PostHogHook:
        """The hook; made when a task runs, as it brings the HTTP libraries."""
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        return PostHogHook(self.posthog_conn_id, self.project_id)

    @contextmanager
    def in_time(self, deadline: float) -> Iterator[None]:
        """Let the calls of a block not outlast the task's time, though PostHog holds one open.

        :param deadline: when that ends, in seconds since 1970; a few seconds are given in any case.
        :raises PostHogJobTimeout: if it ends before PostHog has answered.
        """
        end = max(deadline, time.time() + LAST_LOOK)
        try:
            with self.hook.client.until(end):
                yield
        except PostHogTransportError as error:
            if time.time() < end:
                raise
            raise PostHogJobTimeout(f"PostHog did not answer within the timeout: {error}") from error
