"""The token with which events are sent into a project."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from airflow_provider_posthog.compat import mask_secret
from airflow_provider_posthog.exceptions import PostHogError, PostHogSettingsError


def project_token(hook: Any) -> str:  # noqa: ANN401 - PostHogHook, which brings the HTTP libraries
    """Return the token with which events are sent: the connection's, or what PostHog says.

    :param hook: the task's hook.
    :raises PostHogSettingsError: if there is none, or it is of another project: events would go there.
    """
    from airflow_provider_posthog.api import projects
    from airflow_provider_posthog.api.retry import LAST

    settings = hook.settings()
    if settings.project_token:
        known = None
        with suppress(PostHogError):  # a key that may not read the project is enough
            project = hook.client.send(projects.retrieve(settings.project_id or 0), policy=LAST)
            known = project.get("api_token")
        if isinstance(known, str) and known not in ("", settings.project_token):
            raise PostHogSettingsError(
                "project_token",
                f"is not the token of project {settings.project_id}: events would go to another one.",
                "Write that project's (PostHog: Settings > Project), or leave it out.",
            )
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
