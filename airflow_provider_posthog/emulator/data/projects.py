"""A project of the server, and PostHog's facts about it and its users."""

from __future__ import annotations

import random
import uuid
from datetime import datetime

from airflow_provider_posthog.emulator.clock import iso
from airflow_provider_posthog.emulator.http.auth import User
from airflow_provider_posthog.emulator.http.envelopes import Json

_UNSET = (
    "autocapture_exceptions_errors_to_ignore",
    "autocapture_exceptions_opt_in",
    "autocapture_opt_out",
    "autocapture_web_vitals_allowed_metrics",
    "autocapture_web_vitals_opt_in",
    "extra_settings",
    "has_completed_onboarding_for",
    "heatmaps_opt_in",
    "inject_web_apps",
    "live_events_columns",
    "modifiers",
    "person_display_name_properties",
    "recording_domains",
    "session_recording_linked_flag",
    "session_recording_minimum_duration_milliseconds",
    "session_recording_network_payload_capture_config",
    "session_recording_sample_rate",
    "session_replay_config",
    "slack_incoming_webhook",
    "surveys_opt_in",
    "test_account_filters_default_checked",
    "week_start_day",
)
MODIFIERS: Json = {
    "bounceRatePageViewMode": "count_pageviews",
    "dataWarehouseEventsModifiers": None,
    "debug": None,
    "inCohortVia": "auto",
    "materializationMode": "legacy_null_as_null",
    "optimizeJoinedFilters": False,
    "personsArgMaxVersion": "auto",
    "personsJoinMode": None,
    "personsOnEventsMode": "person_id_override_properties_joined",
    "propertyGroupsMode": None,
    "s3TableUseInvalidColumns": None,
    "sessionTableVersion": "auto",
    "useMaterializedViews": None,
}


class Project:
    """A project, which PostHog's objects also call a team or an environment.

    :param seed: equal seeds make equal ids and tokens.
    :param created_at: when it was made.
    :param number: its id; the first one's is 1.
    """

    def __init__(self, seed: int, created_at: datetime, number: int = 1) -> None:
        # all are of one organization
        made = random.Random(f"project {seed}")  # noqa: S311 - a made-up project
        letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        self.id = number
        self.name = self.first_name = "Default project" if number == 1 else f"Project {number}"
        self.created_at = created_at
        self.primary_dashboard: int | None = 1
        self.token = "phc_" + "".join(made.choice(letters) for _ in range(43))
        self.uuid = str(uuid.UUID(int=made.getrandbits(128), version=4))
        self.organization = str(uuid.UUID(int=made.getrandbits(128), version=4))
        if number > 1:
            own = random.Random(f"project {seed} {number}")  # noqa: S311 - a made-up project
            self.token = "phc_" + "".join(own.choice(letters) for _ in range(43))
            self.uuid = str(uuid.UUID(int=own.getrandbits(128), version=4))
        #: further projects of the organization: id and name
        self.others: dict[int, str] = {}

    def as_json(self, timezone: str, retention: Json | None = None) -> Json:
        """Return the object of ``GET projects/{id}/``.

        :param timezone: of the project.
        :param retention: what it tells of its events' retention.
        """
        return {
            **(retention or {}),
            **dict.fromkeys(_UNSET),
            "id": self.id,
            "uuid": self.uuid,
            "organization": self.organization,
            "name": self.name,
            "api_token": self.token,
            "live_events_token": "",
            "timezone": timezone,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.created_at),
            "access_control": False,
            "anonymize_ips": False,
            "app_urls": [],
            "capture_console_log_opt_in": True,
            "capture_performance_opt_in": True,
            "completed_snippet_onboarding": False,
            "correlation_config": {},
            "data_attributes": ["data-attr"],
            "default_modifiers": MODIFIERS,
            "effective_membership_level": 15,
            "has_group_types": True,
            "ingested_event": True,
            "is_demo": False,
            "path_cleaning_filters": [],
            "person_on_events_querying_enabled": False,
            "primary_dashboard": self.primary_dashboard,
            "session_recording_opt_in": False,
            "test_account_filters": [],
        }

    def _team(self, timezone: str) -> Json:
        names = (
            "id",
            "uuid",
            "organization",
            "api_token",
            "name",
            "completed_snippet_onboarding",
            "has_completed_onboarding_for",
            "ingested_event",
            "is_demo",
            "timezone",
            "access_control",
        )
        full = self.as_json(timezone)
        return {**{name: full[name] for name in names}, "project_id": self.id}

    def organization_json(self, timezone: str) -> Json:
        """Return the object of ``GET organizations/@current/``.

        :param timezone: of the project.
        """
        short = {"id": self.organization, "name": "Acme", "slug": "acme", "logo_media_id": None, "membership_level": 15}
        return {
            **short,
            "created_at": iso(self.created_at),
            "updated_at": iso(self.created_at),
            "plugins_access_level": 9,
            "teams": [self._team(timezone)],
            "projects": [
                {"id": number, "organization_id": self.organization, "name": name}
                for number, name in {self.id: self.name, **self.others}.items()
            ],
            "available_product_features": [],
            "is_member_join_email_enabled": True,
            "metadata": {"instance_tag": "none"},
            "customer_id": None,
            "enforce_2fa": None,
            "member_count": 1,
        }

    def me(self, user: User, timezone: str) -> Json:
        """Return the object of ``GET users/@me/``.

        :param user: who asks.
        :param timezone: of the project.
        """
        organization = self.organization_json(timezone)
        brief_names = ("id", "name", "slug", "logo_media_id", "membership_level")
        personal = user.brief() | {"date_joined": iso(self.created_at)}
        personal.pop("id")
        return {
            **personal,
            "pending_email": None,
            "notification_settings": {"plugin_disabled": True},
            "anonymize_data": False,
            "toolbar_mode": "toolbar",
            "has_password": True,
            "is_staff": False,
            "is_impersonated": False,
            "is_impersonated_until": None,
            "sensitive_session_expires_at": None,
            "team": self._team(timezone),
            "organization": organization,
            "organizations": [{name: organization[name] for name in brief_names}],
            "events_column_config": {"active": "DEFAULT"},
            "is_2fa_enabled": False,
            "has_social_auth": False,
            "has_seen_product_intro_for": None,
            "scene_personalisation": [],
            "theme_mode": None,
        }
