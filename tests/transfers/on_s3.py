"""The operator with its files in an S3 on this machine, for tries that are processes of their own."""

from __future__ import annotations

import os
from typing import Any

import s3fs

from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

try:
    from airflow.sdk.io import attach
except ImportError:  # Airflow 2.11
    from airflow.io.store import attach

#: The environment's variable with the S3's address.
ADDRESS = "S3_OF_THE_TESTS"


class OnS3(PostHogQueryToObjectStorageOperator):
    """Knows the S3, as a connection of Airflow would."""

    def execute(self, context: Any) -> dict[str, Any]:
        """Read and write as ever.

        :param context: the task's context.
        """
        fs = s3fs.S3FileSystem(
            key="test",
            secret="test",
            endpoint_url=os.environ[ADDRESS],
            client_kwargs={"region_name": "us-east-1"},
            skip_instance_cache=True,
        )
        attach("s3", conn_id="lake_conn", fs=fs)
        return super().execute(context)
