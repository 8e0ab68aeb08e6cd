"""Everything this provider raises.

None of these is an ``AirflowException``: a deferred sensor with ``soft_fail`` would turn a failed PostHog job into
"skipped" (apache/airflow#71255). Every message says what happened, to which object, and what to do; none holds the
key, a query string, or more of PostHog's answer than :func:`clean` lets through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from airflow_provider_posthog.patterns import pattern

#: The page that explains each class of error, under a heading of its name.
TROUBLESHOOTING = (
    "https://github.com/airflow-provider-posthog/airflow-provider-posthog/blob/main/docs/troubleshooting.md"
)
_MAX_DETAIL = 500
# What is looked at of a text: the patterns below are not meant for megabytes.
_MAX_READ = 4000
_MAX_SECRET = 320
# A key may follow anything but a letter ("%22phx_...", "_phx_..."), a long one a letter too (the n of an escaped "\n").
_SECRETS = pattern(
    r"(?<![A-Za-z])ph[a-z]_[A-Za-z0-9_-]{6,}|ph[a-z]_[A-Za-z0-9]{20,}|(?i:(?<![A-Za-z])bearer(?:\s|%20)+\S+)"
)
_EMAILS = pattern(
    r"(?:\"[^\"\s]{1,64}\"|[^\s@'\"<>(),;=/?&]{1,64})(?:@|%40)[^\s@'\"<>(),;=/?&]{1,250}\.(?:xn--[a-z0-9-]{2,}|[^\W\d_]{2,})"
)
# What opens a presigned address, and what else may stand behind the question mark of any address.
_QUERIES = pattern(r"(?i)\b([a-z][a-z0-9+.-]{1,15}://[^\s?'\"<>]{1,2000})\?[^\s'\"<>]+")
_CREDENTIALS = pattern(r"(?i)\b([a-z][a-z0-9+.-]{1,15}://)[^\s/?#'\"<>@]{1,500}@")
_SIGNATURES = pattern(
    r"(?i)((?:X-(?:Amz|Goog|Oss|Ms)-[A-Za-z-]{1,40}|(?:AWS|OSS)AccessKeyId|GoogleAccessId|Key-Pair-Id|"
    r"(?<![A-Za-z])(?:Signature|sig|Policy|hdnts|access_token|token))(?:=|%(?:25)?3D))[^&\s'\"<>,;]+"
)

#: A person's UUID in an address: whoever knows a distinct id can calculate it.
PERSON_PATHS = pattern(r"(?i)(/persons?/)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f-])")


def clean(text: object) -> str:
    """Make text from a server fit for a log: no keys, signatures, e-mail addresses and persons, at most 500 characters.

    :param text: what PostHog or a library said.
    """
    whole = str(text).encode("utf-8", "replace").decode()  # a lone surrogate would break the log it is written to
    shown = _QUERIES.sub(r"\1?<hidden>", _CREDENTIALS.sub(r"\1", whole[:_MAX_READ]))
    shown = _EMAILS.sub("<e-mail>", _SIGNATURES.sub(r"\1<hidden>", _SECRETS.sub("<key>", shown)))
    shown = PERSON_PATHS.sub(r"\1<uuid>", shown)
    if len(whole) > _MAX_READ:
        shown = shown[:-_MAX_SECRET]  # the end may be half an address
    if len(shown) <= _MAX_DETAIL and len(whole) <= _MAX_READ:
        return shown
    return f"{shown[:_MAX_DETAIL]}... ({len(whole)} characters)"


def _restore(kind: type[PostHogError], args: tuple[object, ...], state: dict[str, Any]) -> PostHogError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class PostHogError(Exception):
    """The root of this provider's errors. They survive ``pickle`` and ``copy`` with all their attributes."""

    @property
    def docs(self) -> str:
        """The address of what to do about this class of error. A failed task's log has it."""
        known = next(kind for kind in type(self).__mro__ if kind.__module__ == __name__)
        return f"{TROUBLESHOOTING}#{known.__name__.lower()}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.args, self.__dict__.copy())


class PostHogSettingsError(PostHogError, ValueError):
    """A connection or an argument is wrong, found before anything was sent.

    :param field: the connection field or argument.
    :param problem: what is wrong with it.
    :param remedy: what to write instead.
    """

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(field, problem, remedy)
        self.field = field
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.field}: {self.problem} {self.remedy}"


