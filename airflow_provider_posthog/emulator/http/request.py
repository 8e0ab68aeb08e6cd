"""A request, as the handlers of the routes see it: no HTTP library in sight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from airflow_provider_posthog.emulator.http.envelopes import Json, parse_error, unsupported_media_type

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.http.auth import ApiKey
    from airflow_provider_posthog.emulator.state import State


@dataclass(frozen=True)
class Request:
    """A request that has found its route.

    :param state: the server's state.
    :param method: in capitals.
    :param path: without the query.
    :param query_string: as sent.
    :param base_url: scheme and host as the client wrote them, for absolute links.
    :param headers: with names in lower case.
    :param raw_body: as sent.
    :param params: the parts of the path that the route names.
    :param key: the key that called; None on routes that need none.
    """

    state: State
    method: str
    path: str
    query_string: str = ""
    base_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw_body: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    key: ApiKey | None = None

    def query(self, name: str) -> str | None:
        """Return the last value of a query parameter, or None.

        :param name: of the parameter.
        """
        values = self.queries(name)
        return values[-1] if values else None

    def queries(self, name: str) -> list[str]:
        """Return all values of a query parameter, in order.

        :param name: of the parameter.
        """
        return [value for key, value in parse_qsl(self.query_string, keep_blank_values=True) if key == name]

    def json(self) -> Json:
        """Return the JSON object of the body; an empty one when there is no body.

        :raises ApiError: 400 when the body is not a JSON object.
        """
        if not self.raw_body:
            return {}
        if self._media_type() == "application/x-www-form-urlencoded":
            return dict(parse_qsl(self.raw_body.decode(errors="replace"), keep_blank_values=True))
        try:
            body = json.loads(self.raw_body)
        except (ValueError, UnicodeDecodeError) as error:
            raise parse_error(str(error)) from None
        if not isinstance(body, dict):
            raise parse_error(f"Expected a JSON object, got {type(body).__name__}")
        return body

    def _media_type(self) -> str:
        """Return the kind of the body, as Django REST framework looks for a parser.

        :raises ApiError: 415 for one that it has none for.
        """
        sent = self.headers.get("content-type", "")
        kind = sent.partition(";")[0].strip().lower()
        # orders of tests are JSON whatever they are called, and calls of our own say nothing
        ours = not self.headers or not self.path.startswith("/api/")
        if ours or kind in ("application/json", "multipart/form-data"):
            return "application/json"
        if kind != "application/x-www-form-urlencoded":
            raise unsupported_media_type(sent)
        return kind

    def caller(self) -> ApiKey:
        """Return the key that called.

        :raises RuntimeError: on a route without authentication, which is a mistake in the route table.
        """
        if self.key is None:
            raise RuntimeError(f"{self.method} {self.path} is answered without authentication")
        return self.key

    @property
    def site(self) -> str:
        """Return scheme and host of links: the client's own, or another one that a setting asks for."""
        return self.state.settings.links_host or self.base_url

    def link(self, **changes: int | str | None) -> str:
        """Return the absolute address of this request with other query parameters, sorted as PostHog does.

        :param changes: new values by name; None takes the parameter away.
        """
        query = {k: v for k, v in parse_qsl(self.query_string, keep_blank_values=True) if k != "personal_api_key"}
        for name, value in changes.items():
            query.pop(name, None)
            if value is not None:
                query[name] = str(value)
        text = urlencode(sorted(query.items()))
        return f"{self.site}{self.path}" + (f"?{text}" if text else "")
