"""Keys that are replaced while a task or a trigger goes on: what both clients do after PostHog refused theirs."""

from __future__ import annotations

import logging

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogAuthenticationError, PostHogPermissionError

log = logging.getLogger(__name__)

#: What may mean that the key was revoked: servers before 2025 answer 403 to a key that they do not know.
REFUSED = (PostHogAuthenticationError, PostHogPermissionError)


def is_another(settings: ClientSettings, refused: ClientSettings, error: PostHogAPIError) -> bool:
    """Tell whether the connection has another key by now, for the same project; the log says so, and shows neither.

    :param settings: the connection as it is now.
    :param refused: with what PostHog was asked.
    :param error: what it answered.
    """
    same_place = (settings.base_url, settings.project_id) == (refused.base_url, refused.project_id)
    if settings.api_key == refused.api_key or not same_place:
        return False
    log.info("PostHog refused the key (%s), and the connection has another one: going on with that", error.status)
    return True


def cannot_be_read(failure: Exception) -> None:
    """Say in the log that nobody knows whether there is another key.

    :param failure: of Airflow, or of whatever keeps its secrets; what it says may hold anything.
    """
    log.warning("PostHog refused the key, and the connection cannot be read: %s", type(failure).__name__)
