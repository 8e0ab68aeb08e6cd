"""The calls of PostHog's two ways to accept events: capture V1, which answers for each event, and ``/batch/``.

They go to the project's ingestion host, with the project's token in place of a key. Their addresses and bodies are
not those of the API, so that these calls stand in no table of endpoints.
"""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import airflow_provider_posthog
from airflow_provider_posthog.api.call import Answer, Call, json_object
from airflow_provider_posthog.api.retry import retry_after
from airflow_provider_posthog.api.settings import ClientSettings, ingestion_url
from airflow_provider_posthog.exceptions import PostHogSettingsError, PostHogTransportError
from airflow_provider_posthog.patterns import pattern

V1 = "/i/v1/analytics/events"
BATCH = "/batch/"
#: Bytes of a body before it is packed: PostHog takes less than 20 MB.
LARGEST_BODY = 15_000_000
_SDK = f"airflow-provider-posthog/{airflow_provider_posthog.__version__}"
#: Properties that capture V1 wants as typed options of the event, and what they are called there.
_OPTIONS = {
    "$cookieless_mode": "cookieless_mode",
    "$process_person_profile": "process_person_profile",
    "$product_tour_id": "product_tour_id",
}
_LIFTED = {"$session_id": "session_id", "$window_id": "window_id"}
#: A quick check whether an event may have one of them.
_MARKS = tuple(f'"{name}"'.encode() for name in (*_OPTIONS, *_LIFTED))
_WORDS = frozenset({"ok", "warning", "drop", "retry"})
_WORD = pattern(r"[a-z][a-z0-9_]{0,79}")


@dataclass(frozen=True)
class Verdict:
    """PostHog's verdict on an event.

    :param result: ``ok``, ``warning``, ``drop`` or ``retry``; ``sent`` if it said nothing.
    :param details: why, in a word.
    """

    result: str
    details: str = ""


_PLAIN = {word: Verdict(word) for word in sorted(_WORDS)}


@dataclass(frozen=True)
class Verdicts:
    """An answer of capture V1.

    :param by_uuid: what PostHog said of each event, by its uuid as text.
    :param wait: seconds to wait before those of ``retry`` are sent again.
    """

    by_uuid: Mapping[str, Verdict]
    wait: float


def sending_settings(settings: ClientSettings, token: str) -> ClientSettings:
    """Return how to reach a project's ingestion host.

    :param settings: the connection.
    :param token: the project's token.
    """
    return replace(
        settings,
        base_url=ingestion_url(settings),
        api_key=token,
        rate_limit_share=0.0,
        read_again=None,
        project_token=None,
    )


def v1_call(bodies: Sequence[bytes], *, historical: bool, attempt: int, request_id: str) -> Call[Verdicts]:
    """Return the call that sends events by capture V1.

    :param bodies: the events, as JSON.
    :param historical: whether they are a migration of old events.
    :param attempt: how often they were sent before, and once.
    :param request_id: the same in each attempt.
    """
    now = datetime.now(timezone.utc).isoformat()
    head = b'{"created_at":"%s",%s"batch":[' % (now.encode(), b'"historical_migration":true,' if historical else b"")
    headers = {
        "PostHog-Sdk-Info": _SDK,
        "PostHog-Attempt": str(attempt),
        "PostHog-Request-Id": request_id,
        "PostHog-Request-Timestamp": now,
    }
    return _call("capture.v1", V1, head + b",".join(map(_for_v1, bodies)) + b"]}", _verdicts, headers)


def batch_call(bodies: Sequence[bytes], token: str, *, historical: bool) -> Call[None]:
    """Return the call that sends events to servers without capture V1. Its answer proves nothing.

    :param bodies: the events, as JSON.
    :param token: the project's token.
    :param historical: whether they are a migration of old events.
    """
    head = json.dumps({"api_key": token, "historical_migration": historical})[:-1].encode()
    return _call("capture.batch", BATCH, head + b',"batch":[' + b",".join(bodies) + b"]}", lambda answer: None, {})


def new_request_id() -> str:
    """Return an id for one request and its attempts."""
    return str(uuid.uuid4())


def _call(name: str, path: str, body: bytes, read: Any, headers: Mapping[str, str]) -> Call[Any]:  # noqa: ANN401
    # Sent again where it is unknown whether it has arrived: the same uuids and times are the same events.
    return Call(
        name,
        "POST",
        path,
        read,
        content=gzip.compress(body, 1, mtime=0),
        headers={**headers, "Content-Encoding": "gzip"},
    )


def _for_v1(body: bytes) -> bytes:
    """Return an event as capture V1 has it: with options, which keep PostHog from changing the event's time."""
    if not any(mark in body for mark in _MARKS):
        return body[:-1] + b',"options":{"disable_skew_correction":true}}'
    event = json.loads(body)
    properties = event["properties"]
    options: dict[str, Any] = {"disable_skew_correction": True}
    for name, option in _OPTIONS.items():
        value = _typed(name, properties.get(name))
        if value is not None:  # what is none of an option's values stays a property
            options[option] = value
            del properties[name]
    for name, field in _LIFTED.items():
        value = properties.pop(name, None)
        if value is not None:
            event[field] = str(value)
    return json.dumps({**event, "options": options}, separators=(",", ":")).encode()


def _typed(name: str, value: object) -> bool | str | None:
    if name == "$product_tour_id":
        is_id = isinstance(value, (str, int)) and not isinstance(value, bool)
        return str(value) if is_id else None
    if isinstance(value, (int, float)):
        return bool(value)
    words = {"true": True, "1": True, "false": False, "0": False}
    return words.get(value.strip().lower()) if isinstance(value, str) else None


class PageError(PostHogTransportError):
    """A page where capture V1 has an answer: the server does not know it."""


def word_of(reason: object) -> str:
    """Return a reason if it is a word of PostHog's; empty for anything else, which may hold values of the event.

    :param reason: what the server has sent.
    """
    return reason if isinstance(reason, str) and _WORD.fullmatch(reason) else ""


def _verdicts(answer: Answer) -> Verdicts:
    if answer.body.lstrip()[:1] == b"<":
        raise PageError(f"the answer (status {answer.status}) is a page")
    results = json_object(answer).get("results")
    if not isinstance(results, Mapping):
        raise PostHogTransportError(f"the answer (status {answer.status}) says nothing about the events: no 'results'")
    wait = retry_after(answer, datetime.now(timezone.utc))
    verdicts = {str(uuid).lower(): _verdict(said) for uuid, said in results.items()}
    return Verdicts(verdicts, 1.0 if wait is None else wait)


def _verdict(answer: object) -> Verdict:
    result, details = (answer.get("result"), answer.get("details")) if isinstance(answer, Mapping) else (None, None)
    if not details and result in _PLAIN:
        return _PLAIN[result]
    # An unknown word proves nothing: the event is looked up, as after /batch/.
    return Verdict(result if isinstance(result, str) and result in _WORDS else "sent", word_of(details))


def unknown_token(host: str) -> PostHogSettingsError:
    """Return the error of a token that the server does not know.

    :param host: the host that was asked.
    """
    return PostHogSettingsError(
        "project_token",
        f"is not known at {host} (401).",
        "Write the token of the project (PostHog: Settings > Project) and, as ingestion_host, the host of its region.",
    )
