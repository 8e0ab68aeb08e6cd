"""What every task's log says at its start and at its end, whatever the task does.

At the start one line: what is done, with what, and where in PostHog. At the end one line: what came of it, after how
many seconds. Both name places and numbers, never queries, identifiers or values of rows.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from airflow_provider_posthog.compat import first_poke_of
from airflow_provider_posthog.patterns import pattern

#: The arguments that say on what a task works, with how a line names each.
_WHAT = (
    *(("source", ""), ("model", ""), ("dashboard", "dashboard "), ("insight", "insight "), ("export_id", "export ")),
    *(("batch_export", "batch export "), ("run_id", "run "), ("cohort_id", "cohort "), ("flag", "feature flag ")),
    *(("experiment_id", "experiment "), ("endpoint", "endpoint "), ("view", "view "), ("kind", "")),
    *(("event", "event "), ("group_type", "group type "), ("ticket", "ticket "), ("call", "")),
)
#: The arguments that say where it reads from or writes to, beside PostHog.
_PLACES = (("table", "table "), ("sql_conn_id", "connection "), ("path", ""), ("combined_path", ""))
#: Where PostHog shows what an argument names.
_PAGES = (("dashboard", "dashboard"), ("cohort_id", "cohorts"), ("experiment_id", "experiments"))
#: What a line may show as it is: a name, a number, an address. A query or a list of identifiers is none.
_PLAIN = pattern(r"[\w .:/{}*$=+-]{1,200}")
#: ``user:password@`` in the address of a bucket.
_USER = pattern(r"(?<=://)[^/@]*@")
#: The numbers of a task's result, as far as they mean the same in each task.
_COUNTS = {
    **{"rows": "rows", "row_count": "rows", "kept": "events", "events": "events", "members": "members"},
    **{"inserted": "inserted", "updated": "updated", "deleted": "deleted", "duplicates": "duplicates"},
    **{"refreshed": "insights", "failed": "failed", "files": "files", "bytes": "bytes", "rejected": "rejected"},
    **{"run_count": "runs", "persons": "persons"},
}


def counted(number: int | str, what: str) -> str:
    """Return a number with what it counts, in the singular or the plural.

    :param number: how many; a text for a number that is not known, such as ``?``.
    :param what: of what, in the singular.
    """
    text = f"{number:,}" if isinstance(number, int) else str(number)
    return f"{text} {what}" if number == 1 else f"{text} {what}s"


def shown(value: object) -> str | None:
    """Return a value as a line may show it; ``None`` if it may not, or there is nothing to show.

    :param value: an argument of a task, or a part of its result.
    """
    if isinstance(value, bool) or value is None or value == "":
        return None
    if isinstance(value, (int, float)):
        return str(value)  # of what is told here, numbers are ids
    text = _USER.sub("", str(value)) if isinstance(value, str) or hasattr(value, "__fspath__") else ""
    text = text or (str(value) if type(value).__name__ == "ObjectStoragePath" else "")
    return text if _PLAIN.fullmatch(text) and not re.match(r"(?i)select\b|with\b", text) else None


def beginning(task: Any) -> str:  # noqa: ANN401 - any task of ours
    """Return the line for the start of a task.

    :param task: the task; its arguments are rendered.
    """
    what = [name + text for key, name in _WHAT if (text := _named(task, key))]
    places = [name + text for key, name in _PLACES if (text := shown(vars(task).get(key)))]
    if not what and vars(task).get("query"):
        what = ["a query"]
    parts = [", ".join(part) for part in (what, places) if part]
    about = f": {', '.join(parts)}" if parts else ""
    return f"{type(task).__name__}{about}{_where(task)}"


def _named(task: Any, key: str) -> str | None:  # noqa: ANN401 - any task of ours
    """Return what an argument names; of an earlier task's result, what that was about."""
    value = vars(task).get(key)
    if isinstance(value, Mapping):
        value = value.get("dashboard_id") if key == "dashboard" else value.get("id")
    return shown(value)


def _where(task: Any) -> str:  # noqa: ANN401 - any task of ours
    hook = getattr(task, "hook", None) if "posthog_conn_id" in vars(task) else None
    settings = None
    with suppress(Exception):  # what is wrong with the connection, the task says itself
        settings = hook.settings() if hook is not None else None
    if settings is None:
        return ""
    page = next((f"/{page}/{name}" for key, page in _PAGES if (name := _named(task, key))), "")
    project = "" if settings.project_id is None else f"/project/{settings.project_id}{page}"
    return f". PostHog: {settings.base_url}{project}"


def end_of(result: object) -> str:
    """Return what a task's result says of its success, if the task has no words of its own.

    :param result: what the task returned.
    """
    if isinstance(result, list):
        return f"Done: {counted(len(result), 'item')}"
    if not isinstance(result, Mapping):
        return "Done"
    counts = [
        f"{value:,} {name.removesuffix('s') if value == 1 else name}"
        for key, name in _COUNTS.items()
        if _is_count(value := result.get(key))
    ]
    place = shown(result.get("path")) or shown(result.get("table"))
    text = ", ".join(counts) + (f" in {place}" if place else "")
    return f"Done: {text}" if text.strip() else "Done"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def seconds_since(context: Mapping[str, Any], began: float) -> float:
    """Return how long the task has worked and waited, in seconds.

    :param context: the task's context.
    :param began: when this process began it, by ``time.monotonic()``.
    """
    here = time.monotonic() - began
    start = first_poke_of(context) or getattr(context.get("ti"), "start_date", None)
    if isinstance(start, datetime) and start.tzinfo is not None:
        return max(here, (datetime.now(timezone.utc) - start).total_seconds())
    return here
