"""The page about the emulator: the DAG and the test that it shows run, and so does its scenario."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.emulator.control.scenario import read_scenario
from airflow_provider_posthog.emulator.process import EmulatorProcess

PAGE = Path(__file__).parents[2] / "docs" / "emulator.md"


def block(language: str, begins: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (only,) = [each for each in found if each.startswith(begins)]
    return str(only)


def imported(name: str, folder: Path) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(block("python", f"# {name}.py"), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dag_and_its_test_run(
    posthog: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    shown = imported("signups", tmp_path)
    # Airflow 3.1 and later need the DAG in their database before: see the fixture
    monkeypatch.setitem(sys.modules, "signups", SimpleNamespace(dag=SimpleNamespace(test=lambda: run_dag(shown.dag))))  # type: ignore[arg-type]
    imported("test_signups", tmp_path).test_an_export_that_fails_once_is_made_again(posthog, monkeypatch)


def test_the_scenario_is_one(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(block("yaml", "timezone"), encoding="utf-8")
    with EmulatorProcess(scenario=str(path)) as posthog:
        assert [key.get("name") for key in posthog.keys] == ["reader", "endpoints"]
        assert posthog.count_events("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z") == 501
    assert read_scenario(path).data() == {"events": 500, "seed": 3, "start": "2026-11-01", "days": 7}


def test_the_container_starts_the_emulator_with_options_that_it_has() -> None:
    from airflow_provider_posthog.emulator.__main__ import parser

    lines = block("dockerfile", "FROM").replace("\\\n", "")
    words = [re.findall(r'"([^"]*)"', line) for line in lines.splitlines() if line.startswith(("ENTRYPOINT", "CMD"))]
    options = [word for line in words for word in line][3:]
    options[options.index("--scenario") + 1] = str(PAGE.parent / "nope.yaml")
    with pytest.raises(SystemExit):
        parser().parse_args(options)
    del options[options.index("--scenario") : options.index("--scenario") + 2]
    read = parser().parse_args(options)
    assert (read.host, read.port, read.storage_port) == ("0.0.0.0", 8010, 8011)
    assert read.storage_url == "http://posthog:8011"
