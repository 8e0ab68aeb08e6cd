"""Both clients against a server that misbehaves on purpose: one table of cases, two ways to send."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import airflow_provider_posthog
from airflow_provider_posthog.api import exports, insights, projects, queries
from airflow_provider_posthog.api.call import Call, json_object
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogError,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogQuotaError,
    PostHogRateLimitError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogTransportError,
    PostHogValidationError,
)
from tests.api.cases import CREATE, EXPORT, GET, KEY, LIST, QUERY, STATUS, settings_for, simple
from tests.support.fixtures import Certificates
from tests.support.scripted import Cut, Reply, ScriptedServer, cut, error, html, ok
from tests.support.senders import QUICK, Sender
from tests.support.waiting import wait_for

MakeServer = Callable[..., ScriptedServer]
ERRORS: list[tuple[int, type[PostHogAPIError]]] = [
    (400, PostHogValidationError),
    (401, PostHogAuthenticationError),
    (402, PostHogQuotaError),
    (403, PostHogPermissionError),
    (404, PostHogNotFoundError),
    (405, PostHogAPIError),
    (409, PostHogAPIError),
    (425, PostHogAPIError),
    (429, PostHogRateLimitError),
    (500, PostHogServerError),
    (503, PostHogServerError),
    (504, PostHogServerError),
    (512, PostHogServerError),
    (513, PostHogServerError),
]
BAD_ONCE = {
    "408": error(408),
    "425": error(425),
    "500": error(500),
    "502 of a proxy": html(502),
    "503 without a body": Reply(503),
    "520 of Cloudflare": html(520),
    "521 of Cloudflare": html(521),
    "522 of Cloudflare": html(522),
    "523 of Cloudflare": html(523),
    "529": error(529),
    "an announcement and no answer": Reply(101),
    "cut before the request was read": cut("before"),
    "cut after the request was read": cut("after"),
    "cut after the headers": cut("headers"),
    "cut in the body": cut("body"),
    "cut in a chunked body": cut("chunk"),
    "not HTTP": cut("garbage"),
    "timed out": Reply(delay=20),
}
#: What leaves open whether the server did the work; a refused answer with one of these statuses does too.
UNKNOWN = list(BAD_ONCE)


def fails(sender: Sender, server: ScriptedServer, call: Call[Any] = GET, **options: Any) -> PostHogError:
    """Send a call that must fail; return the error, having checked that it tells no secret."""
    policy = options.pop("policy", QUICK)
    with pytest.raises(PostHogError) as caught:
        sender.send(settings_for(server, **options), call, policy=policy)
    for text in (str(caught.value), repr(caught.value)):
        assert KEY not in text
        assert "@example.com" not in text
    return caught.value


class TestGoodAnswers:
    def test_value(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(ok(EXPORT | {"a_field_of_tomorrow": 1}))
        assert sender.send(settings_for(server), GET) == EXPORT | {"a_field_of_tomorrow": 1}
        assert [(r.method, r.path) for r in server.requests] == [("GET", "/api/projects/7/exports/42/")]

    def test_headers(self, sender: Sender, server: ScriptedServer) -> None:
        sender.send(settings_for(server), GET)
        headers = server.requests[0].headers
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["user-agent"] == f"airflow-provider-posthog/{airflow_provider_posthog.__version__}"
        assert headers["accept"] == "application/json"
        assert "content-type" not in headers
        assert server.requests[0].body == b""

    def test_query_string_and_path_prefix(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(ok({"results": []}))
        sender.send(settings_for(server, path_prefix="environments"), LIST)
        assert server.requests[0].path == "/api/environments/7/exports/?export_format=text%2Fcsv&limit=5"

    def test_absolute_path_needs_no_project(self, sender: Sender, server: ScriptedServer) -> None:
        sender.send(settings_for(server, project_id=None), projects.me())
        assert server.requests[0].path == "/api/users/@me/"

    def test_relative_path_without_project_is_refused(self, sender: Sender, server: ScriptedServer) -> None:
        found = fails(sender, server, project_id=None)
        assert isinstance(found, PostHogSettingsError)
        assert found.field == "project_id"
        assert server.attempts == 0

    def test_json_body(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(ok(EXPORT, 201))
        text = "zürich 'quoted' \"twice\" 🦔 \ud800"  # a lone surrogate, as a cut-off emoji leaves it
        sender.send(settings_for(server), exports.create(export_format="text/csv", export_context={"note": text}))
        sent = server.requests[0]
        assert sent.method == "POST"
        assert sent.headers["content-type"] == "application/json"
        assert sent.json == {"export_format": "text/csv", "export_context": {"note": text}}

    def test_empty_answer_where_none_is_needed(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(Reply(204))
        assert sender.send(settings_for(server), queries.cancel("abc")) is None
        assert server.requests[0].method == "DELETE"

    def test_bytes(self, sender: Sender, server: ScriptedServer) -> None:
        body = bytes(range(256)) * 1000
        server.script(Reply(200, {"Content-Type": "text/csv"}, body))
        assert sender.send(settings_for(server), exports.content(42)) == body

    def test_one_connection_serves_several_calls(self, sender: Sender, server: ScriptedServer) -> None:
        sender.send(settings_for(server), GET, GET, GET)
        assert (server.connections, len(server.requests)) == (1, 3)

    def test_without_a_key_no_credentials_are_sent(self, sender: Sender, server: ScriptedServer) -> None:
        sender.send(settings_for(server, api_key=""), GET)
        assert "authorization" not in server.requests[0].headers

    @pytest.mark.parametrize("status", [400, 500])
    def test_failed_query_is_a_value(self, sender: Sender, server: ScriptedServer, status: int) -> None:
        body = {"id": "abc", "error": True, "complete": True, "error_message": "Unknown table"}
        server.script(ok({"query_status": body}, status))
        assert sender.send(settings_for(server), STATUS) == body
        assert server.attempts == 1

    def test_other_error_of_a_query_is_an_error(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(error(404, "Query abc not found for team 7"))
        assert isinstance(fails(sender, server, STATUS), PostHogNotFoundError)


class TestErrors:
    @pytest.mark.parametrize(("status", "kind"), ERRORS)
    def test_class_and_text(
        self, sender: Sender, server: ScriptedServer, status: int, kind: type[PostHogAPIError]
    ) -> None:
        server.script(
            ok(
                {"type": "t", "code": "some_code", "detail": "PostHog's sentence.", "attr": "a_field"},
                status,
                X_Request_Id="req-1",
            )
        )
        found = fails(sender, server, LIST, policy=RetryPolicy(max_attempts=1, max_rate_limit_wait=0))
        assert type(found) is kind
        assert isinstance(found, PostHogAPIError)
        assert (found.status, found.method, found.path) == (status, "GET", "/api/projects/7/exports/")
        assert (found.code, found.detail, found.attr) == ("some_code", "PostHog's sentence.", "a_field")
        assert found.request_id == "req-1"
        for part in ("GET /api/projects/7/exports/ ", str(status), "some_code", "PostHog's sentence.", "req-1"):
            assert part in str(found)
        assert "limit=" not in str(found)
        assert "text%2Fcsv" not in str(found)

    @pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 409, 501, 505, 512, 513])
    def test_final_statuses_are_sent_once(self, sender: Sender, server: ScriptedServer, status: int) -> None:
        server.script(error(status))
        fails(sender, server)
        assert server.attempts == 1

    @pytest.mark.parametrize("call", [LIST, QUERY, CREATE], ids=lambda call: call.name)
    @pytest.mark.parametrize("place", ["detail", "error", "code", "attr", "request id", "html"])
    def test_no_secret_reaches_the_message(
        self, sender: Sender, server: ScriptedServer, call: Call[Any], place: str
    ) -> None:
        secret = f"bad key {KEY}, header Bearer {KEY}, %22{KEY}%22 of Jane.Doe+x@example.com"
        if place == "html":
            server.script(html(400, f"<p>{secret}</p>"))
        elif place == "request id":
            server.script(ok({}, 400, X_Request_Id=secret))
        else:
            server.script(ok({place: secret}, 400))
        fails(sender, server, call)

    def test_no_person_in_the_path_of_a_message(self, sender: Sender, server: ScriptedServer) -> None:
        for reply in (error(404), cut("after"), html(200)):
            server.script(reply)
            found = fails(sender, server, simple("persons/jane@example.com/", query={"search": "joe@example.com"}))
            assert "GET /api/projects/7/persons/" in str(found)

    def test_permission_error_names_the_scope(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(error(403, "API key missing required scope 'export:write'", code="permission_denied"))
        found = fails(sender, server, CREATE)
        assert isinstance(found, PostHogPermissionError)
        assert found.scope == "export:write"
        assert "Add the scope export:write" in str(found)

    @pytest.mark.parametrize("status", [405, 400, 403])
    def test_empty_body(self, sender: Sender, server: ScriptedServer, status: int) -> None:
        server.script(Reply(status))
        found = fails(sender, server)
        assert isinstance(found, PostHogAPIError)
        assert (found.status, found.code, found.detail) == (status, None, None)

    def test_html_instead_of_json(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(html(200))
        found = fails(sender, server)
        assert isinstance(found, PostHogTransportError)
        assert "GET /api/projects/7/exports/42/" in str(found)
        assert "text/html" in str(found)
        assert "<" not in str(found)

    def test_huge_error(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(error(400, "x" * 5_000_000))
        began = time.monotonic()
        found = fails(sender, server)
        assert isinstance(found, PostHogValidationError)
        assert len(str(found)) < 1500
        assert time.monotonic() - began < 10


class TestRepeats:
    @pytest.mark.parametrize("call", [GET, QUERY], ids=lambda call: call.name)
    @pytest.mark.parametrize("bad", BAD_ONCE)
    def test_repeatable_calls_are_sent_again(
        self, sender: Sender, server: ScriptedServer, call: Call[Any], bad: str
    ) -> None:
        server.script(BAD_ONCE[bad], BAD_ONCE[bad], ok({"id": 42}))
        timeout = 0.15 if bad == "timed out" else 5.0
        assert sender.send(settings_for(server, read_timeout=timeout), call) == {"id": 42}
        assert server.attempts == 3

    @pytest.mark.parametrize("bad", BAD_ONCE)
    def test_patience_ends(self, sender: Sender, server: ScriptedServer, bad: str) -> None:
        server.script(BAD_ONCE[bad])
        found = fails(sender, server, read_timeout=0.1 if bad == "timed out" else 5.0)
        assert server.attempts == QUICK.max_attempts
        assert "GET /api/projects/7/exports/42/" in str(found)
        if not isinstance(found, PostHogAPIError):
            assert isinstance(found, PostHogTransportError)
            assert found.sent
            assert "(4 attempts)" in str(found)

    @pytest.mark.parametrize("bad", UNKNOWN)
    def test_creating_is_never_repeated_when_its_outcome_is_unknown(
        self, sender: Sender, server: ScriptedServer, bad: str
    ) -> None:
        server.script(BAD_ONCE[bad], ok(EXPORT, 201))
        found = fails(sender, server, CREATE, read_timeout=0.15 if bad == "timed out" else 5.0)
        assert server.attempts == 1
        if isinstance(found, PostHogTransportError):
            assert found.sent

    @pytest.mark.parametrize("status", [504, 524])
    def test_what_takes_too_long_is_repeated_unless_posthog_calculates(
        self, sender: Sender, server: ScriptedServer, status: int
    ) -> None:
        server.script(error(status), ok(EXPORT))
        assert sender.send(settings_for(server), GET) == EXPORT
        for call in (QUERY, CREATE, insights.retrieve(7, refresh="force_blocking")):
            server.script(error(status), ok(EXPORT))
            assert isinstance(fails(sender, server, call), PostHogServerError)
            assert server.attempts == 1

    def test_creating_is_repeated_when_the_connection_was_refused(
        self, sender: Sender, make_server: MakeServer
    ) -> None:
        server = make_server(ok(EXPORT, 201), listen=False)
        with on_announcement(server.start):
            value = sender.send(settings_for(server), CREATE, policy=RetryPolicy(max_attempts=9, base=0.1))
        assert value == EXPORT
        assert server.attempts == 1

    def test_refused_for_ever(self, sender: Sender, make_server: MakeServer) -> None:
        server = make_server(listen=False)
        for call in (GET, CREATE):
            found = fails(sender, server, call)
            assert isinstance(found, PostHogTransportError)
            assert not found.sent
            assert "(4 attempts)" in str(found)

    def test_creating_is_repeated_when_no_connection_was_made_in_time(
        self, sender: Sender, full_server: ScriptedServer
    ) -> None:
        seen: list[str] = []
        with on_announcement(lambda: seen.append("again")):
            found = fails(sender, full_server, CREATE, connect_timeout=0.1)
        assert isinstance(found, PostHogTransportError)
        assert not found.sent
        assert len(seen) == QUICK.max_attempts - 1

    def test_unknown_host_is_not_sent(self, sender: Sender, server: ScriptedServer) -> None:
        found = fails(sender, server, CREATE, base_url="http://no-such-host.invalid")
        assert isinstance(found, PostHogTransportError)
        assert not found.sent

    def test_connection_closed_between_calls(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(Reply(200, body=b"{}", hang_up=True), ok(EXPORT, 201))
        closed = lambda: wait_for(lambda: server.attempts > 1 or server.open_connections == 0)  # noqa: E731
        assert sender.send(settings_for(server), GET, CREATE, between=closed) == EXPORT
        assert [r.method for r in server.requests] == ["GET", "POST"]
        assert server.connections == 2


class TestRateLimits:
    def test_creating_is_repeated_after_a_429(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(error(429, Retry_After="1"), ok(EXPORT, 201))
        began = time.monotonic()
        assert sender.send(settings_for(server, max_rate_limit_wait=5), CREATE, policy=None) == EXPORT
        assert time.monotonic() - began >= 1.0
        assert server.attempts == 2

    def test_a_429_without_a_hint_is_not_hammered(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(error(429, Retry_After="0"), ok(EXPORT))
        began = time.monotonic()
        sender.send(settings_for(server, max_rate_limit_wait=5), GET, policy=None)
        assert time.monotonic() - began >= 1.0

    @pytest.mark.parametrize(
        ("hint", "least", "most"),
        [
            ("seconds", 120, 120),
            ("date", 110, 121),
            ("detail", 37, 37),
            ("nothing", None, None),
            ("nonsense, and detail", 37, 37),
        ],
    )
    def test_a_wait_that_is_too_long_raises_at_once(
        self, sender: Sender, server: ScriptedServer, hint: str, least: float | None, most: float | None
    ) -> None:
        date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=120), usegmt=True)
        headers = {"seconds": "120", "date": date, "nonsense, and detail": "soon"}
        detail = "Request was throttled. Expected available in 37 seconds." if "detail" in hint else "Too many."
        server.script(error(429, detail, **({"Retry_After": headers[hint]} if hint in headers else {})))
        began = time.monotonic()
        found = fails(sender, server, max_rate_limit_wait=0.5 if hint == "nothing" else 30.0, policy=None)
        assert time.monotonic() - began < 5
        assert server.attempts == 1
        assert isinstance(found, PostHogRateLimitError)
        if least is None or most is None:
            assert found.retry_after is None
        else:
            assert found.retry_after is not None
            assert least <= found.retry_after <= most


class TestRedirects:
    @pytest.mark.parametrize("call", [GET, CREATE], ids=lambda call: call.name)
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_redirect_is_never_followed(
        self, sender: Sender, make_server: MakeServer, call: Call[Any], status: int
    ) -> None:
        other = make_server(ok(EXPORT))
        server = make_server(Reply(status, {"Location": f"{other.url}/login?next=/secret#x"}))
        found = fails(sender, server, call)
        assert isinstance(found, PostHogSettingsError)
        assert found.field == "host"
        assert f"{other.url}/login" in str(found)
        assert "secret" not in str(found)
        assert (server.attempts, other.connections) == (1, 0)

    @pytest.mark.parametrize(
        "location",
        [
            f"https://user:{KEY}@127.0.0.1/",
            f"/api/{KEY}/",
            "https://jane@example.com/x",
            "//[",
            "http://[::1",
            "\xff\xfe",
        ],
    )
    def test_odd_target(self, sender: Sender, server: ScriptedServer, location: str) -> None:
        server.script(Reply(302, {"Location": location}))
        fails(sender, server)

    def test_redirect_to_nowhere(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(Reply(304))
        assert isinstance(fails(sender, server), PostHogSettingsError)


class TestWhereTheKeyGoes:
    def test_netrc_does_not_replace_the_key(
        self, sender: Sender, server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login jane password other\ndefault login jane password other\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        for key, expected in ((KEY, f"Bearer {KEY}"), ("", None)):
            server.script(ok({}))
            sender.send(settings_for(server, api_key=key), GET)
            assert server.requests[0].headers.get("authorization") == expected

    def test_cookies_are_not_kept(self, sender: Sender, server: ScriptedServer) -> None:
        server.script(ok({}, Set_Cookie="sessionid=\x87abc; Path=/"), ok({}))
        sender.send(settings_for(server), GET, GET)
        assert "cookie" not in server.requests[1].headers

    def test_the_logs_hold_no_key(
        self, sender: Sender, server: ScriptedServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.script(error(503, f"no {KEY}"), cut("after"), ok({}))
        with caplog.at_level(logging.DEBUG):
            sender.send(settings_for(server), GET)
        assert "next attempt in" in caplog.text
        assert KEY not in caplog.text

    def test_proxy_is_used(self, sender: Sender, make_server: MakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        dead = make_server(listen=False)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, dead.url)
        proxy = make_server(ok(EXPORT))
        settings = settings_for(proxy, base_url="http://posthog.invalid", proxy=proxy.url)
        assert sender.send(settings, GET) == EXPORT
        assert proxy.requests[0].path == "http://posthog.invalid/api/projects/7/exports/42/"

    def test_proxy_of_the_environment_is_used(
        self, sender: Sender, make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = make_server(ok(EXPORT))
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert sender.send(settings_for(proxy, base_url="http://posthog.invalid"), GET) == EXPORT
        assert len(proxy.requests) == 1

    def test_dead_proxy(self, sender: Sender, make_server: MakeServer) -> None:
        dead = make_server(listen=False)
        proxy = f"http://joe:pass-word@127.0.0.1:{dead.port}"
        found = fails(sender, dead, CREATE, base_url="http://posthog.invalid", proxy=proxy)
        assert isinstance(found, PostHogTransportError)
        assert not found.sent
        assert "pass-word" not in str(found)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
class TestTLS:
    def test_our_own_ca(self, sender: Sender, make_server: MakeServer, certificates: Certificates) -> None:
        server = make_server(ok(EXPORT), tls=certificates.context)
        assert sender.send(settings_for(server, verify=certificates.ca_file), GET) == EXPORT

    def test_unknown_ca_is_refused_once(
        self, sender: Sender, make_server: MakeServer, certificates: Certificates
    ) -> None:
        server = make_server(ok(EXPORT), tls=certificates.context)
        seen: list[str] = []
        with on_announcement(lambda: seen.append("again")):
            found = fails(sender, server, verify=True)
        assert isinstance(found, PostHogTransportError)
        assert not found.sent
        assert "verify" in str(found)
        assert (server.attempts, seen) == (0, [])

    def test_unchecked(self, sender: Sender, make_server: MakeServer, certificates: Certificates) -> None:
        server = make_server(ok(EXPORT), tls=certificates.context)
        assert sender.send(settings_for(server, verify=False), GET) == EXPORT

    def test_environment_does_not_override_verify(
        self, sender: Sender, make_server: MakeServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import certifi

        server = make_server(ok(EXPORT), tls=certificates.context)
        for bundle, verify in ((certifi.where(), certificates.ca_file), (certifi.where(), False)):
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
            assert sender.send(settings_for(server, verify=verify), GET) == EXPORT
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", certificates.ca_file)
        fails(sender, server, verify=certifi.where())

    @pytest.mark.parametrize("content", [None, "not a certificate"])
    def test_bad_ca_file(
        self, sender: Sender, make_server: MakeServer, certificates: Certificates, tmp_path: Path, content: str | None
    ) -> None:
        server = make_server(ok(EXPORT), tls=certificates.context)
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        found = fails(sender, server, verify=str(path))
        assert isinstance(found, PostHogSettingsError)
        assert found.field == "verify"
        assert str(path) in str(found)

    def test_plain_server_is_no_tls_server(self, sender: Sender, server: ScriptedServer) -> None:
        found = fails(sender, server, CREATE, base_url=f"https://127.0.0.1:{server.port}")
        assert isinstance(found, PostHogTransportError)

    @pytest.mark.parametrize("where", ["after", "headers", "body", "chunk", "garbage"])
    def test_cut_after_the_request_may_have_done_the_work(
        self, sender: Sender, make_server: MakeServer, certificates: Certificates, where: Cut
    ) -> None:
        server = make_server(cut(where), tls=certificates.context)
        found = fails(sender, server, CREATE)
        assert isinstance(found, PostHogTransportError)
        assert found.sent
        assert server.attempts == 1


class TestQueriesAtOnce:
    def test_the_fourth_waits(self, sender: Sender, server: ScriptedServer) -> None:
        gates = [threading.Event() for _ in range(3)]
        server.script(*(Reply(body=b"{}", gate=gate) for gate in gates), ok({}))
        with in_thread(lambda: sender.send_together(settings_for(server), [QUERY] * 4)) as values:
            wait_for(lambda: server.busy == 3, what="three queries at once")
            gates[0].set()
            wait_for(lambda: len(server.requests) == 4, what="the fourth query")
            for gate in gates:
                gate.set()
        assert values == [[{}] * 4]
        assert server.busiest == 3

    def test_a_failed_query_frees_its_place(self, sender: Sender, server: ScriptedServer) -> None:
        settings = settings_for(server, max_in_flight=1)
        server.script(cut("after"), error(500), error(400))
        fails(sender, server, QUERY, max_in_flight=1)
        server.script(ok({}))
        assert sender.send(settings, QUERY) == {}

    def test_other_calls_do_not_wait(self, sender: Sender, server: ScriptedServer) -> None:
        gate = threading.Event()
        server.script(Reply(body=b"{}", gate=gate))
        with in_thread(lambda: sender.send_together(settings_for(server), [GET] * 5)) as values:
            wait_for(lambda: server.busy == 5, what="five calls at once")
            gate.set()
        assert values == [[{}] * 5]


def test_one_asynchronous_client_makes_one_pool(server: ScriptedServer) -> None:
    """Triggers of one client that start together must not each make a client that nobody closes."""
    import asyncio

    from airflow_provider_posthog.api.async_clients import AsyncClient

    async def run() -> None:
        async with AsyncClient(settings_for(server)) as client:
            await asyncio.gather(*(client.send(GET) for _ in range(5)))
        await asyncio.to_thread(wait_for, lambda: server.open_connections == 0, what="all connections closed")

    asyncio.run(run())
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), datetime(2026, 1, 1), object(), {1, 2}],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_refused_before_it_is_sent(sender: Sender, server: ScriptedServer, value: object) -> None:
    found = fails(sender, server, queries.start(queries.hogql("SELECT {x}", {"x": value})))
    assert isinstance(found, PostHogSettingsError)
    assert server.attempts == 0


def test_closing_twice_and_using_again(server: ScriptedServer) -> None:
    from airflow_provider_posthog.api.clients import Client

    client = Client(settings_for(server))
    client.close()
    assert client.send(GET) == {}
    client.close()
    client.close()
    assert client.send(GET) == {}
    client.close()


def test_unusual_json_values_arrive_unchanged(sender: Sender, server: ScriptedServer) -> None:
    values = {"text": "a'b\\c\n", "list": [1, 2.5, None, True], "deep": {"ü": ["🦔"]}, "big": 2**70}
    call = Call("test.post", "POST", "query/", json_object, json={"values": values})
    sender.send(settings_for(server), call)
    assert json.loads(server.requests[0].body) == {"values": values}


@pytest.fixture
def full_server(make_server: MakeServer) -> Iterator[ScriptedServer]:
    """A server whose backlog is full, so that the system answers no further connection."""
    import socket

    server = make_server(listen=False)
    server._socket.listen(0)
    waiting = [socket.socket() for _ in range(3)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", server.port))
    yield server
    for one in waiting:
        one.close()


@contextmanager
def on_announcement(act: Callable[[], object]) -> Iterator[None]:
    """Call ``act`` whenever a client says that it is going to send a call again."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert "next attempt in" in record.getMessage()
            act()

    logger = logging.getLogger("airflow_provider_posthog.api.clients")
    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


@contextmanager
def in_thread(work: Callable[[], Any]) -> Iterator[list[Any]]:
    """Run work beside the test; the list holds its value after the block."""
    values: list[Any] = []
    thread = threading.Thread(target=lambda: values.append(work()), daemon=True)
    thread.start()
    yield values
    thread.join(20)


def test_a_redirect_whose_broken_body_is_cut_is_no_answer(server: ScriptedServer) -> None:
    """requests reads it although it does not follow, and lets an error of urllib3's out."""
    headers = {"Location": "/elsewhere", "Content-Encoding": "gzip"}
    server.script(Reply(301, headers, b"\0\0", cut="body"))
    from airflow_provider_posthog.api.clients import Client

    with Client(settings_for(server)) as client, pytest.raises(PostHogTransportError):
        client.send(exports.retrieve(42), policy=RetryPolicy(max_attempts=1))
