"""Read PostHog's lists as tables: feature flags, experiments, annotations and the like, page by page from its API.

A list is read as a whole. It has a column for each field that all servers know, and ``data``: the whole object as JSON,
with the additional fields of newer servers. Deleted objects are missing; a merge with ``deleted=`` notices that.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from types import TracebackType
from typing import Any

import pyarrow as pa  # noqa: TID253 - this module is imported when a task runs

from airflow_provider_posthog.api.call import Call, json_page
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogIncompleteError
from airflow_provider_posthog.extract.cells import EPOCH
from airflow_provider_posthog.extract.chunks import Chunk
from airflow_provider_posthog.extract.query_client import Stopped
from airflow_provider_posthog.extract.reader import Extraction, Progress
from airflow_provider_posthog.extract.sources import Source
from airflow_provider_posthog.extract.windows import Window

_TIME = pa.timestamp("us", "UTC")
_TIMES = {"created_at": _TIME, "updated_at": _TIME}
_TEXT, _FLAG = pa.string(), pa.bool_()
#: The columns of each list, by the path of the list; texts of JSON where PostHog has an object.
COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "actions": {"id": pa.int64(), "name": _TEXT, "description": _TEXT, "steps": _TEXT, "tags": _TEXT, **_TIMES},
    "annotations": {
        "id": pa.int64(),
        "content": _TEXT,
        "date_marker": _TIME,
        "scope": _TEXT,
        "dashboard_item": _TEXT,
        **_TIMES,
    },
    "cohorts": {
        "id": pa.int64(),
        "name": _TEXT,
        "is_static": _FLAG,
        "count": pa.int64(),
        "last_calculation": _TIME,
        "filters": _TEXT,
        "query": _TEXT,
        "created_at": _TIME,
    },
    "dashboards": {"id": pa.int64(), "name": _TEXT, "description": _TEXT, "pinned": _FLAG, "tags": _TEXT, **_TIMES},
    "event_definitions": {
        "id": _TEXT,
        "name": _TEXT,
        "description": _TEXT,
        "verified": _FLAG,
        "tags": _TEXT,
        "last_seen_at": _TIME,
        **_TIMES,
    },
    "experiments": {
        "id": pa.int64(),
        "name": _TEXT,
        "description": _TEXT,
        "feature_flag_key": _TEXT,
        "start_date": _TIME,
        "end_date": _TIME,
        "archived": _FLAG,
        "metrics": _TEXT,
        "metrics_secondary": _TEXT,
        "conclusion": _TEXT,
        **_TIMES,
    },
    "feature_flags": {
        "id": pa.int64(),
        "key": _TEXT,
        "name": _TEXT,
        "active": _FLAG,
        "filters": _TEXT,
        "version": pa.int64(),
        **_TIMES,
    },
    "insights": {
        "id": pa.int64(),
        "short_id": _TEXT,
        "name": _TEXT,
        "description": _TEXT,
        "query": _TEXT,
        "dashboards": _TEXT,
        "tags": _TEXT,
        "created_at": _TIME,
        "last_modified_at": _TIME,
    },
    "property_definitions": {
        "id": _TEXT,
        "type": _TEXT,
        "group_type_index": pa.int64(),
        "name": _TEXT,
        "property_type": _TEXT,
        "is_numerical": _FLAG,
        "tags": _TEXT,
    },
    "surveys": {
        "id": _TEXT,
        "name": _TEXT,
        "type": _TEXT,
        "questions": _TEXT,
        "start_date": _TIME,
        "end_date": _TIME,
        "archived": _FLAG,
        "created_at": _TIME,
    },
}
#: Lists that PostHog shows in parts, by what asks for each: without it, that of properties has those of events only.
_PARTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "property_definitions": (
        {"type": "event"},
        {"type": "person"},
        *({"type": "group", "group_type_index": index} for index in range(5)),
    )
}
_PAGE, _ROWS = 200, 1_000
#: How often a list is read again if its length has changed at the end.
_TRIES = 3


@dataclass(frozen=True)
class ListSource(Source):
    """A list as a source."""


def list_source(kind: str) -> ListSource:
    """Return a list as a source.

    :param kind: a key of :data:`COLUMNS`.
    """
    return ListSource(kind, kind, {}, "id")


def extraction_of(source: Source) -> type[Extraction]:
    """Return the class that reads a source.

    :param source: the source.
    """
    return ListExtraction if isinstance(source, ListSource) else Extraction


class ListExtraction(Extraction):
    """Reads a list, with the interface of :class:`~.reader.Extraction`.

    :param settings: where the project is, and with which key.
    :param source: the list.
    :param start: not used: a list has no time.
    :param end: not used.
    :param on_progress: is called after each chunk was taken.
    :param of_queries: options for reading queries; not used, as a list is read page by page.
    """

    def __init__(
        self,
        settings: ClientSettings,
        source: Source,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        **of_queries: object,
    ) -> None:
        del start, end, of_queries
        self.source = source
        self.window = Window(EPOCH, datetime.now(timezone.utc))
        self._schema = pa.schema([*COLUMNS[source.name].items(), ("data", pa.string())])
        self._progress = Progress(0, 0, 0, 0, 0, 0.0)
        self._client = Client(settings)
        self._on_progress = on_progress or (lambda progress: None)
        self._closed = False

    def __enter__(self) -> ListExtraction:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def schema(self) -> pa.Schema:
        """The columns of all chunks."""
        return self._schema

    @property
    def settled_at(self) -> datetime:
        """When it can be read without waiting: at once."""
        return self.window.end

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._client.close()

    def __iter__(self) -> Iterator[Chunk]:
        """Yield all rows, once it is certain that none is missing.

        :raises PostHogIncompleteError: if the list changes each time that it is read.
        :raises PostHogError: if PostHog cannot be asked.
        """
        began = time.monotonic()
        left = iter([{**part, **item} for part in _PARTS.get(self.source.name, ({},)) for item in self._items(part)])
        while items := list(islice(left, _ROWS)):
            table = pa.Table.from_pylist([self._row(item) for item in items], self._schema)
            done = self._progress
            rows, seconds = done.rows + len(items), time.monotonic() - began
            self._progress = Progress(done.windows + 1, rows, rows, 0, 0, seconds)
            yield Chunk(self.window, table, len(items), len(items), 0, None)
            self._on_progress(self._progress)

    def _items(self, part: Mapping[str, Any]) -> list[dict[str, Any]]:
        for _ in range(_TRIES):
            items = []
            for item in self._client.pages(self._call(_PAGE, part)):
                if self._closed:
                    raise Stopped
                items.append(item)
            count = self._client.send(self._call(1, part)).get("count")
            if not isinstance(count, int) or count == len(items):
                return items
        raise PostHogIncompleteError(
            f"PostHog's list of {self.source.name} has {count:,} entries, and {len(items):,} were read, {_TRIES} times."
        )

    def _call(self, limit: int, part: Mapping[str, Any]) -> Call[Any]:
        kind = self.source.name
        scope = {"insights": "insight", "dashboards": "dashboard"}.get(kind, kind.removesuffix("s"))
        query = {"limit": limit, "basic": "true" if kind == "insights" else None, **part}
        return Call(
            f"{kind}.list", "GET", f"{kind}/", json_page, query=query, scopes=(f"{scope}:read",), paging="offset"
        )

    def _row(self, item: Mapping[str, Any]) -> dict[str, Any]:
        row = {name: _cell(item.get(name), kind) for name, kind in COLUMNS[self.source.name].items()}
        return {**row, "data": json.dumps(item, ensure_ascii=False)}


def _cell(value: Any, kind: pa.DataType) -> Any:  # noqa: ANN401 - of the column's type
    if value is None:
        return None
    if kind == _TIME:
        return moment(value) if isinstance(value, str) else None
    if kind == _TEXT:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if kind == _FLAG:
        return bool(value)
    return int(value) if str(value).lstrip("-").isdecimal() else None
