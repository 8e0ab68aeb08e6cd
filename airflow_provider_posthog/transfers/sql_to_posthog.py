"""Rows of an SQL database into PostHog, each proved to be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.tasks.into_posthog import IntoPostHogOperator

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.capture.events import Reader, Recipe
    from airflow_provider_posthog.tasks.arguments import IntoPostHogArguments


class PostHogFromSqlOperator(IntoPostHogOperator):
    """Loads the rows of a SELECT into PostHog as events, persons or groups, and proves that each is there.

    Rows are read through a server-side cursor, so memory stays flat, however many there are. A retry reads them again
    and sends those that no earlier try has sent. So the statement must return the same rows each time, as one over the
    run's data interval does.

    .. code-block:: python

        PostHogFromSqlOperator(
            task_id="orders",
            sql_conn_id="warehouse",
            sql="SELECT id, customer, placed_at, total FROM orders"
            " WHERE placed_at >= '{{ data_interval_start }}' AND placed_at < '{{ data_interval_end }}'",
            event="order placed",
            distinct_id="customer",
            timestamp="placed_at",
            key=["id"],
        )

    :param sql_conn_id: the database's connection.
    :param sql: one SELECT.
    :param parameters: its values, as the database's driver takes them.
    :param kwargs: as :class:`~airflow_provider_posthog.tasks.into_posthog.IntoPostHogOperator`: ``kind``, ``event`` or
        ``event_column``, ``distinct_id``, ``timestamp``, ``key`` and ``properties`` say what a row becomes;
        ``quiet_period``, ``poll_interval``, ``timeout`` and ``deferrable`` how long to wait for all to be there;
        ``rejects_path``, ``rejects_table`` and ``max_rejects`` what becomes of those that are not;
        ``historical_migration``, ``oldest_first`` and ``events_per_second`` how they are sent.
    :returns: ``rows``, ``sent``, ``sent_before``, ``duplicates``, ``kept``, ``warned`` (numbers), ``rejected`` (numbers
        by reason), ``resent``, ``rejects_path``, ``seconds``.
    :raises PostHogSettingsError: if an argument or a column is wrong; nothing was sent.
    :raises PostHogLoadError: if the database refuses the statement.
    :raises PostHogIncompleteError: if more rows than ``max_rejects`` are not in PostHog.
    """

    template_fields: Sequence[str] = (*IntoPostHogOperator.template_fields, "sql_conn_id", "sql", "parameters")
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own form
        **IntoPostHogOperator.template_fields_renderers,
        "sql": "sql",
        "parameters": "json",
    }

    def __init__(
        self,
        *,
        sql_conn_id: str,
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        **kwargs: Unpack[IntoPostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.sql = sql
        self.parameters = parameters

    def request(self) -> Mapping[str, Any]:
        """Return what is loaded."""
        return {"sql_conn_id": self.sql_conn_id, "sql": self.sql, "parameters": self.parameters}

    def rows(self, recipe: Recipe, at: datetime) -> Any:  # noqa: ANN401 - a context manager of a reader and rows
        """Run the statement.

        :param recipe: how its rows become events.
        :param at: the time of those that have none.
        """
        from airflow_provider_posthog.hooks.sql_rows import rows_of

        return _read(rows_of(self.sql_conn_id, self.sql, self.parameters), recipe, at)


@contextmanager
def _read(
    opened: Any,  # noqa: ANN401 - a context manager of columns and rows
    recipe: Recipe,
    at: datetime,
) -> Iterator[tuple[Reader, Iterator[Any]]]:
    with opened as (columns, rows):
        yield recipe.reader(columns, at.astimezone(timezone.utc)), rows
