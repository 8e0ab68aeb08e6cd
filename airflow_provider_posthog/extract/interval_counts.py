"""Count the rows that PostHog has in intervals that were read before, many of them in one query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogError, PostHogTransportError, PostHogValidationError
from airflow_provider_posthog.extract import statements
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.older_servers import of_older_server
from airflow_provider_posthog.extract.query_client import Asker
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.statements import Statement
from airflow_provider_posthog.extract.windows import Window, iso
from airflow_provider_posthog.results.heaviness import is_too_heavy

#: Windows that one query counts.
MOST = 50


@dataclass(frozen=True)
class Recount:
    """What PostHog has in a window.

    :param window: the window.
    :param rows: its rows, copies included.
    :param keys: its different keys.
    """

    window: Window
    rows: int
    keys: int

    def agrees(self, rows: int, keys: int | None) -> bool:
        """Return whether the rows that were loaded of the window match those that it has now.

        Copies of a row that came in several windows are kept once or more often, and PostHog merges them at any time.
        So keys are compared; where they were not kept, rows are right from the number of keys to that of copies.

        :param rows: how many were kept.
        :param keys: how many different keys of them; ``None`` if that is not known.
        """
        return self.keys <= rows <= self.rows if keys is None else keys == self.keys


class Recounter:
    """Counts intervals anew. Close it, or use it in a ``with``.

    :param settings: where the project is, and with which key.
    :param source: what is counted; it has a time.
    """

    def __init__(self, settings: ClientSettings, source: Source) -> None:
        self._source = source
        self._asker = Asker(settings, 1)

    def __enter__(self) -> Recounter:
        return self

    def __exit__(self, *_: object) -> None:
        self._asker.close()

    def stop(self) -> None:
        """Ask no more; may be called from another thread, or while a signal is handled."""
        self._asker.stop()

    def count(self, windows: Sequence[Window]) -> list[Recount]:
        """Count windows anew, in as few queries as PostHog can answer.

        :param windows: which windows, in any order.
        :returns: one for each window, in the same order.
        :raises PostHogError: if PostHog cannot be asked.
        """
        return [counted for at in range(0, len(windows), MOST) for counted in self._counted(windows[at : at + MOST])]

    def _counted(self, windows: Sequence[Window]) -> list[Recount]:
        try:
            result = self._asker.ask(statement(self._source, windows))
        except PostHogError as error:
            if not is_too_heavy(error):
                return self._counted_without(windows, error)
            if len(windows) < 2:
                raise
            half = len(windows) // 2
            return self._counted(windows[:half]) + self._counted(windows[half:])
        try:
            (row,) = result.rows
            numbers = [int(str(value)) for value in row]
            pairs = zip(windows, numbers[::2], numbers[1::2], strict=True)
            return [Recount(window, rows, keys) for window, rows, keys in pairs]
        except (TypeError, ValueError):
            raise PostHogTransportError("PostHog's answer to how many rows intervals have cannot be read") from None

    def _counted_without(self, windows: Sequence[Window], error: PostHogError) -> list[Recount]:
        """Count without the columns that an older server lacks; where that is not what was wrong, raise the error."""
        older = of_older_server(self._asker, self._source) if isinstance(error, PostHogValidationError) else None
        if older is None:
            raise error
        self._source = older
        return self._counted(windows)


def recount(settings: ClientSettings, source: Source, windows: Sequence[Window]) -> list[Recount]:
    """Count windows anew.

    :param settings: where the project is, and with which key.
    :param source: what is counted; it has a time.
    :param windows: which windows, in any order.
    :returns: one for each window, in the same order.
    :raises PostHogError: if PostHog cannot be asked.
    """
    with Recounter(settings, source) as counter:
        return counter.count(windows)


def statement(source: Source, windows: Sequence[Window]) -> Statement:
    """Count rows and different keys of windows: ``rows_0``, ``keys_0``, ``rows_1``, and so on, in one row.

    :param source: what is counted; it has a time.
    :param windows: at least one.
    """
    whole = Window(min(window.start for window in windows), max(window.end for window in windows))
    back = source.scan_back
    base = statements.total(replace(source, scan_from=None if back is None else _before(whole.start, back)), whole)
    columns: list[str] = []
    values: dict[str, Any] = dict(base.values)
    for at, window in enumerate(windows):
        start, end = f"window_{at}_start", f"window_{at}_end"
        inside = f"{source.time} >= toDateTime({{{start}}}) AND {source.time} < toDateTime({{{end}}})"
        if back is not None:  # rows before this were not read in the window
            scan = f"window_{at}_scan"
            inside += f" AND {source.scan} >= toDateTime({{{scan}}})"
            values[scan] = iso(_before(window.start, back))
        # If keys are unique, it is enough to count rows.
        different = f"uniqExactIf({source.key_text}, {inside})" if source.copies else f"countIf({inside})"
        columns += [f"countIf({inside}) AS rows_{at}", f"{different} AS keys_{at}"]
        values |= {start: iso(window.start), end: iso(window.end)}
    return Statement(base.sql.replace("count() AS counted", ", ".join(columns), 1), values)


def _before(moment: datetime, length: timedelta) -> datetime:
    return max(EPOCH, moment - length)
