"""docs/erasure-audit.md says what a record holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_posthog.audit import records
from airflow_provider_posthog.audit.facts import _FACTS
from airflow_provider_posthog.audit.report import _STATES

DOCS = (Path(__file__).parents[2] / "docs" / "erasure-audit.md").read_text(encoding="utf-8")
FACTS = records.Facts.__annotations__ | records.CommonFacts.__annotations__


@pytest.mark.parametrize(
    "name",
    [
        *records.AuditRecord.__dataclass_fields__,
        *records.Who.__dataclass_fields__,
        *records.KINDS,
        *records.OUTCOMES,
        *FACTS,
        *records.PersonFacts.__annotations__,
        *records.Counts.__annotations__,
        *records.Server.__annotations__,
        *records.CannotErase.__annotations__,
        *(state for state in _STATES if state.isupper()),
    ],
)
def test_every_word_is_explained(name: str) -> None:
    assert f"`{name}`" in DOCS


def test_what_is_checked_is_what_is_documented() -> None:
    assert {*_FACTS, "identifiers", "not_found", "persons"} == set(FACTS)


def test_the_schema_version() -> None:
    assert f"| `schema_version` | number | `{records.SCHEMA_VERSION}` |" in DOCS
