"""Each error leads to a page: a failed task's log names it, and the page has a heading for each class."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_posthog
from airflow_provider_posthog import exceptions
from airflow_provider_posthog.compat import AirflowFailException, AirflowNotFoundException
from airflow_provider_posthog.exceptions import (
    PostHogErasureError,
    PostHogError,
    PostHogIncompleteError,
    PostHogPermissionError,
    PostHogSettingsError,
)
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.guidance import GuidedTask
from airflow_provider_posthog.tasks.log_lines import beginning, end_of
from airflow_provider_posthog.tasks.sensor import PostHogSensor
from airflow_provider_posthog.transfers.range_check import PostHogRangeCheckOperator
from tests.test_arguments import tasks

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
KINDS = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if kind.__module__ == exceptions.__name__ and issubclass(kind, (PostHogError, Warning))
]


class Fails(PostHogOperator):
    """Fails with what it is given."""

    def __init__(self, error: Exception, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.error = error

    def execute(self, context: Any) -> Any:
        raise self.error

    def execute_complete(self, context: Any, event: Any = None) -> Any:
        raise self.error


class FailsTwice(Fails):
    """Calls what it inherits, as many operators do."""

    def execute(self, context: Any) -> Any:
        return super().execute(context)


class Mends(Fails):
    """Handles what its parent's method raises."""

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except PostHogError:
            return "mended"


Said = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Said:
    """Return what was logged since the last call: class and address. Airflow 2 and 3 write their logs elsewhere."""

    def read() -> list[tuple[str, str]]:
        texts = [caplog.text, capfd.readouterr().out]
        caplog.clear()
        return next(filter(None, (re.findall(r"What to do about a (\w+): (\S+)", text) for text in texts)), [])

    return read


DENIED = PostHogPermissionError(status=403, method="GET", path="/x/")


@pytest.mark.parametrize("method", ["execute", "execute_complete"])
@pytest.mark.parametrize("kind", [Fails, FailsTwice])
def test_the_log_of_a_failed_task_names_the_page_once(method: str, kind: type[Fails], said: Said) -> None:
    task = kind(error=DENIED, task_id="fails")
    for _ in range(2):  # a task object may be used again
        with pytest.raises(PostHogPermissionError):
            getattr(task, method)({})
        assert said() == [("PostHogPermissionError", DENIED.docs)]


@pytest.mark.parametrize(
    ("states", "lasting"),
    [({"NOT_FOUND": 2}, True), ({"NOT_FOUND": 1, "SURVIVORS": 1}, False), ({"SURVIVORS": 2}, False), ({}, False)],
)
def test_identifiers_of_which_all_lead_to_nobody_make_no_other_try(states: dict[str, int], lasting: bool) -> None:
    with pytest.raises(PostHogErasureError) as caught:
        Fails(error=PostHogErasureError("2 persons", states=states), task_id="fails").execute({})
    assert isinstance(caught.value, AirflowFailException) is lasting


def test_what_is_no_error_of_ours_or_is_handled_says_nothing(said: Said) -> None:
    with pytest.raises(KeyError):
        Fails(error=KeyError("x"), task_id="fails").execute({})
    assert Mends(error=DENIED, task_id="mends").execute({}) == "mended"
    assert not said()


@pytest.mark.parametrize(
    ("package", "extra"),
    [
        ("orjson", "warehouse"),
        ("pyarrow.parquet", "warehouse"),
        ("pandas", "pandas"),
        ("polars", "polars"),
        ("deltalake", "delta"),
        ("pyiceberg.catalog", "iceberg"),
    ],
)
def test_a_package_that_is_missed_anywhere_in_a_task_leads_to_its_extra(package: str, extra: str, said: Said) -> None:
    missing = ModuleNotFoundError(f"No module named {package!r}", name=package)
    with pytest.raises(PostHogSettingsError, match=rf"Install airflow-provider-posthog\[{extra}\]\.") as caught:
        Fails(error=missing, task_id="fails").execute({})
    assert (caught.value.field, caught.value.problem) == ("Fails", f"needs {package.partition('.')[0]}.")
    assert [name for name, _ in said()] == ["PostHogSettingsError"]
    with pytest.raises(ModuleNotFoundError):  # of the reader's own
        Fails(error=ModuleNotFoundError("x", name="our_package"), task_id="fails").execute({})


@pytest.mark.parametrize(
    ("scheme", "remedy"),
    [
        ("s3", "Install apache-airflow-providers-amazon[s3fs] on the workers."),
        ("gs", "Install apache-airflow-providers-google on the workers."),
        ("oss", "Install Airflow's provider of that storage on the workers."),
    ],
)
def test_a_storage_that_airflow_does_not_know_leads_to_its_provider(scheme: str, remedy: str, said: Said) -> None:
    error = ValueError(f"No filesystem registered for scheme {scheme}")
    with pytest.raises(AirflowFailException, match=re.escape(f"Fails: cannot reach {scheme}://. {remedy}")):
        Fails(error=error, task_id="x").execute({})
    assert said()[0][0] == "PostHogSettingsError"
    with pytest.raises(ValueError, match="of another kind"):
        Fails(error=ValueError("of another kind"), task_id="x").execute({})


