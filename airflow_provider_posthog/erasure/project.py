"""The PostHog and project of an erasure: a proof that asks another one would find nobody, and pass."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean

_PORTS = {"https": "443", "http": "80"}
#: Other names of PostHog's own clouds.
_SAME = {"https://app.posthog.com": "https://us.posthog.com"}


@dataclass(frozen=True)
class Project:
    """A project of one PostHog.

    :param host: scheme, host and port, as :func:`spelt` writes them.
    :param project_id: the project's number.
    :param moved_from: earlier addresses of this very PostHog, such as before a proxy was put in front of it.
    """

    host: str
    project_id: int | None
    moved_from: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: ClientSettings, moved_from: Sequence[str] | str | None = None) -> Project:
        """Return where a client asks.

        :param settings: the client's.
        :param moved_from: earlier addresses of this very PostHog.
        """
        earlier = [moved_from] if isinstance(moved_from, str) else moved_from or ()
        return cls(spelt(settings.base_url), settings.project_id, tuple(map(spelt, earlier)))

    def as_json(self) -> dict[str, Any]:
        """Return it as tasks return it, and work files keep it."""
        return {"host": self.host, "project_id": self.project_id}

    def check(self, earlier: Mapping[str, Any], field: str) -> None:
        """Refuse to continue what was begun at another PostHog, before anything is sent.

        :param earlier: ``host`` and ``project_id`` of what an earlier task returned, or of a work file.
        :param field: the argument that it came in, for the error.
        :raises PostHogSettingsError: if it is another one, or if nothing tells which one it was.
        """
        host, project = earlier.get("host"), earlier.get("project_id")
        if not host or not project:
            raise PostHogSettingsError(
                field,
                "does not say which PostHog and which project it is about.",
                "Write what the task before returned, unchanged; or resolve again.",
            )
        if spelt(str(host)) not in (self.host, *self.moved_from):
            raise PostHogSettingsError(
                field,
                f"is about the PostHog at {clean(str(host))}, and this task would ask {self.host}, where nobody of it "
                "may ever have been.",
                "Let the connection lead there again. If it is the same PostHog behind another address, write "
                f"moved_from={clean(str(host))!r}.",
            )
        if str(project) != str(self.project_id):
            raise PostHogSettingsError(
                field,
                f"is about project {clean(str(project))}, and this task would ask project {self.project_id}.",
                "Give every task of an erasure the same project_id.",
            )


def spelt(address: str) -> str:
    """Normalize an address, so that two spellings of one host are equal.

    :param address: scheme, host and port; without a scheme it is https.
    """
    scheme, separator, rest = address.strip().lower().rpartition("://")
    scheme = scheme if separator else "https"
    name, port = _parts(rest.split("/", 1)[0])
    with suppress(ValueError):  # of no IPv6 address
        name = f"[{ipaddress.IPv6Address(name.strip('[]'))}]"
    host = f"{scheme}://{name.rstrip('.')}" + ("" if port in ("", _PORTS.get(scheme)) else f":{port}")
    return _SAME.get(host, host)


def _parts(host: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(\d*))?", host)
    return (match[1], (match[2] or "").lstrip("0")) if match else (host, "")
