"""The one error a HogQL query can end in."""

from __future__ import annotations


class HogQLError(Exception):
    """A query PostHog would have refused, or could not run.

    :param detail: the text PostHog shows
    :param code: ``invalid_input`` for what HogQL itself refuses, else ClickHouse's own name of the error in lower
        case, such as ``type_mismatch``
    :param attr: the request field at fault, if there is one
    :param status: the HTTP status PostHog answers: 400 for errors it shows to users, 500 for those it hides
    """

    def __init__(self, detail: str, *, code: str = "invalid_input", attr: str | None = None, status: int = 400) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.attr = attr
        self.status = status


class UnsupportedError(HogQLError):
    """A statement that PostHog's grammar reads and its parser then refuses: no other reading of it is tried."""
