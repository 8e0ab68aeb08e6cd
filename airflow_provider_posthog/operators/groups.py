"""Clearing groups, which PostHog cannot delete."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import (
    PostHogJobFailed,
    PostHogNotFoundError,
    PostHogPermissionError,
    PostHogSettingsError,
)
from airflow_provider_posthog.links import PostHogLink
from airflow_provider_posthog.tasks.erasure import PeopleOperator
from airflow_provider_posthog.tasks.lengths import seconds_of
from airflow_provider_posthog.tasks.lists import listed
from airflow_provider_posthog.tasks.log_lines import counted

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_provider_posthog.compat import Context
    from airflow_provider_posthog.tasks.arguments import PostHogArguments


class PostHogClearGroupPropertiesOperator(PeopleOperator):
    """Removes the properties of groups, and checks that neither the database nor queries show them.

    PostHog cannot delete a group: its key stays, and so do the copies on events. Needs a server of December 2025 or
    later.

    ``group_keys`` may be templates, but is not a template field: Airflow stores and shows those, and a group's key may
    identify a person.

    .. code-block:: python

        PostHogClearGroupPropertiesOperator(
            task_id="clear", group_type="company", group_keys=["acme"], properties=["contact"]
        )

    :param group_type: the type's name, such as ``company``, or its index.
    :param group_keys: the keys.
    :param properties: the names of the properties; by default all.
    :param timeout: how long PostHog may take, in seconds or as a timedelta, until they are gone.
    :param kwargs: ``posthog_conn_id``, ``project_id`` and Airflow's own. It is not recorded in a certificate.
    :returns: the numbers ``groups``, ``not_found`` and ``properties`` (how many were removed).
    :raises PostHogJobFailed: if a property is still there, or none of the groups is.
    """

    operator_extra_links = (PostHogLink(),)
    template_fields: Sequence[str] = ("posthog_conn_id", "project_id", "group_type", "properties")

    def __init__(
        self,
        *,
        group_type: str | int,
        group_keys: Sequence[str] | str,
        properties: Sequence[str] | None = None,
        timeout: float | timedelta = 300.0,
        **kwargs: Unpack[PostHogArguments],
    ) -> None:
        super().__init__(**kwargs)
        self.group_type = group_type
        self.group_keys = group_keys
        self.properties = properties
        self.timeout = timeout

    def execute(self, context: Context) -> dict[str, Any]:
        """Clear them."""
        given = self.hidden(self.group_keys, context)
        keys = [given] if isinstance(given, str) else [*(given or ())]
        if not keys or not all(isinstance(key, str) and key for key in keys):
            raise PostHogSettingsError("group_keys", "names no groups.", "Write their keys.")
        if self.properties is not None:
            listed("properties", self.properties)
        timeout = seconds_of("timeout", self.timeout, 0)
        index = self._index()
        self.show(context, f"groups/{index}")
        removed, missing = 0, 0
        left: dict[int, list[str]] = {}
        for position, key in enumerate(keys, 1):
            try:
                count, still = self._clear(index, key, timeout)
            except PostHogNotFoundError:
                self.log.warning("Group number %d does not exist", position)
                missing += 1
                continue
            removed += count - len(still)
            if still:
                left[position] = still
        if left or missing == len(keys):
            raise PostHogJobFailed(
                f"Of {len(keys)} groups, {missing} do not exist, and {len(left)} still have properties that PostHog "
                f"accepted to delete (numbers {', '.join(map(str, [*left][:20])) or 'none'} of group_keys)."
            )
        self.concludes("Removed properties from %s: %d", counted(len(keys) - missing, "group"), removed)
        return {"groups": len(keys) - missing, "not_found": missing, "properties": removed}

    def _clear(self, index: int, key: str, timeout: float) -> tuple[int, list[str]]:
        from airflow_provider_posthog.erasure.properties import clear_group

        try:
            return clear_group(self.client, index, key, self.properties, timeout)
        except PostHogPermissionError as error:
            if error.scope is not None:
                raise
            raise PostHogSettingsError(
                "group_type", "this PostHog server is older than December 2025 and cannot change groups.", "Update it."
            ) from error

    def _index(self) -> int:
        from airflow_provider_posthog.api import groups

        text = str(self.group_type).strip()
        for group_type in self.client.send(groups.types()):
            index = group_type.get("group_type_index")
            if isinstance(index, int) and text in (group_type.get("group_type"), str(index)):
                return index
        raise PostHogSettingsError("group_type", "is none of this project's.", "Write a type's name, or its index.")
