"""The connection to the emulator."""

from __future__ import annotations

from airflow.triggers import base

from tests.operators.support import connected

__all__ = ["connected"]

# Airflow 2 has no triggers for assets.
collect_ignore = [] if hasattr(base, "BaseEventTrigger") else ["test_events.py", "test_completed.py"]
