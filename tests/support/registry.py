"""Writes ``.airflow-registry.yaml`` from the docstrings: ``python -m tests.support.registry``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".airflow-registry.yaml"
PACKAGE = "airflow_provider_posthog"
ROOMS = ("operators", "sensors", "transfers", "notifications", "triggers", "hooks")
HOME = "https://github.com/airflow-provider-posthog/airflow-provider-posthog"
HEAD = f"""\
# What the registry of Airflow providers shows; `python -m tests.support.registry` writes it from the docstrings.
package-name: airflow-provider-posthog
display-name: PostHog
description: Exports, warehouse loading, insight refresh and erasure of persons as DAG tasks, each success proved
docs-url: {HOME}/tree/main/docs
source-url: {HOME}
"""


def text() -> str:
    """Return what the file should say."""
    parts = [HEAD]
    for room in ROOMS:
        rows = [f'  - module: {name}\n    description: "{line}"\n' for name, line in classes(room)]
        if rows:
            parts.append(f"\n{room}:\n{''.join(rows)}")
    return "".join(parts)


def classes(room: str) -> Iterator[tuple[str, str]]:
    """Yield the public classes of a part of the package, each with the first line of its docstring."""
    top = ROOT / PACKAGE / room
    for path in sorted(top.rglob("*.py")):
        home = path.with_suffix("") if path.parent == top else path.parent
        module = ".".join(home.relative_to(ROOT).parts)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name.startswith("PostHog"):
                line = (ast.get_docstring(node) or "").split("\n")[0].replace('"', "'").replace("``", "")
                yield f"{module}.{node.name}", line


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
