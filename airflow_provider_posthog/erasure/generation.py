"""Detect the generation of a PostHog server before anything is deleted, by calls that change nothing.

- **A**, until December 2025: deletes a person that it was asked to keep, ignores ``delete_recordings``, and has no
  list of queued deletions.
- **B**, until September 2026: keeps persons, deletes them within the request, and says who failed.
- **C**, since then, PostHog Cloud: as B, but persons are deleted after the answer. Only that answer shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from airflow_provider_posthog.api import persons
from airflow_provider_posthog.api.server_time import timed
from airflow_provider_posthog.erasure.client import ErasureClient
from airflow_provider_posthog.exceptions import (
    PostHogErasureError,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogValidationError,
)

Generation = Literal["A", "B", "C"]
_PROBE = "airflow-provider-posthog-probe"


@dataclass(frozen=True)
class Server:
    """A PostHog server.

    :param generation: ``A`` or ``B``; ``C`` answers like ``B`` until something is deleted.
    :param now: its time when it was asked.
    """

    generation: Generation
    now: datetime

    @property
    def can_keep_persons(self) -> bool:
        """Whether events and recordings can be deleted without the profile."""
        return self.generation != "A"

    @property
    def has_batches(self) -> bool:
        """Whether it looks up many persons at once, and lists the deletions that were asked for."""
        return self.generation != "A"


def detect(client: ErasureClient) -> Server:
    """Return the generation of a server, without changing anything.

    :param client: asks PostHog.
    :raises PostHogErasureError: if it answers like none that is known.
    :raises PostHogPermissionError: if the key lacks ``person:read``.
    """
    try:
        answer = client.send(timed(persons.deletion_status(limit=1)))
    except (PostHogValidationError, PostHogNotFoundError):
        return _oldest(client)
    return Server("B", _clock(answer.at))


def _clock(at: datetime | None) -> datetime:
    """Return the server's time; never guess it, as it separates events before and after a request."""
    if at is None:
        raise PostHogErasureError(
            "PostHog's answers have no Date, so that events before a deletion cannot be recognized. Nothing was "
            "deleted. Does a proxy remove it?"
        )
    return at


def _oldest(client: ErasureClient) -> Server:
    """Check that a server without a list of deletions is of the oldest generation."""
    answer = client.send(timed(persons.list(limit=1)))
    try:
        client.send(persons.batch_by_distinct_ids([_PROBE]))
    except PostHogNotFoundError:
        pass
    except PostHogPermissionError as error:
        if error.scope is not None:
            raise
    else:
        raise PostHogErasureError(
            "This server looks up many persons at once but lists no deletions, as no known version of PostHog does. "
            "Nothing was deleted, since it is not known whether it would keep a person that it is asked to keep."
        )
    return Server("A", _clock(answer.at))


def of_answer(answer: Mapping[str, Any], so_far: Generation) -> Generation:
    """Return the generation that the answer to ``persons.bulk_delete`` shows.

    :param answer: the answer.
    :param so_far: what was known before.
    """
    return "C" if "persons_queued_for_deletion" in answer else so_far
