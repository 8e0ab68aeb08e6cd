"""No task accepts an argument and ignores it: each is read on the way from where Airflow calls the task."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

import airflow_provider_posthog
from airflow_provider_posthog.compat import BaseOperator
from airflow_provider_posthog.exceptions import PostHogSettingsError

PACKAGE = airflow_provider_posthog.__name__
#: Where Airflow enters a task.
ENTRIES = ("execute", "execute_complete", "poke", "on_kill", "lineage", "get_openlineage_facets_on_complete")


def tasks() -> list[type[Any]]:
    """Every task that a DAG author can import, by name."""
    for folder in ("operators", "sensors", "transfers"):
        package = importlib.import_module(f"{PACKAGE}.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{module.name}")

    def below(kind: type[Any]) -> Iterator[type[Any]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    found = {
        one
        for one in below(BaseOperator)
        if one.__module__.startswith(f"{PACKAGE}.")
        and one.__name__.startswith("PostHog")
        and not inspect.isabstract(one)
    }
    bases = {"PostHogOperator", "PostHogErasureOperator"}  # they do nothing themselves
    return sorted((one for one in found if one.__name__ not in bases), key=lambda one: one.__name__)


def ours(kind: type[Any]) -> list[type[Any]]:
    return [one for one in kind.__mro__ if one.__module__.startswith(f"{PACKAGE}.")]


def plain(member: object) -> FunctionType | None:
    """The function behind a method or a property."""
    if isinstance(member, functools.cached_property):
        member = member.func
    if isinstance(member, property):
        member = member.fget
    if isinstance(member, (classmethod, staticmethod)):
        member = member.__func__
    return inspect.unwrap(member) if isinstance(member, FunctionType) else None


@functools.cache
def tree_of(function: FunctionType) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def mentions(function: FunctionType) -> set[str]:
    """What a function reads of itself: ``self.x``, ``super().x``, and the texts that ``getattr(self, x)`` may take."""
    tree, found = tree_of(function), set()
    by_name = False
    nodes = list(ast.walk(tree))
    for node in list(nodes):
        # self.x = self.x or ... keeps it, and does not use it
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            kept = [one for one in ast.walk(node.value) if getattr(one, "attr", None) == node.targets[0].attr]
            nodes = [one for one in nodes if one not in kept]
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            owner = node.value
            is_super = isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
            if is_super or (isinstance(owner, ast.Name) and owner.id == "self"):
                found.add(node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            first = node.args[0]
            by_name |= isinstance(first, ast.Name) and first.id == "self"
    if by_name:
        found |= {
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
    return found


def handed_to(function: FunctionType, name: str = "self") -> set[str]:
    """What functions read of a task that it hands itself to, such as ``gate(self)``, and those that they hand it to."""
    found: set[str] = set()
    for node in ast.walk(tree_of(function)):
        if not isinstance(node, ast.Call):
            continue
        places = [number for number, each in enumerate(node.args) if _is_name(each, name)]
        if not places:
            continue
        other = _called(function, node.func)
        if other is None or not other.__module__.startswith(f"{PACKAGE}."):
            continue
        parameter = list(inspect.signature(other).parameters)[places[0]]
        found |= {
            each.attr
            for each in ast.walk(tree_of(other))
            if isinstance(each, ast.Attribute) and _is_name(each.value, parameter)
        }
        found |= handed_to(other, parameter)
    return found


def _is_name(node: object, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _called(function: FunctionType, called: ast.expr) -> FunctionType | None:
    """The function of a module that a call names: ``gate(...)`` or ``insight_gate.gate(...)``."""
    known = dict(function.__globals__)
    for node in ast.walk(tree_of(function)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            known.update({each.asname or each.name: getattr(module, each.name, None) for each in node.names})
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
        return plain(getattr(known.get(called.value.id), called.attr, None))
    return plain(known.get(called.id)) if isinstance(called, ast.Name) else None


def read_by(kind: type[Any]) -> set[str]:
    """The attributes that a task reads when Airflow runs it."""
    seen: set[FunctionType] = set()
    read: set[str] = set()
    ahead = list(ENTRIES)
    asked: set[str] = set()
    while ahead:
        name = ahead.pop()
        if name in asked:
            continue
        asked.add(name)
        read.add(name)
        for one in ours(kind):  # also what a subclass overrides, which super() reaches
            function = plain(vars(one).get(name))
            if function is not None and function not in seen:
                seen.add(function)
                ahead.extend(mentions(function) | handed_to(function))
    return read


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def assignments(function: FunctionType) -> Iterator[tuple[ast.expr, ast.expr]]:
    for node in ast.walk(tree_of(function)):
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):  # self.a, self.b = a, b
                yield from zip(target.elts, value.elts, strict=True)
            else:
                yield target, value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            yield node.target, node.value


def arguments(kind: type[Any]) -> dict[str, set[str]]:
    """A task's own arguments, each with the attributes that it becomes."""
    found: dict[str, set[str]] = {}
    theirs = [one for one in kind.__mro__ if one.__module__.startswith("airflow.") and "__init__" in vars(one)]
    airflows = {name for one in theirs for name in inspect.signature(inspect.unwrap(one.__init__)).parameters}
    for one in ours(kind):
        function = plain(vars(one).get("__init__"))
        if function is None:
            continue
        parameters = inspect.signature(function).parameters.items()
        own = {name for name, each in parameters if each.kind is each.KEYWORD_ONLY and name not in airflows}
        keywords = [node for node in ast.walk(tree_of(function)) if isinstance(node, ast.keyword)]
        passed = {name for node in keywords if node.arg in airflows for name in names_in(node.value)}
        for name in own:
            found.setdefault(name, set())
        for target, value in assignments(function):
            for name in names_in(value) & own:
                if isinstance(target, ast.Attribute):
                    found[name].add(target.attr)
                elif isinstance(target, ast.Name) and target.id in passed:  # super().__init__(poke_interval=interval)
                    found[name].add("execute")
    return found


