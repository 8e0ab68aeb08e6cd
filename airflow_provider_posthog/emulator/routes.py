"""The route table: which method and path is answered by what, and which scopes it needs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from airflow_provider_posthog.emulator.messages import Answer, Request

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
    """

    method: str
    pattern: str
    handler: Handler
    scopes: tuple[str, ...] | Scopes = ()
    throttle: str | None = "crud"
    public: bool = False

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

    :param routes: the table; of several rows that fit, the first wins.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._table = [(_compile(route.pattern), route) for route in routes]

    def match(self, method: str, path: str) -> Match | None:
        """Return what is known of a request, or None when no row has its path.

        :param method: in capitals; HEAD is answered like GET.
        :param path: without the query.
        """
        wanted = "GET" if method == "HEAD" else method
        found: Match | None = None
        allowed: list[str] = []
        for pattern, route in self._table:
            if not (match := pattern.fullmatch(path)):
                continue
            allowed += [route.method, *(["HEAD"] if route.method == "GET" else [])]
            chosen = route if route.method == wanted else None
            if found is None or (found.route is None and chosen is not None):
                found = Match(chosen, (), match.groupdict())
        return found and Match(found.route, (*(name for name in METHODS if name in allowed), "OPTIONS"), found.params)


def _compile(pattern: str) -> re.Pattern[str]:
    named = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern.rstrip("/"))
    return re.compile(named + "/?")
