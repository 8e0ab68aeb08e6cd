"""The extras of a connection of the type ``posthog``: one table, and how the value of each is read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from airflow_provider_posthog.api.settings import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_MAX_IN_FLIGHT,
    DEFAULT_RATE_LIMIT_WAIT,
    DEFAULT_READ_TIMEOUT,
    PATH_PREFIXES,
    Shares,
    parse_project_id,
)
from airflow_provider_posthog.audit.pseudonyms import read_salt
from airflow_provider_posthog.connection.address import (
    ADDRESS,
    VISIBLE,
    is_host_name,
    read_ingestion_host,
    stripped,
)
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

_LONGEST_SECONDS = 86_400.0  # more is a mistake of the unit, and overflows the timers of the HTTP libraries later on
_PROXY = pattern(r"(?:https?|socks5)://(?:[^/?#@]*@)?" + ADDRESS + r"/?", re.IGNORECASE)


@dataclass(frozen=True)
class FormField:
    """One extra of the connection.

    :param name: its name in the extra and, where it is one of the client's, in :class:`ClientSettings`.
    :param label: what the form calls it.
    :param description: the form's help text.
    :param read: ``read(name, value)`` turns a value that is set into that of :class:`ClientSettings`.
    :param kind: ``string``, ``integer`` or ``password`` (a text that the form does not show).
    :param default: what an unset value means, and what the form writes if it is ``written``.
    :param choices: the only values it may have.
    :param minimum: the smallest number.
    :param placeholder: an example, shown by the form of 2.x.
    :param of_client: whether it is one of :class:`ClientSettings`.
    :param written: whether the form writes the default. Airflow 3 takes each text among the extras for a secret to
        mask, and warns of one that is shorter than five characters.
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
    of_client: bool = True
    written: bool = True


def is_unset(value: object) -> bool:
    """Whether a value means the default: null, an empty text, or the text ``null``."""
    return value is None or (isinstance(value, str) and value.strip() in ("", "null"))


def show(value: object) -> str:
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
            field, f"{show(value)} is not a prefix of PostHog's paths.", f"Write {' or '.join(PATH_PREFIXES)}."
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
            field, f"{show(value)} is not a usable number of seconds.", "Write seconds above 0, at most 86400 (a day)."
        )
    return seconds


def _read_wait(field: str, value: object) -> float:
    return 0.0 if _parse_number(value) == 0 else _read_seconds(field, value)


def _read_count(field: str, value: object) -> int:
    number = _parse_number(value)
    if not number or number != int(number):
        raise PostHogSettingsError(
            field, f"{show(value)} is not a number of calls.", "Write a whole number from 1; PostHog allows 3."
        )
    return int(number)


def _read_share(field: str, value: object) -> float | Shares:
    parts = _read_object(value)
    if parts is None:
        return _read_part(field, value, show(value))
    if set(parts) != set(Shares._fields):
        raise PostHogSettingsError(
            field, "names other processes than worker and triggerer.", 'Write {"worker": 0.1, "triggerer": 0.5}.'
        )
    return Shares(**{name: _read_part(field, part, f"what it has for the {name}") for name, part in parts.items()})


def _read_part(field: str, value: object, shown: str) -> float:
    share = _parse_number(value)
    if share is None or share > 1:
        problem = f"{shown} is not a share of PostHog's rate limits."
        raise PostHogSettingsError(field, problem, "Write a number above 0 and up to 1, such as 0.5; or 0: no budget.")
    return share


def _read_object(value: object) -> Mapping[str, object] | None:
    """Return a mapping that was given as one, or as its JSON; ``None`` for anything else."""
    if isinstance(value, str) and value.strip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping) else None


def _read_verify(field: str, value: object) -> bool | str:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    text = stripped(value)
    if isinstance(value, (bool, int, str)) and text.lower() in words:
        return words[text.lower()]
    if not isinstance(value, str) or not text.isprintable() or text.isalnum():
        raise PostHogSettingsError(
            field,
            f"{show(value)} is neither true, false nor a file.",
            "Write true, false, or the path of a file with the CA's certificates, such as /etc/ssl/certs/our-ca.pem.",
        )
    return text


def _read_proxy(field: str, value: object) -> str:
    text = stripped(value)
    match = _PROXY.fullmatch(text) if VISIBLE.fullmatch(text) else None
    if not match or not is_host_name(match["name"].lower()) or not 0 < int(match["port"] or 80) < 65_536:
        raise PostHogSettingsError(
            field,
            "is not the URL of a proxy (it may hold a password and is not shown).",
            "Write http://proxy.example:3128 or http://user:password@proxy.example:3128, with http, https or socks5; "
            "percent-encode '@', '/', '?' and '#' in the password.",
        )
    return text


def _read_token(field: str, value: object) -> str:
    text = stripped(value)
    remedy = "Write the project's token (phc_..., PostHog: Settings > Project), or leave it empty: PostHog is asked."
    if re.match(r"(?i)ph[arsx]_", text):
        raise PostHogSettingsError(field, "is a key, and no project token.", remedy)
    if not isinstance(value, str) or not VISIBLE.fullmatch(text) or not text.strip("*") or text[0] in "\"'":
        raise PostHogSettingsError(field, "is not a project token (it is not shown).", remedy)
    return text


FIELDS: tuple[FormField, ...] = (
    FormField(
        "project_id",
        "Project ID",
        "The project's number (PostHog: Settings > Project ID), such as 12345. A task may name another one.",
        _read_project,
        kind="integer",
        minimum=1,
        placeholder="12345",
    ),
    FormField(
        "path_prefix",
        "Path prefix",
        "Leave it as it is. Take environments only for a server that answers /api/projects/... with 404.",
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
        "true, false, or the path of a file with the CA's certificates. Empty: true.",
        _read_verify,
        default="true",
        written=False,
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
        "Most queries at once",
        "How many queries a process sends at once to the project; PostHog allows 3.",
        _read_count,
        kind="integer",
        default=DEFAULT_MAX_IN_FLIGHT,
        minimum=1,
    ),
    FormField(
        "rate_limit_share",
        "Share of PostHog's rate limits",
        "How much of PostHog's rate limits each process may use, such as 0.5 for half. 0: as much as it likes. Empty: "
        "workers and triggerer share them, and a server on this machine has no limits.",
        _read_share,
        placeholder='{"worker": 0.1, "triggerer": 0.5}',
    ),
    FormField(
        "project_token",
        "Project token",
        "phc_..., with which events are sent to PostHog. Empty: PostHog is asked (the key needs project:read).",
        _read_token,
        kind="password",
    ),
    FormField(
        "ingestion_host",
        "Ingestion host",
        "Where events are sent to. Empty: https://us.i.posthog.com or eu.i.posthog.com, or your own server's host.",
        read_ingestion_host,
        placeholder="https://us.i.posthog.com",
    ),
    FormField(
        "audit_secret",
        "Salt of erasure certificates (secret)",
        "Stands in the HMACs of erased persons' identifiers: 32 random characters or more. Keep a copy.",
        read_salt,
        kind="password",
        of_client=False,
    ),
)
