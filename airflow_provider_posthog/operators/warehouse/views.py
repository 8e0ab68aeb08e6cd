"""Runs of a materialized view."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import warehouse
from airflow_provider_posthog.api.arguments import is_uuid, nearest
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.watched import Watched, row, since
from airflow_provider_posthog.exceptions import PostHogError, PostHogNotFoundError, PostHogSettingsError, clean
from airflow_provider_posthog.tasks.identity import Job
from airflow_provider_posthog.tasks.watched_job import WatchedJobOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.tasks.job import JobArguments


class PostHogRunViewOperator(WatchedJobOperator):
    """Materializes a view of PostHog's warehouse now, and waits until that is done.

    If a run is already going on, the task first waits for it, as it may have read the view's sources too early.

    ::

        PostHogRunViewOperator(task_id="view", view="daily_orders", deferrable=True)

    :param view: the view's UUID or its name; it has to be materialized.
    :param full_refresh: rebuild an incremental view from scratch.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.job.PostHogJobOperator`.
    :returns: ``view_id``, ``view`` (its name), ``rows`` (int; null on servers that do not tell), ``run_id`` (text; null
        there, too), ``project_id`` (int), ``host``.
    :raises PostHogSettingsError: if there is no such view, or it is not materialized.
    :raises PostHogJobFailed: if the run failed, with PostHog's reason, or PostHog has begun none within 15 minutes.
    """

    template_fields: Sequence[str] = (*WatchedJobOperator.template_fields, "view")

    def __init__(
        self,
        *,
        view: str,
        full_refresh: bool = False,
        **kwargs: Unpack[JobArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.view = view
        self.full_refresh = full_refresh
        self._asked = ""

    def prepare(self) -> dict[str, Any]:
        """Find the view."""
        if not isinstance(self.full_refresh, bool):
            raise PostHogSettingsError("full_refresh", "is not True or False.", "Write one of the two.")
        view = self._find()
        if view.get("is_materialized") is False:
            raise PostHogSettingsError("view", "is not materialized.", "Materialize it in PostHog first.")
        return {"view": str(view["id"]), "full_refresh": self.full_refresh}

    def _find(self) -> Mapping[str, Any]:
        text, client = self.view.strip() if isinstance(self.view, str) else "", self.hook.client
        if is_uuid(text):
            try:
                return client.send(warehouse.view(text))
            except PostHogNotFoundError as error:
                raise PostHogSettingsError("view", f"PostHog knows no {text}.", "Write its UUID or name.") from error
        if not text:
            raise PostHogSettingsError("view", "is empty.", "Write the view's UUID or its name.")
        views = list(client.pages(warehouse.views()))
        named = [view for view in views if view.get("name") == text]
        if len(named) != 1:
            near = nearest(text, [str(view.get("name")) for view in views])
            raise PostHogSettingsError("view", f"there is no {clean(text)[:60]!r}.{near}", "Write its name or UUID.")
        return named[0]

    def submit_job(self, request: Mapping[str, Any], marker: str) -> tuple[str, Mapping[str, Any]]:
        """Begin the run, when none that was begun before goes on."""
        self._marker, view_id = marker, request["view"]
        while True:
            history, at = self.server_time(warehouse.view_runs(view_id))
            runs = [row(entry) for entry in history.get("run_history") or ()]
            if any(run["status"] == "Running" for run in runs):
                slot = Watched("view_slot", (view_id, self.waiting_since()), int(at))
                self.wait_for_slot(slot, "A run that was begun before goes on, and may miss what is new")
            elif any((run["created"] or 0.0) >= at for run in runs):
                time.sleep(0.5)  # the new one is told from those before by whole seconds
            else:
                break
        self._asked = text = str(Watched("view", (view_id,), int(at)))
        self.keep_before(text, marker)
        try:
            self.hook.client.send(warehouse.run_view(view_id, full_refresh=request["full_refresh"]))
        except PostHogError as error:
            self.forget_refused(error)
            raise
        return text, {}

    def find_jobs(self, request: Mapping[str, Any]) -> Iterator[tuple[Job, Verdict]]:
        """Yield the run that a request has begun whose answer was lost."""
        if not self._asked:
            return
        watched = Watched.parse(self._asked)
        runs = self.look(watched)
        if since(watched, runs["rows"]):
            yield Job(self._asked, self._marker, float(watched.since)), self.job_kind.judge(runs)

    def get_job_result(self, job: Job) -> dict[str, Any]:
        """Return what the run has made."""
        watched, settings = Watched.parse(job.id), self.hook.settings()
        view = self.hook.client.send(warehouse.view(watched.names[0]))
        result = {
            "view_id": watched.names[0],
            "view": view.get("name"),
            "project_id": settings.project_id,
            "host": settings.base_url,
        }
        if not self.wait_for_completion:
            return result
        run = next(iter(since(watched, self.look(watched)["rows"])), {})
        return {**result, "rows": run.get("rows"), "run_id": run.get("id") or None}

    def link(self, job: Job) -> str:
        """Return the view in PostHog's editor of SQL."""
        return f"sql?open_view={Watched.parse(job.id).names[0]}"
