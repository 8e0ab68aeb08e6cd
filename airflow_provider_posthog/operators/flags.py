"""Feature flags: how far they are rolled out, and whether they are on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.api import feature_flags
from airflow_provider_posthog.compat import state_store
from airflow_provider_posthog.exceptions import (
    PostHogAPIError,
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogSettingsError,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.base import PostHogOperator
from airflow_provider_posthog.tasks.identity import Identity
from airflow_provider_posthog.tasks.lists import count_of, flag_of, named_by, number_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.api.call import Call
    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments

#: How often a flag is read again that somebody else changes at the same time, and how PostHog says so.
_TRIES, _CONFLICT = 3, 409
#: What surely changes nothing.
_REFUSALS = (400, 401, 402, 403, 404)
#: Where the state before the change is kept between tries (Airflow 3.3); never renamed.
_STORE_KEY = "posthog_flag_before"


class PostHogFeatureFlagOperator(PostHogOperator):
    """Sets how far a feature flag is rolled out, or turns it on or off, and reads the change back.

    .. code-block:: python

        PostHogFeatureFlagOperator(task_id="half", flag="new-checkout", rollout_percentage=50, active=True)

    :param flag: its key, or its number.
    :param rollout_percentage: the percentage of users matching the condition, from 0 to 100.
    :param condition: which condition that is for, from 0; needed only if there are several.
    :param active: whether the flag is on.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. The key needs ``feature_flag:write``.
    :returns: ``id``, ``key``, ``active``, ``rollout_percentage`` (of the condition), ``before`` (``active`` and
        ``rollout_percentage`` as they were, for a task that sets them back), ``changed``. Before Airflow 3.3, a retry
        finds the change of a killed try as what was there before.
    :raises PostHogSettingsError: if there is no such flag, or it is not clear which condition is meant.
    :raises PostHogJobFailed: if PostHog shows another value afterwards, or somebody else changes it again and again.
    """

    template_fields: Sequence[str] = (
        *PostHogOperator.template_fields,
        "flag",
        "rollout_percentage",
        "condition",
        "active",
    )
    operator_extra_links = (PostHogLink(),)

    def __init__(
        self,
        *,
        flag: str | int,
        rollout_percentage: float | str | None = None,
        condition: int | str | None = None,
        active: bool | str | None = None,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.flag = flag
        self.rollout_percentage = rollout_percentage
        self.condition = condition
        self.active = active
        #: What this task has asked for in this life, and what was there before.
        self._asked: dict[str, Any] = {}

    def execute(self, context: Context) -> dict[str, Any]:
        """Set it."""
        percent = self._percent()
        if percent is None and self.active in (None, ""):
            raise PostHogSettingsError("flag", "is not changed.", "Write rollout_percentage, active, or both.")
        active = None if self.active is None or self.active == "" else flag_of("active", self.active)
        who, store = Identity.of(context), state_store(context)
        kept = None if store is None else store.get(_STORE_KEY)
        self._asked = {"life": [who.owner, who.clearing]}
        if isinstance(kept, Mapping) and kept.get("life") == self._asked["life"]:
            self._asked = dict(kept)
        for _ in range(_TRIES):
            try:
                return self._set(percent, active, context)
            except PostHogAPIError as error:
                if error.status != _CONFLICT:
                    raise
                self.log.info("Somebody else has just changed the feature flag: it is read again")
        raise PostHogJobFailed(
            "Somebody else changes the feature flag each time that the task would.", job_id=str(self.flag)
        )

    def _set(self, percent: float | None, active: bool | None, context: Context) -> dict[str, Any]:
        flag = self._find()
        if flag.get("deleted"):
            raise PostHogSettingsError("flag", "is of a feature flag that was deleted.", "Name another.")
        number, settings = int(flag["id"]), self.hook.settings()
        PostHogLink.push(context, f"{settings.base_url}/project/{settings.project_id}/feature_flags/{number}")
        index = self._index(flag) if percent is not None else None
        before = _state(flag, index)
        filters = _with(flag, index, percent) if index is not None and percent is not None else None
        wanted = {
            "active": before["active"] if active is None else active,
            "rollout_percentage": before["rollout_percentage"] if percent is None else percent,
        }
        if wanted != before:
            self._asked |= {"wanted": wanted, "before": before}
            if (store := state_store(context)) is not None:
                store.set(_STORE_KEY, self._asked)
            try:
                self.hook.send(feature_flags.update(number, filters=filters, active=active, seen=flag))
            except PostHogAPIError as error:
                # If the flag is like that later, somebody else did it. A 409 or a 429 may follow a change of our own,
                # whose answer was lost.
                if error.status in _REFUSALS:
                    self._asked.pop("wanted", None)
                    if store is not None:
                        store.set(_STORE_KEY, self._asked)
                raise
        elif self._asked.get("wanted") == wanted:  # it was this task: the answer was lost, or a try was killed
            before = self._asked["before"]
        after = _state(self._retrieve(number), index)
        if after != wanted:
            raise PostHogJobFailed(
                f"Feature flag {number} was set to {wanted}, and PostHog shows {after}. Somebody else may have changed "
                "it, or it needs an approval.",
                job_id=str(number),
            )
        self.concludes("Feature flag %s is %s (before: %s)", number, after, before)
        return {"id": number, "key": str(flag.get("key")), **after, "before": before, "changed": wanted != before}

    def _percent(self) -> float | None:
        percentage = self.rollout_percentage
        if percentage is None or percentage == "":
            return None
        try:
            percent = float(percentage)
        except (TypeError, ValueError):
            percent = -1.0
        if isinstance(percentage, bool) or not 0 <= percent <= 100:
            raise PostHogSettingsError("rollout_percentage", "is not from 0 to 100.", "Write a percentage, such as 50.")
        return int(percent) if percent == int(percent) else percent

    def _find(self) -> feature_flags.FeatureFlag:
        wanted = str(self.flag).strip()
        if not wanted:
            raise PostHogSettingsError("flag", "is empty.", "Write the flag's key, or its number.")
        if isinstance(self.flag, int):
            with named_by("flag", self.flag, "feature flag", "Write its key, or its number."):
                return self._retrieve(self.flag)
        for flag in self.hook.pages(feature_flags.list(limit=100)):
            if flag.get("key") == wanted:
                return self._retrieve(int(flag["id"]))
        if wanted.isascii() and wanted.isdigit():  # a template makes text of a number
            with suppress(PostHogNotFoundError):
                return self._retrieve(number_of("flag", wanted))
        raise PostHogSettingsError("flag", f"there is no feature flag {wanted!r:.80}.", "Write its key, or its number.")

    def _retrieve(self, number: int) -> feature_flags.FeatureFlag:
        call: Call[feature_flags.FeatureFlag] = feature_flags.retrieve(number)
        return self.hook.send(call)

    def _index(self, flag: Mapping[str, Any]) -> int:
        groups = (flag.get("filters") or {}).get("groups") or []
        if self.condition in (None, "") and len(groups) == 1:
            return 0
        index = -1 if self.condition in (None, "") else count_of("condition", self.condition)
        if not 0 <= index < len(groups):
            raise PostHogSettingsError(
                "condition", f"is not one of the flag's {len(groups)} conditions.", "Write its number, from 0."
            )
        return index


def _state(flag: Mapping[str, Any], index: int | None) -> dict[str, Any]:
    groups = (flag.get("filters") or {}).get("groups") or []
    shown = groups[index] if index is not None and index < len(groups) else groups[0] if len(groups) == 1 else {}
    # PostHog takes none for all
    percent = shown.get("rollout_percentage", 100) if shown else None
    return {"active": flag.get("active"), "rollout_percentage": 100 if shown and percent is None else percent}


def _with(flag: Mapping[str, Any], index: int, percent: float) -> dict[str, Any]:
    filters: dict[str, Any] = copy.deepcopy(dict(flag.get("filters") or {}))
    filters["groups"][index]["rollout_percentage"] = percent
    return filters
