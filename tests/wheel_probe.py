"""Looks around where the wheel is installed; tests/wheel.py runs it there, and it imports nothing of tests."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAME = "airflow-provider-posthog"
WITH_EXTRAS = sys.argv[1:] == ["with"]
#: What our direct dependencies may be licensed under.
LICENCES = re.compile(r"apache|mit\b|bsd|psf|python software foundation|isc|mpl|mozilla", re.IGNORECASE)
#: A page of ``airflow providers``, and what has to stand in it.
PAGES = {
    "list": NAME,
    "hooks": "airflow_provider_posthog.hooks.sql.PostHogSqlHook",
    "links": "airflow_provider_posthog.links",
    "behaviours": "posthog",
    "triggers": "airflow_provider_posthog.triggers.jobs",
    "notifications": None,
}


def modules() -> Iterator[str]:
    """Yield every module of the package, without importing one."""
    top = Path(str(importlib.util.find_spec("airflow_provider_posthog").origin)).parent  # type: ignore[union-attr]
    assert "site-packages" in top.parts, f"{top} is not the installed wheel"
    for path in sorted(top.rglob("*.py")):
        name = ".".join(path.relative_to(top.parent).with_suffix("").parts)
        if not name.endswith("__main__"):
            yield name.removesuffix(".__init__")


#: Rooms of our own, which tasks open when they run; a task says before, or instead, which extra it misses.
INSIDE = ("emulator", "erasure.files", "extract", "load", "results")
PACKAGES = ("aiohttp", "orjson", "pyarrow")


def import_everything() -> str:
    """Import each module; one that needs more says what, in a sentence that names the extra."""
    refused: list[str] = []
    number = 0
    for name in modules():
        number += 1
        try:
            importlib.import_module(name)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            of_airflow_3 = "need Airflow 3." in text
            needs_pytest = name.endswith("pytest_plugin") and "pytest" in text
            inside = name.partition(".")[2].startswith(INSIDE) and getattr(error, "name", None) in PACKAGES
            needs_extra = not WITH_EXTRAS and (inside or f"{NAME}[" in text)
            if not (of_airflow_3 or needs_pytest or needs_extra):
                traceback.print_exc()
                raise AssertionError(f"{name} cannot be imported: {text}") from error
            refused.append(name)
    return f"{number - len(refused)} of {number} modules imported; the others need an extra, pytest or Airflow 3"


def cli(*words: str) -> str:
    """Return what the ``airflow`` command prints, without the seconds that a process of its own takes."""
    from airflow.cli import cli_parser

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        arguments = cli_parser.get_parser().parse_args([*words])
        arguments.func(arguments)
    return out.getvalue()


def airflows_pages() -> str:
    """Look at what ``airflow providers`` shows of us."""
    shown = cli("providers", "get", NAME, "--full", "--output", "json")
    info = json.loads(shown[shown.index("[") :])
    text = json.dumps(info)
    assert "PostHog" in text, shown
    assert "connection-types" in text, shown
    seen = ["get"]
    for page, wanted in PAGES.items():
        try:
            told = cli("providers", page, "--output", "json")
        except SystemExit:  # this Airflow has no such page
            continue
        if page == "behaviours" and importlib.util.find_spec("wtforms") is None and told.strip() == "[]":
            continue  # 3.0 and 3.1 read no provider's behaviour without it, not even Airflow's own
        assert wanted is None or wanted in told, f"airflow providers {page} shows no {wanted}:\n{told[:2000]}"
        seen.append(page)
    assert {"list", "hooks", "links"} <= set(seen), seen
    return f"airflow providers {', '.join(seen)}"


def connection() -> str:
    """Go from a connection's type to the hook, as operators of others do."""
    from airflow.providers_manager import ProvidersManager

    hook = ProvidersManager().hooks["posthog"]
    assert hook is not None
    assert hook.connection_type == "posthog"
    try:
        from airflow.sdk import Connection
    except ImportError:
        from airflow.models.connection import Connection  # type: ignore[assignment]
    os.environ["AIRFLOW_CONN_POSTHOG_DEFAULT"] = json.dumps(
        {
            "conn_type": "posthog",
            "host": "http://127.0.0.1:1",
            "password": "phx_" + "k" * 40,
            "extra": {"project_id": 1},
        }
    )
    made: Any = Connection(conn_id="posthog_default", conn_type="posthog").get_hook()
    assert type(made).__name__ in ("PostHogHook", "PostHogSqlHook"), made
    return f"connection type posthog is {hook.hook_name}, {type(made).__name__}"


