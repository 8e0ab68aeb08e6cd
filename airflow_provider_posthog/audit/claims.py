"""What a certificate may claim, in words: what was counted, and what was left on purpose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Options that leave something when they have the value; what is left then.
_LEFT: tuple[tuple[str, object, str], ...] = (
    ("delete_events", False, "the events were left"),
    ("delete_recordings", False, "the session recordings were left"),
    ("keep_person", True, "the profile was kept"),
    (
        "verify_by",
        "uuid",
        "only the person's UUID was looked for: not the distinct ids' own events, and no recordings",
    ),
)
#: What is looked at: the option that leaves it, the count without which nobody looked, and its name.
_PLACES = (
    ("keep_person", "", "profile"),
    ("delete_events", "events", "events up to the request"),
    ("delete_recordings", "recordings", "session recordings"),
)


def left_on_purpose(options: Mapping[str, Any]) -> list[str]:
    """Return what an erasure with these options leaves or does not check: a clause for each, none for a whole one.

    :param options: those of ``PostHogDeletePersonsOperator``; others named ``delete_...`` or ``keep_...`` count, too.
    """
    known = {name for name, _, _ in _LEFT}
    texts = [f"{text} ({name}={options[name]})" for name, value, text in _LEFT if _is(options.get(name), value)]
    for name in sorted(set(options) - known):
        if (name.startswith("delete_") and options[name] is False) or (
            name.startswith("keep_") and options[name] is True
        ):
            texts.append(f"something was left ({name}={options[name]})")
    return texts


def claim(persons: int, after: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Return what is proved of persons that are all verified: no more than was requested and counted.

    :param persons: how many there are.
    :param after: what the last look has counted (:class:`~airflow_provider_posthog.audit.records.Counts`).
    :param options: of the request.
    """
    left = {name for name, value, _ in _LEFT if _is(options.get(name), value)}
    gone = [place for option, counted, place in _PLACES if option not in left and counted in ("", *after)]
    if not gone:
        return "The records do not say what was counted."
    shown = f"{', no '.join(gone[:-1])} and no {gone[-1]}" if len(gone) > 1 else gone[0]
    counted = "any more. That was proved by counting."
    if len(gone) == len(_PLACES):
        erased = "The person was erased" if persons == 1 else f"Each of {persons:,} persons was erased"
        return f"{erased}: PostHog shows no {shown} {counted}"
    return f"Of {'the person' if persons == 1 else f'each of {persons:,} persons'} PostHog shows no {shown} {counted}"


def _is(value: object, wanted: object) -> bool:
    return value is wanted if isinstance(wanted, bool) else value == wanted
