"""Every trap of PostHog's deletion, on every generation of servers: nobody is called erased who can still be read."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from airflow_provider_posthog.emulator.process import EmulatorProcess
from tests.erasure.support import DAY, HOUR, Lab, ago, tidy
from tests.operators.support import connect

pytestmark = pytest.mark.reliability

Act = Callable[[Lab], object]


def _nothing(lab: Lab) -> None:
    pass


def _earlier_request(lab: Lab) -> None:
    """Somebody asked weeks ago, and PostHog has done it; since then the person is back."""
    lab.delete()
    lab.posthog.advance(8 * DAY)
    lab.posthog.sweep()
    lab.posthog.capture([{"event": "back", "distinct_id": lab.name}])
    lab.asked = {"distinct_ids": [lab.name]}
    (lab.folder / "work.jsonl").unlink()
    lab.posthog.advance(HOUR)


def _half_an_hour_earlier(lab: Lab) -> None:
    """A colleague asked just before, for the events only; nothing happened since."""
    lab.raw.post("persons/bulk_delete/", {"ids": [lab.person], "delete_events": True, "keep_person": True})
    lab.posthog.advance(HOUR / 2)


def _and_an_event_since(lab: Lab) -> None:
    _half_an_hour_earlier(lab)
    lab.posthog.capture([{"event": "again", "distinct_id": lab.name}])
    lab.posthog.advance(60)


def _comes_back(lab: Lab) -> None:
    lab.posthog.advance(60)
    lab.posthog.capture([{"event": "back", "distinct_id": lab.names[1]}])


def _comes_back_unseen(lab: Lab) -> None:
    """Without a profile: only an event is new."""
    lab.posthog.advance(60)
    properties = {"$process_person_profile": False}
    lab.posthog.capture([{"event": "back", "distinct_id": lab.name, "properties": properties}])


def _late(lab: Lab) -> None:
    """A phone that was offline sends what it had kept."""
    lab.posthog.advance(60)
    properties = {"$process_person_profile": False}
    lab.posthog.capture(
        [{"event": "offline", "distinct_id": lab.name, "timestamp": ago(days=2), "properties": properties}]
    )


def _settings(**changes: object) -> Act:
    return lambda lab: lab.posthog.settings(**changes)


@dataclass(frozen=True)
class Trap:
    """What is special, before the request or after it, and the states at once and after two weeks, by generation.

    A trap that changes settings stands ``alone``.
    """

    name: str
    before: Act = _nothing
    after: Act = _nothing
    soon: str | dict[str, str] = "EVENTS_PENDING"
    later: str | dict[str, str] = "VERIFIED"
    events: bool = True
    alone: bool = False


TRAPS = [
    Trap("nothing special"),
    Trap("without events", events=False, soon="VERIFIED"),
    Trap(
        "asked for before, done, and back",
        _earlier_request,
        soon={"A": "EVENTS_PENDING", "B": "SWALLOWED", "C": "SWALLOWED"},
        later={"A": "EVENTS_PENDING", "B": "SWALLOWED", "C": "SWALLOWED"},
    ),
    Trap(
        "an event since somebody else asked",
        _and_an_event_since,
        soon={"B": "SWALLOWED", "C": "SWALLOWED"},
        later={"B": "SWALLOWED", "C": "SWALLOWED"},
    ),
    Trap("asked for before, nothing since", _half_an_hour_earlier, later={"B": "VERIFIED", "C": "VERIFIED"}),
    Trap(
        "an event dated in the future",
        lambda lab: lab.event(timestamp="2030-01-01T00:00:00Z"),
        soon="SURVIVORS",
        later="SURVIVORS",
    ),
    Trap(
        "late events",
        after=_late,
        later={"A": "VERIFIED", "B": "VERIFIED", "C": "SURVIVORS"},
    ),
    Trap("made again", after=_comes_back, soon="RECREATED", later="RECREATED"),
    Trap("an event after the request", after=_comes_back_unseen, soon="RECREATED", later="RECREATED"),
    Trap(
        "a distinct id belongs to somebody else",
        after=lambda lab: lab.add(lab.names[1], uuid=str(uuid.uuid4())),
        soon="RECREATED",
        later="RECREATED",
    ),
    Trap(
        "events of a merged person",
        lambda lab: lab.old_event("00000000-0000-4000-8000-000000000001", lab.name),
        later={"A": "EVENTS_PENDING", "B": "SURVIVORS", "C": "SURVIVORS"},
        alone=True,
    ),
    Trap("several persons of one address", lambda lab: lab.add(f"{lab.name}-other")),
    Trap(
        "called complete without being done",
        after=_settings(sweep_outcome="verify_only"),
        later={"A": "EVENTS_PENDING", "B": "SURVIVORS", "C": "SURVIVORS"},
        alone=True,
    ),
    Trap("no weekend comes", after=_settings(sweep_outcome="skip"), later="EVENTS_PENDING", alone=True),
    Trap("the next weekend is missed", after=_settings(sweep_age_seconds=10 * DAY), later="EVENTS_PENDING", alone=True),
    Trap("lists lag behind", _settings(person_lag_seconds=600), soon="REQUESTED", alone=True),
    Trap(
        "profiles are queued",
        _settings(person_deletion_seconds=600),
        soon={"A": "EVENTS_PENDING", "C": "REQUESTED"},
        alone=True,
    ),
    Trap(
        "a queued deletion fails silently",
        lambda lab: lab.posthog.settings(persons_queued=True) and lab.posthog.fail_deletions([lab.person]),
        soon={"C": "REQUESTED"},
        later={"C": "PARTIAL"},
        alone=True,
    ),
]


def _of(states: str | dict[str, str], generation: str) -> str:
    return states if isinstance(states, str) else states[generation]


def _settle(lab: Lab) -> None:
    """Let two weekends pass, and what PostHog calls complete reach all of its replicas."""
    lab.posthog.advance(7 * DAY)
    lab.posthog.sweep()
    lab.posthog.advance(2 * HOUR)


def _applies(trap: Trap, generation: str) -> bool:
    return isinstance(trap.later, str) or generation in trap.later


CASES = [
    pytest.param(trap, generation, id=f"{trap.name.replace(' ', '-')}-{generation}")
    for generation in "ABC"
    for trap in TRAPS
    if _applies(trap, generation)
    if generation != "B" or not trap.alone  # there it does as C, apart from queueing profiles
]


class Together:
    """Those who need no settings of their own go through the same weeks together: it saves nine in ten of them."""

    def __init__(self, posthog: EmulatorProcess, folder: Path) -> None:
        self._posthog = posthog
        self._folder = folder
        self._seen: dict[str, dict[str, tuple[str, str]]] = {}

    def states(self, trap: Trap, generation: str) -> tuple[str, str]:
        """Return the states at once and after two weeks."""
        traps = [trap] if trap.alone else [each for each in TRAPS if not each.alone and _applies(each, generation)]
        if trap.alone or generation not in self._seen:
            seen = self._run(traps, generation)
            if trap.alone:
                return seen[trap.name]
            self._seen[generation] = seen
        return self._seen[generation][trap.name]

    def _run(self, traps: list[Trap], generation: str) -> dict[str, tuple[str, str]]:
        if len(traps) > 1:
            self._posthog.reset()  # what others have left is swept along for weeks
        tidy(self._posthog)
        self._posthog.settings(generation=generation)
        labs = {}
        for each in traps:
            folder = self._folder / f"{generation}-{each.name}"
            folder.mkdir()
            labs[each.name] = Lab(self._posthog, folder, events=each.events)
        for each in traps:
            each.before(labs[each.name])
        for lab in labs.values():
            lab.delete()
        for each in traps:
            each.after(labs[each.name])
        soon = {name: lab.look() for name, lab in labs.items()}
        _settle(next(iter(labs.values())))
        return {name: (soon[name], lab.look()) for name, lab in labs.items()}


@pytest.fixture(scope="module")
def together(tidied: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Together:
    return Together(tidied, tmp_path_factory.mktemp("traps"))


@pytest.mark.parametrize(("trap", "generation"), CASES)
def test_traps(
    together: Together,
    posthog_emulator: EmulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    trap: Trap,
    generation: str,
) -> None:
    connect(monkeypatch, posthog_emulator)
    assert together.states(trap, generation) == (_of(trap.soon, generation), _of(trap.later, generation))
