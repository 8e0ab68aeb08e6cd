"""How far a task is that fills a static cohort: a text that its trigger carries, and that the task goes on from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_posthog.api.server_time import moment
from airflow_provider_posthog.api.watched import Watched
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogJobFailed, PostHogJobTimeout, PostHogSettingsError


@dataclass(frozen=True)
class Fill:
    """One statement's persons are being put into a cohort.

    :param cohort: its number.
    :param before: when it was calculated last before that, in seconds since 1970; ``0`` if never.
    :param done: how many statements were sent, this one among them.
    :param created: whether the task has made the cohort.
    :param digest: stands for all statements: a task that finds others when it goes on begins with the first again.
    """

    cohort: int
    before: str
    done: int
    created: bool
    digest: str

    def __str__(self) -> str:
        progress = f"{self.done}-{int(self.created)}-{self.digest}"
        return str(Watched("fill", (str(self.cohort), self.before, progress)))

    @classmethod
    def parse(cls, text: str) -> Fill:
        """Read the text.

        :param text: as ``str()`` wrote it.
        :raises PostHogSettingsError: if another version has written it.
        """
        watched = Watched.parse(text)
        parts = watched.names[-1].split("-")
        if watched.what != "fill" or len(parts) != 3 or not parts[0].isdecimal():
            raise PostHogSettingsError("job_id", "is none of a filling.", "Restart the triggerer and the workers.")
        done, created, digest = parts
        return cls(int(watched.names[0]), watched.names[1], int(done), created == "1", digest)


def last_calculation(cohort: Mapping[str, Any]) -> str:
    """Return when a cohort was calculated last, as :class:`Fill` has it.

    :param cohort: PostHog's cohort.
    """
    at = moment(cohort.get("last_calculation"))
    return "0" if at is None else str(at.timestamp())


def digest_of(statements: Sequence[Mapping[str, Any]]) -> str:
    """Return what stands for statements.

    :param statements: all of them.
    """
    return hashlib.sha256(json.dumps(statements, sort_keys=True, default=str).encode()).hexdigest()[:12]


def late(number: int) -> PostHogJobTimeout:
    """Make the error of a cohort that is not filled in time.

    :param number: the cohort's id.
    """
    return PostHogJobTimeout(f"PostHog has not filled cohort {number} in time.", job_id=str(number))


def failed(number: int, reason: str) -> PostHogJobFailed:
    """Make the error of a cohort that PostHog could not calculate.

    :param number: the cohort's id.
    :param reason: why.
    """
    return PostHogJobFailed(f"PostHog could not calculate cohort {number}: {reason}.", job_id=str(number))
