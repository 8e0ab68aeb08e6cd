"""A log of the calls that were made, for tests to inspect."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from airflow_provider_posthog.emulator.clock import Clock, iso
from airflow_provider_posthog.emulator.http.envelopes import Json

#: Bytes of a body that is kept: those of captured events would fill the memory.
LARGEST_KEPT = 256 * 1024
SECRETS = ("personal_api_key", "token", "api_key", "X-Amz-Signature")


@dataclass
class Call:
    """One call; see ``GET /__emulator__/calls``."""

    method: str
    path: str
    query: Json
    at: str
    auth_header: bool
    user_agent: str
    body: object
    range: str | None
    status: int | None = None
    seconds: float | None = None
    route: str = ""

    def as_json(self) -> Json:
        """Return the call as the control interface shows it; ``status`` is null while it runs or was cut off."""
        return {
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "status": self.status,
            "at": self.at,
            "seconds": self.seconds,
            "auth_header": self.auth_header,
            "user_agent": self.user_agent,
            "range": self.range,
            "body": self.body,
        }


@dataclass
class CallLog:
    """The calls in the order in which they came, without the emulator's own."""

    clock: Clock
    calls: list[Call] = field(default_factory=list)

    def begin(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Call:
        """Record a call that has just come in. No secret is kept.

        :param method: in capitals.
        :param path: without the query.
        :param query: the query string.
        :param headers: with names in lower case.
        :param body: as sent.
        """
        call = Call(
            method=method,
            path=path,
            query={k: "***" if k in SECRETS else v for k, v in parse_qsl(query, keep_blank_values=True)},
            at=iso(self.clock.now()),
            auth_header="authorization" in headers,
            user_agent=headers.get("user-agent", ""),
            body=_readable(body),
            range=headers.get("range"),
        )
        self.calls.append(call)
        return call

    def stats(self) -> Json:
        """Return how often each route was called, and with which status."""
        routes = Counter(f"{call.method} {call.route or call.path}" for call in self.calls)
        statuses = Counter(str(call.status) for call in self.calls)
        return {"calls": len(self.calls), "routes": dict(routes), "statuses": dict(statuses)}


def _readable(body: bytes) -> object:
    if not body:
        return None
    if len(body) > LARGEST_KEPT:
        return f"<{len(body)} bytes>"
    try:
        read: object = json.loads(body)
    except (ValueError, UnicodeDecodeError):
        return f"<{len(body)} bytes that are not JSON>"
    if isinstance(read, dict):
        return {key: "***" if key in SECRETS else value for key, value in read.items()}
    return read
