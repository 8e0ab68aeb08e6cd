"""What operators share that read rows in bulk: the arguments that say what is read, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.operators.base import PostHogOperator
from airflow_provider_posthog.transfers.source import source_of

if TYPE_CHECKING:
    from airflow_provider_posthog.extract.sources import Source


class ReadingOperator(PostHogOperator):
    """Reads a table or a query in bulk. Subclasses say where the rows go.

    :param table: ``events``, ``persons``, ``sessions``, ``groups`` or ``cohort_members``.
    :param hogql: a HogQL query in its place, with ``key`` and perhaps ``time``.
    :param key: of the query: HogQL that tells its rows apart.
    :param time: of the query: the column of time that the interval goes by.
    :param cohort_id: of ``cohort_members``.
    :param columns: names, or HogQL by name.
    :param event: only events of this name, or these names.
    :param where: a HogQL condition.
    :param values: what placeholders stand for.
    :param by: the time that the interval goes by.
    :param in_flight: how many windows are read side by side.
    :param page_rows: the most rows of a window.
    :param settle: how long rows take until queries see them.
    """

    def __init__(
        self,
        *,
        table: str | None = None,
        hogql: str | None = None,
        key: str | None = None,
        time: str | None = None,
        cohort_id: int | None = None,
        columns: Sequence[str] | Mapping[str, str] | None = None,
        event: str | Sequence[str] | None = None,
        where: str | None = None,
        values: Mapping[str, Any] | None = None,
        by: Literal["created_at", "timestamp"] | None = None,
        in_flight: int = 3,
        page_rows: int = 10_000,
        settle: timedelta = timedelta(minutes=5),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.table = table
        self.hogql = hogql
        self.key = key
        self.time = time
        self.cohort_id = cohort_id
        self.columns = columns
        self.event = event
        self.where = where
        self.values = values
        self.by = by
        self.in_flight = in_flight
        self.page_rows = page_rows
        self.settle = settle

    def source(self, name: str | None) -> Source:
        """Return what is read.

        :param name: what to call a query.
        :raises PostHogSettingsError: if an argument is wrong.
        """
        if not isinstance(self.settle, timedelta) or self.settle < timedelta(0):
            raise PostHogSettingsError(
                "settle", f"{self.settle!r} is no length of time.", "Write timedelta(minutes=5)."
            )
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
