"""The button that opens PostHog."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.operators.exports import PostHogCreateExportOperator
from airflow_provider_posthog.provider_info import get_provider_info
from airflow_provider_posthog.sensors.exports import PostHogExportSensor
from airflow_provider_posthog.transfers.export_to_object_storage import PostHogExportToObjectStorageOperator


class _Unreadable:
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name) if name.startswith("__") else RuntimeError(name)


@pytest.mark.parametrize("ti_key", [None, SimpleNamespace(), _Unreadable(), "x"], ids=["none", "empty", "bad", "text"])
@pytest.mark.parametrize("operator", [None, object(), _Unreadable()], ids=["none", "object", "bad"])
def test_it_never_raises(operator: Any, ti_key: Any, airflow_db: None) -> None:
    assert PostHogLink().get_link(operator, ti_key=ti_key) == ""


def test_it_is_registered_and_every_task_has_it() -> None:
    assert "airflow_provider_posthog.links.PostHogLink" in get_provider_info()["extra-links"]
    for kind in (PostHogCreateExportOperator, PostHogExportSensor, PostHogExportToObjectStorageOperator):
        assert [type(link) for link in kind.operator_extra_links] == [PostHogLink]


def test_airflow_3_reads_it_from_an_xcom() -> None:
    assert PostHogLink().xcom_key == PostHogLink.key == "_link_PostHogLink"


def test_pushing_without_a_task_instance_does_nothing() -> None:
    PostHogLink.push({}, "https://us.posthog.com/project/1/exports")
    PostHogLink.push({"ti": None}, "https://us.posthog.com/project/1/exports")


def test_pushing() -> None:
    pushed: dict[str, str] = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    PostHogLink.push({"ti": ti}, "https://us.posthog.com/project/1/exports")
    assert pushed == {"_link_PostHogLink": "https://us.posthog.com/project/1/exports"}
