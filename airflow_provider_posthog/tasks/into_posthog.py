"""Rows into PostHog as a task: sent, checked until all of them are there, and reported."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_posthog.api.steps import run
from airflow_provider_posthog.compat import default_deferrable, is_of_earlier_try
from airflow_provider_posthog.exceptions import PostHogIncompleteError, PostHogSettingsError
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.arguments import PostHogArguments
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.deferring import WORTH
from airflow_provider_posthog.tasks.group_types import check_group_type
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.interval import moment_of
from airflow_provider_posthog.tasks.lengths import seconds_of
from airflow_provider_posthog.tasks.lists import count_of, flag_of, listed
from airflow_provider_posthog.tasks.outlets import tell_outlets
from airflow_provider_posthog.tasks.project_token import project_token
from airflow_provider_posthog.tasks.rejects import Rejects, rejects_of
from airflow_provider_posthog.tasks.sent import Sent

if TYPE_CHECKING:
    from typing import NoReturn

    from typing_extensions import Unpack

    from airflow_provider_posthog.capture.events import Properties, Recipe
    from airflow_provider_posthog.capture.ledger import Ledger
    from airflow_provider_posthog.capture.load import Load
    from airflow_provider_posthog.capture.sender import Sender
    from airflow_provider_posthog.compat import Context

#: Events a second of a migration, unless the task says another number: PostHog asks for a few thousand in all.
HISTORICAL_RATE = 2_000.0
_NAP = 0.25
_TRIGGERER_GONE = 3600.0


class IntoPostHogOperator(PostHogOperator):
    """Loads rows into PostHog, and succeeds once PostHog has shown each of them. Subclasses say where rows come from.

    Each row is checked against the rules of PostHog's capture before it is sent. Its event's uuid follows from ``key``
    and its time from ``timestamp``, so that a retry, or a second run, sends the same events, which ClickHouse merges.
    PostHog answers for each event (``/i/v1/analytics/events``), and only those that it asks to retry are sent again;
    servers without that endpoint get ``/batch/``. Either way PostHog is then queried for each uuid.

    :param kind: ``events``; ``persons``: their properties are set (``$set``); ``groups``: so are theirs
        (``$groupidentify``); ``aliases`` and ``merges`` make one person of two ids, which cannot be undone.
    :param event: the events' name.
    :param event_column: the column with the events' names, instead of ``event``.
    :param distinct_id: the column with the distinct id; of groups, with the group's key.
    :param timestamp: the column with the time, which has an offset; for other kinds than events the run's by default.
    :param key: the columns that tell rows apart; for persons and groups the id by default.
    :param properties: the columns that become properties; default: all others. A dictionary says how they are set:
        ``{"$set": [...], "$set_once": [...], "$unset": [...]}``; ``$unset`` has names of properties, not columns.
    :param group_type: of groups, such as ``company``.
    :param historical_migration: whether these are old events: PostHog takes them in beside those of today. It wants
        the oldest first, so the rows are read twice: nothing is sent if one is of an earlier day than a row before.
    :param oldest_first: False sends the rows of a migration in the order in which they come, with a warning.
    :param events_per_second: how many are sent at the most; by default 2,000 of a migration, else as many as go.
    :param quiet_period: seconds (or a timedelta) after which PostHog is asked for the first time.
    :param poll_interval: seconds (or a timedelta) between two polls.
    :param timeout: seconds (or a timedelta), after the quiet period, in which all must be there. What is missing then
        is sent once more, and has as long again.
    :param rejects_path: a file (JSON lines) in any storage that names each row that is not in PostHog: ``row``,
        ``uuid``, ``key`` and ``reason``. A storage's connection stands in it: ``s3://my_conn@bucket/rejects.jsonl``.
    :param rejects_table: a table that names them, in place of the file or beside it: ``rejected_at``, ``task``,
        ``run``, ``row``, ``uuid``, ``key`` (JSON) and ``reason``. It is made if it is not there; the rows of the same
        task and run are replaced. Needs the extra ``warehouse``.
    :param rejects_sql_conn_id: Airflow's connection of its database; default: the one that the rows come from.
    :param max_rejects: how many rows may not be in PostHog.
    :param deferrable: wait in the triggerer.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. The key needs ``query:read``, and
        ``project:read`` if the connection has no ``project_token``.
    :returns: ``rows`` (read), ``sent``, ``sent_before`` (by an earlier try), ``duplicates`` (rows that were the same as
        another), ``kept`` (shown by PostHog), ``warned``, ``rejected`` (by reason), ``resent``, ``rejects_path``,
        ``seconds``.
    :raises PostHogSettingsError: if an argument, or a column, is wrong; nothing was sent.
    :raises PostHogIncompleteError: if more rows than ``max_rejects`` are not in PostHog. All others are.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "event",
        "event_column",
        "distinct_id",
        "timestamp",
        "key",
        "properties",
        "group_type",
        "historical_migration",
        "rejects_path",
        "rejects_table",
        "rejects_sql_conn_id",
        "max_rejects",
    )
    template_fields_renderers = {"properties": "json"}  # noqa: RUF012 - Airflow's own form
    operator_extra_links = (PostHogLink(),)
    #: The argument that says which rows come, and in which order.
    rows_of: ClassVar[str] = "sql"
    _killed = False

    def __init__(
        self,
        *,
        kind: str = "events",
        event: str | None = None,
        event_column: str | None = None,
        distinct_id: str = "distinct_id",
        timestamp: str | None = None,
        key: Sequence[str] | str = (),
        properties: Properties | None = None,
        group_type: str | None = None,
        historical_migration: bool = False,
        oldest_first: bool = True,
        events_per_second: float | None = None,
        quiet_period: float | timedelta = 60.0,
        poll_interval: float | timedelta = 60.0,
        timeout: float | timedelta = 3600.0,
        rejects_path: str | os.PathLike[str] | None = None,
        rejects_table: str | None = None,
        rejects_sql_conn_id: str | None = None,
        max_rejects: int = 0,
        deferrable: bool | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.kind, self.event, self.event_column = kind, event, event_column
        self.distinct_id = distinct_id
        self.timestamp = timestamp
        self.key = key
        self.properties = properties
        self.group_type = group_type
        self.historical_migration, self.oldest_first = historical_migration, oldest_first
        self.events_per_second = events_per_second
        self.quiet_period, self.poll_interval = quiet_period, poll_interval
        self.timeout = timeout
        self.rejects_path = rejects_path
        self.rejects_table, self.rejects_sql_conn_id = rejects_table, rejects_sql_conn_id
        self.max_rejects = max_rejects
        self.deferrable = default_deferrable() if deferrable is None else deferrable

    @abstractmethod
    def request(self) -> Mapping[str, Any]:
        """Return what is loaded, as JSON: another request is another load."""

    @abstractmethod
    def rows(self, recipe: Recipe, at: datetime) -> Any:  # noqa: ANN401 - a context manager of a reader and rows
        """Open the rows, from the first on: a context manager that gives what reads them, and them.

        :param recipe: how they become events.
        :param at: the time of those that have none.
        """

    # The task.

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the rows."""
        return self._run(context, None)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Go on after a wait.

        :param event: the timer's event.
        """
        payload = event if isinstance(event, Mapping) else {}
        of_try = payload.get("try_number")
        if isinstance(of_try, int) and is_of_earlier_try(of_try, context):
            return self._run(context, None)
        return self._run(context, Sent.of(payload))

    def on_kill(self) -> None:
        """Send and wait no more; what was sent is noted."""
        self._killed = True

    def _run(self, context: Context, sent_before: Sent | None) -> dict[str, Any]:
        from airflow_provider_posthog.capture.ledger import Ledger
        from airflow_provider_posthog.capture.load import Load

        began = time.monotonic()
        recipe = self._recipe()
        identity = Identity.of(context)
        rejects = self._rejects(context)
        with Ledger(self._ledger_path(identity, recipe)) as ledger:
            load = Load(ledger, floor=self._floor())
            sent = self._sent(load, ledger, recipe, sent_before, context)
            sent = self._wait(load, ledger, recipe, sent, context)
            result = {**load.summary(), **(sent.tally or {}), "resent": sent.resent}
            rejects.write(ledger.rejects(), recipe.key or [self.distinct_id], identity)
            try:
                load.check(count_of("max_rejects", self.max_rejects), rejects.where)
            except PostHogIncompleteError:  # the next try judges them again
                ledger.put(ordered="")
                _note(ledger, Sent(sent.at))
                raise
            ledger.remove()
        path = None if rejects.output is None else str(rejects.output.target)
        result |= {"rejects_path": path, "seconds": round(time.monotonic() - began, 3)}
        tell_outlets(context, self.outlets, result)
        self.concludes("PostHog has shown all %s events of %s rows", f"{result['kept']:,}", f"{result['rows']:,}")
        return result

    def _recipe(self) -> Recipe:
        from airflow_provider_posthog.capture.events import Recipe

        count_of("max_rejects", self.max_rejects)
        if self.events_per_second is not None:
            rate = self.events_per_second
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate > 0:
                raise PostHogSettingsError("events_per_second", "is not a rate.", "Write a number above 0.")
        for field in ("historical_migration", "oldest_first"):
            flag_of(field, getattr(self, field))
        for field in ("quiet_period", "timeout"):
            seconds_of(field, getattr(self, field), 0)
        seconds_of("poll_interval", self.poll_interval, 0.1)
        if self.kind in ("aliases", "merges"):
            self.log.warning("Persons are made one (%s), which nothing undoes", self.kind)
        return Recipe(
            self.kind,
            self.event,
            self.event_column,
            self.distinct_id,
            self.timestamp,
            [self.key] if self.key and isinstance(self.key, str) else listed("key", self.key or ()),
            self.properties,
            self.group_type,
        )

    @property
    def _is_historical(self) -> bool:
        return flag_of("historical_migration", self.historical_migration)

    def _floor(self) -> datetime | None:
        """Return up to when PostHog hides events: what it would not show cannot be proved, and is not sent."""
        from airflow_provider_posthog.results.retention import look_if_possible

        retention = run(look_if_possible(self.hook.settings().project_id), self.hook.client)
        return retention.floor if retention.enforced else None

    def _rejects(self, context: Context) -> Rejects:
        if self.rejects_sql_conn_id and not self.rejects_table:
            raise PostHogSettingsError("rejects_table", "is empty.", "Write the table, or leave out its connection.")
        conn_id = self.rejects_sql_conn_id or getattr(self, "sql_conn_id", None)
        rejects = rejects_of(self.rejects_path, self.rejects_table, conn_id, context)
        rejects.check()
        return rejects

    def _ledger_path(self, identity: Identity, recipe: Recipe) -> Path:
        """Return where this machine notes what was sent: another for each task instance, clearing and request."""
        settings = self.hook.settings()
        request = {
            "host": settings.base_url,
            "project": settings.project_id,
            **asdict(recipe),
            **self.request(),
            "historical": self._is_historical,
        }
        digest = hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"airflow-provider-posthog-{os.getuid() if hasattr(os, 'getuid') else 0}"
        return folder / f"{identity.owner}-{identity.clearing}-{digest}.ledger"

    def _sent(self, load: Load, ledger: Ledger, recipe: Recipe, sent_before: Sent | None, context: Context) -> Sent:
        """Send what was not sent, and return how far the load is."""
        noted = Sent.of(json.loads(ledger.get("sent") or "null"))
        if noted is not None and noted.sent_at:
            return noted
        if sent_before is not None and sent_before.sent_at:
            self.log.info("What was sent is noted on another machine: the rows are read again, and not sent")
            with self.rows(recipe, datetime.fromisoformat(sent_before.at)) as (reader, rows):
                load.remember(reader, rows)
            return _note(ledger, sent_before)
        at = (noted or sent_before or Sent(moment_of(context).isoformat())).at
        _note(ledger, Sent(at))
        settings = self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/activity/explore")
        if recipe.group_type:
            check_group_type(self.hook, recipe.group_type)
        self._check_order(load, ledger, recipe, at)
        self.log.info("Sending %s to PostHog project %s", self.kind, settings.project_id)
        with self._sender() as sender, self.rows(recipe, datetime.fromisoformat(at)) as (reader, rows):
            load.send(reader, self._until_killed(rows), sender)
        tally = load.tally
        if tally.backwards and self._is_historical:
            self.log.warning("%d rows are of an earlier day than one before: order them, oldest first", tally.backwards)
        if tally.changed or ledger.without_row():
            self.log.warning(
                "The rows are not those of the try before: %d are others, and %d are missing. What it sent stays there",
                *(tally.changed, ledger.without_row()),
            )
        self.log.info("Sent %s of %s rows; looking for them from now on", f"{tally.sent:,}", f"{tally.rows:,}")
        counts = {"rows": tally.rows, "sent": tally.sent, "sent_before": tally.before, "duplicates": tally.duplicates}
        return _note(ledger, Sent(at, time.time(), 0, counts))

    def _check_order(self, load: Load, ledger: Ledger, recipe: Recipe, at: str) -> None:
        """Make sure that the rows of a migration come oldest first, by their days, before one is sent."""
        if not self._is_historical or not flag_of("oldest_first", self.oldest_first) or ledger.get("ordered"):
            return
        with self.rows(recipe, datetime.fromisoformat(at)) as (reader, rows):
            row = load.check_order(reader, self._until_killed(rows))
        if row:
            raise PostHogSettingsError(
                self.rows_of,
                f"gives row {row:,} of an earlier day than a row before it, and PostHog wants the oldest first.",
                "Let them come in the order of their time, or write oldest_first=False.",
            )
        ledger.put(ordered=1)

    def _until_killed(self, rows: Iterator[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        for row in rows:
            if self._killed:
                raise PostHogIncompleteError("The task was killed. What was sent is noted.")
            yield row

    def _sender(self) -> Sender:
        from airflow_provider_posthog.capture.sender import Sender

        rate = self.events_per_second
        if rate is None and self._is_historical:
            rate = HISTORICAL_RATE
        return Sender(self.hook.settings(), project_token(self.hook), historical=self._is_historical, per_second=rate)

    def _wait(self, load: Load, ledger: Ledger, recipe: Recipe, sent: Sent, context: Context) -> Sent:
        """Look for what was sent until all of it is there, or has been sent twice and did not come."""
        from airflow_provider_posthog.capture import read_back

        quiet, poll = (
            seconds_of("quiet_period", self.quiet_period, 0),
            seconds_of("poll_interval", self.poll_interval, 0),
        )
        looked = bool(ledger.get("looked"))
        while True:
            first = sent.sent_at + quiet
            deadline = first + seconds_of("timeout", self.timeout, 0)
            self._sleep(first if not looked else min(time.time() + poll, max(deadline, time.time())), sent, context)
            missing = read_back.look(self.hook.client, ledger)
            looked = True
            ledger.put(looked=1)
            if not missing:
                return sent
            if time.time() < deadline:
                self.log.info("PostHog does not show %s events yet", f"{missing:,}")
            elif not sent.resent:
                sent, looked = self._resend(load, ledger, recipe, sent), False
            else:
                if ledger.unnamed():
                    with self.rows(recipe, datetime.fromisoformat(sent.at)) as (reader, rows):
                        load.name_missing(reader, self._until_killed(rows))
                self.log.error("PostHog took %s events twice, and does not show them", f"{load.give_up():,}")
                return sent

    def _resend(self, load: Load, ledger: Ledger, recipe: Recipe, sent: Sent) -> Sent:
        with self._sender() as sender, self.rows(recipe, datetime.fromisoformat(sent.at)) as (reader, rows):
            count = load.send_missing(reader, self._until_killed(rows), sender)
        self.log.warning("PostHog took %s events and does not show them: sent once more", f"{count:,}")
        ledger.put(looked="")
        return _note(ledger, Sent(sent.at, time.time(), max(1, count), sent.tally))

    def _sleep(self, until: float, sent: Sent, context: Context) -> None:
        left = until - time.time()
        if self.deferrable and left > WORTH:
            self._defer(until, sent, context)
        while (left := until - time.time()) > 0:
            if self._killed:
                raise PostHogIncompleteError("The task was killed. What was sent is noted.")
            time.sleep(min(left, _NAP))

    def _defer(self, until: float, sent: Sent, context: Context) -> NoReturn:
        from airflow_provider_posthog.triggers.timer import PostHogTimerTrigger

        seconds = until - time.time()
        self.log.info("Deferred for %.0f s: then PostHog is asked for the events", seconds)
        payload = {**asdict(sent), "try_number": getattr(context.get("ti"), "try_number", None) or 0}
        self.defer(
            trigger=PostHogTimerTrigger(until=until, payload=payload),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, seconds) + _TRIGGERER_GONE),
        )


def _note(ledger: Ledger, sent: Sent) -> Sent:
    ledger.put(sent=json.dumps(asdict(sent)), **({} if sent.sent_at else {"looked": ""}))
    return sent