def refusal(what: Callable[[], object]) -> str:
    """Return why something is refused."""
    try:
        what()
    except Exception as error:
        return str(error)
    return "it is not refused"


def tasks() -> Iterator[tuple[Any, str]]:
    """Yield tasks, and what they say without extras where nothing listens at the connection's host."""
    from airflow_provider_posthog.operators.persons import PostHogResolvePersonsOperator
    from airflow_provider_posthog.operators.queries import PostHogQueryOperator
    from airflow_provider_posthog.transfers.query_to_object_storage import PostHogQueryToObjectStorageOperator

    work = Path.cwd() / "work"
    files = work / "identifiers.csv"
    work.mkdir(exist_ok=True)
    files.write_text("distinct_id\nada\n", encoding="utf-8")
    times = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    yield PostHogQueryOperator(task_id="query", query="SELECT 1 LIMIT 1"), "no connection"
    resolve = {"identifiers_path": files.as_uri(), "work_path": (work / "people.jsonl").as_uri()}
    yield PostHogResolvePersonsOperator(task_id="resolve", **resolve), "no connection"
    arguments = {"source": "events", "path": (work / "events").as_uri(), **times}
    yield PostHogQueryToObjectStorageOperator(task_id="files", **arguments), f"{NAME}[warehouse]"


def missing_extras() -> str:
    """Ask for what is not installed; each time a sentence has to name the extra."""
    from airflow_provider_posthog.hooks.posthog import PostHogHook
    from airflow_provider_posthog.tasks.bulk import need_arrow

    said = 0
    for what, package, extra in (
        (lambda: PostHogHook().get_df("SELECT 1"), "pandas", "pandas"),
        (lambda: PostHogHook().get_df("SELECT 1", df_type="polars"), "polars", "polars"),
        (lambda: need_arrow("PostHogToSqlOperator"), "orjson", "warehouse"),
    ):
        if importlib.util.find_spec(package) is None:
            assert f"{NAME}[{extra}]" in refusal(what), package
            said += 1
    for task, said_without in tasks():
        said_now = refusal(lambda task=task: task.execute({}))  # type: ignore[misc]
        assert (said_without if not WITH_EXTRAS else "no connection") in said_now, (task, said_now)
    if importlib.util.find_spec("chdb") is None:
        command = [sys.executable, "-m", "airflow_provider_posthog.emulator", "--port", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode, done
        assert f"{NAME}[emulator]" in done.stderr, done
        assert "Traceback" not in done.stderr, done
        said += 1
    assert WITH_EXTRAS or said, "nothing is missing without extras"
    return f"{said} missing extras named"


def licences() -> str:
    """Read the licences of our direct dependencies."""
    found = {}
    for line in importlib.metadata.requires(NAME) or []:
        name = re.split(r"[\s\[<>=;(]", line)[0]
        try:
            metadata = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        words = [metadata.get("License-Expression"), *(metadata.get_all("Classifier") or []), metadata.get("License")]
        stated = [
            word.rpartition("::")[2].strip()[:60]
            for word in words
            if word and (word == words[0] or word.startswith("License ::") or word == words[-1])
        ]
        found[name] = next(iter(stated), "not stated")
        assert any(LICENCES.search(word) for word in stated), f"{name} is under {stated}"
    return "; ".join(f"{name}: {licence}" for name, licence in sorted(found.items()))


if __name__ == "__main__":
    checks = [connection, airflows_pages, import_everything, missing_extras, *([licences] if WITH_EXTRAS else [])]
    for check in checks:
        print(f"   {check()}")
