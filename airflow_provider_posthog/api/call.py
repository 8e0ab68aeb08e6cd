"""An HTTP call to PostHog as a value: what to send, and how to read the answer.

One definition serves the blocking and the asynchronous client alike; nothing here opens a socket.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError, clean

T = TypeVar("T")
QueryValue = str | int | float | bool | Sequence[str] | None
Bucket = Literal["crud", "analytics", "query", "deletion"]
Paging = Literal["none", "offset", "cursor", "next"]

#: The most bytes of an answer, unpacked: several times the largest page of a query.
MAX_BYTES = 256 * 1024 * 1024
#: The same for answers that only report progress.
STATUS_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What a server answered.

    :param status: the HTTP status.
    :param headers: the headers, with lower-case names.
    :param body: the whole body.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Parse the body.

        :raises ValueError: if it is not JSON.
        """
        try:
            return json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def json_or_none(self) -> Any:  # noqa: ANN401 - JSON
        """Parse the body; ``None`` for what is not JSON (PostHog's 405 is empty, a proxy's 502 is HTML)."""
        try:
            return self.json()
        except ValueError:
            return None


@dataclass(frozen=True)
class Call(Generic[T]):
    """One call of PostHog's API.

    :param name: the endpoint's name in this package, such as ``exports.retrieve``; for logs.
    :param method: the HTTP method.
    :param path: relative to the project (``exports/42/``) or absolute (``/api/users/@me/``).
    :param read: turns a good answer into the value.
    :param query: the query string's parameters; ``None`` values are left out.
    :param json: the body.
    :param content: the body as bytes, in place of ``json``.
    :param headers: headers of this call.
    :param repeatable: whether it may be sent again when it is unknown if the first one did its work.
    :param scopes: the scopes that a personal API key needs for it.
    :param bucket: the server's limit it counts against: ``crud`` (480 a minute, 4800 an hour), ``analytics`` (240 a
        minute, 1200 an hour), ``query`` (three at once per project) or ``deletion`` (of persons: as ``crud``).
    :param read_timeout: seconds to wait for the answer, where that is more than the connection's; PostHog holds a
        request open while it calculates.
    :param reads_error: returns whether ``read`` takes an answer of status 400 or more as well, as PostHog
        reports a failed asynchronous query with 400 or 500.
    :param max_bytes: how large the answer may be, unpacked; what is larger is not read to its end. ``None``: no limit.
    :param no_slot: the ``code`` of the 429 that means that too many such jobs are running. A client's wait does not
        end that: it is raised at once, and whoever starts the job waits for a slot.
    :param paging: how the list goes on: ``none`` (the answer is whole), ``offset`` (``limit`` and ``offset``; rows
        shift while others are deleted), ``cursor`` (an opaque one) or ``next`` (only by the address in ``next``).
    """

    name: str
    method: str
    path: str
    read: Callable[[Answer], T]
    query: Mapping[str, QueryValue] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None
    repeatable: bool = True
    scopes: tuple[str, ...] = ()
    bucket: Bucket = "crud"
    reads_error: Callable[[Answer], bool] | None = None
    paging: Paging = "none"
    read_timeout: float | None = None
    max_bytes: int | None = MAX_BYTES
    content: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    no_slot: str | None = None

    def query_string(self) -> str:
        """Return the query string without ``?``; empty if there is none."""
        pairs: list[tuple[str, str]] = []
        for key, value in self.query.items():
            if value is None:
                continue
            if isinstance(value, (str, int, float)):
                pairs.append((key, _text(value)))
            else:
                pairs.extend((key, item) for item in value)
        return urlencode(pairs)


def _text(value: str | int | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def segment(value: object) -> str:
    """Make a value safe as one segment of a path.

    :param value: an id or a name.
    :raises PostHogSettingsError: for what would lead to another path: empty text, ``.`` and ``..``, which HTTP clients
        resolve (cancelling a query ``..`` would delete the project).
    """
    text = str(value)
    if text in ("", ".", ".."):
        raise PostHogSettingsError("id", f"is {text!r}, which is not an id.", "Write the id that PostHog gave.")
    return quote(text.encode("utf-8", "replace"), safe="@")


def json_object(answer: Answer) -> dict[str, Any]:
    """Read an answer that must be a JSON object.

    :raises PostHogTransportError: if it is anything else, such as a proxy's HTML page.
    """
    try:
        value = answer.json()
    except ValueError:
        kind = clean(answer.headers.get("content-type", "no content type").split(";")[0])
        raise PostHogTransportError(
            f"the answer (status {answer.status}, {kind}, {len(answer.body)} bytes) is not JSON: "
            "check that the connection's host is PostHog itself"
        ) from None
    if not isinstance(value, dict):
        raise PostHogTransportError(
            f"the answer (status {answer.status}) is a JSON {type(value).__name__}, not an object"
        )
    return value


def json_item(answer: Answer) -> dict[str, Any]:
    """Read an answer that must be one resource of PostHog's, such as an export: an object with an ``id``.

    :raises PostHogTransportError: if it is anything else, such as an error with status 200. What was to be created may
        then not exist.
    """
    item = json_object(answer)
    item_id = item.get("id")
    if isinstance(item_id, bool) or not isinstance(item_id, (int, str)) or not item_id:
        raise PostHogTransportError(f"the answer (status {answer.status}) is not what was asked for: it has no 'id'")
    return item


def json_holding(name: str, kind: type) -> Callable[[Answer], dict[str, Any]]:
    """Return a reader of objects that must have a field: a missing list is not the same as an empty one.

    :param name: the field.
    :param kind: its type: ``list``, ``dict`` or ``str``.
    """

    def read(answer: Answer) -> dict[str, Any]:
        document = json_object(answer)
        if not isinstance(document.get(name), kind):
            raise PostHogTransportError(
                f"the answer (status {answer.status}) is not what was asked for: it has no {kind.__name__} {name!r}"
            )
        return document

    return read


def json_page(answer: Answer) -> dict[str, Any]:
    """Read a page of a list: an object whose ``results`` is a list of objects.

    :raises PostHogTransportError: if it has another shape.
    """
    page = json_object(answer)
    results = page.get("results")
    if not isinstance(results, list) or not all(isinstance(item, dict) for item in results):
        raise PostHogTransportError(f"the answer (status {answer.status}) is not a page: it has no list 'results'")
    return page
