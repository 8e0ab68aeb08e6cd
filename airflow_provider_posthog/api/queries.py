"""Queries: HogQL and query nodes (``/api/projects/{id}/query/``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic, Literal, TypedDict, TypeVar, cast

from airflow_provider_posthog.api.byte_budget import BudgetHeaders
from airflow_provider_posthog.api.call import Answer, Call, json_object
from airflow_provider_posthog.api.endpoint import endpoint
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogTransportError

Refresh = Literal[
    "blocking", "async", "force_blocking", "force_async", "force_cache", "lazy_async", "async_except_on_cache_miss"
]

T = TypeVar("T")

#: The rows that PostHog returns when a SELECT has no LIMIT, and the most it ever returns (it cuts silently).
DEFAULT_ROWS = 100
MAX_ROWS = 50_000


class QueryStatus(TypedDict, total=False):
    """The state of an asynchronous query; ``results`` is the whole :class:`QueryAnswer`.

    ``bytes_read`` is the number of bytes that ClickHouse read for it, if the headers of its last answer say so.
    """

    id: str
    complete: bool
    error: bool
    error_message: str | None
    results: dict[str, Any] | None
    start_time: str | None
    expiration_time: str | None
    bytes_read: int


@dataclass(frozen=True)
class Metered(Generic[T]):
    """A value, and what the headers of its answer report about the project's byte budget.

    :param value: the value.
    :param bytes_read: bytes that ClickHouse has read for the query; ``None`` if the server does not say.
    :param remaining: bytes that are left, below zero after a query that took more; ``None`` if it does not say.
    """

    value: T
    bytes_read: int | None
    remaining: int | None


def metered(call: Call[T]) -> Call[Metered[T]]:
    """Make a call whose value carries what its answer reports about the project's byte budget.

    :param call: a call of ``query/``.
    """

    def read(answer: Answer) -> Metered[T]:
        return Metered(call.read(answer), *BudgetHeaders.by(answer))

    return cast("Call[Metered[T]]", replace(call, read=read))  # type: ignore[arg-type]


class QueryAnswer(TypedDict, total=False):
    """The answer to a query; while it runs asynchronously only ``query_status`` is there."""

    results: Any  # rows as lists; of other nodes than HogQL objects, or one object
    columns: list[str]
    types: Any  # for HogQL, pairs of a column's name and type; readers ignore what they do not understand
    hasMore: bool | None
    limit: int | None
    is_cached: bool
    last_refresh: str | None
    timezone: str
    query_status: QueryStatus | None


def hogql(sql: str, values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make the query node for HogQL text.

    :param sql: HogQL, with ``{name}`` for each value; no semicolon at the end.
    :param values: the values, never formatted into the text.
    """
    node: dict[str, Any] = {"kind": "HogQLQuery", "query": sql}
    if values:
        node["values"] = dict(values)
    return node


#: Kinds whose ``hasMore`` means further values of a breakdown: the answer is whole, with its "Other".
_PARTED = frozenset(
    {
        *("TrendsQuery", "LifecycleQuery", "StickinessQuery", "FunnelsQuery", "RetentionQuery", "PathsQuery"),
        *("CalendarHeatmapQuery", "FunnelCorrelationQuery"),
    }
)


def more_rows(kind: object) -> bool:
    """Return whether ``hasMore`` in an answer means that rows are missing; for trends it means more breakdown values.

    :param kind: the kind of the query.
    """
    return kind not in _PARTED


def placeholders(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a query node's placeholders, by name; those of variables as ``variables.name``.

    :param node: the query node, with ``values`` and ``variables``.
    """
    values, variables = node.get("values"), node.get("variables")
    named: dict[str, Any] = {str(name): value for name, value in values.items()} if isinstance(values, Mapping) else {}
    for variable in variables.values() if isinstance(variables, Mapping) else ():
        if isinstance(variable, Mapping):
            named[f"variables.{variable.get('code_name')}"] = variable.get("value")
    return named


@endpoint("POST", "query/", scopes=("query:read",), bucket="query", repeatable=True)
def start(
    query: Mapping[str, Any],
    *,
    refresh: Refresh = "force_blocking",
    client_query_id: str | None = None,
    name: str | None = None,
) -> Call[QueryAnswer]:
    """Run a query, or start it (``force_async``, then :func:`status`).

    The default requests fresh rows: PostHog's own default answers from a cache. A query only reads, so it may be
    repeated.

    :param query: a query node, such as :func:`hogql` makes.
    :param refresh: PostHog's ``refresh``; another word than these would silently mean "from the cache".
    :param client_query_id: the id by which it is polled and cancelled.
    :param name: what PostHog's ``query_log`` shows, at most 128 characters.
    """
    body: dict[str, Any] = {"query": dict(query), "refresh": refresh}
    if client_query_id:
        body["client_query_id"] = client_query_id
    if name:
        body["name"] = name[:128]
    return start.call(json_object, json=body)


def _has_status(answer: Answer) -> bool:
    body = answer.json_or_none()
    return isinstance(body, dict) and isinstance(body.get("query_status"), dict)


def _status(answer: Answer) -> QueryStatus:
    status = json_object(answer).get("query_status")
    if not isinstance(status, dict):
        raise PostHogTransportError(f"the answer (status {answer.status}) has no 'query_status'")
    read = BudgetHeaders.by(answer).read
    if read is not None and status.get("complete"):
        status["bytes_read"] = read
    return status  # type: ignore[return-value]


@endpoint("GET", "query/{id}/", scopes=("query:read",))
def status(query_id: str, *, show_progress: bool = False) -> Call[QueryStatus]:
    """Poll an asynchronous query. PostHog forgets it 20 minutes after its last change (404).

    A failed query is answered with 400 or 500 and a body like a good one; it is read, not raised.

    :param query_id: ``query_status.id``, which is the ``client_query_id`` if one was given.
    :param show_progress: ask for ``query_progress`` too.
    """
    query = {"show_progress": show_progress or None}
    return status.call(_status, query=query, reads_error=_has_status, id=query_id)


def started_at(query_status: QueryStatus) -> float:
    """Return when a query was started, in seconds since 1970 by the server's clock; 0 if that cannot be read.

    :param query_status: the value of :func:`status`.
    """
    started = moment(query_status.get("start_time"))
    return started.timestamp() if started is not None else 0.0


@endpoint("DELETE", "query/{id}/", scopes=("query:read",))
def cancel(query_id: str, *, dequeue_only: bool = False) -> Call[None]:
    """Cancel an asynchronous query and forget its result.

    :param query_id: as in :func:`status`.
    :param dequeue_only: leave it alone if it runs already.
    """
    return cancel.call(lambda answer: None, query={"dequeue_only": dequeue_only or None}, id=query_id)
