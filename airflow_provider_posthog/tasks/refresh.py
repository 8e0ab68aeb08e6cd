"""What refreshing insights and refreshing dashboards have in common: the calculations, and the proof."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_provider_posthog.api import refresh
from airflow_provider_posthog.api.freshness import Earlier, Outcome, Target
from airflow_provider_posthog.api.jobs import CANCEL_SECONDS
from airflow_provider_posthog.api.steps import Steps, run, run_all
from airflow_provider_posthog.exceptions import (
    PostHogError,
    PostHogJobFailed,
    PostHogSettingsError,
)
from airflow_provider_posthog.tasks import refresh_began
from airflow_provider_posthog.tasks.arguments import RemoteWorkArguments
from airflow_provider_posthog.tasks.deadline import Deadline
from airflow_provider_posthog.tasks.identity import CLOCKS_DIFFER, Identity
from airflow_provider_posthog.tasks.refresh_began import Began
from airflow_provider_posthog.tasks.refresh_files import Files
from airflow_provider_posthog.tasks.refresh_results import (
    ON_TRUNCATION,
    OnTruncation,
    ResultWriter,
    check_overrides,
    not_fresh_error,
    writing_error,
)
from airflow_provider_posthog.tasks.remote_work import RemoteWorkOperator
from airflow_provider_posthog.tasks.timeouts import calculations_timeout, naming

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.clients import Client
    from airflow_provider_posthog.api.insights import Insight
    from airflow_provider_posthog.compat import Context, ObjectStoragePath
    from airflow_provider_posthog.results.files import ResultFormat
    from airflow_provider_posthog.triggers.refresh import RefreshEvent
    from airflow_provider_posthog.triggers.watching import WatchEvent

#: An hour: 40 insights, three at once, of four and a half minutes each.
TIMEOUT = 3600.0
#: Seconds between two polls of a calculation at the most.
POLL_INTERVAL = 5.0


class PostHogRefreshOperator(RemoteWorkOperator):
    """Calculates insights afresh, and succeeds only if all their numbers are proved to be new. Subclasses say which.

    :param filters_override: filters instead of the insights' own, as PostHog's ``filters``; PostHog keeps their results
        apart.
    :param variables_override: by the variable's id, each with ``code_name`` and ``value``; also kept apart.
    :param path: where to write the results, as text or ``ObjectStoragePath``. The suffix says how: ``.json`` (the
        result as PostHog gives it), or as a flat table ``.csv``, ``.jsonl`` (also with ``.gz``), ``.xlsx`` or
        ``.parquet`` (needs the extra ``warehouse``), for trends, funnels, retention and SQL insights. For several
        insights it must contain ``{short_id}`` or ``{id}``. With ``/`` at the end (text only) it is a folder, and files
        are ``{short_id}`` with the suffix of ``format``. Files appear only once they are complete, and only if all
        insights are fresh.
    :param format: the format of files in a folder: ``csv`` (default), ``json``, ``jsonl``, ``xlsx`` or ``parquet``. A
        path that names a file says it by its suffix.
    :param overwrite: replace files of those names. Without it, a file with the same bytes is success, and so is one
        that an earlier try of this task wrote; any other is an error, before anything is calculated.
    :param on_truncation: what to do if PostHog cut the rows of an SQL insight (no LIMIT: 100) that go into a file:
        ``fail``, ``warn`` or ``ignore``. Without files it warns.
    :param values: return each insight's newest complete numbers, too.
    :param object_storage_conn_id: Airflow's connection for the object storage.
    :param deferrable: wait in the triggerer; default ``[operators] default_deferrable``. Needs a key with the scope
        ``query:read``; without it the task waits in the worker, and logs that. It also does for hundreds of insights,
        and for more than ``max_in_flight`` insights with overrides, which may hold personal data and are not sent to
        the triggerer.
    :param max_in_flight: how many insights to calculate at once; default the connection's ``max_in_flight`` (3, which
        is what PostHog runs at once).
    :param poll_interval: the longest wait between two polls of a calculation: seconds, or a ``timedelta``; default 5 s.
    :param timeout: seconds, or a ``timedelta``, for all of it; then running calculations are cancelled, and no others
        started.
    :param cancel_on_kill: cancel the calculations when the task is killed or runs out of time.
    :param max_poll_failures: how many polls of a calculation may fail in a row.
    :raises PostHogJobFailed: if an insight is not proved to be fresh: which, and why.
    :raises PostHogJobTimeout: if not all ended in time.
    """

    template_fields: Sequence[str] = (
        *RemoteWorkOperator.template_fields,
        "filters_override",
        "variables_override",
        *("path", "format", "object_storage_conn_id", "on_truncation"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"filters_override": "json", "variables_override": "json"}

    def __init__(
        self,
        *,
        filters_override: Mapping[str, Any] | None = None,
        variables_override: Mapping[str, Mapping[str, Any]] | None = None,
        path: str | ObjectStoragePath | None = None,
        format: ResultFormat | None = None,
        overwrite: bool = False,
        object_storage_conn_id: str | None = None,
        on_truncation: OnTruncation = "fail",
        values: bool = False,
        max_in_flight: int | None = None,
        **kwargs: Unpack[RemoteWorkArguments],
    ) -> None:
        kwargs.setdefault("poll_interval", POLL_INTERVAL)
        super().__init__(**kwargs)
        self.filters_override = filters_override
        self.variables_override = variables_override
        self.path = path
        self.format = format
        self.overwrite = overwrite
        self.object_storage_conn_id = object_storage_conn_id
        self.on_truncation = on_truncation
        self.values = values
        self.max_in_flight = max_in_flight
        self._open: set[str] = set()
        self._fresh: list[Insight] = []
        self._stop: threading.Event | None = None  # made when the task runs: Airflow copies operators, and no locks

    # What a subclass says.

    @abstractmethod
    def find(self) -> Steps[tuple[list[Target], dict[str, Any]]]:
        """Find the insights to calculate; reads from PostHog, and starts nothing.

        :returns: the insights, with the server's time as ``since``; and facts for :meth:`conclude`, small and JSON.
        """

    @property
    @abstractmethod
    def is_list(self) -> bool:
        """Whether there may be several insights, and so several files."""

    @abstractmethod
    def conclude(self, done: list[dict[str, Any]], facts: Mapping[str, Any], context: Context) -> Any:  # noqa: ANN401 - JSON
        """Return what the task returns, all insights being fresh.

        :param done: what is known of each.
        :param facts: what :meth:`find` returned.
        :param context: Airflow's; may be empty outside the task runner.
        """

    @abstractmethod
    def link(self, targets: Sequence[Target], facts: Mapping[str, Any]) -> str:
        """Return the path in PostHog's interface that shows them, relative to the project.

        :param targets: the insights.
        :param facts: what :meth:`find` returned.
        """

    def check(self) -> None:
        """Refuse what cannot end well, before anything is sent.

        :raises PostHogSettingsError: if an argument is wrong.
        """
        self.check_waiting()
        limit = self.max_in_flight
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise PostHogSettingsError("max_in_flight", f"{limit!r} is not a number of insights.", "Write 1 or more.")
        check_overrides(self.filters_override, self.variables_override)
        if self.on_truncation not in ON_TRUNCATION:
            raise PostHogSettingsError(
                "on_truncation", f"{self.on_truncation!r} is not known.", f"Write one of {', '.join(ON_TRUNCATION)}."
            )
        self.files.check(several=self.is_list)

    @property
    def falls_back(self) -> bool:
        """Whether a result that has no table becomes a file of JSON, and the files of some are kept if others fail."""
        return False

    @property
    def files(self) -> Files:
        """Where the results go."""
        return Files(self.path, self.overwrite, self.object_storage_conn_id, self.falls_back, self.format)

    # The life cycle.

    def run_to_completion(self, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Calculate the insights, or take up what an earlier try has begun."""
        self.check()
        began = time.time()
        identity = Identity.of(context)
        deadline = began + self.timeout_seconds()
        with self.in_time(deadline):
            insights, facts = run(self.find(), self.hook.client)
            targets = [self._named(target, identity) for target in insights]
            self.push_link(context, self.link(targets, facts))
            self.files.refuse(targets, identity)
            if targets and self.deferrable and self._may_defer(targets):
                self._defer(targets, facts, began, identity)
            known = refresh_began.began(context, identity, targets, self._most_at_once(), self.timeout_seconds())
            earlier = run(known, self.hook.client)
        outcomes = self._all([self._tracked(target, deadline, earlier) for target in targets], deadline)
        return self._end(list(zip(targets, outcomes, strict=True)), facts, "timeout", context)

    def read_event(self, event: Mapping[str, Any] | None) -> RefreshEvent:
        """Read the trigger's event."""
        from airflow_provider_posthog.triggers.refresh import RefreshEvent

        return RefreshEvent.parse(event)

    def resume(self, event: WatchEvent, context: Context) -> Any:  # noqa: ANN401 - JSON
        """Read every result back that the trigger has had calculated, and prove it."""
        if event.ended.outcome != "succeeded":
            raise PostHogJobFailed(f"Lost sight of the refresh ({event.ended.outcome}): {event.ended.reason}")
        items = [(self.overridden(target), outcome) for target, outcome in cast("RefreshEvent", event).outcomes]
        outcomes = self._all([self._finished(target, outcome) for target, outcome in items])
        proved = [(target, outcome) for (target, _), outcome in zip(items, outcomes, strict=True)]
        for target, outcome in proved:
            if outcome.goes_on:
                self._open.update(target.names)
        return self._end(proved, event.facts, event.limit, context)

    def _named(self, target: Target, identity: Identity) -> Target:
        target = self.overridden(target)
        request = {
            "insight": target.insight_id,
            "dashboard": target.dashboard_id,
            "overrides": [self.filters_override, self.variables_override],
        }
        return replace(
            target,
            query_id=identity.own_name(request),
            earlier=tuple(
                Earlier(name, other.clearing == identity.clearing) for name, other in identity.earlier(request)
            ),
            life_since=max(0.0, identity.since - CLOCKS_DIFFER),
            superseded_before=0.0 if identity.is_first else time.time() - self.timeout_seconds(),
        )

    def overridden(self, target: Target) -> Target:
        """Return a target with the task's overrides.

        :param target: the insight.
        """
        variables = {
            name: {"variableId": name, **variable} for name, variable in (self.variables_override or {}).items()
        }
        return replace(target, filters_override=self.filters_override, variables_override=variables or None)

    def _all(self, tasks: Sequence[Steps[Outcome]], deadline: float | None = None) -> list[Outcome]:
        # Also a single one in a thread: PostHog may hold a request for minutes after the deadline.
        stop = self._stop = threading.Event()
        unanswered = Outcome("timeout", "PostHog did not answer in time")
        try:
            with naming(lambda: calculations_timeout(self._open, self.execution_timeout)):
                return run_all(
                    tasks,
                    self._new_client,
                    max_workers=self._most_at_once(),
                    stop=stop,
                    deadline=deadline,
                    on_timeout=unanswered,
                )
        except BaseException:  # Airflow's timeouts and kills are not Exceptions; no thread may outlive one
            self.cancel()
            raise

    def _new_client(self) -> Client:
        from airflow_provider_posthog.api.clients import Client

        return Client(self.hook.settings())

    def _most_at_once(self) -> int:
        return self.max_in_flight or self.hook.settings().max_in_flight

    def _tracked(self, target: Target, deadline: float, earlier: Began) -> Steps[Outcome]:
        """Calculate one, and remember while PostHog does that it would have to be cancelled."""
        known = yield from earlier.known(target)
        if known is not None:
            return known
        self._open.update(target.names)
        how = refresh.refresh
        if target.insight_id == earlier.anchor:
            how = refresh.watched
        outcome = yield from how(target, deadline, self.poll_interval, self.max_poll_failures)
        if not outcome.goes_on:
            self._open.difference_update(target.names)
        return outcome

    def _finished(self, target: Target, outcome: Outcome) -> Steps[Outcome]:
        """Read one back; of one that failed only its name."""
        if outcome.state == "calculated":
            return (yield from refresh.finish(target, outcome))
        try:
            insight = yield target.read()
        except PostHogError:
            return outcome
        return replace(outcome, insight=insight)

    def _may_defer(self, targets: Sequence[Target]) -> bool:
        from airflow_provider_posthog.triggers.refresh import fit

        why = ""
        if (self.filters_override or self.variables_override) and len(targets) > self._most_at_once():
            why = "overrides are not sent to the triggerer"
        elif not fit(targets):
            why = f"{len(targets)} insights are too many for one trigger"
        else:
            why = run(refresh.why_not_watch(targets[0].query_id), self.hook.client) or ""
        if why:
            self.log.warning("Waiting in the worker: %s", why)
        return not why

    def _defer(self, targets: Sequence[Target], facts: Mapping[str, Any], began: float, identity: Identity) -> None:
        from airflow_provider_posthog.triggers.refresh import PostHogRefreshTrigger, item_of

        started = bool(self.filters_override or self.variables_override)
        if started:
            self._start(targets)
        deadline = Deadline.of(began, self.timeout_seconds(), self.execution_timeout)
        trigger = PostHogRefreshTrigger(
            items=[item_of(target, may_start=not started) for target in targets],
            in_flight=self._most_at_once(),
            facts=facts,
            cancel_on_kill=self.cancel_on_kill,
            **self.waiting(deadline, identity.try_number),
        )
        self.defer_to(trigger, deadline)

    def _start(self, targets: Sequence[Target]) -> None:
        """Start what the trigger only watches."""
        try:
            for target in targets:
                self._open.update(target.names)
                run(refresh.start(target), self.hook.client)
        except BaseException:  # as in _all()
            self.cancel()
            raise

    def _end(
        self, outcomes: Sequence[tuple[Target, Outcome]], facts: Mapping[str, Any], limit: str, context: Context
    ) -> Any:  # noqa: ANN401 - JSON
        bad = [(target, outcome) for target, outcome in outcomes if outcome.state != "fresh"]
        if bad:
            self.cancel()
        good = [outcome for outcome in outcomes if outcome[1].state == "fresh"]
        writer = ResultWriter(self.files, self.on_truncation, self.address, values=self.values)
        identity = Identity.of(context)
        done, failed = writer.write(good, identity) if not bad or self.falls_back else ([], [])
        if bad:
            raise not_fresh_error(bad, len(good), limit, failed)
        error = writing_error(failed, len(done))
        if error is not None:
            raise error
        self._fresh = [outcome.insight or {} for _, outcome in good]
        concluded = self.conclude(done, facts, context)
        self.files.settle([row["path"] for row in done], identity)
        refresh_began.forget(context)
        return concluded

    def cancel(self) -> None:
        """Cancel the calculations that go on."""
        if self._stop is not None:
            self._stop.set()
        names, self._open = sorted(self._open), set()
        end = time.time() + CANCEL_SECONDS
        for name in names if self.cancel_on_kill else ():
            with self._new_client() as client, client.until(end):
                cancelled = run(refresh.cancel(name), client)
            self.log.info("Cancelled calculation %s" if cancelled else "Could not cancel calculation %s", name)

    def default_timeout(self) -> float:
        """Return an hour."""
        return TIMEOUT
