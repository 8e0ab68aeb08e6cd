"""What handlers answer: no HTTP library in sight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_provider_posthog.emulator.http.envelopes import ApiError


@dataclass(frozen=True)
class Answer:
    """What goes back to the client.

    :param status: the HTTP status.
    :param body: JSON text, other bytes or nothing.
    :param content_type: None for an empty answer.
    :param headers: further headers.
    """

    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Return a JSON answer as PostHog writes it (no charset in the content type).

    :param body: what to write.
    :param status: the HTTP status.
    :param headers: further headers.
    """
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return Answer(status, text, "application/json", dict(headers or {}))


def error_answer(error: ApiError) -> Answer:
    """Return the answer of an error.

    :param error: the error.
    """
    if error.body is None:
        return Answer(error.status, headers=error.headers)
    return json_answer(error.body, error.status, error.headers)
