"""What stands in the pages beside Python: commands that there are, data that can be read, links, and every class."""

from __future__ import annotations

import argparse
import ast
import configparser
import functools
import importlib.util
import json
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_provider_posthog.exceptions import PostHogError
from tests.support import registry
from tests.test_code_blocks import PAGES, blocks, docstrings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
#: Commands of the machine's own, which the pages may use.
COMMON = {"cat", "cd", "curl", "echo", "export", "ls", "mkdir"}
BASH = dict(blocks("bash"))
DATA = {**dict(blocks("json")), **dict(blocks("yaml"))}
#: What others are made of, as are all triggers but those for watchers of assets.
BASES = ("PostHogInsightSensor", "PostHogCompletedTrigger")
CLASSES = [
    name.partition(".")[2]
    for room in registry.ROOMS
    for name, _ in registry.classes(room)
    if not name.endswith(BASES) and (".triggers." not in name or ".events." in name or ".completed." in name)
]
LINKS = sorted(
    {
        (page.relative_to(ROOT).as_posix(), link)
        for page in PAGES
        for link in re.findall(r"\]\(([^)\s]+)\)|<(https?://[^>\s]+)>", page.read_text(encoding="utf-8"))
        for link in link
        if link.startswith(("http:", "https:"))
    }
)


