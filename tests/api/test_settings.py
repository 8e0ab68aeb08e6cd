"""Settings of a client."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.api.settings import ClientSettings, parse_project_id
from airflow_provider_posthog.exceptions import PostHogSettingsError
from tests.api.cases import KEY


def test_project_path() -> None:
    settings = ClientSettings(project_id=7)
    assert settings.project_path() == "/api/projects/7/"
    assert replace(settings, path_prefix="environments").project_path() == "/api/environments/7/"
    with pytest.raises(PostHogSettingsError, match="project_id"):
        ClientSettings().project_path()


def test_secrets_are_not_shown() -> None:
    text = repr(ClientSettings(api_key=KEY, proxy="http://joe:pass-word@proxy"))
    assert KEY not in text
    assert "pass-word" not in text
    assert "us.posthog.com" in text


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("", None), (1, 1), ("1", 1), (" 12345 ", 12345), ("9" * 18, int("9" * 18))]
)
def test_project_id(value: object, expected: int | None) -> None:
    assert parse_project_id(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "@current",
        0,
        -1,
        "0",
        "-1",
        "01",
        "1.0",
        1.0,
        "1e3",
        "abc",
        "١٢",
        "1 2",
        "1\n2",
        "9" * 19,
        True,
        False,
        [],
        {},
        "phc_abcdefghijklmnopqrstuvwxyz",
        KEY,
        f"x{KEY}",
        "../1",
        "1/exports",
        "jane@example.com",
    ],
)
def test_what_is_no_project(value: object) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        parse_project_id(value)
    assert caught.value.field == "project_id"
    assert "12345" in caught.value.remedy
    assert "phx_" not in str(caught.value)
    assert "jane" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://us.posthog.com/project/12345",
        "http://localhost:8000/project/12345/insights/ab?x=1",
        "//h/api/projects/12345/",
    ],
)
def test_the_address_of_a_page_says_the_project(address: str) -> None:
    with pytest.raises(PostHogSettingsError, match=r"^project_id: is the address of a page\. Write 12345\.$"):
        parse_project_id(address)


def test_the_project_token_is_named() -> None:
    with pytest.raises(PostHogSettingsError, match="a project token"):
        parse_project_id("phc_abcdefghijklmnopqrstuvwxyz")


@given(st.one_of(st.text(), st.integers(), st.floats(), st.booleans(), st.none(), st.binary()))
def test_any_value(value: object) -> None:
    said = ""
    try:
        found = parse_project_id(value)
    except PostHogSettingsError as error:
        said = str(error)
    else:
        assert found is None or found > 0
    assert len(said) < 300
