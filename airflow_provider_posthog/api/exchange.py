"""One call from its first attempt to its value or error, without sockets: both clients are thin shells around it."""

from __future__ import annotations

import json
import logging
import math
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

import airflow_provider_posthog
from airflow_provider_posthog.api.budget import MINUTE, Waiting, reservations_of
from airflow_provider_posthog.api.byte_budget import EXCEEDED, BudgetHeaders, ByteBudget
from airflow_provider_posthog.api.call import Answer, Call
from airflow_provider_posthog.api.pace import place_of
from airflow_provider_posthog.api.retry import (
    NoAnswer,
    RetryPolicy,
    Wait,
    decide,
    is_over_quota,
    lacks_slot,
    retry_after,
)
from airflow_provider_posthog.api.settings import ClientSettings, Role, is_secret_key
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogError,
    PostHogQuotaError,
    PostHogRateLimitError,
    PostHogSettingsError,
    PostHogTransportError,
    clean,
    error_for_status,
)

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Seconds after which a waiting poll asks again how long: others may have left the queue.
_SLICE = 15.0

USER_AGENT = f"airflow-provider-posthog/{airflow_provider_posthog.__version__}"


@dataclass(frozen=True)
class Done(Generic[T]):
    """The call's value.

    :param value: what ``Call.read`` made of the answer.
    """

    value: T


