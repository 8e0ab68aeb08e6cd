"""Start a run whenever PostHog has synced a source or rebuilt a view (Airflow 3 and newer)."""

from __future__ import annotations

from datetime import datetime

try:
    from airflow.providers.common.sql.operators.sql import SQLCheckOperator
    from airflow.sdk import DAG, Asset, AssetWatcher

    from airflow_provider_posthog.hooks.sql import PostHogSqlHook
    from airflow_provider_posthog.triggers.completed import PostHogSourceSyncTrigger, PostHogViewRunTrigger
except ImportError:  # Airflow 2 has no watchers
    pass
else:
    # The ends of their addresses in PostHog.
    SOURCE, VIEW = "01a200ca-b698-0000-24c1-84e2ab7ef77e", "01a200ca-b698-0000-24c1-84e2ab7ef77f"
    TRIGGERS = {"sync": PostHogSourceSyncTrigger(source=SOURCE), "view": PostHogViewRunTrigger(view=VIEW)}
    NEWS = [Asset(f"posthog_{name}", watchers=[AssetWatcher(name=name, trigger=one)]) for name, one in TRIGGERS.items()]
    # What Airflow's SQL operators use on a connection of the type posthog: hooks.sql.PostHogSqlHook.
    CONNECTION = PostHogSqlHook.default_conn_name

    with DAG("watch_warehouse", doc_md=__doc__, schedule=NEWS, start_date=datetime(2026, 1, 1)) as dag:
        SQLCheckOperator(task_id="orders", conn_id=CONNECTION, sql="SELECT count() > 0 FROM daily_orders")
