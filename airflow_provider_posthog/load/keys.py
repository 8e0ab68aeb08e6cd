"""Different keys that a database may treat as equal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

Key = tuple[Any, ...]


def alike(keys: Iterable[Key]) -> tuple[Key, Key] | None:
    """Return two different keys that a collation may treat as equal, if there are any.

    Collations ignore case, accents, trailing blanks, and how a character is composed.

    :param keys: the keys.
    """
    seen: dict[Key, Key] = {}
    for key in keys:
        other = seen.setdefault(tuple(map(_plain, key)), key)
        if other != key:
            return other, key
    return None


def differing(names: Sequence[str], keys: Sequence[Key] | None) -> list[str]:
    """Return the columns in which two keys differ; all, if there are no two.

    :param names: the key's columns.
    :param keys: two keys.
    """
    if not keys:
        return list(names)
    first, other = keys
    return [name for name, left, right in zip(names, first, other, strict=True) if left != right]


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of any type
    if not isinstance(value, str):
        return value
    signs = unicodedata.normalize("NFKD", value)
    return "".join(sign for sign in signs if not unicodedata.combining(sign)).casefold().rstrip()
