"""Keys that are replaced while a task or a trigger runs: what both clients do after PostHog refused theirs."""

from __future__ import annotations

import logging

from airflow_provider_posthog.api.settings import ClientSettings
from airflow_provider_posthog.exceptions import PostHogAPIError, PostHogAuthenticationError, PostHogPermissionError

log = logging.getLogger(__name__)

#: Errors that may mean that the key was revoked: servers before 2025 answer 403 to an unknown key.
REFUSED = (PostHogAuthenticationError, PostHogPermissionError)


def is_another(settings: ClientSettings, refused: ClientSettings, error: PostHogAPIError) -> bool:
    """Return whether the connection has another key now, for the same project; log it without showing either.

    :param settings: the connection as it is now.
    :param refused: the settings that PostHog refused.
    :param error: PostHog's answer.
    """
    same_project = (settings.base_url, settings.project_id) == (refused.base_url, refused.project_id)
    if settings.api_key == refused.api_key or not same_project:
        return False
    log.info("PostHog refused the key (%s), and the connection has another one: going on with that", error.status)
    return True


def cannot_be_read(failure: Exception) -> None:
    """Log that the connection cannot be read, so that another key, if any, is not known.

    :param failure: raised by Airflow or its secrets backend; its text may hold anything, and is not logged.
    """
    log.warning("PostHog refused the key, and the connection cannot be read: %s", type(failure).__name__)
