"""A second project on an emulator that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_posthog.emulator.process import EmulatorProcess


class EmulatorProject(EmulatorProcess):
    """A further project of an emulator, with events, persons, exports and settings of its own.

    Keys, faults, the log of calls, the clock and the object storage are those of the whole server. All orders of
    :class:`EmulatorProcess` are about this project here; a reset takes the project away.

    ::

        other = EmulatorProject(posthog, events=500, timezone="Europe/Berlin")
        other.capture([{"event": "sign_up", "distinct_id": "ada"}])

    :param process: the emulator.
    :param options: ``events`` (how many; none by default), ``seed``, ``start`` (``YYYY-MM-DD``), ``days``, ``timezone``
        and ``name``.
    :raises EmulatorError: when the emulator refuses the options.
    """

    def __init__(self, process: EmulatorProcess, **options: object) -> None:
        super().__init__()
        self._whole = process
        made = process.control("POST", "projects", options)
        self.project_id, self.project_token = int(made["id"]), str(made["api_token"])
        self.url, self.storage_url, self.api_key = process.url, process.storage_url, process.api_key

    def start(self) -> None:
        """Do nothing: the emulator runs."""

    def control(self, method: str, path: str, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Call the control interface about this project and return its JSON.

        :param method: in capitals.
        :param path: below ``/__emulator__/``.
        :param body: sent as JSON, or None.
        :raises EmulatorError: when it refuses, with its reason.
        """
        joint = "&" if "?" in path else "?"
        return self._whole.control(method, f"{path}{joint}project={self.project_id}", body)