class PostHogTransportError(PostHogError):
    """No usable answer arrived: refused, cut, timed out, or not PostHog.

    :param message: what happened, to which call.
    :param sent: whether the server may have received the request, and so may have done the work.
    :param too_large: whether there was an answer, larger than its call allows, that was not read to its end.
    """

    def __init__(self, message: str, *, sent: bool = True, too_large: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.too_large = too_large


#: What a key without a person may do, of the tasks of this provider.
TASKS_WITHOUT_PERSON = (
    "PostHogQueryOperator, PostHogQueryToObjectStorageOperator, PostHogToSqlOperator and the SQL operators (scope "
    "query:read), and PostHogRunEndpointOperator (endpoint:read)"
)
_WITHOUT_PERSON = (
    "The connection's key is a project secret key (phs_...), which belongs to no person. It can serve "
    f"{TASKS_WITHOUT_PERSON}. Use a personal API key (phx_...) for anything else. If the task is one of these, check "
    "that the key is still in PostHog's list, and that the host is its region."
)


class PostHogAPIError(PostHogError):
    """PostHog answered with an error.

    :param status: the HTTP status.
    :param method: the HTTP method of the call.
    :param path: the path of the call, without its query string.
    :param code: PostHog's error code, such as ``invalid_input``.
    :param detail: PostHog's sentence, cleaned of keys and e-mail addresses.
    :param attr: the field that PostHog complains of.
    :param request_id: PostHog's or the proxy's id of the request, for a support ticket.
    :param retry_after: seconds PostHog asked to wait.
    """

    #: Whether it was asked with a project secret key.
    of_secret_key = False

    def __init__(
        self,
        *,
        status: int,
        method: str,
        path: str,
        code: str | None = None,
        detail: str | None = None,
        attr: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.method = method
        self.path = clean(path)
        self.code = clean(code) if code else None
        self.detail = clean(detail) if detail else None
        self.attr = clean(attr) if attr else None
        self.request_id = clean(request_id) if request_id else None
        self.retry_after = retry_after
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [f"{self.method} {self.path} answered {self.status}"]
        if self.code:
            parts.append(f"({self.code})")
        if self.attr:
            parts.append(f"for {self.attr!r}")
        text = " ".join(parts)
        if self.detail:
            text += f": {self.detail}"
        hint = self.hint()
        if hint:
            text += f" {hint}" if text[-1] in ".!?" else f". {hint}"
        return f"{text} [request {self.request_id}]" if self.request_id else text

    def hint(self) -> str:
        """Say what the user can do about it; empty where PostHog's own sentence is enough."""
        return ""


class PostHogAuthenticationError(PostHogAPIError):
    """401: no key, or one PostHog does not know."""

    def hint(self) -> str:
        """Say where a key goes, or what a key of this kind can serve."""
        if self.of_secret_key:
            return _WITHOUT_PERSON
        return (
            "Put a personal API key (phx_..., PostHog: Settings > Personal API keys) in the connection's password, "
            "and check that its host is the region the key belongs to."
        )


class PostHogPermissionError(PostHogAPIError):
    """403: the key lacks a scope or the project."""

    @property
    def scope(self) -> str | None:
        """The scope PostHog names as missing, such as ``query:read``."""
        match = re.search(r"scope '([\w:]+)'", self.detail or "")
        return match.group(1) if match else None

    def hint(self) -> str:
        """Name the scope to add, or what a key of this kind can serve."""
        if self.of_secret_key:
            return _WITHOUT_PERSON
        if self.scope:
            return f"Add the scope {self.scope} to the personal API key, or use a key that has it."
        return "The key may not be allowed to use this project or endpoint: check its scopes and projects."


class PostHogNotFoundError(PostHogAPIError):
    """404: it does not exist, has expired, or another user's key made it."""

    def hint(self) -> str:
        """Say what to look at, where it is the connection rather than the thing."""
        said = (self.detail or "").lower()
        if re.fullmatch(r"/api/\w+/\d+/", self.path) or said.startswith("project not found"):
            return "Check the connection's project_id, and that its host is the region where the project is."
        if "route not found" in said or "api endpoint not found" in said:
            return "Check the connection's host: it may be no PostHog, or an old one."
        return ""


class PostHogValidationError(PostHogAPIError):
    """400: PostHog refuses the request as it is; sending it again cannot help."""


class PostHogRateLimitError(PostHogAPIError):
    """429: too many requests; ``retry_after`` says how many seconds PostHog asked to wait, where it said so."""

    def hint(self) -> str:
        """Say how long to wait, and who can."""
        if self.code == "own_budget":
            return ""  # its own sentence says so
        if self.code == "api_queries_budget_exceeded":
            return _out_of_bytes(self.retry_after)
        if self.retry_after is None:
            return "PostHog does not say for how long. A later retry of the task may pass."
        return _asked_to_wait(self.retry_after)


class PostHogQuotaError(PostHogAPIError):
    """402, or a 429 of a billing limit: the organization's quota is used up."""

    def hint(self) -> str:
        """Say who can help."""
        over = "The team is over its billing limit, which no wait of a task mends. " if self.status == 429 else ""
        return f"{over}Raise the billing limit in PostHog, or wait for the next period."


class PostHogServerError(PostHogAPIError):
    """5xx: PostHog failed; ``retry_after`` says how many seconds it asked to wait, where it said so."""

    def hint(self) -> str:
        """Say how long to wait, if PostHog did."""
        return "" if self.retry_after is None else _asked_to_wait(self.retry_after)


def _out_of_bytes(seconds: float | None) -> str:
    wait = "" if seconds is None else f" in {seconds:,.0f} s"
    return (
        "This is PostHog's budget of bytes that ClickHouse reads for queries; all personal API keys of the project "
        f"draw on it, and it refills all the time. Let Airflow retry the task{wait} (retry_delay), or raise the "
        "connection's max_rate_limit_wait, for which a task itself waits. Let queries read less: bounds on timestamp, "
        "fewer columns; or take exports of files, which do not draw on it. See docs/limits.md."
    )


def _asked_to_wait(seconds: float) -> str:
    return (
        f"PostHog asked to wait {seconds:,.0f} s; a retry before that is likely to be refused again. Let Airflow retry "
        "the task after that (retry_delay), or raise the connection's max_rate_limit_wait, for which a task itself "
        "waits."
    )


class PostHogJobError(PostHogError):
    """A job on PostHog's side did not end well.

    :param message: what happened.
    :param job_id: the job's id on PostHog.
    """

    def __init__(self, message: str, *, job_id: str | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id


class PostHogJobFailed(PostHogJobError):
    """PostHog says that the job failed, was cancelled, or is gone."""

    #: Whether a retry of the task would only see the same again.
    lasting: bool = False


class PostHogJobTimeout(PostHogJobError):
    """The job did not end in the time it was given."""


class PostHogErasureError(PostHogJobFailed):
    """Somebody was not erased as asked, or it cannot be proved.

    :param message: what happened, with counts and person UUIDs; no other identifiers.
    :param job_id: the request's id.
    :param states: how many persons are in which state, such as ``{"VERIFIED": 9, "SURVIVORS": 1}``.
    """

    def __init__(self, message: str, *, job_id: str | None = None, states: Mapping[str, int] | None = None) -> None:
        super().__init__(message, job_id=job_id)
        self.states = dict(states or {})


class PostHogIncompleteError(PostHogError):
    """Fewer rows or bytes landed than there are, or it cannot be proved that all did.

    :param message: what happened.
    :param lasting: whether a retry cannot help, as somebody has to decide: PostHog hides rows, or has far fewer than
        those that they would replace.
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class NotSettled(Exception):
    """Rows that are to be read have not settled, and whoever reads does not wait so long. Nothing failed: come back.

    Tasks never fail with it. They are deferred until then.

    :param until: when they have settled, aware.
    """

    def __init__(self, until: datetime) -> None:
        super().__init__(until)
        self.until = until


class PostHogLoadError(PostHogError):
    """The database refused the load, or what it holds does not match. Its text holds no value of any row.

    :param message: what happened.
    :param sqlstate: the database's code of the error, where it has one.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class PostHogDeprecatedEndpointWarning(UserWarning):
    """PostHog keeps the endpoint only for old clients, and it has traps that another way has not.

    No ``DeprecationWarning``: it is PostHog that deprecates, and Python hides those.
    """


def error_for_status(status: int) -> type[PostHogAPIError]:
    """Choose the class of error for an HTTP status.

    PostHog's ``type`` is no guide: it calls a 403 ``authentication_error`` too.

    :param status: the HTTP status, 300 or more.
    """
    known: dict[int, type[PostHogAPIError]] = {
        400: PostHogValidationError,
        401: PostHogAuthenticationError,
        402: PostHogQuotaError,
        403: PostHogPermissionError,
        404: PostHogNotFoundError,
        429: PostHogRateLimitError,
    }
    return known.get(status, PostHogServerError if status >= 500 else PostHogAPIError)
