"""Runs of minutes, in which the ids of rows begin."""

from __future__ import annotations

from collections.abc import Iterable

#: Minutes since 1970, half-open: the first one, and the first one after the last.
Minutes = tuple[int, int]

#: How many runs of minutes a page asks for at the most.
_MOST_RUNS = 32


def joined_runs(runs: Iterable[Minutes]) -> tuple[Minutes, ...]:
    """Return runs of minutes in order, without those that touch, and no more than a query can ask for.

    :param runs: the runs.
    """
    made: list[Minutes] = []
    for first, last in sorted(runs):
        if made and first <= made[-1][1]:
            made[-1] = made[-1][0], max(made[-1][1], last)
        else:
            made.append((first, last))
    while len(made) > _MOST_RUNS:  # across the shortest gap
        at = min(range(1, len(made)), key=lambda number: made[number][0] - made[number - 1][1])
        made[at - 1 : at + 1] = [(made[at - 1][0], made[at][1])]
    return tuple(made)
