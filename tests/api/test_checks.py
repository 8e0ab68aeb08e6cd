"""The table of checks."""

from __future__ import annotations

import inspect

import pytest

from airflow_provider_posthog.api import checks
from airflow_provider_posthog.exceptions import PostHogSettingsError


@pytest.mark.parametrize("name", [name for name in checks.CHECKS if name != "scripted"])
def test_each_check_is_there_and_takes_names_only(name: str) -> None:
    parameters = inspect.signature(checks.check(name)).parameters.values()
    assert parameters
    assert {parameter.kind for parameter in parameters} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", ["", "os:system", checks.CHECKS["insight_fresh"], "insight_Fresh"])
def test_nothing_but_the_table_is_loaded(name: str) -> None:
    with pytest.raises(PostHogSettingsError, match="does not have"):
        checks.check(name)
    with pytest.raises(PostHogSettingsError, match="does not have"):
        checks.start(name, {})


@pytest.mark.parametrize("arguments", [{}, {"insight": 1}, {"insight": 1, "fresher_than": "x", "colour": "red"}])
def test_arguments_of_another_version_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(PostHogSettingsError, match="same version"):
        checks.start("insight_fresh", arguments)


def test_starting_sends_nothing_yet() -> None:
    steps = checks.start("insight_fresh", {"insight": 1, "fresher_than": "2026-11-22"})
    assert next(steps).path == "insights/1/"  # type: ignore[union-attr]
    steps.close()
