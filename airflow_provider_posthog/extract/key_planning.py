"""Plan which ranges of keys to read, of tables that are sorted by the keys of their rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.planning import Planner, number_of, readable, rows_of
from airflow_provider_posthog.extract.windows import PARTS, Keys, Piece, Window, packed
from airflow_provider_posthog.results.heaviness import is_too_heavy

log = logging.getLogger(__name__)

#: Into how many ranges a page is divided for counting.
_STEPS_OF_PAGE = 4
#: The range for a sample of persons: a 64th of the keys, which holds a sixteenth of standard UUIDs.
_SOME = (PARTS * 10 // 16, PARTS * 41 // 64)


class KeyPlanner(Planner):
    """Plans the ranges of keys of a table, which are read one after another, whatever their rows' time."""

    def count(self, window: Window) -> list[Piece]:
        """Count the rows of a range by their keys.

        :param window: the range.
        :raises PostHogIncompleteError: if a row has no key.
        :raises PostHogError: if PostHog cannot do it in one query.
        """
        counted = self.by_hash(window) if self.source.is_uuid else self._by_keys(window)
        self.counted += sum(piece.rows for piece in counted)
        return counted

    def _likely(self, window: Window) -> Window:
        """Return a range of some keys: otherwise a sample of a few rows would make PostHog merge the whole table."""
        if not self.source.is_uuid or not window.is_whole:
            return window
        return replace(window, first=_SOME[0], last=_SOME[1])

    def pieces(self, window: Window, count: Callable[[], list[Piece]] | None = None) -> Iterator[Piece]:
        """Yield the pieces of a range, in order; they tile it.

        :param window: the range.
        :param count: returns the result of :meth:`count`, if it was already requested.
        :raises PostHogIncompleteError: if PostHog cannot even count the rows of a part.
        """
        try:
            counted = count() if count is not None else self.count(window)
        except PostHogError as error:
            if not is_too_heavy(error):
                raise
            halves = window.hash_halves()
            if halves is None:
                raise PostHogIncompleteError(f"PostHog cannot even count the rows of {window}: {error}") from error
            log.info("PostHog: counting %s was too much for one query (%s); counting its halves", window, error)
            for half in halves:
                yield from self.pieces(half)
            return
        yield from packed(counted, self._size)

    def halves(self, piece: Piece) -> list[Piece]:
        """Divide a piece that is too much for a query so that no part holds all its rows; empty if impossible.

        :param piece: the piece.
        """
        if piece.rows <= 1:
            return []
        if not self.source.is_uuid:
            ranges = self._ranges(piece.window, max(1, piece.rows // 2))
            if len(ranges) > 1:
                return ranges
        return [self.counted_again(half)[0] for half in piece.window.hash_halves() or ()]

    def _by_keys(self, window: Window) -> list[Piece]:
        """Count by ranges of the keys, or by hashes where PostHog cannot sort all keys at once."""
        if not window.is_whole:
            return self.by_hash(window)
        try:
            return self._ranges(window, max(1, self._size() // _STEPS_OF_PAGE))
        except PostHogError as error:
            if not is_too_heavy(error):
                raise
            log.info("PostHog: the keys of %s were too many for one query (%s); counting their hashes", window, error)
            return self.by_hash(window)

    def _ranges(self, window: Window, step: int) -> list[Piece]:
        """Return ranges of so many rows each, by one query."""
        result = self._asker.ask(statements.ranges_of_keys(self.source, window, step))
        with readable(window):
            (row,) = rows_of(result)
            keyed, counted = number_of(row["keyed"]), number_of(row["counted"])
            bounds = [self._key(bound) for bound in row["bounds"]]
            if len(bounds) != max(0, keyed - 1) // step:
                raise ValueError
            is_ordered = all(low < high for low, high in pairwise(bounds))
        if keyed < counted:
            raise self._no_key(window)
        if not is_ordered:  # their text is not UTF-8
            return self.by_hash(window)
        whole = window.keys or Keys()
        edges = [whole.low, *bounds, whole.high]
        rows = [step] * len(bounds) + [keyed - step * len(bounds)]
        return [
            Piece(replace(window, keys=Keys(low, high)), many)
            for (low, high), many in zip(pairwise(edges), rows, strict=True)
        ]

    def _key(self, value: object) -> tuple[int | str, ...]:
        parts = value if isinstance(value, list) else [value]
        if len(parts) != len(self.source.sort_key) or not all(type(part) in (int, str) for part in parts):
            raise TypeError
        return tuple(parts)
