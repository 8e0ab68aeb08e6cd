"""Airflow 2.11's pages, as somebody meets them in a browser."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pytest

from tests.e2e.deployment import wait_for
from tests.ui.cases import ENDS, ERRORS, check_log, lines_of
from tests.ui.pages import Playground, picture


@pytest.fixture(scope="module")
def signed_in(two: Playground, page: Any) -> Any:
    page.goto(f"{two.url}/login/")
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", "admin")
    page.locator("input[type=submit]").click()
    page.wait_for_url(lambda url: "/login" not in url)
    return page


@pytest.fixture(scope="module")
def runs(two: Playground) -> dict[str, str]:
    return {dag: two.trigger(dag, {}) for dag in ("good", "bad")}


def test_the_form_says_what_to_write_and_its_test_what_was_reached(
    two: Playground, signed_in: Any, runs: dict[str, str]
) -> None:
    page = signed_in
    page.goto(f"{two.url}/connection/add")
    page.fill("#conn_id", "by_form")
    page.select_option("#conn_type", "posthog", force=True)
    page.wait_for_selector("#password")
    form = page.inner_text("body")
    assert "Personal API key (the project's number: Extra Fields)" in form
    assert "write 443" not in form
    page.fill("#host", two.posthog.url)
    page.fill("#password", two.posthog.api_key)
    page.fill("#extra__posthog__project_id", str(two.posthog.project_id))
    assert page.input_value("#extra__posthog__verify") == ""
    picture(page, "connection-form-2")
    page.click("#test-connection")
    page.get_by_text(re.compile("Reached project 1")).first.wait_for()
    assert "The key has all scopes that this test can check." in page.inner_text("body")


def test_every_task_says_at_its_start_and_at_its_end_what_where_and_with_what_result(
    two: Playground, signed_in: Any, runs: dict[str, str]
) -> None:
    run = runs["good"]
    assert two.wait_for_run("good", run, 400) == "success"
    for task in two.tasks("good", run):
        check_log(task["task_id"], lines_of(two.log("good", run, task["task_id"], 1)), two.posthog.url)
        where = f"dags/good/dagRuns/{quote(run, safe='')}/taskInstances/{task['task_id']}/links"
        (link,) = two.call("GET", where).values()
        assert link.startswith(f"{two.posthog.url}/project/1/")
    page = signed_in
    at = f"{two.url}/dags/good/grid?dag_run_id={quote(run)}&task_id=load&tab="
    page.goto(f"{at}logs")
    page.get_by_text(re.compile(ENDS["load"])).first.wait_for()
    wait_for("the task's link", lambda: any(has_link(page, at + tab) for tab in ("logs", "details")))


def has_link(page: Any, address: str) -> bool:
    """Load a page anew, as it asks for links only once, and Airflow 2 answers late where the machine is busy."""
    page.goto(address)
    from playwright.sync_api import TimeoutError

    with suppress(TimeoutError):
        page.get_by_role("link", name="PostHog").first.wait_for(timeout=20_000)
        return True
    return False


@pytest.mark.parametrize("task", [task for task in ERRORS if task != "no_interval"])  # there, each run has one
def test_an_error_names_the_thing_the_place_and_the_next_step_and_is_not_tried_again(
    two: Playground, runs: dict[str, str], task: str
) -> None:
    run = runs["bad"]
    assert two.wait_for_run("bad", run, 400) == "failed"
    (found,) = [one for one in two.tasks("bad", run) if one["task_id"] == task]
    assert (found["state"], found["try_number"]) == ("failed", 1)
    log = two.log("bad", run, task, 1).replace('\\"', '"').replace("\\'", "'")
    for text in ERRORS[task]:
        assert text in log


def test_the_dags_docs_are_there_and_nothing_is_wrong_with_an_example(two: Playground, signed_in: Any) -> None:
    assert two.call("GET", "importErrors")["import_errors"] == []
    for dag in two.call("GET", "dags?limit=100")["dags"]:
        assert two.call("GET", f"dags/{dag['dag_id']}/details")["doc_md"], f"{dag['dag_id']} has no doc_md"
    page = signed_in
    page.goto(f"{two.url}/dags/load_events/grid")
    page.get_by_text("DAG Docs").first.click()
    page.get_by_text("Events of each hour").first.wait_for()


def test_ctrl_c_stops_it_all(two: Playground) -> None:
    folder = two.files.parent
    assert two.left()
    assert two.interrupt() == 0
    wait_for("the files to be gone", lambda: not folder.exists())
    assert two.left() == []