class Exchange(Generic[T]):
    """The attempts at one call.

    :param call: the call.
    :param settings: where to send it, and with which key.
    :param policy: how patient to be.
    :param role: who sends it; the triggerer waits for no reservation that is more than a minute away, and asks again.
    :raises PostHogSettingsError: if the call's body cannot be written as JSON.
    """

    def __init__(self, call: Call[T], settings: ClientSettings, policy: RetryPolicy, *, role: Role = "worker") -> None:
        self.call = call
        self.path = call.path if call.path.startswith("/") else settings.project_path() + call.path
        query = call.query_string()
        self.url = f"{settings.base_url}{self.path}{'?' + query if query else ''}"
        self.body = call.content if call.json is None else _json_bytes(call.json)
        self.headers = {**({} if self.body is None else {"Content-Type": "application/json"}), **call.headers}
        self._shown = f"{call.method} {clean(self.path)}"
        self._host = host_of(settings.base_url)
        self._of_secret_key = is_secret_key(settings.api_key)
        self._last: Answer | NoAnswer | None = None
        self._policy = policy
        self._reservations = reservations_of(settings, call.bucket, role=role, reserve=policy.reserve)
        self._place = place_of(settings, call.bucket, role=role) if policy.polls else None
        self._longest = MINUTE if role == "triggerer" else math.inf
        self._bytes = ByteBudget.of(settings)
        self._heeds_bytes = settings.rate_limit_share != 0
        self._began: float | None = None
        self._attempt = 0
        self._waited = 0.0
        self._paced = 0.0
        #: Seconds for which it is held back now, as far as is known.
        self.held = 0.0

    def pause(self) -> float:
        """Return how many seconds to wait before the next attempt, to keep within the project's budgets.

        Call it before each attempt, and again after waiting, until it is 0. The waits count against
        ``max_rate_limit_wait``, as those after a 429 do. The caller has to :meth:`close`.

        :raises PostHogRateLimitError: if the wait would be longer than that, at once, so that Airflow can wait in the
            worker's place.
        """
        paced = self._pause_of_poll()
        if paced:
            return paced
        patience = min(max(0.0, self._policy.max_rate_limit_wait - self._waited), self._longest)
        waiting = self._bytes_left()
        if waiting.seconds == 0 and self._reservations is not None:
            waiting = self._reservations.wait(patience)
        if waiting.seconds > self._policy.gives_way:
            waiting = self._go_all_the_same(waiting)
        self.held = waiting.seconds
        if waiting.seconds == 0:
            return 0.0
        self._end()
        if waiting.seconds > patience:
            raise self._over_budget(waiting)
        self._waited += waiting.seconds
        return waiting.seconds

    def _go_all_the_same(self, waiting: Waiting) -> Waiting:
        """Send without a reservation: PostHog may refuse the call, but it was tried."""
        if waiting.of_bytes:
            self._began = time.monotonic()
            self._bytes.begin(self._began, force=True)
        if self._reservations is not None:
            self._reservations.go()
        return Waiting(0.0)

    def _pause_of_poll(self) -> float:
        if self._place is None:
            return 0.0
        self.held = self._place.wait()
        if not self.held:
            self._place = None
            return 0.0
        if self._paced + self.held > self._policy.max_pace_wait:
            raise self._over_budget(Waiting(self.held, "All that polls shares what is left of the hour evenly"))
        pause = min(self.held, _SLICE)
        self._paced += pause
        return pause

    def close(self) -> None:
        """Give back what the call holds of the budgets and did not use: it has ended, or was cancelled."""
        self._end()
        if self._reservations is not None:
            self._reservations.give_back()
        if self._place is not None:
            self._place.leave()

    def _bytes_left(self) -> Waiting:
        """Return how long to wait until PostHog has bytes left for a query; with no wait, it counts as in flight."""
        if self.call.bucket != "query":
            return Waiting(0.0)
        now = time.monotonic()
        wait = self._bytes.begin(now, force=not self._heeds_bytes)
        if wait == 0:
            self._began = now
            return Waiting(0.0)
        why = "PostHog answered 429, for they are used up" if self._bytes.is_closed(now) else "PostHog would refuse it"
        left = self._bytes.describe(now)
        reason = f"The project's budget of bytes is short: {why}{f' ({left})' if left else ''}"
        if self._bytes.begins_slowdown(now, wait):
            log.info("PostHog: a query waits for %.1f s. %s (logged once per slowdown)", wait, reason)
        return Waiting(wait, reason, of_bytes=True)

    def _end(self) -> float | None:
        """Record that the query is no longer in flight; return when it was sent."""
        began, self._began = self._began, None
        if began is not None:
            self._bytes.end()
        return began

    def _learn(self, outcome: Answer | NoAnswer) -> None:
        """Learn what an answer reports about the budgets."""
        began = self._end()
        if not isinstance(outcome, Answer):
            return
        retry_in = retry_after(outcome, datetime.now(timezone.utc)) if outcome.status == 429 else None
        now, budget = time.monotonic(), BudgetHeaders.by(outcome)
        if self._is_out_of_bytes(outcome):
            self._bytes.refuse(now, retry_in, budget)
        elif self._reservations and retry_in and not (lacks_slot(self.call, outcome) or is_over_quota(outcome)):
            self._reservations.close(retry_in)
        sent = began is not None
        if outcome.status != 429 and (sent or budget.remaining is not None):
            self._bytes.saw(now, budget, began=now if began is None else began, spent=sent)

    @staticmethod
    def _is_out_of_bytes(answer: Answer) -> bool:
        body = answer.json_or_none() if answer.status == 429 else None
        return isinstance(body, dict) and body.get("code") == EXCEEDED

    def receive(self, outcome: Answer | NoAnswer) -> Done[T] | Wait:
        """Take an attempt's outcome; return the value, or how long to wait before the next attempt.

        :param outcome: the answer, or that there was none.
        :raises PostHogError: if it is final.
        """
        self._attempt += 1
        if isinstance(outcome, Answer) and outcome.status < 200:
            outcome = NoAnswer(f"status {outcome.status} only announces an answer", sent=True)
        self._last = outcome
        self._learn(outcome)
        if isinstance(outcome, Answer) and self._is_good(outcome):
            return Done(self._read(outcome))
        step = decide(
            self.call,
            self._attempt,
            outcome,
            policy=self._policy,
            draw=random.random(),  # noqa: S311 - jitter
            now=datetime.now(timezone.utc),
            waited=self._waited,
        )
        if isinstance(step, Wait):
            self._waited += step.counted
            if isinstance(outcome, Answer) and outcome.status == 429:
                self._attempt -= 1  # nothing was tried: the server did not look at the call
            return step
        raise self._error(outcome)

    def error(self) -> PostHogError:
        """Return the error of the last attempt, where there is no time for another one."""
        return self._error(self._last or NoAnswer("it was not sent", sent=False))

    def _over_budget(self, waiting: Waiting) -> PostHogRateLimitError:
        ours, more = (
            "not PostHog but the connection's own rate budget says so",
            " rate_limit_share how much it may send",
        )
        if waiting.of_bytes:
            ours, more = "no call is sent that PostHog would refuse", " rate_limit_share=0 sends it all the same"
        return PostHogRateLimitError(
            status=429,
            method=self.call.method,
            path=self.path,
            code="own_budget",
            detail=(
                f"{ours}, and nothing was sent. {waiting.reason}; the next {self.call.bucket} call may go in "
                f"{waiting.seconds:.1f} s. Let Airflow retry the task after that, or change the connection: "
                f"max_rate_limit_wait is how long a task waits,{more}. See docs/limits.md."
            ),
            retry_after=waiting.seconds,
        )

    def _is_good(self, answer: Answer) -> bool:
        if 200 <= answer.status < 300:
            return True
        return bool(answer.status >= 400 and self.call.reads_error and self.call.reads_error(answer))

    def _read(self, answer: Answer) -> T:
        try:
            return self.call.read(answer)
        except PostHogTransportError as error:
            raise PostHogTransportError(f"{self._shown}: {error}, at {self._host}") from error

    def _error(self, outcome: Answer | NoAnswer) -> PostHogError:
        if isinstance(outcome, NoAnswer):
            times = f" ({self._attempt} attempts)" if self._attempt > 1 else ""
            text = f"{self._shown}: {outcome.reason}{times}, at {self._host}"
            return PostHogTransportError(text, sent=outcome.sent, too_large=outcome.too_large)
        now, is_of_bytes = time.monotonic(), self._is_out_of_bytes(outcome)
        error = error_of(outcome, self.call.method, self.path, message=self._bytes.describe(now) if is_of_bytes else "")
        if is_of_bytes and isinstance(error, PostHogAPIError) and error.retry_after is None:
            error.retry_after = self._bytes.until(now, 1.0)  # before that, nothing is sent anyway
        if isinstance(error, PostHogAPIError) and self._of_secret_key:
            error.of_secret_key = True
        return error


