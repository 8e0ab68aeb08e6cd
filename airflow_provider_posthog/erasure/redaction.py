"""Remove PostHog's text from errors: it quotes what it was sent, which may hold personal data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError, PostHogPermissionError
from airflow_provider_posthog.results.heaviness import is_too_heavy

_HIDDEN = "PostHog's reason is not shown, as it could name a person."
_WORD = re.compile(r"[a-z_]{1,60}")
#: PostHog's sentences about a key or too many requests, which quote nothing that was sent.
_OF_NOBODY = re.compile(
    r"Authentication credentials were not provided\."
    r"|Personal API key found in request [A-Za-z ]{1,40} is invalid\."
    r"|(?:Request was throttled\.)?(?: ?Expected available in [0-9.]{1,12} seconds?\.)?"
    r"|Quota exceeded\.?"
)
_UNKNOWN_TABLE = re.compile(r"(?i)unknown table")
_TOO_MANY = re.compile(r"only pass (\d{1,9}) ")


@contextmanager
def redacted() -> Iterator[None]:
    """Redact the errors of a block."""
    try:
        yield
    except PostHogError as error:
        redact(error)
        raise


def redact(error: PostHogError) -> None:
    """Remove PostHog's text from an error and from its causes.

    The missing scope and the wait stay, as do PostHog's standard sentences and the kind of a refusal. Doing it twice
    changes nothing.

    :param error: the error.
    """
    cause: BaseException | None = error
    while cause is not None:  # a traceback shows the causes too
        if isinstance(cause, PostHogAPIError):
            _hide(cause)
        cause = cause.__cause__ or cause.__context__


def _hide(error: PostHogAPIError) -> None:
    scope = error.scope if isinstance(error, PostHogPermissionError) else None
    if scope is not None:
        error.detail = f"API key missing required scope '{scope}'"
    elif error.detail and error.code != "own_budget" and not _OF_NOBODY.fullmatch(error.detail):
        error.detail = " ".join([*_kinds(error, error.detail), _HIDDEN])
    for name in ("code", "attr"):
        if not _WORD.fullmatch(getattr(error, name) or ""):
            setattr(error, name, None)
    error.args = (str(error),)


def _kinds(error: PostHogAPIError, detail: str) -> Iterator[str]:
    """Yield the kinds of a refusal, in words that the callers recognize."""
    if _UNKNOWN_TABLE.search(detail):
        yield "Unknown table."
    if is_too_heavy(error):
        yield "It is too large for the server."
    if (most := _TOO_MANY.search(detail)) is not None:
        yield f"You can only pass {int(most[1])} at once."
