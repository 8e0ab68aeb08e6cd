"""The examples of numbers on real Airflow: sent on if they may be believed, and put into a database."""

from __future__ import annotations

import email
import html
import importlib
import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.hooks.posthog import PostHogHook
from tests.load.databases import DuckDB
from tests.operators.support import task_states, xcoms

TREND = {"kind": "TrendsQuery", "series": [{"kind": "EventsNode", "event": "$pageview", "math": "total"}]}


def post(path: str, **body: Any) -> dict[str, Any]:
    made: dict[str, Any] = PostHogHook().send(Call("make", "POST", path, json_object, json=body))
    return made


@pytest.fixture
def board(connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    dashboard = int(post("dashboards/", name="Nightly")["id"])
    made = post("insights/", query=TREND, name="Views", dashboards=[dashboard])
    monkeypatch.setenv("POSTHOG_EXAMPLE_DASHBOARD", str(dashboard))
    monkeypatch.setenv("POSTHOG_EXAMPLE_GATE", made["short_id"])
    monkeypatch.setenv("POSTHOG_EXAMPLE_FILES", f"file://{tmp_path}")
    return made


def example(name: str) -> Any:
    """Import an example, as if for the first time."""
    dag = importlib.reload(importlib.import_module(f"dags_examples.{name}")).dag
    for task in dag.tasks:
        task.retries = 0
        if hasattr(task, "poll_interval"):
            task.poll_interval = 0.1
    return dag


@pytest.mark.parametrize(
    ("condition", "states"),
    [
        ("change >= -100 %", {"no_cliff": "success", "send": "success"}),
        ("change >= 1000000 %", {"no_cliff": "failed", "send": "upstream_failed"}),
    ],
)
def test_the_morning_s_numbers_are_sent_if_they_did_not_fall(
    board: dict[str, Any],
    run_dag: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    condition: str,
    states: dict[str, str],
) -> None:
    monkeypatch.setenv("POSTHOG_EXAMPLE_CONDITION", condition)
    run = run_dag(example("morning_numbers"))
    assert task_states(run) == {"refresh": "success", "any_numbers": "success", **states}
    handed_on = xcoms(run)
    (insight,) = handed_on["refresh", -1, "return_value"]["insights"]
    if states["send"] == "success":
        assert handed_on["send", -1, "return_value"] == insight["text"]
        assert insight["text"].startswith("Views: ")


class _Mails(socketserver.StreamRequestHandler):
    """As much of a mail server as a notifier speaks to."""

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            self.wfile.write(
                b"354 go on\r\n" if word == b"DATA" else b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n"
            )
            if word == b"DATA":
                body = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.mails.append(body)  # type: ignore[attr-defined]
                self.wfile.write(b"250 ok\r\n")
            if word == b"QUIT":
                return


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Mails) as server:
        server.mails = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        plain = {"disable_ssl": True, "disable_tls": True}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": plain}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield server.mails  # type: ignore[attr-defined]
        server.shutdown()


def test_the_numbers_go_out_as_a_mail(
    board: dict[str, Any], run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, mails: list[bytes]
) -> None:
    """By Airflow's own notifier, with what the tasks of the run have returned; a name is not HTML."""
    notifications = pytest.importorskip("airflow.providers.smtp.notifications.smtp")
    post("insights/", query=TREND, name="<b>Paid</b>", dashboards=[int(os.environ["POSTHOG_EXAMPLE_DASHBOARD"])])
    monkeypatch.setenv("POSTHOG_EXAMPLE_CONDITION", "change >= -100 %")
    dag = example("morning_numbers")
    returned = xcoms(run_dag(dag))["refresh", -1, "return_value"]
    mail = importlib.import_module("dags_examples.morning_numbers").MAIL
    notifier = notifications.SmtpNotifier(
        to="team@example.org", from_email="airflow@example.org", subject="This morning", html_content=mail
    )
    notifier({"dag": dag, "ti": SimpleNamespace(xcom_pull=lambda task_ids: returned)})
    (found,) = mails
    message = email.message_from_bytes(found)
    text = b"".join(part.get_payload(decode=True) or b"" for part in message.walk() if not part.is_multipart()).decode()
    first, second = (each["text"] for each in returned["insights"])
    assert text.strip() == f"{html.escape(first, quote=False)}<br>{html.escape(second, quote=False)}"
    assert "&lt;b&gt;Paid" in text


def test_a_skip_skips_what_is_behind_it(board: dict[str, Any], run_dag: Callable[..., Any]) -> None:
    dag = example("morning_numbers")
    dag.get_task("any_numbers").condition = "any > 1000000"
    states = task_states(run_dag(dag))
    assert states == {"refresh": "success", "any_numbers": "skipped", "no_cliff": "skipped", "send": "skipped"}


def test_a_dashboard_is_rows_and_a_file(
    board: dict[str, Any], run_dag: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    database = DuckDB(tmp_path / "warehouse.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.airflow_connection())
    run = run_dag(example("dashboard_to_warehouse"))
    assert set(task_states(run).values()) == {"success"}
    told = xcoms(run)["numbers", -1, "return_value"]
    assert told["loaded"]["rows"] == database.rows("SELECT count(*) FROM posthog_numbers")[0][0] > 0
    assert [path.suffix for path in (tmp_path / "results").rglob("*") if path.is_file()] == [".parquet"]
