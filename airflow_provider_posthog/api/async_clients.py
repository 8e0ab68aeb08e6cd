"""The triggerer's client (httpx), the twin of :class:`~airflow_provider_posthog.api.clients.Client`."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import replace
from functools import lru_cache
from http.cookiejar import CookieJar
from typing import Any, TypeVar

import httpx  # noqa: TID253 - this module is imported in the triggerer

from airflow_provider_posthog.api.body import Body, Pace, TooLargeError, TooSlowError, UndecodableError
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.clients import (
    UNDECODABLE,
    announce,
    ca_context,
    headers_of,
    no_cookies,
    policy_of,
    too_large,
)
from airflow_provider_posthog.api.exchange import Done, Exchange
from airflow_provider_posthog.api.in_flight import in_flight_to
from airflow_provider_posthog.api.keys import REFUSED, cannot_be_read, is_another
from airflow_provider_posthog.api.pages import Pages
from airflow_provider_posthog.api.redaction import log_no_requests_to
from airflow_provider_posthog.api.retry import NoAnswer, RetryPolicy
from airflow_provider_posthog.api.settings import ClientSettings, Role
from airflow_provider_posthog.api.wire import NO_HANDSHAKE
from airflow_provider_posthog.api.within import within
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogSettingsError

T = TypeVar("T")

_async_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ClientSettings, _Shared]] = (
    weakref.WeakKeyDictionary()
)
#: Connections of all triggers on an event loop to one project together: at 200 ms a call ten times what PostHog lets
#: through, and few enough for httpx, which looks at each of them for every call.
_ASYNC_CONNECTIONS = 16
#: Bytes of an answer at the most, whatever the call allows: they are in the memory of all triggers.
_MOST_BYTES = 64 * 1024 * 1024


def _timeout(settings: ClientSettings, read: float | None = None) -> httpx.Timeout:
    return httpx.Timeout(max(settings.read_timeout, read or 0.0), connect=settings.connect_timeout)


def _most(call: Call[Any]) -> int:
    return min(call.max_bytes or _MOST_BYTES, _MOST_BYTES)


class _Shared:
    """What all asynchronous clients with the same settings use together on one event loop.

    A triggerer holds thousands of triggers: a TLS context and a pool of connections for each would be most of its
    memory, and a pool with a long queue slows down with the square of it.

    :param settings: where the project is, and with which key to reach it.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.users = 0
        self.gate = asyncio.Semaphore(_ASYNC_CONNECTIONS)
        self._settings = settings
        self._making = asyncio.Lock()
        self._http: httpx.AsyncClient | None = None

    async def http(self) -> httpx.AsyncClient:
        """Return the httpx client, made on first use."""
        async with self._making:
            if self._http is None:
                settings = self._settings
                log_no_requests_to(settings.base_url)
                key = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
                self._http = httpx.AsyncClient(
                    headers=headers_of(settings) | key,
                    limits=httpx.Limits(max_connections=_ASYNC_CONNECTIONS),
                    # Reading the CA file takes tens of milliseconds, in which no other trigger would run.
                    verify=await asyncio.to_thread(tls_context, settings.verify),
                    proxy=settings.proxy,
                    follow_redirects=False,
                    cookies=CookieJar(no_cookies()),
                )
            return self._http

    async def leave(self) -> None:
        """Stop using the client; the last user closes the connections."""
        self.users -= 1
        if self.users > 0:
            return
        of_loop = _async_shared.get(asyncio.get_running_loop(), {})
        if of_loop.get(self._settings) is self:
            del of_loop[self._settings]
        if self._http is not None:
            await self._http.aclose()

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[_Shared]:
        """Keep the connections open: a call may wait for one of them while its client goes on with another key."""
        self.users += 1
        try:
            yield self
        finally:
            await self.leave()


class _Going:
    """The state of one request on its way."""

    def __init__(self) -> None:
        self.sent = False

    async def trace(self, event: str, info: dict[str, Any]) -> None:
        """Take an event of httpcore; a proxy's CONNECT is a request too, and does not count."""
        if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            self.sent = True


