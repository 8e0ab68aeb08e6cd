"""What the books of a soak count by."""

from __future__ import annotations

from datetime import date, timedelta

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.soak.ground import ask, listed


def test_a_list_is_read_to_its_end(posthog: EmulatorProcess) -> None:
    """PostHog gives out 50 backfills at once, however many are asked for."""
    posthog.settings(max_backfills=200)
    lake = next(listed(posthog, "batch_exports/"))
    path = f"batch_exports/{lake['id']}/backfills/"
    made = []
    for number in range(120):
        days = [date(2026, 1, 1) + timedelta(days=number + more) for more in (0, 1)]
        body = dict(zip(("start_at", "end_at"), map(str, days), strict=True))
        made.append(ask(posthog, "POST", path, body)["backfill_id"])
    posthog.advance(60)
    assert sorted(each["id"] for each in listed(posthog, path)) == sorted(made)
