"""Send events in batches, and take PostHog's verdict on each: only events that it wants again are sent again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from airflow_provider_posthog.api.clients import Client
from airflow_provider_posthog.api.exchange import host_of
from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.capture.events import Event, shown
from airflow_provider_posthog.capture.wire import (
    LARGEST_BODY,
    PageError,
    Verdict,
    batch_call,
    new_request_id,
    sending_settings,
    unknown_token,
    v1_call,
    word_of,
)
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogAuthenticationError,
    PostHogError,
    PostHogIncompleteError,
    PostHogNotFoundError,
    PostHogServerError,
    PostHogSettingsError,
    PostHogValidationError,
)

log = logging.getLogger(__name__)

#: Events of a batch.
MOST_EVENTS = 2_000
#: How often events that PostHog wants again are sent, and the longest pause between, in seconds.
MOST_ATTEMPTS = 8
_LONGEST_PAUSE = 30.0
#: Reasons for which halving a refused batch does not help.
_OF_REQUEST = frozenset(
    {
        "empty_batch",
        "empty_body",
        "invalid_api_token",
        "invalid_batch",
        "invalid_header_value",
        "missing_api_token",
        "missing_required_headers",
        "request_decoding_error",
        "request_parsing_error",
        "unsupported_content_type",
        "unsupported_encoding",
    }
)
#: After this many single events are refused in a row, the events are not the cause.
_MOST_REFUSED = 50


@dataclass
class Pace:
    """Limits the number of events a second.

    :param per_second: how many; ``None`` for as many as go.
    :param clock: returns the time.
    :param sleep: waits.
    """

    per_second: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _free_at: float = field(default=0.0, init=False)

    def go(self, count: int) -> None:
        """Wait until events may be sent.

        :param count: how many.
        """
        if self.per_second is None:
            return
        now = self.clock()
        if self._free_at > now:
            self.sleep(self._free_at - now)
        self._free_at = max(now, self._free_at) + count / self.per_second


class Sender:
    """Sends events into one project. Close it, or use it in a ``with``.

    :param settings: the connection.
    :param token: the project's token.
    :param historical: whether the events are a migration of old ones.
    :param per_second: the most events a second.
    """

    def __init__(
        self,
        settings: ClientSettings,
        token: str,
        *,
        historical: bool = False,
        per_second: float | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._client = Client(sending_settings(settings, token))
        self._host = host_of(self._client.settings.base_url)
        self._token = token
        self._historical = historical
        self._pace = pace or Pace(per_second)
        self._refused_in_a_row = 0
        #: Whether PostHog answers for each event; ``None`` before the first answer.
        self.has_verdicts: bool | None = None

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, events: Sequence[Event], said: dict[bytes, Verdict] | None = None) -> list[Verdict]:
        """Send events, and again those that PostHog wants again.

        :param events: of different uuids.
        :param said: is given the verdicts by uuid as they come, also if sending fails afterwards.
        :returns: a verdict for each: ``ok``, ``warning``, ``drop`` or, where PostHog says nothing, ``sent``.
        :raises PostHogSettingsError: if the server does not know the token.
        :raises PostHogIncompleteError: if it wants some again and again.
        :raises PostHogError: if it does not answer, or refuses all of them.
        """
        verdicts = {} if said is None else said
        for some in self._batches(events):
            self._send_batch(some, verdicts)
        return [verdicts[event.uuid] for event in events]

    @staticmethod
    def _batches(events: Sequence[Event]) -> list[list[Event]]:
        batches: list[list[Event]] = [[]]
        size = 0
        for event in events:
            if batches[-1] and (size + len(event.body) > LARGEST_BODY or len(batches[-1]) >= MOST_EVENTS):
                batches.append([])
                size = 0
            batches[-1].append(event)
            size += len(event.body) + 50
        return [some for some in batches if some]

    def _send_batch(self, events: list[Event], verdicts: dict[bytes, Verdict]) -> None:
        request_id, left = new_request_id(), events
        for attempt in range(1, MOST_ATTEMPTS + 1):
            again, wait = self._attempt(left, verdicts, attempt, request_id)
            if not again:
                return
            log.info("PostHog wants %d of %d events again (%s)", len(again), len(left), _why(again, verdicts))
            left = again
            if attempt < MOST_ATTEMPTS:
                time.sleep(min(_LONGEST_PAUSE, max(wait, 0.1) * 2 ** (attempt - 1)))
        raise PostHogIncompleteError(
            f"PostHog wants {len(left)} events again after {MOST_ATTEMPTS} attempts ({_why(left, verdicts)}). What it "
            "took is noted; a retry of the task goes on with these."
        )

    def _attempt(
        self, events: list[Event], verdicts: dict[bytes, Verdict], attempt: int, request_id: str
    ) -> tuple[list[Event], float]:
        """Send events once; return which PostHog wants again, and after how many seconds."""
        self._pace.go(len(events))
        try:
            outcome, wait = self._post(events, attempt, request_id)
        except (PostHogValidationError, PostHogAPIError) as error:
            return self._refused(events, verdicts, error), 1.0
        self._refused_in_a_row = 0
        for event in events:
            verdicts[event.uuid] = outcome.get(shown(event.uuid), Verdict("sent"))
        return [event for event in events if verdicts[event.uuid].result == "retry"], wait

    def _post(self, events: list[Event], attempt: int, request_id: str) -> tuple[dict[str, Verdict], float]:
        bodies = [event.body for event in events]
        if self.has_verdicts is not False:
            try:
                call = v1_call(bodies, historical=self._historical, attempt=attempt, request_id=request_id)
                answer = self._client.send(call)
            except PostHogError as error:
                if self.has_verdicts or not _is_no_v1(error):
                    raise
                log.info(
                    "PostHog at %s has no capture V1: events go to /batch/, and are proved only afterwards", self._host
                )
            else:
                self.has_verdicts = True
                return dict(answer.by_uuid), answer.wait
        self._client.send(batch_call(bodies, self._token, historical=self._historical))
        self.has_verdicts = False
        return {}, 1.0

    def _refused(self, events: list[Event], verdicts: dict[bytes, Verdict], error: PostHogAPIError) -> list[Event]:
        """Handle a refused batch: send it in halves until the event that PostHog refuses is found."""
        reason = (
            word_of(error.code if error.code and error.code != "invalid_input" else error.detail)
            or f"status_{error.status}"
        )
        self._raise_what_no_half_mends(error, reason)
        if len(events) == 1:
            self._refused_in_a_row += 1
            if self._refused_in_a_row > _MOST_REFUSED:
                raise error
            verdicts[events[0].uuid] = Verdict("drop", reason)
            return []
        half = len(events) // 2
        for part in (events[:half], events[half:]):
            self._send_batch(part, verdicts)
        return []

    def _raise_what_no_half_mends(self, error: PostHogAPIError, reason: str) -> None:
        if isinstance(error, PostHogAuthenticationError):
            raise unknown_token(self._host) from None
        splits = isinstance(error, PostHogValidationError) or error.status == 413
        if not splits or reason in _OF_REQUEST or isinstance(error, PostHogServerError):
            raise error


def _is_no_v1(error: PostHogError) -> bool:
    """Tell whether a server does not know capture V1: its app answers in its place, perhaps with a page."""
    if not isinstance(error, PostHogAPIError):
        is_redirected = isinstance(error, PostHogSettingsError) and error.field == "host"
        return is_redirected or isinstance(error.__cause__, PageError)
    if error.status == 403:  # the page of a form without its cookie
        return error.code is None and error.detail is None
    return isinstance(error, PostHogNotFoundError) or error.status in (405, 501)


def _why(events: Sequence[Event], verdicts: dict[bytes, Verdict]) -> str:
    return ", ".join(
        sorted({verdicts[event.uuid].details or "no reason" for event in events if event.uuid in verdicts})
    )
