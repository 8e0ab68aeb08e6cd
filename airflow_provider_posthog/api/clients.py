"""The workers' client (requests). Its twin for the triggerer is in ``async_clients``, as httpx is slow to import.

These two modules and :mod:`~airflow_provider_posthog.api.wire` are the only socket code of the package. What to send,
when to repeat it and what an answer means is in :mod:`~airflow_provider_posthog.api.exchange` and
:mod:`~airflow_provider_posthog.api.retry`.
"""

from __future__ import annotations

import logging
import math
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar

import requests  # noqa: TID253 - this module is imported when a task runs
import urllib3

from airflow_provider_posthog.api import redaction  # noqa: F401 - keeps addresses out of the HTTP library's log
from airflow_provider_posthog.api.body import ENCODINGS, Arriving, TooLargeError, UndecodableError
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.exchange import USER_AGENT, Done, Exchange
from airflow_provider_posthog.api.in_flight import NoSlotError, in_flight_to
from airflow_provider_posthog.api.keys import REFUSED, cannot_be_read, is_another
from airflow_provider_posthog.api.pages import Pages
from airflow_provider_posthog.api.received import BodyOf, Taking, held
from airflow_provider_posthog.api.retry import NoAnswer, RetryPolicy, Wait
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.api.wire import (
    NotAnsweredError,
    PlainSession,
    WireAdapter,
    going,
    no_answer,
)
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogSettingsError

T = TypeVar("T")
log = logging.getLogger(__name__)


def policy_of(settings: ClientSettings) -> RetryPolicy:
    """Return how patient the connection is.

    :param settings: the connection.
    """
    return RetryPolicy(max_rate_limit_wait=settings.max_rate_limit_wait)


