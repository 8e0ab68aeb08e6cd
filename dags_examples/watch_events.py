"""Start a run a minute after new sign-ups arrive in PostHog, without a schedule (Airflow 3 and newer)."""

from __future__ import annotations

from typing import Any

try:
    from airflow.sdk import DAG, Asset, AssetWatcher, task

    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from airflow_provider_posthog.triggers.events import PostHogNewEventsTrigger
except ImportError:  # Airflow 2 has no watchers
    pass
else:
    watcher = AssetWatcher(name="sign_up", trigger=PostHogNewEventsTrigger(event="sign_up"))
    SIGN_UPS = Asset("posthog_sign_ups", watchers=[watcher])
    # Several news may start one run, and an event may be told twice: what is done with them should not mind.
    NEWS = "event = 'sign_up' AND created_at > toDateTime({after}) AND created_at <= toDateTime({until})"

    with DAG(
        "watch_events", doc_md=__doc__, schedule=[SIGN_UPS], max_active_runs=1, tags=["posthog", "example"]
    ) as dag:

        @task
        def greet(triggering_asset_events: Any = None) -> list[int]:  # noqa: ANN401 - from Airflow
            """Stand for what is done with the new events: count them."""
            told = [event.extra["payload"] for event in triggering_asset_events[SIGN_UPS]]
            return [PostHogHook().get_records(f"SELECT count() FROM events WHERE {NEWS}", news)[0][0] for news in told]

        greet()
