"""E-mail addresses: check that a text is one plain address, and list its spellings.

Anything else would match nobody, be listed as "not found", and look like a finished request.
"""

from __future__ import annotations

import re
import unicodedata

from airflow_provider_posthog.audit.addresses import folded as folded
from airflow_provider_posthog.audit.addresses import with_host

# Letters of any script, and what RFC 5322 allows in names; a quoted name may hold nearly everything.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)+"')
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\"\\.-]+")
_LABEL = re.compile(r"[^\W_](?:[\w-]*\w)?")
_NUMBER = re.compile(r"\[[0-9A-Za-z.:-]+\]")
#: Invisible characters that Unicode classes neither as blanks nor as controls: fillers, selectors, Braille's blank.
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def problem_of(text: str) -> str:
    """Return why a text is not one plain e-mail address; empty if it is one. The text is not shown.

    :param text: the text, without blanks (ASCII) around it.
    """
    if has_unseen(text):
        return "holds invisible characters, such as a special blank"
    if re.match(r"[a-z]+:", text, re.IGNORECASE):
        return "is a link, such as mailto:, and not a plain address"
    if "<" in text or ">" in text:
        return "holds a name beside the address, or angle brackets"
    name, _, domain = text.rpartition("@")
    if not name or not domain:
        return "is not an e-mail address"
    if not _QUOTED.fullmatch(name) and re.search(r"[\s,;|@]", text[: len(name)]):
        return "holds more than one plain address"
    if not (_QUOTED.fullmatch(name) or _is_name(name)) or not _is_domain(domain):
        return "is not one plain e-mail address"
    return ""


def has_unseen(text: str) -> bool:
    """Return whether a text holds a special blank or an invisible character.

    :param text: the text.
    """
    if _UNSEEN.search(text):
        return True
    return any(char != " " and unicodedata.category(char)[0] in "CZ" for char in text)


def _is_name(name: str) -> bool:
    letters = "".join(char if char.isascii() else _stand_in(char) for char in name)
    return bool(_NAME.fullmatch(letters)) and name[0] != '"' and not _has_loose_dots(name)


def _stand_in(char: str) -> str:
    """Letters, marks, digits and symbols of any script may stand in a name; quotes, bullets and dashes were pasted."""
    return "x" if unicodedata.category(char)[0] in "LMNS" else ","


def _is_domain(domain: str) -> bool:
    if _NUMBER.fullmatch(domain):
        return True
    plain = "".join("x" if unicodedata.category(char)[0] == "M" else char for char in domain)
    return all(map(_LABEL.fullmatch, plain.split(".")))


def _has_loose_dots(name: str) -> bool:
    return name.startswith(".") or name.endswith(".") or ".." in name


def spellings(address: str) -> set[str]:
    """Return the spellings of an address: as given, in lower case, composed or not, with both forms of the host.

    :param address: the address.
    """
    small = address.strip().lower()
    texts = {address}
    for spelling in (address, small, with_host(small, "ascii"), with_host(small, "unicode")):
        name, at, host = spelling.rpartition("@")
        texts |= {f"{one}{at}{other}" for one in _composed_or_not(name) for other in _composed_or_not(host)}
    return texts


def _composed_or_not(text: str) -> set[str]:
    return {unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)}


def is_printed_otherwise(address: str) -> bool:
    """Return whether HogQL may print an address of a profile differently: it prints JSON, with its escapes.

    :param address: the address.
    """
    return not address.isascii() or '"' in address or "\\" in address
