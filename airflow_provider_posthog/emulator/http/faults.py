"""Failures on demand: statuses, delays and cut connections for chosen requests."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_provider_posthog.emulator.http.envelopes import Json
from airflow_provider_posthog.emulator.http.messages import Answer

CUTS = ("before", "after", "middle")


class FaultError(ValueError):
    """A fault that cannot be; the text says which part of it is wrong and what it takes."""


@dataclass
class Fault:
    """What happens to the next requests that fit.

    :param method: in capitals, or ``*``.
    :param path: a path with ``*`` and ``?`` as in file names, or, with a leading ``^``, a regular expression.
    :param status: the status of the answer; None leaves the answer alone.
    :param body: of the answer: JSON, or a text.
    :param headers: of the answer.
    :param work: do the work before answering with ``status``, as behind a gateway that gave up waiting.
    :param delay: seconds of real time before anything else.
    :param cut: cut the connection ``before`` the work, ``after`` it (before any byte of the answer) or in the
        ``middle`` of the answer's body.
    :param cut_bytes: how many bytes of the body come before the cut in the middle.
    :param count: how many requests; -1 for all.
    :param skip: how many fitting requests are left alone first.
    """

    method: str = "*"
    path: str = "*"
    status: int | None = None
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    work: bool = False
    delay: float = 0.0
    cut: str | None = None
    cut_bytes: int = 0
    count: int = 1
    skip: int = 0
    hits: int = 0

    def fits(self, method: str, path: str) -> bool:
        """Return whether a request is one of those meant.

        :param method: in capitals.
        :param path: without the query.
        """
        if self.method not in ("*", method):
            return False
        if self.path.startswith("^"):
            return re.search(self.path, path) is not None
        return fnmatch.fnmatchcase(path, self.path) or fnmatch.fnmatchcase(path.rstrip("/") + "/", self.path)

    def answer(self) -> Answer:
        """Return the answer that this fault gives instead of the real one."""
        if self.body is None:
            return Answer(self.status or 500, headers=self.headers)
        if isinstance(self.body, str):
            return Answer(self.status or 500, self.body.encode(), "text/html; charset=utf-8", self.headers)
        return Answer(self.status or 500, json.dumps(self.body).encode(), "application/json", self.headers)

    def as_json(self) -> Json:
        """Return the fault as the control interface shows it."""
        return dict(vars(self))


class Faults:
    """The faults that are waiting for requests."""

    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault of a request, if it has one, and count it down.

        :param method: in capitals.
        :param path: without the query.
        """
        for fault in self.waiting:
            if not fault.fits(method, path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.hits += 1
            if fault.count > 0:
                fault.count -= 1
            if fault.count == 0:
                self.waiting.remove(fault)
            return fault
        return None


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_CHECKS: dict[str, tuple[Callable[[object], bool], str]] = {
    "method": (lambda v: v == "*" or (isinstance(v, str) and v.isupper()), "a method in capitals, or *"),
    "path": (lambda v: isinstance(v, str) and v != "", "a path"),
    "status": (lambda v: v is None or (isinstance(v, int) and 100 <= v <= 599), "a status from 100 to 599, or null"),
    "body": (lambda v: True, "anything"),
    "headers": (
        lambda v: isinstance(v, dict) and all(isinstance(value, str) for value in v.values()),
        "an object of texts",
    ),
    "work": (lambda v: isinstance(v, bool), "true or false"),
    "delay": (lambda v: isinstance(v, (int, float)) and 0 <= v <= 3600, "seconds from 0 to 3600"),
    "cut": (lambda v: v is None or v in CUTS, f"one of {', '.join(CUTS)}, or null"),
    "cut_bytes": (lambda v: _whole(v) and int(str(v)) >= 0, "a whole number, 0 or more"),
    "count": (lambda v: _whole(v) and (v == -1 or int(str(v)) > 0), "a whole number from 1, or -1 for all"),
    "skip": (lambda v: _whole(v) and int(str(v)) >= 0, "a whole number, 0 or more"),
}


def read_fault(wanted: Json) -> Fault:
    """Make a fault from a test's order.

    :param wanted: the JSON of ``POST /__emulator__/faults``.
    :raises FaultError: for a part that does not exist or cannot be.
    """
    for name, value in wanted.items():
        if name not in _CHECKS:
            raise FaultError(f"A fault has no {name!r}. It has: {', '.join(_CHECKS)}.")
        check, takes = _CHECKS[name]
        if not check(value):
            raise FaultError(f"A fault's {name!r} takes {takes}, not {value!r}.")
    if str(wanted.get("path", "")).startswith("^"):
        try:
            re.compile(wanted["path"])
        except re.error as error:
            raise FaultError(f"A fault's 'path' is not a regular expression: {error}.") from None
    return Fault(**wanted)
