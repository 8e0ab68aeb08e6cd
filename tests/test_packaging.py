"""What people see of the project before they install it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = sorted(set(re.findall(r"\]\(([^)\s]+)\)", README)))


def test_the_registry_lists_every_public_class() -> None:
    assert registry.FILE.read_text(encoding="utf-8") == registry.text(), "run python -m tests.support.registry"


@pytest.mark.parametrize("link", LINKS)
def test_links_of_the_readme_work_on_pypi_too(link: str) -> None:
    assert link.startswith("https://"), "a package's page knows no relative links"
    path = re.fullmatch(rf"{re.escape(registry.HOME)}/(?:blob|tree)/main/([^#]+)(?:#.*)?", link)
    assert path is None or (ROOT / path[1]).exists()


def test_there_are_links() -> None:
    assert len(LINKS) > 10
