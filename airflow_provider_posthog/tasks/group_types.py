"""Whether PostHog would keep groups of a type: a project has five types, and events of a sixth change no group."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_posthog.exceptions import PostHogNotFoundError, PostHogPermissionError, PostHogSettingsError

if TYPE_CHECKING:
    from airflow_provider_posthog.api.call import Call
    from airflow_provider_posthog.hooks.posthog import PostHogHook

log = logging.getLogger(__name__)

#: Types of groups that a project may have.
MOST = 5


def check_group_type(hook: PostHogHook, group_type: str) -> None:
    """Refuse a sixth type of groups; PostHog makes one that is new, as long as there are fewer.

    :param hook: the task's.
    :param group_type: such as ``company``.
    :raises PostHogSettingsError: if the project has five others.
    """
    from airflow_provider_posthog.api import groups

    call: Call[Sequence[Any]] = groups.types()
    try:
        known = [str(kind.get("group_type")) for kind in hook.send(call)]
    except (PostHogNotFoundError, PostHogPermissionError):
        log.info("PostHog does not tell the project's types of groups (group:read): whether it has room is not checked")
        return
    if group_type not in known and len(known) >= MOST:
        raise PostHogSettingsError(
            "group_type",
            f"is {group_type!r:.60}, and the project has its {MOST} types already: PostHog would change no group.",
            f"Write one of {', '.join(known)}.",
        )
