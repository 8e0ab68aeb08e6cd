"""Plan which windows to read of rows whose ids begin with their time, such as PostHog's sessions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from airflow_provider_posthog.exceptions import PostHogError, PostHogValidationError
from airflow_provider_posthog.extract.dated_ids import around
from airflow_provider_posthog.extract.page_size import PageSize
from airflow_provider_posthog.extract.planning import Planner
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import SAMPLE
from airflow_provider_posthog.extract.windows import Piece, Window
from airflow_provider_posthog.results.heaviness import is_too_heavy

log = logging.getLogger(__name__)

#: So many rows are read as one page without a first look at some of them before: a first look may cost as much as they
#: do.
_UNSEEN = 20_000
#: The most of a window that is looked at before it is counted.
_SOME = timedelta(hours=1)


class DatedPlanner(Planner):
    """Plans windows of time, and knows in which minutes the ids of their rows begin.

    :param asker: asks PostHog.
    :param source: what is read.
    :param size: how many rows a window is to hold.
    """

    _knows_ids = True

    def __init__(self, asker: Asker, source: Source, size: PageSize) -> None:
        super().__init__(asker, source, size)
        size.assume(_UNSEEN)

    def likely(self, window: Window, counted: Callable[[], list[Piece]] | None = None) -> Piece:
        """Return the part of a window where a first look for some of its rows is cheap; no rows where they are few.

        :param window: the window.
        :param counted: waits for what :meth:`count` finds in it, if somebody has asked.
        """
        try:
            pieces = counted() if counted is not None else None
        except PostHogError:  # reading the window raises it again, and halves it
            pieces = None
        if not self._knows_ids:
            return Piece(window, SAMPLE)
        if pieces is None:
            return Piece(window, SAMPLE, begun=around(window.start, min(window.end, window.start + _SOME)))
        rows = sum(piece.rows for piece in pieces)
        if not rows:  # an answer of none is worth a first look of its own
            return Piece(window, SAMPLE, begun=around(window.start, window.end))
        if rows <= _UNSEEN:
            return Piece(window, 0)
        most = max(pieces, key=lambda piece: piece.rows)
        return Piece(most.window, SAMPLE, begun=most.begun)

    def _steps(self, window: Window, check: bool = False) -> list[Piece]:
        """Count by steps of time, and by the minutes of the ids where the server has such ids."""
        if self._knows_ids:
            try:
                return super()._steps(window, check)
            except PostHogValidationError as error:
                if is_too_heavy(error):
                    raise
                log.info(
                    "PostHog does not know %s (%s): each page searches a week's %s",
                    self.source.dated_id,
                    error.status,
                    self.source.name,
                )
                self._knows_ids = False
        return super()._steps(window, check)

    def _counting(self) -> Source:
        return self.source if self._knows_ids else replace(self.source, dated_id=None)
