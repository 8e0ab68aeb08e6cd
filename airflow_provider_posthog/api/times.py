"""Read ISO times alike on every supported Python."""

from __future__ import annotations

import re
from datetime import datetime

from airflow_provider_posthog.patterns import pattern

_FRACTION = pattern(r"\.(\d+)")
# BigQuery and Snowflake write "UTC", PostgreSQL "+00", others "+0530"; Python 3.10 takes none of them.
_UTC = pattern(r"(?:[zZ]|\s+(?:UTC|GMT))$")
_OFFSET = pattern(r"(:\d\d(?:\.\d+)?)\s*([+-]\d\d)(?::?(\d\d))?$")


def read_iso(text: str) -> datetime:
    """Read a time; without an offset it stays without one.

    :param text: ISO text, with an offset, ``Z``, or neither. A fraction of a second may have any number of digits, and
        an offset may be as databases write it: ``+05``, ``+0530``, `` UTC``.
    :raises ValueError: if it is not a time.
    """
    text = _UTC.sub("+00:00", text.strip(), count=1)
    text = _OFFSET.sub(lambda found: f"{found[1]}{found[2]}:{found[3] or '00'}", text, count=1)
    return datetime.fromisoformat(_FRACTION.sub(_six_digits, text, count=1))  # Python 3.10 takes three or six digits


def _six_digits(fraction: re.Match[str]) -> str:
    return "." + fraction.group(1)[:6].ljust(6, "0")
