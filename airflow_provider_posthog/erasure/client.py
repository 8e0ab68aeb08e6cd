"""The client of an erasure: it counts its calls, and its errors hold no personal data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow_provider_posthog.api import queries
from airflow_provider_posthog.api.answers import Kind, typed_rows
from airflow_provider_posthog.api.byte_budget import ByteBudget
from airflow_provider_posthog.api.steps import Steps, run
from airflow_provider_posthog.erasure.queries import ask_all
from airflow_provider_posthog.erasure.redaction import redact
from airflow_provider_posthog.exceptions import PostHogError
from airflow_provider_posthog.results.answer import Question, read

if TYPE_CHECKING:
    from airflow_provider_posthog.api.call import Call
    from airflow_provider_posthog.api.clients import Client
    from airflow_provider_posthog.api.retry import RetryPolicy
    from airflow_provider_posthog.api.settings import ClientSettings

T = TypeVar("T")


class ErasureClient:
    """Sends the calls of an erasure.

    :param client: the connection's client; its owner closes it.
    :ivar calls: how many calls were sent, by endpoint.
    :ivar unknown_tables: tables that the server has said it does not have, so that it is asked once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read_before = ByteBudget.of(client.settings).bytes_read
        self.calls: Counter[str] = Counter()
        self.unknown_tables: set[str] = set()

    @property
    def settings(self) -> ClientSettings:
        """Where the project is."""
        return self._client.settings

    @property
    def bytes_read(self) -> int:
        """Bytes that ClickHouse has read for this process's queries since this client was made, as PostHog reports."""
        return ByteBudget.of(self.settings).bytes_read - self._read_before

    def send(self, call: Call[T], *, policy: RetryPolicy | None = None) -> T:
        """Send a call and return its value.

        :param call: the call.
        :param policy: how patient to be, in place of the connection's.
        :raises PostHogError: without PostHog's own text.
        """
        self.calls[call.name] += 1
        try:
            return self._client.send(call, policy=policy)
        except PostHogError as error:
            redact(error)
            raise

    def run(self, steps: Steps[T]) -> T:
        """Execute steps that are shared with the triggerer.

        :param steps: the steps.
        """
        return run(steps, cast("Client", self))

    def rows(self, sql: str, values: Mapping[str, Any], *kinds: Kind) -> list[list[Any]]:
        """Run HogQL and return all of its rows, freshly calculated.

        :param sql: the statement, without its LIMIT, and with a ``{name}`` for each value.
        :param values: the values; personal data goes nowhere else.
        :param kinds: what each column holds.
        :raises PostHogIncompleteError: if the rows were cut.
        :raises PostHogJobFailed: if it failed, or came from a cache.
        :raises PostHogTransportError: if the rows are of another shape.
        """
        question = ask_all(f"{sql} LIMIT {queries.MAX_ROWS}", values)
        return typed_rows(_rows_in(self.send(_call(question, values)), question), kinds)

    def rows_of(self, statement: str, values: Mapping[str, Any] | None = None) -> list[list[Any]]:
        """Run a whole statement and return all of its rows, freshly calculated.

        :param statement: the statement with its LIMIT, which the rows must not reach: persons left out are not erased.
        :param values: the values.
        :raises PostHogSettingsError: if a cut of its rows could not be noticed; nothing is sent.
        :raises PostHogIncompleteError: if the rows were cut, or reach a LIMIT.
        :raises PostHogJobFailed: if it failed, or came from a cache.
        """
        question = ask_all(statement, values)
        return _rows_in(self.send(_call(question, values)), question)


def _call(question: Question, values: Mapping[str, Any] | None) -> Call[Any]:
    return queries.start(queries.hogql(question.sql, values), refresh="force_blocking")


def _rows_in(answer: object, question: Question) -> list[list[Any]]:
    rows: list[list[Any]] = read(answer, question, shows_reason=False).whole().rows
    return rows
