"""What operators share that read rows in bulk: the arguments that say what is read, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api.queries import MAX_ROWS
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError, clean
from airflow_provider_posthog.results.event_reads import reads_events
from airflow_provider_posthog.results.retention import check_choice
from airflow_provider_posthog.tasks.base import check_at_once
from airflow_provider_posthog.tasks.deferring import DeferringArguments, DeferringOperator
from airflow_provider_posthog.tasks.lineage import LineageMixin
from airflow_provider_posthog.tasks.retention import OnRetention, RetentionMixin
from airflow_provider_posthog.tasks.source import check_one, source_of
from airflow_provider_posthog.tasks.suppressing import SuppressingArguments, SuppressingMixin

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.extract.sources import Source


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_DAY = timedelta(days=1)
#: Nobody looks farther back, or waits longer.
_LONGEST = timedelta(days=36_525)


class _IntervalOperatorRest(SuppressingArguments, DeferringArguments, total=False):
    """What :class:`IntervalOperator` takes beside its own arguments."""


class IntervalArguments(_IntervalOperatorRest, total=False):
    """The arguments of :class:`IntervalOperator`, for an editor and a type checker."""

    start: datetime | str | None
    end: datetime | str | None
    max_in_flight: int | None
    page_rows: int
    settle: timedelta
    look_back: timedelta | None
    verify_back: timedelta
    scan_back: timedelta | None
    complete_after: timedelta | None
    on_retention: OnRetention


class IntervalOperator(SuppressingMixin, RetentionMixin, LineageMixin, DeferringOperator):
    """Reads an interval's rows in bulk. Subclasses say of what, and where the rows go.

    :param start: from when, as a time with an offset or ISO text; default: the run's data interval.
    :param end: until when; not in the future.
    :param max_in_flight: how many windows are read at once, from 1 to 32; default: the connection's, which is 3, as
        PostHog runs three queries of a project at once.
    :param page_rows: the most rows of a window, up to 49,999; fewer if rows are long or slow.
    :param settle: how long rows take until queries see them; the task waits for younger ones. A timedelta.
    :param look_back: read again this much time before ``start``, for rows that came late or changed; default: a day for
        sessions, which stay open that long at the most, else nothing. A timedelta.
    :param verify_back: count the earlier intervals of this much time before ``start`` again, each as long as this one,
        and reload those in which PostHog now has another number of rows: rows that queries saw later than ``settle``. A
        timedelta.
    :param scan_back: of events by ``created_at``: leave out those that happened more than this before the interval,
        such as ``timedelta(days=7)``. PostHog then scans only these days instead of its whole history. The interval
        that ends a day (UTC) counts and logs what was left out. A timedelta; default: nothing is left out.
    :param complete_after: of sessions: only those whose last event is older than this at the interval's end, such as
        ``timedelta(hours=1)``; a later run reads the others, as each looks back a day and this much more.
    :param on_retention: what to do if PostHog hides a part of the interval's events, because they are older than the
        project's retention: ``fail`` before anything changes, ``warn`` and continue with the rest, or ``ignore``. Needs
        ``project:read``; without that scope the task logs it and continues (docs: *retention.md*).
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.suppressing.SuppressingMixin`: ``suppress_path``,
        ``suppressed``, ``suppress_object_storage_conn_id``; and as
        :class:`~airflow_provider_posthog.tasks.deferring.DeferringOperator`: ``deferrable``.
    """

    template_fields: Sequence[str] = (
        *DeferringOperator.template_fields,
        "start",
        "end",
        "on_retention",
        "suppress_path",
        "suppressed",
        "suppress_object_storage_conn_id",
    )

    def __init__(
        self,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        max_in_flight: int | None = None,
        page_rows: int = 49_999,
        settle: timedelta = timedelta(minutes=5),
        look_back: timedelta | None = None,
        verify_back: timedelta = timedelta(0),
        scan_back: timedelta | None = None,
        complete_after: timedelta | None = None,
        on_retention: OnRetention = "fail",
        **kwargs: Unpack[_IntervalOperatorRest],
    ) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.end = end
        self.max_in_flight = max_in_flight
        self.page_rows = page_rows
        self.settle = settle
        self.look_back = look_back
        self.verify_back = verify_back
        self.scan_back = scan_back
        self.complete_after = complete_after
        self.on_retention = on_retention

    def check_retention(self, source: Source, start: datetime | None, end: datetime) -> None:
        """Make sure that PostHog does not hide a part of what is about to be read.

        :param source: what is read.
        :param start: the first moment; ``None`` for a source that is read as a whole.
        :param end: the first moment after it.
        :raises PostHogIncompleteError: if it does, and ``on_retention`` is ``fail``.
        """
        if source.table == "events" or (source.is_query and source.time and reads_events(source.table)):
            self.retention_guard.check(start or EPOCH, end)
        elif reads_events(source.text):
            self.retention_guard.check_open()

    def check_reading(self) -> None:
        """Check what can be wrong with the arguments whatever is read.

        :raises PostHogSettingsError: if one cannot be used.
        """
        check_choice(self.on_retention)
        self.check_suppressed()
        for field in ("settle", "look_back", "verify_back"):
            length = getattr(self, field)
            if field == "look_back" and length is None:
                continue
            example = "timedelta(minutes=5)" if field == "settle" else "timedelta(days=2)"
            if not isinstance(length, timedelta) or length < timedelta(0):
                raise PostHogSettingsError(field, f"{length!r} is not a length of time.", f"Write {example}.")
        for field in ("settle", "look_back", "verify_back", "scan_back", "complete_after"):
            length = getattr(self, field)
            if isinstance(length, timedelta) and length > _LONGEST:
                raise PostHogSettingsError(field, f"{length!r} is longer than a hundred years.", "Write less.")
        check_at_once(self.max_in_flight)
        rows = self.page_rows
        if isinstance(rows, bool) or not isinstance(rows, int) or not 1 <= rows < MAX_ROWS:
            raise PostHogSettingsError(
                "page_rows",
                f"{rows!r:.60} is not a whole number from 1 to {MAX_ROWS - 1:,}.",
                "Write one, or leave it out.",
            )

    def looks_back(self, source: Source) -> timedelta:
        """Return how far before ``start`` rows are read again.

        :param source: what is read.
        :raises PostHogSettingsError: if it has no time.
        """
        for field in ("look_back", "verify_back"):
            if source.time is None and getattr(self, field):
                raise PostHogSettingsError(field, f"{source.name} is read as a whole.", "Leave it out.")
        return source.changes_for if self.look_back is None else self.look_back

    def left_out(
        self, source: Source, start: datetime | None, end: datetime | None, look_back: timedelta = timedelta(0)
    ) -> int | None:
        """Count what ``scan_back`` leaves out of what was read, and of the day, if the interval ends one; warn of it.

        :param source: what is read.
        :param start: the interval's start.
        :param end: its end.
        :param look_back: how far before it rows are read again.
        :returns: how many rows; ``None`` if they were not counted.
        """
        if source.scan_back is None or start is None or end is None or not ends_a_day(start, end):
            return None
        from airflow_provider_posthog.extract.left_out import count
        from airflow_provider_posthog.extract.windows import Window

        since = max(EPOCH, start - look_back)
        first = max(EPOCH, min(since, end - _DAY))  # of shorter intervals: what all those of the day leave out
        try:
            rows = count(self.reading_settings(), source, Window(first, end), since, end - start)
        except PostHogError as error:  # the rows are loaded
            self.log.warning("How many events scan_back leaves out could not be counted: %s", error)
            return None
        if rows:
            self.log.warning(
                "scan_back leaves out %s events that PostHog took in from %s to %s, as they happened longer before the "
                "load that was to bring them. To have them, load this time once more without scan_back",
                f"{rows:,}",
                *(f"{moment:%Y-%m-%dT%H:%M:%SZ}" for moment in (first, end)),
            )
        return rows


class ReadingArguments(IntervalArguments, total=False):
    """The arguments of :class:`ReadingOperator`, for an editor and a type checker."""

    source: str | None
    query: str | None
    key: str | Sequence[str] | None
    columns: Sequence[str] | Mapping[str, Any] | None
    events: str | Sequence[str] | None
    exclude_events: str | Sequence[str] | None
    cohort_id: int | str | None
    where: str | None
    values: Mapping[str, Any] | None
    time_column: str | None


class ReadingOperator(IntervalOperator):
    """Reads one of PostHog's tables, or a query, in bulk. Subclasses say where the rows go.

    :param source: ``events``, ``persons``, ``sessions``, ``groups``, ``person_distinct_ids``, ``cohort_members``,
        ``session_replays`` or ``feature_flag_calls``.
    :param query: a HogQL query instead, such as ``SELECT * FROM my_warehouse_table``; needs ``key``.
    :param key: for a query: the column, or columns, that tell its rows apart.
    :param columns: names, or HogQL by name (``{"browser": "properties.$browser"}``); default: those of the table.
    :param events: only events of this name, or these names.
    :param exclude_events: all events but those of this name, or these names.
    :param cohort_id: for ``cohort_members``: the cohort's number, for its members only.
    :param where: a HogQL condition.
    :param values: what the placeholders of ``where`` or of a query stand for.
    :param time_column: the time by which rows belong to the interval. For events ``created_at`` (default), when PostHog
        received them, so late ones are in later intervals, or ``timestamp``, when they happened. For persons
        ``created_at``, for those that were created in the interval; without it (default) all persons. (A person's
        ``created_at`` is the time of its first event, so no interval contains those that arrive late.) For a query one
        of its columns; without it all rows are read.
    :param kwargs: as :class:`IntervalOperator`.
    """

    template_fields: Sequence[str] = (
        *IntervalOperator.template_fields,
        "source",
        "query",
        "key",
        "columns",
        "events",
        "exclude_events",
        "cohort_id",
        "where",
        "values",
        "time_column",
    )

    def __init__(
        self,
        *,
        source: str | None = None,
        query: str | None = None,
        key: str | Sequence[str] | None = None,
        columns: Sequence[str] | Mapping[str, Any] | None = None,
        events: str | Sequence[str] | None = None,
        exclude_events: str | Sequence[str] | None = None,
        cohort_id: int | str | None = None,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        time_column: str | None = None,
        **kwargs: Unpack[IntervalArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.query = query
        self.key = key
        self.columns = columns
        self.events = events
        self.exclude_events = exclude_events
        self.cohort_id = cohort_id
        self.where = where
        self.values = values
        self.time_column = time_column
        check_one(source, query)

    def what(self, name: str | None = None, **instead: Any) -> Source:  # noqa: ANN401 - arguments
        """Return what is read.

        :param name: what to call a query.
        :param instead: arguments in place of the task's own.
        :raises PostHogSettingsError: if an argument is wrong.
        """
        self.check_reading()
        if self.values is not None and not isinstance(self.values, Mapping):
            raise PostHogSettingsError("values", "is not a mapping.", "Write a dictionary: {'name': value}.")
        try:
            json.dumps(self.values, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise PostHogSettingsError(
                "values",
                f"cannot be sent as JSON ({clean(error)}).",
                "Write texts, finite numbers and lists; times as ISO text, for toDateTime({name}).",
            ) from None
        fields = (
            "key", "columns", "events", "exclude_events", "cohort_id", "where", "values", "time_column", "scan_back",
            "complete_after",
        )  # fmt: skip
        given = {field: getattr(self, field) for field in fields}
        return source_of(self.source, self.query, name, **{**given, "time_column": self.time_column or None, **instead})


def ends_a_day(start: datetime, end: datetime) -> bool:
    """Tell whether an interval holds the last moment of a day (UTC); of intervals that follow one another one does.

    :param start: its start, in UTC.
    :param end: its end, in UTC.
    """
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    return start < midnight <= end


def need_arrow(operator: str) -> None:
    """Refuse to run without the packages that rows in bulk need.

    :param operator: the operator's name.
    :raises PostHogSettingsError: if one is not installed.
    """
    try:
        import orjson  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise PostHogSettingsError(
            operator, f"needs {error.name}.", "Install airflow-provider-posthog[warehouse]."
        ) from error
