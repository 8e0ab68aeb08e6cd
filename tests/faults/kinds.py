"""The faults, and how each is made."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

#: A host that no name server knows.
NOWHERE = "posthog.invalid"
_ERROR = {"type": "server_error", "code": "error", "detail": "It went wrong.", "attr": None}
_PAGE = "<html><body>Bad gateway</body></html>"


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    :param name: as in ``outcomes.tsv``.
    :param wish: what the emulator is asked for; empty if the connection is at fault.
    :param connection: what differs in the connection.
    :param hour: whether it lasts for an hour, from its request on, in place of one request.
    :param skew: seconds that the task's clock is off.
    :param prefers_write: whether it falls on a call that changes something, if the task has one.
    """

    name: str
    wish: dict[str, Any] = field(default_factory=dict)
    connection: dict[str, Any] = field(default_factory=dict)
    hour: bool = False
    skew: float = 0.0
    prefers_write: bool = False


def _status(status: int, **headers: str) -> dict[str, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"status": status, "body": _ERROR, "headers": named}


def _answer(body: Any) -> dict[str, Any]:
    return {"status": 200, "body": body}


# Each task meets one of each group, which goes round with the tasks, at one of its calls, which goes round too.
GROUPS: dict[str, list[Fault]] = {
    "nothing is there": [
        Fault("refused", connection={"host": "http://127.0.0.1:1"}),
        Fault("DNS", connection={"host": f"http://{NOWHERE}"}),
        Fault("TLS", connection={"scheme": "https"}),
        Fault("proxy refused", connection={"proxy": "http://127.0.0.1:1"}),
    ],
    "cut before the work": [Fault("cut before the work", {"cut": "before"})],
    "cut after the work": [Fault("cut after the work", {"cut": "after"}, prefers_write=True)],
    "cut in the answer": [Fault("cut in the answer", {"cut": "middle", "cut_bytes": 9})],
    "no answer in time": [
        Fault("time-out", {"delay": 0.8}, connection={"read_timeout": 0.4}, prefers_write=True),
        Fault("500 after the work", {**_status(500), "work": True}, prefers_write=True),
        Fault("504 after the work", {**_status(504), "work": True}, prefers_write=True),
    ],
    "an hour": [
        Fault("cut for an hour", {"cut": "before"}, hour=True),
        Fault("503 for an hour", _status(503), hour=True),
        Fault("500 for an hour", _status(500), hour=True),
    ],
    "refused by the limits for an hour": [Fault("429 for an hour", _status(429, Retry_After="60"), hour=True)],
    "the key": [Fault(str(status), _status(status)) for status in (401, 402, 403)],
    "refused": [Fault(str(status), _status(status)) for status in (400, 404, 405, 409, 413, 422)],
    "busy": [
        Fault("429", _status(429)),
        Fault("429, Retry-After 20", _status(429, Retry_After="20")),
        Fault("429, Retry-After a day", _status(429, Retry_After="86400")),
        Fault("503, Retry-After 20", _status(503, Retry_After="20")),
    ],
    "failing": [Fault(str(status), _status(status)) for status in (500, 502, 503, 408, 425, 504)],
    "a proxy's": [
        *(Fault(str(status), _status(status)) for status in range(520, 527)),
        Fault("HTML of 502", {"status": 502, "body": _PAGE}),
        Fault("302 to another host", {"status": 302, "headers": {"Location": f"http://{NOWHERE}/elsewhere"}}),
    ],
    "no answer of PostHog's": [
        Fault("HTML of 200", {"status": 200, "body": _PAGE}),
        Fault("nothing in a 200", {"status": 200, "body": ""}),
        Fault("an error in a 200", _answer({"error": "It went wrong.", **_ERROR})),
    ],
    "another shape": [
        Fault("a list", _answer([])),
        Fault("an empty object", _answer({})),
        Fault("null everywhere", _answer({"id": None, "results": None, "columns": None, "status": None})),
        Fault("huge numbers", _answer({"id": 10**40, "count": 10**40, "results": [[10**40]], "columns": ["n"]})),
        Fault("missing fields", _answer({"results": [{}]})),
    ],
    "the clock": [Fault("clock an hour ahead", skew=3600.0), Fault("clock an hour behind", skew=-3600.0)],
}
FAULTS = [fault for group in GROUPS.values() for fault in group]


def number_of(task: str) -> int:
    """Return a task's number, by which its faults go round: of its name, so that another task changes nothing for it.

    :param task: its name.
    """
    return zlib.crc32(task.encode())


def chosen(number: int) -> list[Fault]:
    """Choose the faults of a task.

    :param number: of the task.
    """
    return [faults[number % len(faults)] for faults in GROUPS.values()]
