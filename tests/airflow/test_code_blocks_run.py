"""Every block of Python in README and docs runs: tasks are made, and what asks PostHog asks the emulator."""

from __future__ import annotations

import ast
import importlib.util
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from airflow_provider_posthog import compat, exceptions
from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.test_code_blocks import BLOCKS, public

#: Packages that the blocks of others import; a block of theirs runs where they are installed.
OTHERS = ("airflow.providers.airbyte", "airflow.providers.smtp", "dlt", "fivetran_provider_async")
#: What stands for the reader's own in the pages: such a block is a part of something.
READERS_OWN = {"client", "async_client", "request", "run_id"}


def is_part(code: str) -> bool:
    """Tell whether a block leaves out arguments that were shown before (``erase_persons(..., warehouse=[...])``)."""
    tree = ast.parse(code)
    calls = [
        each
        for one in ast.walk(tree)
        if isinstance(one, (ast.Call, ast.List, ast.Set))
        for each in ast.iter_child_nodes(one)
    ]
    left_out = any(isinstance(each, ast.Constant) and each.value is Ellipsis for each in calls)
    used = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Load)}
    made = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
    made |= {one.arg for one in ast.walk(tree) if isinstance(one, ast.arg)}
    return left_out or bool((used - made) & READERS_OWN)


#: tests/airflow/test_emulator_docs.py runs the others of that page, together.
WHOLE = {where: code for where, code in BLOCKS.items() if not is_part(code) and "docs/emulator.md" not in where}


def test_most_blocks_are_whole() -> None:
    assert len(WHOLE) > 0.75 * len(BLOCKS)


def for_this_airflow(code: str) -> str:
    """Let a line say what its comment says for Airflow 2, where this is one."""
    if importlib.util.find_spec("airflow.sdk") is None:
        code = re.sub(r"from airflow\.sdk import .*# Airflow 2: (.*)", r"\1", code)
        if "airflow.sdk" in code:
            pytest.skip("Airflow 3 only")
    return code


@pytest.mark.parametrize("where", WHOLE)
def test_a_block_runs(where: str, connected: EmulatorProcess) -> None:
    try:
        from airflow.sdk import DAG
    except ImportError:  # Airflow 2
        from airflow.models.dag import DAG
    code = for_this_airflow(WHOLE[where])
    # what a page has imported in a block before, or what stands there for the reader's own
    known: dict[str, Any] = {
        **public(),
        **{name: value for name, value in vars(exceptions).items() if name.startswith("PostHog")},
        **{
            "datetime": datetime,
            "timedelta": timedelta,
            "timezone": timezone,
            "Asset": compat.Asset,
            "__name__": "block",
        },
    }
    with DAG("block_" + re.sub(r"\W", "_", where), schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
        try:
            exec(compile(code, where, "exec"), known)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(OTHERS):
                raise
            pytest.skip(f"{error.name} is not installed")
        except exceptions.PostHogSettingsError as error:
            if error.problem != "needs Airflow 3.3 or newer.":
                raise
            pytest.skip(str(error))
