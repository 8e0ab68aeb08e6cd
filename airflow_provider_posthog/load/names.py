"""Names of tables and columns, quoted so that any text is only ever a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import count

from airflow_provider_posthog.exceptions import PostHogSettingsError

_PART = re.compile(r'"(?P<exact>(?:[^"]|"")+)"|(?P<plain>[^\W\d][\w$]*)')


def parse_table(text: str, *, parts: int, fold: Callable[[str], str] = str) -> tuple[str, ...]:
    """Split a table's name, such as ``analytics.events`` or ``"My Schema".events``, into its parts.

    :param text: the name. What is in double quotes is taken as it is.
    :param parts: how many parts it has at the most.
    :param fold: what the database does to a name without quotes.
    :raises PostHogSettingsError: if it is no such name.
    """
    words: list[str] = []
    at = 0
    while True:
        part = _PART.match(text, at)
        if part is None:
            break
        words.append(part["exact"].replace('""', '"') if part["exact"] else fold(part["plain"]))
        at = part.end()
        if at == len(text) and len(words) <= parts:
            return tuple(words)
        if text[at : at + 1] != ".":
            break
        at += 1
    raise PostHogSettingsError(
        "table",
        f"{text[:100]!r} is not a name of a table.",
        f"Write {' or '.join(('table', 'schema.table', 'database.schema.table')[:parts])}, and a name with other signs "
        'than letters, digits, _ and $ in double quotes, such as analytics."my events".',
    )


def quote(name: str, mark: str = '"') -> str:
    """Quote a name, so that the database takes it for nothing else.

    :param name: the name, as the database keeps it.
    :param mark: the quotation mark.
    :raises PostHogSettingsError: if no database can keep it.
    """
    if not name or "\0" in name or not name.isprintable():
        raise PostHogSettingsError("columns", f"{name[:60]!r} is not a name for a column.", "Give it a printable one.")
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def check_names(names: Iterable[str], *, fold: Callable[[str], str], longest: int) -> None:
    """Check that the database tells the columns apart.

    :param names: the columns.
    :param fold: what the database compares of a name.
    :param longest: how many bytes a name may have; a longer one would be cut without a word.
    :raises PostHogSettingsError: if two are the same to it, or one is too long.
    """
    seen: dict[str, str] = {}
    for name in names:
        quote(name)
        if len(name.encode()) > longest:
            raise PostHogSettingsError(
                "columns", f"{name[:80]!r} is longer than the database's {longest} bytes.", "Give it a shorter name."
            )
        if fold(name) in seen:
            raise PostHogSettingsError(
                "columns", f"{name!r} and {seen[fold(name)]!r} are one name to the database.", "Rename one of them."
            )
        seen[fold(name)] = name


def ascii_lower(name: str) -> str:
    """Return a name as databases compare it that only know the capitals of ASCII: to them ``É`` is not ``é``.

    :param name: the name.
    """
    return "".join(sign.lower() if sign.isascii() else sign for sign in name)


def spare_name(wanted: str, names: Iterable[str], fold: Callable[[str], str]) -> str:
    """Return a name for something of our own that is none of the names that are there.

    :param wanted: what it is to be called; gets a number if it is taken.
    :param names: the names that are there.
    :param fold: what the database compares of a name.
    """
    taken = {fold(name) for name in names}
    tries = (wanted if number == 0 else f"{wanted} {number}" for number in count())
    return next(name for name in tries if fold(name) not in taken)
