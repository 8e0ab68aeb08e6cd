from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import sys
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import jsonschema
import pytest
from airflow.triggers import base

from airflow_provider_posthog.connection import form
from airflow_provider_posthog.provider_info import get_provider_info

INFO: dict[str, Any] = get_provider_info()
CONNECTION_TYPE = INFO["connection-types"][0]


def schema(name: str) -> dict[str, Any] | None:
    import airflow

    path = Path(str(airflow.__file__)).parent / name
    return json.loads(path.read_text()) if path.exists() else None


def modules() -> list[str]:
    listed = [
        module
        for kind in ("operators", "sensors", "hooks", "triggers")
        for entry in INFO[kind]
        for module in entry["python-modules"]
    ]
    return listed + [entry["python-module"] for entry in INFO["transfers"]]


def test_it_fits_airflows_schema() -> None:
    jsonschema.validate(INFO, schema("provider_info.schema.json"))


def test_the_connection_type_fits_the_strict_schema_of_airflow_3() -> None:
    strict = schema("provider.yaml.schema.json")
    if strict is None or "conn-fields" not in json.dumps(strict):  # 2.11 has no schema for the form
        import airflow

        assert airflow.__version__.startswith(("2.", "3.0", "3.1"))
        return
    jsonschema.validate(INFO["connection-types"], strict["properties"]["connection-types"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(
            [{**CONNECTION_TYPE, "ui-field-behaviour": form.python_ui_field_behaviour()}],
            strict["properties"]["connection-types"],
        )


def test_the_behaviour_fits_the_schema_that_airflow_holds_hooks_to() -> None:
    jsonschema.validate(form.python_ui_field_behaviour(), schema("customized_form_field_behaviours.schema.json"))


def test_every_integration_that_is_named_is_declared() -> None:
    declared = {entry["integration-name"] for entry in INFO["integrations"]}
    named = {
        entry["integration-name"] for kind in ("operators", "sensors", "hooks", "triggers") for entry in INFO[kind]
    }
    for entry in INFO["transfers"]:
        named |= {entry["source-integration-name"], entry["target-integration-name"]}
    assert named == declared == {"PostHog", "Object Storage", "Common SQL"}


@pytest.mark.parametrize("module", modules())
def test_every_listed_module_exists(module: str) -> None:
    of_assets = module.rpartition(".")[2] in ("completed", "events")
    if of_assets and not hasattr(base, "BaseEventTrigger"):
        assert importlib.util.find_spec(module)  # Airflow 2 has no triggers for assets; it lists modules unseen
        return
    importlib.import_module(module)


def test_every_trigger_s_module_is_listed() -> None:
    folder = Path(importlib.import_module("airflow_provider_posthog.triggers").__path__[0])
    with_triggers = {path.stem for path in folder.glob("*.py") if "Trigger):" in path.read_text(encoding="utf-8")}
    listed = {module.rpartition(".")[2] for entry in INFO["triggers"] for module in entry["python-modules"]}
    assert listed == with_triggers - {"watching"}  # what the others share


def test_airflow_lists_the_triggers() -> None:
    from airflow.providers_manager import ProvidersManager

    listed = {info.trigger_class_name for info in ProvidersManager().trigger}
    assert "airflow_provider_posthog.triggers.events" in listed


@pytest.mark.parametrize("path", [form.HOOK_CLASS, *INFO["extra-links"]])
def test_every_listed_class_exists(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_airflow_finds_it_by_its_entry_point() -> None:
    (entry,) = [
        entry
        for entry in importlib.metadata.entry_points(group="apache_airflow_provider")
        if entry.dist is not None and entry.dist.name == INFO["package-name"]
    ]
    assert entry.load()() == INFO


def test_airflow_knows_the_provider_and_its_connection_type() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert manager.providers[INFO["package-name"]].data["name"] == "PostHog"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 3.3 has a second manager for workers, 2.11 has not
        hook = manager.hooks[form.CONN_TYPE]
    assert hook is not None
    assert (hook.hook_class_name, hook.hook_name) == (form.HOOK_CLASS, form.HOOK_NAME)
    assert (hook.connection_id_attribute_name, hook.connection_testable) == ("posthog_conn_id", True)


def test_airflows_form_has_the_fields_of_the_table() -> None:
    try:
        from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
    except ImportError:
        check_form_of_2()
        return
    from airflow.providers_manager import ProvidersManager

    ProvidersManager()._cleanup()  # 3.1 shows what it found at its first look, which an API server does for the form
    all_types = HookMetaService.hook_meta_data()
    for name in [name for name, module in sys.modules.items() if isinstance(module, mock.Mock)]:
        del sys.modules[name]  # the stand-ins that 3.1 and 3.2 leave behind
    if all(meta.standard_fields is None for meta in all_types):
        check_no_form_of_3_0(all_types)
    else:
        check_form_of_3(all_types)


def check_no_form_of_3_0(all_types: list[Any]) -> None:
    """3.0 shows no provider's fields where WTForms is not there, Airflow's own included; extras are written as JSON."""
    assert importlib.util.find_spec("wtforms") is None
    assert {meta.connection_type for meta in all_types} > {form.CONN_TYPE, "fs"}
    assert all(meta.extra_fields is None for meta in all_types)
    (shown,) = [meta for meta in all_types if meta.connection_type == form.CONN_TYPE]
    assert (shown.hook_name, shown.hook_class_name) == (form.HOOK_NAME, form.HOOK_CLASS)


def check_form_of_3(all_types: list[Any]) -> None:
    (shown,) = [meta for meta in all_types if meta.connection_type == form.CONN_TYPE]
    assert (shown.hook_name, shown.hook_class_name) == (form.HOOK_NAME, form.HOOK_CLASS)
    standard = shown.standard_fields
    behaviour: Any = form.python_ui_field_behaviour()
    assert standard.url_schema.hidden
    assert standard.login.hidden
    assert not standard.port.hidden
    assert (standard.port.title, standard.port.placeholder) == (None, "443")
    assert (standard.host.title, standard.host.placeholder) == (None, "https://us.posthog.com")
    assert (standard.password.hidden, standard.password.title) == (False, behaviour["relabeling"]["password"])
    fields: Any = form.conn_fields()
    # 3.1 makes the form of the hook's widgets, whose validators it does not read, and has a default once.
    from_widgets = "conn-fields" not in json.dumps(schema("provider.yaml.schema.json"))
    lost = {"default", "minimum"} if from_widgets else set()
    assert list(shown.extra_fields) == list(fields)
    for name, field in shown.extra_fields.items():
        assert field["value"] == fields[name]["schema"].get("default")
        assert field["description"] == fields[name]["description"]
        kept = {key: value for key, value in fields[name]["schema"].items() if key not in lost}
        assert field["schema"] == {**kept, "title": fields[name]["label"]}


def check_form_of_2() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    prefix = f"extra__{form.CONN_TYPE}__"
    fields: Any = form.conn_fields()
    shown = {name: info for name, info in manager.connection_form_widgets.items() if name.startswith(prefix)}
    assert {name.removeprefix(prefix) for name in shown} == set(fields)
    for name, info in shown.items():
        field = fields[name.removeprefix(prefix)]
        assert str(info.field.args[0]) == field["label"]
        assert info.field.kwargs["default"] == field["schema"].get("default")
        assert info.is_sensitive == (field["schema"].get("format") == "password")
    behaviour: Any = manager.field_behaviours[form.CONN_TYPE]
    assert behaviour["hidden_fields"] == ["schema", "login"]
    assert behaviour["placeholders"]["port"] == "443"
    assert behaviour["placeholders"][f"{prefix}project_id"] == "12345"