def test_sensors_and_tasks_without_a_connection_do_so_too(
    said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_posthog.sensors.retention import PostHogRetentionSensor

    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", '{"conn_type": "posthog", "password": ""}')
    assert issubclass(PostHogRetentionSensor, PostHogSensor)
    with pytest.raises(PostHogSettingsError):
        PostHogRetentionSensor(task_id="soon", before="2026-01-01T00:00:00Z").execute({})
    with pytest.raises(PostHogIncompleteError):
        PostHogRangeCheckOperator(
            task_id="check", path=f"file://{tmp_path}/", start="2026-01-01T00:00:00Z", end="2026-01-02T00:00:00Z"
        ).execute({})
    assert [name for name, _ in said()] == ["PostHogSettingsError", "PostHogIncompleteError"]


def test_a_connection_that_is_missing_leads_to_the_page_and_may_be_there_at_the_next_try(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AirflowNotFoundException) as caught:
        Fails(error=AirflowNotFoundException("The conn_id `x` isn't defined"), task_id="fails").execute({})
    assert not isinstance(caught.value, AirflowFailException)  # a backend of secrets that is down says the same
    words = f"a connection that is not defined: {exceptions.TROUBLESHOOTING}#from-airflow"
    # Airflow 3.0 writes a line to both.
    assert {caplog.text.count(words), capfd.readouterr().out.count(words)} in ({0, 1}, {1})
    assert "\n### From Airflow\n" in PAGE


@pytest.mark.parametrize(
    ("project", "where"), [({"project_id": 123456}, "/project/123456/dashboard/654321"), ({}, "")], ids=["one", "none"]
)
def test_the_first_line_has_an_address_that_can_be_opened(
    project: dict[str, int], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator

    connection = {"conn_type": "posthog", "password": "phx_k", "extra": project}
    monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps(connection))
    said = beginning(PostHogRefreshDashboardOperator(task_id="refresh", dashboard=654321))
    assert said.endswith(f": dashboard 654321. PostHog: https://us.posthog.com{where}")


def test_the_first_line_names_what_an_earlier_task_has_made_and_which_call_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from airflow_provider_posthog.operators.api import PostHogApiOperator
    from airflow_provider_posthog.operators.dashboards import PostHogRefreshDashboardOperator
    from airflow_provider_posthog.sensors.exports import PostHogExportSensor

    monkeypatch.delenv("AIRFLOW_CONN_POSTHOG_DEFAULT", raising=False)  # another file's may still be there
    sensor = PostHogExportSensor(task_id="seen", export_id={"id": 12345, "filename": "a.csv"})
    assert beginning(sensor) == "PostHogExportSensor: export 12345"
    task = PostHogRefreshDashboardOperator(task_id="refresh", dashboard={"id": 1, "dashboard_id": 7})
    assert beginning(task) == "PostHogRefreshDashboardOperator: dashboard 7"
    assert beginning(PostHogApiOperator(task_id="api", call="insights.list")) == "PostHogApiOperator: insights.list"


@pytest.mark.parametrize("kind", tasks(), ids=lambda kind: kind.__name__)
def test_every_task_is_guided(kind: type) -> None:
    assert issubclass(kind, GuidedTask)
    ours = next(one for one in kind.__mro__ if "execute" in vars(one))
    assert ours.__module__.startswith(airflow_provider_posthog.__name__), "one of Airflow's alone would say nothing"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_class_has_a_heading_of_its_name(kind: type) -> None:
    assert re.search(rf"^### {kind.__name__}$", PAGE, re.MULTILINE)


def test_a_class_of_a_module_s_own_leads_to_the_nearest_public_one() -> None:
    from airflow_provider_posthog.audit.records import AuditError

    assert AuditError("x").docs == f"{exceptions.TROUBLESHOOTING}#posthogerror"
    assert DENIED.docs.startswith("https://")
    page = exceptions.TROUBLESHOOTING.rpartition("/main/")[2]
    assert (ROOT / page).exists()


def constant_texts() -> str:
    """All texts of the package's source, with ``\\0`` where values go in."""
    found: list[str] = []
    for path in Path(str(airflow_provider_posthog.__file__)).parent.rglob("*.py"):
        if "emulator" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_every_text_that_the_page_explains_is_one_that_the_code_says() -> None:
    source = constant_texts()
    told = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
    assert len(told) > 40
    missing = [text for text in told for part in text.split("...") if part.strip() and part.strip() not in source]
    assert not missing


def test_one_row_is_told_in_the_singular() -> None:
    assert end_of({"rows": 1, "inserted": 1, "bytes": 1, "failed": 2}) == "Done: 1 row, 1 inserted, 2 failed, 1 byte"
    assert end_of({"rows": 12_345}) == "Done: 12,345 rows"
    assert end_of([{}, {}, {}]) == "Done: 3 items"
