"""The example DAGs as they are, but for their schedules, and for waits that would take most of a soak."""

from __future__ import annotations

import importlib
from datetime import timedelta
from typing import Any

from airflow.timetables.simple import NullTimetable

from tests.soak.jobs import JOBS

#: Tries enough for what a soak does to a task, soon one after the other.
PATIENT: dict[str, Any] = {"retries": 8, "retry_delay": timedelta(seconds=3), "retry_exponential_backoff": False}
QUICK = {"poll_interval": 2.0, "poke_interval": 5.0, "settle": timedelta(0), "quiet_period": 0.0}


def _hurry(task: Any) -> None:
    mapped = getattr(task, "partial_kwargs", None)
    for name, value in {**PATIENT, **QUICK}.items():
        if mapped is not None:
            if name in PATIENT or name in mapped:
                mapped[name] = value
        elif name in PATIENT or hasattr(task, name):
            setattr(task, name, value)


for name in JOBS:
    for found in [*vars(importlib.import_module(f"dags_examples.{name}")).values()]:
        if getattr(found, "dag_id", None) == name and hasattr(found, "timetable"):
            found.timetable = NullTimetable()
            for each in found.tasks:
                _hurry(each)
            globals()[name] = found
