"""What operators share that read rows in bulk: the arguments that say what is read, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.base import PostHogOperator
from airflow_provider_posthog.transfers.lineage import LineageMixin
from airflow_provider_posthog.transfers.source import source_of

if TYPE_CHECKING:
    from airflow_provider_posthog.extract.sources import Source


class IntervalOperator(LineageMixin, PostHogOperator):
    """Reads an interval's rows in bulk. Subclasses say of what, and where the rows go.

    :param columns: names, or HogQL by name (``{"browser": "properties.$browser"}``); default: those of the table.
    :param event: only events of this name, or these names.
    :param where: a HogQL condition.
    :param values: what the placeholders of ``where`` or of a query stand for.
    :param by: the column of the time by which rows belong to the interval. Of events ``created_at`` (default), when
        PostHog took them in, so that no late event is missed, or ``timestamp``, when they happened. Of persons
        ``created_at``, for those that were created in the interval; without it all there are.
    :param start: from when, as a time with an offset or ISO text; default: the run's data interval.
    :param end: until when; not in the future.
    :param in_flight: how many windows are read side by side; PostHog runs three queries of a project at once.
    :param page_rows: the most rows of a window, up to 49,999; fewer are asked for where rows are long or slow.
    :param settle: how long rows take until queries see them; what is younger is waited for. A timedelta.
    :param look_back: read what came late before ``start`` again; for ``by="timestamp"``. A timedelta.
    :param verify_back: count the intervals before ``start`` again, as far back as this, and read again those that have
        other rows in PostHog than they were written with. A timedelta.
    :param kwargs: as :class:`~airflow_provider_posthog.operators.base.PostHogOperator`.
    """

    def __init__(
        self,
        *,
        columns: Sequence[str] | Mapping[str, str] | None = None,
        event: str | Sequence[str] | None = None,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        by: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        in_flight: int = 3,
        page_rows: int = 10_000,
        settle: timedelta = timedelta(minutes=5),
        look_back: timedelta = timedelta(0),
        verify_back: timedelta = timedelta(0),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.columns = columns
        self.event = event
        self.where = where
        self.values = values
        self.by = by
        self.start = start
        self.end = end
        self.in_flight = in_flight
        self.page_rows = page_rows
        self.settle = settle
        self.look_back = look_back
        self.verify_back = verify_back

    def check_reading(self) -> None:
        """Check what can be wrong with the arguments whatever is read.

        :raises PostHogSettingsError: if one can not be used.
        """
        examples = {
            "settle": "timedelta(minutes=5)", "look_back": "timedelta(days=2)", "verify_back": "timedelta(days=2)"
        }  # fmt: skip
        for field, example in examples.items():
            length = getattr(self, field)
            if not isinstance(length, timedelta) or length < timedelta(0):
                raise PostHogSettingsError(field, f"{length!r} is no length of time.", f"Write {example}.")
        for field in ("in_flight", "page_rows"):
            number = getattr(self, field)
            if isinstance(number, bool) or not isinstance(number, int):
                raise PostHogSettingsError(field, f"{number!r} is no whole number.", "Write one, or leave it out.")
        if self.values is not None and not isinstance(self.values, Mapping):
            raise PostHogSettingsError("values", "is no mapping.", "Write a dictionary: {'name': value}.")


class ReadingOperator(IntervalOperator):
    """Reads a table or a query in bulk. Subclasses say where the rows go.

    :param table: ``events``, ``persons``, ``sessions``, ``groups`` or ``cohort_members``.
    :param hogql: a HogQL query in its place, such as ``SELECT * FROM my_warehouse_table``; needs ``key``.
    :param key: of the query: the column, or HogQL, that tells its rows apart.
    :param time: of the query: the column of time by which rows belong to the interval; without it all rows are read.
    :param cohort_id: of ``cohort_members``: the cohort's number.
    :param kwargs: as :class:`IntervalOperator`.
    """

    lineage_reads_files = True  # the manifest has the columns

    def __init__(
        self,
        *,
        table: str | None = None,
        hogql: str | None = None,
        key: str | None = None,
        time: str | None = None,
        cohort_id: int | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.hogql = hogql
        self.key = key
        self.time = time
        self.cohort_id = cohort_id

    def source(self, name: str | None) -> Source:
        """Return what is read.

        :param name: what to call a query.
        :raises PostHogSettingsError: if an argument is wrong.
        """
        self.check_reading()
        asked = ("key", "time", "cohort_id", "columns", "event", "where", "values", "by")
        return source_of(self.table, self.hogql, name, **{field: getattr(self, field) for field in asked})


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
