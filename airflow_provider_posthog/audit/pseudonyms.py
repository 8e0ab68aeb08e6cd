"""Pseudonyms for identifiers: an auditor who knows an e-mail address can find it again, nobody else learns it."""

from __future__ import annotations

import hashlib
import hmac
from typing import TypedDict
from uuid import UUID

from airflow_provider_posthog.audit.addresses import folded
from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

#: The shortest salt, in characters. A salt that can be guessed gives away every e-mail address that can be guessed.
MIN_SALT = 32
SALT_REMEDY = (
    'Write a random text that is made once, with: python -c "import secrets; print(secrets.token_hex(32))" - as the '
    "extra audit_secret of the connection; keep a copy: without it no identifier can be found in a certificate again."
)

_KIND = pattern(r"[a-z][a-z0-9_]{0,39}")
_SALT = pattern(r"[!-~]+")
_UUID = pattern(
    r"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}|[0-9A-Fa-f]{32})(?![0-9A-Fa-f])"
)
#: So many digits of a pseudonym name a person on a page and in a text.
SHORT = 16


class Pseudonym(TypedDict):
    """The pseudonym of an identifier in a record.

    ``kind`` says what it is (``email``, ``distinct_id``, ``uuid``, ``property``, ...), ``hmac`` is the HMAC-SHA256 of
    it, 64 hexadecimal digits.
    """

    kind: str
    hmac: str


def read_salt(field: str, value: object) -> str:
    """Check a salt; no error shows it.

    :param field: what to call it in an error.
    :param value: the salt.
    :raises PostHogSettingsError: if it is shorter than 32 characters, holds blanks or others than ASCII characters, or
        is the mask that Airflow shows in place of a secret.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not text.strip("*"):
        problem = "is not set, and identifiers never stand in a certificate as they are."
    elif not _SALT.fullmatch(text):
        problem = "holds a blank, a control or a non-ASCII character (it is not shown)."
    elif len(text) < MIN_SALT or len(set(text)) < 8:
        problem = f"can be guessed: it needs at least {MIN_SALT} random characters (it is not shown)."
    else:
        return text
    raise PostHogSettingsError(field, problem, SALT_REMEDY)


def normal(kind: str, value: str) -> str:
    """Return an identifier in the one spelling that its pseudonym is made of.

    :param kind: ``email``: small letters, composed (NFC), without blanks around, its host in ASCII (``xn--...``);
        ``uuid``: small letters with dashes; any other counts as it is.
    :param value: the identifier.
    """
    if kind == "email":
        return folded(value)
    if kind == "uuid":
        try:
            return str(UUID(value.strip()))
        except ValueError:
            return value.strip().lower()
    return value


class Pseudonyms:
    """Makes pseudonyms for identifiers, and seals for records, with one salt.

    :param salt: the connection's ``audit_secret`` (``PostHogHook.audit_secret()``).
    :raises PostHogSettingsError: if the salt is not set or can be guessed.
    """

    def __init__(self, salt: str) -> None:
        self._key = read_salt("audit_secret", salt).encode()

    def __repr__(self) -> str:
        return f"<Pseudonyms with the salt {self.salt_id}>"

    @property
    def salt_id(self) -> str:
        """Identifies the salt without revealing it: 16 hexadecimal digits."""
        return self._mac(b"salt", b"")[:16]

    def of(self, kind: str, value: str) -> Pseudonym:
        """Return the pseudonym of an identifier: HMAC-SHA256 with the salt of ``identifier 0 kind 0 value``, as UTF-8.

        E-mail addresses and UUIDs are written in small letters first (:func:`normal`), since they match so; a distinct
        id counts as it is: PostHog takes ``Ann`` and ``ann`` for two.

        :param kind: ``email``, ``distinct_id``, ``uuid``, ``property``: a word of small letters.
        :param value: the identifier.
        :raises PostHogSettingsError: if the kind is no such word (it is written as it is).
        """
        if not _KIND.fullmatch(kind):
            raise PostHogSettingsError("kind", "is not a word of small letters.", "Write email or distinct_id.")
        text = normal(kind, value).encode("utf-8", "surrogatepass")
        return {"kind": kind, "hmac": self._mac(b"identifier", kind.encode(), text)}

    def without_uuids(self, text: str) -> str:
        """Return a text with pseudonyms in place of UUIDs: whoever knows a distinct id can calculate the person's.

        :param text: such as an error's message.
        """
        return _UUID.sub(lambda match: f"<person {self.of('uuid', match[0])['hmac'][:SHORT]}>", text)

    def seal(self, body: bytes) -> str:
        """Return the seal of a record, which only a holder of the salt can make.

        :param body: the record's canonical JSON without ``seal`` and ``hash``.
        """
        return self._mac(b"record", body)

    def _mac(self, *parts: bytes) -> str:
        return hmac.new(self._key, b"\0".join(parts), hashlib.sha256).hexdigest()
