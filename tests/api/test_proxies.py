"""What stands between a client and PostHog may lose an answer; what was sent once is then not sent again blindly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_provider_posthog.exceptions import PostHogError, PostHogTransportError
from tests.api.cases import CREATE, EXPORT, GET, settings_for
from tests.support.fixtures import Certificates
from tests.support.proxies import Proxy, Way
from tests.support.scripted import Cut, ScriptedServer, cut, ok
from tests.support.senders import QUICK, Sender

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

MakeServer = Callable[..., ScriptedServer]


@pytest.fixture(params=["http", "https"])
def target(request: pytest.FixtureRequest, make_server: MakeServer, certificates: Certificates) -> ScriptedServer:
    return make_server(tls=certificates.context if request.param == "https" else None)


def _fails(sender: Sender, server: ScriptedServer, proxy: str | None, **options: object) -> PostHogTransportError:
    with pytest.raises(PostHogError) as caught:
        sender.send(settings_for(server, proxy=proxy, **options), CREATE, policy=QUICK)
    assert isinstance(caught.value, PostHogTransportError)
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    return caught.value


def _in_environment(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv(name.upper(), proxy.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")


@pytest.mark.parametrize("where", ["connection", "environment"])
@pytest.mark.parametrize("lost", ["after", "headers", "body", "chunk"])
def test_a_lost_answer_behind_a_proxy_may_be_of_work_that_was_done(
    sender: Sender, target: ScriptedServer, monkeypatch: pytest.MonkeyPatch, lost: Cut, where: str
) -> None:
    target.script(cut(lost))
    with Proxy() as proxy:
        if where == "environment":
            _in_environment(monkeypatch, proxy)
        found = _fails(sender, target, proxy.url if where == "connection" else None)
        assert proxy.connections == 1, "it went by the proxy"
    assert found.sent
    assert "proxy" not in str(found)
    assert [request.method for request in target.requests] == ["POST"]


@pytest.mark.parametrize("way", ["loses", "loses with a reset"])
def test_a_proxy_that_loses_answers_has_handed_on_the_request(sender: Sender, server: ScriptedServer, way: Way) -> None:
    server.script(ok(EXPORT, 201))
    with Proxy(way) as proxy:
        found = _fails(sender, server, proxy.url)
    assert found.sent
    assert "proxy" not in str(found)
    assert len(server.requests) == 1


def test_reading_is_repeated_through_a_proxy_that_loses_an_answer(sender: Sender, server: ScriptedServer) -> None:
    server.script(ok(EXPORT))
    with Proxy("loses", count=2) as proxy:
        assert sender.send(settings_for(server, proxy=proxy.url), GET) == EXPORT
    assert len(server.requests) == 3


@pytest.mark.parametrize("way", ["407", "403", "502", "closes", "resets", "hangs"])
def test_what_a_proxy_does_not_let_through_was_not_sent(
    sender: Sender, make_server: MakeServer, certificates: Certificates, way: Way
) -> None:
    server = make_server(ok(EXPORT), tls=certificates.context)
    with Proxy(way) as proxy:
        found = _fails(sender, server, proxy.url, read_timeout=0.3, connect_timeout=0.3)
        attempts = proxy.connections
    assert not found.sent
    assert server.requests == []
    if way.isdecimal():
        assert way in str(found)
        assert "see the connection's proxy" in str(found)
    assert attempts == (1 if way in ("407", "403") else QUICK.max_attempts)


def test_an_answer_that_does_not_come_in_time_through_a_proxy_may_be_of_work_that_was_done(
    sender: Sender, target: ScriptedServer
) -> None:
    from tests.support.scripted import Reply

    target.script(Reply(delay=20))
    with Proxy() as proxy:
        found = _fails(sender, target, proxy.url, read_timeout=0.3)
    assert found.sent
    assert "no answer in time" in str(found)
    assert len(target.requests) == 1


def test_a_server_behind_a_proxy_that_nobody_trusts_was_sent_nothing(
    sender: Sender, make_server: MakeServer, certificates: Certificates
) -> None:
    server = make_server(ok(EXPORT), tls=certificates.context)
    with Proxy() as proxy:
        found = _fails(sender, server, proxy.url, verify=True)
    assert not found.sent
    assert "verify" in str(found)


@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}", "http://127.0.0.1:{port}"])
def test_a_proxy_that_is_none_is_told_so(sender: Sender, make_server: MakeServer, url: str) -> None:
    dead = make_server(listen=False)
    found = _fails(sender, dead, url.format(port=dead.port))
    assert not found.sent


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "socks5h://127.0.0.1:1", "nonsense://127.0.0.1:1"])
def test_a_proxy_that_can_not_be_used_was_sent_nothing(sender: Sender, server: ScriptedServer, proxy: str) -> None:
    """Whether what SOCKS needs is installed or not."""
    assert not _fails(sender, server, proxy).sent
    assert server.attempts == 0
