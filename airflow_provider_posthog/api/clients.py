"""The two clients: :class:`Client` (requests) for workers, :class:`AsyncClient` (httpx) for the triggerer.

The only socket code of the package. What to send, when to repeat it and what an answer means is in
:mod:`~airflow_provider_posthog.api.exchange` and :mod:`~airflow_provider_posthog.api.retry`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar

import httpx  # noqa: TID253 - this module is imported when a task runs
import requests  # noqa: TID253
import urllib3

from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.discretion import log_no_requests_to
from airflow_provider_posthog.api.exchange import USER_AGENT, Done, Exchange
from airflow_provider_posthog.api.in_flight import in_flight_to
from airflow_provider_posthog.api.pages import Pages
from airflow_provider_posthog.api.retry import NoAnswer, RetryPolicy, Wait
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogSettingsError

T = TypeVar("T")
log = logging.getLogger(__name__)

# TLS failures of the handshake; any other may come after the request was sent.
_NO_HANDSHAKE = re.compile(r"(?i)certificate|hostname|unsupported_protocol|protocol_version|handshake_fail")

_async_shared: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[ClientSettings, _Shared]] = (
    weakref.WeakKeyDictionary()
)
#: Connections of all triggers on an event loop to one project together: at 200 ms a call ten times what PostHog lets
#: through, and few enough for httpx, which looks at each of them for every call.
_ASYNC_CONNECTIONS = 16


def _policy(settings: ClientSettings) -> RetryPolicy:
    return RetryPolicy(max_rate_limit_wait=settings.max_rate_limit_wait)


def _headers(settings: ClientSettings) -> dict[str, str]:
    return {"User-Agent": USER_AGENT, "Accept": "application/json"}


def _no_cookies() -> DefaultCookiePolicy:
    # The key is all the API wants; httpx can not even send back a cookie that is not ASCII.
    return DefaultCookiePolicy(allowed_domains=[])


def _timeout(settings: ClientSettings, read: float | None = None) -> httpx.Timeout:
    return httpx.Timeout(max(settings.read_timeout, read or 0.0), connect=settings.connect_timeout)


def _announce(call: Call[Any], step: Wait) -> None:
    log.info("PostHog %s: %s; next attempt in %.1f s", call.name, step.reason, step.seconds)


class BearerAuth(requests.auth.AuthBase):
    """Sends the key, and keeps requests from taking other credentials out of a ``.netrc`` file.

    :param key: the key; empty sends no credentials at all.
    """

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to a request."""
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Client:
    """A blocking client of one PostHog project. Close it, or use it in a ``with``.

    :param settings: where the project is, and with which key to reach it.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._session: requests.Session | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def session(self) -> requests.Session:
        """The requests session, made on first use; it carries no credentials of its own."""
        if self._session is None:
            session = requests.Session()
            session.auth = BearerAuth("")
            session.headers.update(_headers(self.settings))
            session.cookies.set_policy(_no_cookies())
            if isinstance(self.settings.verify, str):
                tls_context(self.settings.verify)  # else a missing CA file is a bare OSError
            self._session = session
        return self._session

    def send(self, call: Call[T], *, policy: RetryPolicy | None = None) -> T:
        """Send a call, again where that is safe and may help, and return its value.

        :param call: the call.
        :param policy: how patient to be, in place of the connection's.
        :raises PostHogError: the error of the last attempt.
        """
        exchange = Exchange(call, self.settings, policy or _policy(self.settings))
        while True:
            while pause := exchange.pause():
                time.sleep(pause)
            step = exchange.receive(self._attempt(exchange))
            if isinstance(step, Done):
                return step.value
            _announce(call, step)
            time.sleep(step.seconds)

    def pages(self, call: Call[Any], *, max_items: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page, each once.

        :param call: the call of the first page; its ``limit`` is that of each page.
        :param max_items: how many items at the most.
        :raises PostHogError: if a page can not be had, or the list does not end.
        """
        pages = Pages(call, self.settings, max_items)
        while pages.next is not None:
            yield from pages.receive(self.send(pages.next))

    def open(
        self,
        method: str,
        url: str,
        *,
        authorized: bool,
        read_timeout: float | None = None,
        **options: Any,  # noqa: ANN401
    ) -> requests.Response:
        """Send one request and return the response with its body unread; redirects are not followed.

        :param method: the HTTP method.
        :param url: the whole address.
        :param authorized: whether to send the key.
        :param read_timeout: seconds to wait for the answer, where that is more than the connection's.
        :param options: of :meth:`requests.Session.request`.
        :raises requests.RequestException: if no answer arrives.
        """
        settings = self.settings
        session = self.session
        # Given with each request: the environment's proxies and REQUESTS_CA_BUNDLE win over the session's own values.
        proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else None
        try:
            return session.request(
                method,
                url,
                auth=BearerAuth(settings.api_key if authorized else ""),
                timeout=(settings.connect_timeout, max(settings.read_timeout, read_timeout or 0.0)),
                verify=settings.verify,
                proxies=proxies,
                allow_redirects=False,
                stream=True,
                **options,
            )
        except requests.RequestException:
            raise
        except ValueError as error:  # requests reads a redirect's target even where it does not follow it
            raise requests.exceptions.ContentDecodingError(error) from error

    def _attempt(self, exchange: Exchange[Any]) -> Answer | NoAnswer:
        call = exchange.call
        sent = {"data": exchange.body, "headers": exchange.headers}
        try:
            with (
                self._place(call),
                self.open(
                    call.method, exchange.url, authorized=True, read_timeout=call.read_timeout, **sent
                ) as response,
            ):
                headers = {name.lower(): value for name, value in response.headers.items()}
                # `response.content` would join pieces of 10 KiB.
                return Answer(response.status_code, headers, b"".join(response.iter_content(1 << 20)))
        except requests.RequestException as error:
            return no_answer(error)

    def _place(self, call: Call[Any]) -> AbstractContextManager[None]:
        """Keep within PostHog's limit of queries that run at once in a project."""
        return in_flight_to(self.settings).place(self.settings.max_in_flight) if call.lane == "query" else nullcontext()


