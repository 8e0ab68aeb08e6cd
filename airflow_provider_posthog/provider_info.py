"""What Airflow reads about this provider, through the entry point ``apache_airflow_provider``.

Every Airflow process loads this module, so it imports neither Airflow nor an HTTP library.
"""

from __future__ import annotations

from airflow_provider_posthog.connection_form import (
    CONN_TYPE,
    HOOK_CLASS,
    HOOK_NAME,
    conn_fields,
    ui_field_behaviour,
)

_POSTHOG = "PostHog"
_STORAGE = "Object Storage"
_DESCRIPTION = "`PostHog <https://posthog.com/>`__: exports, warehouse loading, insight refresh and erasure of persons."
_AIRFLOW_DOCS = "https://airflow.apache.org/docs/apache-airflow/stable"


def _modules(*names: str) -> list[dict[str, object]]:
    return [{"integration-name": _POSTHOG, "python-modules": [f"airflow_provider_posthog.{name}" for name in names]}]


def _integration(name: str, url: str, tag: str) -> dict[str, object]:
    return {"integration-name": name, "external-doc-url": url, "tags": [tag]}


def _assets() -> list[dict[str, object]]:
    module = "airflow_provider_posthog.assets"
    return [
        {
            "schemes": ["posthog"],
            "handler": f"{module}.sanitize_uri",
            "factory": f"{module}.create_asset",
            "to_openlineage_converter": f"{module}.convert_asset_to_openlineage",
        }
    ]


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata, in the shape of Airflow's ``provider_info.schema.json``.

    Airflow 2.11 to 3.1 ignore ``conn-fields`` and ``ui-field-behaviour``, and ask the hook's methods instead.
    """
    return {
        "package-name": "airflow-provider-posthog",
        "name": _POSTHOG,
        "description": _DESCRIPTION,
        "integrations": [
            _integration(_POSTHOG, "https://posthog.com/docs/api", "service"),
            _integration(_STORAGE, f"{_AIRFLOW_DOCS}/core-concepts/objectstorage.html", "protocol"),
        ],
        "operators": _modules(
            "operators.api", "operators.dashboards", "operators.exports", "operators.insights", "operators.queries"
        ),
        "sensors": _modules("sensors.exports", "sensors.insights"),
        "hooks": _modules("hooks.posthog", "hooks.sql"),
        "triggers": _modules("triggers.checks", "triggers.jobs", "triggers.refresh"),
        "transfers": [
            {
                "source-integration-name": _POSTHOG,
                "target-integration-name": _STORAGE,
                "python-module": "airflow_provider_posthog.transfers.export_to_object_storage",
            }
        ],
        "connection-types": [
            {
                "connection-type": CONN_TYPE,
                "hook-class-name": HOOK_CLASS,
                "hook-name": HOOK_NAME,
                "ui-field-behaviour": ui_field_behaviour(),
                "conn-fields": conn_fields(),
            }
        ],
        "asset-uris": _assets(),
        "dataset-uris": _assets(),  # the name of Airflow 2
        "extra-links": ["airflow_provider_posthog.links.PostHogLink"],
    }