#: Texts that are no template fields, by what they hold: persons must not show on a page of Airflow's.
PERSONAL = {"distinct_ids", "emails", "properties", "query", "values", "group_keys"}
#: Texts that say what kind of task it is, or whom it trusts, like the choices that are a ``Literal``.
FIXED = {"kind", "mode", "moved_from", "param", "schema_policy"}
#: Arguments whose templates Airflow's page shows in colour.
RENDERED = {"query": "sql", "sql": "sql", "values": "json", "variables": "json"}


def texts(kind: type[Any]) -> set[str]:
    """Return a task's own arguments that take a text of any kind, or the path of a file."""
    found = set()
    for one in ours(kind):
        function = plain(vars(one).get("__init__"))
        for name, parameter in inspect.signature(function).parameters.items() if function is not None else ():
            shown = re.sub(r"(Literal|Mapping|Callable)\[.*?\]", "", str(parameter.annotation))
            if parameter.kind is parameter.KEYWORD_ONLY and re.match(r"(str|.*\| str|.*PathLike)\b", shown):
                found.add(name)
    return found


@pytest.mark.parametrize("kind", tasks(), ids=lambda kind: kind.__name__)
def test_a_text_is_a_template_field_and_is_shown_as_what_it_is(kind: type[Any]) -> None:
    fields = set(kind.template_fields)
    personal = PERSONAL if "Person" in kind.__name__ or "Group" in kind.__name__ else set()
    assert texts(kind) - fields - FIXED - personal == set()
    shown = {name: how for name, how in RENDERED.items() if name in fields}
    assert {name: kind.template_fields_renderers.get(name) for name in shown} == shown


@pytest.mark.parametrize("kind", tasks(), ids=lambda kind: kind.__name__)
def test_every_argument_is_read_by_the_task(kind: type[Any]) -> None:
    read = read_by(kind)
    ignored = [name for name, becomes in arguments(kind).items() if not becomes & read]
    assert ignored == []


def test_the_check_sees_what_is_ignored() -> None:
    from airflow_provider_posthog.tasks.erasure import PostHogErasureOperator

    class Ignores(PostHogErasureOperator):
        def execute(self, context: Any) -> None:
            self.client.run(self.ticket)

    Ignores.__module__ = f"{PACKAGE}.made_up"
    read = read_by(Ignores)
    ignored = {name for name, becomes in arguments(Ignores).items() if not becomes & read}
    assert ignored >= {"work_path", "audit_path"}
    assert "ticket" not in ignored
    assert "posthog_conn_id" not in ignored


