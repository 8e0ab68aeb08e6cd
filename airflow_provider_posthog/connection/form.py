"""The connection type ``posthog``: one table of fields, from which come the form's two shapes and the parser.

Airflow 3.2 and later build the form from a provider's metadata (3.3 from nothing else), 2.11 to 3.1 from two methods
of the hook. Both are made here from :data:`FIELDS`, so that they cannot drift apart, and :func:`parse` reads what
either of them, a URI or a secrets backend has written. Nothing here imports Airflow or an HTTP library.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from airflow_provider_posthog.api.settings import DEFAULT_HOST, ClientSettings
from airflow_provider_posthog.audit.pseudonyms import SALT_REMEDY, read_salt
from airflow_provider_posthog.connection.address import KEY, VISIBLE, holds_key, read_base_url, refuse_key, stripped
from airflow_provider_posthog.connection.fields import FIELDS, FormField, is_unset, show
from airflow_provider_posthog.exceptions import PostHogSettingsError

CONN_TYPE = "posthog"
HOOK_NAME = "PostHog"
DEFAULT_CONN_ID = "posthog_default"
HOOK_CLASS = "airflow_provider_posthog.hooks.sql.PostHogSqlHook"

log = logging.getLogger(__name__)

_OLD_PREFIX = f"extra__{CONN_TYPE}__"  # how forms before Airflow 2.3, and the Test button of 2.x, name an extra


class ConnectionLike(Protocol):
    """What :func:`parse` needs of an Airflow ``Connection``, whichever Airflow's it is."""

    @property
    def host(self) -> str | None:
        """The host, with or without a scheme and a port."""

    @property
    def password(self) -> str | None:
        """The personal API key."""

    @property
    def port(self) -> int | None:
        """The port; ``None`` and 0 mean that of the scheme."""

    @property
    def schema(self) -> str | None:
        """``http`` or ``https``: what stands after the slash of a connection URI."""

    @property
    def login(self) -> str | None:
        """Not used; looked at only to find a key that was put there."""

    @property
    def extra_dejson(self) -> object:
        """The extras."""


def conn_fields() -> dict[str, dict[str, object]]:
    """Return the extras as Airflow 3.2 and later want them in ``conn-fields`` (JSON Schema, each may be null)."""
    return {field.name: _as_conn_field(field) for field in FIELDS}


def _as_conn_field(field: FormField) -> dict[str, object]:
    schema: dict[str, object] = {"type": ["integer" if field.kind == "integer" else "string", "null"]}
    if field.kind == "password":
        schema["format"] = "password"
    if field.choices:
        schema["enum"] = list(field.choices)
    if field.minimum is not None:
        schema["minimum"] = field.minimum
    if field.default is not None and field.written:
        schema["default"] = field.default
    return {"label": field.label, "description": field.description, "schema": schema}


def ui_field_behaviour() -> dict[str, object]:
    """Return what the form does with Airflow's own fields, in the metadata's spelling (``hidden-fields``).

    ``port`` is not hidden: the Test button of Airflow 3.3 refuses a connection that has none, and the placeholder says
    what to write. The label of the key says where the project is: Airflow 3 hides extras behind a click.
    """
    return {name.replace("_", "-"): value for name, value in python_ui_field_behaviour().items()}


def python_ui_field_behaviour() -> dict[str, object]:
    """Return the same as :func:`ui_field_behaviour` in the spelling of the hook's method (``hidden_fields``)."""
    extras = {field.name: field.placeholder for field in FIELDS if field.placeholder}
    return {
        "hidden_fields": ["schema", "login"],
        "relabeling": {"password": "Personal API key (the project's number: Extra Fields)"},
        "placeholders": {"host": DEFAULT_HOST, "password": "phx_...", "port": "443", **extras},
    }


def connection_form_widgets() -> dict[str, object]:
    """Return the extras as WTForms fields, for the form of Airflow 2.11 to 3.1.

    Needs ``wtforms``, ``flask_babel`` and ``flask_appbuilder``, or Airflow's stand-ins for them (3.1).
    """
    from flask_appbuilder.fieldwidgets import BS3PasswordFieldWidget, BS3TextFieldWidget
    from flask_babel import lazy_gettext
    from wtforms import IntegerField, PasswordField, StringField
    from wtforms.validators import NumberRange, Optional, any_of

    # A password widget leaves its value out of the page, and saving the page unchanged would then erase the proxy.
    hidden = BS3PasswordFieldWidget()
    hidden.hide_value = False
    kinds = {"integer": IntegerField, "password": PasswordField, "string": StringField}

    def widget(field: FormField) -> object:
        # "Optional" comes first: the page holds the fields of every connection type, those of the others empty.
        validators = [Optional()]
        if field.choices:
            validators.append(any_of(list(field.choices)))
        if field.minimum is not None:
            validators.append(NumberRange(min=field.minimum))
        return kinds[field.kind](
            lazy_gettext(field.label),
            validators=validators,
            description=field.description,
            default=field.default if field.written else None,
            widget=hidden if field.kind == "password" else BS3TextFieldWidget(),
        )

    return {field.name: widget(field) for field in FIELDS}


