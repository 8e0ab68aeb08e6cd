"""Keep a task from mistaking hidden events for missing ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError
from airflow_provider_posthog.results.event_reads import event_read
from airflow_provider_posthog.results.retention import (
    Retention,
    check_choice,
    check_open,
    decide,
)


class RetentionGuard:
    """Checks a task's reads of events. PostHog is asked once, and only if events are read; each warning is logged once.

    :param on_retention: ``fail``, ``warn`` or ``ignore``, which asks for nothing.
    :param ask: asks PostHog.
    :param log: where warnings go.
    :raises PostHogSettingsError: if ``on_retention`` is something else.
    """

    def __init__(self, on_retention: object, ask: Callable[[], Retention], log: Any) -> None:  # noqa: ANN401 - a logger
        self.on_retention = check_choice(on_retention)
        self._ask = ask
        self._log = log
        self._retention: Retention | None = None
        self._asked_at = 0.0
        self._intervals: list[tuple[datetime, datetime | None]] = []
        self._warned = False

    def check(self, start: datetime, end: datetime | None) -> None:
        """Check a read of the events of an interval, before anything is changed.

        :param start: the first moment, aware.
        :param end: the first moment after it; ``None`` for now.
        :raises PostHogIncompleteError: if a part of it is hidden, and ``on_retention`` is ``fail``.
        :raises PostHogError: if PostHog cannot be asked, and ``on_retention`` is ``fail``.
        """
        self._intervals.append((start, end))
        self.again()

    def again(self) -> None:
        """Check all intervals once more, before what was read takes effect: the floor has moved on meanwhile.

        :raises PostHogIncompleteError: as :meth:`check`.
        """
        if not self._intervals or (retention := self._known_retention()) is None:
            return
        floor = retention.floor_after(timedelta(seconds=time.monotonic() - self._asked_at))
        for start, end in self._intervals:
            decision = decide(start, end, floor, retention, self.on_retention)
            if isinstance(decision, PostHogIncompleteError):
                raise decision
            self._warn(decision)

    def check_open(self) -> None:
        """Warn of a read of events whose interval is not known."""
        retention = self._known_retention()
        self._warn(check_open(retention, self.on_retention) if retention is not None else None)

    def check_node(self, node: Mapping[str, Any]) -> None:
        """Check what a query node reads of events, if it reads any.

        :param node: the node, without wrappers.
        :raises PostHogIncompleteError: as :meth:`check`.
        """
        read = event_read(node)
        retention = self._known_retention() if read is not None else None
        if read is None or retention is None:
            return
        start = retention.moment_of(read.after)
        if start is None:
            self.check_open()
        else:
            self.check(start, retention.moment_of(read.before))

    def _known_retention(self) -> Retention | None:
        """Return the project's retention; ``None`` if it does not matter, or is not known."""
        if self.on_retention == "ignore":
            return None
        if self._retention is None:
            self._retention = self._asked()
            if self._retention.unknown:
                self._log.info("Whether PostHog hides old events is not known: %s.", self._retention.unknown)
        return self._retention

    def _asked(self) -> Retention:
        self._asked_at = time.monotonic()
        try:
            return self._ask()
        except PostHogError as error:
            if self.on_retention == "fail":
                raise
            self._log.debug("The project cannot be read", exc_info=error)
            return Retention(None, None, datetime.now().astimezone(), unknown="the project cannot be read now")

    def _warn(self, text: str | None) -> None:
        if text is not None and not self._warned:
            self._warned = True
            self._log.warning("%s", text)
