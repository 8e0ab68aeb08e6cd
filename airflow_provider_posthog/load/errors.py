"""What a database refuses, told without the data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_posthog.exceptions import PostHogError, PostHogLoadError, clean

#: From the first quote to the last of its kind: a database quotes the value that it does not like.
_QUOTED = re.compile(r"([\"'`]).*\1", re.DOTALL)
#: PostgreSQL's classes of errors whose text holds values: data exceptions and violated constraints.
_WITH_VALUES = ("22", "23")


@contextmanager
def told(connection: Any, doing: str, outcome: str = "Nothing was changed.") -> Iterator[None]:  # noqa: ANN401 - PEP 249
    """Turn what the database raises into a :class:`PostHogLoadError` without personal data.

    Drivers put the offending row into their messages (PostgreSQL's DETAIL and CONTEXT do), and a task's log shows an
    exception's cause too, so the original is left out.

    :param connection: a PEP 249 connection.
    :param doing: what is being done, such as ``counting the rows``.
    :param outcome: what the error means for the table.
    """
    # PEP 249 lets a connection carry its exceptions; one that does not may raise anything.
    refusals = getattr(connection, "Error", None)
    if not (isinstance(refusals, type) and issubclass(refusals, Exception)):
        refusals = Exception
    try:
        yield
    except PostHogError:
        raise
    except refusals as error:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        raise PostHogLoadError(
            f"The database failed at {doing}: {type(error).__name__}{f' {state}' if state else ''}: "
            f"{_sentence(error, state)} {outcome}",
            sqlstate=state,
        ) from None


def _sentence(error: Exception, state: str | None) -> str:
    diagnosis = getattr(error, "diag", None)
    text = getattr(diagnosis, "message_primary", None) or str(error).strip().partition("\n")[0]
    names = [
        f"{what} {name}" for what in ("column", "constraint") if (name := getattr(diagnosis, f"{what}_name", None))
    ]
    if state is None or state.startswith(_WITH_VALUES):
        text = _QUOTED.sub(r"\1...\1", text)
    shown = clean(text).rstrip(".") + (f" ({', '.join(names)})" if names else "")
    return f"{shown}."