def parse(conn: ConnectionLike, *, project_id: object = None) -> ClientSettings:
    """Read a connection; look at nothing but what it holds, and send nothing.

    Extras may be JSON values or texts, named plainly or ``extra__posthog__...``; null, an empty text and the text
    ``null`` mean the default. Extras of unknown names are ignored with a warning.

    :param conn: the connection.
    :param project_id: a task's project, which wins over the connection's; ``None`` and an empty text mean "not set".
    :raises PostHogSettingsError: for what cannot work, with what to write instead. Neither the key nor the proxy is
        ever shown, and a key in any other field than the password and the proxy is refused.
    """
    key = _read_key(conn)
    extra = _read_extra(conn.extra_dejson, key)
    if not (project_id is None or project_id == ""):
        own = stripped(extra.get("project_id"))
        if own and own != stripped(project_id):
            extra.pop("project_token", None)  # it is of the connection's project, and would send events there
        extra["project_id"] = project_id
    values: dict[str, Any] = {"base_url": read_base_url(conn.host, conn.port, conn.schema, key)}
    for field in (candidate for candidate in FIELDS if candidate.of_client):
        value = extra.get(field.name, field.default)
        if field.kind != "password":
            refuse_key(field.name, value, key)
        values[field.name] = None if value is None else field.read(field.name, value)
    return ClientSettings(api_key=key, **values)


def find_audit_secret(conn: ConnectionLike) -> str:
    """Return the connection's ``audit_secret`` as it is written, so that it can be masked; empty if there is none.

    :param conn: the connection.
    """
    extra = conn.extra_dejson
    if not isinstance(extra, Mapping):
        return ""
    values = [extra.get(name) for name in ("audit_secret", f"{_OLD_PREFIX}audit_secret")]
    return next((stripped(value) for value in values if not is_unset(value)), "")


def read_audit_secret(salt: str, key: str) -> str:
    """Check an ``audit_secret``; no error shows it.

    :param salt: the salt, as :func:`find_audit_secret` found it.
    :param key: the API key, which is not a salt: whoever may use PostHog could find identifiers by it.
    :raises PostHogSettingsError: if it is not set, can be guessed, or is a key.
    """
    if holds_key(salt, key):
        raise PostHogSettingsError("audit_secret", "holds what looks like a PostHog key.", SALT_REMEDY)
    return read_salt("audit_secret", salt)


def _read_key(conn: ConnectionLike) -> str:
    key = stripped(conn.password)
    remedy = "Write a personal API key (phx_..., PostHog: Settings > Personal API keys) in the connection's password."
    if not key and KEY.search(stripped(conn.login)):
        problem = (
            "is empty, but the login holds what looks like a key (in a URI a colon precedes it: posthog://:KEY@HOST)."
        )
    elif not key:
        problem = "is empty."
    elif key.lower().startswith("phc_"):
        problem = "is a project token (phc_...), which can only send events to PostHog."
    elif not key.strip("*"):
        problem = "is the mask that Airflow shows in place of a key."
    elif key.lower().startswith("bearer"):
        problem = "begins with the word Bearer, which no key does."
    elif key[0] in "\"'":
        problem = "is in quotes, which no key has."
    elif not VISIBLE.fullmatch(key):
        problem = "holds a blank, a line break, or another control or non-ASCII character, which no key has."
    else:
        return key
    raise PostHogSettingsError("password", problem, remedy)


def _read_extra(extra: object, key: str) -> dict[str, object]:
    """Return the extras that are set, by their plain names."""
    if extra is None:
        return {}
    if not isinstance(extra, Mapping):
        raise PostHogSettingsError("extra", "is not a JSON object.", 'Write it like {"project_id": 12345}.')
    known = [field.name for field in FIELDS]
    unknown = [str(name) for name in extra if str(name).removeprefix(_OLD_PREFIX) not in known]
    if unknown:
        names = ", ".join("<hidden>" if holds_key(name, key) else show(name) for name in sorted(unknown)[:20])
        log.warning("The PostHog connection has extras that mean nothing here and are ignored: %s", names)
    # the plain name comes last, because it wins where both are set
    spellings = [(name, spelling) for name in known for spelling in (_OLD_PREFIX + name, name)]
    return {name: extra[spelling] for name, spelling in spellings if not is_unset(extra.get(spelling))}
