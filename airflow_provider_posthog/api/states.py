"""Read every status that PostHog reports as pending, succeeded or failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import clean
from airflow_provider_posthog.patterns import pattern

State = Literal["pending", "succeeded", "failed"]


@dataclass(frozen=True)
class Verdict:
    """What a status means.

    :param state: ``pending``, ``succeeded`` or ``failed``.
    :param reason: why, fit for a log.
    :param final: ``False`` for a failure that PostHog itself may still turn into a success.
    """

    state: State
    reason: str = ""
    final: bool = True


# PostHog's exporter retries what it does not know to be the user's fault (first after 30 s, for at most 35 minutes) and
# then clears `exception`. These texts come from faults that no retry repairs.
_LASTING_EXPORT_FAILURES = pattern(
    r"^'path'$|is not supported for|could not verify its original authorization|exceeds the maximum of"
    r"|[Uu]nable to resolve|[Uu]nknown table|[Uu]nsupported function|no viable alternative|Query size exceeded"
    r"|memory limit|Timeout exceeded"
)


def of_export(export: Mapping[str, Any]) -> Verdict:
    """Read an export.

    ``has_content`` wins over ``exception``: a retried export keeps the old text for a while. Servers before 2025 have
    no ``exception`` at all and never say that an export failed.

    :param export: PostHog's answer to ``exports.retrieve``.
    """
    if export.get("has_content") is True:
        return Verdict("succeeded")
    exception = export.get("exception")
    if isinstance(exception, str) and exception:
        return Verdict("failed", clean(exception), final=bool(_LASTING_EXPORT_FAILURES.search(exception)))
    return Verdict("pending")


def of_query(status: Mapping[str, Any]) -> Verdict:
    """Read the ``query_status`` of an asynchronous query.

    ``error`` is checked first: PostHog leaves ``complete`` false in some failures.

    :param status: the object ``query_status``.
    """
    if status.get("error"):
        return Verdict("failed", clean(status.get("error_message") or "PostHog gives no reason (an internal failure)"))
    return Verdict("succeeded") if status.get("complete") is True else Verdict("pending")


#: PostHog's statuses of a running batch export.
_LIVE_RUNS = frozenset({"Starting", "Running", "ContinuedAsNew"})
_RUN_FAILURES = {
    "FailedBilling": (
        "the organization's quota of exported rows is used up: raise the billing limit in PostHog, or wait for the "
        "next period"
    ),
    "FailedRetryable": "it failed for a passing reason, and PostHog's own retries did not help",
    "Cancelled": "somebody cancelled it",
    "TimedOut": "PostHog gave it up after too long a time",
    "Terminated": "it was ended from outside",
    "Failed": "it failed",
}


def of_file_download(download: Mapping[str, Any]) -> Verdict:
    """Read a file download.

    PostHog shows ``Completed`` only once the files are available; ``Completed`` without files means that there was no
    data. A status that is not known yet is waited out, up to the task's deadline.

    :param download: PostHog's answer to ``file_downloads.retrieve``.
    """
    return _of_status(download)


def of_run(run: Mapping[str, Any]) -> Verdict:
    """Read a run of a batch export, or a backfill.

    ``Completed`` of a backfill means that it has ended; its runs may have failed. ``FailedRetryable`` may be repaired
    by PostHog itself, with another run of the interval. ``ContinuedAsNew`` is still running.

    :param run: with ``status``, and perhaps ``failed`` (records), ``error``.
    """
    failed = run.get("failed")
    if run.get("status") == "Completed" and isinstance(failed, int) and failed > 0:
        return Verdict("failed", f"Completed, but {failed:,} records failed")
    verdict = _of_status(run)
    return replace(verdict, final=run.get("status") != "FailedRetryable")


def _of_status(job: Mapping[str, Any]) -> Verdict:
    status = str(job.get("status"))
    if status == "Completed":
        return Verdict("succeeded")
    if status not in _RUN_FAILURES:
        return Verdict("pending", "" if status in _LIVE_RUNS else f"in a status this provider does not know: {status}")
    error = job.get("error")
    reason = f"{status}: {_RUN_FAILURES[status]}"
    return Verdict("failed", f"{reason}. {clean(error)}" if isinstance(error, str) and error else reason)


def is_live(job: Mapping[str, Any]) -> bool:
    """Return whether a file download, or a run of a batch export, is still running.

    :param job: an object with a ``status``.
    """
    return str(job.get("status")) in _LIVE_RUNS


def failure_in(answer: Any) -> str | None:  # noqa: ANN401 - what Call.read made of an answer
    """Return why a calculation that PostHog answered with 200 failed, or ``None``.

    A failed insight is answered like a good one, with ``query_status.error``; a failed query may carry ``error``.

    :param answer: the answer to ``insights.retrieve``, ``queries.start`` and the like.
    """
    if not isinstance(answer, Mapping):
        return None
    status = answer.get("query_status")
    if isinstance(status, Mapping) and status.get("error"):
        return of_query(status).reason
    error = answer.get("error")
    return clean(error) if isinstance(error, str) and error else None
