"""PostHog's error answers: one envelope, written in one place."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """An answer that is an error.

    :param status: the HTTP status.
    :param body: the JSON body; None for an empty body, as some of PostHog's 405 answers have.
    :param headers: further headers.
    """

    def __init__(self, status: int, body: Json | None, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body
        self.headers = headers or {}


def envelope(kind: str, code: str, detail: str, attr: str | None = None) -> Json:
    """Return the body that nearly every error of PostHog has.

    :param kind: its ``type``, e.g. ``validation_error``.
    :param code: its ``code``, e.g. ``invalid_input``.
    :param detail: the sentence for people.
    :param attr: the field that is wrong, or None.
    """
    return {"type": kind, "code": code, "detail": detail, "attr": attr}


def not_found(detail: str = "Not found.") -> ApiError:
    """Return the 404 of an object that is not there or not visible.

    :param detail: the sentence for people.
    """
    return ApiError(404, envelope("invalid_request", "not_found", detail))


def invalid(detail: str, code: str = "invalid_input", attr: str | None = None) -> ApiError:
    """Return the 400 of a request that does not make sense.

    :param detail: the sentence for people.
    :param code: the machine's word for it.
    :param attr: the field that is wrong, or None.
    """
    return ApiError(400, envelope("validation_error", code, detail, attr))


def unsupported_media_type(sent: str) -> ApiError:
    """Return the 415 of a body of a kind that PostHog does not read.

    :param sent: its ``Content-Type``.
    """
    detail = f'Unsupported media type "{sent}" in request.'
    return ApiError(415, envelope("invalid_request", "unsupported_media_type", detail))


def parse_error(detail: str) -> ApiError:
    """Return the 400 of a body that is not JSON, or not a query that the schema knows.

    :param detail: what the parser says.
    """
    return ApiError(400, envelope("invalid_request", "parse_error", f"JSON parse error - {detail}"))


def forbidden(detail: str) -> ApiError:
    """Return the 403 of a valid key that may not do this. Its ``type`` is the one of 401 answers too.

    :param detail: the sentence for people.
    """
    return ApiError(403, envelope("authentication_error", "permission_denied", detail))


def missing_scope(scope: str) -> ApiError:
    """Return the 403 of a key that lacks a scope.

    :param scope: the scope, such as ``export:write``.
    """
    return forbidden(f"API key missing required scope '{scope}'")


def not_for_keys() -> ApiError:
    """Return the 403 of an action that declares no scope, which keys may never do."""
    return forbidden("This action does not support Personal API Key access")


def throttled(detail: str, retry_after: int | None = None) -> ApiError:
    """Return a 429.

    :param detail: the sentence for people.
    :param retry_after: seconds for the ``Retry-After`` header; None for the 429 answers that carry none.
    """
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return ApiError(429, envelope("throttled_error", "throttled", detail), headers)


def server_error() -> ApiError:
    """Return PostHog's 500."""
    return ApiError(500, envelope("server_error", "error", "A server error occurred."))
