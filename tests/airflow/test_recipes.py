"""The recipes: they parse with the provider they are for, and name it where it is not installed.

The four providers weigh more than a gigabyte, so one cell of the matrix has them (extra ``recipes``).
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

RECIPES = Path(__file__).parents[2] / "dags_examples" / "recipes"
#: The package that each recipe needs, as it is imported.
PROVIDERS = {"bigquery": "google", "databricks": "databricks", "redshift": "amazon", "snowflake": "snowflake"}


def installed(provider: str) -> bool:
    return importlib.util.find_spec(f"airflow.providers.{provider}") is not None


def recipe(name: str) -> Any:
    return importlib.reload(importlib.import_module(f"dags_examples.recipes.{name}"))


def test_there_is_one_for_each() -> None:
    assert {path.stem for path in RECIPES.glob("*.py")} == set(PROVIDERS)


@pytest.mark.parametrize("name", PROVIDERS)
def test_it_needs_one_provider_and_says_so(name: str) -> None:
    tree = ast.parse((RECIPES / f"{name}.py").read_text())
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    needed = {module.split(".")[2] for module in modules if module.startswith("airflow.providers.")}
    assert needed - {"common"} == {PROVIDERS[name]}
    assert f"apache-airflow-providers-{PROVIDERS[name]}" in (ast.get_docstring(tree) or "")


@pytest.mark.parametrize("name", PROVIDERS)
def test_it_parses(name: str) -> None:
    """Operators refuse arguments that they do not have, so to parse is to be right about those."""
    provider = PROVIDERS[name]
    if not installed(provider):
        with pytest.raises(ModuleNotFoundError) as missing:
            recipe(name)
        assert missing.value.name == f"airflow.providers.{provider}"
        return
    dag = recipe(name).dag
    upstream = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    assert upstream == {
        "stage": set(),
        "prepare": set(),
        "files": {"stage"},
        "copy": {"files", "prepare"},
        "replace": {"copy"},
        "check": {"replace"},
    }
    assert dag.get_task("replace").trigger_rule == "none_failed"
    # What each run fills in must be among what the provider's operator fills in.
    copy = dag.get_task("copy")
    for field in ("files", "source_objects", "s3_key"):
        if hasattr(copy, field):
            assert field in copy.template_fields


@pytest.mark.parametrize(("name", "first"), [("bigquery", "posthog/events/a.parquet"), ("snowflake", "a.parquet")])
def test_the_files_are_those_of_the_manifest(name: str, first: str, tmp_path: Path) -> None:
    if not installed(PROVIDERS[name]):
        pytest.skip(f"apache-airflow-providers-{PROVIDERS[name]} is not installed")
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"files": [{"path": "a.parquet", "bytes": 1}, {"path": "b.parquet", "bytes": 2}]}))
    files = recipe(name).dag.get_task("files").python_callable
    assert files({"manifest": f"file://{manifest}", "path": f"file://{tmp_path}"})[0] == first


def test_the_manifest_for_redshift(tmp_path: Path) -> None:
    if not installed("amazon"):
        pytest.skip("apache-airflow-providers-amazon is not installed")
    manifest = tmp_path / "_manifests" / "day.json"
    manifest.parent.mkdir()
    files = recipe("redshift").dag.get_task("files").python_callable
    staged = {"manifest": f"file://{manifest}", "path": f"file://{tmp_path}"}
    manifest.write_text(json.dumps({"files": []}))
    assert files(staged) is None
    manifest.write_text(json.dumps({"files": [{"path": "a.parquet", "bytes": 12}]}))
    assert files(staged) == "posthog/events/_manifests/redshift-day.json"
    written = json.loads((manifest.parent / "redshift-day.json").read_text())
    url = "s3://lake/posthog/events/a.parquet"
    assert written == {"entries": [{"url": url, "mandatory": True, "meta": {"content_length": 12}}]}
