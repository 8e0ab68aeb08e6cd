"""Airflow 3's pages, as somebody meets them in a browser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_posthog.audit.__main__ import SALT_VARIABLE
from demo.ui import SALT
from tests.e2e.deployment import wait_for
from tests.ui.cases import ENDS, ERRORS, check_log, lines_of
from tests.ui.pages import Playground, picture

LINKS = {
    "load": "/sql",
    "export": "/exports",
    "query": "/sql",
    "refresh": "/dashboard/1",
    "gate": "/insights/",
}


@pytest.fixture(scope="module")
def signed_in(three: Playground, page: Any) -> Any:
    page.goto(three.url)
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "admin")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/auth/login" not in url)
    return page


@pytest.fixture(scope="module")
def runs(three: Playground) -> dict[str, str]:
    return {dag: three.trigger(dag, {}) for dag in ("good", "bad")}


def address(three: Playground, dag: str, run: str, task: str, tab: str = "") -> str:
    return f"{three.url}/dags/{dag}/runs/{quote(run)}/tasks/{task}{tab}"


def test_the_form_says_what_to_write_and_stores_no_secret_in_clear(
    three: Playground, signed_in: Any, runs: dict[str, str]
) -> None:
    page = signed_in
    page.goto(f"{three.url}/connections")
    page.get_by_role("button", name="Add Connection").first.click()
    page.fill("input[name=connection_id]", "by_form")
    combo = page.get_by_role("combobox").last
    combo.click()
    combo.type("PostHog")
    page.get_by_role("option", name="PostHog").first.click()
    dialog = page.get_by_role("dialog")
    page.wait_for_selector("input[name=password]")
    shown = dialog.inner_text()
    assert "Personal API key (the project's number: Extra Fields)" in shown
    assert re.search(r"^Port$", shown, re.MULTILINE)
    picture(page, "connection-form", dialog)
    host, _, port = three.posthog.url.rpartition(":")
    page.fill("input[name=host]", host)
    page.fill("input[name=password]", three.posthog.api_key)
    page.fill("input[name=port]", port)
    page.get_by_role("button", name="Extra Fields").first.click()
    page.wait_for_selector("[name=element_project_id]")
    page.fill("[name=element_project_id]", str(three.posthog.project_id))
    page.fill("[name=element_audit_secret]", SALT)
    assert "Salt of erasure certificates (secret)" in dialog.inner_text()
    picture(page, "connection-extras", dialog)
    page.get_by_role("button", name="Save").click()
    found = wait_for("the connection", lambda: connection(three, "by_form"))
    extra = json.loads(found["extra"])
    assert extra["audit_secret"] == "***"
    assert not extra.get("verify"), "a text of four letters makes Airflow warn of a secret that is too short"
    assert extra["project_id"] == three.posthog.project_id
    assert (found["password"] or "***") == "***"


def connection(three: Playground, name: str) -> Any:
    found = three.call("GET", "connections?limit=100")["connections"]
    return next((one for one in found if one["connection_id"] == name), None)


def test_the_test_button_says_what_it_reached(three: Playground, signed_in: Any) -> None:
    page = signed_in
    page.goto(f"{three.url}/connections")
    page.get_by_text("by_form").wait_for()
    row = page.get_by_role("row").filter(has_text="by_form")
    row.get_by_role("button", name=re.compile("Test Connection", re.IGNORECASE)).click()
    page.get_by_text(re.compile("Reached project 1")).first.wait_for()
    text = page.get_by_text(re.compile("Reached project 1")).first.inner_text()
    assert "The key has all scopes that this test can check." in text


def test_every_task_says_at_its_start_and_at_its_end_what_where_and_with_what_result(
    three: Playground, signed_in: Any, runs: dict[str, str]
) -> None:
    run = runs["good"]
    assert three.wait_for_run("good", run, 400) == "success"
    for task in three.tasks("good", run):
        lines = lines_of(three.log("good", run, task["task_id"], 1))
        check_log(task["task_id"], lines, three.posthog.url)
        assert not [line for line in lines if "too short" in line]
    page = signed_in
    page.goto(address(three, "good", run, "load"))
    page.get_by_text(re.compile(ENDS["load"])).first.wait_for()
    picture(page, "load-log")


def test_every_task_leads_to_the_thing_in_posthog(three: Playground, signed_in: Any, runs: dict[str, str]) -> None:
    run = runs["good"]
    for task, path in LINKS.items():
        where = f"dags/good/dagRuns/{quote(run, safe='')}/taskInstances/{task}/links"
        (link,) = three.call("GET", where)["extra_links"].values()
        assert link.startswith(f"{three.posthog.url}/project/1{path}")
    page = signed_in
    page.goto(address(three, "good", run, "refresh", "/details"))
    page.get_by_text("PostHogLink").or_(page.get_by_role("link", name="PostHog")).first.wait_for()
    page.goto(address(three, "good", run, "refresh", "/xcom"))
    page.get_by_text("return_value").wait_for()
    page.get_by_text("_link_PostHogLink").wait_for()
    picture(page, "links")


def test_the_dag_s_docs_are_there_and_nothing_is_wrong_with_an_example(three: Playground, signed_in: Any) -> None:
    assert three.call("GET", "importErrors")["import_errors"] == []
    assert three.call("GET", "dagWarnings")["dag_warnings"] == []
    page = signed_in
    for dag in three.call("GET", "dags?limit=100")["dags"]:
        details = three.call("GET", f"dags/{dag['dag_id']}/details")
        assert details["doc_md"], f"{dag['dag_id']} has no doc_md"
    page.goto(f"{three.url}/dags/load_events")
    page.get_by_role("button", name="Dag Docs").click()
    page.get_by_role("dialog").get_by_text("Events of each hour").first.wait_for()
    picture(page, "dag-docs")


@pytest.mark.parametrize("task", ERRORS)
def test_an_error_names_the_thing_the_place_and_the_next_step_and_is_not_tried_again(
    three: Playground, signed_in: Any, runs: dict[str, str], task: str
) -> None:
    run = runs["bad"]
    assert three.wait_for_run("bad", run, 400) == "failed"
    (found,) = [one for one in three.tasks("bad", run) if one["task_id"] == task]
    assert (found["state"], found["try_number"]) == ("failed", 1)
    log = three.log("bad", run, task, 1)
    for text in ERRORS[task]:
        assert text in log.replace('\\"', '"').replace("\\u0027", "'"), f"{text!r} is not in {log[-3000:]}"
    if task == "no_insight":
        page = signed_in
        page.goto(address(three, "bad", run, task))
        page.get_by_text(
            re.compile("the project has no such insight")
        ).first.click()  # folds the frames, whose paths are ours
        picture(page, "failed-log")


def test_events_and_a_dashboard_are_on_the_page_of_assets(three: Playground, signed_in: Any) -> None:
    page = signed_in
    page.goto(f"{three.url}/assets")
    host = three.posthog.url.partition("://")[2]
    page.get_by_text(f"posthog://{host}/1/events").first.wait_for()
    page.get_by_text(f"posthog://{host}/1/dashboard/1").first.wait_for()
    picture(page, "assets")


def test_a_form_for_a_run_can_be_sent_with_what_may_be_left_out(three: Playground, signed_in: Any) -> None:
    page = signed_in
    page.goto(f"{three.url}/dags/erase_persons")
    page.get_by_role("button", name="Trigger").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("ticket").first.wait_for()
    send = dialog.get_by_role("button", name="Trigger")
    assert send.is_disabled(), "a certificate needs the name of a request"
    dialog.locator("input[name=element_ticket]").fill("DSR-1")
    dialog.locator("input[name=element_requests_path]").fill("s3://private/DSR-1.csv")
    wait_for("a form that may be sent", send.is_enabled)
    page.keyboard.press("Escape")


def test_somebody_approves_an_erasure_by_what_the_page_says_and_gets_a_certificate(
    three: Playground, signed_in: Any, runs: dict[str, str]
) -> None:
    three.wait_for_run("good", runs["good"], 400)  # it loads the table that is erased from
    requests = three.files / "requests.csv"
    requests.write_text("email\nsomebody@example.org\nnobody@example.org\n")
    person = {"distinct_ids": ["somebody", "a-device"], "properties": {"email": "somebody@example.org"}}
    three.posthog.add_persons([person])
    run = three.trigger("erasing", {"requests": f"file://{requests}"})
    wait_for(
        "the question", lambda: {"deferred", "awaiting_input"} & {one["state"] for one in three.tasks("erasing", run)}
    )
    page = signed_in
    page.goto(f"{three.url}/required_actions")
    page.get_by_text("Erase persons from PostHog (DSR-42)?").first.wait_for()
    page.goto(address(three, "erasing", run, "erase_persons.approve", "/required_actions"))
    page.get_by_role("button", name="Approve").wait_for()
    shown = page.inner_text("body")
    for text in (
        f"PostHog: project 1 on {three.posthog.url}",
        "Deleted there: 1 person, 0 events, 0 recordings",
        "Their distinct ids: 2",
        "Identifiers that match no person: 1 (email in line 3)",
        "Their rows are deleted, too, in loaded (warehouse)",
        "What is deleted cannot be brought back.",
    ):
        assert text in shown
    picture(page, "approval")
    with page.expect_response(lambda answer: answer.request.method == "PATCH" and "hitlDetails" in answer.url) as sent:
        page.get_by_role("button", name="Approve").click()
    assert sent.value.ok
    wait_for("the request", lambda: is_done(three, run, "delete"))
    three.posthog.sweep()
    assert three.wait_for_run("erasing", run, 400) == "success"
    last = lines_of(three.log("erasing", run, "erase_persons.finish", 1))[-1]
    assert re.search(r"Erasure \w+ \(DSR-42\) is closed: VERIFIED\. Removed .*; certificate: file://", last)
    (folder,) = (three.files / "certificates").glob("[!_]*")
    report = three.files / "certificate.html"
    command = [sys.executable, "-m", "airflow_provider_posthog.audit", "verify", str(folder), "--report", str(report)]
    checked = subprocess.run(command, check=False, capture_output=True, env={**os.environ, SALT_VARIABLE: SALT})
    assert checked.returncode == 0, checked.stdout
    page.goto(f"file://{report}")
    shown = page.inner_text("body")
    assert "VERIFIED" in shown
    assert "1 persons" not in shown
    assert "1 identifiers" not in shown
    picture(page, "certificate")
    page.goto("about:blank")


def is_done(three: Playground, run: str, name: str) -> bool:
    task = next(one for one in three.tasks("erasing", run) if one["task_id"] == f"erase_persons.{name}")
    if task["state"] in ("failed", "up_for_retry"):
        raise AssertionError(three.log("erasing", run, task["task_id"], 1))
    return bool(task["state"] == "success")


def test_ctrl_c_stops_it_all(three: Playground) -> None:
    folder = three.files.parent
    assert folder.exists()
    assert three.left()
    assert three.interrupt() == 0
    assert three.left() == []
    assert not folder.exists()
