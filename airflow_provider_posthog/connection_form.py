"""The connection type ``posthog``: one table of fields, from which come the form's two shapes and the parser.

Airflow 3.2 and later build the form from a provider's metadata (3.3 from nothing else), 2.11 to 3.1 from two methods
of the hook. Both are made here from :data:`FIELDS`, so that they can not drift apart, and :func:`parse` reads what
either of them, a URI or a secrets backend has written. Nothing here imports Airflow or an HTTP library.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from airflow_provider_posthog.api.settings import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_HOST,
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_RATE_LIMIT_WAIT,
    DEFAULT_READ_TIMEOUT,
    PATH_PREFIXES,
    ClientSettings,
    parse_project_id,
)
from airflow_provider_posthog.connection_address import (
    ADDRESS,
    KEY,
    VISIBLE,
    holds_key,
    is_host_name,
    read_base_url,
    refuse_key,
    stripped,
)
from airflow_provider_posthog.exceptions import PostHogSettingsError

CONN_TYPE = "posthog"
HOOK_NAME = "PostHog"
DEFAULT_CONN_ID = "posthog_default"
HOOK_CLASS = "airflow_provider_posthog.hooks.posthog.PostHogHook"

log = logging.getLogger(__name__)

_LONGEST_SECONDS = 86_400.0  # more is a mistake of the unit, and overflows the timers of the HTTP libraries later on
_OLD_PREFIX = f"extra__{CONN_TYPE}__"  # how forms before Airflow 2.3, and the Test button of 2.x, name an extra
_PROXY = re.compile(r"(?:https?|socks5)://(?:[^/?#@]*@)?" + ADDRESS + r"/?", re.IGNORECASE)


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


@dataclass(frozen=True)
class FormField:
    """One extra of the connection.

    :param name: its name in the extra and in :class:`ClientSettings`.
    :param label: what the form calls it.
    :param description: the form's help text.
    :param read: ``read(name, value)`` turns a value that is set into that of :class:`ClientSettings`.
    :param kind: ``string``, ``integer`` or ``password`` (a text that the form does not show).
    :param default: what the form writes, and what an unset value means.
    :param choices: the only values it may have.
    :param minimum: the smallest number.
    :param placeholder: an example, shown by the form of 2.x.
    """

    name: str
    label: str
    description: str
    read: Callable[[str, object], object]
    kind: str = "string"
    default: str | int | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    placeholder: str | None = None


def _is_unset(value: object) -> bool:
    return value is None or (isinstance(value, str) and value.strip() in ("", "null"))


def _show(value: object) -> str:
    """Quote a value in an error; texts that hold a key were refused by :func:`refuse_key` before."""
    if isinstance(value, str):
        return repr(value[:40])
    return repr(value) if isinstance(value, (int, float)) and abs(value) < 1e12 else f"this {type(value).__name__}"


def _read_project(field: str, value: object) -> int | None:
    return parse_project_id(value)


def _read_prefix(field: str, value: object) -> str:
    prefix = stripped(value).strip("/")
    if prefix not in PATH_PREFIXES:
        raise PostHogSettingsError(
            field, f"{_show(value)} is not a prefix of PostHog's paths.", f"Write {' or '.join(PATH_PREFIXES)}."
        )
    return prefix


def _parse_number(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]{1,9})?\s*", value, re.ASCII) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < 1e9 else None  # false for "not a number" too


def _read_seconds(field: str, value: object) -> float:
    seconds = _parse_number(value)
    if not seconds or seconds > _LONGEST_SECONDS:
        raise PostHogSettingsError(
            field, f"{_show(value)} is not a usable number of seconds.", "Write seconds above 0, at most 86400 (a day)."
        )
    return seconds


def _read_wait(field: str, value: object) -> float:
    return 0.0 if _parse_number(value) == 0 else _read_seconds(field, value)


def _read_count(field: str, value: object) -> int:
    number = _parse_number(value)
    if not number or number != int(number):
        raise PostHogSettingsError(
            field, f"{_show(value)} is not a number of calls.", "Write a whole number from 1; PostHog allows 3."
        )
    return int(number)


def _read_share(field: str, value: object) -> float:
    share = _parse_number(value)
    if share is None or share > 1:
        problem = f"{_show(value)} is not a share of PostHog's rate limits."
        raise PostHogSettingsError(field, problem, "Write a number above 0 and up to 1, such as 0.5; or 0: no budget.")
    return share


def _read_verify(field: str, value: object) -> bool | str:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    text = stripped(value)
    if isinstance(value, (bool, int, str)) and text.lower() in words:
        return words[text.lower()]
    if not isinstance(value, str) or not text.isprintable() or text.isalnum():
        raise PostHogSettingsError(
            field,
            f"{_show(value)} is neither true, false nor a file.",
            "Write true, false, or the path of a file with the CA's certificates, such as /etc/ssl/certs/our-ca.pem.",
        )
    return text


def _read_proxy(field: str, value: object) -> str:
    text = stripped(value)
    found = _PROXY.fullmatch(text) if VISIBLE.fullmatch(text) else None
    if not found or not is_host_name(found["name"].lower()) or not 0 < int(found["port"] or 80) < 65_536:
        raise PostHogSettingsError(
            field,
            "is not the URL of a proxy (it may hold a password and is not shown).",
            "Write http://proxy.example:3128 or http://user:password@proxy.example:3128, with http, https or socks5; "
            "percent-encode '@', '/', '?' and '#' in the password.",
        )
    return text


FIELDS: tuple[FormField, ...] = (
    FormField(
        "project_id",
        "Project ID",
        "The project's number (PostHog: Settings > Project ID), such as 12345. A task may name another one.",
        _read_project,
        placeholder="12345",
    ),
    FormField(
        "path_prefix",
        "Path prefix",
        "projects; environments only for a server that answers /api/projects/... with 404.",
        _read_prefix,
        default=PATH_PREFIXES[0],
        choices=PATH_PREFIXES,
    ),
    FormField(
        "connect_timeout",
        "Connect timeout (seconds)",
        "How long to try to reach the server.",
        _read_seconds,
        kind="integer",
        default=int(DEFAULT_CONNECT_TIMEOUT),
        minimum=1,
    ),
    FormField(
        "read_timeout",
        "Read timeout (seconds)",
        "How long to wait for the next bytes of an answer.",
        _read_seconds,
        kind="integer",
        default=int(DEFAULT_READ_TIMEOUT),
        minimum=1,
    ),
    FormField(
        "max_rate_limit_wait",
        "Longest wait for the rate limit (seconds)",
        "How long a worker waits when PostHog answers 429, before it gives the slot back; 0: not at all.",
        _read_wait,
        kind="integer",
        default=int(DEFAULT_RATE_LIMIT_WAIT),
        minimum=0,
    ),
    FormField(
        "verify",
        "Verify certificate",
        "true, false, or the path of a file with the CA's certificates.",
        _read_verify,
        default="true",
    ),
    FormField(
        "proxy",
        "Proxy",
        "The URL of a proxy, such as http://user:password@proxy.example:3128. Empty: what the environment says.",
        _read_proxy,
        kind="password",
    ),
    FormField(
        "max_in_flight",
        "Queries at once",
        "How many queries a process sends at once to the project; PostHog allows 3.",
        _read_count,
        kind="integer",
        default=DEFAULT_MAX_IN_FLIGHT,
        minimum=1,
    ),
    FormField(
        "rate_limit_share",
        "Share of PostHog's rate limits",
        "Which part of them each process may use up, such as 0.5; 0: no budget. Empty: 1, but 0 for this machine.",
        _read_share,
        placeholder="1",
    ),
)


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
    if field.default is not None:
        schema["default"] = field.default
    return {"label": field.label, "description": field.description, "schema": schema}


def ui_field_behaviour() -> dict[str, object]:
    """Return what the form does with Airflow's own fields, in the metadata's spelling (``hidden-fields``).

    ``port`` is not hidden: the Test button of Airflow 3.3 refuses a connection that has none.
    """
    return {name.replace("_", "-"): value for name, value in python_ui_field_behaviour().items()}


def python_ui_field_behaviour() -> dict[str, object]:
    """Return the same as :func:`ui_field_behaviour` in the spelling of the hook's method (``hidden_fields``)."""
    extras = {field.name: field.placeholder for field in FIELDS if field.placeholder}
    return {
        "hidden_fields": ["schema", "login"],
        "relabeling": {"password": "Personal API key", "port": "Port (write 443: the Test button needs it)"},
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
            default=field.default,
            widget=hidden if field.kind == "password" else BS3TextFieldWidget(),
        )

    return {field.name: widget(field) for field in FIELDS}


