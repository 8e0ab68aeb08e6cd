"""What holds of every example: it is short, says on its page what it does, and together they show every class."""

from __future__ import annotations

import ast
import importlib
import io
import re
import tokenize
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers import base

from tests.support.registry import classes

FOLDER = Path(__file__).parents[2] / "dags_examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
#: Lines of code, without documentation, comments and imports.
MOST_LINES = 30
#: What no author of a DAG writes: bases, what tasks defer to, and what Airflow takes by the connection's type.
INSIDE = {
    *("PostHogInsightSensor", "PostHogCheckTrigger", "PostHogCompletedTrigger", "PostHogJobTrigger"),
    *("PostHogRefreshTrigger", "PostHogTimerTrigger", "PostHogWatchingTrigger"),
}
_SILENT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def lines_of_code(text: str) -> int:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {line for one in tokens if one.type not in _SILENT for line in range(one.start[0], one.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node, (ast.Import, ast.ImportFrom)) or is_text:
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        elif isinstance(node, ast.Try) and any("ImportError" in ast.unparse(one.type or node) for one in node.handlers):
            lines -= {node.lineno, *(one.lineno for one in node.handlers)}
    return len(lines)


def dags(path: Path) -> list[Any]:
    module = importlib.reload(importlib.import_module(f"dags_examples.{path.stem}"))
    found = [one for one in vars(module).values() if type(one).__name__ == "DAG" and hasattr(one, "dag_id")]
    if not found:  # Airflow 2 has no watchers
        assert not hasattr(base, "BaseEventTrigger")
    return found


def settings_in(*folders: str) -> set[str]:
    """The variables of the environment that set examples, by the files that name them."""
    paths = [path for folder in folders for path in (FOLDER.parent / folder).rglob("*.py")]
    return {name for path in paths for name in re.findall(r"POSTHOG_EXAMPLE_\w*", path.read_text(encoding="utf-8"))}


def test_what_sets_examples_is_read_by_one() -> None:
    """A name that no example has any more would be set for nothing, and the example write where it does by default."""
    assert settings_in("demo", "tests/e2e", "tests/soak", "tests/ui") <= settings_in("dags_examples")
    for each in ("demo", "tests/soak"):
        assert "POSTHOG_EXAMPLE_FILES" in settings_in(each)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    assert lines_of_code(path.read_text(encoding="utf-8")) <= MOST_LINES


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_makes_dags_that_say_on_their_page_what_they_do_and_wait_for_no_pool(path: Path) -> None:
    for dag in dags(path):
        assert dag.doc_md
        assert dag.doc_md == importlib.import_module(f"dags_examples.{path.stem}").__doc__
        for task in dag.tasks:
            assert task.pool == "default_pool", "a pool that is not there lets a task wait for ever, without a word"


def test_every_public_class_is_in_an_example() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES)
    shown = set(re.findall(r"\bPostHog\w+", text))
    rooms = ("operators", "sensors", "transfers", "notifications", "triggers", "hooks")
    known = {name.rpartition(".")[2] for room in rooms for name, _ in classes(room)} | {"PostHogRetryPolicy"}
    assert known - shown == INSIDE
    assert {"erase_persons", "create_asset"} <= set(re.findall(r"\w+", text))


def test_every_example_is_on_the_page_of_examples() -> None:
    page = (FOLDER.parent / "docs" / "examples.md").read_text(encoding="utf-8")
    assert re.findall(r'--8<-- "dags_examples/(\w+)\.py"', page) == [path.stem for path in EXAMPLES]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_run_by_a_test(path: Path) -> None:
    stories = [one for one in Path(__file__).parent.glob("*.py") if one != Path(__file__)]
    named = re.compile(rf"[\"'. ]{path.stem}\b")
    assert any(named.search(one.read_text(encoding="utf-8")) for one in stories)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_one_click_on_trigger_loads_no_months_that_nobody_has_named(path: Path) -> None:
    for dag in dags(path):
        for name, param in dag.params.items():
            given = dag.params.get_param(name) if hasattr(dag.params, "get_param") else param
            if getattr(given, "schema", {}).get("format") == "date":
                assert not isinstance(given.value, str), name
