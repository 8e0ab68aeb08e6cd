"""A job whose creation is not answered, behind a proxy: one POST, and the job is looked for by its marker."""

from __future__ import annotations

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from airflow_provider_posthog.exceptions import PostHogTransportError
from tests.operators.support import connect, connected, created, export_operator, finish, posts
from tests.support.proxies import Proxy

__all__ = ["connected"]

EXPORTS = "*/exports/"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_posthog.api.jobs.LOST_WAITS", (0.05, 0.1))


@pytest.mark.parametrize("times", [1, 5])
def test_an_export_whose_answers_were_lost_behind_a_proxy_was_made_once(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    connected.faults(method="POST", path=EXPORTS, cut="after", count=times)
    with Proxy() as proxy:
        connect(monkeypatch, connected, proxy=proxy.url)
        assert finish(export_operator())["has_content"] is True
        assert proxy.connections
    assert created(connected) == len(posts(connected)) == 1


def test_an_export_that_the_proxy_did_not_let_through_says_so(
    connected: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, connected, proxy="http://127.0.0.1:1")
    with pytest.raises(PostHogTransportError, match="see the connection's proxy") as caught:
        finish(export_operator())
    assert not caught.value.sent
    assert created(connected) == 0
