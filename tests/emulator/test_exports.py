"""Exports from creation to file, and everything that can become of them."""

from __future__ import annotations

import io
import re
from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.emulator.client import CSV, XLSX, Client, bare, hogql, wait_for

STUCK = "Export failed without throwing an exception."


def test_201_does_not_mean_done(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(export_seconds=3600)
    made = api.post("exports/", {"export_format": CSV, "export_context": {"source": hogql("select 1")}}).json()
    assert (made["has_content"], made["exception"]) == (False, None)
    assert api.get(f"exports/{made['id']}/").json() == made
    posthog.advance(3000)
    assert api.get(f"exports/{made['id']}/").json()["has_content"] is False
    posthog.advance(600)
    wait_for(lambda: api.get(f"exports/{made['id']}/").json()["has_content"])


def test_export_matches_the_query(api: Client) -> None:
    sql = "select uuid, event, timestamp from events order by timestamp, toString(uuid) limit 500"
    rows = api.query(sql).json()["results"]
    lines = api.table(hogql(sql))
    assert lines[0] == "uuid,event,timestamp"
    assert lines[1:] == [f"{u},{e},{t.replace('T', ' ').replace('Z', '+00:00')}" for u, e, t in rows]
    assert len(rows) == 500


def test_times_follow_the_time_zone(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(timezone="America/New_York")
    lines = api.table(hogql("select timestamp, toStartOfDay(timestamp) as day from events limit 1"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?-0[45]:00,\d{4}-\d\d-\d\d 0[45]:00:00", lines[1])


def test_values_are_filled_in(api: Client) -> None:
    lines = api.table(hogql("select {words} as words, {number} as number", words='a,"b"\n', number=3))
    assert lines == ["words,number", '"a,""b""\n",3']


def test_context_comes_back_unchanged(api: Client) -> None:
    context = {"source": hogql("select 1"), "filename": "Größe & Zahl!", "nonce": {"dag": "x", "n": [1, None, "ü"]}}
    made = api.post("exports/", {"export_format": CSV, "export_context": context}).json()
    assert made["export_context"] == context
    assert api.get("exports/?limit=1").json()["results"][0]["export_context"] == context
    stamp = datetime.fromisoformat(made["created_at"].replace("Z", "+00:00")).strftime("%Y-%m-%d-%H%M%S")
    assert made["filename"] == f"groe-zahl-{stamp}.csv"


@pytest.mark.parametrize(
    ("body", "dated", "name"),
    [
        ({"insight": 2}, False, "export-pageviews-per-day.png"),
        ({"dashboard": 1, "insight": 2}, False, "export-my-app-dashboard.png"),
        ({"export_context": {"path": "/x"}}, False, "export.png"),
        ({"insight": 2}, True, r"export-pageviews-per-day-\d{4}-\d\d-\d\d-\d{6}.png"),
    ],
)
def test_filenames(api: Client, posthog: EmulatorProcess, body: dict[str, object], dated: bool, name: str) -> None:
    posthog.settings(dated_filenames=dated)
    made = api.post("exports/", {"export_format": "image/png", **body}).json()
    assert re.fullmatch(name, made["filename"])


@pytest.mark.parametrize(("export_format", "days"), [(CSV, 7), (XLSX, 7), ("image/png", 180)])
def test_expiry(api: Client, posthog: EmulatorProcess, export_format: str, days: int) -> None:
    context = {"source": hogql("select 1")}
    made = api.post("exports/", {"export_format": export_format, "insight": 1, "export_context": context}).json()
    day = (datetime.now(timezone.utc) + timedelta(days=days)).date()
    assert made["expires_after"] == f"{day}T00:00:00Z"
    api.ended(made["id"])
    posthog.advance(days * 86400)
    for path in ("", "content/"):
        assert api.get(f"exports/{made['id']}/{path}").status_code == 404
    assert api.get("exports/").json()["count"] == 0


def test_list_is_newest_first_and_filters(api: Client) -> None:
    for number in range(5):
        kind = CSV if number % 2 else "image/png"
        api.post("exports/", {"export_format": kind, "insight": 1, "export_context": {"path": f"/api/x{number}"}})
    ids = [each["id"] for each in api.get("exports/").json()["results"]]
    assert ids == [5, 4, 3, 2, 1]
    assert [e["id"] for e in api.get("exports/?export_format=text/csv").json()["results"]] == [4, 2]
    assert api.get("exports/?export_format=text/nothing").json()["count"] == 5, "unknown formats are ignored"
    assert [e["id"] for e in api.get("exports/?context_path=X3").json()["results"]] == [4]
    page = api.get("exports/?limit=2").json()
    seen = [each["id"] for each in page["results"]]
    while page["next"]:
        page = api.session.get(page["next"], timeout=10).json()
        seen += [each["id"] for each in page["results"]]
    assert seen == ids


def test_limits_of_rows(api: Client, posthog: EmulatorProcess) -> None:
    assert len(api.table(hogql("select number from numbers(60000)"))) == 50_001
    assert len(api.table(hogql("select number from numbers(70000) limit 60000"))) == 60_001
    posthog.settings(csv_row_cap=1000)
    assert len(api.table(hogql("select number from numbers(60000) limit 5000"))) == 1001


def test_empty_results(api: Client) -> None:
    source = hogql("select event, uuid from events where event = 'nope'")
    assert api.table(source) == ["error", "No data available or unable to format for export."]
    assert api.table(source, columns=["event", "uuid"]) == ["event,uuid", ","]


def test_nested_values_and_columns(api: Client) -> None:
    source = hogql("select [1, 2] as d, map('x', 'y') as m, tuple(1, 'z') as t, null as e, '=1+1' as f")
    assert api.table(source) == ["d.0,d.1,m.x,t.0,t.1,e,f", "1,2,y,1,z,,=1+1"]
    assert api.table(source, columns=["f", "nope", "d"]) == ["f,nope,d.0,d.1", "=1+1,,1,2"]


def test_formulas_can_be_defused(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(sanitize_formulas=True)
    assert api.table(hogql("select '=1+1' as f, '@x' as g, -1 as n")) == ["f,g,n", "'=1+1,'@x,-1"]


def test_xlsx_can_be_read(api: Client) -> None:
    from openpyxl import load_workbook

    export = api.export(hogql("select 'a' as text, 7 as number, null as nothing, [1, 2] as list"), XLSX)
    answer = api.content(export["id"])
    assert answer.headers["Content-Type"] == XLSX
    rows = list(load_workbook(io.BytesIO(answer.content)).active.values)
    assert rows == [("text", "number", "nothing", "list.0", "list.1"), ("a", 7, None, 1, 2)]


def test_events_query(api: Client) -> None:
    source = {
        "kind": "EventsQuery",
        "select": ["event", "timestamp", "properties.$browser"],
        "event": "$pageview",
        "after": "all",
        "limit": 3,
    }
    lines = api.table(source, columns=["event", "properties.$browser"])
    count = api.query("select count() from events where event = '$pageview'").json()["results"][0][0]
    assert lines[0] == "event,properties.$browser"
    assert len(lines) - 1 == count > 100, "exports fetch all pages, whatever the limit of the query"
    assert all(line.startswith("$pageview,") for line in lines[1:])
    answer = api.post("query/", {"query": {**source, "properties": [{"key": "$browser", "value": "Chrome"}]}})
    body = answer.json()
    assert (len(body["results"]), body["hasMore"], body["columns"]) == (3, True, source["select"])
    assert {row[2] for row in body["results"]} == {"Chrome"}


def test_trends_query(api: Client) -> None:
    source = {
        "kind": "TrendsQuery",
        "series": [
            {"kind": "EventsNode", "event": "$pageview"},
            {"kind": "EventsNode", "event": "purchase", "custom_name": "Sold", "math": "dau"},
        ],
        "dateRange": {"date_from": "-3d"},
    }
    lines = api.table({"kind": "InsightVizNode", "source": source})
    today = datetime.now(timezone.utc).date()
    days = [today - timedelta(days=back) for back in (3, 2, 1, 0)]
    labels = [day.strftime("%d-%b-%Y").lstrip("0") for day in days]
    counts = []
    for day in days:
        sql = "select count() from events where event = '$pageview' and toDate(timestamp) = toDate({d})"
        counts.append(str(api.query(sql, d=str(day)).json()["results"][0][0]))
    assert lines[0] == ",".join(["series", *labels, "custom name"])
    assert lines[1] == ",".join(["$pageview", *counts, ""])
    assert lines[2].startswith("Sold,")
    assert lines[2].endswith(",Sold")
    assert sum(map(int, counts)) > 100


def test_path_exports_follow_next(api: Client) -> None:
    for name in "abc":
        api.post("insights/", {"name": name})
    body = {"export_format": CSV, "export_context": {"path": "/api/projects/1/insights/?basic=true&limit=4"}}
    made = api.ended(api.post("exports/", body).json()["id"])
    lines = api.content(made["id"]).text.split("\r\n")
    assert lines[0].startswith("id,short_id,name,")
    assert [line.split(",")[0] for line in lines[1:-1]] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("body", "exception"),
    [
        ({"export_format": CSV, "insight": 1}, "'path'"),
        ({"export_format": XLSX, "dashboard": 1}, "'path'"),
        (
            {"export_format": "application/pdf", "insight": 1},
            "Export to format application/pdf is not supported for insights",
        ),
        (
            {"export_format": "application/json", "insight": 1},
            "Export to format application/json is not supported for insights",
        ),
        (
            {"export_format": CSV, "export_context": {"source": hogql("select nope from events")}},
            "Unable to resolve field: nope",
        ),
        ({"export_format": CSV, "export_context": {"path": "/api/projects/1/nothing/"}}, "export API call failed"),
    ],
)
def test_what_can_not_be_made(api: Client, body: dict[str, object], exception: str) -> None:
    answer = api.post("exports/", body)
    assert answer.status_code == 201
    ended = api.ended(answer.json()["id"])
    assert ended["has_content"] is False
    assert ended["exception"].startswith(exception)


@pytest.mark.parametrize(
    ("body", "attr", "detail"),
    [
        ({"export_format": "image/gif", "insight": 1}, "export_format", "Video export supports session recordings"),
        (
            {"export_format": CSV, "export_context": {"path": "/x", "method": "POST"}},
            "export_context",
            "Exports from API endpoints only support GET",
        ),
        ({"export_format": CSV, "export_context": {}}, None, "Either dashboard, insight or export_context"),
        ({"export_format": "application/x-ndjson", "insight": 1}, "export_format", '"application/x-ndjson" is not'),
        ({"export_format": CSV, "dashboard": 54321}, "dashboard", 'Invalid pk "54321" - object does not exist.'),
        ({"export_format": CSV, "insight": "PcIqt9MT"}, "insight", "Incorrect type."),
    ],
)
def test_what_is_refused(api: Client, body: dict[str, object], attr: str | None, detail: str) -> None:
    answer = api.post("exports/", body)
    assert answer.status_code == 400
    assert answer.json()["attr"] == attr
    assert answer.json()["detail"].startswith(detail)
    assert api.get("exports/").json()["count"] == 0


def test_png(api: Client) -> None:
    made = api.ended(api.post("exports/", {"export_format": "image/png", "dashboard": 1}).json()["id"])
    answer = api.content(made["id"])
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG\r\n\x1a\n")
    assert answer.content.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(("export_format", "start"), [("image/gif", b"GIF89a"), ("video/mp4", b"\x00\x00\x00\x18ftyp")])
def test_recordings_never_block_the_post(
    api: Client, posthog: EmulatorProcess, export_format: str, start: bytes
) -> None:
    posthog.settings(create_blocks=True, export_seconds=1000)
    made = api.post("exports/", {"export_format": export_format, "export_context": {"session_recording_id": "x"}})
    assert (made.status_code, made.json()["has_content"]) == (201, False)
    posthog.advance(1000)
    api.ended(made.json()["id"])
    assert api.content(made.json()["id"]).content.startswith(start)


def test_outcome_exception(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(export_outcome="exception", exception_text="Unknown table 'nonexistent_table'")
    made = api.export(hogql("select 1"))
    assert (made["has_content"], made["exception"]) == (False, "Unknown table 'nonexistent_table'")


def test_outcome_exception_then_success(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(export_outcome="exception_then_success", retry_seconds=500)
    made = api.export(hogql("select 1"))
    assert made["exception"] == "ClickHouse error while executing query."
    posthog.advance(500)
    done = wait_for(lambda: next((e for e in [api.get(f"exports/{made['id']}/").json()] if e["has_content"]), None))
    assert done["exception"] is None


def test_outcome_silent_failure_becomes_a_made_up_exception(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(export_outcome="silent_failure")
    made = api.post("exports/", {"export_format": CSV, "export_context": {"source": hogql("select 1")}}).json()
    wait_for(lambda: posthog.stats()["exports"]["running"] == 0)
    posthog.advance(600)
    assert api.get(f"exports/{made['id']}/").json()["exception"] is None
    posthog.advance(31)
    assert api.get(f"exports/{made['id']}/").json()["exception"].startswith(STUCK)
    assert api.get("exports/").json()["results"][0]["exception"].startswith(STUCK)


def test_outcome_slow_succeeds_after_it_was_called_stuck(api: Client, posthog: EmulatorProcess) -> None:
    posthog.next_exports("slow")
    made = api.post("exports/", {"export_format": CSV, "export_context": {"source": hogql("select 1")}}).json()
    posthog.advance(640)
    assert api.get(f"exports/{made['id']}/").json()["exception"].startswith(STUCK)
    posthog.advance(600)
    done = wait_for(lambda: next((e for e in [api.get(f"exports/{made['id']}/").json()] if e["has_content"]), None))
    assert done["exception"] is None


def test_script_for_the_next_exports_only(api: Client, posthog: EmulatorProcess) -> None:
    posthog.next_exports("exception", count=2, exception_text="no luck")
    posthog.next_exports("succeed", content="a\r\n1\r\n")
    ended = [api.export(hogql("select 5 as b")) for _ in range(4)]
    assert [each["exception"] for each in ended] == ["no luck", "no luck", None, None]
    assert api.content(ended[2]["id"]).text == "a\r\n1\r\n"
    assert api.content(ended[3]["id"]).text == "b\r\n5\r\n"


def test_create_that_blocks(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(create_blocks=True)
    body = {"export_format": CSV, "export_context": {"source": hogql("select 1")}}
    assert api.post("exports/", body).json()["has_content"] is True
    posthog.settings(export_outcome="exception")
    failed = api.post("exports/", body)
    assert (failed.status_code, bool(failed.json()["exception"])) == (201, True)


def test_revoked_key_fails_the_running_export(posthog: EmulatorProcess, api: Client) -> None:
    posthog.settings(export_seconds=1000)
    key = posthog.create_key(user=1)
    made = Client(posthog.url, key).post("exports/", {"export_format": "image/png", "insight": 1}).json()
    posthog.control("DELETE", "keys", {"api_key": key})
    posthog.advance(1000)
    assert api.ended(made["id"])["exception"].startswith("This export could not verify its original authorization.")
    assert Client(posthog.url, key).get("exports/").status_code == 401


@pytest.mark.parametrize(("setting", "running", "failed"), [(404, 404, 404), (425, 425, 400), (409, 409, 409)])
def test_content_that_is_not_there(
    api: Client, posthog: EmulatorProcess, setting: int, running: int, failed: int
) -> None:
    posthog.settings(not_ready=setting, export_seconds=1000, export_outcome="exception", exception_text="broke")
    made = api.post("exports/", {"export_format": CSV, "export_context": {"source": hogql("select 1")}}).json()
    early = api.get(f"exports/{made['id']}/content/")
    assert early.status_code == running
    if setting == 409:
        assert (early.headers["Retry-After"], early.headers["Location"]) == ("5", early.url)
    posthog.advance(1000)
    api.ended(made["id"])
    late = api.get(f"exports/{made['id']}/content/")
    assert late.status_code == failed
    if failed == 400:
        assert (late.json()["code"], late.json()["detail"]) == ("export_failed", "broke")


def test_direct_content(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(content_mode="direct", dated_filenames=False)
    made = api.export(hogql("select 1 as a"), filename="x y")
    answer = api.get(f"exports/{made['id']}/content/?download=true")
    assert (answer.status_code, answer.text, answer.headers["Content-Type"]) == (200, "a\r\n1\r\n", "text/csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="x-y.csv"'
    assert "Content-Disposition" not in api.get(f"exports/{made['id']}/content/?download=1").headers


def _link(api: Client, sql: str = "select number as a from numbers(100)") -> str:
    made = api.export(hogql(sql))
    answer = api.get(f"exports/{made['id']}/content/?download=true")
    assert answer.status_code == 302
    assert "Content-Type" not in answer.headers
    return answer.headers["Location"]


def test_storage_serves_ranges(api: Client, posthog: EmulatorProcess) -> None:
    link = _link(api)
    assert link.startswith(posthog.storage_url + "/storage/")
    assert posthog.storage_url != posthog.url
    whole = bare(link)
    assert whole.status_code == 200
    assert int(whole.headers["Content-Length"]) == len(whole.content) > 200
    assert whole.headers["Content-Disposition"].startswith('attachment; filename="export')
    etag = whole.headers["ETag"]
    for text, part in (("bytes=10-19", slice(10, 20)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None))):
        answer = bare(link, headers={"Range": text, "If-Range": etag})
        assert (answer.status_code, answer.content) == (206, whole.content[part])
        assert answer.headers["Content-Range"].endswith(f"/{len(whole.content)}")
    assert bare(link, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    assert bare(link, headers={"If-Match": '"other"'}).status_code == 412
    refused = bare(link, headers={"Range": "bytes=9999-"})
    assert (refused.status_code, refused.headers["Content-Range"]) == (416, f"bytes */{len(whole.content)}")


def test_storage_refuses_the_key(api: Client, posthog: EmulatorProcess) -> None:
    link = _link(api)
    answer = bare(link, headers={"Authorization": f"Bearer {posthog.api_key}"})
    assert answer.status_code == 400
    assert "<Code>InvalidArgument</Code>" in answer.text
    assert [call["auth_header"] for call in posthog.calls("/storage/")] == [True]


def test_storage_checks_the_signature(api: Client) -> None:
    link = _link(api)
    assert bare(link.split("?")[0]).status_code == 403
    assert bare(link.replace("Signature=", "Signature=0")).status_code == 403
    assert bare(link.replace("project-1", "project-2")).status_code == 403


def test_storage_links_expire(api: Client, posthog: EmulatorProcess) -> None:
    posthog.settings(link_seconds=60)
    link = _link(api)
    posthog.advance(61)
    answer = bare(link)
    assert (answer.status_code, "Request has expired" in answer.text) == (403, True)
