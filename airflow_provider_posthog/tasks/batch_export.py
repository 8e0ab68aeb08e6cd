"""What the tasks of batch exports share: which export is meant, and what its runs say."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import batch_exports
from airflow_provider_posthog.api.arguments import is_uuid, nearest
from airflow_provider_posthog.api.export_intervals import Interval
from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogSettingsError, clean

if TYPE_CHECKING:
    from airflow_provider_posthog.api.clients import Client


def find(client: Client, wanted: object) -> batch_exports.BatchExport:
    """Find a batch export.

    :param client: the client.
    :param wanted: its UUID or its name.
    :raises PostHogSettingsError: if there is none of that name, or there are several.
    """
    text = wanted.strip() if isinstance(wanted, str) else ""
    if not text:
        raise PostHogSettingsError("batch_export", "is not text.", "Write the batch export's UUID or its name.")
    if is_uuid(text):
        try:
            return client.send(batch_exports.retrieve(text))
        except PostHogNotFoundError as error:
            raise PostHogSettingsError(
                "batch_export", f"PostHog knows no {text}.", "Write the UUID that its page in PostHog shows."
            ) from error
    exports = [export for export in client.pages(batch_exports.list()) if export.get("name")]
    named = [export for export in exports if export["name"] == text]
    named = named or [export for export in exports if _same_text(str(export["name"])) == _same_text(text)]
    if len(named) == 1:
        return client.send(batch_exports.retrieve(str(named[0]["id"])))
    shown = clean(text)[:60]
    if named:
        raise PostHogSettingsError("batch_export", f"{len(named)} are named {shown!r}.", "Write the UUID of one.")
    near = nearest(text, [str(export["name"]) for export in exports])
    raise PostHogSettingsError("batch_export", f"there is no {shown!r}.{near}", "Write its UUID or its exact name.")


def _same_text(name: str) -> str:
    """Return a name without what cannot be seen in it: spaces at its ends, how its accents are composed."""
    return unicodedata.normalize("NFC", name.strip())


def runs_between(client: Client, export_id: str, start: datetime, end: datetime) -> Iterator[Mapping[str, Any]]:
    """Yield the runs whose interval lies in a range, whatever their age.

    :param client: the client.
    :param export_id: the batch export's UUID.
    :param start: the first moment.
    :param end: the first moment after it.
    """
    yield from client.pages(batch_exports.runs(export_id, start=start, end=end, ordering="data_interval_start"))


def window_of(request: Mapping[str, Any]) -> Interval:
    """Return the range of a request.

    :param request: with ``start`` and ``end``, as ISO text.
    """
    return datetime.fromisoformat(request["start"]), datetime.fromisoformat(request["end"])


def describe(interval: Interval) -> str:
    """Write an interval for a log.

    :param interval: start and end.
    """
    first, last = (edge.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") for edge in interval)
    return f"{first} to {last}"


def summary(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a task returns about a run.

    :param run: PostHog's run.
    """
    start, end = batch_exports.interval_of(run)
    return {
        "id": str(run.get("id")),
        "start": start.isoformat() if start is not None else None,
        "end": end.isoformat() if end is not None else None,
        "status": str(run.get("status")),
        "rows": count_in(run, "records_completed"),
        "bytes": count_in(run, "bytes_exported"),
    }


def failed_records(run: Mapping[str, Any]) -> int:
    """Return how many records of a run failed; 0 where the server does not say.

    :param run: PostHog's run.
    """
    return count_in(run, "records_failed") or 0


def count_in(run: Mapping[str, Any], name: str) -> int | None:
    """Return a count of a run; ``None`` where PostHog does not tell it, which is not 0.

    :param run: PostHog's run.
    :param name: the count's name.
    """
    value = run.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
