"""The ages of PostHog that tables of cases run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: A, B and C as the emulator has them; today's Cloud deletes profiles later, hides old events,
#: answers the creation of an export at its end, has no content yet as a 425, and counts the bytes that queries read.
SERVERS: Mapping[str, dict[str, Any]] = {
    "A": {"generation": "A"},
    "B": {"generation": "B"},
    "C": {"generation": "C"},
    "today": {
        "generation": "C",
        "persons_queued": True,
        "person_deletion_seconds": 120,
        "person_lag_seconds": 30,
        "event_retention_months": 84,
        "events_retention_enforced": True,
        "create_blocks": True,
        "not_ready": 425,
        "legacy_insights": False,
        "query_bytes_per_hour": 200_000_000_000,
    },
}
