"""An S3 on this machine, for the tests of object storage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

BUCKET = "lake"


@contextmanager
def running_s3() -> Iterator[tuple[Any, Any]]:
    """Run moto's server; yield an s3fs file system of it, and boto3's client.

    All of moto's servers of a process have the same buckets: tests share one by the fixture ``s3``.
    """
    import boto3
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=url, **keys)
        client.create_bucket(Bucket=BUCKET)
        yield (
            s3fs.S3FileSystem(
                key="test",
                secret="test",
                endpoint_url=url,
                client_kwargs={"region_name": "us-east-1"},
                default_block_size=5 * 1024 * 1024,
                skip_instance_cache=True,
            ),
            client,
        )
    finally:
        server.stop()
