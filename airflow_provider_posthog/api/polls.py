"""Polls: of one job, and of the list of all jobs of a kind, which answers for many at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Any

from airflow_provider_posthog.api.jobs import Asking, JobKind, Listing
from airflow_provider_posthog.api.retry import RetryPolicy
from airflow_provider_posthog.api.states import Verdict
from airflow_provider_posthog.api.steps import Send, Steps
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogError, PostHogTransportError

#: Rows of a page, and of the longest one that is requested; servers that return shorter ones are read page by page.
PAGE = 100
_LONGEST_PAGE = 500
#: The most pages to read.
_MOST_PAGES = 50
#: Fewer rows are not requested, however large they are: polling each job is better then.
_LEAST_ROWS = 10


@dataclass(frozen=True)
class Seen:
    """The outcome of a poll.

    :param verdict: the verdict, or the error of the poll.
    :param facts: the facts of a job that has succeeded.
    """

    verdict: Verdict | PostHogError
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Reading:
    """The outcome of reading a list.

    :param seen: the outcomes, by the jobs' ids.
    :param pages: how many calls it took.
    :param error: what ended it early.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    pages: int = 0
    error: PostHogError | None = None


def poll_job(kind: JobKind, job_id: str, policy: RetryPolicy) -> Steps[Seen]:
    """Poll one job.

    :param kind: its kind.
    :param job_id: its id.
    :param policy: how patient to be.
    """
    try:
        answer = yield from kind.asked(job_id, policy)
    except PostHogError as error:
        return Seen(kind.of_error(error))
    return seen_in(kind, answer)


def seen_in(kind: JobKind, answer: Mapping[str, Any]) -> Seen:
    """Judge PostHog's answer about a job.

    :param kind: its kind.
    :param answer: PostHog's answer.
    """
    verdict = kind.judge(answer)
    return Seen(verdict, kind.facts(answer) if verdict.state == "succeeded" else {})


class ListReader:
    """Reads a kind's list as far as needed to find the jobs that are waited for.

    :param kind: the kind.
    :param listing: its list.
    :param server: the server's address, for what is known about it.
    """

    def __init__(self, kind: JobKind, listing: Listing | Asking, server: str = "") -> None:
        self._kind = kind
        self._listing = listing
        self._server = server
        self._most = _LONGEST_PAGE
        self._depth = 0
        #: Whether this PostHog has the list, and it is not too large to be read.
        self.usable = True

    def read(self, ids: Collection[str], policy: RetryPolicy) -> Steps[Reading]:
        """Read pages until all ids were found, or until more pages would cost more than polling each of the rest.

        :param ids: the jobs' ids.
        :param policy: how patient to be with each page.
        """
        if isinstance(self._listing, Asking):
            return (yield from self._ask(self._listing, ids, policy))
        return (yield from self._read(self._listing, ids, policy))

    def _ask(self, asking: Asking, ids: Collection[str], policy: RetryPolicy) -> Steps[Reading]:
        reading = Reading(pages=1)
        try:
            rows = yield from asking.steps(ids, policy, self._server)
        except PostHogError as error:
            self.usable = not (isinstance(error, PostHogAPIError) and error.status in (400, 403, 404, 405))
            reading.error = error if self.usable else None
        else:
            reading.seen = {job_id: seen_in(self._kind, row) for job_id, row in rows.items()}
        return reading

    def _read(self, listing: Listing, ids: Collection[str], policy: RetryPolicy) -> Steps[Reading]:
        reading = Reading()
        left, offset, fruitless, depth = set(ids), 0, 0, self._depth
        self._depth = 0
        while left and reading.pages < _MOST_PAGES and fruitless <= len(left) // 10:
            reading.pages += 1
            rows = min(self._most, -(-max(PAGE, len(left), depth - offset) // PAGE) * PAGE)
            try:
                page: Mapping[str, Any] = yield Send(listing.page(offset, rows), policy)
            except PostHogError as error:
                if self._asks_for_less(error, rows):
                    continue
                reading.error = error if self.usable else None
                break
            listed = listing.rows(page, left)
            self._judge(listing, listed, reading)
            fruitless = 0 if len(listed) > 1 else fruitless + 1
            left -= listed.keys()
            for number, row in enumerate(page.get("results", ())):
                if isinstance(row, Mapping) and str(row.get("id")) in listed:
                    self._depth = offset + number + 1  # next time so many rows cover all that were found now
            offset += len(page.get("results", ()))
            if not page.get("next"):
                break
        return reading

    def _judge(self, listing: Listing, rows: Mapping[str, Mapping[str, Any]], reading: Reading) -> None:
        for job_id, row in rows.items():
            seen = seen_in(self._kind, row)
            pending = isinstance(seen.verdict, Verdict) and seen.verdict.state == "pending"
            if listing.tells_all or pending:
                reading.seen[job_id] = seen

    def _asks_for_less(self, error: PostHogError, rows: int) -> bool:
        if isinstance(error, PostHogTransportError) and error.too_large:
            self._most = rows // 3
            self.usable = self._most >= _LEAST_ROWS
            return self.usable
        if isinstance(error, PostHogAPIError) and error.status == 400 and rows > PAGE:
            self._most = PAGE  # PostHog's own page size
            return True
        self.usable = not (isinstance(error, PostHogAPIError) and error.status in (400, 404, 405))
        return False
