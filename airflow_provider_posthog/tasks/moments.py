"""Moments as a task's author writes them."""

from __future__ import annotations

from datetime import datetime, timezone

from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.exceptions import PostHogSettingsError


def instant_of(field: str, value: object) -> datetime:
    """Read a moment.

    :param field: the argument.
    :param value: a time with an offset, or ISO text with one.
    :raises PostHogSettingsError: if it is none.
    """
    at = value
    if isinstance(value, str):
        try:
            at = read_iso(value)
        except ValueError:
            at = None
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise PostHogSettingsError(field, "is not a time with an offset.", "Write '{{ data_interval_end }}'.")
    utc = at.astimezone(timezone.utc)
    return datetime.combine(utc.date(), utc.time(), timezone.utc)  # Airflow's own times are of another class