def commands(block: str) -> Iterator[list[str]]:
    """The commands of a block, each as its words."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "|" in words:
            yield words[: words.index("|")]
            words = words[words.index("|") + 1 :]
        if words:
            yield words


def test_there_are_blocks_and_classes() -> None:
    assert len(BASH) > 15
    assert len(DATA) > 1
    assert len(CLASSES) > 50
    assert len(LINKS) > 30


@pytest.mark.parametrize("where", BASH)
def test_a_block_of_the_shell_can_be_read_by_it(where: str) -> None:
    done = subprocess.run(["bash", "-n"], input=BASH[where], text=True, capture_output=True, check=False)
    assert not done.stderr


@pytest.mark.parametrize("where", BASH)
def test_every_command_of_a_block_exists_with_its_arguments(where: str) -> None:
    for words in commands(BASH[where]):
        check(words)


def check(words: list[str]) -> None:
    """Fail if a command cannot be what it seems to be."""
    if words[0] == "airflow":
        check_airflow(words[1:])
    elif words[:2] == ["pip", "install"]:
        check_installed(words[2:])
    elif words[:2] == ["python", "-m"]:
        assert importlib.util.find_spec(words[2]), words
        if words[2] == "airflow_provider_posthog.emulator":
            from airflow_provider_posthog.emulator.__main__ import parser

            parser().parse_args(words[3:])
    elif words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), words
    elif words[:2] == ["python", "-c"]:
        ast.parse(words[2])
    else:
        assert words[0] in COMMON, words
    for name, value in re.findall(r"(AIRFLOW_CONN_\w+)=(\{.*\})", " ".join(words)):
        kind = json.loads(value)["conn_type"]
        assert kind == "posthog" or (kind and "POSTHOG" not in name), name


def check_airflow(words: list[str]) -> None:
    from airflow.cli import cli_parser

    try:
        cli_parser.get_parser().parse_args([word for word in words if not word.startswith("$(")])
    except (SystemExit, argparse.ArgumentError) as error:
        raise AssertionError(f"airflow has no {words}") from error


def check_installed(words: list[str]) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for extras in re.findall(r"airflow-provider-posthog\[([\w,]+)\]", " ".join(words)):
        assert set(extras.split(",")) <= set(settings["options.extras_require"]), extras


def test_commands_that_there_are_not_would_be_noticed() -> None:
    for line in ("airflow pools put posthog 1 x", "make coffee", "pip install 'airflow-provider-posthog[wharehouse]'"):
        with pytest.raises(AssertionError):
            check(shlex.split(line))


@pytest.mark.parametrize("where", DATA)
def test_a_block_of_data_can_be_read(where: str) -> None:
    assert isinstance(yaml.safe_load(DATA[where]), dict)  # JSON is YAML, too


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_to_elsewhere_has_the_form_of_one(page: str, link: str) -> None:
    assert re.fullmatch(r"https://[a-z0-9.-]+\.[a-z]{2,}(/[^\s<>\"]*)?", link), page
    ours = re.fullmatch(rf"{re.escape(registry.HOME)}/(?:blob|tree)/main/([^#]+)(?:#(.*))?", link)
    if ours is None:
        return
    assert (ROOT / ours[1]).exists(), page
    if ours[2]:
        headings = re.findall(r"^#+ (.*)$", (ROOT / ours[1]).read_text(encoding="utf-8"), re.MULTILINE)
        assert ours[2] in map(anchor, headings), page


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def mentioned(name: str) -> list[Path]:
    return [page for page in PAGES if re.search(rf"\b{name}\b", page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", CLASSES)
def test_every_public_class_has_a_reference_a_line_in_the_list_and_an_example(path: str) -> None:
    module, _, name = path.rpartition(".")
    references = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    documented = re.findall(r"^::: airflow_provider_posthog\.(\S+)$", references, re.MULTILINE)
    assert any(module == each or module.startswith(f"{each}.") for each in documented), f"{module} is in no reference"
    listed = (DOCS / "operators.md").read_text(encoding="utf-8")
    assert name in listed, f"{name} is not in docs/operators.md"
    assert f"{name}(" in examples(), f"{name} stands in no example"


@functools.cache
def examples() -> str:
    """Everything that shows how a class is used: blocks of the pages, example DAGs, and examples of docstrings."""
    texts = [code for _, code in blocks()]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "dags_examples").rglob("*.py")]
    texts += [code for _, code in docstrings()]
    return "\n".join(texts)


def test_the_list_of_examples_has_each_dag_with_what_it_says_itself() -> None:
    page = (DOCS / "examples.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"^\| \[(\w+)\]\(#\1\) \| (.+) \|$", page, re.MULTILINE))
    files = (ROOT / "dags_examples").glob("*.py")
    said = {path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "" for path in files}
    assert told == {name: " ".join(text.partition("\n\n")[0].split()) for name, text in said.items()}
    assert set(re.findall(r"^## (\w+)$", page, re.MULTILINE)) == set(told)


def test_every_page_is_in_the_list_of_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(
        f": {page.relative_to(DOCS).as_posix()}" in site or "migrate/index.md" in site for page in DOCS.rglob("*.md")
    )


def test_every_error_is_explained_under_its_name() -> None:
    def kinds(kind: type[Any]) -> Iterator[type[Any]]:
        for each in kind.__subclasses__():
            yield each
            yield from kinds(each)

    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    ours = [kind for kind in kinds(PostHogError) if kind.__module__ == "airflow_provider_posthog.exceptions"]
    assert len(ours) > 10
    assert [kind.__name__ for kind in ours if f"### {kind.__name__}\n" not in page] == []


CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def test_what_contributing_points_to_is_there() -> None:
    named = set(
        re.findall(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+(?:\.(?:py|md|tsv)|/))`", CONTRIBUTING.read_text(encoding="utf-8"))
    )
    rooms = (ROOT, ROOT / "airflow_provider_posthog", ROOT / "airflow_provider_posthog/emulator")
    files = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 30
    assert {name for name in named if name not in files and not any((room / name).exists() for room in rooms)} == set()


def test_names_in_a_module_that_contributing_points_to_are_there() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    pairs = re.findall(r"`([A-Za-z_]+)`\s+(?:\(|in\s+|of\s+)`([a-z_/]+\.py)`", text)
    pairs += [(name, path) for path, name in re.findall(r"`([a-z_/]+\.py)`\s+\(`([A-Z_]+)`\)", text)]
    missing = []
    for name, path in pairs:
        source = next(room / path for room in (ROOT, ROOT / "airflow_provider_posthog") if (room / path).exists())
        if not re.search(rf"\b{name}\b", source.read_text(encoding="utf-8")):
            missing.append((name, path))
    assert len(pairs) > 10
    assert missing == []


def test_the_worked_examples_of_contributing_run() -> None:
    examples = re.findall(
        r"^  ```python\n(.*?)^  ```", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    endpoint, route = ({"__name__": "airflow_provider_posthog.api.alerts"} for _ in range(2))
    for example, names in zip(examples, (endpoint, route), strict=True):
        exec(compile(textwrap.dedent(example), str(CONTRIBUTING), "exec"), names)
    call = endpoint["retrieve"](alert_id="018f3a5e-0000-7000-8000-000000000000")
    assert (call.method, call.path) == (route["ROUTES"][0].method, "alerts/018f3a5e-0000-7000-8000-000000000000/")