def host_of(url: str) -> str:
    """Return the host of an address, with its port, and without anything that may be secret.

    :param url: the address.
    """
    return clean(re.split(r"[/?#]", url.split("://", 1)[-1], maxsplit=1)[0].rsplit("@", 1)[-1])


def _json_bytes(value: Mapping[str, Any]) -> bytes:
    # Encoded here because the two HTTP libraries differ: one sends NaN, which is not JSON, and fails at lone
    # surrogates.
    try:
        return json.dumps(dict(value), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise PostHogSettingsError(
            "query",
            f"cannot be sent as JSON ({clean(error)}).",
            "Use text, finite numbers, lists and dictionaries.",
        ) from None


def error_of(answer: Answer, method: str, path: str, *, message: str = "") -> PostHogError:
    """Make the error for an answer of status 300 or more.

    PostHog's envelope is ``{type, code, detail, attr}``; some answers have ``error`` instead, 405 has no body, and a
    proxy's page is HTML.

    :param answer: the answer.
    :param method: the HTTP method.
    :param path: the path, without its query string.
    :param message: what else is known, as part of a sentence.
    """
    if answer.status < 400:
        target = re.split("[?#]", answer.headers.get("location", "nowhere"))[0]
        target = clean(re.sub("//[^/]*@", "//", target))
        return PostHogSettingsError(
            "host",
            f"is not where PostHog answers: {method} {clean(path)} is redirected to {target}.",
            "Write the address that PostHog really answers at (scheme, host and port) as the connection's host.",
        )
    body = answer.json_or_none()
    envelope: dict[str, Any] = body if isinstance(body, dict) else {}
    detail = _text_or_none(envelope.get("detail")) or _text_or_none(envelope.get("error"))
    if message:
        detail = f"{detail or 'No bytes are left.'} ({message})"
    kind = PostHogQuotaError if is_over_quota(answer) else error_for_status(answer.status)
    return kind(
        status=answer.status,
        method=method,
        path=path,
        code=_text_or_none(envelope.get("code")),
        detail=detail,
        attr=_text_or_none(envelope.get("attr")),
        request_id=answer.headers.get("x-request-id") or answer.headers.get("cf-ray"),
        retry_after=retry_after(answer, datetime.now(timezone.utc)),
    )


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
