"""Intervals that were written are counted again, and those that differ are read again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogError, PostHogIncompleteError, PostHogSettingsError
from tests.extract.reading import REFUSALS, Middleman, middleman_to
from tests.operators.support import context
from tests.transfers.test_query_to_object_storage import day, event, operator, table_of

TWO_DAYS = {"verify_back": timedelta(days=2)}
NEXT = {"start": day(2), "end": day(1)}


def late(ago: float, **changes: Any) -> dict[str, Any]:
    """An event that PostHog took in then, but shows only now."""
    return {**event(str(uuid4()), day(ago), day(ago)), **changes}


def write(path: Path, *days: int, **options: Any) -> None:
    for ago in days:
        operator(path, start=day(ago), end=day(ago - 1), on_retention="ignore", **options).execute(
            context(run_id=str(ago))
        )


def asked(posthog: EmulatorProcess) -> list[str]:
    return [call["body"]["query"]["query"] for call in posthog.calls("/query/", "POST")]


def manifests(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.glob("_manifests/*.json")}


@pytest.mark.parametrize("by", ["created_at", "timestamp"])
def test_rows_that_became_visible_late_are_found_and_nothing_else_is_read_again(
    connection: EmulatorProcess, tmp_path: Path, by: str
) -> None:
    write(tmp_path, 5, 4, 3, time_column=by)
    before = manifests(tmp_path)
    lost, found_again = late(4.4), late(2.5)
    connection.add_events([lost, found_again])
    found = operator(tmp_path, on_retention="ignore", time_column=by, **NEXT, **TWO_DAYS).execute(
        context(run_id="next")
    )
    assert (found["again"], found["verified"], found["reloaded"]) == (0, 2, 1)
    uuids = table_of(tmp_path)["uuid"].to_pylist()
    assert found_again["uuid"] in uuids
    assert lost["uuid"] not in uuids, "it ends before verify_back begins"
    assert len(set(uuids)) == len(uuids) == connection.count_events(day(5), day(1), by) - 1
    changed = [name for name, content in manifests(tmp_path).items() if before.get(name) != content]
    assert len(changed) == 2
    assert len([sql for sql in asked(connection) if "countIf" in sql]) == 1, "one query counts them all"
    again = operator(tmp_path, on_retention="ignore", time_column=by, **NEXT, **TWO_DAYS).execute(
        context(run_id="again")
    )
    assert (again["verified"], again["reloaded"]) == (2, 0)


@pytest.mark.parametrize(
    "options",
    [
        {"source": "sessions"},
        {"source": "persons", "time_column": "created_at"},
        {"events": ["$pageview", "purchase"]},
        {"query": "SELECT event, uuid AS id, timestamp AS at FROM events WHERE event = {e}", "key": "id",
         "time_column": "at",
         "values": {"e": "$pageview"}},
    ],
)  # fmt: skip
def test_what_is_as_it_was_is_not_read_again(
    connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any]
) -> None:
    write(tmp_path, 4, 3, **options)
    before = manifests(tmp_path)
    found = operator(tmp_path, on_retention="ignore", **options, **NEXT, **TWO_DAYS).execute(context(run_id="next"))
    looked_back = options.get("source") == "sessions"  # a day of them is read again anyway
    assert (found["again"], found["verified"], found["reloaded"]) == (looked_back, 2 - looked_back, 0)
    same = {min(before): before[min(before)]} if looked_back else before
    assert {name: manifests(tmp_path)[name] for name in same} == same


def test_copies_are_no_difference(connection: EmulatorProcess, tmp_path: Path) -> None:
    # Long before the events of other tests, which compare theirs by key.
    one = late(402.5)
    connection.add_events([one, one, late(402.6)])
    write(tmp_path, 403)
    connection.add_events([one])  # once more
    after = {"start": day(402), "end": day(401)}
    found = operator(tmp_path, on_retention="ignore", **after, **TWO_DAYS).execute(context(run_id="next"))
    assert (found["verified"], found["reloaded"]) == (1, 0)


def test_what_look_back_has_read_again_is_not_counted(connection: EmulatorProcess, tmp_path: Path) -> None:
    write(tmp_path, 4, 3, time_column="timestamp")
    options = {"time_column": "timestamp", "look_back": timedelta(days=1), **NEXT, **TWO_DAYS}
    found = operator(tmp_path, on_retention="ignore", **options).execute(context(run_id="next"))
    assert (found["again"], found["verified"], found["reloaded"]) == (1, 1, 0)


def test_far_fewer_rows_do_not_replace_those_that_are_there(connection: EmulatorProcess, tmp_path: Path) -> None:
    write(tmp_path, 3)
    (path,) = tmp_path.glob("_manifests/*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": 100_000}))  # PostHog shows fewer now
    before = path.read_bytes()
    with pytest.raises(PostHogIncompleteError, match="100,000 rows are there"):
        operator(tmp_path, on_retention="ignore", **NEXT, **TWO_DAYS).execute(context(run_id="next"))
    assert path.read_bytes() == before
    assert not [each for each in tmp_path.rglob("*.part")]
    found = operator(tmp_path, on_retention="ignore", allow_shrink=True, **NEXT, **TWO_DAYS).execute(
        context(run_id="next", try_number=2)
    )
    assert found["reloaded"] == 1


@pytest.fixture
def man(connection: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Middleman]:
    """Who stands in front of the emulator."""
    with middleman_to(connection.url) as man:
        given = json.loads(connection.airflow_connection_json(read_timeout=10))
        monkeypatch.setenv("AIRFLOW_CONN_POSTHOG_DEFAULT", json.dumps({**given, "host": man.url}))
        yield man


def test_a_retry_does_not_read_again_what_the_try_before_has(
    connection: EmulatorProcess, man: Middleman, tmp_path: Path
) -> None:
    write(tmp_path, 4, 3)
    connection.add_events([late(3.5), late(2.5)])
    pages: list[str] = []

    def rule(sql: str, values: Mapping[str, Any], ask: Any) -> Any:
        if "ORDER BY created_at, " not in sql:
            return ask()
        pages.append(values["window_start"][:10])
        return (400, {"detail": "no"}) if pages[-1] >= day(3)[:10] else ask()

    man.rule = rule
    with pytest.raises(PostHogError, match="400"):
        operator(tmp_path, on_retention="ignore", **NEXT, **TWO_DAYS).execute(context(run_id="next"))
    assert day(4)[:10] in pages
    pages.clear()
    man.rule = lambda sql, values, ask: (pages.append(values.get("window_start", "")[:10]), ask())[1]
    found = operator(tmp_path, on_retention="ignore", **NEXT, **TWO_DAYS).execute(context(run_id="next", try_number=2))
    assert (found["verified"], found["reloaded"]) == (2, 2)
    assert pages.count(day(4)[:10]) == 1, "it is counted"
    assert table_of(tmp_path).num_rows == connection.count_events(day(4), day(1), "created_at")


def test_what_still_differs_is_told_of_once(
    connection: EmulatorProcess,
    man: Middleman,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """PostHog counts a row that it does not hand out."""

    def rule(sql: str, values: Mapping[str, Any], ask: Any) -> Any:
        status, answer = ask()
        if "countIf" in sql:
            answer["results"] = [[value + 1 for value in row] for row in answer["results"]]
        return status, answer

    write(tmp_path, 4, 3)
    man.rule = rule
    with caplog.at_level(logging.WARNING):
        found = operator(tmp_path, on_retention="ignore", **NEXT, **TWO_DAYS).execute(context(run_id="next"))
    assert found["reloaded"] == 2
    said = capsys.readouterr()  # Airflow 3 writes there
    assert (said.out + said.err + caplog.text).count("still not what PostHog counts") == 1
    found = operator(tmp_path, on_retention="ignore", **NEXT, **TWO_DAYS).execute(context(run_id="again"))
    assert (found["verified"], found["reloaded"]) == (2, 0), "as long as PostHog counts the same"
    connection.add_events([late(2.5)])
    found = operator(tmp_path, on_retention="ignore", **NEXT, **TWO_DAYS).execute(context(run_id="later"))
    assert found["reloaded"] == 1


@pytest.mark.parametrize("refusal", REFUSALS[:2])
def test_a_count_that_is_too_much_is_asked_for_in_parts(
    connection: EmulatorProcess, man: Middleman, tmp_path: Path, refusal: Any
) -> None:
    write(tmp_path, 5, 4, 3)
    man.rule = lambda sql, values, ask: refusal if sql.count("countIf") > 1 else ask()
    connection.add_events([late(2.5)])
    found = operator(tmp_path, on_retention="ignore", verify_back=timedelta(days=3), **NEXT).execute(
        context(run_id="next")
    )
    assert (found["verified"], found["reloaded"]) == (3, 1)


def test_many_intervals_are_counted_in_few_queries(connection: EmulatorProcess, tmp_path: Path) -> None:
    begin = datetime.fromisoformat(day(3))
    for hour in range(0, 3):
        span = {"start": begin + timedelta(hours=hour), "end": begin + timedelta(hours=hour + 1)}
        operator(tmp_path, on_retention="ignore", **span).execute(context(run_id=str(hour)))
    (first, *_) = sorted(tmp_path.glob("_manifests/*.json"))
    text = json.loads(first.read_text())
    for minute in range(60):  # as if it were written by the minute, all empty before PostHog existed
        start = begin - timedelta(days=1) + timedelta(minutes=minute)
        stem = f"events_{start:%Y%m%dT%H%M%S}Z_{start + timedelta(minutes=1):%Y%m%dT%H%M%S}Z"
        (first.parent / f"{stem}.json").write_text(json.dumps({**text, "rows": 10**6, "recounted": None, "files": []}))
    with pytest.raises(PostHogIncompleteError, match="1,000,000 rows are there"):
        operator(
            tmp_path,
            on_retention="ignore",
            start=begin + timedelta(hours=3),
            end=begin + timedelta(hours=4),
            **TWO_DAYS,
        ).execute(context(run_id="next"))
    assert len([sql for sql in asked(connection) if "countIf" in sql]) == 2


@pytest.mark.parametrize(
    "options", [{"source": "persons", **TWO_DAYS}, {"verify_back": timedelta(-1)}, {"verify_back": 3}]
)
def test_wrong_arguments_are_refused(connection: EmulatorProcess, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(PostHogSettingsError) as refused:
        operator(tmp_path, on_retention="ignore", **options).execute(context())
    assert refused.value.field == "verify_back"
    assert connection.calls("/query/") == []


def test_another_project_s_interval_is_not_replaced(connection: EmulatorProcess, tmp_path: Path) -> None:
    write(tmp_path, 3, time_column="timestamp")
    (path,) = tmp_path.glob("_manifests/*.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "project_id": 77}))
    before = path.read_bytes()
    for option in ("look_back", "verify_back"):
        with pytest.raises(PostHogSettingsError, match="of project 77") as refused:
            operator(
                tmp_path, on_retention="ignore", time_column="timestamp", **NEXT, **{option: timedelta(days=2)}
            ).execute(context(run_id=option))
        assert refused.value.field == "path"
        assert path.read_bytes() == before
