"""Times in ISO text are read alike on each supported Python."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_posthog.api.times import read_iso

UTC = timezone.utc


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-01T00:00:00Z", datetime(2026, 11, 1, tzinfo=UTC)),
        (" 2026-11-01 00:00:00z ", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T00:00:00.5Z", datetime(2026, 11, 1, microsecond=500_000, tzinfo=UTC)),
        ("2026-11-01T00:00:00.123456789+02:00", datetime(2026, 10, 31, 22, microsecond=123_456, tzinfo=UTC)),
        ("2026-11-01T00:00:00", datetime(2026, 11, 1)),
    ],
)
def test_any_number_of_digits_and_a_z_are_read(text: str, expected: datetime) -> None:
    assert read_iso(text) == expected
    assert read_iso(text).utcoffset() in (None, timedelta(0), timedelta(hours=2))


@pytest.mark.parametrize("text", ["", "Z", "yesterday", "2026-13-01T00:00:00Z", "."])
def test_what_is_not_a_time_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever fromisoformat says
        read_iso(text)