def headers_of(settings: ClientSettings) -> dict[str, str]:
    """Return the headers that all requests have.

    :param settings: the connection.
    """
    return {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": ENCODINGS}


def no_cookies() -> DefaultCookiePolicy:
    """Return the policy of a client that keeps no cookies."""
    # The API needs nothing but the key, and httpx cannot send back a cookie that is not ASCII.
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
        self._end = math.inf

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
            session = PlainSession()
            for scheme in ("https://", "http://"):
                session.mount(scheme, WireAdapter())
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
        return self._exchanged(call, policy, held)

    def stream(self, call: Call[Any], take: Callable[[Arriving], T], *, policy: RetryPolicy | None = None) -> T:
        """Send a call as :meth:`send` does, and read the body of its answer as it arrives.

        The value is returned once the whole body has arrived: if it was cut, the call is sent again as ``send`` would,
        and the body is read anew. Its slot among the queries that run at once is free when the answer begins.

        :param call: the call; its own ``read`` is not used.
        :param take: reads a good answer, and returns a value; called anew in each attempt, so it has to discard what an
            earlier attempt returned.
        :param policy: how patient to be, in place of the connection's.
        :raises PostHogError: the error of the last attempt, or what ``take`` has raised.
        """
        taking = Taking(take)
        whole: Call[T] = replace(call, read=taking.value)
        return self._exchanged(whole, policy, taking.body)

    def _exchanged(self, call: Call[T], policy: RetryPolicy | None, body: BodyOf) -> T:
        refused = self.settings
        try:
            return self._exchange(call, policy, body)
        except REFUSED as error:
            if not self.has_new_key(refused, error):
                raise
        return self._exchange(call, policy, body)

    def has_new_key(self, refused: ClientSettings, error: PostHogAPIError) -> bool:
        """Read the connection again after PostHog refused the key, and continue with its key if that has changed.

        :param refused: the settings that PostHog refused.
        :param error: PostHog's answer.
        :returns: whether to send the call again.
        """
        if self.settings is not refused:  # another call of this client has already replaced the key
            return True
        if refused.read_again is None:
            return False
        try:
            replaced = refused.read_again(refused)
        except Exception as failure:
            cannot_be_read(failure)
            return False
        if not is_another(replaced, refused, error):
            return False
        # What a task has changed of the connection, such as how long its calls wait, stays.
        self.settings = replace(refused, api_key=replaced.api_key)
        return True

    def _exchange(self, call: Call[T], policy: RetryPolicy | None, body: BodyOf) -> T:
        policy = policy or policy_of(self.settings)
        # Do not wait for a slot that comes after the deadline; the error then says how long the wait would have been.
        left = max(0.0, self._left())
        policy = replace(
            policy,
            max_rate_limit_wait=min(policy.max_rate_limit_wait, left),
            max_pace_wait=min(policy.max_pace_wait, left),
        )
        with closing(Exchange(call, self.settings, policy)) as exchange:
            while True:
                while pause := exchange.pause():
                    time.sleep(pause)
                step = exchange.receive(self._attempt(exchange, body))
                if isinstance(step, Done):
                    return step.value
                if step.seconds >= self._left():
                    raise exchange.error()
                announce(call, step)
                time.sleep(step.seconds)

    @contextmanager
    def until(self, deadline: float) -> Iterator[None]:
        """Let all calls of a block end at a time, also while PostHog holds one open or its answer drips in.

        A call that does not end by then fails with ``PostHogTransportError``, and is not sent again.

        :param deadline: when, in seconds since 1970.
        """
        before = self._end
        self._end = min(before, time.monotonic() + deadline - time.time())
        try:
            yield
        finally:
            self._end = before

    def _left(self) -> float:
        return self._end - time.monotonic()

    def pages(self, call: Call[Any], *, max_items: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page, each once.

        :param call: the call of the first page; its ``limit`` is that of each page.
        :param max_items: the most items to yield.
        :raises PostHogError: if a page cannot be fetched, or the list does not end.
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
        settings, timeout, session = self.settings, self._timeout(read_timeout), self.session
        # Set with each request: the environment's proxies and REQUESTS_CA_BUNDLE override the session's own values.
        proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else None
        with going(self._end) as gone:
            try:
                return session.request(
                    method,
                    url,
                    auth=BearerAuth(settings.api_key if authorized else ""),
                    timeout=timeout,
                    verify=settings.verify,
                    proxies=proxies,
                    allow_redirects=False,
                    stream=True,
                    **options,
                )
            except requests.RequestException as error:
                outcome = no_answer(error, sent=gone.sent)
            except (ValueError, urllib3.exceptions.HTTPError) as error:  # what requests lets through
                outcome = no_answer(requests.RequestException(error), sent=gone.sent)
        raise NotAnsweredError(outcome)  # not from the error, which shows the address

    def _timeout(self, read_timeout: float | None) -> tuple[float, float]:
        """Return how long to wait for a connection, and for the next bytes of an answer."""
        left = self._left()
        if left <= 0:
            raise NotAnsweredError(NoAnswer("no time is left to send it", sent=False, lasting=True))
        read = max(self.settings.read_timeout, read_timeout or 0.0)
        return min(self.settings.connect_timeout, left), min(read, left)

    def _attempt(self, exchange: Exchange[Any], body: BodyOf) -> Answer | NoAnswer:
        call = exchange.call
        sent = {"data": exchange.body, "headers": exchange.headers}
        try:
            with ExitStack() as slot:
                slot.enter_context(self._slot(call))
                with self.open(
                    call.method, exchange.url, authorized=True, read_timeout=call.read_timeout, **sent
                ) as response:
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return Answer(response.status_code, headers, body(response, call.max_bytes, slot.close))
        except requests.RequestException as error:
            return no_answer(error)
        except TooLargeError:
            return too_large(call.max_bytes)
        except UndecodableError:
            return UNDECODABLE
        except NoSlotError:
            return NoAnswer(
                "as many queries run as are allowed at once, and none ended in time", sent=False, lasting=True
            )

    def _slot(self, call: Call[Any]) -> AbstractContextManager[None]:
        """Keep within PostHog's limit of queries that run at once in a project."""
        if call.bucket != "query":
            return nullcontext()
        return in_flight_to(self.settings).slot(self.settings.max_in_flight, self._left())


UNDECODABLE = NoAnswer("the answer cannot be decoded", sent=True)


def too_large(most: int | None) -> NoAnswer:
    """Return the outcome for an answer that was larger than allowed.

    :param most: how many bytes it may have.
    """
    text = f"the answer is larger than {(most or 0) / 1024**2:,.0f} MiB, and was not read to its end"
    return NoAnswer(text, sent=True, lasting=True, too_large=True)


def ca_context(path: str) -> ssl.SSLContext:
    """Return the TLS context that trusts a CA file.

    Reading one takes tens of milliseconds of CPU. So it is read once, and again only when it was changed.

    :param path: the path of a CA file, or of a folder of them.
    :raises PostHogSettingsError: if there is no such file, or no certificate in it.
    """
    try:
        now = os.stat(path)
        return _ca_context(path, (now.st_mtime_ns, now.st_size, now.st_ino))
    except (OSError, ValueError) as error:
        raise PostHogSettingsError(
            "verify",
            f"names a CA file that cannot be read: {path} ({type(error).__name__}).",
            "Write the path of a PEM file that is on this machine, or true or false.",
        ) from None


@lru_cache(maxsize=8)
def _ca_context(path: str, changed: tuple[int, ...]) -> ssl.SSLContext:
    folder = os.path.isdir(path)
    return ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
