"""What tasks tell a certificate beside their work: texts of somebody's, deadlines, timeouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError

if TYPE_CHECKING:
    from datetime import datetime

    from airflow_provider_posthog.tasks.certificate import Certificate

#: The longest text in a certificate, in characters.
MAX_TEXT = 500


def checked_text(field: str, value: object, longest: int) -> str:
    """Check a text that is to stand in a certificate as somebody wrote it.

    :param field: the argument.
    :param value: the text.
    :param longest: how many characters it may have.
    :raises PostHogSettingsError: if it is empty or too long.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text or len(text) > longest:
        raise PostHogSettingsError(
            field,
            f"is empty, or longer than {longest} characters.",
            "Write a sentence for whoever reads the certificate, without personal data.",
        )
    return text


def warn_of_deadline(certificate: Certificate | None, request: Any, now: datetime | None, log: Any) -> None:  # noqa: ANN401 - JSON, a logger
    """Say that a request is due soon, or over: PostHog's part may take longer than there is time.

    :param certificate: its certificate, which is told, too, and knows of an extension.
    :param request: what an earlier task returned, where there is no certificate.
    :param now: the server's time.
    :param log: the task's log.
    """
    from airflow_provider_posthog.audit.deadline import Deadline, today

    deadline = None if certificate is not None else Deadline.from_facts(request)
    warning = certificate.warned(today(now)) if certificate else deadline.warning(today(now)) if deadline else None
    if warning:
        log.warning("%s", warning)


def note_timeout(
    find: Callable[[], Certificate | None],
    text: str,
    states: Mapping[str, int],
    log: Any,  # noqa: ANN401 - a logger
) -> None:
    """Tell a certificate that nobody waits for the proof any more. An error is logged only: the timeout is the news.

    :param find: returns the certificate.
    :param text: what the last look found.
    :param states: how many persons were in which state.
    :param log: the task's log.
    """
    try:
        certificate = find()
        if certificate is not None:
            certificate.timed_out(text, states)
    except PostHogError:
        log.warning("The certificate could not be told of the timeout", exc_info=True)
