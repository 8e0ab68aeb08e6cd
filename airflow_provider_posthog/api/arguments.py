"""What endpoints take: the kinds of their arguments, and the check of a value against its annotation.

PostHog silently ignores what it does not know, cuts what is too long, and reads an empty filter as none at all; so
whatever is wrong is refused here, before anything is sent. Errors name the argument and never show its value, which may
be a person's, except for a word that should have been one of a few.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from airflow_provider_posthog.api.times import read_iso
from airflow_provider_posthog.dataclass import dataclass
from airflow_provider_posthog.exceptions import PostHogSettingsError, clean
from airflow_provider_posthog.patterns import pattern

_UUID = pattern(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_RELATIVE = pattern(r"-[0-9]{1,5}[hdwmqy]")
_DAY = pattern(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True)
class Check:
    """A rule for values of one kind, written into an annotation with ``Annotated``.

    :param good: returns whether a value of the right type keeps the rule.
    :param problem: what is wrong with one that does not.
    :param remedy: what to write instead.
    """

    good: Callable[[Any], bool]
    problem: str
    remedy: str


def between(low: int, high: int | None = None) -> Check:
    """Make the rule for a number.

    :param low: the least.
    :param high: the most, or ``None``.
    """
    text = f"a number from {low:,} to {high:,}" if high is not None else f"a number from {low:,} on"
    return Check(lambda value: value >= low and (high is None or value <= high), f"is not {text}.", f"Write {text}.")


def at_most(count: int) -> Check:
    """Make the rule for a list that PostHog would cut or refuse, and that must not be empty.

    :param count: how many entries it may have.
    """
    return Check(
        lambda value: 0 < len(value) <= count,
        f"has no entry, or more than {count:,}.",
        f"Send from 1 to {count:,} at a time.",
    )


def _is_number(value: object) -> bool:
    return bool(re.fullmatch(r"[1-9][0-9]{0,17}", str(value)))


def is_uuid(value: object) -> bool:
    """Return whether a value is a UUID in its usual form."""
    return bool(_UUID.fullmatch(str(value)))


def _parsed(value: datetime | str) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return read_iso(value)
    except ValueError:
        return None


def _is_instant(value: datetime | str) -> bool:
    parsed = _parsed(value)
    return parsed is not None and parsed.tzinfo is not None


def _is_day(value: object) -> bool:
    if isinstance(value, str):
        return bool(_DAY.fullmatch(value)) and _parsed(value) is not None
    return isinstance(value, date) and not isinstance(value, datetime)


def _is_filled(value: Any) -> bool:  # noqa: ANN401 - text, a list or a dictionary
    return bool(value.strip() if isinstance(value, str) else value)


#: The rule that a value is not empty.
FILLED = Check(_is_filled, "is empty.", "Leave it out, or write a value: PostHog reads an empty one as none at all.")
_INSTANT_REMEDY = (
    "Write a time with its offset, such as 2026-11-01T00:00:00+00:00: PostHog reads one without in the project's zone."
)

#: A text that is not empty: PostHog takes an empty filter for none, and then lists everything.
Text = Annotated[str, FILLED]
Texts = Annotated[Sequence[Text], FILLED]
#: A JSON object that is not empty.
Object = Annotated[Mapping[str, Any], FILLED]
#: PostHog's list of ``{"key", "value", "operator", "type"}``; newer servers fail on its other form, a group.
Properties = Annotated[
    Sequence[
        Annotated[
            Mapping[str, Any],
            Check(lambda entry: bool(entry.get("key")), "has an entry without 'key'.", "Give each property its 'key'."),
        ]
    ],
    FILLED,
]
#: A number as it stands in a path: an int, or a text of digits.
Number = Annotated[int | str, Check(_is_number, "is not an id: a positive number.", "Write the number.")]
Uuid = Annotated[str, Check(is_uuid, "is not a UUID.", "Write the UUID that PostHog gave.")]
PersonId = Annotated[
    int | str,
    Check(
        lambda value: _is_number(value) or is_uuid(value),
        "is neither a person's UUID nor its number.",
        "Find the person with persons.list(distinct_id=...) and write its 'uuid'.",
    ),
]
PositiveInt = Annotated[int, between(1)]
Limit = Annotated[int, between(1)]
Offset = Annotated[int, between(0)]
GroupIndex = Annotated[int, between(0, 4)]
Time = Annotated[datetime | str, Check(_is_instant, "is not a time with an offset.", _INSTANT_REMEDY)]
#: A time, or how long ago: ``-7d``.
Since = Annotated[
    datetime | str,
    Check(
        lambda value: _is_instant(value) or bool(isinstance(value, str) and _RELATIVE.fullmatch(value)),
        "is neither a time with an offset nor one such as -7d.",
        _INSTANT_REMEDY,
    ),
]
#: A time, or a day: ``2026-11-01``.
TimeOrDay = Annotated[
    date | str,
    Check(
        lambda value: _is_day(value) or _is_instant(value),
        "is neither a day (2026-11-01) nor a time with an offset.",
        _INSTANT_REMEDY,
    ),
]


def time_text(value: date | str | None) -> str | None:
    """Write a time as PostHog is sent it: ISO text, with its offset; days and ``-7d`` as they are.

    :param value: a checked value.
    """
    return value.isoformat() if isinstance(value, date) else value.strip() if value is not None else None


def span(fields: tuple[str, str], start: date | str, end: date | str) -> float:
    """Return how long it is from one time to another, in seconds.

    :param fields: the names of the two arguments.
    :param start: the first, checked.
    :param end: the second, checked.
    :raises PostHogSettingsError: if it ends before it starts, or one is a day and the other is not.
    """
    if _is_day(start) != _is_day(end):
        raise PostHogSettingsError(fields[1], f"is not written like {fields[0]}.", "Give two days, or two times.")
    first, last = (read_iso(str(time_text(edge))) for edge in (start, end))
    if last <= first:
        raise PostHogSettingsError(fields[1], f"is not after {fields[0]}.", "Give the later time as the end.")
    return (last - first).total_seconds()


def given(**values: object) -> dict[str, Any]:
    """Return the values that are not ``None``: a field left out is left as it is.

    :param values: by PostHog's names.
    """
    return {name: value for name, value in values.items() if value is not None}


def changes(**values: object) -> dict[str, Any]:
    """Return what is to be changed: the values that are not ``None``.

    :param values: by PostHog's names.
    :raises PostHogSettingsError: if there is none.
    """
    body = given(**values)
    if not body:
        raise PostHogSettingsError(
            next(iter(values)),
            "is missing, and so is every other field: there is nothing to change.",
            "Write at least one.",
        )
    return body


def json_text(field: str, value: object) -> str | None:
    """Write a value as the JSON text that some of PostHog's query parameters are.

    :param field: the argument's name.
    :param value: the value; ``None`` stays ``None``.
    :raises PostHogSettingsError: if it cannot be written.
    """
    if value is None:
        return None
    try:
        return json.dumps([*value] if isinstance(value, tuple) else value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise PostHogSettingsError(field, "cannot be sent as JSON.", "Use text, numbers, lists and dicts.") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``Did you mean ...?``, or nothing if no known word is near.

    :param word: what was written.
    :param known: what could have been.
    """
    import difflib  # only a mistake needs it

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


