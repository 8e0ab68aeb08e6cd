"""One event, or a few, from a DAG into PostHog."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.interval import moment_of
from airflow_provider_posthog.tasks.log_lines import counted
from airflow_provider_posthog.tasks.project_token import project_token

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.capture.events import Event
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments


class PostHogCaptureOperator(PostHogOperator):
    """Sends an event to PostHog, the same one in each try, and succeeds once PostHog has accepted it.

    It does not wait until the event can be queried: for many events,
    :class:`~airflow_provider_posthog.transfers.sql_to_posthog.PostHogFromSqlOperator` does for many.

    .. code-block:: python

        PostHogCaptureOperator(task_id="tell", event="orders loaded", distinct_id="warehouse", properties={"rows": 7})

    :param event: its name.
    :param distinct_id: the person or thing it belongs to; a list sends one event for each.
    :param properties: its properties; JSON.
    :param timestamp: when it happened: a time with an offset, or ISO text with one; default: the run's.
    :param uuid: its UUID; default: one that follows from the DAG, the run, the task and the id.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own.
    :returns: ``sent`` (how many), ``uuids``, ``verdicts`` (how many by PostHog's word, such as ``ok``; ``sent`` where
        it says none).
    :raises PostHogSettingsError: if PostHog would not accept it; nothing was sent.
    :raises PostHogIncompleteError: if PostHog drops it.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "event",
        "distinct_id",
        "properties",
        "timestamp",
        "uuid",
    )
    template_fields_renderers = {"properties": "json"}  # noqa: RUF012 - Airflow's own form

    def __init__(
        self,
        *,
        event: str,
        distinct_id: str | Sequence[str],
        properties: Mapping[str, Any] | None = None,
        timestamp: datetime | str | None = None,
        uuid: str | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.event = event
        self.distinct_id = distinct_id
        self.properties = properties
        self.timestamp = timestamp
        self.uuid = uuid

    def execute(self, context: Context) -> dict[str, Any]:
        """Send it."""
        from airflow_provider_posthog.capture.events import shown
        from airflow_provider_posthog.capture.sender import Sender

        events = self._events(context)
        with Sender(self.hook.settings(), project_token(self.hook)) as sender:
            verdicts = sender.send(events)
        dropped = sorted({verdict.details or "no reason" for verdict in verdicts if verdict.result == "drop"})
        if dropped:
            raise PostHogIncompleteError(f"PostHog dropped the event ({', '.join(dropped)}).")
        results = [verdict.result for verdict in verdicts]
        self.concludes("PostHog took %s", counted(len(events), "event"))
        return {
            "sent": len(events),
            "uuids": [shown(event.uuid) for event in events],
            "verdicts": {word: results.count(word) for word in sorted(set(results))},
        }

    def _events(self, context: Context) -> list[Event]:
        from airflow_provider_posthog.capture.events import check_distinct_id, check_name, event_of, uuid_of
        from airflow_provider_posthog.capture.values import moment, plain

        if not isinstance(self.properties, (Mapping, type(None))):
            raise PostHogSettingsError("properties", "is no dictionary.", "Write one, such as {'rows': 7}.")
        with _refusing("event"):
            name = check_name(self.event)
        with _refusing("distinct_id"):
            names = [check_distinct_id(who) for who in self._whose()]
        if self.uuid and len(names) != 1:
            raise PostHogSettingsError("uuid", "is given for several events.", "Leave it out, or send one.")
        if not names or len(set(names)) != len(names):
            raise PostHogSettingsError("distinct_id", "is empty, or names somebody twice.", "Write whose event it is.")
        with _refusing("timestamp"):
            when = moment(self._at(context), datetime.now(timezone.utc))
        made = []
        with _refusing("properties"):
            properties = plain(dict(self.properties or {}))
            for who in names:
                uuid = self._uuid() or uuid_of("task", *self._run(context), name, who, when.isoformat())
                made.append(event_of(uuid, name, who, when, properties))
        return made

    def _whose(self) -> list[object]:
        given = self.distinct_id
        return list(given) if isinstance(given, (Sequence, Set)) and not isinstance(given, (str, bytes)) else [given]

    def _at(self, context: Context) -> object:
        return moment_of(context) if self.timestamp is None or self.timestamp == "" else self.timestamp

    def _uuid(self) -> bytes | None:
        if not self.uuid:
            return None
        try:
            return uuids.UUID(str(self.uuid)).bytes
        except ValueError:
            raise PostHogSettingsError("uuid", "is not a UUID.", "Write one, or leave it out.") from None

    def _run(self, context: Context) -> list[object]:
        ti = context.get("ti")
        if ti is None:
            return [self.task_id]
        return [ti.dag_id, ti.run_id, ti.task_id, getattr(ti, "map_index", -1)]


@contextmanager
def _refusing(field: str) -> Iterator[None]:
    """Name the argument that PostHog would refuse."""
    from airflow_provider_posthog.capture.values import RefusedError

    try:
        yield
    except RefusedError as refused:
        raise PostHogSettingsError(field, f"is refused by PostHog ({refused.reason}).", "Write another.") from None
