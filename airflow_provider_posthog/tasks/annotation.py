"""An annotation that is made once: found again by its mark, whoever asks for it a second time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import annotations as api
from airflow_provider_posthog.api.annotations import Scope
from airflow_provider_posthog.exceptions import PostHogTransportError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.clients import Client

#: Annotations that are looked through: those of one's own are among the newest.
MOST = 1_000


def mark_of(*parts: object) -> str:
    """Return what an annotation ends with, so that it is found again.

    :param parts: what it belongs to: a DAG, a run, a task.
    """
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()
    return f"[airflow {digest[:12]}]"


def annotate(
    client: Client, content: str, mark: str, at: datetime, *, scope: Scope, emoji: str | None, hidden: bool
) -> Mapping[str, Any]:
    """Make an annotation, unless it is there; one with the same mark and another text gets the new one.

    :param client: asks.
    :param content: its text.
    :param mark: from :func:`mark_of`.
    :param at: the time that it marks.
    :param scope: where it is shown.
    :param emoji: shown with it.
    :param hidden: whether charts do not show it.
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
    if annotation.get("content") != text:
        client.send(api.update(int(annotation["id"]), content=text))
    return {"id": annotation.get("id"), "created": False}


def _find(client: Client, mark: str) -> dict[str, Any] | None:
    listed = client.pages(api.list(limit=100), max_items=MOST)
    return next((annotation for annotation in listed if str(annotation.get("content") or "").endswith(mark)), None)
