"""What every error of the HTTP libraries says of a request: whether it was sent is decided for each of them."""

from __future__ import annotations

import asyncio
import inspect
import ssl
from collections.abc import Iterator
from http.client import BadStatusLine, RemoteDisconnected

import httpx
import pytest
import requests
import urllib3
from requests import exceptions as rq
from urllib3 import exceptions as u3

from airflow_provider_posthog.api.async_clients import no_answer_async
from airflow_provider_posthog.api.body import TooSlowError
from airflow_provider_posthog.api.retry import NoAnswer
from airflow_provider_posthog.api.wire import NotAnsweredError, no_answer

POOL = urllib3.HTTPConnectionPool("posthog.example")
CONNECTION = urllib3.connection.HTTPConnection("posthog.example")
URL = "/api/?search=jane-doe"
SECRETS = ("jane-doe", "pass-word")


def behind(original: BaseException) -> rq.ProxyError:
    """What requests raises of an error on a connection through a proxy."""
    return rq.ProxyError(u3.MaxRetryError(POOL, URL, u3.ProxyError("Cannot connect to http://u:pass-word@p", original)))  # type: ignore[arg-type]


def of(reason: Exception) -> u3.MaxRetryError:
    return u3.MaxRetryError(POOL, URL, reason)


NEW = u3.NewConnectionError(CONNECTION, "refused")
NO_NAME = u3.NameResolutionError("posthog.example", CONNECTION, OSError("no such host"))  # type: ignore[arg-type]
SLOW = u3.ReadTimeoutError(POOL, URL, "Read timed out.")
UNTRUSTED = ssl.SSLCertVerificationError("certificate verify failed")
GONE = u3.ProtocolError("Connection aborted.", RemoteDisconnected("Remote end closed connection"))

REQUESTS: list[tuple[requests.RequestException, bool, bool, str]] = [
    (behind(RemoteDisconnected("closed")), True, False, "cut"),
    (behind(ConnectionResetError(104, "reset")), True, False, "cut"),
    (behind(BrokenPipeError(32, "pipe")), True, False, "cut"),
    (behind(GONE), True, False, "cut"),
    (behind(SLOW), True, False, "in time"),
    (behind(TimeoutError("timed out")), True, False, "in time"),
    (behind(NEW), False, False, "proxy"),
    (behind(NO_NAME), False, False, "proxy"),
    (behind(u3.ConnectTimeoutError(CONNECTION, "slow")), False, False, "proxy"),
    (behind(OSError("Tunnel connection failed: 407 Proxy Authentication Required")), False, True, "407"),
    (behind(OSError("Tunnel connection failed: 403 Forbidden")), False, True, "403"),
    (behind(OSError("Tunnel connection failed: 503 Busy")), False, False, "503"),
    (behind(u3.SSLError(UNTRUSTED)), False, True, "proxy"),
    (rq.ProxyError(u3.ProxyError("x", NEW)), False, False, "proxy"),
    (rq.ProxyError(u3.ProxyError("x", RemoteDisconnected("closed"))), True, False, "cut"),
    (rq.ProxyError("said nothing"), True, False, "cut"),
    (rq.ConnectTimeout(of(u3.ConnectTimeoutError(CONNECTION, "slow"))), False, False, "no connection"),
    (rq.ReadTimeout(SLOW), True, False, "in time"),
    (rq.Timeout("of some kind"), True, False, "in time"),
    (rq.ConnectionError(of(NEW)), False, False, "no connection"),
    (rq.ConnectionError(of(NO_NAME)), False, False, "no connection"),
    (rq.ConnectionError(GONE), True, False, "cut"),
    (rq.ConnectionError(u3.ProtocolError("Connection aborted.", BadStatusLine("SSH"))), True, False, "HTTP"),
    (rq.ConnectionError(u3.ClosedPoolError(POOL, "closed")), True, False, "cut"),
    (rq.ConnectionError(of(SLOW)), True, False, "cut"),
    (rq.SSLError(of(u3.SSLError(UNTRUSTED))), False, True, "verify"),
    (rq.SSLError(of(u3.SSLError(ssl.SSLEOFError("EOF occurred")))), True, False, "TLS"),
    (rq.ChunkedEncodingError(u3.ProtocolError("cut")), True, False, "cut"),
    (rq.ContentDecodingError(u3.DecodeError("bad gzip")), True, False, "decoded"),
    (rq.InvalidHeader(u3.InvalidHeader("two lengths")), True, False, "headers"),
    (rq.InvalidHeader("Header value must be str"), False, True, "cannot be sent"),
    (rq.InvalidURL("no host"), False, True, "cannot be sent"),
    (rq.InvalidProxyURL("no host"), False, True, "cannot be sent"),
    (rq.InvalidSchema("Missing dependencies for SOCKS support."), False, True, "proxy"),
    (rq.MissingSchema("no scheme"), False, True, "cannot be sent"),
    (rq.URLRequired("none"), False, True, "cannot be sent"),
    (rq.UnrewindableBodyError("body"), False, True, "cannot be sent"),
    (rq.TooManyRedirects("circle"), True, False, "cannot be read"),
    (rq.RetryError(of(u3.ResponseError("too many 500s"))), True, False, "cannot be read"),
    (rq.StreamConsumedError(), True, False, "cannot be read"),
    (rq.HTTPError("500"), True, False, "cannot be read"),
    (rq.InvalidJSONError("nan"), True, False, "cannot be read"),
    (rq.JSONDecodeError("no", "doc", 0), True, False, "cannot be read"),
    (rq.RequestException("something new"), True, False, "cannot be read"),
    (NotAnsweredError(NoAnswer("as it says", sent=False)), False, False, "as it says"),
]

