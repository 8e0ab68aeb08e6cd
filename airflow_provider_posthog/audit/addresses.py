"""Write an e-mail address as it is compared, so that two spellings of one mailbox are equal."""

from __future__ import annotations

import unicodedata
from contextlib import suppress
from typing import Literal


def folded(address: str) -> str:
    """Return an address as it is compared: without case, composed, its host's name in ASCII.

    :param address: the address.
    """
    # casefold() would take "straße" for "strasse", which is another mailbox
    return with_host(unicodedata.normalize("NFC", address.strip().lower()), "ascii")


def with_host(address: str, form: Literal["ascii", "unicode"]) -> str:
    """Write the host's name in ASCII (``xn--...``), or in Unicode letters.

    :param address: the address, in lower case.
    :param form: ``ascii`` or ``unicode``.
    """
    name, at, host = address.rpartition("@")
    with suppress(UnicodeError):
        composed = unicodedata.normalize("NFC", host)
        in_ascii = composed.encode("idna")
        in_letters = in_ascii.decode("idna")
        if composed in (in_ascii.decode("ascii"), in_letters):  # otherwise it names another host: ß has become ss
            host = in_ascii.decode("ascii") if form == "ascii" else in_letters
    return f"{name}{at}{host}"
