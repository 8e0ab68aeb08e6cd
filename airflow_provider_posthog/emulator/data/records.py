"""What PostHog keeps of a project as plain records: annotations, feature flags, experiments, surveys and the like."""

from __future__ import annotations

import itertools
import uuid as uuids
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.envelopes import Json

if TYPE_CHECKING:
    from airflow_provider_posthog.emulator.core import Core

#: What a new record has that nobody sent, by the path of its list.
FRESH: Mapping[str, Mapping[str, Any]] = {
    "annotations": {
        "content": None,
        "date_marker": None,
        "creation_type": "USR",
        "scope": "dashboard_item",
        "emoji": None,
        "hidden_in_user_interface": False,
        "dashboard_item": None,
        "deleted": False,
    },
    "event_definitions": {"name": "", "description": "", "tags": [], "verified": False, "last_seen_at": None},
    "experiments": {
        "name": "",
        "description": "",
        "feature_flag_key": None,
        "start_date": None,
        "end_date": None,
        "archived": False,
        "deleted": False,
        "metrics": [],
        "metrics_secondary": [],
        "parameters": {},
        "conclusion": None,
    },
    "feature_flags": {
        "key": "",
        "name": "",
        "filters": {"groups": [{"properties": [], "rollout_percentage": 0}]},
        "active": True,
        "deleted": False,
        "archived": False,
        "version": 1,
    },
    # whose properties they are, no answer says
    "property_definitions": {
        "name": "",
        "is_numerical": False,
        "property_type": None,
        "tags": [],
        "_type": "event",
        "_group_type_index": None,
    },
    "surveys": {"name": "", "type": "popover", "questions": [], "archived": False, "start_date": None},
}
#: Those whose ids are uuids.
_UUIDS = frozenset({"event_definitions", "property_definitions", "surveys"})


class Records:
    """The records.

    :param core: the clock.
    :param seed: equal seeds make equal ids.
    """

    def __init__(self, core: Core, seed: int) -> None:
        self._core = core
        self._seed = seed
        self._numbers = itertools.count(1)
        self._kept: dict[str, dict[str, Json]] = {kind: {} for kind in FRESH}

    def add(self, kind: str, sent: Mapping[str, Any], **more: object) -> Json:
        """Make a record.

        :param kind: the path of its list.
        :param sent: what it has.
        :param more: what it has besides.
        """
        number = next(self._numbers)
        made = uuids.uuid5(uuids.NAMESPACE_OID, f"{self._seed} {kind} {number}")
        now = iso(self._core.clock.now())
        fresh = {"id": str(made) if kind in _UUIDS else number, "created_at": now, "updated_at": now}
        record: Json = {**fresh, **FRESH[kind], **dict(sent), **more}
        self._kept[kind][str(record["id"])] = record
        return record

    def get(self, kind: str, key: str) -> Json | None:
        """Return a record, or None.

        :param kind: the path of its list.
        :param key: its id.
        """
        return self._kept[kind].get(key)

    def all(self, kind: str) -> list[Json]:
        """Return the records of a list, the deleted ones too.

        :param kind: the path of the list.
        """
        return [*self._kept[kind].values()]

    def listed(self, kind: str) -> list[Json]:
        """Return the records of a list, newest first, without those that were deleted.

        :param kind: the path of the list.
        """
        return [record for record in reversed([*self._kept[kind].values()]) if not record.get("deleted")]
