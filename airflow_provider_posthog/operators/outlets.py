"""What the assets of a task are told when it has succeeded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def tell_outlets(context: Mapping[str, Any], outlets: Iterable[Any], extra: Mapping[str, Any]) -> None:
    """Put counts into the events of the task's assets, for the DAGs that they start.

    :param context: the task's context.
    :param outlets: the task's outlets.
    :param extra: JSON, small, without personal data.
    """
    events = context.get("outlet_events")
    if events is None:
        return
    for outlet in outlets:
        if hasattr(outlet, "uri"):  # an asset (Airflow 2: a dataset); aliases and references have none
            events[outlet].extra.update(extra)
