"""Read ISO times alike on every supported Python."""

from __future__ import annotations

import re
from datetime import datetime

from airflow_provider_posthog.patterns import pattern

_FRACTION = pattern(r"\.(\d+)")


def read_iso(text: str) -> datetime:
    """Read a time; without an offset it stays without one.

    :param text: ISO text, with an offset, ``Z``, or neither. A fraction of a second may have any number of digits.
    :raises ValueError: if it is not a time.
    """
    text = re.sub(r"[zZ]$", "+00:00", text.strip())
    return datetime.fromisoformat(_FRACTION.sub(_six_digits, text, count=1))  # Python 3.10 takes three or six digits


def _six_digits(fraction: re.Match[str]) -> str:
    return "." + fraction.group(1)[:6].ljust(6, "0")
