"""What a transfer under test reads, where a test does not say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def source_in(options: Mapping[str, Any]) -> dict[str, str]:
    """The events, unless a query is read."""
    return {} if "query" in options else {"source": "events"}
