"""The workers' client (requests). Its twin for the triggerer is in ``async_clients``, as httpx is slow to import.

These two modules are the only socket code of the package. What to send, when to repeat it and what an answer means is
in :mod:`~airflow_provider_posthog.api.exchange` and :mod:`~airflow_provider_posthog.api.retry`.
"""

from __future__ import annotations

import logging
import os
import re
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, TypeVar

import requests  # noqa: TID253 - this module is imported when a task runs
import urllib3

from airflow_provider_posthog.api import discretion  # noqa: F401 - what urllib3 logs is nobody's to read
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.exchange import USER_AGENT, Done, Exchange
from airflow_provider_posthog.api.in_flight import in_flight_to
from airflow_provider_posthog.api.pages import Pages
from airflow_provider_posthog.api.retry import NoAnswer, RetryPolicy, Wait
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.async_clients import AsyncClient

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Bytes of a body that are read at once, if its size is not known; and the most, whatever its size.
_PIECE, _MOST_AT_ONCE = 1024 * 1024, 64 * 1024 * 1024
# TLS failures of the handshake; any other may come after the request was sent.
NO_HANDSHAKE = re.compile(r"(?i)certificate|hostname|unsupported_protocol|protocol_version|handshake_fail")


def policy_of(settings: ClientSettings) -> RetryPolicy:
    """Return how patient the connection is.

    :param settings: the connection.
    """
    return RetryPolicy(max_rate_limit_wait=settings.max_rate_limit_wait)


def headers_of(settings: ClientSettings) -> dict[str, str]:
    """Return the headers that all requests have.

    :param settings: the connection.
    """
    return {"User-Agent": USER_AGENT, "Accept": "application/json"}


def no_cookies() -> DefaultCookiePolicy:
    """Return the policy of a client that keeps no cookies."""
    # The key is all the API wants; httpx can not even send back a cookie that is not ASCII.
    return DefaultCookiePolicy(allowed_domains=[])


def announce(call: Call[Any], step: Wait) -> None:
    """Log that a call is sent again.

    :param call: the call.
    :param step: when, and why.
    """
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
            session.headers.update(headers_of(self.settings))
            session.cookies.set_policy(no_cookies())
            if isinstance(self.settings.verify, str):
                ca_context(self.settings.verify)  # else a missing CA file is a bare OSError
            self._session = session
        return self._session

    def send(self, call: Call[T], *, policy: RetryPolicy | None = None) -> T:
        """Send a call, again where that is safe and may help, and return its value.

        :param call: the call.
        :param policy: how patient to be, in place of the connection's.
        :raises PostHogError: the error of the last attempt.
        """
        exchange = Exchange(call, self.settings, policy or policy_of(self.settings))
        while True:
            while pause := exchange.pause():
                time.sleep(pause)
            step = exchange.receive(self._attempt(exchange))
            if isinstance(step, Done):
                return step.value
            announce(call, step)
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
        settings, session = self.settings, self.session
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
        # requests reads a redirect's body and target even where it does not follow it, and lets other errors out there.
        except (ValueError, urllib3.exceptions.HTTPError) as error:
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
                return Answer(response.status_code, headers, b"".join(response.iter_content(_piece(headers))))
        except requests.RequestException as error:
            return no_answer(error)

    def _place(self, call: Call[Any]) -> AbstractContextManager[None]:
        """Keep within PostHog's limit of queries that run at once in a project."""
        return in_flight_to(self.settings).place(self.settings.max_in_flight) if call.lane == "query" else nullcontext()


def _piece(headers: Mapping[str, str]) -> int:
    """Return how many bytes of a body to read at once: all, if that is known and not too many.

    To join pieces, in new memory each time, costs as much as to parse them; ``response.content`` joins such of 10 KiB.
    """
    size = headers.get("content-length", "")
    return max(_PIECE, min(int(size), _MOST_AT_ONCE)) if size.isdecimal() and len(size) < 12 else _PIECE


def read_some(response: requests.Response, most: int) -> bytes:
    """Read what has come of a body, unpacked, and wait only where nothing has; empty at its end.

    ``iter_content`` waits until its chunk is full, and forgets what came if the connection breaks meanwhile.

    :param response: the response, whose body was not read otherwise.
    :param most: how many bytes at the most.
    :raises requests.RequestException: if the rest does not arrive.
    """
    try:
        found: bytes = response.raw.read1(most, decode_content=True)
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(error) from error
    except urllib3.exceptions.DecodeError as error:
        raise requests.exceptions.ContentDecodingError(error) from error
    except urllib3.exceptions.SSLError as error:
        raise requests.exceptions.SSLError(error) from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    return found


def foreign_encodings(named: Iterable[str]) -> set[str]:
    """Return those ``Content-Encoding`` s that can not be unpacked here: the bytes would come as they are.

    :param named: in small letters.
    """
    return set(named).difference(urllib3.response.HTTPResponse.CONTENT_DECODERS)


def no_answer(error: requests.RequestException) -> NoAnswer:
    """Say of an error of requests whether the server may have received the request.

    :param error: the error.
    """
    name = type(error).__name__
    reason = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(error, requests.exceptions.SSLError):
        if not NO_HANDSHAKE.search(str(reason or error)):
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


def ca_context(path: str) -> ssl.SSLContext:
    """Make the TLS context that trusts a CA file.

    :param path: the path of a CA file, or of a folder of them.
    :raises PostHogSettingsError: if there is no such file, or no certificate in it.
    """
    try:
        folder = os.path.isdir(path)
        return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
    except (OSError, ValueError) as error:
        raise PostHogSettingsError(
            "verify",
            f"the CA file {path} can not be read ({type(error).__name__}).",
            "Write the path of a PEM file that is on this machine, or true or false.",
        ) from None


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attribute
    if name == "AsyncClient":
        from airflow_provider_posthog.api.async_clients import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
