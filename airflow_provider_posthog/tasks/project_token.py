"""The token with which events are sent into a project."""

from __future__ import annotations

from typing import Any

from airflow_provider_posthog.compat import mask_secret
from airflow_provider_posthog.exceptions import PostHogSettingsError


def project_token(hook: Any) -> str:  # noqa: ANN401 - PostHogHook, which brings the HTTP libraries
    """Return the token with which events are sent: the connection's, or what PostHog says.

    :param hook: the task's hook.
    :raises PostHogSettingsError: if there is none.
    """
    from airflow_provider_posthog.api import projects

    settings = hook.settings()
    if settings.project_token:
        return str(settings.project_token)
    settings.project_path()  # says what to do without a project
    token = hook.send(projects.retrieve(settings.project_id)).get("api_token")
    if not isinstance(token, str) or not token.strip():
        raise PostHogSettingsError(
            "project_token",
            "is not set, and PostHog does not tell the project's.",
            "Write the token (phc_..., PostHog: Settings > Project) in the connection.",
        )
    mask_secret(token)
    return token
