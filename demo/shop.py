"""What the examples name in PostHog and in files, so that each of them has something to do in ``make ui``."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from airflow_provider_posthog.emulator.process import EmulatorProcess

CUSTOMERS = 50
_SIDE: dict[str, Any] = {"key": "control", "number_of_samples": 900, "sum": 480, "sum_squares": 480}
_TEST: dict[str, Any] = {
    **{**_SIDE, "key": "test", "sum": 560, "sum_squares": 560},
    **{"significant": True, "chance_to_win": 0.97, "credible_interval": [0.1, 0.4]},
}


def furnish(posthog: EmulatorProcess, files: Path) -> None:
    """Add customers, a feature flag, an experiment with a result, a check of a view, and files.

    :param posthog: the emulator.
    :param files: the examples' folder; made if need be.
    """
    posthog.add_persons([{"distinct_ids": [f"c{number}"]} for number in range(CUSTOMERS)])
    groups = [{"properties": [], "rollout_percentage": 10}]
    posthog.add_records("feature_flags", [{"key": "new-checkout", "active": True, "filters": {"groups": groups}}])
    results = {"m1": {"2026-11-01": {"baseline": _SIDE, "variant_results": [_TEST]}}}
    metric = {"uuid": "m1", "name": "sign-up", "fingerprint": "f1"}
    experiment = {"id": 1, "name": "Checkout", "start_date": "2026-11-01T00:00:00Z", "metrics": [metric]}
    posthog.add_records("experiments", [{**experiment, "_results": results}])
    _check_a_view(posthog)
    for name in ("orders", "private"):
        (files / name).mkdir(parents=True, exist_ok=True)
    placed = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    orders = [{"id": n, "customer": f"c{n}", "placed_at": placed.isoformat(), "total": n} for n in range(CUSTOMERS)]
    (files / "orders" / "yesterday.jsonl").write_text("".join(json.dumps(order) + "\n" for order in orders))


def _check_a_view(posthog: EmulatorProcess) -> None:
    """Let PostHog check that each order of the view has a customer."""
    import requests

    address = f"{posthog.url}/api/projects/{posthog.project_id}/warehouse_saved_queries/"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {posthog.api_key}"
        views = session.get(address, timeout=30).json()["results"]
        (view,) = [one["id"] for one in views if one["name"] == "daily_orders"]
        check = {"name": "whole", "check_type": "not_null", "column_name": "customer"}
        session.post(f"{address}{view}/checks/", json=check, timeout=30).raise_for_status()