ABOUT_PERSONS = {"persons": ["0190e6a8-0000-7000-8000-000000000001"], "properties": {"email": "x"}}


@pytest.mark.parametrize("argument", ["audit_path", "ticket", "work_path"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("persons.PostHogDeletePersonPropertyOperator", ABOUT_PERSONS),
        ("persons.PostHogUpdatePersonPropertiesOperator", ABOUT_PERSONS),
        ("groups.PostHogClearGroupPropertiesOperator", {"group_type": 0, "group_keys": ["a"]}),
    ],
)
def test_tasks_that_write_no_certificate_take_nothing_for_one(
    name: str, options: dict[str, Any], argument: str
) -> None:
    module, _, kind = name.rpartition(".")
    operator = getattr(importlib.import_module(f"{PACKAGE}.operators.{module}"), kind)
    operator(task_id="task", **options)
    with pytest.raises(Exception, match="Invalid arguments") as refused:  # TypeError, on Airflow 2 one of its own
        operator(task_id="task", **options, **{argument: "memory://private/x"})
    assert argument in str(refused.value)


@pytest.mark.parametrize("name", ["PostHogFinishErasureOperator", "PostHogDiscardErasureOperator"])
def test_the_work_path_of_an_end_is_the_request_s(name: str) -> None:
    from airflow_provider_posthog.operators.erasure import end as erasure_end

    options = {"request": {}, **({"proof": {}} if "Finish" in name else {})}
    with pytest.raises(PostHogSettingsError) as refused:
        getattr(erasure_end, name)(task_id="task", work_path="memory://private/x", **options)
    assert refused.value.field == "work_path"


def test_a_file_download_is_not_left_alone() -> None:
    from airflow_provider_posthog.transfers.file_download_to_object_storage import PostHogFileDownloadOperator

    PostHogFileDownloadOperator(task_id="task", path="memory://lake", wait_for_completion=True)
    with pytest.raises(PostHogSettingsError) as refused:
        PostHogFileDownloadOperator(task_id="task", path="memory://lake", wait_for_completion=False)
    assert refused.value.field == "wait_for_completion"


def test_a_work_path_beside_the_one_that_was_handed_on_is_refused() -> None:
    from airflow_provider_posthog.tasks.erasure import PostHogErasureOperator

    task = PostHogErasureOperator(task_id="task", work_path="memory://private/mine")
    with pytest.raises(PostHogSettingsError) as refused:
        task.own.of({"work_path": "memory://private/theirs"})
    assert refused.value.field == "work_path"
    assert task.own.of({"work_path": "memory://private/mine"}).work_path == "memory://private/mine"


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("operators.persons.resolve.PostHogResolvePersonsOperator", {"verify_by": "uuids"}),
        ("operators.persons.delete.PostHogDeletePersonsOperator", {"persons": {}, "verify_by": "uuids"}),
        ("sensors.persons.PostHogPersonsErasedSensor", {"request": {}, "on_survivors": "goon"}),
        ("transfers.query_to_object_storage.PostHogQueryToObjectStorageOperator", {"path": "x", "schema_policy": "x"}),
        ("transfers.query_to_object_storage.PostHogQueryToObjectStorageOperator", {"path": "x", "table_format": "x"}),
        ("transfers.posthog_to_sql.PostHogToSqlOperator", {"replaces": "mine"}),
        ("transfers.posthog_to_sql.PostHogToSqlOperator", {"other_columns": "keep"}),
        ("transfers.posthog_to_sql.PostHogToSqlOperator", {"write_disposition": "upsert"}),
    ],
)
def test_a_word_that_is_no_template_is_refused_when_the_task_is_made(path: str, arguments: dict[str, Any]) -> None:
    module, _, name = path.rpartition(".")
    made = getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)
    needed = {"source": "events"} if "transfers" in path else {}
    needed |= {"table": "t", "sql_conn_id": "db"} if "sql" in path else {}
    word = [*arguments][-1]
    with pytest.raises(PostHogSettingsError, match=f"{word}.*is not known.*Write one of"):
        made(task_id="t", **needed, **arguments)
