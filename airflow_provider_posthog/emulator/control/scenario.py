"""A scenario: a YAML file that says what is in an emulator when it starts, and again after each reset."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "/__emulator__"
# what a project may have, in the order in which it is made: the key -> where it is sent, and under which name if all
# of a list goes at once; other lists go one by one
_STEPS: dict[str, tuple[str, str | None]] = {
    "settings": ("settings", None),
    "persons": ("persons", "persons"),
    "events": ("capture", "events"),
    "recordings": ("recordings", "recordings"),
    "actions": ("actions", None),
    "tables": ("tables", None),
    "cohorts": ("cohorts", None),
    "views": ("views", None),
    "rows": ("rows", None),
}
_SERVER: dict[str, tuple[str, str | None]] = {"keys": ("keys", None), "faults": ("faults", None)}
_DATA = ("events", "seed", "start", "days")
_PROJECT = ("name", "timezone", "data")
#: Sends an order: its method, its path and its body; returns the status and the JSON of the answer.
Send = Callable[[str, Mapping[str, Any]], Awaitable[tuple[int, dict[str, Any]]]]


class ScenarioError(ValueError):
    """A scenario that cannot be; the text names the file, the line and the key."""


@dataclass
class Scenario:
    """What a file says.

    :param path: of the file.
    :param content: what is in it.
    :param lines: the line of each of its parts, by the part's name such as ``events[0].event``.
    """

    path: Path
    content: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)

    def error(self, name: str, text: str) -> ScenarioError:
        """Return the error about a part.

        :param name: of the part.
        :param text: what is wrong with it.
        """
        while name not in self.lines and name:
            name = name[: max(name.rfind("."), name.rfind("["))] if "." in name or "[" in name else ""
        where = f"line {self.lines[name]}: `{name}`" if name else "line 1"
        return ScenarioError(f"{self.path}, {where}: {text}")

    def data(self) -> dict[str, Any]:
        """Return how the first project's events are made: some of ``events``, ``seed``, ``start`` and ``days``."""
        return dict(self.projects()[0][1].get("data") or {})

    def projects(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the projects with the names of their parts; what stands outside of ``projects`` is the first one's."""
        listed = self.content.get("projects")
        return [(f"projects[{n}].", project) for n, project in enumerate(listed)] if listed else [("", self.content)]

    async def play(self, send: Send) -> list[dict[str, Any]]:
        """Make everything that the file asks for, and return the keys that were made.

        :param send: sends orders to the emulator.
        :raises ScenarioError: when the emulator refuses one.
        """
        made = []
        for number, (prefix, project) in enumerate(self.projects()):
            about = ""
            if number:
                options: dict[str, Any] = {name: project[name] for name in ("name", "timezone") if name in project}
                answer = await self._order(send, "projects", {**options, **(project.get("data") or {})}, prefix[:-1])
                about = f"?project={answer['id']}"
            else:
                await self._first(send, prefix, project)
            for name, path, body in _orders(_STEPS, prefix, project):
                await self._order(send, path + about, body, name)
            for name, path, body in _orders({"keys": _SERVER["keys"]}, prefix, project):
                label = {"name": body.pop("name")} if "name" in body else {}
                made.append({**label, "api_key": (await self._order(send, path + about, body, name))["api_key"]})
        for name, path, body in _orders({"faults": _SERVER["faults"]}, "", self.content):
            await self._order(send, path, body, name)
        return made

    async def _first(self, send: Send, prefix: str, project: Mapping[str, Any]) -> None:
        """Give the project that is there already its name and its time zone."""
        if "timezone" in project:
            await self._order(send, "settings", {"timezone": project["timezone"]}, f"{prefix}timezone")
        if "name" in project:
            await self._order(send, "projects", {"id": 1, "name": project["name"]}, f"{prefix}name")

    async def _order(self, send: Send, path: str, body: Mapping[str, Any], name: str) -> dict[str, Any]:
        status, answer = await send(f"{PREFIX}/{path}", body)
        if status >= 400:
            raise self.error(name, str(answer.get("detail", f"the emulator answers {status}.")))
        return answer


def _orders(
    steps: Mapping[str, tuple[str, str | None]], prefix: str, project: Mapping[str, Any]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for key, (path, together) in steps.items():
        wanted = project.get(key)
        if not wanted:
            continue
        if together is not None:
            yield f"{prefix}{key}", path, {together: wanted}
        elif isinstance(wanted, list):
            yield from ((f"{prefix}{key}[{n}]", path, dict(item)) for n, item in enumerate(wanted))
        else:
            yield f"{prefix}{key}", path, dict(wanted)


def read_scenario(path: Path) -> Scenario:
    """Read a scenario and check its shape; its orders are checked when they are made.

    :param path: of the YAML file.
    :raises ScenarioError: for a file that cannot be read, no YAML, an unknown key or a value of the wrong shape.
    """
    import yaml

    resolvers = {
        first: [(tag, pattern) for tag, pattern in entries if tag != "tag:yaml.org,2002:timestamp"]
        for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    # times stay the text that they are
    loader: Any = type("Loader", (yaml.SafeLoader,), {"yaml_implicit_resolvers": resolvers})
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=loader)
        content = yaml.load(text, Loader=loader)  # noqa: S506 - a safe loader
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ScenarioError(f"{path}{where}: is not YAML: {getattr(error, 'problem', error)}") from None
    scenario = Scenario(path, content if isinstance(content, dict) else {}, dict(_lines(node)) if node else {})
    if not isinstance(content, dict):
        raise ScenarioError(f"{path}, line 1: a scenario is a mapping, such as `events: [...]`")
    _check_twice(path, node)
    _check(scenario)
    return scenario


def _lines(node: Any, name: str = "") -> Iterator[tuple[str, int]]:  # noqa: ANN401 - yaml has no types
    """Yield the line of every part of a document."""
    if name:
        yield name, node.start_mark.line + 1
    if node.id == "mapping":
        for key, value in node.value:
            part = f"{name}.{key.value}" if name else str(key.value)
            yield from _lines(value, part)
            yield part, key.start_mark.line + 1
    elif node.id == "sequence":
        for number, value in enumerate(node.value):
            yield from _lines(value, f"{name}[{number}]")


def _check_twice(path: Path, node: Any, name: str = "") -> None:  # noqa: ANN401 - yaml has no types
    """Refuse a key that a mapping has twice, of which YAML would keep the last one only."""
    seen: set[str] = set()
    for key, value in node.value if node.id == "mapping" else []:
        part = f"{name}.{key.value}" if name else str(key.value)
        if part in seen:
            raise ScenarioError(f"{path}, line {key.start_mark.line + 1}: `{part}`: stands here twice.")
        seen.add(part)
        _check_twice(path, value, part)
    for number, value in enumerate(node.value if node.id == "sequence" else []):
        _check_twice(path, value, f"{name}[{number}]")


def _check(scenario: Scenario) -> None:
    content = scenario.content
    several = "projects" in content
    _check_keys(scenario, content, "", ("projects", "faults") if several else (*_PROJECT, *_STEPS, *_SERVER))
    if several and (not isinstance(content["projects"], list) or not content["projects"]):
        raise scenario.error("projects", "takes a list of projects, at least one.")
    for prefix, project in scenario.projects():
        if not isinstance(project, dict):
            raise scenario.error(prefix[:-1], "takes a mapping, such as `events: [...]`.")
        if several:
            _check_keys(scenario, project, prefix, (*_PROJECT, *_STEPS, "keys"))
        _check_shapes(scenario, project, prefix)
    _check_list(scenario, content, "", "faults")


def _check_shapes(scenario: Scenario, project: Mapping[str, Any], prefix: str) -> None:
    for name in ("settings", "data"):
        if not isinstance(project.get(name, {}), dict):
            raise scenario.error(f"{prefix}{name}", "takes a mapping.")
    _check_keys(scenario, project.get("data") or {}, f"{prefix}data.", _DATA)
    for name, value in (project.get("data") or {}).items():
        least = int(name == "days")
        if name != "start" and (not isinstance(value, int) or isinstance(value, bool) or value < least):
            raise scenario.error(f"{prefix}data.{name}", f"takes a whole number, {least} or more, not {value!r}.")
    for name in (*_STEPS, "keys"):
        if name != "settings":
            _check_list(scenario, project, prefix, name)


def _check_list(scenario: Scenario, project: Mapping[str, Any], prefix: str, name: str) -> None:
    wanted = project.get(name, [])
    if not isinstance(wanted, list):
        raise scenario.error(f"{prefix}{name}", "takes a list.")
    for number, item in enumerate(wanted):
        if not isinstance(item, dict):
            raise scenario.error(f"{prefix}{name}[{number}]", f"takes a mapping, not {json.dumps(item, default=str)}.")


def _check_keys(scenario: Scenario, mapping: Mapping[str, Any], prefix: str, known: tuple[str, ...]) -> None:
    for name in mapping:
        if name not in known:
            raise scenario.error(f"{prefix}{name}", f"there is no such key. There are: {', '.join(known)}.")
