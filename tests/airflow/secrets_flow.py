"""Runs all kinds of tasks, in good and in bad weather, with everything logged; ``test_secrets.py`` reads what is left.

``python -m tests.airflow.secrets_flow`` with Airflow's settings and connections in the environment.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from itertools import pairwise
from typing import Any

EMAIL = "ann.example@example.org"
CANARY = "canary-7f3a9c51"


def _dag(folder: str) -> Any:
    from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
    from airflow_provider_posthog.sensors.exports import PostHogExportSensor
    from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator
    from tests.operators.support import ALL_EVENTS, make_dag

    def export(name: str, **options: Any) -> Any:
        given = {"query": ALL_EVENTS, "poll_interval": 0.2, "failure_grace": 0.2, "timeout": 30}
        return PostHogCreateExportOperator(task_id=name, **{**given, **options})

    def fetch(name: str, made: Any, conn: str = "posthog_default") -> Any:
        path = f"file://{folder}/{name}.csv"
        return PostHogExportToObjectStorageOperator(
            task_id=name, export_id=made.output, path=path, posthog_conn_id=conn, on_truncation="ignore"
        )

    def fill() -> None:
        from airflow_provider_posthog.compat import BaseOperator

        class Canary(BaseOperator):
            def execute(self, context: Any) -> str:
                self.log.warning("logged %s", CANARY)
                return CANARY

        lost = export("lost_answer")  # the faults of the script below fall on the first tasks, in this order
        failing = [export("failing"), export("failing_deferred", deferrable=True)]
        good = export("good", deferrable=True)
        fetched = fetch("fetched", good)
        missing = fetch("missing_file", good)
        proxied = export("proxied", posthog_conn_id="posthog_proxied")
        proxied_deferred = export("proxied_deferred", posthog_conn_id="posthog_proxied", deferrable=True)
        wrong = export("wrong_key", posthog_conn_id="posthog_wrong")
        unknown = PostHogExportSensor(task_id="unknown", export_id=9999, deferrable=True, timeout=30)
        waited = PostHogExportSensor(task_id="waited", export_id=good.output, timeout=30)
        tasks = [lost, *failing, good, fetched, missing, proxied, proxied_deferred, wrong, unknown, waited]
        for before, after in pairwise(tasks):
            before >> after
            after.trigger_rule = "all_done"
        tasks[-1] >> Canary(task_id="canary", trigger_rule="all_done")

    return make_dag("secrets", fill)


def main(folder: str) -> None:
    settings = importlib.import_module("tests.conftest")  # before Airflow: it sets the log's level, too
    os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "DEBUG"
    from airflow.utils import db

    from airflow_provider_posthog.emulator.process import EmulatorProcess
    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from tests.operators.support import task_states

    for noisy in ("sqlalchemy", "aiosqlite", "alembic"):
        logging.getLogger(noisy).setLevel(logging.INFO)
    db.initdb()
    root = logging.getLogger()
    root.setLevel(logging.DEBUG)
    root.addHandler(logging.StreamHandler(sys.stdout))  # also what Airflow's own handlers leave out
    posthog = EmulatorProcess()
    posthog.url = os.environ["POSTHOG_URL"]
    posthog.faults(method="POST", path="*/exports/", cut="after")
    posthog.next_exports("succeed")
    posthog.next_exports("exception", count=2, exception_text=f"Unknown table of {EMAIL}, key {os.environ['THE_KEY']}")
    posthog.faults(path="/storage/*", cut="middle", cut_bytes=100)
    posthog.faults(path="/storage/*", status=404, skip=1, count=-1)
    run = settings.run_dag.__wrapped__(None)(_dag(folder))
    for conn in ("posthog_default", "posthog_wrong", "posthog_proxied"):
        hook = PostHogHook(conn)
        root.warning("test_connection: %s", hook.test_connection())
        root.warning("the salt has %s characters", len(hook.audit_secret()))
    print("\nSTATES " + json.dumps(task_states(run)))


if __name__ == "__main__":
    main(sys.argv[1])