HTTPX: list[tuple[httpx.HTTPError | httpx.InvalidURL | OSError | asyncio.TimeoutError, bool, bool, str]] = [
    (httpx.ConnectError("All connection attempts failed"), False, False, "no connection"),
    (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), False, True, "verify"),
    (httpx.ConnectTimeout("slow"), False, False, "no connection"),
    (httpx.PoolTimeout("full"), False, False, "no connection"),
    (httpx.ProxyError("407 Proxy Authentication Required"), False, True, "407"),
    (httpx.ProxyError("503 Busy"), False, False, "503"),
    (httpx.ProxyError("SOCKS: host unreachable"), False, False, "proxy"),
    (httpx.ReadTimeout("slow"), True, False, "in time"),
    (httpx.WriteTimeout("slow"), True, False, "in time"),
    (httpx.TimeoutException("slow"), True, False, "in time"),
    (asyncio.TimeoutError(), True, False, "in time"),
    (TooSlowError("less than 64 KiB"), True, False, "slowly"),
    (httpx.ReadError("reset"), True, False, "cut"),
    (httpx.WriteError("reset"), True, False, "cut"),
    (httpx.CloseError("reset"), True, False, "cut"),
    (httpx.NetworkError("reset"), True, False, "cut"),
    (ssl.SSLError("decryption failed"), True, False, "cut"),
    (ConnectionResetError("reset"), True, False, "cut"),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), True, False, "cut"),
    (httpx.RemoteProtocolError("peer closed connection without sending complete message body"), True, False, "cut"),
    (httpx.RemoteProtocolError("illegal status line"), True, False, "HTTP"),
    (httpx.RemoteProtocolError("conflicting Content-Length headers"), True, False, "HTTP"),
    (httpx.RemoteProtocolError("Invalid URL in location header: x."), True, False, "redirect"),
    (httpx.ProtocolError("x"), True, False, "cut"),
    (httpx.LocalProtocolError("Illegal header value"), False, True, "cannot be sent"),
    (httpx.UnsupportedProtocol("ftp"), False, True, "cannot be sent"),
    (httpx.InvalidURL("no host"), False, True, "cannot be sent"),
    (httpx.DecodingError("bad gzip"), True, False, "decoded"),
    (httpx.TooManyRedirects("circle"), True, False, "cut"),
    (httpx.TransportError("x"), True, False, "cut"),
    (httpx.RequestError("x"), True, False, "cut"),
    (httpx.HTTPError("x"), True, False, "cut"),
]


def _name(value: object) -> str | None:
    return type(value).__name__ if isinstance(value, BaseException) else None


def _all_below(kind: type) -> Iterator[type]:
    for one in kind.__subclasses__():
        yield one
        yield from _all_below(one)


@pytest.mark.parametrize(("error", "sent", "lasting", "said"), REQUESTS, ids=_name)
def test_each_error_of_requests(error: requests.RequestException, sent: bool, lasting: bool, said: str) -> None:
    found = no_answer(error)
    assert (found.sent, found.lasting) == (sent, lasting)
    assert said in found.reason
    assert not [secret for secret in SECRETS if secret in found.reason]


@pytest.mark.parametrize(("error", "sent", "lasting", "said"), HTTPX, ids=_name)
def test_each_error_of_httpx(
    error: httpx.HTTPError | httpx.InvalidURL | OSError, sent: bool, lasting: bool, said: str
) -> None:
    found = no_answer_async(error)
    assert (found.sent, found.lasting) == (sent, lasting)
    assert said in found.reason


def test_there_is_no_other_error() -> None:
    known = {type(error) for error, *_ in REQUESTS}
    theirs = {kind for kind in _all_below(requests.RequestException) if kind.__module__.startswith("requests")}
    assert theirs <= known
    known_to_httpx = {type(error) for error, *_ in HTTPX} | {httpx.HTTPStatusError}  # raised by nobody here
    theirs = {kind for _, kind in inspect.getmembers(httpx, inspect.isclass) if issubclass(kind, httpx.HTTPError)}
    assert theirs <= known_to_httpx


@pytest.mark.parametrize(("error", "sent", "lasting", "said"), REQUESTS[:-1], ids=_name)
def test_what_the_connection_saw_is_believed(
    error: requests.RequestException, sent: bool, lasting: bool, said: str
) -> None:
    assert no_answer(error, sent=True).sent
    assert "cannot be sent" not in no_answer(error, sent=True).reason
    assert not no_answer(error, sent=False).sent
    assert "whole answer" not in no_answer(error, sent=False).reason


@pytest.mark.parametrize(("error", "sent", "lasting", "said"), HTTPX, ids=_name)
def test_what_the_asynchronous_connection_saw_is_believed(
    error: httpx.HTTPError | httpx.InvalidURL | OSError, sent: bool, lasting: bool, said: str
) -> None:
    assert no_answer_async(error, sent=True).sent
    assert not no_answer_async(error, sent=False).sent
