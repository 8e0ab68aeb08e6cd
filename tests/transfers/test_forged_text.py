"""What people send to PostHog stays what it is in files: it forges no column and breaks no line."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.operators.support import context
from tests.transfers.test_query_to_object_storage import day, event, operator, rows_of

FORGED = [
    '{"a":1},"distinct_id":"FORGED","x":{"y":1}',
    "{bad}",
    '{"a":1} {"b":2}',
    '{"a":"\tx"}',
    '{"a":"x\ny"}',
    '{"fine": [1]}',
]


@pytest.fixture
def forged(connection: EmulatorProcess) -> dict[str, str]:
    """Events of a name that only this test has: the texts, by uuid."""
    texts = {str(uuid4()): text for text in FORGED}
    name = f"forged {uuid4().hex}"
    connection.add_events(
        [
            {**event(uuid, day(4), day(3.5)), "event": name, "properties": {"payload": text}}
            for uuid, text in texts.items()
        ]
    )
    return {"name": name, **texts}


PAYLOAD = "JSONExtractString(properties, 'payload')"
SOURCES: dict[str, dict[str, Any]] = {
    "mapped": {
        "columns": {"uuid": "uuid", "distinct_id": "distinct_id", "created_at": "created_at",
                    "properties": PAYLOAD},
        "where": "event = {name}",
    },
    "query": {
        "query": f"SELECT uuid, distinct_id, created_at, {PAYLOAD} AS properties FROM events WHERE event = {{name}}",
        "key": "uuid",
        "time_column": "created_at",
    },
    "another column": {
        "columns": {"uuid": "uuid", "distinct_id": "distinct_id", "created_at": "created_at",
                    "payload": PAYLOAD},
        "where": "event = {name}",
        "json_columns": ["payload"],
    },
}  # fmt: skip


@pytest.mark.parametrize("format", ["jsonl", "csv"])
@pytest.mark.parametrize("kind", SOURCES)
def test_text_of_users_forges_no_column_and_breaks_no_line(
    forged: dict[str, str], tmp_path: Path, kind: str, format: str
) -> None:
    values = {"name": forged.pop("name")}
    found = operator(tmp_path, format=format, values=values, **SOURCES[kind]).execute(context())
    rows = {row["uuid"]: row for row in rows_of(found, tmp_path)}
    assert found["rows"] == len(rows) == len(forged)
    column = "payload" if kind == "another column" else "properties"
    for uuid, text in forged.items():
        assert rows[uuid]["distinct_id"] == "user-1"
        assert set(rows[uuid]) == {"uuid", "distinct_id", "created_at", column}
        is_json = format == "jsonl" and text == FORGED[-1]
        assert rows[uuid][column] == ({"fine": [1]} if is_json else text)


def test_posthog_s_own_properties_are_json(forged: dict[str, str], tmp_path: Path) -> None:
    options = {"where": "event = {name}", "values": {"name": forged.pop("name")}}
    found = operator(tmp_path, format="jsonl", **options).execute(context())
    assert {row["uuid"]: row["properties"] for row in rows_of(found, tmp_path)} == {
        uuid: {"payload": text} for uuid, text in forged.items()
    }
