"""What every operator of this provider has: its connection, and a hook made when the task runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.connection_form import DEFAULT_CONN_ID

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
