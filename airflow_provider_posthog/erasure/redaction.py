"""Errors without what PostHog wrote in them: it quotes what it was sent, and that names persons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError, PostHogPermissionError
from airflow_provider_posthog.results.heaviness import is_too_heavy

_HIDDEN = "PostHog's reason is not shown, as it could name a person."
_WORD = re.compile(r"[a-z_]{1,60}")
#: What PostHog says of a key or of too many requests: whole sentences, with nothing in them that was sent.
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
    """Let the errors of a block pass without what PostHog wrote in them."""
    try:
        yield
    except PostHogError as error:
        redact(error)
        raise


def redact(error: PostHogError) -> None:
    """Take out of an error, and of those behind it, what PostHog wrote.

    What the missing scope is, and how long to wait, stays, as does what PostHog says to everybody in the same words,
    and of which kind a refusal is. Doing it twice changes nothing.

    :param error: the error.
    """
    one: BaseException | None = error
    while one is not None:  # a traceback shows those behind it too
        if isinstance(one, PostHogAPIError):
            _hide(one)
        one = one.__cause__ or one.__context__


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
    """Say of which kind a refusal is, in words that those who act on it find again."""
    if _UNKNOWN_TABLE.search(detail):
        yield "Unknown table."
    if is_too_heavy(error):
        yield "It is too large for the server."
    if (most := _TOO_MANY.search(detail)) is not None:
        yield f"You can only pass {int(most[1])} at once."
