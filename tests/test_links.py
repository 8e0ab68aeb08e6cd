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
from tests.support.checks import use
from tests.support.scripted import ScriptedServer
from tests.test_arguments import tasks


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


#: What works on files and databases only, or sends whatever call it is given.
WITHOUT_A_PAGE = {
    "PostHogApiOperator",
    "PostHogCloseErasureOperator",
    "PostHogDiscardErasureOperator",
    "PostHogEraseFromFilesOperator",
    "PostHogEraseFromSqlOperator",
    "PostHogErasureGateOperator",
    "PostHogErasuresDueSensor",
    "PostHogExtendErasureOperator",
    "PostHogFinishAccessOperator",
    "PostHogFinishErasureOperator",
    "PostHogRangeCheckOperator",
    "PostHogSealErasureOperator",
    "PostHogSuppressPersonsOperator",
    "PostHogSweepErasureFilesOperator",
}


def test_every_task_about_something_in_posthog_has_the_button() -> None:
    without = {kind.__name__ for kind in tasks() if not getattr(kind, "operator_extra_links", ())}
    assert without == WITHOUT_A_PAGE


@pytest.mark.parametrize(
    "kind", [kind for kind in tasks() if getattr(kind, "page", "")], ids=lambda kind: kind.__name__
)
def test_a_page_that_is_known_before_is_shown_before_anything_else(
    kind: Any, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, server)
    pushed: dict[str, str] = {}
    task = kind.__new__(kind)
    vars(task).update(posthog_conn_id="posthog_default", project_id=7)
    task.begins({"ti": SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))})
    assert pushed == {"_link_PostHogLink": f"{server.url}/project/7/{kind.page}"}
    assert server.requests == []


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


def _in_worker(number: str, **told: Any) -> SimpleNamespace:
    """A task instance as Airflow 3 hands it to the links at the end of a task, in the worker."""
    told = {"next_method": None, "task_reschedule_count": 0, **told}
    return SimpleNamespace(
        id=number, xcom_push=lambda key, value: None, _ti_context_from_server=SimpleNamespace(**told)
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Which task instances' XComs were asked for."""
    asked: list[Any] = []

    def get_value(*, ti_key: Any, key: str) -> str:
        asked.append(ti_key)
        return "https://us.posthog.com/earlier"

    monkeypatch.setattr("airflow_provider_posthog.links.XCom", SimpleNamespace(get_value=get_value))
    return asked


def test_a_task_that_fails_before_its_link_is_known_asks_for_no_xcom(asked: list[Any]) -> None:
    """Airflow would log an error that it is not there."""
    assert PostHogLink().get_link(object(), ti_key=_in_worker("a")) == ""  # type: ignore[arg-type]
    assert asked == []


def test_a_worker_knows_what_it_has_pushed(asked: list[Any]) -> None:
    ti = _in_worker("b")
    PostHogLink.push({"ti": ti}, "https://us.posthog.com/project/1/exports")
    assert PostHogLink().get_link(object(), ti_key=ti) == "https://us.posthog.com/project/1/exports"  # type: ignore[arg-type]
    assert asked == []


@pytest.mark.parametrize("told", [{"next_method": "execute_complete"}, {"task_reschedule_count": 2}])
def test_a_task_that_goes_on_asks_for_what_was_pushed_before(asked: list[Any], told: dict[str, Any]) -> None:
    ti = _in_worker("c", **told)
    assert PostHogLink().get_link(object(), ti_key=ti) == "https://us.posthog.com/earlier"  # type: ignore[arg-type]
    assert asked == [ti]