class AsyncClient:
    """An asynchronous client of one PostHog project, for triggers. Close it, or use it in an ``async with``.

    :param settings: where the project is, and with which key to reach it.
    :param read_again: reads the settings again. A trigger may wait for days, and keys are replaced: once PostHog
        refuses the key, and another one is there, the client goes on with that.
    :param role: whose share of PostHog's limits it uses up.
    """

    def __init__(
        self,
        settings: ClientSettings,
        read_again: Callable[[], Awaitable[ClientSettings]] | None = None,
        *,
        role: Role = "triggerer",
    ) -> None:
        self.settings = settings
        self.role = role
        self._read_again = read_again
        self._shared: _Shared | None = None
        self._held_until = 0.0
        #: How often the connection's key was replaced while this client was in use.
        self.keys_replaced = 0

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def twin(self) -> AsyncClient:
        """Make another client of the same connection."""
        return AsyncClient(self.settings, self._read_again, role=self.role)

    @property
    def held_back(self) -> float:
        """For how many seconds the rate limits hold back a call of this client now, as far as is known; 0 if none."""
        return max(0.0, self._held_until - time.monotonic())

    async def aclose(self) -> None:
        """Close the connections, if no other client of this event loop uses them."""
        shared, self._shared = self._shared, None
        if shared is not None:
            await shared.leave()

    def _take(self) -> _Shared:
        if self._shared is None:
            of_loop = _async_shared.setdefault(asyncio.get_running_loop(), {})
            self._shared = of_loop.setdefault(self.settings, _Shared(self.settings))
            self._shared.users += 1
        return self._shared

    async def send(self, call: Call[T], *, policy: RetryPolicy | None = None) -> T:
        """Send a call, again where that is safe and may help, and return its value.

        :param call: the call.
        :param policy: how patient to be, in place of the connection's.
        :raises PostHogError: the error of the last attempt.
        """
        settings = self.settings
        try:
            return await self._send(call, policy)
        except REFUSED as error:
            if not await self._has_new_key(settings, error):
                raise
        return await self._send(call, policy)

    async def _send(self, call: Call[T], policy: RetryPolicy | None) -> T:
        policy = policy or policy_of(self.settings)
        with closing(Exchange(call, self.settings, policy, role=self.role)) as exchange:
            while True:
                while pause := exchange.pause():
                    self._held_until = time.monotonic() + exchange.held
                    await asyncio.sleep(pause)
                self._held_until = 0.0
                step = exchange.receive(await self._attempt(exchange))
                if isinstance(step, Done):
                    return step.value
                announce(call, step)
                await asyncio.sleep(step.seconds)

    async def _has_new_key(self, refused: ClientSettings, error: PostHogAPIError) -> bool:
        """Read the connection again, and continue with its key if that has changed."""
        if self.settings is not refused:  # another call of this client has already replaced the key
            return True
        if self._read_again is None:
            return False
        try:
            replaced = await self._read_again()
        except Exception as failure:
            cannot_be_read(failure)
            return False
        if self.settings is not refused:
            return True
        if not is_another(replaced, refused, error):
            return False
        await self.aclose()  # what still goes there with the old key would be refused as well
        self.settings = replaced
        self.keys_replaced += 1
        return True

    async def pages(self, call: Call[Any], *, max_items: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a list, page by page, each once.

        :param call: the call of the first page; its ``limit`` is that of each page.
        :param max_items: the most items to yield.
        :raises PostHogError: if a page cannot be fetched, or the list does not end.
        """
        pages = Pages(call, self.settings, max_items)
        while pages.next is not None:
            for item in pages.receive(await self.send(pages.next)):
                yield item

    async def _attempt(self, exchange: Exchange[Any]) -> Answer | NoAnswer:
        async with self._take().in_use() as shared:
            return await self._attempt_with(shared, exchange)

    async def _attempt_with(self, shared: _Shared, exchange: Exchange[Any]) -> Answer | NoAnswer:
        call = exchange.call
        try:
            client = await shared.http()
        except PostHogSettingsError:
            raise
        except (ImportError, ValueError, httpx.InvalidURL) as error:  # httpx cannot use the proxy
            why = f"the request cannot be sent ({type(error).__name__}): see the connection's proxy"
            return NoAnswer(why, sent=False, lasting=True)
        going = _Going()
        try:
            request = client.build_request(
                call.method,
                exchange.url,
                content=exchange.body,
                headers=exchange.headers,
                timeout=_timeout(self.settings, call.read_timeout),
                extensions={"trace": going.trace},
            )
            async with self._slot(call), shared.gate:
                return await self._answer(client, request, call)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, asyncio.TimeoutError) as error:
            return no_answer_async(error, sent=going.sent)  # TLS errors while reading come as they are
        except TooLargeError:
            return too_large(_most(call))
        except UndecodableError:
            return UNDECODABLE
        except Exception as error:
            if not type(error).__module__.startswith(_BELOW_HTTPX):
                raise
            return no_answer_async(error, sent=going.sent)

    async def _answer(self, client: httpx.AsyncClient, request: httpx.Request, call: Call[Any]) -> Answer:
        """Send a request and read its answer, up to the size that the call allows."""
        seconds = max(self.settings.read_timeout, call.read_timeout or 0.0)
        # To the first byte, and as long again for all headers: httpx only limits each read of them.
        response = await within(client.send(request, stream=True), self.settings.connect_timeout + 2 * seconds)
        try:
            body = Body(response.headers.get("content-encoding", ""), _most(call))
            pace, before = Pace(seconds), time.monotonic()
            async for raw in response.aiter_raw():
                pace.came(len(raw), time.monotonic() - before)
                for _ in body.feed(raw):
                    await asyncio.sleep(0)  # a body that unpacks to many bytes must not block the other triggers
                before = time.monotonic()
            return Answer(response.status_code, dict(response.headers), body.value())
        finally:
            await response.aclose()

    def _slot(self, call: Call[Any]) -> AbstractAsyncContextManager[None]:
        if call.bucket != "query":
            return nullcontext()
        return in_flight_to(self.settings).slot_async(self.settings.max_in_flight)


def tls_context(verify: bool | str) -> ssl.SSLContext | bool:
    """Make what httpx takes as ``verify``.

    :param verify: ``True``, ``False`` or the path of a CA file, or of a folder of them.
    :raises PostHogSettingsError: if there is no such file, or no certificate in it.
    """
    if isinstance(verify, str):
        return ca_context(verify)
    if not verify:
        return False
    # requests reads these and httpx does not; a triggerer must not refuse the server that a worker trusts.
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if named:
        return ca_context(named)
    # httpx reads these, each time anew.
    named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    return ca_context(named) if named and os.path.exists(named) else _own_context()


@lru_cache(maxsize=1)
def _own_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


#: Packages whose errors httpx may let through, such as those of a SOCKS proxy that answers nonsense.
_BELOW_HTTPX = ("socksio", "httpcore", "h11", "anyio")
_BROKEN = re.compile(r"(?i)disconnected|closed connection|connection closed|EOF")


def no_answer_async(error: Exception, *, sent: bool | None = None) -> NoAnswer:
    """Return what happened, and whether the server may have received the request.

    :param error: of httpx, of what is below it, or of TLS.
    :param sent: whether the request went out, if known; otherwise it follows from the kind of error.
    """
    reason = _of_kind(error)
    if sent is None or sent == reason.sent:
        return reason
    if sent:
        return replace(reason, sent=True)
    return replace(reason, sent=False, reason=_BEFORE.get(reason.reason, reason.reason))


#: How resolvers report an unknown host.
_NO_SUCH_HOST = re.compile(r"(?i)name or service not known|nodename nor servname|name resolution|no address associated")
_SLOW = "no answer in time"
_CUT = "the connection was cut before the whole answer arrived"
#: The wording for the same errors when they come before the request was sent.
_BEFORE = {_SLOW: "no connection in time", _CUT: "the connection was closed before the request could be sent"}


def _of_connecting(text: str) -> NoAnswer:
    if NO_HANDSHAKE.search(text):
        return NoAnswer("no trusted TLS connection: see the connection's verify", sent=False, lasting=True)
    if "WRONG_VERSION_NUMBER" in text:
        return NoAnswer(
            "what answered does not speak TLS (begin the host with http:// if it has none)", sent=False, lasting=True
        )
    if _NO_SUCH_HOST.search(text):
        return NoAnswer("no connection (DNS knows no such host)", sent=False)
    return NoAnswer("no connection (refused, or too slow)", sent=False)


def _of_kind(error: BaseException) -> NoAnswer:
    text = str(error)
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        return _of_connecting(text)
    if isinstance(error, httpx.ProxyError):
        refused = re.match(r"\d{3}\b", text)
        status = f" (status {refused[0]})" if refused else ""
        lasting = bool(refused and refused[0] in ("401", "403", "407"))
        return NoAnswer(
            f"the proxy refuses to connect{status}: see the connection's proxy", sent=False, lasting=lasting
        )
    if isinstance(error, TooSlowError):
        return NoAnswer(f"the answer arrives too slowly: {error}", sent=True)
    if isinstance(error, (httpx.TimeoutException, asyncio.TimeoutError, TimeoutError)):
        return NoAnswer(_SLOW, sent=True)
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError)):
        return NoAnswer("the request cannot be sent: see the connection's host", sent=False, lasting=True)
    if isinstance(error, httpx.DecodingError):
        return UNDECODABLE
    if isinstance(error, httpx.RemoteProtocolError) and not _BROKEN.search(text):
        what = "redirects to an address that cannot be read" if "location" in text else "is not valid HTTP"
        return NoAnswer(f"what came as an answer {what}", sent=True)
    return NoAnswer(_CUT, sent=True)
