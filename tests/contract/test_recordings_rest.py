"""Every recording of insights, dashboards, exports, queries, keys, projects and lists, replayed one by one.

The emulator is brought to what the recorded server had: the same numbers of objects, so that ids mean the same here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.contract.conftest import recorded_keys
from tests.contract.replay import RECORDINGS, Replay, cases
from tests.contract.test_recordings_people import LIMITED, PEOPLE
from tests.emulator.client import CSV, XLSX, Client, hogql, wait_for

PATTERNS = (
    "auth.*",
    "dashboards.*",
    "exports.*",
    "extra.*",
    "insights.*",
    "misc.*",
    "pages.*",
    "projects.*",
    "query.*",
)
MORE = ("ratelimit.*", "route.*", "scope.*")
CASES = sorted(set(cases(*PATTERNS, *MORE)) - {*PEOPLE, *LIMITED})
# made when there were only the insights of the start, all of them on the dashboard
EARLY = ("route.no_trailing_slash", "scope.ro_key_get_insights")
# the PNG exports of the recorded server never came to an end: it had no browser to draw them with
PNG = {"export_format": "image/png"}
TREND = {"events": [{"id": "$pageview"}], "date_from": "-7d", "insight": "TRENDS"}
EXPORTS: dict[int, dict[str, Any]] = {
    5: {**PNG, "dashboard": 2},
    6: {**PNG, "dashboard": 2, "insight": 9},
    7: {**PNG, "dashboard": 2},
    8: {**PNG, "insight": 9},
    9: {"export_format": CSV, "export_context": {"path": "/api/projects/1/insights/?limit=5&basic=true"}},
    10: {**PNG, "insight": 9},
    11: {"export_format": XLSX, "export_context": {"path": "/api/projects/1/insights/?limit=5&basic=true"}},
    12: {"export_format": CSV, "export_context": {"source": hogql("select 1"), "filename": "my file"}},
    13: {"export_format": CSV, "export_context": {"path": "/x"}},
    14: {**PNG, "insight": 9},
    15: {**PNG, "dashboard": 2},
}
DONE = (9, 11, 12)
# requests whose body was not recorded with them
LOST = {"ratelimit.after_burst /api/projects/1/query/": {"query": hogql("select 1")}}


class World:
    """The recorded server's objects, made in the emulator."""

    def __init__(self, posthog: EmulatorProcess, replay: Replay) -> None:
        self.posthog, self.replay = posthog, replay
        self.api = Client(posthog.url, posthog.api_key)
        for number in range(4, 14):
            body: dict[str, Any] = {"name": f"insight {number}", "saved": True}
            body |= {"filters": TREND} if number == 9 else {}
            body |= {"dashboards": [1]} if number <= 6 else {}
            assert self._made("insights/", body)["id"] == number
        assert self._made("dashboards/", {"name": "rec dash 2", "pinned": True, "description": "dd"})["id"] == 2
        assert self._made("dashboards/", {})["id"] == 3
        assert self._made("insights/", {"name": "on dash", "filters": TREND, "dashboards": [2]})["id"] == 14
        for number in range(1, 16):
            self.export(number)
        replay.ids["ivQIgRUM"] = self.api.get("insights/9/").json()["short_id"]

    def _made(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.api.post(path, body)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        return made

    def export(self, number: int) -> None:
        body = EXPORTS.get(number, {**PNG, "dashboard": 1})
        self.posthog.next_exports("succeed" if number in DONE else "silent_failure", export_seconds=0)
        assert self._made("exports/", body)["id"] == number

    def until_done(self) -> None:
        def look() -> bool:
            return all(self.api.get(f"exports/{number}/").json()["has_content"] for number in DONE)

        wait_for(look)

    def patch(self, path: str, **body: object) -> None:
        assert self.api("PATCH", path, json=body).status_code == 200


def _throttled(world: World) -> None:
    world.posthog.settings(rate_limit_per_minute=2)
    for _ in range(2):
        assert world.api.get("exports/").status_code == 200
    assert world.api.get("exports/").status_code == 429


def _unfinished(world: World) -> None:
    # 9 was asked for its content before the worker had come to it
    world.replay.ids["exports", "9"] = "10"


PREPARE: dict[str, Callable[[World], object]] = {
    "dashboards.retrieve_after_delete_soft": lambda world: world.patch("dashboards/2/", deleted=True),
    "dashboards.undelete": lambda world: world.patch("dashboards/2/", deleted=True),
    "dashboards.patch_share": lambda world: world.api.get("dashboards/2/?refresh=force_blocking"),
    "insights.retrieve_cached_after_refresh": lambda world: world.api.get("insights/9/?refresh=true"),
    "insights.patch": lambda world: world.api.get("insights/9/?refresh=true"),
    "insights.undelete": lambda world: world.patch("insights/9/", deleted=True),
    "insights.activity": lambda world: world.patch("insights/9/", name="put", favorited=True),
    "exports.content_download_csv_ctx": _unfinished,
}


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    """Keep a world for the next test that only reads."""
    return []


@pytest.fixture
def world(request: pytest.FixtureRequest, old_posthog_process: EmulatorProcess, worlds: list[World]) -> World:
    """Make the recorded server's objects, or take those that an earlier test has left as they were."""
    params = getattr(request.node, "callspec", None)
    case = params.params["case"] if params else ""
    if not worlds:
        old_posthog_process.reset()
        worlds.append(World(old_posthog_process, Replay(old_posthog_process.url, recorded_keys(old_posthog_process))))
    return worlds[0] if _only_reads(case) else worlds.pop()


def _only_reads(case: str) -> bool:
    changing = not case or case in PREPARE or case.startswith("ratelimit.") or RECORDINGS[case].method != "GET"
    return not changing and "refresh" not in RECORDINGS[case].path


def _answer(world: World, case: str) -> requests.Response:
    if case.startswith("ratelimit."):
        _throttled(world)
    if case.startswith("exports.after_worker."):
        world.until_done()
    if case in PREPARE:
        PREPARE[case](world)
    return world.replay.send(RECORDINGS[case], request=LOST.get(case))


# first those that only read: they share one world
ORDERED: list[str] = sorted((each for each in CASES if each not in EARLY), key=_only_reads, reverse=True)


@pytest.mark.parametrize("case", ORDERED)
def test_recording(world: World, case: str) -> None:
    answer = _answer(world, case)
    world.replay.check(RECORDINGS[case], answer)


@pytest.mark.parametrize("case", EARLY)
def test_recording_of_a_new_server(replay: Replay, case: str) -> None:
    replay.check(RECORDINGS[case], replay.send(RECORDINGS[case]))


def test_restored_insights_and_dashboards_are_there_again(world: World) -> None:
    for path in ("insights/9/", "dashboards/2/"):
        world.patch(path, deleted=True)
        assert world.api.get(path).status_code == 404
        world.patch(path, deleted=False)
        assert world.api.get(path).json()["deleted"] is False


def test_finished_exports_have_content_and_others_have_not(world: World) -> None:
    world.until_done()
    for case in ("create_csv_source_query", "create_xlsx_context", "create_both", "create_extra_readonly"):
        recording = RECORDINGS[f"exports.after_worker.{case}"]
        assert world.replay.send(recording).json()["has_content"] is recording.body["has_content"], case


@pytest.mark.parametrize("case", [each for each in CASES if "link" in each or each.startswith("pages.")])
def test_links_are_those_of_the_recording(world: World, case: str) -> None:
    wanted, found = RECORDINGS[case].body, _answer(world, case).json()
    for name in ("next", "previous"):
        link = wanted[name] and wanted[name].replace("http://127.0.0.1:8010", world.posthog.url)
        assert found[name] == link