def parse(conn: ConnectionLike, *, project_id: object = None) -> ClientSettings:
    """Read a connection; look at nothing but what it holds, and send nothing.

    Extras may be JSON values or texts, named plainly or ``extra__posthog__...``; null, an empty text and the text
    ``null`` mean the default. Extras of unknown names are ignored with a warning.

    :param conn: the connection.
    :param project_id: a task's project, which wins over the connection's; ``None`` and an empty text mean "not set".
    :raises PostHogSettingsError: for what can not work, with what to write instead. Neither the key nor the proxy is
        ever shown, and a key in any other field than the password and the proxy is refused.
    """
    key = _read_key(conn)
    extra = _read_extra(conn.extra_dejson, key)
    if not (project_id is None or project_id == ""):
        extra["project_id"] = project_id
    values: dict[str, Any] = {"base_url": read_base_url(conn.host, conn.port, conn.schema, key)}
    for field in FIELDS:
        value = extra.get(field.name, field.default)
        if field.kind != "password":
            refuse_key(field.name, value, key)
        values[field.name] = None if value is None else field.read(field.name, value)
    return ClientSettings(api_key=key, **values)


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
    elif not VISIBLE.fullmatch(key) or key[0] in "\"'":
        problem = (
            "holds a quote, a blank, a control or a non-ASCII character, or a word such as Bearer; no key has them."
        )
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
        names = ", ".join("<hidden>" if holds_key(name, key) else _show(name) for name in sorted(unknown)[:20])
        log.warning("The PostHog connection has extras that mean nothing here and are ignored: %s", names)
    # the plain name comes last, because it wins where both are set
    spellings = [(name, spelling) for name in known for spelling in (_OLD_PREFIX + name, name)]
    return {name: extra[spelling] for name, spelling in spellings if not _is_unset(extra.get(spelling))}
