"""What a client must know to reach a project: where, with which key, and how patiently."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import field
from typing import Literal, NamedTuple, NoReturn

from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean

DEFAULT_HOST = "https://us.posthog.com"
DEFAULT_CONNECT_TIMEOUT = 10.0
DEFAULT_READ_TIMEOUT = 120.0
DEFAULT_RATE_LIMIT_WAIT = 60.0
DEFAULT_MAX_IN_FLIGHT = 3
PATH_PREFIXES = ("projects", "environments")

#: Who sends a call: a task's process, or the triggerer, whose clients are the asynchronous ones.
Role = Literal["worker", "triggerer"]


class Shares(NamedTuple):
    """Which part of PostHog's rate limits each process may use up, by what it is; each in [0, 1].

    :param worker: each worker's task.
    :param triggerer: each triggerer.
    """

    worker: float
    triggerer: float


@dataclass(frozen=True)
class ClientSettings:
    """How to reach one PostHog project.

    :param base_url: scheme, host and port, such as ``https://us.posthog.com``; no path, no trailing slash.
    :param api_key: the personal API key; never shown by ``repr``.
    :param project_id: the project's number; ``None`` if only absolute calls are made.
    :param path_prefix: ``projects``, or ``environments`` for servers that want it.
    :param connect_timeout: seconds to reach the server.
    :param read_timeout: seconds to wait for bytes of an answer.
    :param max_rate_limit_wait: the longest wait, in seconds, that a worker spends on a 429 before it raises.
    :param verify: check the server's certificate: ``True``, ``False``, or the path of a CA file.
    :param proxy: the URL of a proxy, or ``None`` for the environment's.
    :param max_in_flight: how many calls to ``query/`` run at once per project (PostHog allows 3).
    :param rate_limit_share: the part of PostHog's rate limits that a process may use up, in (0, 1], or one part for a
        worker and another for the triggerer; 0 for no budget at all; ``None``: parts that are PostHog's limits
        together (:data:`~airflow_provider_posthog.api.budget.SHARES`), but no budget for a server on this machine.
    :param project_token: the token with which events are sent to PostHog (``phc_...``); never shown by ``repr``.
        ``None``: PostHog is asked for it.
    :param ingestion_host: scheme and host that take events in; ``None``: it follows from ``base_url``.
    :param read_again: reads the connection again, for a key that was replaced meanwhile; blocks. ``None``: nobody can.
    """

    base_url: str = DEFAULT_HOST
    api_key: str = field(default="", repr=False)
    project_id: int | None = None
    path_prefix: str = "projects"
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT
    read_timeout: float = DEFAULT_READ_TIMEOUT
    max_rate_limit_wait: float = DEFAULT_RATE_LIMIT_WAIT
    verify: bool | str = True
    proxy: str | None = field(default=None, repr=False)  # may hold a password
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    rate_limit_share: float | Shares | None = None
    project_token: str | None = field(default=None, repr=False)
    ingestion_host: str | None = None
    read_again: Callable[[ClientSettings], ClientSettings] | None = field(default=None, repr=False, compare=False)

    def __copy__(self) -> ClientSettings:
        return self  # it cannot be changed

    def __deepcopy__(self, memo: object) -> ClientSettings:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to be pickled or serialized, alone or inside another object: the settings hold the key."""
        raise PostHogSettingsError(
            "settings",
            "hold the key, and cannot be serialized.",
            "Pass the connection's id, and read the connection where it is used.",
        )

    def project_path(self) -> str:
        """Return ``/api/projects/{project_id}/``, which relative calls start from.

        :raises PostHogSettingsError: if no project is set.
        """
        if self.project_id is None:
            raise PostHogSettingsError(
                "project_id",
                "is not set.",
                "Write the project's number (PostHog: Settings > Project ID) in the connection or in the task.",
            )
        return f"/api/{self.path_prefix}/{self.project_id}/"


def ingestion_url(settings: ClientSettings) -> str:
    """Return the address that takes a project's events in, such as ``https://us.i.posthog.com``.

    :param settings: the connection. If it names none, PostHog Cloud has a separate host for each region, and a
        self-hosted server takes events itself.
    """
    if settings.ingestion_host:
        return settings.ingestion_host
    cloud = re.fullmatch(r"https://(?:(us|eu|app)\.)posthog\.com", settings.base_url)
    if cloud is None:
        return settings.base_url
    return f"https://{'eu' if cloud[1] == 'eu' else 'us'}.i.posthog.com"


def parse_project_id(value: object) -> int | None:
    """Read a project id from a connection, a task's argument or a template.

    :param value: a positive number as int or text; ``None`` and an empty text mean "not set".
    :raises PostHogSettingsError: for ``@current`` (it follows whatever project the key's owner last looked at) and
        for anything that is not a positive number.
    """
    if value is None or value == "":
        return None
    text = str(value).strip()
    remedy = "Write the project's number, such as 12345 (PostHog: Settings > Project ID)."
    if text == "@current":
        raise PostHogSettingsError(
            "project_id", "is '@current', which follows the project that the key's owner last looked at.", remedy
        )
    if isinstance(value, bool) or not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        if of_page := re.search(r"//[^?#]*/(?:projects?|environments)/([1-9][0-9]{0,17})(?![0-9])", text):
            raise PostHogSettingsError("project_id", "is the address of a page.", f"Write {of_page[1]}.")
        shown = "a project token (phc_...)" if text.startswith("phc_") else repr(clean(text)[:40])
        raise PostHogSettingsError("project_id", f"is {shown}, not a project's number.", remedy)
    return int(text)


def is_secret_key(api_key: str) -> bool:
    """Return whether a key is a project secret key: one without a person, for queries and endpoints only.

    :param api_key: the key.
    """
    return api_key.startswith("phs_")
