"""Sign with a key pair (Ed25519), so that those who can check a certificate cannot write one.

The seal is an HMAC: who holds the salt to check it could make one, too. The private key is with the workers that write,
and with nobody else; the public key is with everybody who checks.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_posthog.exceptions import PostHogSettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: The private key's file, or the key itself in PEM, in the environment of the workers.
KEY_VARIABLE = "POSTHOG_AUDIT_SIGNING_KEY"
_PEM = "-----BEGIN"
_REMEDY = "Make a pair with: python -m airflow_provider_posthog.audit keys PRIVATE.pem PUBLIC.pem"


class PublicKey:
    """Checks signatures.

    :param key: the key.
    """

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.key_id = _key_id(key)

    def __repr__(self) -> str:
        return f"<PublicKey {self.key_id}>"

    def has_signed(self, body: bytes, signature: str) -> bool:
        """Return whether a signature was made with the private key of this one.

        :param body: what was signed.
        :param signature: in hexadecimal digits.
        """
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(bytes.fromhex(signature), body)
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """Makes signatures; the key is never shown, and does not travel with the object.

    :param key: the private key.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = _key_id(key.public_key())

    def __repr__(self) -> str:
        return f"<Signer {self.key_id}>"

    def __getstate__(self) -> object:
        """Refuse to be pickled."""
        raise TypeError("a signing key cannot be pickled")

    def sign(self, body: bytes) -> str:
        """Return the signature, in hexadecimal digits.

        :param body: what is signed.
        """
        return self._key.sign(body).hex()


def read_signer(field: str, text: str) -> Signer:
    """Read a private key; no error shows it.

    :param field: what to call it in an error.
    :param text: the key in PEM (PKCS8, without a password), or the path of such a file.
    :raises PostHogSettingsError: if it is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    pem = _pem(field, text)
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise PostHogSettingsError(field, "holds no private Ed25519 key in PEM without a password.", _REMEDY) from None
    return Signer(key)


def signer_of_environment() -> Signer | None:
    """Return the workers' key from ``POSTHOG_AUDIT_SIGNING_KEY``; ``None`` where it is not set: nothing is signed.

    :raises PostHogSettingsError: if it is set, but not a key.
    """
    text = os.environ.get(KEY_VARIABLE, "").strip()
    return read_signer(KEY_VARIABLE, text) if text else None


def read_public_key(field: str, text: str) -> PublicKey:
    """Read a public key.

    :param field: what to call it in an error.
    :param text: the key in PEM, or the path of such a file.
    :raises PostHogSettingsError: if it is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    pem = _pem(field, text)
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise PostHogSettingsError(field, "holds no public Ed25519 key in PEM.", _REMEDY) from None
    return PublicKey(key)


def write_key_pair(private: str, public: str) -> str:
    """Make a key pair and write both files, which must not exist. Only the owner may read the private one.

    :param private: the path of the private key.
    :param public: the path of the public key.
    :returns: the id of the pair, as it stands in records.
    :raises FileExistsError: if one of them exists.
    """
    from cryptography.hazmat.primitives import serialization as pem
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    shown = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    for path, raw, mode in ((public, shown, 0o644), (private, secret, 0o600)):
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(raw)
    return _key_id(key.public_key())


def _pem(field: str, text: str) -> bytes:
    text = text.strip()
    if text.startswith(_PEM):
        return text.replace("\\n", "\n").encode() + b"\n"
    try:
        return Path(text).read_bytes()
    except (OSError, ValueError):  # not shown: it may be a key in another form
        raise PostHogSettingsError(field, "is neither a key in PEM nor a file that can be read.", _REMEDY) from None


def _key_id(key: Ed25519PublicKey) -> str:
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]
