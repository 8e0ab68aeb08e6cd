"""The ids of PostHog's that tasks take as arguments."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.tasks.lists import number_of


@pytest.mark.parametrize(("value", "number"), [(7, 7), ("7", 7), (" 12 ", 12), ("007", 7)])
def test_an_id_is_a_number_or_its_digits(value: Any, number: int) -> None:
    assert number_of("cohort_id", value) == number


@pytest.mark.parametrize(
    "value", [0, "0", -1, True, None, "", "1.5", "1e3", "1_000", "\u0663", "{{ x }}", "9" * 5000, [7]]
)
def test_what_is_no_id_is_refused_with_its_field(value: Any) -> None:
    with pytest.raises(PostHogSettingsError, match=r"cohort_id.*is not a number.*Write the number in its address"):
        number_of("cohort_id", value)
