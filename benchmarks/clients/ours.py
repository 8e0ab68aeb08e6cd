"""This provider: what ``PostHogQueryToObjectStorageOperator`` does, without Airflow around it.

``python -m benchmarks.clients.ours URL FOLDER IN_FLIGHT``
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timezone

START = datetime(2025, 12, 31, tzinfo=timezone.utc)
END = datetime(2026, 9, 30, tzinfo=timezone.utc)


def main() -> None:
    """Read all events into Parquet, with proof and a manifest."""
    began = time.monotonic()
    from fsspec.implementations.local import LocalFileSystem

    from airflow_provider_posthog.api.settings import ClientSettings
    from airflow_provider_posthog.extract import sources
    from airflow_provider_posthog.extract.copy_interval import Copy, Reading
    from airflow_provider_posthog.extract.layout import Layout
    from airflow_provider_posthog.storage.manifest import Interval
    from airflow_provider_posthog.storage.staging import Owner, Staging

    url, folder, in_flight = sys.argv[1:4]
    imported = time.monotonic()
    settings = ClientSettings(base_url=url, api_key="phx_bench", project_id=1)
    reading = Reading(settings, sources.events(), max_in_flight=int(in_flight))
    staging = Staging.open(LocalFileSystem(), folder, Interval("events", START, END), Owner("bench", ""), time.time)
    manifest = Copy(reading, staging, Layout(), {"source": "events"}).run()
    seconds = time.monotonic()
    print(json.dumps({"rows": manifest["rows"], "import": imported - began, "seconds": seconds - imported}))


if __name__ == "__main__":
    main()
