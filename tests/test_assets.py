"""Assets of PostHog: one thing has one URI, on whichever Airflow."""

from __future__ import annotations

import warnings
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_posthog.assets import convert_asset_to_openlineage, create_asset, sanitize_uri
from airflow_provider_posthog.compat import Asset
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.provider_info import get_provider_info

GOOD = {
    "posthog://us.posthog.com/12345/dashboard/7": "posthog://us.posthog.com/12345/dashboard/7",
    "posthog://US.PostHog.com/12345/dashboard/7/": "posthog://us.posthog.com/12345/dashboard/7",
    "posthog://us.posthog.com/12345/events": "posthog://us.posthog.com/12345/events",
    "posthog://localhost:8000/1/insight/AbCd1234": "posthog://localhost:8000/1/insight/AbCd1234",
    "posthog://post_hog/1/batch_export/0190-ab.c": "posthog://post_hog/1/batch_export/0190-ab.c",
    "posthog://[::1]:8000/1/events": "posthog://[::1]:8000/1/events",
    "posthog://127.0.0.1/1/events": "posthog://127.0.0.1/1/events",
}
BAD = [
    "posthog://us.posthog.com",
    "posthog://us.posthog.com/",
    "posthog://us.posthog.com/12345",
    "posthog:///12345/events",
    "posthog://us.posthog.com/0/events",
    "posthog://us.posthog.com/007/events",
    "posthog://us.posthog.com/mine/events",
    "posthog://us.posthog.com/1/Events",
    "posthog://us.posthog.com//1/events",
    "posthog://us.posthog.com/1/dashboard/7/tiles",
    "posthog://us.posthog.com/1/dashboard/7?x=1",
    "posthog://us.posthog.com/1/dashboard/7#x",
    "posthog://ann:secret@us.posthog.com/1/events",
    "posthog://:secret@us.posthog.com/1/events",
    "posthog://us.posthog.com:http/1/events",
    "posthog://us posthog.com/1/events",
]


@pytest.mark.parametrize(("uri", "form"), GOOD.items())
def test_a_thing_has_one_uri(uri: str, form: str) -> None:
    assert sanitize_uri(urlsplit(uri)).geturl() == form
    assert sanitize_uri(urlsplit(form)).geturl() == form


@pytest.mark.parametrize("uri", BAD)
def test_what_names_nothing_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="posthog://<host>") as caught:
        sanitize_uri(urlsplit(uri))
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_brought_into_one_form_or_refused(text: str) -> None:
    try:
        once = sanitize_uri(urlsplit(f"posthog://{text}")).geturl()
    except ValueError:
        return
    assert sanitize_uri(urlsplit(once)).geturl() == once


@pytest.mark.parametrize(("uri", "form"), GOOD.items())
def test_airflow_itself_brings_it_into_that_form(uri: str, form: str) -> None:
    """It finds the sanitizer through the entry point of the installed package."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert Asset(uri).uri == form


def test_airflow_itself_refuses_what_names_nothing() -> None:
    """Airflow 2 warns that 3 will."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises((ValueError, UserWarning), match="an asset of PostHog is written"):
            Asset("posthog://us.posthog.com/1/dashboard/7/tiles")


def test_all_that_the_provider_names_is_there() -> None:
    from airflow_provider_posthog import assets

    info: dict[str, Any] = get_provider_info()
    for key in ("asset-uris", "dataset-uris"):  # as Airflow 3 and 2 call them
        (entry,) = info[key]
        assert entry["schemes"] == ["posthog"]
        for name in ("handler", "factory", "to_openlineage_converter"):
            module, _, function = entry[name].rpartition(".")
            assert module == assets.__name__
            assert callable(getattr(assets, function))


def test_an_asset_is_made_of_its_parts() -> None:
    asset = create_asset(project_id=12345, kind="dashboard", id=7, extra={"team": "growth"})
    assert asset.uri == "posthog://us.posthog.com/12345/dashboard/7"
    assert asset.extra == {"team": "growth"}
    assert create_asset(project_id="1", kind="events", host="EU.posthog.com").uri == "posthog://eu.posthog.com/1/events"


@pytest.mark.parametrize(
    "part",
    [
        {"host": ""},
        {"host": "https://us.posthog.com"},
        {"host": "us.posthog.com/"},
        {"host": "us.posthog.com?x"},
        {"host": "us.posthog.com#x"},
        {"host": "ann@us.posthog.com"},
        {"host": "us.posthog.com:99999"},
        {"project_id": 0},
        {"project_id": "1/events"},
        {"kind": "Dash board"},
        {"id": "7/8"},
        {"id": ""},
    ],
    ids=str,
)
def test_parts_that_make_no_uri_are_refused(part: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError) as caught:
        create_asset(**{"project_id": 1, "kind": "dashboard", "id": 7, **part})
    assert caught.value.field == "uri"
    assert "posthog://" in str(caught.value)


def test_openlineage_gets_the_host_and_the_path() -> None:
    found = convert_asset_to_openlineage(create_asset(project_id=1, kind="dashboard", id=7), None)
    assert (found.namespace, found.name) == ("posthog://us.posthog.com", "1/dashboard/7")
