"""Rows whose ids begin with their time, such as PostHog's sessions: narrow the search to the ids' minutes.

PostHog derives sessions from a table that is sorted by the time in the session's id. It searches from three days before
to three days after the start that a query asks for, as an id may come from a wrong clock: a page of an hour costs as
much as a week's sessions. A count returns the minutes in which the ids of a window begin, and its pages ask for those
minutes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from airflow_provider_posthog.extract.cells import EPOCH

#: Minutes since 1970, half-open: the first one, and the first one after the last.
Minutes = tuple[int, int]

MINUTE = timedelta(minutes=1)
#: How far PostHog looks around the bounds of the start.
_AROUND = timedelta(days=3)
#: The ids' times are exact to the millisecond.
_TICK = timedelta(milliseconds=1)
#: How many runs of minutes a page asks for at the most.
_MOST_RUNS = 32


def minutes_column(dated_id: str | None) -> str:
    """Return HogQL for the minutes in which the ids of a group's rows begin, with a comma; empty without such ids.

    :param dated_id: the column of the ids.
    """
    if dated_id is None:
        return ""
    return f", groupUniqArray(intDiv(toInt(bitShiftRight({dated_id}, 80)), 60000)) AS begun"


def runs_of(minutes: Iterable[int], start: datetime, end: datetime) -> tuple[Minutes, ...]:
    """Return the runs of minutes in which the ids of a window's rows begin.

    :param minutes: the minutes.
    :param start: where the window begins.
    :param end: where it ends.
    :returns: in order; empty if one of them is farther away than PostHog searches, so that they are of no use.
    """
    ordered = sorted(set(minutes))
    if not ordered or ordered[0] < _minute(start - _AROUND) or ordered[-1] > _minute(end + _AROUND):
        return ()
    return joined_runs([(minute, minute + 1) for minute in ordered])


def around(start: datetime, end: datetime) -> tuple[Minutes, ...]:
    """Return the minutes of a window itself, in which nearly all ids of its rows begin.

    :param start: where the window begins.
    :param end: where it ends.
    """
    first = _minute(start)
    return ((first, max(first, _minute(end - _TICK)) + 1),)


def joined_runs(runs: Iterable[Minutes]) -> tuple[Minutes, ...]:
    """Return runs of minutes in order, joined where they touch, and no more than a query can ask for.

    :param runs: the runs.
    """
    joined: list[Minutes] = []
    for first, last in sorted(runs):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    while len(joined) > _MOST_RUNS:  # across the shortest gap
        at = min(range(1, len(joined)), key=lambda number: joined[number][0] - joined[number - 1][1])
        joined[at - 1 : at + 1] = [(joined[at - 1][0], joined[at][1])]
    return tuple(joined)


def within(time: str | None, dated_id: str | None, runs: Sequence[Minutes]) -> tuple[str, dict[str, datetime]]:
    """Return a condition that is true for every row, and makes PostHog search only these minutes for ids.

    PostHog takes comparisons of the start with times into its table, three days wider and of the id's time, and of
    what it cannot take there ``NOT`` makes *false*. So the condition is true where rows are told, and one on the id's
    time where they are looked up. Servers that look conditions over in another way find the same rows, and read more.

    :param time: the column of the start.
    :param dated_id: the column of the ids.
    :param runs: the minutes.
    :returns: the condition, and what its placeholders stand for.
    """
    parts: list[str] = []
    values: dict[str, datetime] = {}
    for number, (first, last) in enumerate(runs):
        low, high = EPOCH + first * MINUTE + _AROUND, EPOCH + last * MINUTE - _TICK - _AROUND
        values |= {f"window_from_{number}": low, f"window_to_{number}": high}
        bounds = (f"{time} {sign} toDateTime({{window_{name}_{number}}})" for sign, name in _BOUNDS)
        parts.append(f"({' AND '.join(bounds)})")
    return f"({' OR '.join(parts)} OR NOT ({dated_id} < 0))", values


_BOUNDS = ((">=", "from"), ("<=", "to"))


def _minute(moment: datetime) -> int:
    return (moment - EPOCH) // MINUTE
