"""What Airflow reads about this provider, through the entry point ``apache_airflow_provider``.

Every Airflow process loads this module, so it imports neither Airflow nor an HTTP library.
"""

from __future__ import annotations

from airflow_provider_posthog.connection.form import (
    CONN_TYPE,
    HOOK_CLASS,
    HOOK_NAME,
    conn_fields,
    ui_field_behaviour,
)

_POSTHOG = "PostHog"
_STORAGE = "Object Storage"
_SQL = "Common SQL"
_DESCRIPTION = (
    "`PostHog <https://posthog.com/>`__: exports, warehouse loading, events into PostHog, insight refresh and "
    "erasure of persons."
)
_AIRFLOW_DOCS = "https://airflow.apache.org/docs/apache-airflow"


def _modules(*names: str) -> list[dict[str, object]]:
    return [{"integration-name": _POSTHOG, "python-modules": [f"airflow_provider_posthog.{name}" for name in names]}]


def _integration(name: str, url: str, tag: str) -> dict[str, object]:
    return {"integration-name": name, "external-doc-url": url, "tags": [tag]}


def _transfer(target: str, module: str, *, source: str = _POSTHOG) -> dict[str, str]:
    return {
        "source-integration-name": source,
        "target-integration-name": target,
        "python-module": f"airflow_provider_posthog.transfers.{module}",
    }


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


def _integrations() -> list[dict[str, object]]:
    return [
        _integration(_POSTHOG, "https://posthog.com/docs/api", "service"),
        _integration(_STORAGE, f"{_AIRFLOW_DOCS}/stable/core-concepts/objectstorage.html", "protocol"),
        _integration(_SQL, f"{_AIRFLOW_DOCS}-providers-common-sql/stable/index.html", "software"),
    ]


def _connection_types() -> list[dict[str, object]]:
    return [
        {
            "connection-type": CONN_TYPE,
            "hook-class-name": HOOK_CLASS,
            "hook-name": HOOK_NAME,
            "ui-field-behaviour": ui_field_behaviour(),
            "conn-fields": conn_fields(),
        }
    ]


#: The modules of operators.
_OPERATORS = (
    *("access", "annotations", "api", "batch_exports", "capture", "cohorts", "dashboards", "endpoints", "erasure"),
    *("experiments", "exports", "flags", "groups", "insights", "persons", "queries", "warehouse"),
)
#: The modules of triggers.
_TRIGGERS = ("checks", "completed", "events", "jobs", "refresh", "timer")
#: The modules of sensors.
_SENSORS = ("batch_exports", "cohorts", "erasures", "experiments", "exports", "insights", "persons", "retention")


def get_provider_info() -> dict[str, object]:
    """Return the provider's metadata, in the shape of Airflow's ``provider_info.schema.json``.

    Airflow 2.11 to 3.1 ignore ``conn-fields`` and ``ui-field-behaviour``, and ask the hook's methods instead.
    """
    return {
        "package-name": "airflow-provider-posthog",
        "name": _POSTHOG,
        "description": _DESCRIPTION,
        "integrations": _integrations(),
        "operators": _modules(*(f"operators.{name}" for name in _OPERATORS)),
        "sensors": _modules(*(f"sensors.{name}" for name in _SENSORS)),
        "hooks": _modules("hooks.posthog", "hooks.sql"),
        "triggers": _modules(*(f"triggers.{name}" for name in _TRIGGERS)),
        "transfers": [
            _transfer(_STORAGE, "export_to_object_storage"),
            _transfer(_STORAGE, "file_download_to_object_storage"),
            _transfer(_STORAGE, "query_to_object_storage"),
            _transfer(_SQL, "posthog_to_sql"),
            _transfer(_SQL, "dashboard_to_sql"),
            _transfer(_POSTHOG, "sql_to_posthog", source=_SQL),
            _transfer(_POSTHOG, "object_storage_to_posthog", source=_STORAGE),
        ],
        "notifications": ["airflow_provider_posthog.notifications.posthog.PostHogNotifier"],
        "connection-types": _connection_types(),
        "asset-uris": _assets(),
        "dataset-uris": _assets(),  # the name of Airflow 2
        "extra-links": ["airflow_provider_posthog.links.PostHogLink"],
    }