def no_answer(error: requests.RequestException) -> NoAnswer:
    """Say of an error of requests whether the server may have received the request.

    :param error: the error.
    """
    name = type(error).__name__
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.exceptions.SSLError):
        if not _NO_HANDSHAKE.search(str(reason or error)):
            return NoAnswer("the TLS connection broke", sent=True)
        return NoAnswer(f"no trusted TLS connection ({name}): see the connection's verify", sent=False, lasting=True)
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return NoAnswer("no connection in time", sent=False)
    if isinstance(error, requests.exceptions.ProxyError):
        return NoAnswer("the proxy can not be used: see the connection's proxy", sent=False)
    if isinstance(error, requests.exceptions.ReadTimeout):
        return NoAnswer("no answer in time", sent=True)
    if isinstance(error, requests.exceptions.ConnectionError):
        if isinstance(reason, urllib3.exceptions.NewConnectionError):
            return NoAnswer("no connection (refused, or no such host)", sent=False)
        return NoAnswer("the connection was cut before the whole answer arrived", sent=True)
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return NoAnswer("the connection was cut in the middle of the answer", sent=True)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return NoAnswer("the answer can not be decoded", sent=True)
    return NoAnswer(f"the request can not be sent ({name}): see the connection's host", sent=False, lasting=True)


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
                    headers=_headers(settings) | key,
                    limits=httpx.Limits(max_connections=_ASYNC_CONNECTIONS),
                    # Reading the CA file takes tens of milliseconds, in which no other trigger would run.
                    verify=await asyncio.to_thread(tls_context, settings.verify),
                    proxy=settings.proxy,
                    follow_redirects=False,
                    cookies=CookieJar(_no_cookies()),
                )
            return self._http

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()


