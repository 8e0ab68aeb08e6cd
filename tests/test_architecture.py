"""The rules of the house, checked by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.support.every import every

PACKAGE = "airflow_provider_posthog"
ROOT = Path(__file__).parents[1] / PACKAGE
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
#: The file of each module, by the module's name inside the package.
MODULES = {source.removesuffix(".py").removesuffix("/__init__").replace("/", "."): source for source in SOURCES}

#: The floors of the house; a module imports from its own floor and from those below.
FLOORS = [
    {"__init__", "dataclass", "exceptions", "patterns"},
    {"api"},
    {"storage"},
    {"download", "results"},
    {"audit", "extract", "load"},
    {"capture", "erasure"},
    {"connection", "provider_info"},
    {"compat"},
    {"assets", "links", "retry_policy"},
    {"hooks"},
    {"triggers"},
    {"tasks"},
    {"notifications", "operators", "sensors", "transfers"},
    {"task_groups"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
#: What knows nothing of Airflow.
NO_AIRFLOW = {
    "__init__",
    "exceptions",
    "dataclass",
    "patterns",
    "api",
    "audit",
    "capture",
    "download",
    "emulator",
    "erasure",
    "extract",
    "load",
    "provider_info",
    "results",
    "storage",
}
#: Floors whose rooms are shops side by side: none of them imports another.
LEAVES = {"notifications", "operators", "sensors", "transfers"}
SOCKETS = {"requests", "httpx", "urllib3", "aiohttp", "http.client", "urllib.request", "socket"}
MAX_MODULE = 400
MAX_FUNCTION = 40


@cache
def tree(source: str) -> ast.Module:
    return ast.parse((ROOT / source).read_text(encoding="utf-8"))


@cache
def walked(source: str) -> list[ast.AST]:
    return list(ast.walk(tree(source)))


def room(source: str) -> str:
    """Return the part of the package that a file belongs to: ``api/exports.py`` is in ``api``."""
    return source.split("/")[0].removesuffix(".py")


def imports(node: ast.AST, source: str) -> Iterator[tuple[str, ast.stmt]]:
    """Yield every imported name in full, with its statement; imports inside functions too."""
    for found in walked(source) if node is tree(source) else ast.walk(node):
        if isinstance(found, ast.Import):
            for alias in found.names:
                yield alias.name, found
        elif isinstance(found, ast.ImportFrom):
            base = found.module or ""
            if found.level:
                parents = [PACKAGE, *source.split("/")[:-1]]
                base = ".".join([*parents[: len(parents) - found.level + 1], *filter(None, [base])])
            for alias in found.names:
                yield f"{base}.{alias.name}", found


def imported_rooms(source: str) -> set[str]:
    """Return the parts of the package that a file imports."""
    rooms = set()
    for name, _ in imports(tree(source), source):
        if name == PACKAGE:
            rooms.add("__init__")
        elif name.startswith(f"{PACKAGE}."):
            part = name.split(".")[1]
            rooms.add(part if (ROOT / part).is_dir() or (ROOT / f"{part}.py").exists() else "__init__")
    return rooms


def is_of(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def functions(node: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for found in ast.walk(node):
        if isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield found


def test_there_is_something_to_check() -> None:
    assert {"exceptions.py", "api/clients.py", "api/exports.py"} <= set(SOURCES)
    assert "exceptions" in imported_rooms("api/exchange.py")
    assert "__init__" in imported_rooms("api/exchange.py")


@every(SOURCES)
def test_every_module_has_a_floor(source: str) -> None:
    assert room(source) in {*FLOOR, "emulator"}, "give it a floor in FLOORS"


@every([source for source in SOURCES if room(source) != "emulator"])
def test_imports_go_down_only(source: str) -> None:
    here = FLOOR[room(source)]
    rooms = imported_rooms(source)
    assert "emulator" not in rooms, "the emulator is a server: nothing of the provider imports it"
    assert not {name for name in rooms if FLOOR[name] > here}
    assert room(source) not in LEAVES or not rooms & LEAVES - {room(source)}, "what they share is in tasks"


@cache
def imported_modules() -> dict[str, set[str]]:
    """Return which modules each module imports, also late and for types only."""
    graph: dict[str, set[str]] = {}
    for module, source in MODULES.items():
        names = [name.removeprefix(f"{PACKAGE}.") for name, _ in imports(tree(source), source) if is_of(name, PACKAGE)]
        longest = {name if name in MODULES else name.rpartition(".")[0] for name in names}
        graph[module] = {name for name in longest if name in MODULES} - {module}
    return graph


def circle_through(module: str) -> list[str]:
    """Return a way from a module back to itself, or nothing."""
    graph = imported_modules()
    ways = [[module]]
    seen: set[str] = set()
    for way in ways:
        for following in sorted(graph[way[-1]]):
            if following == module:
                return [*way, module]
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return []


@every(sorted(MODULES))
def test_no_module_imports_itself_in_a_roundabout_way(module: str) -> None:
    assert circle_through(module) == []


@cache
def loaded_with(module: str) -> set[str]:
    """Return the modules that are loaded once a module is: what it and its packages import at the top, and so on."""
    modules, loaded, left = imported_modules(), set[str](), [module]
    while left:
        name = left.pop()
        if name and name in modules and name not in loaded:
            loaded.add(name)
            left += [*imported_at(name, late=False), name.rpartition(".")[0]]
    return loaded


@cache
def imported_at(module: str, *, late: bool) -> frozenset[str]:
    """Return which modules a module imports inside functions, or else at the top and not for types only."""
    source = next(
        path
        for path in (f"{module.replace('.', '/')}.py", f"{module.replace('.', '/')}/__init__.py")
        if path in SOURCES
    )
    inside = {id(node) for function in functions(tree(source)) for node in ast.walk(function)}
    names = [
        name.removeprefix(f"{PACKAGE}.")
        for name, statement in imports(tree(source), source)
        if is_of(name, PACKAGE) and (id(statement) in inside) == late and id(statement) not in for_types_only(source)
    ]
    return frozenset(name if name in imported_modules() else name.rpartition(".")[0] for name in names)


def for_types_only(source: str) -> set[int]:
    """Return the ids of the imports that only type checkers run."""
    return {
        id(statement)
        for node in walked(source)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for _, statement in imports(node, source)
    }


@every(sorted(MODULES))
def test_a_late_import_spares_something(module: str) -> None:
    """Circles are forbidden, so cost is the one reason: what is loaded anyway is imported at the top."""
    spared = {name for name in imported_at(module, late=True) if loaded_with(name) - loaded_with(module)}
    assert imported_at(module, late=True) - spared == set(), "import it at the top"


@every([source for source in SOURCES if room(source) == "emulator"])
def test_the_emulator_stands_alone(source: str) -> None:
    """A misreading of PostHog must show up as a failing test, not cancel out."""
    assert imported_rooms(source) <= {"emulator"}


@every([source for source in SOURCES if room(source) in NO_AIRFLOW])
def test_these_know_nothing_of_airflow(source: str) -> None:
    assert not [name for name, _ in imports(tree(source), source) if is_of(name, "airflow")]


def _guarded(source: str) -> Iterator[int]:
    """Yield the lines at which something other than the import of Airflow's names decides by its version."""
    widgets = [
        node
        for node in functions(tree(source))
        if source == "connection/form.py" and node.name == "connection_form_widgets"
    ]
    allowed = {id(node) for one in widgets for node in ast.walk(one)}
    for node in walked(source):
        if id(node) not in allowed and (_tries_airflow(node, source) or _asks_version(node, source)):
            yield getattr(node, "lineno", 0)


