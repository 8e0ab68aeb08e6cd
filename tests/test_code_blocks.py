"""The Python of README and docs: it parses, and what it names of ours exists, with the arguments that it gives."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_posthog
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook

ROOT = Path(__file__).parents[1]
PACKAGE = airflow_provider_posthog.__name__
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ROOMS = (
    "operators",
    "sensors",
    "transfers",
    "triggers",
    "hooks",
    "task_groups",
    "notifications",
    "assets",
    "retry_policy",
)
INSTALLED = Path(airflow_provider_posthog.__file__).parent
#: Arguments of Airflow's (some since 3.3), and the names of folders (``date=2026-11-01``).
OTHERS = {"schedule", "catchup", "hook_params", "date_filter_column", "date", "snapshot", "retry_policy"}
#: What pages call things of ours.
VARIABLES: dict[str, type] = {"hook": PostHogHook, "posthog": EmulatorProcess}


def blocks(language: str = "python") -> Iterator[tuple[str, str]]:
    """Every block of a language, with its page and line."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(rf"^( *)```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            line = text[: found.start()].count("\n") + 1
            yield f"{page.relative_to(ROOT).as_posix()}:{line}", textwrap.dedent(found[2])


def docstrings() -> Iterator[tuple[str, str]]:
    """Every example in the docstring of a public class, with its name."""
    for room in ROOMS:
        top = INSTALLED / room  # of the wheel, where that is tested
        for path in top.rglob("*.py") if top.is_dir() else [top.with_suffix(".py")]:
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                    text = f"{ast.get_docstring(node) or ''}\n"
                    found = re.findall(r"(?:::|\.\. code-block:: python)\n\n((?: +.*\n|\n)+)", text)
                    for number, code in enumerate(found):
                        where = f"{PACKAGE}/{path.relative_to(INSTALLED).as_posix()}"
                        yield f"{where}:{node.name}:{number}", textwrap.dedent(code)


#: By page and line, or by file and class.
BLOCKS = {where: code for where, code in [*blocks(), *docstrings()] if "--8<--" not in code}


@functools.cache
def public() -> dict[str, Any]:
    """Everything of ours that a DAG may call, by name."""
    found: dict[str, Any] = {}
    for room in ROOMS:
        top = importlib.import_module(f"{PACKAGE}.{room}")
        modules = [top]
        for one in pkgutil.walk_packages(getattr(top, "__path__", []), f"{top.__name__}."):
            try:
                modules.append(importlib.import_module(one.name))
            except ImportError:  # watchers, on Airflow 2
                continue
        for module in modules:
            for name, value in vars(module).items():
                if (
                    getattr(value, "__module__", "").startswith(PACKAGE)
                    and callable(value)
                    and not name.startswith("_")
                ):
                    found[name] = value
    return found


@functools.cache
def typed(name: str) -> set[str]:
    """The keys of a ``TypedDict`` of ours, wherever it is, with those of its bases."""
    for path in (ROOT / PACKAGE).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body if f"class {name}(" in text else ():
            if isinstance(node, ast.ClassDef) and node.name == name:
                own = {str(ast.unparse(each.target)) for each in node.body if isinstance(each, ast.AnnAssign)}
                bases = [
                    each.id
                    for each in node.bases
                    if isinstance(each, ast.Name) and each.id not in ("TypedDict", "NamedTuple")
                ]
                return own.union(*map(typed, bases))
    raise LookupError(name)


def keywords(called: Any) -> set[str] | None:
    """The keyword arguments of a function or class, those of its bases included; ``None`` for any."""
    names: set[str] = set()
    inits = (
        [vars(one)["__init__"] for one in called.__mro__ if "__init__" in vars(one)]
        if inspect.isclass(called)
        else [called]
    )
    for init in inits:
        parameters = inspect.signature(init).parameters.values()
        names |= {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        rest = [one for one in parameters if one.kind is one.VAR_KEYWORD]
        if not rest:
            return names
        unpacked = re.search(r"Unpack\[(\w+)\]", str(rest[0].annotation))
        if unpacked:
            names |= typed(unpacked[1])
            if not inspect.isclass(called):
                return names
    return None


def called_of(node: ast.Call) -> Any:
    """The thing of ours that a call calls, if it is one."""
    function = node.func
    if isinstance(function, ast.Attribute):
        owner = function.value
        if function.attr in ("partial", "expand") and isinstance(owner, (ast.Name, ast.Call)):
            inner = owner.func.value if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Attribute) else owner
            return public().get(inner.id) if isinstance(inner, ast.Name) else None
        kind = VARIABLES.get(owner.id) if isinstance(owner, ast.Name) else None
        if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "PostHogHook":
            kind = PostHogHook
        return getattr(kind, function.attr) if kind else None
    return public().get(function.id) if isinstance(function, ast.Name) else None


def test_there_are_blocks() -> None:
    assert len(BLOCKS) > 50


def test_an_argument_that_there_is_not_would_be_noticed() -> None:
    for called in (public()["PostHogToSqlOperator"], public()["PostHogExportSensor"], PostHogHook.query):
        known = keywords(called)
        assert known is not None
        assert "no_such_argument" not in known
    assert {"write_disposition", "max_in_flight", "retries"} <= (keywords(public()["PostHogToSqlOperator"]) or set())


@pytest.mark.parametrize("where", BLOCKS)
def test_a_block_parses(where: str) -> None:
    ast.parse(BLOCKS[where])


@pytest.mark.parametrize("where", BLOCKS)
def test_what_a_block_imports_of_ours_exists(where: str) -> None:
    for node in ast.walk(ast.parse(BLOCKS[where])):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGE):
            continue
        path = ROOT / str(node.module).replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert path.exists(), node.module
        try:
            module = importlib.import_module(str(node.module))
        except ImportError:  # watchers, on Airflow 2
            assert all(f"class {each.name}" in path.read_text(encoding="utf-8") for each in node.names)
            continue
        for each in node.names:
            assert hasattr(module, each.name) or (path.parent / f"{each.name}.py").exists(), each.name


@pytest.mark.parametrize("where", BLOCKS)
def test_what_a_block_gives_to_ours_is_an_argument_of_it(where: str) -> None:
    for node in ast.walk(ast.parse(BLOCKS[where])):
        called = called_of(node) if isinstance(node, ast.Call) else None
        known = None if called is None else keywords(called)
        if isinstance(node, ast.Call) and known is not None:
            given = {each.arg for each in node.keywords if each.arg}
            assert given <= known | OTHERS, f"{ast.unparse(node.func)} has no {given - known - OTHERS}"


@pytest.mark.parametrize("where", BLOCKS)
def test_tasks_of_a_block_have_the_name_of_one(where: str) -> None:
    """A name like one of ours that is neither imported nor known is a mistyped or renamed one."""
    if "AssetWatcher(" in BLOCKS[where] and importlib.util.find_spec("airflow.sdk") is None:
        pytest.skip("Airflow 2 has no watchers")
    tree = ast.parse(BLOCKS[where])
    imported = {
        each.asname or each.name for one in ast.walk(tree) if isinstance(one, ast.ImportFrom) for each in one.names
    }
    named = {one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and one.id.startswith("PostHog")}
    exceptions = vars(importlib.import_module(f"{PACKAGE}.exceptions"))
    assert named - imported <= {*public(), *exceptions}


@functools.cache
def words() -> set[str]:
    """Every name of an argument of ours, of Airflow's tasks, and of the connection."""
    from airflow_provider_posthog.connection import fields

    found: set[str] = set()
    for called in public().values():
        found |= keywords(called) or set()
        for _, method in inspect.getmembers(called, inspect.isfunction) if inspect.isclass(called) else ():
            found |= set(inspect.signature(method).parameters)
    for _, method in inspect.getmembers(EmulatorProcess, inspect.isfunction):
        found |= set(inspect.signature(method).parameters)
    return found | set(re.findall(r'"([a-z_]+)"', Path(str(fields.__file__)).read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_arguments_in_the_text_of_a_page_exist(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    given = set(re.findall(r"`(?:[\w.]+\()?([a-z_]{4,})=[^=`]", text))
    assert given - words() - OTHERS == set()