class AsyncClient:
    """An asynchronous client of one PostHog project, for triggers. Close it, or use it in an ``async with``.

    :param settings: where the project is, and with which key to reach it.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.settings = settings
        self._shared: _Shared | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, if no other client of this event loop uses them."""
        shared, self._shared = self._shared, None
        if shared is None:
            return
        shared.users -= 1
        if shared.users == 0:
            _async_shared[asyncio.get_running_loop()].pop(self.settings, None)
            await shared.aclose()

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
        exchange = Exchange(call, self.settings, policy or _policy(self.settings))
        while True:
            while pause := exchange.pause():  # noqa: ASYNC110 - the turn's time, not a poll
                await asyncio.sleep(pause)
            step = exchange.receive(await self._attempt(exchange))
            if isinstance(step, Done):
                return step.value
            _announce(call, step)
            await asyncio.sleep(step.seconds)

    async def pages(self, call: Call[Any], *, max_items: int | None = None) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a list, page by page, each once.

        :param call: the call of the first page; its ``limit`` is that of each page.
        :param max_items: how many items at the most.
        :raises PostHogError: if a page can not be had, or the list does not end.
        """
        pages = Pages(call, self.settings, max_items)
        while pages.next is not None:
            for item in pages.receive(await self.send(pages.next)):
                yield item

    async def _attempt(self, exchange: Exchange[Any]) -> Answer | NoAnswer:
        call = exchange.call
        shared = self._take()
        client = await shared.http()
        try:
            async with self._place(call), shared.gate:
                response = await client.request(
                    call.method,
                    exchange.url,
                    content=exchange.body,
                    headers=exchange.headers,
                    timeout=_timeout(self.settings, call.read_timeout),
                )
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:  # TLS errors while reading come as they are
            return no_answer_async(error)
        return Answer(response.status_code, dict(response.headers), response.content)

    def _place(self, call: Call[Any]) -> AbstractAsyncContextManager[None]:
        if call.lane != "query":
            return nullcontext()
        return in_flight_to(self.settings).place_async(self.settings.max_in_flight)


def tls_context(verify: bool | str) -> ssl.SSLContext | bool:
    """Make what httpx takes as ``verify``.

    :param verify: ``True``, ``False`` or the path of a CA file, or of a folder of them.
    :raises PostHogSettingsError: if there is no such file, or no certificate in it.
    """
    if isinstance(verify, str):
        try:
            folder = os.path.isdir(verify)
            return ssl.create_default_context(cafile=None if folder else verify, capath=verify if folder else None)
        except (OSError, ValueError) as error:
            raise PostHogSettingsError(
                "verify",
                f"the CA file {verify} can not be read ({type(error).__name__}).",
                "Write the path of a PEM file that is on this machine, or true or false.",
            ) from None
    if not verify:
        return False
    # requests reads these and httpx does not; a triggerer must not refuse the server that a worker trusts.
    named = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return tls_context(named) if named else httpx.create_ssl_context()


def no_answer_async(error: httpx.HTTPError | httpx.InvalidURL | OSError) -> NoAnswer:
    """Say of an error of httpx or TLS whether the server may have received the request.

    :param error: the error.
    """
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
        if _NO_HANDSHAKE.search(str(error)):
            return NoAnswer("no trusted TLS connection: see the connection's verify", sent=False, lasting=True)
        return NoAnswer("no connection (refused, too slow, or no such host)", sent=False)
    if isinstance(error, httpx.ProxyError):
        return NoAnswer("the proxy can not be used: see the connection's proxy", sent=False)
    if isinstance(error, httpx.TimeoutException):
        return NoAnswer("no answer in time", sent=True)
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return NoAnswer("the request can not be sent: see the connection's host", sent=False, lasting=True)
    return NoAnswer("the connection was cut before the whole answer arrived", sent=True)
