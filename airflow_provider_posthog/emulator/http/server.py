"""The two listeners: sockets, logging, faults and compression around :class:`~.api.Api` and the storage."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import format_datetime

try:
    # this module is the HTTP server and is imported only to run it
    from aiohttp import web
except ImportError:
    raise ImportError("The emulator needs aiohttp. Install airflow-provider-posthog[emulator].") from None

from airflow_provider_posthog.emulator.control.routes import PREFIX
from airflow_provider_posthog.emulator.http.api import Api
from airflow_provider_posthog.emulator.http.calls import Call
from airflow_provider_posthog.emulator.http.faults import Fault
from airflow_provider_posthog.emulator.http.messages import Answer
from airflow_provider_posthog.emulator.http.request import Request
from airflow_provider_posthog.emulator.state import State

HOST = "127.0.0.1"
LARGEST_BODY = 64 * 1024 * 1024
# Django compresses nothing that is shorter
SHORTEST_COMPRESSED = 200
Work = Callable[[], Awaitable[Answer]]


class _Gone(Exception):
    """The connection was cut on purpose; there is no one left to answer."""


@dataclass
class Server:
    """A server that runs.

    :param url: of the API.
    :param storage_url: of the object storage.
    :param runners: listen for as long as the event loop runs.
    """

    url: str
    storage_url: str
    runners: list[web.AppRunner]


async def start(
    state: State, *, port: int = 0, storage_port: int = 0, host: str = HOST, storage_url: str | None = None
) -> Server:
    """Begin to listen.

    :param state: what is served.
    :param port: of the API; 0 takes any free one.
    :param storage_port: of the object storage; 0 takes any free one.
    :param host: the address to listen on; ``0.0.0.0`` for all of a container's.
    :param storage_url: under which clients reach the object storage; None for this machine.
    :raises OSError: when a port is taken.
    """
    api = Api(state)
    runners = []
    urls = []
    for number, handler in ((port, _api_handler(state, api)), (storage_port, _storage_handler(state))):
        app = web.Application(client_max_size=LARGEST_BODY)
        app.router.add_route("*", "/{path:.*}", handler)
        app.on_response_prepare.append(_as_posthog(state))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, host, number).start()
        runners.append(runner)
        urls.append(f"http://{HOST}:{runner.addresses[0][1]}")
    state.storage.base_url = (storage_url or urls[1]).rstrip("/")
    return Server(urls[0], state.storage.base_url, runners)


def _as_posthog(state: State) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    async def prepare(raw: web.Request, response: web.StreamResponse) -> None:
        response.headers.pop("Server", None)
        # clients read the server's time from it, so it must not be behind what the answer says
        response.headers["Date"] = format_datetime(state.clock.now(), usegmt=True)
        if isinstance(response, web.Response) and not response.body:
            # aiohttp calls an empty body an octet stream
            response.headers.pop("Content-Type", None)

    return prepare


def _lower_headers(raw: web.Request) -> dict[str, str]:
    return {name.lower(): value for name, value in raw.headers.items()}


def _api_handler(state: State, api: Api) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(raw: web.Request) -> web.StreamResponse:
        headers = _lower_headers(raw)
        # the path as it was sent: a route decides what its parts mean
        path, query = raw.rel_url.raw_path, raw.rel_url.raw_query_string
        body = await raw.read()
        base_url = f"http://{headers.get('host', HOST)}"
        request = Request(state, raw.method, path, query, base_url, headers, body)
        if path.startswith(PREFIX):
            return await _send(raw, await api.answer(request))
        call = state.calls.begin(raw.method, path, query, headers, body)
        call.route = api.route_name(raw.method, path)

        async def work() -> Answer:
            answer = await api.answer(request)
            if not _compresses(state, headers, answer):
                return answer
            # in a thread: a big result takes a second, and others want answers meanwhile
            return await asyncio.to_thread(_compressed, answer)

        return await _logged(state, raw, call, work)

    return handle


def _storage_handler(state: State) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(raw: web.Request) -> web.StreamResponse:
        headers = _lower_headers(raw)
        query = raw.rel_url.raw_query_string
        call = state.calls.begin(raw.method, raw.path, query, headers, await raw.read())
        call.route = "/storage/"

        async def work() -> Answer:
            return state.storage.answer(raw.method, raw.path, query, headers)

        return await _logged(state, raw, call, work)

    return handle


async def _logged(state: State, raw: web.Request, call: Call, work: Work) -> web.StreamResponse:
    """Do the work with the fault that was ordered for it, and write down what came of it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    fault = state.faults.take(call.method, call.path)
    try:
        answer = await _faulty(state, raw, fault, work) if fault else await work()
        if fault is not None and fault.cut == "middle":
            await _send_half(raw, answer, fault.cut_bytes)
        response = await _send(raw, answer)
        call.status = answer.status
        return response
    except _Gone:
        return web.Response(status=500)
    finally:
        call.seconds = round(loop.time() - began, 4)


async def _faulty(state: State, raw: web.Request, fault: Fault, work: Work) -> Answer:
    if fault.delay:
        life = state.life
        await asyncio.sleep(fault.delay)
        if state.life is not life:  # of a test that is over: nothing of it may come into the next one
            _abort(raw)
    if fault.cut == "before":
        _abort(raw)
    if fault.status is not None and not fault.work:
        return fault.answer()
    answer = await work()
    if fault.cut == "after":
        _abort(raw)
    return answer if fault.status is None else fault.answer()


def _abort(raw: web.Request) -> None:
    if raw.transport is not None:
        raw.transport.abort()
    raise _Gone


def _compresses(state: State, headers: dict[str, str], answer: Answer) -> bool:
    accepted = state.settings.gzip and "gzip" in headers.get("accept-encoding", "")
    return accepted and answer.content_type == "application/json" and len(answer.body) >= SHORTEST_COMPRESSED


def _compressed(answer: Answer) -> Answer:
    added = {"Content-Encoding": "gzip", "Vary": "Accept, Origin, Accept-Encoding"}
    return replace(answer, body=gzip.compress(answer.body, 4, mtime=0), headers={**answer.headers, **added})


def _headers(answer: Answer) -> dict[str, str]:
    headers = dict(answer.headers)
    if answer.content_type is not None:
        headers["Content-Type"] = answer.content_type
    return headers


async def _send(raw: web.Request, answer: Answer) -> web.StreamResponse:
    response = web.Response(status=answer.status, body=answer.body, headers=_headers(answer))
    await response.prepare(raw)
    await response.write_eof()
    return response


async def _send_half(raw: web.Request, answer: Answer, size: int) -> None:
    """Promise the whole body, send a part of it and cut the connection."""
    headers = {**_headers(answer), "Content-Length": str(len(answer.body))}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(raw)
    if size:
        await response.write(answer.body[:size])
    transport = raw.transport
    # an abort throws away what has not reached the socket yet
    for _ in range(1000):
        if transport is None or not transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.005)
    _abort(raw)
