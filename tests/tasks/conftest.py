"""The connection to the emulator."""

from __future__ import annotations

from tests.operators.support import connected

__all__ = ["connected"]
