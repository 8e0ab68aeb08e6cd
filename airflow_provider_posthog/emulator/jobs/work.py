"""A query node and what it runs with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from airflow_provider_posthog.emulator.data.warehouse import QueryResult, Warehouse
from airflow_provider_posthog.emulator.hogql.translate import Floor
from airflow_provider_posthog.emulator.http.envelopes import Json


@dataclass
class Meter:
    """What ClickHouse has read for a query node.

    :param bytes_read: uncompressed bytes of its tables.
    """

    bytes_read: int = 0


@dataclass(frozen=True)
class Work:
    """A query node and what it runs with.

    :param warehouse: where the data is.
    :param node: the query without wrappers.
    :param now: the server's time; relative dates count from it.
    :param context: ``query`` or ``export`` (other limits of rows).
    :param personal: whether a personal API key asks directly, which forbids OFFSET.
    :param hidden_months: after how many months events are hidden; ``None`` for never.
    :param without: tables that the server does not have.
    :param meter: notes what ClickHouse reads for it.
    """

    warehouse: Warehouse
    node: Json
    now: datetime
    context: str = "query"
    personal: bool = True
    hidden_months: int | None = None
    without: frozenset[str] = frozenset()
    meter: Meter = field(default_factory=Meter)

    def hogql(self, text: str, values: Mapping[str, object] | None = None) -> QueryResult:
        """Run HogQL in this context.

        :param text: the HogQL.
        :param values: for its placeholders.
        :raises HogQLError: when HogQL refuses it or ClickHouse fails.
        """
        floor = None if self.hidden_months is None else Floor(self.hidden_months, self.now)
        result = self.warehouse.query(
            text,
            values,
            limit_context=self.context,
            personal_api_key=self.personal,
            floor=floor,
            without=self.without,
        )
        self.meter.bytes_read += result.bytes_read
        return result
