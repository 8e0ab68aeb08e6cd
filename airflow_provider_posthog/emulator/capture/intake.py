"""What capture says of each event: ``ok``, ``warning``, ``drop`` or ``retry``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.emulator.capture.ingestion import Ingestion
from airflow_provider_posthog.emulator.capture.rules import fault_of

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core
    from airflow_provider_posthog.emulator.people.groups import GroupStore
    from airflow_provider_posthog.emulator.people.persons import People

Result = dict[str, str]


def _said(result: str, details: str = "") -> Result:
    return {"result": result, **({"details": details} if details else {})}


class Intake:
    """Takes events in, and remembers how many it has taken.

    :param core: the clock, the settings, the store.
    :param people: whose persons change.
    :param groups: whose groups change.
    """

    def __init__(self, core: Core, people: People, groups: GroupStore) -> None:
        self._core = core
        self._people = people
        self.ingestion = Ingestion(core, people, groups)
        #: Events of the month, against the quota.
        self.taken = 0
        self._attempts: Counter[str] = Counter()

    def judge(self, event: Mapping[str, Any], *, historical: bool, burst: Counter[str]) -> Result:
        """Return the verdict on an event of capture V1.

        :param event: as sent.
        :param historical: whether the batch is a migration.
        :param burst: how many events of each distinct id the batch has had; counts this one.
        """
        settings = self._core.settings
        if settings.capture_refusals == "event" and (fault := fault_of(event)):
            return _said("drop", fault)
        if self._is_over_quota():
            return _said("drop", "billing_limit_exceeded")
        if event["event"] in settings.restricted_events:
            return _said("drop", "event_restriction_drop")
        if settings.historical_only and not historical:
            return _said("drop", "non_historical_import_drop")
        uuid = str(event["uuid"]).lower()
        if self._attempts[uuid] < settings.capture_retries:
            self._attempts[uuid] += 1
            return _said("retry", "not_persisted")
        burst[event["distinct_id"]] += 1
        if settings.capture_burst is not None and burst[event["distinct_id"]] > settings.capture_burst:
            return _said("warning", "person_processing_disabled")
        return _said("ok")

    def _is_over_quota(self) -> bool:
        quota = self._core.settings.capture_quota
        return quota is not None and self.taken >= quota

    def take(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Hand events on to ingestion.

        :param events: those that were taken.
        """
        self.taken += len(events)
        settings = self._core.settings
        if settings.capture == "stored":
            lost = {uuid.lower() for uuid in settings.lost_uuids}
            kept = [event for event in events if str(event["uuid"]).lower() not in lost]
            self._people.schedule(settings.ingestion_seconds, lambda: self.ingestion.ingest(kept))

    def take_unseen(self, events: Sequence[Mapping[str, Any]]) -> None:
        """Pass on what ``/batch/`` takes: what is over the quota is dropped silently.

        :param events: as sent.
        """
        settings = self._core.settings
        good = [event for event in events if event["event"] not in settings.restricted_events]
        if settings.capture_quota is not None:
            good = good[: max(0, settings.capture_quota - self.taken)]
        self.take(good)
