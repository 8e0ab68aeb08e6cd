"""The connection to the emulator."""

from __future__ import annotations

from tests.erasure.support import lab, tidied
from tests.operators.support import connected

__all__ = ["connected", "lab", "tidied"]
