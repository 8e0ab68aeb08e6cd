"""Recognize failures that a smaller query avoids."""

from __future__ import annotations

import re

from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogJobFailed,
    PostHogTransportError,
)

_HEAVY_STATUSES = frozenset({504, 512, 513, 524})
#: ClickHouse's limits of time, memory and size, as PostHog words them in codes and sentences.
_HEAVY = re.compile(
    r"(?i)timeout|timed out|too[ _]slow|too[ _]long|memory[ _]limit|too[ _]large|too[ _]many[ _](?:rows|bytes)"
    r"|size[ _]exceeded|execution[ _]time"
)


def is_too_heavy(error: PostHogError) -> bool:
    """Return whether PostHog gave up on a query because of its size, or its answer was too large to be read.

    A smaller window may do.

    :param error: what asking raised.
    """
    if isinstance(error, PostHogAPIError):
        if error.status in _HEAVY_STATUSES:
            return True
        return error.status in (400, 500) and bool(_HEAVY.search(f"{error.code} {error.detail}"))
    if isinstance(error, PostHogTransportError):
        return error.too_large
    return isinstance(error, PostHogJobFailed) and bool(_HEAVY.search(str(error)))
