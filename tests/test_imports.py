"""What importing this provider costs every DAG file and every Airflow process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "airflow_provider_posthog"
HEAVY = {"pandas", "pyarrow", "duckdb", "chdb", "sqlalchemy", "requests", "httpx", "aiohttp", "sqlglot", "openpyxl"}
# What a DAG file imports of Airflow itself. airflow.sdk loads its names when they are asked for.
AIRFLOW = """
try:
    from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, Connection, ObjectStoragePath, task
except ImportError:
    import airflow.decorators, airflow.models.baseoperator, airflow.sensors.base
"""


def loaded(*statements: str) -> list[set[str]]:
    """Run statements in a fresh process; return the modules that are loaded after each of them."""
    code = "import json, sys\nfound = []\n"
    for statement in statements:
        code += f"{statement}\nfound.append(sorted(sys.modules))\n"
    code += "print(json.dumps(found))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, check=True, capture_output=True, timeout=60
    )
    return [set(modules) for modules in json.loads(done.stdout.splitlines()[-1])]


def modules_of(folder: str) -> list[str]:
    found = [f"airflow_provider_posthog.{folder}.{path.stem}" for path in (PACKAGE / folder).glob("*.py")]
    return [name.removesuffix(".__init__") for name in found]


def test_dag_files_load_nothing_heavy() -> None:
    ours = [name for folder in ("operators", "sensors", "transfers") for name in modules_of(folder)]
    assert len(ours) > 5
    before, after = loaded(AIRFLOW, f"import {', '.join(ours)}")
    assert set(ours) <= after
    assert not HEAVY & (after - before)
    # requests and httpx may be there through Airflow, but not what brings them into our own tasks
    assert not [name for name in after if name.startswith("airflow_provider_posthog.extract.")]
    assert not {"airflow_provider_posthog.api.clients", "airflow_provider_posthog.hooks.posthog"} & after
    assert not [name for name in after if name.startswith("airflow_provider_posthog.emulator")]


@pytest.mark.parametrize(
    "statement",
    [
        "import airflow_provider_posthog",
        "from airflow_provider_posthog.provider_info import get_provider_info; get_provider_info()",
    ],
)
def test_every_airflow_process_loads_next_to_nothing(statement: str) -> None:
    before, after = loaded("", statement)
    tops = {name.split(".")[0] for name in after - before}
    assert "airflow_provider_posthog" in tops
    assert not tops & (HEAVY | {"airflow", "fsspec", "upath", "urllib3", "pydantic"})


WITHOUT = """
import importlib, json, sys
for name in ("aiohttp", "chdb", "deltalake", "duckdb", "numpy", "openpyxl", "orjson", "pandas", "polars", "pyarrow"):
    sys.modules[name] = None
missing = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ImportError as error:
        missing[name] = str(error)
print(json.dumps(missing))
"""
#: What a task opens when it runs, after it has seen that the extra is there.
NEEDS_AN_EXTRA = ("erasure.files.", "extract.", "load.copy_binary", "results.arrow_types", "results.row_slices")


def test_without_extras_only_what_reads_rows_in_bulk_is_missing() -> None:
    """An erasure, a watcher and a query do not need them."""
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
        if path.stem != "__main__"
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT, json.dumps(names)],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    missing: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    short = {name.partition(".")[2]: text for name, text in missing.items()}
    for name, text in short.items():
        named = "airflow-provider-posthog[emulator]" in text or "need Airflow 3." in text
        assert named or name.startswith(NEEDS_AN_EXTRA), (name, text)
    assert "extract.writers" in short


def test_the_check_sees_what_is_loaded() -> None:
    before, after = loaded("", "import airflow_provider_posthog.api.clients")
    assert "requests" in after - before
    assert "httpx" not in after, "only triggers need it"
