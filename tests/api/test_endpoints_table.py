"""The table of endpoints in the documentation is the one that the endpoints make."""

from __future__ import annotations

import re

from airflow_provider_posthog.api.catalog import CATALOG
from docs.generate_api import TARGET, page


def test_docs_api_is_up_to_date() -> None:
    assert TARGET.read_text(encoding="utf-8") == page(), "run: python -m docs.generate_api"


def test_it_has_every_endpoint() -> None:
    text = TARGET.read_text(encoding="utf-8")
    assert set(re.findall(r"\| `(\w+\.\w+)\(", text)) == set(CATALOG)
    assert "| `DELETE insights/{id}/` | `insights.soft_delete(insight_id)` | `insight:write` |" in text
    assert "`DELETE persons/{id}/`" in text
