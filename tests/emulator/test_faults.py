"""Failures on demand: statuses, delays and cut connections."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlsplit

import pytest
import requests

from airflow_provider_posthog.emulator.process import EmulatorError, EmulatorProcess
from tests.emulator.client import CSV, Client, bare, hogql

BODY = {"export_format": CSV, "export_context": {"source": hogql("select number from numbers(50000)")}}


def test_status_before_the_work(api: Client, posthog: EmulatorProcess) -> None:
    posthog.faults(
        method="POST",
        path="*/exports/",
        status=503,
        body={"type": "server_error", "code": "database_unavailable", "detail": "Try again.", "attr": None},
        headers={"Retry-After": "1"},
    )
    answer = api.post("exports/", BODY)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["code"] == "database_unavailable"
    assert api.get("exports/").json()["count"] == 0
    assert api.post("exports/", BODY).status_code == 201, "one request only"


def test_status_after_the_work(api: Client, posthog: EmulatorProcess) -> None:
    posthog.faults(method="POST", path="*/exports/", status=504, body="<h1>Gateway timeout</h1>", work=True)
    answer = api.post("exports/", BODY)
    assert (answer.status_code, answer.text) == (504, "<h1>Gateway timeout</h1>")
    assert api.get("exports/").json()["count"] == 1


@pytest.mark.parametrize(("cut", "created"), [("before", 0), ("after", 1)])
def test_cut_around_the_work(api: Client, posthog: EmulatorProcess, cut: str, created: int) -> None:
    posthog.faults(method="POST", path="*/exports/", cut=cut)
    with pytest.raises(requests.ConnectionError):
        api.post("exports/", BODY)
    assert api.get("exports/").json()["count"] == created
    assert posthog.calls("/exports/", "POST")[0]["status"] is None


@pytest.mark.parametrize("size", [0, 1000, 250_000])
def test_cut_in_the_middle_of_a_file(api: Client, posthog: EmulatorProcess, size: int) -> None:
    made = api.export(BODY["export_context"]["source"])
    link = api.get(f"exports/{made['id']}/content/").headers["Location"]
    whole = bare(link).content
    assert len(whole) > 280_000
    posthog.faults(path="/storage/*", cut="middle", cut_bytes=size)
    parts = urlsplit(link)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.request("GET", f"{parts.path}?{parts.query}")
    answer = connection.getresponse()
    assert answer.headers["Content-Length"] == str(len(whole))
    with pytest.raises(http.client.IncompleteRead) as broken:
        answer.read()
    connection.close()
    got = broken.value.partial
    assert got == whole[:size]
    rest = bare(link, headers={"Range": f"bytes={len(got)}-"})
    assert rest.status_code == 206
    assert got + rest.content == whole


def test_skip_and_count(api: Client, posthog: EmulatorProcess) -> None:
    posthog.faults(method="GET", path="/api/projects/1/exports/*", status=500, skip=1, count=2)
    statuses = [api.get("exports/7/").status_code for _ in range(5)]
    assert statuses == [404, 500, 500, 404, 404]
    posthog.faults(path="^/api/.*/exports/7/?$", status=502, count=-1)
    assert [api.get("exports/7").status_code for _ in range(3)] == [502] * 3
    assert api.get("exports/8/").status_code == 404
    posthog.clear_faults()
    assert api.get("exports/7/").status_code == 404


def test_first_that_fits_wins_and_others_wait(api: Client, posthog: EmulatorProcess) -> None:
    posthog.faults(method="GET", path="*/exports/", status=500)
    waiting = posthog.faults(method="GET", path="*/exports/", status=502)
    assert [each["status"] for each in waiting] == [500, 502]
    assert [api.get("exports/").status_code for _ in range(3)] == [500, 502, 200]


def test_a_request_that_was_held_up_comes_into_no_later_test(api: Client, posthog: EmulatorProcess) -> None:
    posthog.faults(method="POST", path="*/exports/", delay=1.0)
    with pytest.raises(requests.ReadTimeout):
        api.post("exports/", BODY, timeout=0.2)
    posthog.reset()
    posthog.faults(method="GET", path="/api/users/@me/", delay=1.2)
    api.get("/api/users/@me/")  # by now the first one was let go
    assert api.get("exports/").json()["count"] == posthog.stats()["exports"]["created"] == 0


def test_delay(api: Client, posthog: EmulatorProcess) -> None:
    posthog.faults(path="*/exports/", delay=0.4)
    began = time.monotonic()
    assert api.get("exports/").status_code == 200
    assert time.monotonic() - began >= 0.4
    assert posthog.calls("/exports/")[0]["seconds"] >= 0.4


def test_control_interface_has_no_faults(posthog: EmulatorProcess) -> None:
    posthog.faults(path="*", status=500, count=-1)
    assert posthog.stats()["calls"] == 0


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"pth": "x"}, "'pth'"),
        ({"status": "503"}, "'status'"),
        ({"status": 99}, "'status'"),
        ({"cut": "later"}, "before, after, middle"),
        ({"count": 0}, "'count'"),
        ({"skip": -1}, "'skip'"),
        ({"skip": True}, "'skip'"),
        ({"delay": -1}, "'delay'"),
        ({"cut_bytes": 1.5}, "'cut_bytes'"),
        ({"method": "get"}, "'method'"),
        ({"path": "^("}, "'path'"),
        ({"path": ""}, "'path'"),
        ({"headers": {"a": 1}}, "'headers'"),
        ({"work": "yes"}, "'work'"),
    ],
)
def test_wrong_faults_are_refused(posthog: EmulatorProcess, fault: dict[str, object], text: str) -> None:
    with pytest.raises(EmulatorError, match="400") as refused:
        posthog.faults(**fault)
    assert text in str(refused.value)
    assert posthog.control("GET", "faults") == {"faults": []}
