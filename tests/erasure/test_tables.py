"""What PostHog's deletion of a person leaves alone is counted and told, and what it sweeps is waited for."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.erasure.tables import left_in_tables
from airflow_provider_posthog.erasure.work_file import Person
from airflow_provider_posthog.operators.persons import PostHogDeletePersonsOperator, PostHogResolvePersonsOperator
from tests.erasure.support import DAY, Lab, ago, client_of
from tests.operators.support import connect

SALT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

#: What else today's servers tell of that may hold distinct ids.
_OF_IDS = ("person_distinct_id_overrides", "raw_person_distinct_id_overrides", "raw_person_distinct_ids")
EMPTY = dict.fromkeys((*_OF_IDS, "posthog.ai_events", "system.session_recordings", "system.support_tickets"), 0)


def visit(lab: Lab) -> str:
    """An event of a session, and a click on a heat map."""
    session = str(uuid.uuid4())
    lab.event(properties={"$session_id": session, "$current_url": f"https://shop.example/?mail={lab.email}"})
    click = {"session_id": session, "distinct_id": lab.name, "timestamp": ago(hours=1), "current_url": "https://x"}
    lab.posthog.add_rows("heatmaps", [click, click])
    return session


def evaluation(lab: Lab, **given: Any) -> None:
    row = {"distinct_id": lab.name, "person_id": lab.person, "timestamp": ago(hours=1), "created_at": ago(hours=1)}
    lab.posthog.add_rows("flag_evaluations", [{**row, "flag_key": "new-cart", **given}])


def rows(lab: Lab, table: str) -> int:
    found = lab.raw.query(f"select count() from {table} where distinct_id = {{v}}", v=lab.name).json()
    return int(found["results"][0][0])


def prove(lab: Lab) -> dict[str, Any]:
    lab.posthog.advance(8 * DAY)
    found: dict[str, Any] = lab.sensor().execute({})
    return found


def test_sessions_and_heatmaps_stay_and_are_told(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    visit(lab)
    lab.delete()
    proof = prove(lab)
    assert (rows(lab, "events"), rows(lab, "sessions"), rows(lab, "heatmaps")) == (0, 1, 2), "PostHog leaves them"
    assert proof["tables"] == {"sessions": 1, "heatmaps": 2, **EMPTY}
    assert proof["tables_not_looked_at"] == {}
    assert lab.name not in json.dumps(proof)


def test_the_certificate_lists_what_stays_by_table(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, lab.posthog, audit_secret=SALT)
    visit(lab)
    paths: dict[str, Any] = {"work_path": lab.work_path, "audit_path": f"file://{lab.folder}/certificates"}
    found = PostHogResolvePersonsOperator(task_id="r", emails=[lab.email], **paths).execute({})
    lab.request = PostHogDeletePersonsOperator(task_id="d", persons=found).execute({})
    prove(lab)
    records = [json.loads(path.read_text()) for path in (lab.folder / "certificates").glob("*/*-residue-*.json")]
    assert [record["facts"]["cannot_erase"]["tables"] for record in records] == [
        [{"table": "heatmaps", "rows": 2}, {"table": "sessions", "rows": 1}]
    ]


def test_an_old_server_is_asked_for_the_tables_that_are_known(lab: Lab) -> None:
    lab.posthog.settings(generation="A")
    visit(lab)
    lab.delete()
    proof = prove(lab)
    assert proof["tables"] == {"sessions": 1, "heatmaps": 2}
    assert proof["tables_not_looked_at"] == {"other tables": "this server does not tell which there are"}


def second_look(lab: Lab, **fault: Any) -> dict[str, Any]:
    visit(lab)
    lab.delete()
    lab.posthog.advance(8 * DAY)
    sensor = lab.sensor(keep_work_file=True)
    assert sensor.look({}).verdict.state == "pending", "the second look follows"
    lab.posthog.control("DELETE", "calls")
    if fault:
        lab.posthog.faults(path="*/query/", **fault)
    found = sensor.look({})
    lab.posthog.clear_faults()
    assert found.verdict.state == "succeeded"
    return {**found.facts}


def test_a_table_that_cannot_be_read_is_not_called_empty(lab: Lab, tmp_path: Path) -> None:
    second_look(lab)
    asked = [call["body"]["query"]["query"] for call in lab.posthog.calls("query")]
    place = next(number for number, sql in enumerate(asked) if "FROM heatmaps" in sql)
    (tmp_path / "other").mkdir()
    body = {"type": "server_error", "code": "error", "detail": "too large", "attr": None}
    # Of the question about all tables, and of the one about this table, which follows.
    found = second_look(Lab(lab.posthog, tmp_path / "other"), status=512, body=body, skip=place, count=2)
    assert found["tables"] == {"sessions": 1, **EMPTY}
    assert found["tables_not_looked_at"] == {"heatmaps": "PostHog answered 512"}


def test_a_question_about_all_tables_that_fails_is_asked_of_each(lab: Lab, tmp_path: Path) -> None:
    body = {"type": "server_error", "code": "error", "detail": "too large", "attr": None}
    found = second_look(lab)
    asked = [call["body"]["query"]["query"] for call in lab.posthog.calls("query")]
    place = next(number for number, sql in enumerate(asked) if "FROM heatmaps" in sql)
    (tmp_path / "other").mkdir()
    other = second_look(Lab(lab.posthog, tmp_path / "other"), status=512, body=body, skip=place, count=1)
    assert (other["tables"], other["tables_not_looked_at"]) == (found["tables"], found["tables_not_looked_at"])
    assert other["tables"]["heatmaps"] > 0


@pytest.mark.parametrize("status", [400, 403])
def test_a_table_that_this_key_may_not_read_is_told_and_stops_nothing(lab: Lab, status: int) -> None:
    body = {"type": "authentication_error", "code": "permission_denied", "detail": "You have no access", "attr": None}
    who = [Person(lab.person, tuple(lab.names))]
    every = left_in_tables(ErasureClient(client_of(lab.posthog)), who)
    # Of the question about all tables, and of the first one that is asked for alone.
    lab.posthog.faults(path="*/query/", status=status, body=body, skip=1, count=2)
    left = left_in_tables(ErasureClient(client_of(lab.posthog)), who)
    assert [*left.not_looked_at.values()].count(f"PostHog answered {status}") == 1
    assert set(every.rows) - set(left.rows) == set(left.not_looked_at) - set(every.not_looked_at)
    lab.posthog.clear_faults()
    lab.posthog.faults(path="*/query/", status=status, body=body, count=1)  # of the list of tables
    left = left_in_tables(ErasureClient(client_of(lab.posthog)), who)
    assert left.not_looked_at["other tables"] == f"PostHog answered {status}"
    assert {"sessions", "heatmaps"} <= set(left.rows)


def test_evaluations_of_flags_are_events_that_have_to_go(lab: Lab) -> None:
    evaluation(lab)
    assert lab.resolve()["events"] == 2
    lab.delete()
    lab.posthog.settings(sweep_outcome="verify_only")
    lab.posthog.advance(8 * DAY)
    assert lab.look() == "SURVIVORS"


def test_evaluations_of_flags_go_with_the_events(lab: Lab) -> None:
    evaluation(lab)
    lab.delete()
    prove(lab)
    assert rows(lab, "flag_evaluations") == 0


def test_evaluations_of_flags_that_survive_the_sweep_are_no_proof(lab: Lab) -> None:
    lab.delete()
    evaluation(lab)
    lab.posthog.advance(8 * DAY)
    evaluation(lab)
    assert lab.look() == "SURVIVORS"


def test_a_table_that_an_update_brings_while_a_sensor_waits_is_counted(lab: Lab) -> None:
    lab.delete()
    lab.posthog.advance(8 * DAY)
    sensor = lab.sensor(keep_work_file=True)
    sensor.client.unknown_tables.add("flag_evaluations")  # as the server had none at the look before
    evaluation(lab)
    found = sensor.look({})
    assert (found.verdict.state, found.facts["states"]) == ("failed", {"SURVIVORS": 1})


def test_a_table_that_is_listed_and_not_found_is_told(lab: Lab) -> None:
    """As by a server in the middle of an update."""
    lab.delete()
    lab.posthog.advance(8 * DAY)
    sensor = lab.sensor(keep_work_file=True)
    sensor.look({})
    lab.posthog.control("DELETE", "calls")
    twin = lab.sensor(keep_work_file=True)
    body = {
        "type": "validation_error",
        "code": "invalid_input",
        "detail": "Unknown table `flag_evaluations`.",
        "attr": None,
    }
    rows_of = twin.client.rows

    def refused(sql: str, values: Any, *kinds: Any) -> Any:
        if "flag_evaluations" in sql:
            lab.posthog.faults(path="*/query/", status=400, body=body, count=1)
        return rows_of(sql, values, *kinds)

    twin.client.rows = refused  # type: ignore[method-assign]  # whoever asks for this table is refused
    found = twin.look({})
    assert found.verdict.state == "succeeded"
    assert found.facts["tables_not_looked_at"] == {"flag_evaluations": "this server does not offer it"}
