"""Refresh a dashboard every morning, stop if a number fell too far, and send the numbers on.

``refresh`` proves that every insight is new, ``no_cliff`` fails if the most important number fell by a fifth or more
since the day before, and ``send`` gets what a mail or a chat message needs. With Airflow's providers no code is needed:
``on_success_callback=SmtpNotifier(to=..., subject=..., html_content=MAIL)``, or ``SlackNotifier(text=MESSAGE)``.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone

from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
from airflow_provider_posthog.operators.insights import (
    PostHogInsightCheckOperator,
    PostHogInsightShortCircuitOperator,
)

try:
    from airflow.sdk import DAG, task
except ImportError:  # Airflow 2
    from airflow.decorators import task
    from airflow.models.dag import DAG

DASHBOARD = int(os.environ.get("POSTHOG_EXAMPLE_DASHBOARD", "7"))
GATE = os.environ.get("POSTHOG_EXAMPLE_GATE", "AbCd1234")  # the short id of an insight on it
CONDITION = os.environ.get("POSTHOG_EXAMPLE_CONDITION", "change >= -20 %")

#: One line for each number.
MESSAGE = "{{ ti.xcom_pull(task_ids='refresh')['insights'] | map(attribute='text') | join('\n') }}"
#: The same in HTML: names are what somebody typed.
MAIL = MESSAGE.replace("}}", "| e | replace('\n', '<br>') }}")

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
# Calculated by the first task already.
NUMBER = {"insight": GATE, "from_dashboard": DASHBOARD, "refresh": "force_cache"}

with DAG("morning_numbers", doc_md=__doc__, schedule="0 6 * * *", start_date=START, catchup=False) as dag:
    # With the newest complete number of each insight, the one before, and both in words.
    refresh = PostHogRefreshDashboardOperator(task_id="refresh", dashboard=DASHBOARD, deferrable=True, values=True)

    # Skips what is behind it if there was nothing yesterday.
    any_numbers = PostHogInsightShortCircuitOperator(task_id="any_numbers", condition="any > 0", **NUMBER)

    # Fails, with insight, date, value and condition, if yesterday was a fifth below the day before.
    no_cliff = PostHogInsightCheckOperator(task_id="no_cliff", condition=CONDITION, **NUMBER)

    @task
    def send(message: str) -> str:
        """Stand for a mail or a chat message, with a line for each number."""
        print(message)
        return message

    refresh >> any_numbers >> no_cliff >> send(MESSAGE)
