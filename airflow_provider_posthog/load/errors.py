"""Report a database's errors without the data in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_posthog.exceptions import PostHogError, PostHogLoadError, clean

#: From the first quote to the last of its kind: a database quotes the value that it does not like.
_QUOTED = re.compile(r"([\"'`]).*\1", re.DOTALL)
#: A quote that is not closed, as a text that was cut has one; an apostrophe is within a word.
_OPEN = re.compile(r"(?<![A-Za-z.])([\"'`])(?!\.\.\.).*", re.DOTALL)
#: "The duplicate key value is (...)", as SQL Server and Oracle write.
_IN_PARENTHESES = re.compile(r"(?i)\bvalues?( is| are)? \(.*\)", re.DOTALL)
#: "Type INT64 with value ... can't be cast", "Could not cast value ... to DECIMAL(6,2)", as DuckDB writes.
_BARE = re.compile(r"\bvalue .*(?= can't be cast| to [A-Z])", re.DOTALL)
#: What databases say of a schema, or a database of MySQL, that is not there; and what to do.
_NO_SCHEMA = re.compile(r"(?i)\bschema\b.*\bdoes not exist|\bunknown database\b", re.DOTALL)
_MAKE_IT = " Create the schema: tasks make tables, and no schemas."
#: The classes of errors whose text holds values: data exceptions, violated constraints, and MySQL's general one.
_WITH_VALUES = ("22", "23", "HY")
#: PostgreSQL's class, and MySQL's state and number, of errors that a trigger or function raises, in its own words.
_RAISED, _SIGNAL = ("P0", "45"), 1644
#: Where MySQL and DuckDB put the names of things. Each is at an end of the text, where no value can stand for it.
_PLACES = (
    ("column", re.compile(r"\bcolumn (?:`[^`]+`\.)*[`']([^`']+)[`'] at row \d+$")),
    ("column", re.compile(r"^(?:Column|Field) '([^']+)' (?:cannot be null|doesn't have)")),
    ("column", re.compile(r'^(?:[\w ]+: )?Duplicate key "([^":]+): ')),
    ("key", re.compile(r"\bfor key [`']([^`']+)[`']$")),
    ("table", re.compile(r"\bfor table [`']?([\w$.`]+?)[`']?$")),
)


@contextmanager
def translate_errors(connection: Any, doing: str, outcome: str = "Nothing was changed.") -> Iterator[None]:  # noqa: ANN401 - PEP 249
    """Turn what the database raises into a :class:`PostHogLoadError` without personal data.

    Drivers put the offending row into their messages (PostgreSQL's DETAIL and CONTEXT do), and a task's log shows an
    exception's cause too, so the original is left out.

    :param connection: a PEP 249 connection.
    :param doing: what is being done, such as ``counting the rows``.
    :param outcome: the consequence for the table, as a sentence.
    """
    # PEP 249 lets a connection expose its exceptions; one that does not may raise anything.
    errors = getattr(connection, "Error", None)
    if not (isinstance(errors, type) and issubclass(errors, Exception)):
        errors = Exception
    try:
        yield
    except PostHogError:
        raise
    except errors as error:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        remedy = _MAKE_IT if _NO_SCHEMA.search(_text_of(error, getattr(error, "diag", None))) else ""
        raise PostHogLoadError(
            f"The database failed at {doing}: {type(error).__name__}{f' {state}' if state else ''}: "
            f"{_sentence(error, state)} {outcome}{remedy}",
            sqlstate=state,
        ) from None


def _sentence(error: Exception, state: str | None) -> str:
    diagnosis = getattr(error, "diag", None)
    text = _text_of(error, diagnosis)
    names = {
        what: name for what in ("table", "column", "constraint") if (name := getattr(diagnosis, f"{what}_name", None))
    }
    if diagnosis is None:
        matches = ((what, pattern.search(text)) for what, pattern in _PLACES)
        names = {what: place[1].replace("`", "") for what, place in matches if place}
    if state is None or state.startswith(_WITH_VALUES):
        text = _BARE.sub("value ...", text)
        text = _OPEN.sub(r"\1...\1", _QUOTED.sub(r"\1...\1", _IN_PARENTHESES.sub("value (...)", text)))
    if (state or "").startswith(_RAISED) or _SIGNAL in error.args[:1]:  # quoted or not, the text is the user's own
        text = "a trigger or function raised an exception of its own"
    affected = ", ".join(f"{what} {name}" for what, name in names.items())
    shown = clean(text.partition("\n")[0]).rstrip(".!") + (f" ({clean(affected)})" if names else "")
    return f"{shown}."


def _text_of(error: Exception, diagnosis: Any) -> str:  # noqa: ANN401 - psycopg's
    """Return the database's whole text: its end is needed to find where a value ends."""
    primary = getattr(diagnosis, "message_primary", None)
    if primary:
        return str(primary)
    if len(error.args) == 2 and isinstance(error.args[0], int):  # MySQL's drivers: a number and a text
        return str(error.args[1]).strip()
    return str(getattr(error, "msg", None) or error).strip()
