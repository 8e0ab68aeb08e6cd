"""Parse and quote the names of tables and columns, so that any text is only ever a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from airflow_provider_posthog.exceptions import PostHogSettingsError
from airflow_provider_posthog.patterns import pattern

_PART = pattern(r'"(?P<exact>(?:[^"]|"")+)"|(?P<plain>[^\W\d][\w$]*)')


def parse_table(text: str, *, parts: int, fold: Callable[[str], str] = str) -> tuple[str, ...]:
    """Split a table's name, such as ``analytics.events`` or ``"My Schema".events``, into its parts.

    :param text: the name. Text in double quotes is taken literally.
    :param parts: the most parts that it has.
    :param fold: what the database does to a name without quotes.
    :raises PostHogSettingsError: if it is not such a name.
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
        f"is {text[:100]!r}, which is not the name of a table.",
        f"Write {' or '.join(('table', 'schema.table', 'database.schema.table')[:parts])}, and a name with other signs "
        'than letters, digits, _ and $ in double quotes, such as analytics."my events".',
    )


def quote(name: str, mark: str = '"') -> str:
    """Quote a name, so that the database reads it as a name only.

    :param name: the name, as the database keeps it.
    :param mark: the quotation mark.
    :raises PostHogSettingsError: if no database can store it.
    """
    if not name or "\0" in name or not name.isprintable():
        raise PostHogSettingsError(
            "columns", f"have {name[:60]!r}, which is not a name for a column.", "Give it a printable one."
        )
    return f"{mark}{name.replace(mark, mark * 2)}{mark}"


def check_names(names: Iterable[str], *, fold: Callable[[str], str], longest: int) -> None:
    """Check that the columns' names are different to the database.

    :param names: the columns.
    :param fold: what the database compares of a name.
    :param longest: how many bytes a name may have; a longer one would be cut silently.
    :raises PostHogSettingsError: if two are the same to it, or one is too long.
    """
    seen: dict[str, str] = {}
    for name in names:
        quote(name)
        if len(name.encode()) > longest:
            raise PostHogSettingsError(
                "columns", f"have {name[:80]!r}, longer than the database's {longest} bytes.", "Give it a shorter name."
            )
        if fold(name) in seen:
            raise PostHogSettingsError(
                "columns",
                f"have {name!r} and {seen[fold(name)]!r}, which are one name to the database.",
                "Rename one of them.",
            )
        seen[fold(name)] = name


def ascii_lower(name: str) -> str:
    """Return a name in lower case, ASCII letters only, as some databases compare it: to them ``É`` is not ``é``.

    :param name: the name.
    """
    return "".join(sign.lower() if sign.isascii() else sign for sign in name)


def spare_name(wanted: str, names: Iterable[str], fold: Callable[[str], str]) -> str:
    """Return a name that is not taken yet.

    :param wanted: the preferred name; a number is added if it is taken.
    :param names: the names that are there.
    :param fold: what the database compares of a name.
    """
    taken = {fold(name) for name in names}
    tries = (wanted if number == 0 else f"{wanted} {number}" for number in count())
    return next(name for name in tries if fold(name) not in taken)