class Fault(NamedTuple):
    """What is wrong with a value, and what to write instead.

    :param kind: whether it is the value's type.
    """

    problem: str
    remedy: str
    kind: bool = False


def fault_of(value: Any, hint: Any) -> Fault | None:  # noqa: ANN401 - any value, any annotation
    """Return what is wrong with a value and what to write instead, or ``None`` if it fits.

    Nothing is coerced: the text ``"false"`` is no ``False`` (PostHog reads it as true), and ``True`` is not a number.

    :param value: the value.
    :param hint: its annotation, resolved.
    """
    origin = get_origin(hint)
    if origin is Annotated:
        return _checked_fault(value, hint)
    if origin is Literal:
        return _word_fault(value, get_args(hint))
    if origin in (Union, types.UnionType):
        return _union_fault(value, get_args(hint))
    if origin is Sequence:
        return _items_fault(value, get_args(hint)[0])
    if origin is Mapping:
        fits = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        return None if fits else _type_fault(value, "a dictionary")
    if hint is Any:
        return None
    return None if _is_a(value, hint) else _type_fault(value, _NAMES.get(hint, hint.__name__))


_NAMES = {
    str: "text",
    bool: "True or False",
    int: "a whole number",
    type(None): "None",
    datetime: "a time",
    date: "a day or time",
}


def _is_a(value: object, kind: type) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _type_fault(value: object, wanted: str) -> Fault:
    return Fault(f"is {type(value).__name__}, not {wanted}.", f"Write {wanted}.", kind=True)


def _checked_fault(value: Any, hint: Any) -> Fault | None:  # noqa: ANN401 - as fault_of
    kind, *checks = get_args(hint)
    fault = fault_of(value, kind)
    if fault is not None:
        return fault
    broken = [check for check in checks if isinstance(check, Check) and not check.good(value)]
    return Fault(broken[0].problem, broken[0].remedy) if broken else None


def _word_fault(value: object, words: tuple[Any, ...]) -> Fault | None:
    if any(value == word and type(value) is type(word) for word in words):
        return None
    listed = ", ".join(repr(word) for word in words)
    shown = repr(clean(value)[:60]) if isinstance(value, str) else f"{type(value).__name__} value"
    near = nearest(value, [word for word in words if isinstance(word, str)]) if isinstance(value, str) else ""
    return Fault(f"{shown} is not one of {listed}.{near}", "Write one of them.", kind=not isinstance(value, str))


def _union_fault(value: object, kinds: tuple[Any, ...]) -> Fault | None:
    faults = [fault_of(value, kind) for kind in kinds if kind is not type(None) or value is None]
    if None in faults:
        return None
    # The most helpful fault is that of the alternative whose type the value has.
    return sorted((fault for fault in faults if fault is not None), key=lambda fault: fault.kind)[0]


def _items_fault(value: object, kind: object) -> Fault | None:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray)):
        return _type_fault(value, "a list")
    for item in value:
        fault = fault_of(item, kind)
        if fault is not None:
            return Fault(f"has an entry that {fault.problem}", fault.remedy)
    return None