def _tries_airflow(node: ast.AST, source: str) -> bool:
    if not isinstance(node, ast.Try) or not any(_is_import_error(handler) for handler in node.handlers):
        return False
    return any(is_of(name, "airflow") for part in node.body for name, _ in imports(part, source))


def _is_import_error(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {kind.id for kind in kinds if isinstance(kind, ast.Name)}
    return bool(names & {"ImportError", "ModuleNotFoundError", "AttributeError", "Exception"})


def _asks_version(node: ast.AST, source: str) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        own = {"airflow.__version__", "airflow.version"}
        return any(name in own or name.startswith("airflow.version.") for name, _ in imports(node, source))
    if isinstance(node, ast.Attribute):
        return node.attr == "__version__" and isinstance(node.value, ast.Name) and node.value.id == "airflow"
    if isinstance(node, ast.Name):
        return node.id.startswith("AIRFLOW_V")
    if isinstance(node, ast.Call) and isinstance(node.func, (ast.Name, ast.Attribute)):
        called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
        first = node.args[0] if node.args else None
        asked = str(first.value) if isinstance(first, ast.Constant) else ""
        return (called == "version" and asked == "apache-airflow") or (
            called == "find_spec" and is_of(asked, "airflow")
        )
    return False


@every([source for source in SOURCES if source != "compat.py"])
def test_only_compat_branches_on_airflow_s_version(source: str) -> None:
    assert list(_guarded(source)) == []


def test_branches_would_be_found() -> None:
    assert list(_guarded("compat.py"))


@every([source for source in SOURCES if room(source) != "emulator"])
def test_only_the_clients_open_sockets(source: str) -> None:
    if source in ("api/async_clients.py", "api/clients.py", "api/wire.py"):
        return
    assert not [
        (name, statement.lineno)
        for name, statement in imports(tree(source), source)
        if id(statement) not in for_types_only(source) and any(is_of(name, package) for package in SOCKETS)
    ]


@every(SOURCES)
def test_sizes(source: str) -> None:
    lines = len((ROOT / source).read_text(encoding="utf-8").splitlines())
    assert lines < MAX_MODULE
    sizes = {f"{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1 for node in functions(tree(source))}
    assert not {name: size for name, size in sizes.items() if size >= MAX_FUNCTION}


@every(SOURCES)
def test_annotations_are_not_evaluated(source: str) -> None:
    body = [
        node for node in tree(source).body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]
    if source.endswith("__init__.py") and not any(functions(tree(source))):
        return
    assert body, "an empty module"
    assert isinstance(body[0], ast.ImportFrom)
    assert body[0].module == "__future__"


@every([source for source in SOURCES if room(source) in {*LEAVES, "notifications"}])
def test_an_editor_sees_every_argument(source: str) -> None:
    """``**kwargs: Any`` hides what a task takes from editors and type checkers."""
    hidden = [
        node.lineno
        for node in functions(tree(source))
        if node.name == "__init__" and node.args.kwarg is not None
        if not ast.unparse(node.args.kwarg.annotation or ast.Constant(None)).startswith("Unpack[")
    ]
    assert not hidden
