"""Every block of Python in README and docs runs: tasks are made, and what asks PostHog asks the emulator."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime, timedelta, timezone
from types import CodeType
from typing import Any

import pytest

from airflow_provider_posthog import compat, exceptions
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.test_code_blocks import BLOCKS, public

try:
    from airflow.sdk import DAG, AssetWatcher, task
except ImportError:  # Airflow 2
    AssetWatcher = None
    from airflow.decorators import task
    from airflow.models.dag import DAG

#: Packages that the blocks of others import; a block of theirs runs where they are installed.
OTHERS = ("airflow.providers.airbyte", "airflow.providers.smtp", "dlt", "fivetran_provider_async")
#: What pages have said before of a call whose arguments they leave out (``erase_persons(..., warehouse=[...])``).
LEFT_OUT = {
    "erase_persons": {
        "identifiers_path": "s3://private/requests/1.csv",
        "work_path": "s3://private/erasures/{{ run_id }}.jsonl",
        "audit_path": "s3://our-certificates",
        "ticket": "DSR-42",
    },
    "PostHogToSqlOperator": {"task_id": "events", "source": "events", "sql_conn_id": "warehouse", "table": "events"},
}
#: What other tests run: pages whose blocks go together, and one that needs a request's certificate.
ELSEWHERE = ("# conftest.py", "# signups.py", "# test_signups.py", "from airflow_provider_posthog.audit.chain")
WHOLE = {where: code for where, code in BLOCKS.items() if not code.startswith(ELSEWHERE)}


class Filled(ast.NodeTransformer):
    """Puts arguments in the place of ``...``."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if any(is_ellipsis(each) for each in node.args):
            assert isinstance(node.func, ast.Name)
            given = {each.arg for each in node.keywords}
            left_out = {name: value for name, value in LEFT_OUT[node.func.id].items() if name not in given}
            node.args = [each for each in node.args if not is_ellipsis(each)]
            node.keywords += [ast.keyword(name, ast.Constant(value)) for name, value in left_out.items()]
        return node

    def visit_List(self, node: ast.List) -> ast.AST:
        node.elts = [each for each in node.elts if not is_ellipsis(each)]
        self.generic_visit(node)
        return node

    def visit_Set(self, node: ast.Set) -> ast.AST:
        return ast.parse("{'request_id': '1'}", mode="eval").body if any(map(is_ellipsis, node.elts)) else node


def is_ellipsis(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis


def test_most_blocks_run_here() -> None:
    assert len(WHOLE) >= len(BLOCKS) - 4


def for_this_airflow(code: str) -> str:
    """Let a line say what its comment says for Airflow 2, where this is one."""
    if importlib.util.find_spec("airflow.sdk") is None:
        if "AssetWatcher(" in code:
            pytest.skip("Airflow 3 only")
        code = re.sub(r"from airflow\.sdk import .*# Airflow 2: (.*)", r"\1", code)
        if "airflow.sdk" in code:
            pytest.skip("Airflow 3 only")
    return code


def tasks_before() -> dict[str, Any]:
    """The tasks that a docstring's example goes on from."""
    return {name: compat.BaseOperator(task_id=f"before_{name}") for name in ("resolve", "approve", "delete", "erased")}


def names_of_pages() -> dict[str, Any]:
    """What a page has imported in a block before, or what stands there for the reader's own."""
    return {
        **public(),
        **{name: value for name, value in vars(exceptions).items() if name.startswith("PostHog")},
        **{"datetime": datetime, "timedelta": timedelta, "timezone": timezone, "Asset": compat.Asset},
        **{"task": task, "DAG": DAG, "AssetWatcher": AssetWatcher, "EmulatorProcess": EmulatorProcess},
        **{"__name__": "block"},
    }


def tasks_that_take_nothing(known: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """Yield the functions of the ``@task``s that a block has made, where they need no argument."""
    for value in known.values():
        function = getattr(value, "function", None)
        if inspect.isfunction(function) and not inspect.signature(function).parameters:
            yield function


@pytest.mark.parametrize("where", WHOLE)
def test_a_block_runs(where: str, connected: EmulatorProcess) -> None:
    code = for_this_airflow(WHOLE[where]).replace("events=1_000_000", "events=1_000")
    filled = ast.fix_missing_locations(Filled().visit(ast.parse(code)))
    waits = "async_client.send" in code
    known = {**names_of_pages(), "posthog": connected}
    compiled = compile(filled, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with DAG("block_" + re.sub(r"\W", "_", where), schedule=None, start_date=datetime(2026, 1, 1, tzinfo=timezone.utc)):
        known |= tasks_before()
        try:
            if waits:
                asyncio.run(awaited(compiled, known))
            else:
                exec(compiled, known)
        except ModuleNotFoundError as error:
            if not str(error.name).startswith(OTHERS):
                raise
            pytest.skip(f"{error.name} is not installed")
        except exceptions.PostHogSettingsError as error:
            if error.problem != "needs Airflow 3.3 or newer.":
                raise
            pytest.skip(str(error))
    for run in tasks_that_take_nothing(known):
        returned = run()
        if inspect.isawaitable(returned):
            asyncio.run(finished(returned))


async def finished(returned: Awaitable[Any]) -> Any:
    """Wait for what an asynchronous task returns."""
    return await returned


async def awaited(compiled: CodeType, known: dict[str, Any]) -> None:
    """Run a block that shows calls of both clients."""
    hook = PostHogHook()
    async with await hook.async_client() as client:
        result = eval(compiled, {**known, "client": hook.client, "async_client": client})
        if inspect.isawaitable(result):
            await result
