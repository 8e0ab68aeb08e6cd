"""Download the file of a finished export: an empty file is a fault, not a result."""

from __future__ import annotations

import logging

from airflow_provider_posthog.api.call import Call
from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.download.http import Received, Sink, download
from airflow_provider_posthog.exceptions import PostHogIncompleteError

log = logging.getLogger(__name__)


def download_export(client: Client, call: Call[bytes], sink: Sink) -> Received:
    """Stream an export's file to a sink; a file of 0 bytes is requested once more.

    PostHog writes a header, or the header ``error`` and a sentence, where there are no rows.

    :param client: the client.
    :param call: ``exports.content``.
    :param sink: takes the bytes.
    :raises PostHogIncompleteError: if the file has 0 bytes both times.
    """
    received = download(client, call, sink)
    if received.size == 0:
        log.warning("%s returned a file of 0 bytes, which no export has: requesting it once more", call.path)
        sink.restart()
        received = download(client, call, sink)
    if received.size == 0:
        raise PostHogIncompleteError(
            f"{call.path} returned a file of 0 bytes twice. That is not an empty result, for which PostHog writes a "
            "header or a sentence: the file was lost. Make the export again (clear the task that created it)."
        )
    return received
