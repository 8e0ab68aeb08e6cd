"""An annotation that is made once: found again by its mark, whoever asks for it a second time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import annotations as api
from airflow_provider_posthog.api.annotations import Scope
from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.exceptions import PostHogTransportError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.clients import Client

#: Annotations that are looked through, on a server that does not search.
MOST = 1_000
#: Characters of a mark.
LENGTH = len("[airflow 0123456789ab]")


def mark_of(*parts: object) -> str:
    """Return what an annotation ends with, so that it is found again.

    :param parts: what it belongs to: a DAG, a run, a task.
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
    return f"[airflow {digest[:12]}]"


def annotate(
    client: Client,
    content: str,
    mark: str,
    at: datetime,
    *,
    scope: Scope,
    emoji: str | None,
    hidden: bool,
    moved: bool = False,
) -> Mapping[str, Any]:
    """Make an annotation, unless it is there; one with the same mark and another text or time gets the new ones.

    :param client: asks.
    :param content: its text.
    :param mark: from :func:`mark_of`.
    :param at: the time that it marks.
    :param scope: where it is shown.
    :param emoji: shown with it.
    :param hidden: whether charts do not show it.
    :param moved: whether one that is there is moved to the time.
    :returns: ``id``, ``created`` (whether it was not there before).
    """
    text = f"{content[: api.MAX_CONTENT - len(mark) - 1]} {mark}"
    annotation = _find(client, mark)
    if annotation is None:
        try:
            made = client.send(api.create(content=text, date_marker=at, scope=scope, emoji=emoji, hidden=hidden))
            return {"id": made.get("id"), "created": True}
        except PostHogTransportError as error:
            annotation = _find(client, mark) if error.sent else None
            if annotation is None:
                raise
            return {"id": annotation.get("id"), "created": True}
    if annotation.get("content") != text or (moved and moment(annotation.get("date_marker")) != at):
        client.send(api.update(int(annotation["id"]), content=text, date_marker=at if moved else None))
    return {"id": annotation.get("id"), "created": False}


def _find(client: Client, mark: str) -> dict[str, Any] | None:
    # PostHog lists them by the time that they mark: those of a backfill are behind all others.
    listed = client.pages(api.list(limit=100, search=mark.strip("[]").split()[-1]), max_items=MOST)
    return next((annotation for annotation in listed if str(annotation.get("content") or "").endswith(mark)), None)
