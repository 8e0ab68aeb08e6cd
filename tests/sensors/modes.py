"""A sensor's whole wait in each of its three modes, as Airflow drives it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogError
from tests.operators.support import context, finish, outcome_errors

MODES = ["poke", "reschedule", "deferrable"]


def rescheduled() -> type[BaseException]:
    try:
        from airflow.sdk.exceptions import AirflowRescheduleException
    except ImportError:
        from airflow.exceptions import AirflowRescheduleException
    return AirflowRescheduleException


@pytest.fixture
def first_poke(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """When a rescheduled sensor was first poked, which Airflow 2.11 reads from its database and 3 asks the task for."""
    began = SimpleNamespace(at=None)
    try:
        from airflow.sensors import base
    except ImportError:
        return began
    if hasattr(base, "_orig_start_date"):
        monkeypatch.setattr(base, "_orig_start_date", lambda *_, **__: began.at)
    return began


def see_through(
    make: Callable[..., Any], mode: str, began: SimpleNamespace, ctx: Mapping[str, Any] | None = None
) -> Any:
    """Make a sensor and let it wait to its end; in ``reschedule`` mode each poke is a new task.

    :param make: makes the sensor out of ``mode`` and ``deferrable``.
    :param mode: one of :data:`MODES`.
    :param began: the fixture :func:`first_poke`.
    :param ctx: the task's context.
    :returns: what it returned.
    """
    ctx = dict(ctx or context())
    if mode != "reschedule":
        return finish(make(deferrable=mode == "deferrable"), ctx)
    ctx["ti"].get_first_reschedule_date = lambda _: began.at
    began.at = None
    while True:
        now = datetime.now(timezone.utc)
        try:
            return make(mode="reschedule", deferrable=False).execute(ctx)
        except rescheduled() as again:
            began.at = began.at or now
            time.sleep(max(0.0, (again.reschedule_date - datetime.now(timezone.utc)).total_seconds()))


def ended(make: Callable[..., Any], mode: str, began: SimpleNamespace, ctx: Mapping[str, Any] | None = None) -> str:
    """Say how a sensor's wait ended: ``succeeded``, ``failed``, ``timed out`` or ``skipped``; see :func:`see_through`.

    :param make: as for :func:`see_through`.
    :param mode: as for :func:`see_through`.
    :param began: as for :func:`see_through`.
    :param ctx: as for :func:`see_through`.
    """
    errors = outcome_errors()
    try:
        see_through(make, mode, began, ctx)
    except errors.skip:
        return "skipped"
    except errors.timeout:
        return "timed out"
    except PostHogError:
        return "failed"
    return "succeeded"
