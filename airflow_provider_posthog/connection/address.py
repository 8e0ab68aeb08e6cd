"""Combine a connection's host, port and schema into one base URL.

PostHog's API and its ingestion have different hosts, and the address that people copy from their browser is that of a
project's page; each mistake is refused with what to write instead.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from typing import NoReturn

from airflow_provider_posthog.api.settings import DEFAULT_HOST
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

log = logging.getLogger(__name__)

VISIBLE = pattern(r"[!-~]+")
ADDRESS = r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{0,5}))?"
# a word that starts like a key, or anything as long as real ones, wherever it stands ("graphs_..." is none)
KEY = pattern(r"\bph[acrsx]_[a-z0-9_-]{10,}|ph[acrsx]_[a-z0-9]{20,}", re.IGNORECASE)
_HOST = pattern(ADDRESS + r"(?P<path>[/?#].*)?")
_CAPTURE_HOST = pattern(r"(?:(?P<label>.*)\.)?i\.posthog\.com")
_LABEL = pattern(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LAST_PORT = 65_535
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".svc", ".home.arpa")


def stripped(value: object) -> str:
    """Return a value as text without blanks around it; empty for ``None``."""
    return "" if value is None else str(value).strip()


def holds_key(value: object, key: str) -> bool:
    """Return whether a value holds the key, or anything that looks like one."""
    text = str(value)
    return bool(KEY.search(text)) or (len(key) >= 8 and key.lower() in text.lower())


def refuse_key(field: str, value: object, key: str) -> None:
    """Refuse a key in a field that logs and errors may show.

    :raises PostHogSettingsError: without the value.
    """
    if holds_key(value, key):
        raise PostHogSettingsError(
            field, "holds what looks like a PostHog key.", "Write the key in the connection's password, nowhere else."
        )


def read_base_url(host: object, port: object, schema: object, key: str) -> str:
    """Return scheme, host and, unless it is the scheme's own, the port, such as ``http://localhost:8000``.

    Without a scheme it is https, but http for this machine. http to a public host is allowed, with a warning.

    :param host: a host's name, with or without scheme and port; nothing means PostHog's US cloud.
    :param port: a port; ``None`` and 0 (which Airflow 3.3's form sends for an empty field) mean none.
    :param schema: ``http``, ``https`` or nothing.
    :param key: the API key, to recognize it where it must not be.
    :raises PostHogSettingsError: if this is not an address of a PostHog API.
    """
    address = stripped(host) or DEFAULT_HOST
    refuse_key("host", address, key)
    if not VISIBLE.fullmatch(address):  # before lower(), which makes ASCII of some letters that are not
        _refuse_host(address)
    written, rest = _split_scheme(address)
    match = _HOST.fullmatch(rest)
    name = match["name"].rstrip(".") if match else ""
    if not match or not is_host_name(name) or int(match["port"] or 0) > _LAST_PORT:
        _refuse_host(rest)
    scheme = _choose_scheme(written, name, schema, key)
    number = _choose_port(int(match["port"] or 0), port)
    base_url = f"{scheme}://{name}" + ("" if number in (0, 443 if scheme == "https" else 80) else f":{number}")
    _refuse_what_is_no_api(name, match["path"] or "", base_url)
    if scheme == "http" and not _is_near(name):
        log.warning("The PostHog connection uses http: the key travels in clear to %s. Write https://.", name)
    return base_url


def read_ingestion_host(field: str, value: object) -> str:
    """Return the address that takes events in: scheme, host and, unless it is the scheme's own, the port.

    :param field: the connection's field.
    :param value: a host's name, with or without scheme and port.
    :raises PostHogSettingsError: if it is not an address.
    """
    address = stripped(value).rstrip("/")
    remedy = "Write https://us.i.posthog.com, https://eu.i.posthog.com or your own server, or leave it empty."
    scheme, separator, rest = address.lower().partition("://")
    if not separator:
        scheme, rest = "", address.lower()
    match = _HOST.fullmatch(rest) if VISIBLE.fullmatch(address or "-") else None
    name = match["name"].rstrip(".") if match else ""
    if not match or scheme not in ("", "http", "https") or match["path"] or not is_host_name(name):
        raise PostHogSettingsError(field, "is not a host's name with, at most, a scheme and a port.", remedy)
    port = int(match["port"] or 0)
    if port > _LAST_PORT:
        raise PostHogSettingsError(field, "has a port above 65535.", remedy)
    scheme = scheme or ("http" if _is_loopback(name) else "https")
    return f"{scheme}://{name}" + ("" if port in (0, 443 if scheme == "https" else 80) else f":{port}")


def _split_scheme(text: str) -> tuple[str, str]:
    """Return the scheme as written (or nothing) and the rest, in lower case."""
    written, separator, rest = text.lower().partition("://")
    if not separator:
        return "", written
    if rest.startswith(("http:", "https:")):
        raise PostHogSettingsError("host", "has two schemes.", "Write one of them.")
    if written not in ("http", "https"):
        raise PostHogSettingsError("host", "starts with a scheme that is not PostHog's.", f"Write {DEFAULT_HOST}.")
    return written, rest


def _refuse_host(address: str) -> NoReturn:
    if "@" in address:
        raise PostHogSettingsError(
            "host", "holds a user name or a password.", f"Write the host alone, such as {DEFAULT_HOST}."
        )
    raise PostHogSettingsError(
        "host",
        "is not a host's name with, at most, a port up to 65535.",
        f"Write {DEFAULT_HOST}, https://eu.posthog.com or your own server, such as https://posthog.example:8443.",
    )


def _refuse_what_is_no_api(name: str, path: str, base_url: str) -> None:
    capture = _CAPTURE_HOST.fullmatch(name)
    if capture:
        region = "eu" if (capture["label"] or "").startswith("eu") else "us"
        raise PostHogSettingsError(
            "host", f"{name} only takes events in.", f"Write https://{region}.posthog.com, where PostHog's API is."
        )
    if name in ("us", "eu"):
        raise PostHogSettingsError("host", f"is {name}, a region and no host.", f"Write https://{name}.posthog.com.")
    if name in ("posthog.com", "www.posthog.com"):
        raise PostHogSettingsError(
            "host", f"{name} is PostHog's web site.", f"Write {DEFAULT_HOST} or https://eu.posthog.com, your region."
        )
    if path.strip("/?#"):
        project = re.search(r"/(?:projects?|environments)/([1-9][0-9]{0,17})(?![0-9])", path)
        number = f" and {project[1]} as project_id" if project else ", and the project's number as project_id"
        raise PostHogSettingsError("host", "has a path behind the host's name.", f"Write {base_url} as host{number}.")


def _choose_scheme(written: str, name: str, schema: object, key: str) -> str:
    refuse_key("schema", schema, key)
    second = stripped(schema).strip("/").lower()
    if second not in ("", "http", "https"):
        raise PostHogSettingsError(
            "schema",
            "is neither http nor https (in a connection's URI it is what follows the host's slash).",
            "Leave it empty, and write a project's number as the extra project_id.",
        )
    if written and second and written != second:
        raise PostHogSettingsError(
            "schema", f"is {second}, but the host starts with {written}://.", "Write one of the two only."
        )
    return written or second or ("http" if _is_loopback(name) else "https")


def _choose_port(in_host: int, field: object) -> int:
    """Return the port, 0 for none."""
    written = stripped(field) or "0"
    in_field = int(written) if re.fullmatch(r"[0-9]{1,5}", written) else -1
    if not 0 <= in_field <= _LAST_PORT:
        raise PostHogSettingsError("port", "is not a number from 1 to 65535.", "Write 443, or leave it empty.")
    if in_host and in_field and in_host != in_field:
        raise PostHogSettingsError("port", f"is {in_field}, but the host says {in_host}.", f"Write {in_host} as port.")
    return in_host or in_field


def is_host_name(name: str) -> bool:
    """Whether a text in lower case is a host's name, an IPv4 address or an IPv6 address in brackets."""
    if name.startswith("["):
        return isinstance(_address(name), ipaddress.IPv6Address)
    return len(name) <= 253 and all(_LABEL.fullmatch(label) for label in name.split("."))


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


def _is_loopback(name: str) -> bool:
    address = _address(name)
    return address.is_loopback if address else name == "localhost" or name.endswith(".localhost")


def _is_near(name: str) -> bool:
    """Whether a host is on this machine or in a private network, as far as its name tells."""
    address = _address(name)
    if address:
        return address.is_private or address.is_link_local
    return "." not in name or name.endswith(_PRIVATE_SUFFIXES)
