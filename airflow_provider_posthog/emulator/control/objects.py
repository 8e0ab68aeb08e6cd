"""What the parts of the events, persons and other objects take that tests send to ``/__emulator__/``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

from airflow_provider_posthog.emulator.http.envelopes import ApiError

_TIME = re.compile(
    r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?\s?(Z|[+-]\d\d(:?\d\d)?)?)?"
)
Check = Callable[[object], bool]


def is_uuid(value: object) -> bool:
    """Return whether a value is the text of a UUID.

    :param value: anything.
    """
    try:
        UUID(str(value))
    except ValueError:
        return False
    return isinstance(value, str)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    # PostHog makes text of numbers
    return isinstance(value, (str, int)) and not isinstance(value, bool)


def _is_time(value: object) -> bool:
    return isinstance(value, str) and _TIME.fullmatch(value) is not None


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_PARTS: Mapping[str, tuple[Check, str]] = {
    **dict.fromkeys(("event", "session_id", "elements_chain", "url"), (_is_text, "a text")),
    "distinct_id": (_is_name, "a text"),
    **dict.fromkeys(("uuid", "person_id"), (is_uuid, "a UUID")),
    **dict.fromkeys(("timestamp", "created_at"), (_is_time, "an ISO time")),
    **dict.fromkeys(("properties", "$set"), (_is_mapping, "a mapping")),
    "$unset": (_is_names, "a list of texts"),
    "is_identified": (_is_bool, "true or false"),
}


def check(name: str, objects: Iterable[Mapping[str, object]], needed: Iterable[str] = ()) -> None:
    """Check the parts of objects.

    :param name: of the list that they stand in.
    :param objects: what was sent.
    :param needed: the parts that must be there; others may be null.
    :raises ApiError: 400 that names the part, for a value of another kind.
    """
    must = frozenset(needed)
    for place, each in enumerate(objects):
        for part, value in each.items():
            fits, takes = _PARTS.get(part, (None, ""))
            if fits is not None and not fits(value) and (value is not None or part in must):
                raise ApiError(400, {"detail": f"'{name}[{place}].{part}' takes {takes}, not {value!r}."})
