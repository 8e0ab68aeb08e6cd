"""The route table: which method and path is answered by what, and which scopes it needs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from airflow_provider_posthog.emulator.http.envelopes import not_for_keys
from airflow_provider_posthog.emulator.http.messages import Answer
from airflow_provider_posthog.emulator.http.request import Request

Handler = Callable[[Request], Awaitable[Answer]]
# in the order of the Allow header
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")
Scopes = Callable[[Request], tuple[str, ...]]


@dataclass(frozen=True)
class Route:
    """One row of the table.

    :param method: in capitals.
    :param pattern: a path with ``{names}``; a trailing slash is optional in requests.
    :param handler: makes the answer.
    :param scopes: what the key must allow, all of it; or a function that tells from the request.
    :param throttle: which of PostHog's rate limits counts the call; None for none.
    :param public: answered without a key.
    :param generations: the ages of PostHog that have it.
    """

    method: str
    pattern: str
    handler: Handler
    scopes: tuple[str, ...] | Scopes = ()
    throttle: str | None = "crud"
    public: bool = False
    generations: str = "ABC"

    def needed(self, request: Request) -> tuple[str, ...]:
        """Return the scopes that this request needs.

        :param request: the request.
        """
        return self.scopes(request) if callable(self.scopes) else self.scopes


@dataclass(frozen=True)
class Match:
    """What the table knows of a request.

    :param route: its row; None when the path is known but not with this method.
    :param allowed: the methods of the path.
    :param params: the parts of the path that the pattern names.
    """

    route: Route | None
    allowed: tuple[str, ...]
    params: dict[str, str]


class Router:
    """Finds the row of a request.

    :param routes: the table; of several patterns that fit, the one with fewer names wins, then the first.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        #: by the number of segments: a {name} in a pattern matches exactly one
        self._tables: dict[int, list[tuple[re.Pattern[str], Route]]] = {}
        for route in sorted(routes, key=lambda route: route.pattern.count("{")):
            self._tables.setdefault(_parts(route.pattern), []).append((_compile(route.pattern), route))

    def match(self, method: str, path: str, generation: str = "C") -> Match | None:
        """Return what is known of a request, or None when no row has its path.

        As in Django, one pattern answers a path: others that fit it do not add methods to it.

        :param method: in capitals; HEAD is answered like GET.
        :param path: without the query.
        :param generation: the age of PostHog that answers.
        """
        wanted = "GET" if method == "HEAD" else method
        best: Match | None = None
        allowed: list[str] = []
        first = ""
        for pattern, route in self._tables.get(_parts(path), ()):
            if generation not in route.generations or not (match := pattern.fullmatch(path)):
                continue
            if pattern.pattern != (first := first or pattern.pattern):
                continue
            allowed += [route.method, *(["HEAD"] if route.method == "GET" else [])]
            chosen = route if route.method == wanted else None
            if best is None or (best.route is None and chosen is not None):
                best = Match(chosen, (), match.groupdict())
        return best and Match(best.route, (*(name for name in METHODS if name in allowed), "OPTIONS"), best.params)


def closed(method: str, pattern: str, generations: str = "A") -> Route:
    """Return the row of an action that a PostHog has, but closes to personal API keys: 403.

    :param method: in capitals.
    :param pattern: a path with ``{names}``.
    :param generations: the ages of PostHog that close it.
    """

    async def refuse(request: Request) -> Answer:
        raise not_for_keys()

    return Route(method, pattern, refuse, generations=generations)


def _parts(path: str) -> int:
    return path.removesuffix("/").count("/")


def _compile(pattern: str) -> re.Pattern[str]:
    named = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern.rstrip("/"))
    return re.compile(named + "/?")
