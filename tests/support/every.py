"""One test for many things of a kind: a thousand tests of a millisecond cost a minute to collect and to report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import pytest

Thing = TypeVar("Thing")


def every(things: Iterable[Thing]) -> Callable[[Callable[[Thing], None]], Callable[[], None]]:
    """Make one test of a check that is made on each of these; it names all that fail.

    :param things: what to check.
    """

    def decorate(check: Callable[[Thing], None]) -> Callable[[], None]:
        def test() -> None:
            failed = failures(things, check)
            assert not failed, "\n\n".join(f"{thing}: {why}" for thing, why in failed.items())

        test.__name__, test.__doc__, test.__module__ = check.__name__, check.__doc__, check.__module__
        return test

    return decorate


def failures(things: Iterable[Thing], check: Callable[[Thing], None]) -> dict[Thing, str]:
    """Return what a check says of each of these that it fails on.

    :param things: what to check.
    :param check: raises an error, or does not.
    """
    found: dict[Thing, str] = {}
    for thing in things:
        try:
            check(thing)
        except (Exception, pytest.fail.Exception) as error:  # whatever it is, it is told
            found[thing] = f"{type(error).__name__}: {error}"
    return found
