"""PostHogNotifier: an annotation or an event for each run that failed, succeeded, was late or was approved."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.compat import BaseNotifier
from airflow_provider_posthog.connection.form import DEFAULT_CONN_ID
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError, clean
from airflow_provider_posthog.tasks.interval import moment_of

if TYPE_CHECKING:
    from airflow_provider_posthog.api.annotations import Scope
    from airflow_provider_posthog.compat import Context

KINDS = ("annotation", "event")


class PostHogNotifier(BaseNotifier):
    """Reports a DAG run or a task to PostHog: as an annotation on its charts, or as an event.

    For ``on_failure_callback``, ``on_success_callback``, deadline alerts and the notifiers of approvals. It reports
    once: a second call for the same run, task and message changes nothing. If PostHog cannot be told of a task, that is
    logged, and the task goes on.

    .. code-block:: python

        DAG("load", on_failure_callback=PostHogNotifier(content="Load of {{ ds }} failed: {{ dag.dag_id }}"))

    :param content: the annotation's text, or a property ``content`` of the event. A template; default: the DAG and the
        run.
    :param kind: ``annotation`` or ``event``.
    :param event: the event's name.
    :param distinct_id: whose event it is; default: ``airflow``. No person is created for it.
    :param properties: what the event has besides ``dag_id``, ``run_id``, ``task_id``, ``state`` and ``content``.
    :param scope: where an annotation is shown.
    :param hidden: do not show the annotation in charts.
    :param posthog_conn_id: the connection. An annotation needs ``annotation:write``.
    :param project_id: the project's number, in place of the connection's.
    :param context: what a deadline alert brings of its run; Airflow gives it.
    """

    template_fields: Sequence[str] = ("content", "event", "distinct_id", "properties", "posthog_conn_id", "project_id")

    def __init__(
        self,
        *,
        content: str | None = None,
        kind: str = "annotation",
        event: str = "airflow notification",
        distinct_id: str = "airflow",
        properties: Mapping[str, Any] | None = None,
        scope: Scope = "project",
        hidden: bool = False,
        posthog_conn_id: str = DEFAULT_CONN_ID,
        project_id: int | str | None = None,
        context: Context | None = None,
    ) -> None:
        if kind not in KINDS:
            raise PostHogSettingsError("kind", f"{kind!r:.40} is not known.", f"Write one of {', '.join(KINDS)}.")
        super().__init__()
        self.context: Any = {} if context is None else context
        self.content = content
        self.kind = kind
        self.event = event
        self.distinct_id = distinct_id
        self.properties = dict(properties or {})
        self.scope = scope
        self.hidden = hidden
        self.posthog_conn_id = posthog_conn_id
        self.project_id = project_id

    def __call__(self, *args: Any) -> None:  # noqa: ANN401 - Airflow's own form
        """Tell it; nothing that goes wrong fails the task that it is about.

        :param args: the context.
        """
        told = copy.copy(self)  # templates are rendered in place, and the next run has its own
        try:
            super(PostHogNotifier, told).__call__(*args)
        except Exception as error:
            if not (args and isinstance(args[0], Mapping) and args[0].get("ti")):
                raise
            self.log.error("PostHog was not told: %s", clean(error))

    def notify(self, context: Context) -> None:
        """Tell it.

        :param context: of the run or the task.
        """
        from airflow_provider_posthog.hooks.posthog import PostHogHook

        hook = PostHogHook(self.posthog_conn_id, self.project_id)
        try:
            if self.kind == "annotation":
                self._annotate(hook, context)
            else:
                self._capture(hook, context)
        finally:
            hook.close()

    async def async_notify(self, context: Context) -> None:
        """Tell it, from the triggerer: in a thread, so that no other trigger waits.

        :param context: of the run or the task.
        """
        await asyncio.to_thread(self.notify, context)

    def _text(self, context: Context) -> str:
        names = _names(context)
        return self.content or f"{names.get('dag_id', '')}: {names.get('run_id', '')}"

    def _annotate(self, hook: Any, context: Context) -> None:  # noqa: ANN401 - PostHogHook
        from airflow_provider_posthog.tasks.annotation import annotate, mark_of

        text = self._text(context)
        # The text is a part of it: a run may fail first, and then succeed.
        mark = mark_of(*_names(context).values(), text)
        annotate(hook.client, text, mark, moment_of(context), scope=self.scope, emoji=None, hidden=self.hidden)

    def _capture(self, hook: Any, context: Context) -> None:  # noqa: ANN401 - PostHogHook
        from airflow_provider_posthog.capture.events import check_distinct_id, check_name, event_of, uuid_of
        from airflow_provider_posthog.capture.sender import Sender
        from airflow_provider_posthog.capture.values import RefusedError, plain
        from airflow_provider_posthog.tasks.project_token import project_token

        names, text = _names(context), self._text(context)
        properties = {**self.properties, **names, "content": text, "$process_person_profile": False}
        try:
            name, at = check_name(self.event), moment_of(context)
            uuid = uuid_of("notifier", name, names, text)
            event = event_of(uuid, name, check_distinct_id(self.distinct_id), at, plain(properties))
        except RefusedError as refused:
            raise PostHogSettingsError("event", f"is refused by PostHog ({refused.reason}).", "Rename it.") from None
        with Sender(hook.settings(), project_token(hook)) as sender:
            (verdict,) = sender.send([event])
        if verdict.result == "drop":
            raise PostHogIncompleteError(f"PostHog dropped the event ({verdict.details or 'no reason'}).")


def _names(context: Mapping[str, Any]) -> dict[str, str]:
    """Return what a callback is about. Deadline alerts have no task, and a context of plain dictionaries."""
    ti, run = context.get("ti") or context.get("task_instance"), context.get("dag_run")
    names = {
        "dag_id": _of(ti, "dag_id") or _of(run, "dag_id") or _of(context.get("dag"), "dag_id"),
        "run_id": _of(ti, "run_id") or _of(run, "run_id") or context.get("run_id"),
        "task_id": _of(ti, "task_id"),
        "map_index": _of(ti, "map_index"),
        "state": _of(ti, "state") or _of(run, "state"),
        "deadline": _of(context.get("deadline"), "deadline_time"),
    }
    return {name: str(getattr(value, "value", value)) for name, value in names.items() if value not in (None, "", -1)}


def _of(thing: object, name: str) -> Any:  # noqa: ANN401
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
