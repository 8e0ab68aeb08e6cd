"""A reset leaves nothing of what was added, so that the order of tests cannot matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_posthog.emulator.hogql.schema import tables
from airflow_provider_posthog.emulator.http.api import PROJECT_ROUTES
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.emulator.project import EmulatorProject
from tests.emulator.client import Client, hogql
from tests.support.waiting import wait_for

AT = "2026-11-20T10:00:00Z"
#: What the server tells that has no number in its address.
LISTS = sorted({route.pattern for route in PROJECT_ROUTES if route.method == "GET" and "{" not in route.pattern})
#: What is not to be asked for without more.
NOT_ASKED = {"/insights/trend/", "/events/values/", "/persons/deletion_status/", "/events.csv"}
#: Tables that show what this test itself has asked.
ASKED = {"numbers", "query_log"}

Way = Callable[[EmulatorProcess, Client], object]


def made(answer: Any) -> Any:
    """Return the number of what was made."""
    assert answer.status_code in (200, 201, 202), answer.text
    body = answer.json()
    return body.get("id", body.get("name"))


def _told(answer: Any) -> object:
    return answer.json() if "json" in answer.headers.get("Content-Type", "") else answer.text


def everything(posthog: EmulatorProcess, api: Client) -> dict[str, object]:
    """Return all that the server tells without being given a number."""
    found: dict[str, object] = {}
    for path in LISTS:
        if path not in NOT_ASKED:
            found[path] = _told(api.get(path.lstrip("/")))
    for path in ("/api/users/@me/", "/api/organizations/@current/"):
        found[path] = _told(api.get(path))
    for path in ("settings", "faults", "query_budget"):
        found[path] = posthog.control("GET", path)
    found["exports"] = posthog.stats()["exports"]
    found["ahead"] = posthog.control("GET", "clock")["now"][:10]
    names = [name for name in tables(newer=True) if name not in ASKED]
    counts = " UNION ALL ".join(f"SELECT '{name}' AS name, count() AS n FROM {name}" for name in names)
    answer = api.query(f"SELECT * FROM ({counts}) ORDER BY name LIMIT 500").json()
    found |= {f"rows of {name}": n for name, n in answer["results"]}
    for name, columns in (
        ("events", "toString(uuid), event, distinct_id, toString(person_id), toString(properties)"),
        ("persons", "toString(id), toString(properties), toString(created_at)"),
        ("person_distinct_ids", "distinct_id, toString(person_id)"),
        ("groups", "key, toString(properties)"),
    ):
        answer = api.query(f"SELECT sum(cityHash64(concat({columns}))) FROM {name}").json()
        assert "results" in answer, answer
        found[f"content of {name}"] = answer["results"]
    return found


def _export(posthog: EmulatorProcess, api: Client) -> object:
    found = api.export(hogql("SELECT 1 AS a"))
    return found["id"], found["has_content"], found["exception"]


def _download(posthog: EmulatorProcess, api: Client) -> object:
    window = {"data_interval_start": "2026-11-01T00:00:00Z", "data_interval_end": "2026-11-02T00:00:00Z"}
    number = made(api.post("file_download_batch_exports/", {"model": "events", "file_format": "Parquet", **window}))
    path = f"file_download_batch_exports/{number}/"
    wait_for(lambda: api.get(path).json()["status"] == "Completed")
    return number


def _batch_export(posthog: EmulatorProcess, api: Client) -> object:
    first = api.get("batch_exports/").json()["results"][0]
    made(api.post(f"batch_exports/{first['id']}/pause/"))
    body = {"name": "Own", "interval": "hour", "destination": {**first["destination"]}}
    number = made(api.post("batch_exports/", body))
    window = {"start_at": "2026-11-01", "end_at": "2026-11-02"}
    return number, made(api.post(f"batch_exports/{first['id']}/backfills/", window))


def _deleted_person(posthog: EmulatorProcess, api: Client) -> object:
    (person,) = api.get("persons/?distinct_id=user-3").json()["results"]
    posthog.fail_deletions([person["uuid"]])
    return api("DELETE", f"persons/{person['id']}/?delete_events=true").status_code


def _project(posthog: EmulatorProcess, api: Client) -> object:
    other = EmulatorProject(posthog, events=3, name="Second shop")
    return other.project_id, other.project_token


def _warehouse(posthog: EmulatorProcess, api: Client) -> object:
    source = api.get("external_data_sources/").json()["results"][0]["id"]
    view = api.get("warehouse_saved_queries/").json()["results"][0]["id"]
    api.post(f"external_data_sources/{source}/reload/")
    api.post(f"warehouse_saved_queries/{view}/run/", {})
    credential = {"access_key": "a", "access_secret": "b"}
    linked = {"name": "linked", "format": "Parquet", "url_pattern": "https://x/*", "credential": credential}
    return source, view, made(api.post("warehouse_tables/", linked))


def _async_query(posthog: EmulatorProcess, api: Client) -> object:
    begun = api.post("query/", {"query": hogql("SELECT 7 AS n"), "refresh": "force_async", "client_query_id": "mine"})
    return begun.json()["query_status"]["id"]


def post(path: str, **body: object) -> Way:
    return lambda posthog, api: made(api.post(path, body))


def call(method: str, *arguments: Any, **options: Any) -> Way:
    """Call what the fixture offers."""
    return lambda posthog, api: getattr(posthog, method)(*arguments, **options)


def _person_changes(posthog: EmulatorProcess, api: Client) -> object:
    group = "groups/update_property/?group_type_index=0&group_key=acme:0"
    api.post(group, {"key": "plan", "value": "x"})
    return posthog.capture([{"event": "x", "distinct_id": "user-1", "$set": {"email": "other@example.invalid"}}])


def _taken_in(posthog: EmulatorProcess, api: Client) -> object:
    uuid = "018f0000-0000-7000-8000-000000000003"
    event = {"event": "e", "distinct_id": "n", "uuid": uuid, "timestamp": AT, "properties": {}}
    return api.post("/batch/", {"api_key": posthog.project_token, "batch": [event]}).status_code


def _insights(posthog: EmulatorProcess, api: Client) -> object:
    made(api.get("insights/1/?refresh=force_blocking"))
    made(api("PATCH", "insights/2/", json={"name": "B"}))
    return api("PATCH", "insights/1/sharing/", json={"enabled": True}).json()["access_token"]


_EVENT = {
    "uuid": "018f0000-0000-7000-8000-000000000001",
    "event": "e",
    "distinct_id": "d",
    "person_id": "018f0000-0000-7000-8000-000000000002",
    "timestamp": AT,
    "created_at": AT,
    "properties": {},
}
_SOME = hogql("SELECT id FROM persons ORDER BY id LIMIT 3")
#: One of each kind that can be added or changed, and what of :func:`everything` shows it; "" for what only shows in
#: what a later way returns.
WAYS: dict[str, tuple[str, Way]] = {
    "insight": ("/insights/", post("insights/", name="A", query=hogql("SELECT 1"))),
    "results, names and sharing": ("/insights/activity/", _insights),
    "dashboard": ("/dashboards/", post("dashboards/", name="A")),
    "cohort": ("/cohorts/", post("cohorts/", name="A", is_static=True, query=_SOME)),
    "cohort of a test": ("rows of cohort_people", call("add_cohort", "B", distinct_ids=["user-1"])),
    "annotation": ("/annotations/", post("annotations/", content="A")),
    "feature flag": ("/feature_flags/", post("feature_flags/", key="a")),
    "experiment": ("/experiments/", post("experiments/", name="a", feature_flag_key="b")),
    "survey": ("/surveys/", post("surveys/", name="a")),
    "element": ("", post("elements/", text="Buy", tag_name="button", order=0)),
    "batch export": ("/batch_exports/", _batch_export),
    "export": ("exports", _export),
    "file download": ("rows of system.batch_export_on_demands", _download),
    "warehouse": ("/warehouse_tables/", _warehouse),
    "query": ("", _async_query),
    "deleted person": ("rows of persons", _deleted_person),
    "events": ("rows of events", call("add_events", [_EVENT])),
    "changes": ("content of groups", _person_changes),
    "captured": ("content of person_distinct_ids", _taken_in),
    "persons": ("/persons/", call("add_persons", [{"distinct_ids": ["z"], "created_at": AT}])),
    "recordings": (
        "rows of raw_session_replay_events",
        call("add_recordings", [{"session_id": "s", "distinct_id": "d", "timestamp": AT}]),
    ),
    "heat map": ("rows of heatmaps", call("add_rows", "heatmaps", [{"timestamp": AT}])),
    "log": ("rows of logs", call("add_rows", "logs", [{"body": "x"}])),
    "action": ("/actions/", call("add_action", "A", [{"event": "x"}])),
    "table": ("rows of system.data_warehouse_tables", call("add_table", "crm.contacts", {"id": "Int64"}, [{"id": 1}])),
    "view": ("rows of system.data_modeling_views", call("add_view", "known", "SELECT 1 AS a")),
    "project": ("/api/organizations/@current/", _project),
    "key": ("", call("create_key", ["query:read"], user=2)),
    "secret key": ("", call("create_secret_key")),
    "sweep": ("", lambda posthog, api: sorted(posthog.sweep())),
    "outcome of exports": ("", call("next_exports", "silent_failure")),
    "fault": ("faults", lambda posthog, api: len(posthog.faults(path="*/nothing/", status=503))),
    "settings": ("settings", lambda posthog, api: len(posthog.settings(timezone="Europe/Berlin", max_page=7))),
    "clock": ("ahead", call("advance", 3 * 24 * 3600.0)),
    "budget": ("query_budget", lambda posthog, api: posthog.query_budget(5) and None),
}


def test_a_reset_takes_one_of_each_kind_away_and_begins_to_count_anew(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(export_seconds=0, file_download_seconds=0, file_listing_seconds=0)
    posthog.reset()
    before = everything(posthog, api)
    first = {name: way(posthog, api) for name, (_, way) in WAYS.items()}
    after = everything(posthog, api)
    unseen = [name for name, (shown, _) in WAYS.items() if shown and after[shown] == before[shown]]
    assert unseen == [], "what is not seen to be added is not seen to be taken away"
    posthog.reset()
    again = everything(posthog, api)
    assert {name: again[name] for name in before if again[name] != before[name]} == {}
    second = {name: way(posthog, api) for name, (_, way) in WAYS.items()}
    assert {name: (first[name], second[name]) for name in first if first[name] != second[name]} == {}
