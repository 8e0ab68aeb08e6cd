"""Marks on PostHog's charts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_posthog.api.annotations import MAX_CONTENT
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.annotation import LENGTH, annotate, mark_of
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.interval import moment_of
from airflow_provider_posthog.tasks.moments import instant_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.annotations import Scope
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

SCOPES = ("project", "organization", "dashboard", "dashboard_item")


class PostHogAnnotationOperator(PostHogOperator):
    """Marks a moment on PostHog's charts, once for each run of the task: a retry or a cleared task reuses its mark.

    .. code-block:: python

        PostHogAnnotationOperator(task_id="mark", content="Prices loaded", date_marker="{{ data_interval_end }}")

    :param content: the text, up to 8,169 characters; a short mark of the run is added.
    :param date_marker: the moment: a time with an offset, or ISO text with one; default: the run's.
    :param scope: ``project``, ``organization``, ``dashboard`` or ``dashboard_item``.
    :param emoji: shown with it.
    :param hidden: do not show it in charts, where it comes often.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. The key needs ``annotation:write``.
    :returns: ``id`` (int), ``created`` (whether it was not there before).
    :raises PostHogSettingsError: if an argument is wrong.
    """

    template_fields: Sequence[str] = (*PostHogOperator.template_fields, "content", "date_marker", "scope", "emoji")

    def __init__(
        self,
        *,
        content: str,
        date_marker: datetime | str | None = None,
        scope: str = "project",
        emoji: str | None = None,
        hidden: bool = False,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.content = content
        self.date_marker = date_marker
        self.scope = scope
        self.emoji = emoji
        self.hidden = hidden

    def execute(self, context: Context) -> dict[str, Any]:
        """Mark it."""
        most = MAX_CONTENT - LENGTH - 1
        if not isinstance(self.content, str) or not self.content.strip() or len(self.content) > most:
            raise PostHogSettingsError("content", "is empty, or too long.", f"Write 1 to {most:,} characters.")
        if self.scope not in SCOPES:
            raise PostHogSettingsError(
                "scope", f"{self.scope!r:.40} is not known.", f"Write one of {', '.join(SCOPES)}."
            )
        ti = context.get("ti")
        run = [ti.dag_id, ti.run_id, ti.task_id, getattr(ti, "map_index", -1)] if ti is not None else [self.task_id]
        made = annotate(
            self.hook.client,
            self.content,
            mark_of(*run),
            self._at(context),
            scope=cast("Scope", self.scope),
            emoji=self.emoji,
            hidden=self.hidden,
            moved=self.date_marker not in (None, ""),
        )
        self.concludes("Annotation %s %s", made["id"], "is there" if made["created"] else "was there already")
        return dict(made)

    def _at(self, context: Context) -> datetime:
        given = self.date_marker
        if given is None or given == "":
            return moment_of(context)
        return instant_of("date_marker", given)
